"""Action preflight: what it makes of an inventory before a host is touched, and of the host's facts afterwards."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.template import trust_as_template
from plans import FACTS, LOCATION, Groups, groups, specs
from preflights import Preflight

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import vip

PROGRAM = "/usr/local/lib/dagster/edge.sh"


@pytest.fixture
def action() -> Preflight:
    return Preflight()


def test_good_deployment_gets_its_plan(action: Preflight) -> None:
    result = action.run()
    assert result["changed"] is False
    assert result["host"] == FACTS
    assert "ansible_facts" not in result, "they would stay in a fact cache"
    assert "options" not in result["plan"], "they are a fact of their own"
    options = {f"dagster_{name}": value for name, value in result["options"].items()}
    assert options["dagster_database_host"] == "127.0.0.1"
    assert options["dagster_code_endpoints"] == [{"name": "etl", "host": "127.0.0.1", "port": 4000}]
    assert [asked["connect"] for asked in action.asked] == [[]]
    paths = action.asked[0]["paths"]
    assert [path for path in paths if path.endswith("/.complete")]
    assert {PROGRAM, vip.CONFIG, "/etc/systemd/system/dagster-daemon.service"} <= set(paths)


def test_addresses_of_other_hosts(action: Preflight) -> None:
    found = action.options(groups(database=["b"]))
    assert found["dagster_database_host"] == "10.0.0.2", "dagster_address comes before ansible_host"
    found = action.options(groups(database=["c"]))
    assert found["dagster_database_host"] == "c"


VIP = {"dagster_vip": "10.0.0.9/24", "dagster_nginx_listen": "0.0.0.0"}


def test_shared_address_of_the_proxies(action: Preflight) -> None:
    hosts = groups(proxy=["a", "b"])
    action.others["b"] = VIP
    assert action.refused(hosts, **VIP) == [
        "dagster_vip: no interface of the host is in a network with its address 10.0.0.1; name one in "
        "dagster_vip_interface"
    ]
    action.facts["networks"] = {"10.0.0.0/24": "ens3"}
    found = action.options(hosts, **VIP)
    assert found["dagster_vip_peers"] == ["10.0.0.1", "10.0.0.2"]
    assert found["dagster_vip_interface"] == "ens3"
    assert "keepalived" in action.packages(hosts, **VIP)
    found = action.options(hosts, **VIP, dagster_vip_interface="bond0")
    assert found["dagster_vip_interface"] == "bond0"
    assert set(action.asked[0]["paths"]) >= {PROGRAM, vip.CONFIG}
    action.others["b"] = {}
    assert "differs between the proxies (10.0.0.9/24 on a, none on b)" in action.refused(hosts, **VIP)[0]
    assert "keepalived" not in action.packages(hosts)


def test_numbers_that_came_as_text(action: Preflight) -> None:
    """AWX gives a survey's answers as text; on the proxy's own host the other roles' variables are text as well."""
    texts = {
        "dagster_webserver_ports": ["3000", "3001"],
        "dagster_nginx_port": "8080",
        "dagster_webserver_read_only_port": "0",
        "dagster_database_port": "5433",
        "dagster_code_locations": [{**LOCATION, "port": "4001"}],
    }
    stack = action.plan(**texts)
    assert stack["proxy"]["url"] == "http://127.0.0.1:8080"
    assert stack["options"]["dagster_code_endpoints"][0]["port"] == 4001
    assert stack["instance"]["config"]["storage"]["postgres"]["postgres_db"]["port"] == 5433
    action.others["a"] = {"dagster_code_locations": texts["dagster_code_locations"]}
    edge = action.plan(groups(proxy=["b"]), host="b", **texts)
    assert edge["proxy"]["url"] == "http://127.0.0.1:8080"
    assert edge["health"]["locations"] == ["etl"]


def test_packages_of_the_roles_of_a_host(action: Preflight) -> None:
    hosts = groups(database=["b"])
    # Clients on another host know the server by a certificate.
    signs = "python3-cryptography"
    expected = {"firewall": ["nftables"], "postgres": ["postgresql-15", "python3-psycopg2", signs]}
    assert action.plan(hosts, host="b")["packages"] == expected
    here = action.packages(hosts)
    assert {"docker.io", "python3-pip-whl", "nginx-light", "haproxy"} <= set(here)
    assert not [name for name in here if "postgresql" in name]
    action.facts["packages"] = {"docker-ce": "27"}
    assert "docker.io" not in action.packages(hosts)


@pytest.mark.parametrize(
    ("host", "port", "address", "variable"),
    [
        ("a", 3000, "10.0.0.1", "dagster_webserver_ports"),
        ("b", 4000, "10.0.0.2", "dagster_code_locations[etl].port"),
        ("a", 3000, "127.0.0.1", ""),
        ("b", 4000, "127.0.0.1", ""),
    ],
)
def test_taken_port_where_it_will_be_listened_on(
    action: Preflight, host: str, port: int, address: str, variable: str
) -> None:
    """Beside a proxy or services on another host, webservers and code servers listen on the host's own address."""
    action.facts["listeners"] = [{"port": port, "address": address, "process": "x", "unit": "x.service"}]
    hosts = groups(proxy=["b"], code=["b"])
    held = f"port {port} is held by x of x.service on {address}; stop it or change {variable}"
    if variable:
        assert action.refused(hosts, host) == [held]
    else:
        action.run(hosts, host)


def test_what_the_user_sets_comes_before_what_is_worked_out(action: Preflight) -> None:
    found = action.options(dagster_webserver_bind="10.9.9.9", dagster_database_run_host="10.8.8.8")
    assert found["dagster_webserver_bind"] == "10.9.9.9"
    assert found["dagster_database_run_host"] == found["dagster_database_code_host"] == "10.8.8.8"
    assert found["dagster_database_host"] == "127.0.0.1"
    assert set(found) <= {name for options in specs().values() for name in options}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dagster_webserver_ports", "3000,3001", "dagster_webserver_ports is '3000,3001'; expected a list, such as"),
        ("dagster_webserver_ports", "3000", "dagster_webserver_ports is '3000'; expected a list, such as [a, b]"),
        ("dagster_webserver_ports", "a: 1", "dagster_webserver_ports is a dictionary; expected a list"),
        ("dagster_code_locations", ["etl"], "dagster_code_locations[0] is text; expected a dictionary"),
        (
            "dagster_code_locations",
            [{**LOCATION, "env": "A=1"}],
            "dagster_code_locations[etl].env is text; expected a dictionary",
        ),
        ("dagster_config", [], "dagster_config is a list; expected a dictionary"),
        ("dagster_database_password", 123456, "dagster_database_password was read as a number"),
        ("dagster_database_password", {"a": 1}, "dagster_database_password was read as a dictionary"),
        ("dagster_database_password", "", "dagster_database_password is not set: "),
    ],
)
def test_value_of_another_kind_gets_one_sentence(action: Preflight, name: str, value: Any, words: str) -> None:
    problems = action.refused(**{name: value})
    assert len(problems) == 1, problems
    assert problems[0].startswith(words)


def test_dagster_config_is_checked_as_it_will_be_merged(action: Preflight) -> None:
    """A part of a section is no mistake where ours has the rest, and the services' variables are known."""
    action.run(
        dagster_config={
            "run_launcher": {"config": {"networks": ["warehouse"], "image": "x:1", "env_vars": ["STATE"]}},
            "storage": {"postgres": {"postgres_db": {"params": {"sslmode": "require"}}}},
            "local_artifact_storage": {"config": {"base_dir": {"env": "STATE"}}},
        },
        dagster_environment={"STATE": "/var/lib/dagster"},
    )
    problems = action.refused(
        dagster_config={
            "run_launcher": {"config": {"network": "other", "env_vars": ["NO_SUCH_NAME"]}},
            "storage": {"postgres": {"postgres_db": {"hostname": {"env": "DAGSTER_POSTGRES_HOSTS"}}}},
        }
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "dagster_config.run_launcher.config.network",
        "dagster_config.storage.postgres.postgres_db.hostname.env",
        "dagster_config.run_launcher.config.env_vars[0]",
    ]
    assert "did you mean DAGSTER_POSTGRES_HOST?" in problems[1]
    assert problems[2].endswith("(dagster_config_allow: missing_env_var)")


def test_what_runs_lack_is_refused(action: Preflight) -> None:
    """Services would have it, so nothing else notices."""
    logs = {"config": {"base_dir": "/srv/logs"}}
    database = {"postgres": {"postgres_db": {"db_name": {"env": "DATABASE"}}}}
    problems = action.refused(
        dagster_config={"compute_logs": logs, "storage": database}, dagster_secret_environment={"DATABASE": "dagster"}
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "dagster_config.storage.postgres.postgres_db.db_name",
        "dagster_config.compute_logs.config.base_dir",
    ]
    assert "write DATABASE into dagster_environment" in problems[0]
    assert "no volume mounts into runs" in problems[1]
    action.run(dagster_config={"storage": database}, dagster_environment={"DATABASE": "dagster"})


def test_what_dagster_config_allows(action: Preflight) -> None:
    launcher = {"module": "mine.dagster", "class": "Launcher", "config": {"x": 1}}
    config = {"run_launcher": launcher, "run_storage": None}
    typed, brought = action.refused(dagster_config=config)
    assert "custom_module:mine" in typed
    assert "set dagster_requirements to" in brought
    mine = {"PYTHONPATH": "/srv/mine"}
    action.run(dagster_config=config, dagster_config_allow=["custom_module:mine"], dagster_environment=mine)


def test_text_that_may_be_empty(action: Preflight) -> None:
    """Where the default is the empty text, a survey's blank is that default."""
    action.run(dagster_webserver_path_prefix="", dagster_wheelhouse="")


def test_tags_that_leave_out_what_is_needed(action: Preflight) -> None:
    """Seen before anything is changed; preflight is played with any tags."""
    problems = action.refused(ansible_run_tags=["daemon"])
    assert [problem.partition(" of that ")[0] for problem in problems] == [
        "the play applies role daemon without role instance, and /usr/local/lib/dagster/systemd_service.py",
        "the play applies role daemon without role gate, and /etc/systemd/system/docker-gate-dagster.service",
    ]
    assert len(action.refused(ansible_run_tags=["all"], ansible_skip_tags=["instance"])) == 2
    action.run(ansible_run_tags=["gate", "instance", "daemon"])


def test_variables_are_templates(action: Preflight) -> None:
    port = trust_as_template("{{ base + 80 }}")
    assert action.plan(base=8000, dagster_nginx_port=port)["proxy"]["url"] == "http://127.0.0.1:8080"


def test_all_problems_of_the_variables_at_once(action: Preflight) -> None:
    problems = action.refused(
        dagster_nginx_prot=80,
        dagster_nginx_vip="10.0.0.9/24",
        dagster_database_password="",
        dagster_version=None,
        dagster_nginx_port="eighty",
        dagster_webserver_options={"db_pool_recylce": 1},
        dagster_code_locations=[{**LOCATION, "modul": "x"}],
    )
    assert problems[0] == "dagster_nginx_prot is no variable of this collection; did you mean dagster_nginx_port?"
    assert problems[1] == "dagster_nginx_vip is now called dagster_vip; rename it in the inventory"
    assert "dagster_database_password is not set: Password of the services' login (dagster_database_user)" in problems
    version = "dagster_version is not set: Version of Dagster, one with a committed lock"
    assert [problem for problem in problems if problem.startswith(version)]
    assert [problem for problem in problems if "dagster_nginx_port is 'eighty'; expected a whole number" in problem]
    assert [problem for problem in problems if "dagster_webserver_options" in problem and "db_pool_recylce" in problem]
    assert [problem for problem in problems if "dagster_code_locations" in problem and "modul" in problem]
    assert len(problems) == 7
    assert action.asked == [], "no host was touched"


def test_secret_that_only_another_hosts_role_needs(action: Preflight) -> None:
    action.run(groups(proxy=["b"]), host="b", dagster_database_password="", dagster_database_migration_password="")


@pytest.mark.parametrize(
    ("hosts", "variables", "words"),
    [
        (groups(daemon=[]), {}, "group dagster_daemon has no host"),
        (
            groups(),
            {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"},
            "dagster_database_host names an external server",
        ),
        (groups(database=[]), {"dagster_database_host": "db.example.com"}, "dagster_daemon_fencing is full"),
        (groups(), {"dagster_daemon_lease_ttl": "8"}, "dagster_daemon_lease_ttl is 8; it is at least 12"),
        (groups(), {"dagster_version": "1.12.3"}, "dagster_version is 1.12.3; supported are 1.13.27, 1.13.26"),
        (groups(), {"dagster_code_locations": [LOCATION, {**LOCATION, "port": 4001}]}, "2 locations named etl"),
        (groups(), {"dagster_nginx_port": 3000}, "port 3000 is set 2 times"),
        (groups(), {"dagster_config": {"no_such_section": {}}}, "dagster_config.no_such_section"),
    ],
)
def test_one_problem(action: Preflight, hosts: Groups, variables: dict[str, Any], words: str) -> None:
    problems = action.refused(hosts, **variables)
    assert len(problems) == 1, problems
    assert words in problems[0]
    assert action.asked == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"release": "trixie"}, "the host runs debian trixie"),
        ({"memory_mb": 500}, "the host has 500 MiB of memory"),
        (
            {"listeners": [{"port": 8080, "address": "::", "process": "java", "unit": "tomcat.service"}]},
            "port 8080 is held by java of tomcat.service",
        ),
    ],
)
def test_problem_of_the_host(action: Preflight, facts: dict[str, Any], words: str) -> None:
    action.facts.update(facts)
    problems = action.refused()
    assert len(problems) == 1, problems
    assert words in problems[0]


def test_external_database_is_asked_for_by_hosts_that_use_it(action: Preflight) -> None:
    variables = {"dagster_database_host": "db.example.com", "dagster_database_port": "5433"}
    variables["dagster_daemon_fencing"] = "lease_only"
    hosts = groups(database=[], proxy=["b"])
    action.run(hosts, **variables)
    action.run(hosts, host="b", **variables)
    server = {"host": "db.example.com", "port": 5433, "dialect": "postgres"}
    assert [asked["connect"] for asked in action.asked] == [[server], []]
    action.facts["connect_errors"] = ["db.example.com:5433 cannot be reached from a: x"]
    assert action.refused(hosts, **variables) == [
        "dagster_database_host: db.example.com:5433 cannot be reached from a: x"
    ]


def test_standby_of_another_version(action: Preflight) -> None:
    hosts = groups(daemon=["a", "b"], run=["a"])
    action.others = {"b": {"dagster_version": "1.13.26"}}
    problems = action.refused(hosts)
    assert "dagster_version differs between the services' hosts (1.13.27 on a, 1.13.26 on b)" in problems[-1]
    action.others = {"b": {"dagster_version": "1.13.27"}}
    action.run(hosts)


def test_engine_on_another_host(action: Preflight) -> None:
    """The way to it is worked out, logs must not stay there, and nobody has another engine or version."""
    hosts = groups(run=["b"])
    shared: dict[str, Any] = {"dagster_compute_logs_shared": True}
    found = action.plan(hosts, **shared)
    way = {"dagster_docker_endpoint": "tcp://10.0.0.2:2376", "dagster_docker_ca_host": "b"}
    assert found["options"].items() >= way.items()
    assert "python3-cryptography" in found["packages"]["instance"]
    assert action.asked[0]["certificates"] == found["certificates"] != {}
    engine = action.plan(hosts, host="b", **shared)
    assert engine["options"]["dagster_docker_tls_address"] == "10.0.0.2"
    assert "python3-cryptography" in engine["packages"]["gate"]
    assert "python3-cryptography" not in action.packages()
    assert action.refused(hosts)[0].startswith("compute logs are files on b")
    (problem,) = action.refused(hosts, dagster_docker_endpoint="unix:///x.sock", **shared)
    assert "two engines for one instance" in problem
    (problem,) = action.refused(hosts, dagster_docker_tls_ca="x", **shared)
    assert "dagster_docker_tls_client_cert, dagster_docker_tls_client_key must be set as well" in problem
    # The engine of somebody else listens where it did: other hosts ask the gate.
    action.facts["packages"] = {"docker-ce": "27"}
    action.run(hosts, "b", **shared)


def test_budget_of_connections(action: Preflight) -> None:
    found = action.plan()
    options = found["options"]
    assert (options["dagster_postgres_max_connections"], options["dagster_webserver_pool_overflow"]) == (200, 20)
    assert options["dagster_postgres_connection_limits"]["dagster"] == 126
    assert found["live"] is False
    (problem,) = action.refused(dagster_postgres_max_connections="90")
    assert problem.startswith("the database takes 90 connections and the deployment may open 102 (webservers 2 x 3 x")
    external = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}
    action.run(groups(database=[]), **external)
    assert action.refused(groups(database=[]), dagster_postgres_max_connections=90, **external)


def test_host_that_serves_is_live(action: Preflight) -> None:
    unit = {"port": 3000, "address": "127.0.0.1", "process": "python3", "unit": "dagster-webserver@3000.service"}
    action.facts["listeners"] = [unit]
    assert action.plan()["live"] is True


def test_what_an_operator_has_to_know_is_a_warning(action: Preflight) -> None:
    assert "warnings" not in action.run()
    action.others = {"b": {"dagster_version": "1.13.27"}}
    action.facts["paths"] = ["/etc/systemd/system/dagster-daemon.service"]
    (said,) = action.run(groups(daemon=["b"]), dagster_compute_logs_shared=True)["warnings"]
    assert said.startswith("a: the host is not in group dagster_daemon any more")


def test_host_that_cannot_be_read(action: Preflight) -> None:
    action.answer = {"failed": True, "msg": "no python"}
    assert action.run() == {"failed": True, "msg": "no python"}


def test_what_roles_compare_is_read_in_the_same_call(action: Preflight) -> None:
    """It is kept beside the facts, which are shown. A preflight that does not ask for it ends an earlier one."""
    read = {"places": [], "entries": {}, "owners": {"user": {}, "group": {}}, "units": {}, "in_force": False}
    proven, home = "/usr/local/lib/dagster/proven", "/etc/dagster"
    facts = {**FACTS, "stamps": ["/etc/x 1"], "texts": {proven: "/etc/x 1\n", "/other": "x"}}
    action.answer = {"host": facts, "snapshot": read}
    action.arguments["snapshot"] = "true"
    result = action.run()
    (asked,) = action.asked
    assert asked["snapshot_key"] == snapshot.KEY
    assert {home, f"{home}/*", "/etc/nginx/conf.d/dagster.conf"} <= {*asked["snapshot"]["places"]}
    assert {"nginx.service", "dagster-daemon.service", "postgresql@*-*.service"} <= {*asked["snapshot"]["units"]}
    assert asked["snapshot"]["table"] == {"path": "/etc/firewall-dagster.nft", "table": "dagster_firewall"}
    assert result["host"] == {**FACTS, "texts": {"/other": "x"}}
    variables = {"inventory_hostname": "a", "playbook_dir": snapshot.PLAYBOOKS}
    known = snapshot.of(SimpleNamespace(delegate_to=None), variables)
    assert known is not None
    stamps = {"stamps": asked["stamps"], "texts": [proven]}
    assert known.stamps(stamps)["host"] == {"stamps": ["/etc/x 1"], "texts": {proven: "/etc/x 1\n"}}
    del action.arguments["snapshot"]
    action.run()
    assert action.asked[1].keys() & {"snapshot", "snapshot_key", "stamps"} == set()
    assert snapshot.of(SimpleNamespace(delegate_to=None), variables) is None


def test_group_whose_name_is_nearly_ours(action: Preflight) -> None:
    typed = {**groups(), "dagster_daemons": ["b"]}
    assert action.refused(typed) == [
        "group dagster_daemons is none of this collection, and b would be in no deployment; did you mean "
        "dagster_daemon?"
    ]
    # A group above one of ours has no host more, and another name is somebody's own.
    action.run({**groups(), "dagster_daemons": ["a"], "dagster_backups": ["b"]})


def test_certificate_of_an_authority_that_the_controller_has_not(action: Preflight, tmp_path: Path) -> None:
    good, empty, binary = (tmp_path / f"{name}.crt" for name in ("good", "empty", "binary"))
    good.write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
    empty.write_text("", encoding="utf-8")
    binary.write_bytes(b"0\x82\xff\xfe")
    variable, missing = "dagster_ca_certificates", tmp_path / "missing.crt"
    assert action.refused(groups(), **{variable: [str(each) for each in (good, empty, binary, missing)]}) == [
        f"{variable}: {empty} holds no certificate; expected PEM text",
        f"{variable}: {binary} is no text; expected PEM (openssl x509 -inform der makes it from DER)",
        f"{variable}: {missing} is no file on the controller; a relative path counts from the playbook",
    ]
    assert action.run(**{variable: [str(good)]})["changed"] is False
    shared = {"dagster_compute_logs_shared": True}
    elsewhere = groups(webserver=["b"], daemon=["b"])
    assert action.run(elsewhere, **shared, **{variable: [str(missing)]})["changed"] is False, "no service is here"
