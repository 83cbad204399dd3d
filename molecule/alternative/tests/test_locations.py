"""Code locations of three sources on two hosts: their options, secrets and images."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from deployment import Dagster, Play, identities, until
from gate_clients import PING_OF_A_SOCKET
from long import but

PREFIX = "/data/dagster"
REGISTRY_PASSWORD = "not-a-real-registry-login-c3"
LOCATIONS = ["built", "loaded", "pulled"]
HOME = "/srv/dagster/home"
TOKEN = 'not "a" {{ real }} ${token} $x it\'s \\ #\N{LATIN SMALL LETTER U WITH DIAERESIS} c3'
# A part of it that the file .env writes as it is.
TOKEN_IN_FILE = "{token} $x it"


@pytest.mark.parametrize("location", LOCATIONS)
def test_run_of_each_location(dagster: Dagster, host: Any, location: str) -> None:
    run_id = dagster.launch("orders_report", location)
    dagster.wait(run_id)
    assert "orders" in dagster.output(run_id)
    container = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    memory = int(host.check_output("docker inspect -f '{{.HostConfig.Memory}}' %s", container))
    pages = int(host.check_output("getconf _PHYS_PAGES")) * int(host.check_output("getconf PAGE_SIZE"))
    assert memory == (900 * 2**20 if location == "built" else pages * 3 // 4), "what the gate gives who asks for none"


def as_json(host: Any, match: str) -> list[dict[str, Any]]:
    """The lines of the journal that are an event of Python's logging."""
    lines = [json.loads(line)["MESSAGE"] for line in host.check_output(f"journalctl -o json {match}").splitlines()]
    return [json.loads(line) for line in lines if str(line).startswith('{"event"')]


@pytest.mark.parametrize(
    "source", ["-u dagster-daemon", "-u dagster-webserver@3100", "CONTAINER_NAME=dagster-code-slow"]
)
def test_services_log_json(host: Any, source: str) -> None:
    said = as_json(host, source)
    assert {"logger", "level", "timestamp"} <= said[-1].keys()


# What dagster_config gives to each run, and what single locations add to that.
OF_ALL_RUNS = {"DAGSTER_POSTGRES_USER": "dagster_runs", "PGPASSFILE": "/run/dagster/pgpass", "TEAM": "data"}
OF_RUNS = {
    "built": {"STAGE": "alternative", "TIER": "gold"},
    "pulled": {"TIER": "silver", "SHARED": "yes"},
    "loaded": {},
}


@pytest.mark.parametrize("location", but(LOCATIONS, ("built",)))
def test_lists_of_the_user_are_added_to_ours_in_a_run(dagster: Dagster, host: Any, location: str) -> None:
    """Seen from inside of a run: what it needs of ours is there, and what the inventory adds, too."""
    run_id = dagster.launch("sleep_job", location, {"ops": {"sleep_seconds": {"config": {"seconds": 120}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has begun")
    try:
        container = host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id)
        inside = f"docker exec {container} "
        environment = dict(line.split("=", 1) for line in host.check_output(inside + "env").splitlines())
        assert environment.items() >= {**OF_ALL_RUNS, **OF_RUNS[location]}.items()
        hosts = host.check_output(inside + "cat /etc/hosts")
        mounted = host.check_output(inside + "cat /run/host-release")
        assert mounted == host.check_output("cat /etc/os-release")
        host.check_output(inside + "test -f /run/dagster/pgpass -a -d /srv/dagster/state/compute_logs")
        assert ("192.0.2.8\town.example.com" in hosts) == (location == "built")
        assert "192.0.2.9\tlake.example.com" in hosts
        labels = json.loads(host.check_output("docker inspect -f '{{json .Config.Labels}}' %s", container))
        assert labels.items() >= {"team": "data", "dataops.dagster.run": "", "dagster/run_id": run_id}.items()
        assert ("tier" in labels) == (location == "built")
        # Fields of each line say whose it is, and the line itself is what Python's logging has, as JSON.
        match = f"DAGSTER_RUN_ID={run_id} DAGSTER_JOB_NAME=sleep_job"
        said = until(lambda: as_json(host, match), 30, "the run logs")[0]
        assert (said["level"], said["dagster_meta"]["run_id"]) == ("info", run_id)
        assert said["dagster_meta"]["orig_message"] == "sleeping 120 s"
        if location == "built":
            host.check_output(inside + "test -f /run/debian-version -a -f /run/host-name -a -d /run/secrets")
    finally:
        dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    until(lambda: dagster.status(run_id) == "CANCELED", 300, "the run has ended")


def test_failure_sensor_in_a_code_server_on_another_host(dagster: Dagster) -> None:
    run_id = dagster.launch("failing_job", "loaded")
    dagster.wait(run_id, "FAILURE")
    query = (
        '{ assetOrError(assetKey: {path: ["failure_alerts"]}) { ... on Asset { assetMaterializations {'
        " metadataEntries { label ... on PipelineRunMetadataEntry { runId } } } } } }"
    )
    until(lambda: run_id in json.dumps(dagster.query(query)), 90, "the failure sensor acts", every=2)


def test_one_image_on_both_engines(host: Any, other: Any) -> None:
    command = "docker image inspect -f '{{.Id}}' $(docker inspect -f '{{.Config.Image}}' dagster-code-loaded)"
    reference = other.check_output("docker inspect -f '{{.Config.Image}}' dagster-code-loaded")
    assert other.check_output(command) == host.check_output("docker image inspect -f '{{.Id}}' %s", reference)


def test_limits_environment_and_secrets(host: Any) -> None:
    described = json.loads(host.check_output("docker inspect dagster-code-built"))[0]
    assert described["HostConfig"]["Memory"] == 700 * 2**20
    assert described["HostConfig"]["NanoCpus"] == 1_500_000_000
    assert "STAGE=alternative" in described["Config"]["Env"]
    assert (
        host.check_output("docker exec dagster-code-built cat /run/secrets/warehouse_login") == "not-a-real-login-a51f"
    )
    assert "not-a-real-login-a51f" not in json.dumps(described)
    # A new secret comes as a new file, and is read without a restart: the folder is what is mounted.
    path = "/srv/dagster/home/secrets/built/warehouse_login"
    host.check_output("cp -p %s /root/kept && cp -p %s %s.new && printf other >%s.new && mv %s.new %s", *[path] * 6)
    try:
        assert host.check_output("docker exec dagster-code-built cat /run/secrets/warehouse_login") == "other"
    finally:
        host.check_output("mv /root/kept %s", path)
    assert host.check_output("stat -c '%U %a' /srv/dagster/home/secrets/built/warehouse_login") == "root 400"


def test_options_of_a_code_server_and_its_runs(dagster: Dagster, host: Any) -> None:
    """The job itself looks at its hosts, shared memory and devices."""
    described = json.loads(host.check_output("docker inspect dagster-code-slow"))[0]
    assert described["Config"]["Cmd"][:3] == ["dagster", "code-server", "start"]
    assert described["Config"]["Cmd"][-4:] == ["--log-level", "debug", "--log-format", "json"]
    assert described["Config"]["StopTimeout"] == 40
    assert host.check_output("docker exec dagster-code-slow getent hosts warehouse.example.com").startswith("10.1.2.3")
    run_id = dagster.launch("look_around", "slow")
    dagster.wait(run_id)
    container = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    run = json.loads(host.check_output("docker inspect %s", container))[0]
    for found in (described, run):
        assert found["Config"]["Labels"]["team"] == "data"
        assert [name.removeprefix("CAP_") for name in found["HostConfig"]["CapAdd"]] == ["SYS_PTRACE"]
        assert found["HostConfig"]["ShmSize"] == 80 * 2**20
    assert "--log-level" not in run["Config"]["Cmd"]


def test_read_only_root_and_user_of_a_location(dagster: Dagster, host: Any) -> None:
    """Its code server and its runs, which write logs and data all the same. Location built is the control."""
    run_id = dagster.launch("orders_report", "pulled")
    dagster.wait(run_id)
    assert "orders" in dagster.output(run_id)
    run = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    for container in ("dagster-code-pulled", run):
        found = json.loads(host.check_output("docker inspect %s", container))[0]
        assert found["Config"]["User"] == "4711:4711"
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["HostConfig"]["Tmpfs"] == {"/tmp": "mode=1777"}
    assert host.check_output(
        "find /srv/dagster/state/pulled /srv/dagster/state/compute_logs -user 4711 -type f | head -1"
    )
    can = {
        "code": "touch /opt/pipeline/of-the-test && rm /opt/pipeline/of-the-test",
        "its secret": "cat /run/secrets/*",
        "the login": "cat /run/dagster/pgpass",
        "temporary": "touch /tmp/of-the-test && rm /tmp/of-the-test",
        "state": "touch /srv/dagster/state/of-the-test && rm /srv/dagster/state/of-the-test",
        "root": 'test "$(id -u)" = 0',
    }

    def able(container: str) -> set[str]:
        return {name for name, words in can.items() if host.run(f"docker exec {container} sh -c %s", words).rc == 0}

    assert able("dagster-code-built") == set(can), "the control: root, who may write"
    assert able("dagster-code-pulled") == {"its secret", "the login", "temporary", "state"}


def test_user_of_a_location_reaches_the_gate_for_its_steps(dagster: Dagster, host: Any) -> None:
    """With a read-only root, and as no root of the container. Runs of other locations have no socket."""
    sleep = {"ops": {"sleep_seconds": {"config": {"seconds": 120}}}}
    answers = {}
    for location in ("pulled", "built"):
        run_id = dagster.launch("sleep_job", location, sleep)
        until(lambda run_id=run_id: dagster.status(run_id) == "STARTED", 180, "the run has begun")  # type: ignore[misc]
        run = host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id)
        answers[location] = host.run(f"docker exec {run} python -c %s /run/docker-gate/docker.sock", PING_OF_A_SOCKET)
        host.check_output("docker stop -t 10 %s", run)
    assert answers["pulled"].stdout == "200\n", answers["pulled"].stderr
    assert "FileNotFoundError" in answers["built"].stderr


def test_containers_have_no_capabilities_but_those_of_their_location(host: Any) -> None:
    look = "grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs)' /proc/1/status | xargs"
    none = "0" * 16
    for name, kept in (("built", none), ("pulled", none), ("slow", f"{1 << 19:016x}")):  # SYS_PTRACE
        said = host.check_output(f"docker exec dagster-code-{name} sh -c %s", look)
        assert said.endswith("NoNewPrivs: 1")
        assert f"CapBnd: {kept}" in said
        assert f"CapPrm: {kept}" in said
    image = host.check_output("docker inspect -f '{{.Image}}' dagster-code-built")
    plain = host.check_output(f"docker run --rm --network none --user 0:0 --entrypoint sh {image} -c %s", look)
    assert "NoNewPrivs: 0" in plain, "the control"
    assert f"CapBnd: {none}" not in plain


def test_code_server_that_imports_again_at_a_reload(dagster: Dagster, host: Any) -> None:
    """The code is in a folder of the host; the container stays."""
    before = host.check_output("docker inspect -f '{{.Id}} {{.State.StartedAt}}' dagster-code-slow")
    jobs = (
        '{ repositoryOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "slow"})'
        " { ... on Repository { jobs { name } } } }"
    )
    reload = (
        'mutation { reloadRepositoryLocation(repositoryLocationName: "slow") '
        "{ ... on WorkspaceLocationEntry { name loadStatus } ... on PythonError { message } } }"
    )
    assert "another_job" not in json.dumps(dagster.query(jobs)), "the control"
    host.check_output("cp -p /srv/slow/slow.py /root/slow.py")
    more = 'jobs=[look_around, look_around.graph.to_job(name="another_job")]'
    host.check_output("sed -i %s /srv/slow/slow.py", f"s/time.sleep(65)/pass/; s/jobs=.look_around./{more}/")
    try:
        dagster.query(reload)
        until(lambda: "another_job" in json.dumps(dagster.query(jobs)), 120, "the new job is there", every=3)
    finally:
        host.check_output("cp -p /root/slow.py /srv/slow/slow.py")
    assert host.check_output("docker inspect -f '{{.Id}} {{.State.StartedAt}}' dagster-code-slow") == before


# What no server can be started with, and what the failure says of it. One play has all of it.
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "slow": (
        {"start_timeout": 10, "shm_size": "90m"},
        "not healthy within 10 s (dagster_code_locations[slow].start_timeout)",
    ),
    "built": ({"module": "pipeline.nothing"}, "No module named 'pipeline.nothing'"),
    # The health check of this server itself is content.
    "loaded": ({"server": "code-server", "file": "/opt/pipeline/none.py"}, "its code does not load"),
}


def test_code_that_does_not_start_in_time_or_at_all_is_refused_and_the_old_one_serves(
    play: Callable[..., Play], dagster: Dagster, host: Any, other: Any, inventory_locations: Callable[..., str]
) -> None:
    machines = {"slow": host, "built": host, "loaded": other}

    def containers() -> list[str]:
        inspect = "docker inspect -f '{{.Id}}' dagster-code-%s"
        return [machine.check_output(inspect, name) for name, machine in machines.items()]

    before = containers()
    changes = {name: changed for name, (changed, _words) in BROKEN.items()}
    failed = play("site.yml", "-e", inventory_locations(changes), ok=False)
    assert failed.rc != 0
    said = " ".join(failed.output.replace("\\n", " ").split())
    assert [words for _changed, words in BROKEN.values() if words not in said] == [], failed.output[-6000:]
    assert containers() == before
    dagster.wait(dagster.launch("orders_report", "built"))
    assert play("site.yml").changed == 0


def test_login_of_the_registry_is_needed_and_not_shown(play: Callable[..., Play], host: Any) -> None:
    wrong = [{"address": "{{ external_address }}:5000", "username": "deploy", "password": "wrong-login-d4"}]
    refused = play("site.yml", "-e", json.dumps({"dagster_registries": wrong}), ok=False)
    assert refused.rc != 0
    assert refused.changed == 0
    assert "dagster_registries" in refused.output
    assert "wrong-login-d4" not in refused.output
    assert REGISTRY_PASSWORD not in host.check_output("docker inspect $(docker ps -aq)")


def digest(value: str) -> str:
    return f"WAREHOUSE_TOKEN: {len(value)} characters, {hashlib.sha256(value.encode()).hexdigest()}"


def seen_by_a_run(dagster: Dagster, location: str = "built") -> tuple[str, str]:
    """The ID of a run that looks at the variable, and what it printed."""
    run_id = dagster.launch("variable_report", location)
    dagster.wait(run_id)
    return run_id, dagster.output(run_id)


def of_the_code_server(host: Any) -> str:
    """The variable as the code server has it; the answer goes through no command line."""
    script = (
        "import hashlib; v = dict(x.split(b'=', 1) for x in open('/proc/1/environ', 'rb').read().split(b'\\0') if x)"
        "[b'WAREHOUSE_TOKEN']; print(f'WAREHOUSE_TOKEN: {len(v.decode())} characters, {hashlib.sha256(v).hexdigest()}')"
    )
    found: str = host.check_output("docker exec dagster-code-built python3 -c %s", script)
    return found


def test_secret_environment_of_code_server_and_run(dagster: Dagster, host: Any) -> None:
    """Exactly the value that the inventory has, in both, and in no inspect, command line or journal."""
    run_id, printed = seen_by_a_run(dagster)
    assert digest(TOKEN) in printed
    assert of_the_code_server(host) == digest(TOKEN)
    # The control: a location without it has none.
    assert digest("") in seen_by_a_run(dagster, "pulled")[1]
    container = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    described = host.check_output("docker inspect dagster-code-built %s", container)
    assert "DAGSTER_PROJECT_ENV_FILE_PATHS" in described
    # In three spellings: as it is, as JSON and as .env write it. The words are read from a file, not from a command.
    parts = [TOKEN[:20], json.dumps(TOKEN)[1:-1][:22], TOKEN_IN_FILE]
    assert not [part for part in parts if part in described]
    words = base64.b64encode("\n".join(parts).encode()).decode()
    find = f"echo {words} | base64 -d >/root/words; %s; rm /root/words"
    look = "grep -alFf /root/words /proc/[0-9]*/cmdline; journalctl --no-pager -o export | grep -acFf /root/words"
    assert host.check_output(find % look).split() == ["0"]
    control = f"grep -cFf /root/words {HOME}/secrets/built/.env"
    assert host.check_output(find % control) == "1", "the words are not found where they are: the test proves nothing"
    everybody = host.run("docker exec -u 65534 dagster-code-built cat /run/secrets/.env")
    assert everybody.rc != 0, "somebody else than root of the container reads the file"


@pytest.mark.long  # tests/unit/test_location_secrets.py says in which order files come and go
def test_location_that_moves_has_its_secrets_where_its_code_server_is(
    play: Callable[..., Play], dagster: Dagster, host: Any, other: Any, inventory_locations: Callable[..., str]
) -> None:
    """There before the server starts, which reads them then, and gone after the old one. Runs start where they did."""
    folder = f"{HOME}/secrets/built"
    assert not other.file(folder).exists, "the control"
    try:
        play("site.yml", "-e", inventory_locations({"built": {"host": "dagster2", "port": 4103}}))
        assert of_the_code_server(other) == digest(TOKEN)
        assert host.run("docker inspect dagster-code-built").rc != 0
        assert digest(TOKEN) in seen_by_a_run(dagster)[1]
    finally:
        play("site.yml")
    assert not other.file(folder).exists
    assert other.run("docker inspect dagster-code-built").rc != 0
    assert of_the_code_server(host) == digest(TOKEN)


def test_changed_tag_and_new_secret_replace_exactly_their_code_servers(
    play: Callable[..., Play], dagster: Dagster, host: Any, other: Any
) -> None:
    """One location always pulls, another one gets a secret. An unchanged tag is the step idempotence."""
    new = "another not-a-real-token d4"
    given = ("-e", json.dumps({"warehouse_token": new}))
    before, processes = identities(host), processes_of_code_servers(host)
    other.check_output(
        "docker commit --pause=false --change 'ENV MARK=2' dagster-code-loaded site-new:1 && "
        "docker save -o /root/new.tar site-new:1 && docker rmi site-new:1 && "
        "skopeo copy --quiet --dest-tls-verify=false --dest-creds=deploy:%s "
        "docker-archive:/root/new.tar docker://127.0.0.1:5000/pipeline:1",
        REGISTRY_PASSWORD,
    )
    checked = play("site.yml", "--check", "-v", *given)
    assert checked.changed > 0
    assert "secrets/built/.env" in checked.output
    assert "reads: an older version" in checked.output
    assert identities(host) == before
    assert processes_of_code_servers(host) == processes
    try:
        shown = play("site.yml", "-vvv", "--diff", *given).output
        assert [secret for secret in (REGISTRY_PASSWORD, new, TOKEN[:20]) if secret in shown] == []
        after = processes_of_code_servers(host)
        assert {name for name in after if processes[name] != after[name]} == {
            "dagster-code-built",
            "dagster-code-pulled",
        }
        assert "MARK=2" in host.check_output("docker inspect -f '{{json .Config.Env}}' dagster-code-pulled")
        assert of_the_code_server(host) == digest(new)
        assert digest(new) in seen_by_a_run(dagster)[1]
    finally:
        play("site.yml")
    assert of_the_code_server(host) == digest(TOKEN)


def processes_of_code_servers(host: Any) -> dict[str, str]:
    """Container and process of each code server of the first host."""
    form = "{{.Name}} {{.Id}} {{.State.StartedAt}}"
    listed = host.check_output(
        "docker inspect -f %s $(docker ps -q --filter label=dataops.dagster.location)", form
    ).splitlines()
    return {line.split()[0].lstrip("/"): line for line in listed}


def test_runs_could_open_the_instance_in_each_image(host: Any) -> None:
    """What has been shown is remembered, so a second play starts no container. Code may be a patch newer."""
    known = json.loads(host.file("/usr/local/lib/dagster/proven_images.json").content_string)
    image = host.check_output("docker inspect -f '{{.Image}}' dagster-code-built")
    assert list(known[image].values()) == ["1.13.27"]
    assert host.check_output("docker ps -aq --filter label=dataops.dagster.proof") == ""


@pytest.mark.long  # tests/unit/plugins/module_utils/_docker/test_proof.py asks the real Dagster
def test_image_without_a_library_is_refused_and_the_old_code_serves(
    play: Callable[..., Play], dagster: Dagster, host: Any
) -> None:
    """Runs would not start: they write their logs with a class that their image does not have."""
    inside = "docker exec dagster-code-built python -c 'import dagster_postgres{}'"
    host.check_output(inside.format(""))
    assert "No module named 'dagster_aws'" in host.run(inside.format(", dagster_aws")).stderr  # the control
    before, written = identities(host), host.check_output("cat /srv/dagster/home/dagster.yaml")
    containers = host.check_output("docker ps -q --no-trunc --filter label=dataops.dagster.location")
    s3 = {"module": "dagster_aws.s3.compute_log_manager", "class": "S3ComputeLogManager", "config": {"bucket": "logs"}}
    changes = {"dagster_config": {"compute_logs": s3}, "dagster_compute_logs_login": ""}
    failed = play("site.yml", "-e", json.dumps(changes), ok=False)
    assert failed.rc != 0
    words = " ".join(failed.output.replace("\\n", " ").split())
    assert "has no dagster_aws, which dagster_config.compute_logs needs in each run" in words
    assert "add dagster-aws==0.29.27 to its Dockerfile" in words
    assert identities(host) == before
    assert host.check_output("cat /srv/dagster/home/dagster.yaml") == written
    assert host.check_output("docker ps -q --no-trunc --filter label=dataops.dagster.location") == containers
    assert host.check_output("docker ps -aq --filter label=dataops.dagster.proof") == ""
    dagster.wait(dagster.launch("orders_report", "built"))
    assert play("site.yml").changed == 0


def test_tag_that_the_registry_does_not_have(play: Callable[..., Play], host: Any) -> None:
    before = identities(host)
    refused = play("site.yml", "-e", "tag_of_pulled=nightly", ok=False)
    assert refused.rc != 0
    assert refused.changed == 0
    assert "pipeline:nightly" in refused.output
    assert "dagster_code_locations" in refused.output
    assert identities(host) == before
