#!/usr/bin/env bash
# The yardstick: what a good engineer would type to get the same stack onto one bare Debian 12 host, once. No idempotence,
# no checks, one password, one run to SUCCESS at the end. Runs as root in a folder that holds dagster.txt and uv.txt (the
# locks of role instance), context/ (examples/pipeline) and base.tar (its base image); prints how long each step took.
#   reference.sh BASE_IMAGE [alone]    alone: no more than the steps apt, image and venv, one after the other
set -euo pipefail
cd "$(dirname "$0")"
base_image=$1 how=${2:-}

exec 3>&1 >/root/reference.log 2>&1
trap 'tail -30 /root/reference.log >&3' ERR
since=$EPOCHREALTIME
step() { awk -v name="$1" -v a="$since" -v b="$EPOCHREALTIME" 'BEGIN {printf "%s %.1f\n", name, b - a}' >&3; since=$EPOCHREALTIME; }

# --- apt --------------------------------------------------------------------------------------------------------------
# The engine's settings come first, so that it starts once.
install -d /etc/docker
cat >/etc/docker/daemon.json <<'JSON'
{
  "bip": "172.29.0.1/24",
  "default-address-pools": [{"base": "172.31.0.0/16", "size": 24}],
  "live-restore": true,
  "log-driver": "journald",
  "log-opts": {"labels": "dagster/run_id,dagster/job_name", "tag": "{{.Name}}"},
  "userns-remap": "default"
}
JSON
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends postgresql docker.io containerd runc iptables nginx-light python3-venv ca-certificates
step apt

# --- image ------------------------------------------------------------------------------------------------------------
build_image() {
  docker load -q -i base.tar
  docker build -q --build-arg "BASE_IMAGE=$base_image" -t pipeline:1 context
}
# Nothing needs it before the code location, so it is built beside all that comes first.
build_image & image=$!
[ "$how" != alone ] || { wait $image; step image; }

# --- venv -------------------------------------------------------------------------------------------------------------
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
install -d /opt/dagster
python3 -m venv /opt/dagster/uv
/opt/dagster/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r uv.txt
/opt/dagster/uv/bin/uv venv --quiet --python /usr/bin/python3 /opt/dagster/venv
# The services may not write into the venv, so without bytecode each start would compile all of it again.
/opt/dagster/uv/bin/uv pip install --quiet --compile-bytecode --link-mode copy --require-hashes \
  --python /opt/dagster/venv/bin/python -r dagster.txt
step venv
if [ "$how" = alone ]; then exit; fi

# --- database ---------------------------------------------------------------------------------------------------------
password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
docker network create --subnet 172.30.0.0/24 --gateway 172.30.0.1 dagster
# The gateway exists once the engine is up; PostgreSQL may start before it.
echo 'net.ipv4.ip_nonlocal_bind = 1' >/etc/sysctl.d/60-postgres.conf
sysctl -q -p /etc/sysctl.d/60-postgres.conf
cat >/etc/postgresql/15/main/conf.d/dagster.conf <<'CONF'
listen_addresses = '127.0.0.1,172.30.0.1'
max_connections = 200
timezone = 'UTC'
CONF
echo 'host dagster dagster 172.30.0.0/24 scram-sha-256' >>/etc/postgresql/15/main/pg_hba.conf
systemctl restart postgresql@15-main
(cd / && runuser -u postgres -- psql -q -c "CREATE ROLE dagster LOGIN PASSWORD '$password'" -c 'CREATE DATABASE dagster OWNER dagster')

# --- instance ---------------------------------------------------------------------------------------------------------
useradd --system --user-group --home-dir /var/lib/dagster --shell /usr/sbin/nologin dagster
# root of a container is user 100000 of the host.
remapped=$(awk -F: '$1 == "dockremap" {print $2}' /etc/subuid)
install -d -o "$remapped" -g dagster -m 2775 /var/lib/dagster /var/lib/dagster/storage /var/lib/dagster/compute_logs
install -d -g dagster -m 0750 /etc/dagster /etc/dagster/code
install -g dagster -m 0640 /dev/stdin /etc/dagster/environment <<ENVIRONMENT
DAGSTER_HOME=/etc/dagster
DAGSTER_PG_HOST=127.0.0.1
DAGSTER_PG_PASSWORD=$password
ENVIRONMENT
install -g dagster -m 0640 /dev/stdin /etc/dagster/dagster.yaml <<'YAML'
storage:
  postgres:
    postgres_db:
      hostname: {env: DAGSTER_PG_HOST}
      username: dagster
      password: {env: DAGSTER_PG_PASSWORD}
      db_name: dagster
      port: 5432
      scheme: postgresql+psycopg2
run_launcher:
  module: dagster_docker
  class: DockerRunLauncher
  config:
    network: dagster
    env_vars: [DAGSTER_PG_HOST=172.30.0.1, DAGSTER_PG_PASSWORD]
    container_kwargs: {volumes: ["/var/lib/dagster:/var/lib/dagster"]}
compute_logs:
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config: {base_dir: /var/lib/dagster/compute_logs}
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {base_dir: /var/lib/dagster}
run_monitoring: {enabled: true}
telemetry: {enabled: false}
YAML
cat >/etc/dagster/workspace.yaml <<'YAML'
load_from:
  - grpc_server: {host: 127.0.0.1, port: 4000, location_name: pipeline}
YAML

step database

# --- services ---------------------------------------------------------------------------------------------------------
service='User=dagster
Group=dagster
SupplementaryGroups=docker
UMask=0027
EnvironmentFile=/etc/dagster/environment
Environment=PATH=/opt/dagster/venv/bin:/usr/local/bin:/usr/bin:/bin
WorkingDirectory=/var/lib/dagster
Restart=always
RestartSec=5
NoNewPrivileges=true
ProtectSystem=strict
ReadWritePaths=/var/lib/dagster
ProtectHome=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target'
cat >/etc/systemd/system/dagster-webserver@.service <<UNIT
[Unit]
Description=Dagster webserver on port %i
After=network-online.target postgresql.service docker.service

[Service]
ExecStart=/opt/dagster/venv/bin/dagster-webserver --host 127.0.0.1 --port %i --workspace /etc/dagster/workspace.yaml
$service
UNIT
cat >/etc/systemd/system/dagster-daemon.service <<UNIT
[Unit]
Description=Dagster daemon
After=network-online.target postgresql.service docker.service

[Service]
ExecStart=/opt/dagster/venv/bin/dagster-daemon run --workspace /etc/dagster/workspace.yaml
$service
UNIT
systemctl daemon-reload
mapfile -t environment </etc/dagster/environment
env "${environment[@]}" /opt/dagster/venv/bin/dagster instance migrate
systemctl enable -q --now dagster-webserver@3000 dagster-webserver@3001 dagster-daemon
cat >/etc/nginx/conf.d/dagster.conf <<'NGINX'
map $http_upgrade $dagster_connection { default upgrade; '' ''; }
upstream dagster_webserver {
    server 127.0.0.1:3000 max_fails=2 fail_timeout=10s;
    server 127.0.0.1:3001 max_fails=2 fail_timeout=10s;
    keepalive 32;
    keepalive_timeout 4s;
}
server {
    listen 127.0.0.1:8080;
    client_max_body_size 50m;
    location / {
        proxy_pass http://dagster_webserver;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $dagster_connection;
        proxy_read_timeout 1h;
    }
}
NGINX
rm /etc/nginx/sites-enabled/default
systemctl restart nginx
step services

# --- code location ----------------------------------------------------------------------------------------------------
wait $image
docker run -d --name pipeline --network dagster --restart unless-stopped -p 127.0.0.1:4000:4000 \
  -e DAGSTER_CURRENT_IMAGE=pipeline:1 -e DAGSTER_PG_HOST=172.30.0.1 -e "DAGSTER_PG_PASSWORD=$password" \
  -v /var/lib/dagster:/var/lib/dagster pipeline:1 \
  dagster api grpc --host 0.0.0.0 --port 4000 --module-name pipeline.definitions --location-name pipeline
step code

# --- first run --------------------------------------------------------------------------------------------------------
python3 - <<'PYTHON'
import json
import sys
import time
import urllib.request

LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "pipeline",
  repositoryName: "__repository__", jobName: "dagster_canary"}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STATUS = '{ runOrError(runId: "%s") { ... on Run { status } } }'
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "pipeline") { __typename } }'


def ask(query):
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request("http://127.0.0.1:8080/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["data"]


end = time.monotonic() + 120
run_id = status = None
while status != "SUCCESS":
    try:
        if run_id is None:
            answer = ask(LAUNCH)["launchRun"]
            if answer["__typename"] == "LaunchRunSuccess":
                run_id = answer["run"]["runId"]
            else:
                print(answer)
                ask(RELOAD)
        else:
            status = ask(STATUS % run_id)["runOrError"]["status"]
    except OSError as error:  # not up yet
        print(error)
    if status in ("FAILURE", "CANCELED") or time.monotonic() > end:
        sys.exit(f"run {run_id} ended as {status}")
    time.sleep(0.25)
PYTHON
step run
