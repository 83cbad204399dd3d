"""Six hosts: one engine that only its own may ask, either way in, and changes host by host."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import listeners
import pytest
import secrets_on_host as secrets
from deployment import Dagster, Play, identities, until

HOSTS = ["ctl1", "ctl2", "db", "edge1", "edge2", "run"]
CLIENTS = ["ctl1", "ctl2", "edge1", "edge2"]
# The role of each host's services at the gate, and their key to it.
ROLES = {"ctl1": "launch", "ctl2": "launch", "edge1": "inspect", "edge2": "inspect"}
KEYS = {name: f"/etc/dagster/gate/{role}/key.pem" for name, role in ROLES.items()}
BUCKET = "dagster-compute-logs"
LOGIN = ("not-a-real-key-id-71c2", "not-a-real-key-e90b")
# Whose code server or runs start on a host, and what each has for itself.
STARTED = {"ctl1": ["pipeline"], "ctl2": ["reporting"], "run": ["pipeline", "reporting"]}
OWN_SECRETS = {"pipeline": "not-a-real-secret-of-pipeline-2f", "reporting": "not-a-real-secret-of-reporting-9c"}


# Who listens on a host of each kind; $host is its address. keepalived speaks no TCP and no UDP.
EDGE = """
tcp 0.0.0.0:8080 nginx nginx.service
tcp $host:3000 dagster-webserv dagster-webserver@3000.service
tcp $host:13000 python3 dagster-webserver@3000.service
unix /run/haproxy-dagster/admin.sock root:root 600 haproxy haproxy-dagster.service
unix /run/haproxy-dagster/dagster_webserver.sock www-data:root 600 haproxy haproxy-dagster.service
"""
CONTROLLER = listeners.ENGINE + "tcp $host:4000 docker-proxy docker.service"
RUN = (
    listeners.ENGINE
    + """
tcp $host:2378 python3 docker-gate-dagster.service
unix /run/docker-gate-dagster/inspect.sock dagster_gate:dagster_inspect 660 python3 docker-gate-dagster.service
unix /run/docker-gate-dagster/launch.sock dagster_gate:dagster_launch 660 python3 docker-gate-dagster.service
"""
)
# The object store is the site's own.
DATABASE = """
tcp 127.0.0.1:5432 postgres postgresql@15-dagster.service
tcp $host:5432 postgres postgresql@15-dagster.service
tcp 0.0.0.0:9000 python3 s3.service
unix /run/postgresql/.s.PGSQL.5432 postgres:postgres 777 postgres postgresql@15-dagster.service
"""
MEANT = {"ctl1": CONTROLLER, "ctl2": CONTROLLER, "db": DATABASE, "edge1": EDGE, "edge2": EDGE, "run": RUN}

# Which files of a host hold which secret: owner, group and mode, and who but root can open them.
ROOT_OF_CONTAINERS = "165536:165536"
INSTANCE = {
    "/etc/dagster/pgpass": ("dagster_database_password", "root:root 600", ""),
    "/etc/dagster/environment.secret": ("key key_id", "root:root 600", ""),
}
RUNS = {"/etc/dagster/containers/pgpass": ("dagster_database_run_password", f"{ROOT_OF_CONTAINERS} 400", "")}
OWN = {"/etc/dagster": "root:dagster 750"}
TLS = "/etc/ssl/dagster-database"
GATE = "/etc/docker-gate-dagster/tls"


def mounted(name: str) -> tuple[dict[str, tuple[str, str, str]], dict[str, str]]:
    """Files and folders for the containers of a host: of the locations that start there, and of no other."""
    files: dict[str, tuple[str, str, str]] = {}
    folders = {**OWN, "/etc/dagster/secrets": "root:root 711"}
    if name != "run":  # no code server is there
        files["/etc/dagster/code/pgpass"] = ("dagster_code", f"{ROOT_OF_CONTAINERS} 400", "")
        folders["/etc/dagster/code"] = f"{ROOT_OF_CONTAINERS} 500"
    for location in STARTED[name]:
        folder = f"/etc/dagster/secrets/{location}"
        folders[folder] = f"{ROOT_OF_CONTAINERS} 500"
        files[f"{folder}/aws"] = ("key key_id", f"{ROOT_OF_CONTAINERS} 400", "")
        files[f"{folder}/own"] = (location, f"{ROOT_OF_CONTAINERS} 400", "")
    return files, folders


def credential(unit: str, held: str) -> tuple[dict[str, tuple[str, str, str]], dict[str, str]]:
    """The password file that systemd hands to a unit, and its folder."""
    folder = f"/run/credentials/{unit}.service"
    return {f"{folder}/pgpass": (held, "dagster:root 400", "dagster")}, {folder: "dagster:root 500"}


def secrets_of(name: str) -> tuple[dict[str, tuple[str, str, str]], dict[str, str]]:
    """Files and folders of one host."""
    if name == "db":
        return {
            f"{TLS}/ca-key.pem": ("", "root:postgres 600", ""),
            f"{TLS}/key.pem": ("", "postgres:postgres 400", "postgres"),
        }, {"/etc/ssl": "root:root 755", TLS: "root:postgres 755"}
    if name == "run":
        tls = {
            f"{GATE}/ca-key.pem": ("", "root:dagster_gate 600", ""),
            f"{GATE}/key.pem": ("", "root:dagster_gate 440", "dagster_gate"),
        }
        files, folders = mounted(name)
        return {**files, **RUNS, **tls}, {
            **folders,
            "/etc/dagster/containers": f"{ROOT_OF_CONTAINERS} 500",
            "/etc/docker-gate-dagster": "root:dagster_gate 750",
            GATE: "root:dagster_gate 750",
        }
    role = ROLES[name]
    key = {KEYS[name]: ("", f"root:dagster_{role} 440", "")}
    keys = {"/etc/dagster/gate": "root:root 755", f"/etc/dagster/gate/{role}": f"root:dagster_{role} 750"}
    if name.startswith("edge"):
        file, folder = credential("dagster-webserver@3000", "dagster_database_password")
        return {**INSTANCE, **key, **file}, {**OWN, **keys, **folder}
    held = f"dagster_daemon_{name} dagster_guard"
    file, folder = credential("dagster-daemon", held)
    own = {"/etc/dagster/daemon.pgpass": (held, "root:root 600", "")}
    files, folders = mounted(name)
    return {**INSTANCE, **files, **own, **key, **file}, {**OWN, **folders, **keys, **folder}


@pytest.fixture(params=["edge1", "edge2"])
def edge(request: pytest.FixtureRequest, connections: dict[str, dict[str, str]]) -> Dagster:
    """The deployment through each proxy."""
    return Dagster(f"http://{connections[request.param]['ansible_host']}:8080")


def containers(host: Any, run_id: str) -> list[str]:
    found: str = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    return found.split()


@pytest.mark.parametrize("location", ["pipeline", "reporting"])
def test_run_of_each_location_through_each_edge(edge: Dagster, on: Callable[[str], Any], location: str) -> None:
    run_id = edge.launch("orders_report", location)
    edge.wait(run_id)
    assert len(containers(on("run"), run_id)) == 1
    assert containers(on("ctl1"), run_id) == containers(on("ctl2"), run_id) == []


# Who listens, and who may read a secret


@pytest.mark.parametrize("name", HOSTS)
def test_nobody_else_listens(on: Callable[[str], Any], connections: dict[str, dict[str, str]], name: str) -> None:
    address = connections[name]["ansible_host"]
    listeners.assert_only(on(name), listeners.table(listeners.BASE, MEANT[name], host=address))


@pytest.mark.parametrize("name", HOSTS)
def test_secrets_are_in_their_files_for_their_readers(
    on: Callable[[str], Any], passwords: dict[str, str], name: str
) -> None:
    logins = ["dagster_guard", "dagster_daemon_ctl1", "dagster_daemon_ctl2", "dagster_code"]
    words = {**passwords, **secrets.derived(passwords["dagster_database_migration_password"], logins)}
    words |= {"key_id": LOGIN[0], "key": LOGIN[1], **OWN_SECRETS}
    files, folders = secrets_of(name)
    secrets.assert_only(
        secrets.look(on(name), words, also=[path for path in files if path.endswith("key.pem")]), files, folders
    )


# Compute logs


@pytest.fixture(scope="module")
def finished(connections: dict[str, dict[str, str]]) -> str:
    """A run that has ended; one of its steps printed a report."""
    dagster = Dagster(f"http://{connections['edge1']['ansible_host']}:8080")
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    return run_id


def test_output_of_a_run_is_read_through_each_edge(edge: Dagster, finished: str) -> None:
    """The run wrote it on another host. Both edges send requests to both webservers, so some more than one ask."""
    for _time in range(4):
        assert re.search(r"^Revenue [0-9]+\.[0-9]{2} on [0-9]+ days$", edge.output(finished), re.MULTILINE)


def test_output_of_a_run_is_in_the_bucket_alone(
    on: Callable[[str], Any], connections: dict[str, dict[str, str]], finished: str
) -> None:
    """The container of a run goes on for a moment after the run has ended: then it uploads, and removes its file."""
    store = f"http://{connections['db']['ansible_host']}:9000/{BUCKET}"

    def sizes() -> list[int]:
        with urllib.request.urlopen(f"{store}?list-type=2&prefix=dagster/storage/{finished}/", timeout=30) as response:
            found = re.findall(r"<Key>[^<]+\.out</Key>.*?<Size>([0-9]+)</Size>", response.read().decode())
        return [int(size) for size in found if int(size) > 0]

    until(sizes, 60, "the output is in the bucket")

    def gone() -> bool:
        return not on("run").check_output("find /var/lib/dagster -name '*.out' -path '*%s*'", finished)

    until(gone, 60, "its host has no file of it")
    for name in ("run", "edge1", "edge2"):
        # What webservers have read, and what a store that is away has not taken, goes by age.
        assert "\ne /var/lib/dagster/compute_logs - - - " in on(name).check_output("systemd-tmpfiles --cat-config")


def test_login_of_the_bucket_is_shown_nowhere(on: Callable[[str], Any], dagster: Dagster) -> None:
    """A run is under way meanwhile, so that its container and its command line are looked at as well."""
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 120}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    try:
        assert len(containers(on("run"), run_id)) == 1
        login = on("run").check_output("docker exec %s cat /run/secrets/aws", containers(on("run"), run_id)[0])
        assert [word for word in LOGIN if word in login] == list(LOGIN), "the control: the run has it, as a file"
        pid = on("edge1").check_output("systemctl show -p MainPID --value dagster-webserver@3000")
        had = on("edge1").check_output("tr '\\0' '\\n' </proc/%s/environ", pid)
        assert f"AWS_SECRET_ACCESS_KEY={LOGIN[1]}" in had, "the control: services have it, as environment"
        for name in HOSTS:
            shown = on(name).check_output(
                "ps -eo args=; systemctl cat 'dagster-*' 2>/dev/null; systemctl show 'dagster-*';"
                " find /etc/systemd/system /run/systemd/system -type f -exec cat {} +;"
                " cat /etc/dagster/dagster.yaml /etc/dagster/workspace.yaml /etc/dagster/environment 2>/dev/null;"
                " ! command -v docker >/dev/null || docker ps -aq | xargs -r docker inspect"
            )
            # This very command line has no part of the login in it.
            assert [word for word in LOGIN if word in shown] == [], name
        assert on("edge1").check_output("stat -c '%U %a' /etc/dagster/environment.secret") == "root 600"
    finally:
        dagster.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
        dagster.wait(run_id, "CANCELED")


def test_webserver_terminates_a_run_on_the_engine(dagster: Dagster, on: Callable[[str], Any]) -> None:
    run_id = dagster.launch("sleep_job")
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has started")
    answer = dagster.query(
        "mutation($id: String!) { terminateRun(runId: $id) { __typename ... on PythonError { message } } }", id=run_id
    )
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer
    dagster.wait(run_id, "CANCELED")
    assert on("run").check_output("docker ps -q --filter label=dagster/run_id=%s", run_id) == ""


# The database's connections


def test_database_has_the_budget(on: Callable[[str], Any]) -> None:
    """What the logins may have, the guard's and the daemons' too, and the reserve are all that the server takes."""
    query = "psql -U postgres -Atc %s dagster"
    limits = "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolconnlimit >= 0"
    found = dict(line.split("|") for line in on("db").check_output(query, limits).splitlines())
    most = int(on("db").check_output(query, "SHOW max_connections"))
    assert most % 50 == 0
    assert sum(int(limit) for limit in found.values()) == most - 10
    assert (found["dagster_migration"], found["dagster_guard"]) == ("5", "4")
    assert found["dagster_daemon_ctl1"] == found["dagster_daemon_ctl2"] == "16"
    assert "--db-pool-max-overflow 20" in on("edge1").check_output("pgrep -af dagster-webserver")


# Host by host


def test_live_deployment_is_changed_host_by_host(play: Callable[..., Play], on: Callable[[str], Any]) -> None:
    before = {name: identities(on(name)) for name in HOSTS}
    second = play("site.yml")
    assert second.changed == 0
    assert {name: identities(on(name)) for name in HOSTS} == before
    assert second.output.count("PLAY [Webservers]") == second.output.count("PLAY [Load balancer]") == 2
    assert second.output.count("PLAY [Instance]") == 1


@pytest.mark.parametrize("limits", [[*HOSTS, "db:run:edge1:edge2"]], ids=["each host, and four of them"])
def test_limited_play_changes_nothing_and_judges_the_whole_deployment(
    play: Callable[..., Play], on: Callable[[str], Any], limits: list[str]
) -> None:
    """All at once, because each only reads."""
    before = {name: identities(on(name)) for name in HOSTS}
    with ThreadPoolExecutor(len(limits)) as pool:
        found = list(pool.map(lambda limit: play("site.yml", "--limit", limit), limits))
    assert [done.changed for done in found] == [0] * len(limits)
    for done in found:
        for asked in ("=> (item=ctl1)", "=> (item=ctl2)", "8080 on edge1)", "8080 on edge2)"):
            assert asked in done.output, "the gate asks the hosts that are left out"
    assert {name: identities(on(name)) for name in HOSTS} == before


def test_limited_play_mends_its_host_alone(play: Callable[..., Play], on: Callable[[str], Any]) -> None:
    stopped = "dagster-webserver@3000.service"
    others = {name: identities(on(name)) for name in HOSTS if name != "edge1"}
    on("edge1").check_output(f"systemctl stop {stopped}")
    assert play("site.yml", "--limit", "edge1", "--tags", "webserver").changed == 1
    assert on("edge1").run(f"systemctl is-active {stopped}").rc == 0
    assert {name: identities(on(name)) for name in others} == others


def test_replica_that_never_answers_leaves_the_other_host_alone(
    play: Callable[..., Play], dagster: Dagster, on: Callable[[str], Any]
) -> None:
    drop_in = "/etc/systemd/system/dagster-webserver@.service.d"
    edge1 = on("edge1")
    kept = on("edge2").check_output("systemctl show -p MainPID dagster-webserver@3000")
    edge1.check_output(
        "mkdir -p %s && printf '[Service]\\nExecStartPre=/bin/false\\n' > %s/broken.conf", drop_in, drop_in
    )
    try:
        failed = play(
            "site.yml", "-e", json.dumps({"dagster_webserver_options": {"live_data_poll_rate": 5000}}), ok=False
        )
        assert failed.rc != 0
        assert on("edge2").check_output("systemctl show -p MainPID dagster-webserver@3000") == kept
        assert dagster.get("/server_info")[0] == 200, "edge1 sends its requests to edge2"
    finally:
        edge1.check_output("rm -r %s && systemctl daemon-reload", drop_in)
    play("site.yml")


# Bad input, by the stage of preflight that finds it: each stage says all that it has found.

BAD: dict[str, tuple[dict[str, Any], dict[str, dict[str, str]], list[str]]] = {
    "deployment": (
        {
            "dagster_config": {},
            "dagster_nginx_listen": "127.0.0.1",
            "dagster_postgres_max_connections": 90,
            "dagster_docker_endpoint": "unix:///run/docker.sock",
            "dagster_docker_tls_ca": "x",
        },
        {"ctl2": {"dagster_version": "1.13.26"}},
        [
            "compute logs are files on run, where runs write them, and edge1, edge2 could not show them",
            "but dagster_nginx_listen is 127.0.0.1 and nothing would answer there",
            "the database takes 90 connections and the deployment may open",
            "webservers 2 x 3 x (1 + 5) = 36",
            "two engines for one instance",
            "dagster_docker_tls_client_cert, dagster_docker_tls_client_key must be set as well",
            "dagster_version differs between the services' hosts",
        ],
    ),
    "name": (
        {},
        {"edge1": {"dagster_address": "edge1.invalid"}},
        ["the host cannot resolve edge1.invalid, another host of the inventory; give that one a dagster_address"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(play: Callable[..., Play], on: Callable[[str], Any], tmp_path: Path, name: str) -> None:
    variables, hosts, words = BAD[name]
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    before = {host: identities(on(host)) for host in HOSTS}
    refused = play("site.yml", "-e", json.dumps(variables), ok=False, more=[str(tmp_path / "hosts.yml")])
    text = " ".join(refused.output.split())
    assert refused.rc != 0
    assert refused.changed == 0
    assert not [word for word in words if word not in text], refused.output
    assert {host: identities(on(host)) for host in HOSTS} == before
