"""The plan of a host: what its components say together, and what it gives to plays and roles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from plans import FACTS, LOCATION, ROLES, component, fact, groups, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import instance, names
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import component_of


def test_a_component_stands_beside_each_role() -> None:
    for role in {role for roles in ROLES.values() for role in roles}:
        assert issubclass(component_of(role), Component)
        assert component_of(role).__name__ == role.title().replace("_", "")


def test_single_host_stays_on_loopback() -> None:
    found = fact()
    options = found["options"]
    assert options["dagster_database_host"] == "127.0.0.1"
    assert options["dagster_database_run_host"] == options["dagster_database_code_host"] == "172.30.0.1"
    assert options["dagster_postgres_listen_addresses"] == ["127.0.0.1", "172.30.0.1"]
    assert options["dagster_postgres_clients"] == [
        {"address": "172.30.1.0/24", "users": ["dagster_code"]},
        {"address": "172.30.0.0/24", "users": ["dagster_run"]},
    ]
    assert options["dagster_code_endpoints"] == [{"name": "etl", "host": "127.0.0.1", "port": 4000}]
    assert options["dagster_code_publish_address"] == options["dagster_webserver_bind"] == "127.0.0.1"
    assert options["dagster_haproxy_webservers"] == ["127.0.0.1"]
    assert found["code_location"]["here"] == ["etl"]
    assert found["proxy"]["url"] == "http://127.0.0.1:8080"


def test_how_code_servers_are_asked_for_their_health() -> None:
    """At the port in their containers, whatever that of the host is, and not before the slowest code has started."""
    given = fact(dagster_instance_port_offset=100)["code_location"]
    assert (given["port"], given["watched"]) == (4100, True)
    assert given["health"] == {"socket": "/run/docker.sock", "port": 4000, "start": 300}
    slow = {**LOCATION, "start_timeout": 600}
    assert fact(dagster_code_locations=[slow])["code_location"]["health"]["start"] == 720
    assert not fact(dagster_code_health=False)["code_location"]["watched"]
    assert not fact("a", groups(code=["b"]))["code_location"]["watched"], "no code server is here"
    here = fact("a", groups(code=["b"]), dagster_code_locations_here=[LOCATION])
    assert here["code_location"]["watched"]


def test_good_deployment_has_no_problems() -> None:
    assert plan().problems() == []
    assert plan().host_problems(FACTS, 0, 1) == []
    assert plan("b", groups(proxy=["b"])).problems() == []


def test_each_problem_is_told_once() -> None:
    """Several components need the database's server, and each host asks all components about the deployment."""
    found = plan("a", groups(database=[])).problems()
    assert len(found) == len(set(found)) == 1
    assert found[0].startswith("there is no database")


def test_group_without_a_host_is_told_in_one_sentence() -> None:
    """Nothing is said of the engine that is not there, nor of the logs on it."""
    found = plan("a", groups(run=[]), dagster_docker_endpoint="unix:///x.sock").problems()
    assert len(found) == 1
    assert found[0].startswith("group dagster_run has 0 hosts")


def test_plan_is_a_fact_and_holds_no_secret() -> None:
    """Facts are shown, logged and cached."""
    location = {**LOCATION, "secrets": {"token": "hunter2"}, "env": {"A": "correct-horse"}}
    found = plan(dagster_code_locations=[location], dagster_secret_environment={"API_TOKEN": "battery-staple"})
    text = str(found.as_fact(FACTS))
    assert "hunter2" not in text
    assert "correct-horse" not in text
    assert "battery-staple" not in text
    assert "-secret" not in text, "a password"


def test_fact_has_what_the_roles_of_the_host_need_and_no_more() -> None:
    found = plan("b", groups(proxy=["b"]))
    said = found.as_fact(FACTS)
    assert list(found.components) == list(said["packages"]) == ["firewall", "proxy", "vip"]
    wanted = {**component("proxy", "b", groups(proxy=["b"])).options(FACTS), **found.known["vip"].options(FACTS)}
    assert said["options"] == {**names.defaults(), **wanted}
    assert said["names"]["daemon"] == "dagster-daemon"
    assert "instance" not in said
    assert said["health"]["locations"] == ["etl"], "for the health gate, which may be asked here"


LEFT = groups(database=["b"], webserver=["b"], daemon=["b"], code=["b"], run=["b"], proxy=["a", "b"])
STAYED = groups(database=["b"], webserver=["a", "b"], daemon=["b"], code=["b"], run=["b"], proxy=["b"])


@pytest.mark.parametrize(
    ("mark", "group", "role", "commands"),
    [
        (
            "/etc/systemd/system/dagster-webserver@.service",
            "dagster_webserver",
            "webserver",
            "systemctl stop 'dagster-webserver@*' 'dagster-webserver-read-only@*'; systemctl disable "
            "dagster-webserver@.service dagster-webserver-read-only@.service; rm ",
        ),
        (
            "/etc/systemd/system/dagster-daemon.service",
            "dagster_daemon",
            "daemon",
            "systemctl disable --now dagster-daemon.service; rm -r /etc/systemd/system/dagster-daemon.service",
        ),
        (
            "/etc/systemd/system/dagster-.service.d/10-instance.conf",
            "dagster_webserver or dagster_daemon",
            "instance",
            "rm -r /opt/dagster /etc/systemd/system/dagster-.service.d/20-sandbox.conf; rm -r "
            "/etc/systemd/system/dagster-.service.d/10-instance.conf; rm -f /usr/local/lib/dagster/proven_logs.json",
        ),
        (
            "/etc/systemd/system/prune-dagster-runs.timer",
            "dagster_code or dagster_run",
            "docker",
            "docker network ls -q --filter label=dataops.dagster=network | xargs -r docker network rm; "
            "systemctl disable --now prune-dagster-runs.timer; rm -r /etc/systemd/system/prune-dagster-runs.*",
        ),
        (
            "/etc/dagster/containers",
            "dagster_code or dagster_run",
            "code_location",
            "systemctl disable --now code-health-dagster.service; "
            "rm -rf /etc/systemd/system/code-health-dagster.service*; "
            "docker ps -aq --filter label=dataops.dagster.config | xargs -r docker rm -f; "
            "docker images -q --filter 'reference=dagster-code*' --filter 'reference=dagster-code/*' | sort -u | "
            "xargs -r docker rmi -f; rm -rf /etc/dagster/secrets /etc/dagster/code /etc/dagster/users; "
            "rm -f /usr/local/lib/dagster/proven_images.json /usr/local/lib/dagster/proven_code_logs.json",
        ),
    ],
)
def test_what_a_host_keeps_of_a_group_that_it_has_left(mark: str, group: str, role: str, commands: str) -> None:
    """It goes on serving an old version. Preflight knows it by the mark of the role."""
    found = plan("a", LEFT)
    assert mark in found.questions()["paths"]
    (said,) = found.warnings({**FACTS, "paths": [mark]})
    assert said.startswith(f"the host is not in group {group} any more, and what role {role} has made stays ({mark}).")
    assert f"To remove it: {commands}" in said
    assert plan("b", LEFT).warnings({**FACTS, "paths": [mark]}) == [], "it is in that group"


def test_proxy_that_is_none_any_more() -> None:
    """nginx may serve others, so only our site goes from it."""
    paths = ["/etc/nginx/conf.d/dagster.conf", "/usr/local/lib/dagster/edge.sh"]
    site, address = plan("a", STAYED).warnings({**FACTS, "paths": paths})
    assert "To remove it: rm -r /etc/nginx/conf.d/dagster.conf; systemctl reload nginx.service; systemctl" in site
    assert "disable --now haproxy-dagster.service; rm -r /etc/systemd/system/haproxy-dagster.service" in site
    assert "systemctl disable --now keepalived.service; rm -r /usr/local/lib/dagster/edge.sh" in address


def test_journal_of_a_host() -> None:
    code = "_SYSTEMD_UNIT=code-health-dagster.service"
    services = [
        "_SYSTEMD_UNIT=dagster-daemon.service",
        "_SYSTEMD_UNIT=docker-gate-dagster.service",
        "_SYSTEMD_UNIT=dagster-webserver@3000.service",
        "_SYSTEMD_UNIT=dagster-webserver@3001.service",
    ]
    assert journals(fact()) == {"a": ["CONTAINER_NAME=dagster-code-etl", "+", code, *services]}
    read_only = "_SYSTEMD_UNIT=dagster-webserver-read-only@3009.service"
    found = fact("a", groups(code=["b"]), dagster_webserver_read_only_port=3009)
    assert journals(found) == {"a": [*services, read_only], "b": ["CONTAINER_NAME=dagster-code-etl", "+", code]}
    assert journals(fact("b", groups(code=["b"]))).keys() == {"a", "b"}, "any host can ask all of them"


def journals(found: dict[str, Any]) -> dict[str, list[str]]:
    """The matches of each host's journal."""
    return {entry["host"]: entry["matches"] for entry in found["health"]["journals"]}


def test_what_health_asks_of_whom() -> None:
    two = groups(daemon=["a", "b"], proxy=["b", "a"], run=["a"])
    each = {"b": {"dagster_health_wait": 9}}
    for host in "ab":
        found = fact(host, two, each)["health"]
        assert (found["version"], found["daemons"], found["run_host"]) == ("1.13.27", ["a", "b"], "a")
        assert found["proxies"] == [
            {"host": "b", "url": "http://127.0.0.1:8080"},
            {"host": "a", "url": "http://127.0.0.1:8080"},
        ]
        assert found["wait"] == 9, "as the first proxy has it"
    assert "wait" not in fact()["health"], "each playbook has its own"
    assert fact(dagster_health_wait=0)["health"]["wait"] == 0


ALL = groups(database=["db"], webserver=["web", "new"], daemon=["web"], code=["web"], run=["web"], proxy=["edge"])


@pytest.mark.parametrize(
    ("host", "played", "left_out", "in_turn"),
    [
        ("new", ["new"], "db, edge, web", ""),  # pg_hba.conf, HAProxy, the engine's certificate
        ("new", ["new", "db", "web"], "edge", ""),
        ("new", ["new", "db", "edge", "web"], "", ""),
        # They listen for it. Were one of them new, its database would have to know that one.
        ("edge", ["edge"], "new, web", "db:edge:new:web"),
        ("db", ["db"], "new, web", "db:edge:new:web"),
    ],
)
def test_new_host_that_others_have_to_know(host: str, played: list[str], left_out: str, in_turn: str) -> None:
    problems = plan(host, ALL).limit_problems({"paths": []}, played)
    assert len(problems) == bool(left_out), problems
    if left_out:
        enough = ":".join(sorted({*played, *left_out.split(", ")}))
        more = f", --limit {in_turn} if another of these is new too" if in_turn else ""
        assert problems == [
            f"the play leaves out {left_out}, but {host} is new and they have to know it; use --limit {enough}{more}, "
            "or none"
        ]


def test_limit_that_is_enough_when_the_others_are_new_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain: new needs one, which needs two, which needs three. Nobody is refused twice."""
    chain = {"new": ["one"], "one": ["two"], "two": ["three", "one"], "three": [], "apart": ["new"]}
    found = plan("new", groups(proxy=list(chain)))
    parts = {
        host: SimpleNamespace(
            mark=lambda: "/mark", known_by=lambda host=host: chain[host], moves_with=lambda _facts: []
        )
        for host in chain
    }
    monkeypatch.setattr(found, "component", lambda _role, host: parts[host])
    monkeypatch.setattr(found, "components", {"proxy": parts["new"]})
    (problem,) = found.limit_problems({"paths": []}, ["new"])
    assert problem.endswith("--limit new:one, --limit new:one:three:two if another of these is new too, or none")
    parts["one"].mark = lambda: ""  # no role has to run there for it to be known
    (problem,) = found.limit_problems({"paths": []}, ["new"])
    assert problem.endswith("use --limit new:one, or none")


def test_limited_play_is_one_of_a_live_deployment() -> None:
    """Its hosts are restarted one after the other, although none of them may run a webserver."""
    found = plan("db", ALL)
    assert found.as_fact(FACTS)["live"] is False, "all hosts are new"
    assert found.as_fact(FACTS, ALL["dagster_webserver"])["live"] is True
    serving = [{"port": 3000, "address": "127.0.0.1", "process": "x", "unit": "dagster-webserver@3000.service"}]
    assert found.as_fact({**FACTS, "listeners": serving})["live"] is True


def test_host_that_is_deployed_may_be_played_alone() -> None:
    for host in ("new", "edge", "db", "web"):
        found = plan(host, ALL)
        marks = [part.mark() for part in found.components.values()]
        assert found.limit_problems({"paths": [*marks, *found.instance.way.certificates()]}, [host]) == []


def test_services_and_the_gate_on_another_host_move_together() -> None:
    """In a deployment of an earlier release the host of the runs has no gate, and a play without it makes none."""
    hosts = groups(run=["b"], code=["b"])
    found = plan("a", hosts)
    facts = {"paths": [part.mark() for part in found.components.values()]}
    assert found.limit_problems(facts, ["a"]) == [
        "the play leaves out b, which has to be brought to this release together with a; use --limit a:b, or none"
    ]
    assert found.limit_problems(facts, ["a", "b"]) == []
    assert (
        plan("b", hosts).limit_problems(
            {"paths": [part.mark() for part in plan("b", hosts).components.values()]}, ["b"]
        )
        == []
    )


PROGRAM = "/usr/local/lib/dagster/systemd_service.py"


@pytest.mark.parametrize("deployed", ["", "def passfile(): ...", instance.program_text()])
@pytest.mark.parametrize(
    ("tags", "skipped", "without"),
    [
        ([], [], []),
        (["all"], [], []),
        (["instance", "daemon"], [], []),
        (["docker", "packages"], [], []),
        (["daemon"], [], ["daemon"]),
        (["webserver", "proxy"], [], ["webserver"]),
        (["all"], ["instance"], ["daemon", "webserver"]),
        (["all"], ["instance", "daemon"], ["webserver"]),
    ],
)
def test_role_without_the_one_that_it_needs(
    deployed: str, tags: list[str], skipped: list[str], without: list[str]
) -> None:
    """Right after an upgrade; once that role has run, each may be applied alone."""
    found = plan()
    assert PROGRAM in found.questions()["texts"]
    facts = {**FACTS, "texts": {PROGRAM: deployed} if deployed else {}}
    problems = found.tag_problems({**facts, "paths": [found.known["gate"].mark()]}, tags, skipped)
    assert problems == [
        f"the play applies role {role} without role instance, and {PROGRAM} of that is missing here or of another "
        f"version; apply role instance too (--tags instance,{role})"
        for role in without
        if deployed != instance.program_text()
    ]


def test_services_are_not_played_without_the_gate_that_they_ask() -> None:
    facts = {**FACTS, "texts": {PROGRAM: instance.program_text()}}
    (problem,) = plan().tag_problems(facts, ["webserver"], [])
    assert problem.startswith("the play applies role webserver without role gate, and /etc/systemd/system/docker-gate-")
    assert plan("a", groups(run=["b"], code=["b"])).tag_problems(facts, ["webserver"], []) == []


def test_ports_of_a_host() -> None:
    variables = {"dagster_webserver_read_only_port": "3009", "dagster_nginx_read_only_port": 8081}
    assert {port.variable: port.number for port in plan(**variables).ports()} == {
        "dagster_database_port": 5432,
        "dagster_webserver_ports": 3001,
        "dagster_webserver_ports + dagster_webserver_agent_offset": 13001,
        "dagster_webserver_read_only_port": 3009,
        "dagster_webserver_read_only_port + dagster_webserver_agent_offset": 13009,
        "dagster_nginx_port": 8080,
        "dagster_nginx_read_only_port": 8081,
        "dagster_code_locations[etl].port": 4000,
    }
    assert [port.number for port in plan().ports()] == [4000, 5432, 8080, 3000, 3001, 13000, 13001]
    assert plan("b", groups(code=["a", "b"])).ports() == [], "the code server is on the other host"


def test_each_port_that_somebody_else_has_is_refused_with_its_variable() -> None:
    """Replicas, their agents, entry points, code servers, database: all of them."""
    given = {"dagster_nginx_read_only_port": 8081, "dagster_webserver_read_only_port": 3900}
    found = plan("a", groups(webserver=["a", "b"]), **given)
    ports = found.ports()
    assert len({port.variable for port in ports}) >= 8, "the control"
    for port in ports:
        held = [{"port": port.number, "address": "0.0.0.0", "process": "x", "unit": "shop.service"}]
        said = found.host_problems({**FACTS, "listeners": held}, 0, 0)
        assert f"port {port.number} is held by x of shop.service on 0.0.0.0; stop it or change {port.variable}" in said
