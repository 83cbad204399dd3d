"""What preflight refuses before a host is touched, and who reaches whom at which address."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils import _preflight as check

KINDS = ("database", "webserver", "daemon", "code", "run", "proxy")
ONE = {kind: ["a"] for kind in KINDS}
ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "c.example.com"}
LOCATION = {"name": "etl", "module": "etl.definitions", "image": "etl:1"}
VARIABLES: dict[str, Any] = {
    "dagster_version": "1.13.27",
    "dagster_database_host": None,
    "dagster_database_port": 5432,
    "dagster_database_user": "dagster",
    "dagster_database_migration_user": "dagster_migration",
    "dagster_database_run_user": "dagster_run",
    "dagster_docker_network_subnet": "172.30.0.0/24",
    "dagster_docker_bridge_address": "172.29.0.1/24",
    "dagster_webserver_bind": "127.0.0.1",
    "dagster_webserver_ports": [3000, 3001],
    "dagster_webserver_read_only_port": 0,
    "dagster_webserver_agent_offset": 10000,
    "dagster_webserver_path_prefix": "",
    "dagster_nginx_listen": "127.0.0.1",
    "dagster_nginx_port": 8080,
    "dagster_nginx_read_only_port": 0,
    "dagster_nginx_vip": "",
    "dagster_nginx_vip_router_id": 51,
    "dagster_code_locations": [LOCATION],
    "dagster_database_guard_user": "dagster_guard",
    "dagster_database_daemon_role": "dagster_daemon",
    "dagster_daemon_fencing": "full",
    "dagster_daemon_lease_renew": 2,
    "dagster_daemon_lease_deadline": 10,
    "dagster_daemon_lease_ttl": 15,
    "dagster_daemon_watchdog": 6,
    "dagster_daemon_heartbeat_timeout": 120,
    "dagster_home": "/etc/dagster",
    "dagster_docker_endpoint": "unix:///run/docker.sock",
    "dagster_docker_tls_port": 2376,
    "dagster_docker_tls_client_cert": "",
    "dagster_docker_tls_cert": "",
    "dagster_compute_logs_shared": False,
    "dagster_webserver_options": {},
    "dagster_postgres_options": {},
    "dagster_postgres_max_connections": 0,
}


def topology(host: str, groups: dict[str, list[str]], **variables: Any) -> dict[str, Any]:
    return check.topology(host, {**ONE, **groups}, ADDRESSES, {**VARIABLES, **variables})


# Who reaches whom


def test_single_host_stays_on_loopback() -> None:
    found = topology("a", {})
    assert found["database_host"] == "127.0.0.1"
    assert found["database_run_host"] == found["database_code_host"] == "172.30.0.1"
    assert found["postgres_listen"] == ["127.0.0.1", "172.30.0.1"]
    assert found["postgres_clients"] == [{"address": "172.30.0.0/24", "users": ["dagster_run"]}]
    assert found["code_endpoints"] == [{"name": "etl", "host": "127.0.0.1", "port": 4000}]
    assert found["code_publish_address"] == found["webserver_bind"] == "127.0.0.1"
    assert found["webserver_addresses"] == ["127.0.0.1"]
    assert found["code_locations"] == ["etl"]
    assert found["url"] == "http://127.0.0.1:8080"


def test_database_on_a_host_of_its_own() -> None:
    groups = {"database": ["b"]}
    stack, database = topology("a", groups), topology("b", groups)
    assert stack["database_host"] == stack["database_run_host"] == stack["database_code_host"] == "10.0.0.2"
    assert database["postgres_listen"] == ["10.0.0.2", "127.0.0.1"]
    assert database["postgres_clients"] == [
        {"address": "10.0.0.1/32", "users": ["dagster", "dagster_migration", "dagster_guard", "dagster_daemon_a"]},
        {"address": "10.0.0.1/32", "users": ["dagster_run"]},
    ]
    assert database["code_locations"] == []
    assert stack["code_endpoints"][0]["host"] == "127.0.0.1"


def test_external_database() -> None:
    found = topology("a", {"database": []}, dagster_database_host="db.example.com")
    assert found["database_host"] == found["database_run_host"] == found["database_code_host"] == "db.example.com"
    assert found["postgres_clients"] == []


def test_code_on_a_second_host() -> None:
    groups = {"code": ["b"]}
    stack, code = topology("a", groups), topology("b", groups)
    assert stack["code_endpoints"] == code["code_endpoints"] == [{"name": "etl", "host": "10.0.0.2", "port": 4000}]
    assert (stack["code_publish_address"], code["code_publish_address"]) == ("127.0.0.1", "10.0.0.2")
    assert (stack["code_locations"], code["code_locations"]) == ([], ["etl"])
    # Runs start on a and reach the database through the gateway, the code server comes from b.
    assert (stack["database_run_host"], code["database_run_host"]) == ("172.30.0.1", "172.30.0.1")
    assert (stack["database_code_host"], code["database_code_host"]) == ("172.30.0.1", "10.0.0.1")
    assert stack["postgres_listen"] == ["10.0.0.1", "127.0.0.1", "172.30.0.1"]
    assert stack["postgres_clients"] == [
        {"address": "172.30.0.0/24", "users": ["dagster_run"]},
        {"address": "10.0.0.2/32", "users": ["dagster_run"]},
    ]


def test_location_on_the_host_it_names() -> None:
    locations = [LOCATION, {**LOCATION, "name": "ml", "host": "b", "port": "4001"}]
    found = topology("b", {"code": ["a", "b"]}, dagster_code_locations=locations)
    assert found["code_endpoints"] == [
        {"name": "etl", "host": "10.0.0.1", "port": 4000},
        {"name": "ml", "host": "10.0.0.2", "port": 4001},
    ]
    assert found["code_locations"] == ["ml"]


def test_topology_is_a_fact_and_holds_no_secret() -> None:
    """Facts are shown, logged and cached."""
    location = {**LOCATION, "secrets": {"token": "hunter2"}, "env": {"A": "correct-horse"}}
    text = str(topology("a", {}, dagster_code_locations=[location]))
    assert "hunter2" not in text
    assert "correct-horse" not in text


def test_port_that_the_spec_filled_in_as_none() -> None:
    """Ansible gives each suboption that is not set as None."""
    location = {**LOCATION, "port": None, "host": None, "env": None}
    assert topology("a", {}, dagster_code_locations=[location])["code_endpoints"][0]["port"] == 4000
    wanted = check.wanted_ports("a", ONE, {**VARIABLES, "dagster_code_locations": [location]})
    assert check.port_problems(wanted) == []
    assert check.location_problems([location], ["a"]) == []


def test_proxy_elsewhere() -> None:
    groups = {"proxy": ["b"]}
    stack, proxy = topology("a", groups), topology("b", groups, dagster_nginx_listen=["0.0.0.0"])
    assert stack["webserver_bind"] == "10.0.0.1"
    assert stack["webserver_addresses"] == proxy["webserver_addresses"] == ["10.0.0.1"]
    assert proxy["url"] == "http://127.0.0.1:8080", "asked on the proxy's own host"
    assert stack["code_endpoints"][0]["host"] == "127.0.0.1"


def test_two_webserver_hosts() -> None:
    found = topology("a", {"webserver": ["a", "b"], "run": ["a"]})
    assert found["webserver_addresses"] == ["127.0.0.1", "10.0.0.2"]
    assert found["code_publish_address"] == "10.0.0.1", "the second host's webserver reaches the code server there"
    assert found["code_endpoints"][0]["host"] == "10.0.0.1"
    assert {"address": "10.0.0.2/32", "users": ["dagster", "dagster_migration"]} in found["postgres_clients"]
    assert topology("b", {"webserver": ["a", "b"], "run": ["a"]})["webserver_bind"] == "10.0.0.2"


def test_two_daemon_hosts() -> None:
    groups = {"database": ["c"], "daemon": ["a", "b"]}
    first, second, database = (topology(host, groups) for host in "abc")
    assert (first["daemon_login"], second["daemon_login"]) == ("dagster_daemon_a", "dagster_daemon_b")
    assert database["daemon_login"] == ""
    assert database["postgres_daemon_logins"] == ["dagster_daemon_a", "dagster_daemon_b"]
    users = {client["address"]: client["users"] for client in database["postgres_clients"][:2]}
    assert users["10.0.0.1/32"][2:] == ["dagster_guard", "dagster_daemon_a"]
    assert users["10.0.0.2/32"][2:] == ["dagster_guard", "dagster_daemon_b"], "each only from its own host"
    assert not database["database_external"]


def test_daemon_that_is_not_fenced() -> None:
    found = topology("a", {"database": ["b"]}, dagster_daemon_fencing="lease_only")
    assert (found["daemon_login"], found["postgres_daemon_logins"]) == ("", [])
    assert found["postgres_clients"][0]["users"] == ["dagster", "dagster_migration", "dagster_guard"]


@pytest.mark.parametrize(
    ("host", "login"),
    [("ctl1", "dagster_daemon_ctl1"), ("CTL-1.example.com", "dagster_daemon_ctl_1_example_com"), ("x" * 99, None)],
)
def test_login_of_a_daemon(host: str, login: str | None) -> None:
    found = check.daemon_login(host, VARIABLES)
    assert found == login if login else len(found) == 63


def test_one_version_for_all_hosts() -> None:
    assert check.version_problems({"a": "1.13.27", "b": "1.13.27"}) == []
    assert check.version_problems({"b": "1.13.27", "a": "1.13.26"}) == [
        "dagster_version differs between the services' hosts (1.13.26 on a, 1.13.27 on b); one instance has one version"
    ]


def test_host_that_is_known_by_name_only() -> None:
    """pg_hba.conf takes a name as it is, and refuses one with a /32 behind it."""
    found = topology("a", {"code": ["c"]})
    assert {"address": "c.example.com", "users": ["dagster_run"]} in found["postgres_clients"]


@pytest.mark.parametrize(
    ("address", "source"),
    [("10.0.0.1", "10.0.0.1/32"), ("fd00::1", "fd00::1/128"), ("db.example.com", "db.example.com")],
)
def test_source_in_pg_hba(address: str, source: str) -> None:
    assert check.source(address) == source


def test_engine_on_a_host_of_its_own() -> None:
    groups = {"run": ["b"]}
    stack, engine = topology("a", groups), topology("b", groups)
    assert stack["docker_endpoint"] == "tcp://10.0.0.2:2376"
    assert (stack["docker_ca_host"], stack["docker_tls_address"]) == ("b", "")
    assert engine["docker_endpoint"] == "unix:///run/docker.sock"
    assert (engine["docker_ca_host"], engine["docker_tls_address"]) == ("", "10.0.0.2")
    assert stack["docker_local_endpoint"] == engine["docker_local_endpoint"] == "unix:///run/docker.sock"
    client = check.certificates(stack, VARIABLES)
    assert client == {"/etc/dagster/docker/ca.pem": "", "/etc/dagster/docker/cert.pem": "/etc/dagster/docker/key.pem"}
    assert "/etc/docker/tls/ca.pem" in check.certificates(engine, VARIABLES)
    ports = check.wanted_ports("b", {**ONE, **groups}, VARIABLES, tls=engine["docker_tls_address"])
    assert [(entry["port"], entry["addresses"], entry["unit"]) for entry in ports] == [
        (2376, ["10.0.0.2"], "docker.service")
    ]


def test_engine_of_a_single_host_is_reached_at_its_socket() -> None:
    found = topology("a", {})
    assert found["docker_endpoint"] == found["docker_local_endpoint"] == "unix:///run/docker.sock"
    assert found["docker_ca_host"] == found["docker_tls_address"] == ""
    assert check.certificates(found, VARIABLES) == {}
    assert topology("a", {"proxy": ["b"], "database": ["b"], "code": ["b"]})["docker_tls_address"] == ""


def test_certificates_that_are_brought_are_signed_by_nobody() -> None:
    found = topology("a", {"run": ["b"]}, dagster_docker_tls_client_cert="x")
    assert (found["docker_endpoint"], found["docker_ca_host"]) == ("tcp://10.0.0.2:2376", "")
    remote = topology("a", {"run": ["b"]}, dagster_docker_endpoint="tcp://c:1")
    assert remote["docker_local_endpoint"] == "unix:///run/docker.sock"


def test_endpoint_of_an_address() -> None:
    assert check.tcp_endpoint("fd00::1", 2376) == "tcp://[fd00::1]:2376"
    assert check.tcp_endpoint("run.example.com", "2377") == "tcp://run.example.com:2377"


def test_live_is_a_host_that_serves() -> None:
    assert not check.live([listener(22, "ssh.service"), listener(8080, "nginx.service")])
    assert check.live([listener(3000, "dagster-webserver@3000.service")])


def test_url_of_the_edge() -> None:
    variables = {**VARIABLES, "dagster_webserver_path_prefix": "/dagster", "dagster_nginx_listen": ["10.0.0.1", "::"]}
    assert check.edge_url(variables) == "http://10.0.0.1:8080/dagster"


def test_journal_of_a_host() -> None:
    variables = {**VARIABLES, "dagster_webserver_read_only_port": 3009}
    services = [
        "_SYSTEMD_UNIT=dagster-daemon.service",
        "_SYSTEMD_UNIT=dagster-webserver@3000.service",
        "_SYSTEMD_UNIT=dagster-webserver@3001.service",
    ]
    assert check.journal_matches("a", ONE, VARIABLES) == [*services, "+", "CONTAINER_NAME=dagster-code-etl"]
    read_only = "_SYSTEMD_UNIT=dagster-webserver-read-only@3009.service"
    assert check.journal_matches("a", {**ONE, "code": ["b"]}, variables) == [*services, read_only]
    assert check.journal_matches("b", {**ONE, "code": ["b"]}, variables) == ["CONTAINER_NAME=dagster-code-etl"]


# What is refused


def test_nearest_name() -> None:
    known = ["dagster_version", "dagster_nginx_port", "dagster_webserver_ports"]
    assert check.nearest("dagster_nginx_prot", known) == "; did you mean dagster_nginx_port?"
    assert check.nearest("entirely", known) == ""


def test_unknown_names() -> None:
    known = ["dagster_version", "dagster_nginx_port"]
    given = ["dagster_version", "dagster_host", "dagster_topology", "ansible_host", "my_dagster_x", "__dagster_private"]
    assert check.unknown_names(given, known) == []
    assert check.unknown_names(["dagster_ngnix_port", "dagster_zzz_qqq"], known) == [
        "dagster_ngnix_port is no variable of this collection; did you mean dagster_nginx_port?",
        "dagster_zzz_qqq is no variable of this collection",
    ]


@pytest.mark.parametrize(
    ("distribution", "release", "problems"),
    [
        ("debian", "bookworm", []),
        ("debian", "bullseye", ["the host runs debian bullseye; supported is debian bookworm"]),
        ("ubuntu", "bookworm", ["the host runs ubuntu bookworm; supported is debian bookworm"]),
    ],
)
def test_system(distribution: str, release: str, problems: list[str]) -> None:
    assert check.host_problems({"distribution": distribution, "release": release}) == problems


@pytest.mark.parametrize(
    ("groups", "external", "words"),
    [
        ({}, "", []),
        ({"database": []}, "db.example.com", []),
        ({"database": ["b"], "code": ["c", "d"], "proxy": ["a", "b"]}, "", []),
        ({"code": []}, "", []),
        ({"daemon": []}, "", ["group dagster_daemon has no host"]),
        ({"database": ["a", "b"]}, "", ["group dagster_database has 2 hosts"]),
        ({}, "db.example.com", ["dagster_database_host names an external server"]),
        ({"database": []}, "", ["there is no database"]),
        ({"webserver": []}, "", ["group dagster_webserver has no host"]),
        ({"proxy": []}, "", ["group dagster_proxy has no host"]),
        ({"run": []}, "", ["group dagster_run has 0 hosts"]),
        ({"run": ["a", "b"]}, "", ["group dagster_run has 2 hosts"]),
        ({"run": ["b"]}, "", []),
    ],
)
def test_groups(groups: dict[str, list[str]], external: str, words: list[str]) -> None:
    problems = check.group_problems({**ONE, **groups}, external)
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems


@pytest.mark.parametrize(
    ("daemons", "changes", "external", "words"),
    [
        (["a", "b"], {}, "", []),
        (["a", "b"], {"dagster_daemon_fencing": "lease_only"}, "db.example.com", []),
        (["a"], {}, "db.example.com", ["dagster_daemon_fencing is full, but at db.example.com"]),
        (["ctl-1", "ctl_1"], {}, "", ["ctl-1 and ctl_1 of group dagster_daemon would both have"]),
        (["ctl-1", "ctl_1"], {"dagster_daemon_fencing": "lease_only"}, "", []),
        (["a"], {"dagster_daemon_lease_ttl": 11}, "", ["dagster_daemon_lease_ttl is 11; it is at least 12"]),
        (["a"], {"dagster_daemon_watchdog": 11}, "", ["dagster_daemon_lease_ttl is 15; it is at least 16"]),
        (["a"], {"dagster_daemon_watchdog": 3}, "", ["dagster_daemon_watchdog is 3; with"]),
        (["a"], {"dagster_daemon_lease_deadline": 5}, "", ["dagster_daemon_lease_deadline is 5; with"]),
        (["a"], {"dagster_daemon_lease_renew": 0}, "", ["dagster_daemon_lease_renew is 0"]),
        (["a"], {"dagster_daemon_heartbeat_timeout": "59"}, "", ["dagster_daemon_heartbeat_timeout is 59"]),
    ],
)
def test_daemon(daemons: list[str], changes: dict[str, Any], external: str, words: list[str]) -> None:
    problems = check.daemon_problems({**ONE, "daemon": daemons}, {**VARIABLES, **changes}, external)
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"image": "", "build": {"context": "/x"}, "module": None, "file": "a.py"}, []),
        ({"host": "code1"}, []),
        ({"env": {"LEVEL": "info", "DB_PASSWORD_FILE": "/run/secrets/db", "TOKENIZERS_PARALLELISM": "false"}}, []),
        ({"name": "a b"}, ["name is 'a b'; letters, digits"]),
        ({"name": "-a"}, ["name is '-a'"]),
        ({"image": ""}, ["has none of image, build, archive; exactly one is needed"]),
        ({"archive": "/x"}, ["has image and archive of image, build, archive"]),
        ({"module": ""}, ["has none of module, package, file"]),
        ({"package": "p", "file": "f"}, ["has module and package and file of"]),
        ({"host": "code2"}, ["host code2 is not in group dagster_code; did you mean code1?"]),
    ],
)
def test_location(changes: dict[str, Any], words: list[str]) -> None:
    problems = check.location_problems([{**LOCATION, **changes}], ["code1"])
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems
    assert all(problem.startswith("dagster_code_locations[") for problem in problems)


def test_location_without_a_name_is_told_by_its_number() -> None:
    nameless = {key: value for key, value in LOCATION.items() if key != "name"}
    assert check.location_problems([LOCATION, nameless], ["a"])[0].startswith("dagster_code_locations[1]: name is None")


def test_locations_together() -> None:
    assert check.location_problems([], []) == []
    assert check.location_problems([LOCATION, {**LOCATION, "name": "b"}], ["a"]) == []
    assert check.location_problems([LOCATION, LOCATION], ["a"]) == [
        "dagster_code_locations has 2 locations named etl; each name must be unique"
    ]
    assert check.location_problems([LOCATION], []) == [
        "dagster_code_locations is set, but group dagster_code has no host"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "API_TOKEN",
        "PGPASSWORD",
        "db_password",
        "DB_PASSWORD_OLD",
        "AWS_SECRET_ACCESS_KEY",
        "OPENAI_API_KEY",
        "APIKEY",
        "CLIENT_SECRETS",
        "SECRET_KEY",
        "SSH_PRIVATE_KEY",
    ],
)
def test_name_of_a_secret(name: str) -> None:
    assert check.holds_a_secret(name)
    problems = check.location_problems([{**LOCATION, "env": {name: "x"}}], ["a"])
    assert problems == [
        f"dagster_code_locations[etl]: env {name} would show in docker inspect; put it in secrets, it is then the file "
        f"/run/secrets/{name}"
    ]


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "DB_PASSWORD_FILE", "SECRET_NAME", "AWS_ACCESS_KEY_ID", "MONKEY", "KEYSPACE"]
)
def test_name_of_no_secret(name: str) -> None:
    assert not check.holds_a_secret(name)


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (1, 1),
        ("8080", 8080),
        (65535, 65535),
        (0, 0),
        ("0", 0),
        (65536, 0),
        (-1, 0),
        ("80a", 0),
        ("", 0),
        (None, 0),
        (True, 0),
        ("\N{SUPERSCRIPT TWO}", 0),
        ("\N{ARABIC-INDIC DIGIT THREE}", 0),
    ],
)
def test_port(value: Any, port: int) -> None:
    assert check.port_of(value) == port


def test_ports_of_a_host() -> None:
    variables = {**VARIABLES, "dagster_webserver_read_only_port": "3009", "dagster_nginx_read_only_port": 8081}
    found = {entry["variable"]: entry["port"] for entry in check.wanted_ports("a", ONE, variables)}
    assert found == {
        "dagster_database_port": 5432,
        "dagster_webserver_ports": 3001,
        "dagster_webserver_ports + dagster_webserver_agent_offset": 13001,
        "dagster_webserver_read_only_port": 3009,
        "dagster_webserver_read_only_port + dagster_webserver_agent_offset": 13009,
        "dagster_nginx_port": 8080,
        "dagster_nginx_read_only_port": 8081,
        "dagster_code_locations[etl].port": 4000,
    }
    found_ports = [entry["port"] for entry in check.wanted_ports("a", ONE, VARIABLES)]
    assert found_ports == [5432, 3000, 3001, 13000, 13001, 8080, 4000]
    assert check.wanted_ports("b", ONE, VARIABLES) == []


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"dagster_nginx_port": "8081"}, []),
        ({"dagster_nginx_port": 0}, ["dagster_nginx_port is 0; a port is a number from 1 to 65535"]),
        ({"dagster_nginx_port": "http"}, ["dagster_nginx_port is 'http'; a port is a number from 1 to 65535"]),
        (
            {"dagster_nginx_port": "3000"},
            [
                "port 3000 is set 2 times on one host: dagster_webserver_ports and dagster_nginx_port; "
                "each needs a port of its own"
            ],
        ),
        (
            {"dagster_webserver_ports": [3000, 3000]},
            [
                "port 3000 is set 2 times on one host: dagster_webserver_ports and dagster_webserver_ports; "
                "each needs a port of its own"
            ],
        ),
        # nginx on two addresses is one port all the same
        ({"dagster_nginx_listen": ["127.0.0.1", "10.0.0.1"]}, []),
    ],
)
def test_ports(changes: dict[str, Any], problems: list[str]) -> None:
    assert check.port_problems(check.wanted_ports("a", ONE, {**VARIABLES, **changes})) == problems


def listener(port: int, unit: str, address: str = "127.0.0.1", process: str = "x") -> dict[str, Any]:
    return {"port": port, "address": address, "process": process, "unit": unit}


@pytest.mark.parametrize(
    ("held", "changes", "problems"),
    [
        ([], {}, []),
        # a second run finds our own services
        (
            [
                listener(5432, "postgresql@15-main.service", "0.0.0.0"),
                listener(3000, "dagster-webserver@3000.service"),
                listener(8080, "nginx.service"),
                listener(4000, "docker.service"),
                listener(22, "ssh.service", "0.0.0.0"),
            ],
            {},
            [],
        ),
        (
            [listener(8080, "tomcat.service", "::", "java")],
            {},
            ["port 8080 is held by java of tomcat.service on ::; stop it or change dagster_nginx_port"],
        ),
        ([listener(8080, "tomcat.service", "10.0.0.1")], {}, []),
        (
            [listener(8080, "tomcat.service", "10.0.0.1")],
            {"dagster_nginx_listen": ["127.0.0.1", "10.0.0.1"]},
            ["port 8080 is held by x of tomcat.service on 10.0.0.1; stop it or change dagster_nginx_port"],
        ),
        (
            [listener(5432, "", "10.0.0.1", "")],
            {},
            ["port 5432 is held by another process on 10.0.0.1; stop it or change dagster_database_port"],
        ),
        # ours, but not the one that is to be there
        (
            [listener(3001, "dagster-webserver-read-only@3001.service")],
            {},
            [
                "port 3001 is held by x of dagster-webserver-read-only@3001.service on 127.0.0.1; "
                "stop it or change dagster_webserver_ports"
            ],
        ),
    ],
)
def test_taken_ports(held: list[dict[str, Any]], changes: dict[str, Any], problems: list[str]) -> None:
    wanted = check.wanted_ports("a", ONE, {**VARIABLES, **changes}, bind="127.0.0.1", publish="127.0.0.1")
    assert check.taken_port_problems(wanted, held) == problems


def test_memory() -> None:
    parts = check.MEMORY_MB
    whole = sum(parts.values()) + parts["webserver"]  # two replicas, one of each other
    assert check.memory_problems("a", ONE, VARIABLES, whole) == []
    problems = check.memory_problems("a", ONE, VARIABLES, whole - 1)
    assert problems[0].startswith(f"the host has {whole - 1} MiB of memory, its part of the stack needs {whole} (")
    assert f"2 x webserver of {parts['webserver']}" in problems[0]
    assert "fewer dagster_webserver_ports or a larger host" in problems[0]
    proxy = {kind: ["b"] for kind in KINDS} | {"proxy": ["a"]}
    assert check.memory_problems("a", proxy, VARIABLES, parts["system"]) == []
    with_read_only = {**VARIABLES, "dagster_webserver_read_only_port": "3009"}
    assert check.memory_problems("a", ONE, with_read_only, whole + parts["webserver"] - 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"dagster_version": None}, []),  # that it is required, the spec says
        (
            {"dagster_version": "1.13.72"},
            ["dagster_version is 1.13.72; supported are 1.13.27, 1.13.26", "did you mean"],
        ),
        ({"dagster_webserver_path_prefix": "/a/b-c"}, []),
        ({"dagster_webserver_path_prefix": "/a/"}, ["dagster_webserver_path_prefix is '/a/'", "for example '/a'"]),
        ({"dagster_webserver_path_prefix": "a"}, ["dagster_webserver_path_prefix is 'a'", "for example '/a'"]),
        ({"dagster_docker_network_subnet": "10.1.0.0/24"}, []),
        ({"dagster_docker_network_subnet": "172.30.0.1/24"}, ["has host bits set; for example 172.30.0.0/24"]),
        ({"dagster_docker_network_subnet": "172.30.0.0/31"}, ["172.30.0.0/31 has no room for containers"]),
        ({"dagster_docker_bridge_address": "docker0"}, ["dagster_docker_bridge_address: 'docker0' does not appear"]),
        (
            {"dagster_docker_bridge_address": "172.30.0.1/16"},
            ["dagster_docker_network_subnet 172.30.0.0/24 overlaps dagster_docker_bridge_address 172.30.0.0/16"],
        ),
    ],
)
def test_values(changes: dict[str, Any], words: list[str]) -> None:
    problems = check.value_problems({**VARIABLES, **changes}, ["1.13.27", "1.13.26"])
    assert len(problems) == (1 if words else 0), problems
    assert all(word in problems[0] for word in words), problems


@pytest.mark.parametrize(
    ("plain", "secret", "problems"),
    [
        ({}, {}, []),
        ({"AWS_REGION": "eu-central-1", "N": 1}, {"STORE_PASSWORD": "x"}, []),
        (
            {"A-B": "x"},
            {},
            ["dagster_environment: 'A-B' is no name of an environment variable; letters, digits and '_' are"],
        ),
        ({}, {"PGPASSFILE": "x"}, ["dagster_secret_environment: PGPASSFILE is set by the collection; remove it"]),
        ({"A": ["x"]}, {}, ["dagster_environment: A is a list; an environment variable is text"]),
        (
            {"STORE_PASSWORD": "x"},
            {},
            ["dagster_environment: STORE_PASSWORD would show in docker inspect; put it in dagster_secret_environment"],
        ),
        ({"A": "x"}, {"A": "y"}, ["A is in dagster_environment and in dagster_secret_environment; keep one"]),
    ],
)
def test_environment(plain: dict[str, Any], secret: dict[str, Any], problems: list[str]) -> None:
    variables = {"dagster_environment": plain, "dagster_secret_environment": secret}
    assert check.environment_problems(variables, []) == problems


# The way to the engine


TWO_HOSTS = {**ONE, "daemon": ["a"], "webserver": ["a", "c"], "run": ["b"]}


@pytest.mark.parametrize(
    ("endpoints", "brought", "words"),
    [
        ({}, "", ""),
        ({"a": "tcp://x:2376", "c": "tcp://x:2376"}, "PEM", ""),
        ({"a": "tcp://x:2376", "c": "tcp://x:2376"}, "", "an engine that this collection does not set up; bring"),
        ({"a": "tcp://x:2376", "c": "tcp://y:2376"}, "PEM", "differs (tcp://x:2376 on a, tcp://y:2376 on c); with two"),
        ({"a": "tcp://x:2376"}, "PEM", "differs (tcp://x:2376 on a, none on c)"),
        (dict.fromkeys("ac", "unix:///run/docker.sock"), "", "but runs start on b: two engines for one instance"),
        (dict.fromkeys("ac", "ssh://x"), "PEM", "is reached at tcp://ADDRESS:PORT"),
    ],
)
def test_engine(endpoints: dict[str, str], brought: str, words: str) -> None:
    variables = {**VARIABLES, "dagster_docker_tls_client_cert": brought}
    problems = check.engine_problems("a", TWO_HOSTS, variables, endpoints)
    assert len(problems) == bool(words), problems
    assert not words or words in problems[0]
    assert check.engine_problems("b", TWO_HOSTS, variables, endpoints) == []
    assert check.engine_problems("a", ONE, variables, {"a": "tcp://x:1"}) == [], "it is on the engine's own host"


@pytest.mark.parametrize(
    ("packages", "changes", "words"),
    [
        (["docker.io"], {}, ""),
        ([], {"dagster_docker_tls_client_cert": "x", "dagster_docker_tls_cert": "x"}, ""),
        ([], {"dagster_docker_tls_client_cert": "x"}, "the engine of this host has no certificate"),
        (["docker-ce"], {}, "a, c cannot reach the engine of this host: it comes from docker-ce"),
        (["docker-ce"], {"dagster_docker_tls_client_cert": "x"}, ""),
    ],
)
def test_engine_of_another_source(packages: list[str], changes: dict[str, str], words: str) -> None:
    problems = check.foreign_engine_problems("b", TWO_HOSTS, {**VARIABLES, **changes}, packages)
    assert len(problems) == bool(words), problems
    assert not words or words in problems[0]
    assert check.foreign_engine_problems("a", ONE, VARIABLES, ["docker-ce"]) == []


VIP = {"dagster_nginx_vip": "10.0.0.9/24", "dagster_nginx_listen": "0.0.0.0"}


@pytest.mark.parametrize(
    ("changes", "proxies", "words"),
    [
        ({}, "ab", ""),
        ({"dagster_nginx_vip": ""}, "a", ""),
        ({"dagster_nginx_listen": "10.0.0.9"}, "ab", ""),
        ({"dagster_nginx_listen": ["127.0.0.1", "10.0.0.9"]}, "ab", ""),
        ({"dagster_nginx_vip": "10.0.0.9"}, "ab", "dagster_nginx_vip is 10.0.0.9; it is an IPv4 address with the"),
        ({"dagster_nginx_vip": "10.0.0.9/33"}, "ab", "dagster_nginx_vip is 10.0.0.9/33; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "10.0.0.0/24"}, "ab", "dagster_nginx_vip is 10.0.0.0/24; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "127.0.0.9/8"}, "ab", "dagster_nginx_vip is 127.0.0.9/8; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "vip.example.com/24"}, "ab", "dagster_nginx_vip is vip.example.com/24; it is an IPv4"),
        ({"dagster_nginx_vip": "fd00::9/64"}, "ab", "dagster_nginx_vip is fd00::9/64; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "10.0.0.2/24"}, "ab", "dagster_nginx_vip is 10.0.0.2/24, the address of b; it is one"),
        (
            {},
            "a",
            "dagster_nginx_vip is set, but a is the only host of group dagster_proxy; an address is shared",
        ),
        (
            {},
            "ac",
            "dagster_nginx_vip needs the IPv4 address of each proxy, and c is known as c.example.com; give",
        ),
        (
            {"dagster_nginx_listen": "127.0.0.1"},
            "ab",
            "dagster_nginx_vip is 10.0.0.9/24, but dagster_nginx_listen is 127.0.0.1 and nothing would answer there; "
            "set dagster_nginx_listen to 10.0.0.9, or to 0.0.0.0",
        ),
        ({"dagster_nginx_listen": ["10.0.0.1"]}, "ab", "dagster_nginx_vip is 10.0.0.9/24, but dagster_nginx_listen is"),
        (
            {"dagster_nginx_vip_router_id": 256},
            "ab",
            "dagster_nginx_vip_router_id is 256; it is a number from 1 to 255",
        ),
    ],
)
def test_shared_address(changes: dict[str, Any], proxies: str, words: str) -> None:
    variables = {**VARIABLES, **VIP, **changes}
    vips = dict.fromkeys(proxies, variables["dagster_nginx_vip"])
    problems = check.vip_problems({**ONE, "proxy": list(proxies)}, ADDRESSES, variables, vips)
    assert len(problems) == bool(words), problems
    assert not words or problems[0].startswith(words)


def test_shared_address_is_one() -> None:
    problems = check.vip_problems(ONE, ADDRESSES, {**VARIABLES, **VIP}, {"a": "10.0.0.9/24", "b": ""})
    assert problems == ["dagster_nginx_vip differs between the proxies (10.0.0.9/24 on a, none on b); they share one"]


def test_host_for_the_shared_address() -> None:
    known = {"nginx_vip_interface": "eth0", "nginx_address": "10.0.0.1"}
    variables = {**VARIABLES, **VIP}
    ours = [check.VIP_PROGRAM, check.KEEPALIVED_CONFIG]
    assert check.vip_host_problems(known, variables, []) == check.vip_host_problems(known, variables, ours) == []
    assert "somebody else" in check.vip_host_problems(known, variables, ours[1:])[0]
    lost = check.vip_host_problems({**known, "nginx_vip_interface": ""}, variables, [])
    assert lost[0].endswith("network with its address 10.0.0.1; name one in dagster_nginx_vip_interface")
    assert check.vip_host_problems({}, VARIABLES, ours[1:]) == [], "theirs is no concern of ours without the option"


@pytest.mark.parametrize(
    ("address", "interface"), [("10.0.0.1", "eth0"), ("10.0.1.1", "eth1"), ("10.1.0.1", ""), ("a.example.com", "")]
)
def test_interface_of_an_address(address: str, interface: str) -> None:
    assert check.interface_of(address, {"10.0.0.0/16": "eth0", "10.0.1.0/24": "eth1"}) == interface


def test_topology_of_a_shared_address() -> None:
    found = topology("b", {"proxy": ["b", "a"]}, **VIP)
    assert (found["nginx_address"], found["nginx_peers"]) == ("10.0.0.2", ["10.0.0.2", "10.0.0.1"])
    assert topology("c", {"proxy": ["b", "a"]}, **VIP)["nginx_address"] == ""


def test_health_is_asked_of_the_hosts_own_edge() -> None:
    """At the shared address another host may answer."""
    variables = {**VARIABLES, **VIP, "dagster_nginx_listen": "10.0.0.9"}
    assert check.nginx_addresses(variables) == ["10.0.0.9", "127.0.0.1"]
    assert check.edge_url(variables) == "http://127.0.0.1:8080"
    assert check.nginx_addresses({**variables, "dagster_nginx_listen": "0.0.0.0"}) == ["0.0.0.0"]


LOCAL_LOGS = {"compute_logs": {"class": "LocalComputeLogManager"}}


@pytest.mark.parametrize(
    ("config", "groups", "shared", "refused"),
    [
        (LOCAL_LOGS, ONE, False, False),
        (LOCAL_LOGS, TWO_HOSTS, False, True),
        ({}, TWO_HOSTS, False, True),
        (LOCAL_LOGS, TWO_HOSTS, True, False),
        (LOCAL_LOGS, TWO_HOSTS, "yes", False),
        ({"compute_logs": {"class": "S3ComputeLogManager"}}, TWO_HOSTS, False, False),
    ],
)
def test_compute_logs(config: dict[str, Any], groups: dict[str, list[str]], shared: Any, refused: bool) -> None:
    problems = check.compute_log_problems(groups, {**VARIABLES, "dagster_compute_logs_shared": shared}, config)
    assert len(problems) == refused
    if refused:
        assert problems[0].startswith(
            "compute logs are files on b, where runs write them, and a, c could not show them"
        )
        assert "dagster_compute_logs_shared" in problems[0]


def test_names_of_other_hosts() -> None:
    assert check.names_to_resolve("a", ADDRESSES) == ["c.example.com"]
    assert check.names_to_resolve("c", ADDRESSES) == []
    assert check.names_to_resolve("dagster1", {"dagster1": "dagster1"}) == []


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (1000.5, ""),
        (1061.0, ""),
        (940.0, ""),
        (1302.0, "the host's clock is 300 s ahead of the controller's"),
        (700.0, "the host's clock is 300 s behind the controller's"),
    ],
)
def test_clock(clock: float, words: str) -> None:
    problems = check.surroundings_problems({"time": clock}, 1000.0, 1002.0)
    assert len(problems) == bool(words)
    assert not words or problems[0].startswith(words)


def test_name_that_a_host_does_not_know() -> None:
    assert check.surroundings_problems({"unresolved": ["ctl1"]}, 0, 1) == [
        "the host cannot resolve ctl1, another host of the inventory; give that one a dagster_address"
    ]


# Connections to the database


@pytest.mark.parametrize(
    ("config", "runs"),
    [
        ({}, 10),
        ({"concurrency": {"runs": {"max_concurrent_runs": 3}}}, 3),
        ({"concurrency": {"runs": {"max_concurrent_runs": "4"}}}, 4),
        ({"run_queue": {"max_concurrent_runs": 0}}, 0),
        ({"run_coordinator": {"class": "QueuedRunCoordinator", "config": {"max_concurrent_runs": 5}}}, 5),
        ({"run_coordinator": {"class": "QueuedRunCoordinator"}}, 10),
        ({"concurrency": {"runs": {"max_concurrent_runs": -1}}}, -1),
        ({"run_coordinator": {"class": "DefaultRunCoordinator"}}, -1),
    ],
)
def test_concurrent_runs(config: dict[str, Any], runs: int) -> None:
    assert check.concurrent_runs(config) == runs


def test_threads_of_the_daemon() -> None:
    assert check.workers({}) == check.workers({"sensors": {"use_threads": False, "num_workers": 9}}) == 0
    threads = {"use_threads": True, "num_workers": 4, "num_submit_workers": 2}
    assert check.workers({"sensors": threads, "schedules": {"use_threads": True}}) == 4 + 2 + check.DEFAULT_WORKERS
    queue = {"dequeue_use_threads": True, "dequeue_num_workers": 5}
    assert check.workers({"run_coordinator": {"config": queue}}) == check.workers({"run_queue": queue}) == 5


def budget(groups: dict[str, list[str]] | None = None, runs: int = 10, **variables: Any) -> dict[str, Any]:
    config = {"concurrency": {"runs": {"max_concurrent_runs": runs}}}
    return check.connection_budget({**ONE, **(groups or {})}, {**VARIABLES, **variables}, config)


def test_budget_of_a_single_host() -> None:
    found = budget()
    assert found["parts"] == {
        "webservers": 126,
        "daemon": 16,
        "guard": 2,
        "code servers": 3,
        "runs": 30,
        "migration": 5,
        "reserve": 10,
    }
    assert (found["need"], found["limit"], found["overflow"]) == (192, 200, 20)
    assert check.budget_problems(found) == []


def test_budget_grows_with_the_deployment() -> None:
    found = budget({"webserver": ["a", "b"]}, dagster_webserver_read_only_port="3009")
    assert found["replicas"] == 6
    assert found["parts"]["webservers"] == 6 * 3 * 21
    assert found["limit"] == 450 >= found["need"]
    assert budget({"daemon": ["a", "b"]})["parts"]["daemon"] == 32
    assert budget(runs=0, dagster_webserver_options={"db_pool_max_overflow": 0})["limit"] == 100


def test_pools_fit_a_server_that_was_told_to_take_less() -> None:
    found = budget(dagster_postgres_max_connections="120")
    assert found["overflow"] == 8
    assert found["need"] <= found["limit"] == 120
    assert check.budget_problems(found) == []
    assert budget(dagster_postgres_max_connections=5000)["overflow"] == 20
    options = {"max_connections": "150"}
    assert budget(dagster_postgres_options=options, dagster_postgres_max_connections=500)["limit"] == 150


def test_budget_that_does_not_fit_is_refused_with_its_numbers() -> None:
    found = budget({"webserver": ["a", "b"]}, dagster_postgres_max_connections=130)
    (problem,) = check.budget_problems(found)
    assert problem.startswith(
        "the database takes 130 connections and the deployment may open 138 (webservers 4 x 3 x (1 + 5) = 72, "
        "daemon 16, guard 2, code servers 3, runs 30, migration 5, reserve 10); raise dagster_postgres_max_connections"
    )
    wide = budget(dagster_postgres_max_connections=191, dagster_webserver_options={"db_pool_max_overflow": 20})
    assert "may open 192 (webservers 2 x 3 x (1 + 20) = 126" in check.budget_problems(wide)[0]


def test_runs_without_a_limit_fit_no_server() -> None:
    (problem,) = check.budget_problems(budget(runs=-1))
    assert "set concurrency.runs.max_concurrent_runs" in problem


def test_limits_of_the_logins() -> None:
    found = budget()
    limits = check.connection_limits(found, VARIABLES, ["dagster_daemon_a"])
    assert limits == {
        "dagster": 126,
        "dagster_guard": 2,
        "dagster_run": 41,
        "dagster_migration": 5,
        "dagster_daemon_a": 16,
    }
    assert sum(limits.values()) + check.RESERVE_CONNECTIONS == found["limit"]
    assert check.connection_limits(found, VARIABLES, [])["dagster"] == 142, "a daemon without a login of its own"
    assert limits["dagster_run"] >= found["parts"]["runs"] + found["parts"]["code servers"]
