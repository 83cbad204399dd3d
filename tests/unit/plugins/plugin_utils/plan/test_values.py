"""Values that nobody could mean, and that an earlier preflight let through: one sentence each, with the variable."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, LOCATION, component, groups, plan

ENGINE = {"dagster_database_engine": "mysql"}
OWN_SERVER = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}
WITHOUT_SERVER = groups(database=[])
TWO = groups(run=["b"], code=["b"], database=["b"])
PROXIES = groups(proxy=["a", "b"], webserver=["a", "b"])
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # Settings of the server
    "connections that are no number": (
        {"dagster_postgres_options": {"max_connections": "abc"}},
        "dagster_postgres_options: max_connections is 'abc'; it is a whole number from 1 on",
    ),
    "connections of MariaDB": (
        {**ENGINE, "dagster_mysql_options": {"max_connections": "x"}},
        "dagster_mysql_options: max_connections is 'x'; it is a whole number",
    ),
    "port among the settings": (
        {"dagster_postgres_options": {"port": 5555}},
        "dagster_postgres_options: port is set by the collection; use dagster_database_port",
    ),
    "file among the settings": (
        {"dagster_postgres_options": {"hba_file": "/x"}},
        "dagster_postgres_options: hba_file is set by the collection; leave it out",
    ),
    "setting that is empty": (
        {"dagster_postgres_options": {"shared_buffers": None}},
        "dagster_postgres_options: shared_buffers is empty; a setting is text",
    ),
    "setting that is a list": (
        {"dagster_postgres_options": {"work_mem": ["4MB"]}},
        "dagster_postgres_options: work_mem is a list; a setting is text",
    ),
    "name with a dash": (
        {**ENGINE, "dagster_mysql_options": {"max-connections": 50}},
        "'max-connections' is no name of a setting; letters, digits, '_' and '.' are allowed; did you mean max_conn",
    ),
    # Numbers
    "pool without a limit": (
        {"dagster_webserver_options": {"db_pool_max_overflow": -1}},
        "dagster_webserver_options.db_pool_max_overflow is -1; it is a number from 0 to 10000",
    ),
    "negative pool": ({"dagster_webserver_pool_overflow": -1}, "dagster_webserver_pool_overflow is -1; it is a number"),
    "logs for no time": (
        {"dagster_compute_log_retention_days": 0},
        "dagster_compute_log_retention_days is 0; it is a number from 1 to",
    ),
    "runs kept for less than no time": (
        {"dagster_docker_run_retention_hours": -5},
        "dagster_docker_run_retention_hours is -5; it is a number from 1 to",
    ),
    "heartbeat that is always late": ({"dagster_heartbeat_tolerance": 5}, "dagster_heartbeat_tolerance is 5; it is"),
    "renewal after the end": ({"dagster_docker_tls_renew_days": -5}, "dagster_docker_tls_renew_days is -5; it is"),
    "canary without time": ({"dagster_canary": {"timeout": 0}}, "dagster_canary.timeout is 0; it is a number from 1"),
    "no webserver": ({"dagster_webserver_ports": []}, "dagster_webserver_ports is empty; each port is a webserver"),
    "processors without end": (
        {"dagster_code_locations": [{**LOCATION, "cpus": "inf"}]},
        "dagster_code_locations[etl].cpus is inf; expected a number of processors from 0.01 to",
    ),
    # Texts of nginx
    "size as people write it": (
        {"dagster_nginx_max_body_size": "50MB"},
        "dagster_nginx_max_body_size is '50MB'; nginx takes a number with k, m or g behind it; did you mean 50m?",
    ),
    "size that is none": ({"dagster_nginx_max_body_size": "unlimited"}, "dagster_nginx_max_body_size is 'unlimited'"),
    "server name with more behind it": (
        {"dagster_nginx_server_name": "ui.example.com; return 404"},
        "dagster_nginx_server_name is 'ui.example.com; return 404'; expected names of hosts",
    ),
    "server name that is a URL": (
        {"dagster_nginx_server_name": "https://ui.example.com"},
        "dagster_nginx_server_name is",
    ),
    "prefix that is the root": (
        {"dagster_webserver_path_prefix": "/"},
        "dagster_webserver_path_prefix is '/'; it starts with '/' and does not end with one; leave it out",
    ),
    "prefix with a space": ({"dagster_webserver_path_prefix": "/a b"}, "does not end with one; for example '/a-b'"),
    # Logins and names
    "one login for two": (
        {"dagster_database_user": "x", "dagster_database_run_user": "x"},
        "dagster_database_user and dagster_database_run_user are both x; each kind of process has a login of its own",
    ),
    "login that is a role": (
        {"dagster_database_owner_role": "dagster"},
        "dagster_database_user and dagster_database_owner_role are both dagster",
    ),
    "instance called as a network": (
        {"dagster_instance_name": "host"},
        "dagster_instance_name is host, and a network of containers of that name is somebody else's",
    ),
    "instance called as a user": ({"dagster_instance_name": "backup"}, "a user of that name is somebody else's"),
    "instance called as a word": ({"dagster_instance_name": "public"}, "a database or login of that name is somebody"),
    "group of the engine": ({"dagster_group": "docker"}, "dagster_group is docker, which is the system's or another"),
    # dagster.yaml
    "launcher that is empty": (
        {"dagster_config": {"run_launcher": None}},
        "dagster_config.run_launcher: found null, which would take away what runs need",
    ),
    "runs in code servers": (
        {"dagster_config": {"run_launcher": {"module": "dagster", "class": "DefaultRunLauncher"}}},
        "dagster_config.run_launcher is DefaultRunLauncher: a run would be a process of its code server, whose login",
    ),
    "logs that are empty": (
        {"dagster_config": {"compute_logs": None}},
        "dagster_config.compute_logs: found null, which would take away where compute logs go",
    ),
    "level of logs": (
        {"dagster_config": {"python_logs": {"python_log_level": "INFOO"}}},
        "dagster_config.python_logs.python_log_level: found 'INFOO': each run fails",
    ),
    "limit that can never be met": (
        {"dagster_config": {"concurrency": {"runs": {"max_concurrent_runs": 0}}}},
        "dagster_config.concurrency.runs.max_concurrent_runs: found 0: every run stays in the queue",
    ),
    "limit of a tag that can never be met": (
        {"dagster_config": {"concurrency": {"runs": {"tag_concurrency_limits": [{"key": "team", "limit": 0}]}}}},
        "dagster_config.concurrency.runs.tag_concurrency_limits[0].limit: found 0: every run with this tag stays",
    ),
    "limit of a tag above that of all": (
        {
            "dagster_config": {
                "run_coordinator": {
                    "module": "dagster",
                    "class": "QueuedRunCoordinator",
                    "config": {"max_concurrent_runs": 4, "tag_concurrency_limits": [{"key": "team", "limit": 5}]},
                }
            }
        },
        "tag_concurrency_limits[0].limit: found 5, which is never reached: max_concurrent_runs lets in 4 of all",
    ),
    "no pause": (
        {"dagster_config": {"run_monitoring": {"poll_interval_seconds": 0}}},
        "dagster_config.run_monitoring.poll_interval_seconds: found 0",
    ),
    "mode of TLS": (
        {"dagster_config": {"storage": {"postgres": {"postgres_db": {"params": {"sslmode": "verify_full"}}}}}},
        "params.sslmode is 'verify_full'; expected one of allow, disable, prefer, require, verify-ca, verify-full; did",
    ),
    "storage beside the old form": (
        {
            "dagster_config": {
                "storage": {"postgres": {"postgres_db": {"params": {"connect_timeout": 5}}}},
                "run_storage": {"module": "dagster_postgres.run_storage", "class": "PostgresRunStorage", "config": {}},
            }
        },
        "dagster_config.run_storage: found the old form (run_storage), and a deployment has one block storage",
    ),
    "whose server it is": (
        {"dagster_database_external": True},
        "dagster_database_external is true, and the server is a of group dagster_database; leave it out",
    ),
    # Engine
    "engine without a protocol": (
        {"dagster_docker_endpoint": "10.0.0.5"},
        "dagster_docker_endpoint is 10.0.0.5; an engine",
    ),
    "socket without a protocol": (
        {"dagster_docker_socket": "/var/run/docker.sock"},
        "dagster_docker_socket is /var/run/docker.sock; it is the socket of the host's own engine; did you mean unix:///var",
    ),
    "bridge without its length": (
        {"dagster_docker_bridge_address": "172.29.0.1"},
        "dagster_docker_bridge_address is 172.29.0.1; it is the address of the engine in its own network, with",
    ),
    "number among options of logs": (
        {"dagster_docker_config": {"log-opts": {"max-file": 3}}},
        "dagster_docker_config: log-opts.max-file is a number; Docker takes text, so quote it",
    ),
    "driver of logs": (
        {"dagster_docker_config": {"log-driver": "json"}},
        "Docker 20.10 knows no log-driver json, and does not start with it; did you mean json-file?",
    ),
    # Names that are nowhere, folders
    "location of the canary": (
        {"dagster_canary": {"location": "elt"}},
        "dagster_canary.location is 'elt', and dagster_code_locations has etl; did you mean etl?",
    ),
    "secrets inside of what runs mount": (
        {"dagster_home": "/var/lib/dagster/home"},
        "dagster_home is /var/lib/dagster/home, inside of dagster_state_dir (/var/lib/dagster)",
    ),
    "folder of another program": (
        {"dagster_state_dir": "/var/lib/docker"},
        "dagster_state_dir is /var/lib/docker, a folder",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_sentence(what: str) -> None:
    variables, words = REFUSED[what]
    problems = plan(**variables).problems()
    assert [words in problem for problem in problems] == [True], problems


@pytest.mark.parametrize("name", ["dagster_postgres_options", "dagster_postgres_memory_mb"])
def test_settings_of_a_server_that_is_not_ours(name: str) -> None:
    values = {"dagster_postgres_options": {"work_mem": "4MB"}, "dagster_postgres_memory_mb": 512}
    problems = plan("a", WITHOUT_SERVER, **OWN_SERVER, **{name: values[name]}).problems()
    assert problems == [
        f"{name} is set, and the database is a server of yours (db.example.com), which this collection does not set "
        "up; remove it"
    ]
    assert plan("a", WITHOUT_SERVER, **OWN_SERVER).problems() == [], "the control"


def test_authority_of_a_server_that_libpq_knows_by_a_file() -> None:
    (problem,) = plan("a", WITHOUT_SERVER, **OWN_SERVER, dagster_database_tls_ca="PEM").problems()
    assert problem.startswith("dagster_database_tls_ca is set, and the database is a server of yours")
    assert "postgres_db.params.sslrootcert to a file below /var/lib/dagster" in problem


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_database_where_a_container_finds_itself(address: str) -> None:
    given = {**OWN_SERVER, "dagster_database_host": address}
    (problem,) = plan("a", WITHOUT_SERVER, **given).problems()
    assert problem.startswith(f"the database would be at {address} for runs and code servers, where a container finds")


DIFFERENT: dict[str, tuple[Any, dict[str, Any], str]] = {
    "port": (
        TWO,
        {"dagster_database_port": 5444},
        "dagster_database_port differs between the hosts (5444 on b, 5432 on a)",
    ),
    "name": (TWO, {"dagster_database_name": "warehouse"}, "dagster_database_name differs between the hosts"),
    "password": (
        TWO,
        {"dagster_database_migration_password": "another-not-real-77"},
        "dagster_database_migration_password is not the same for b and a; both use it for one login",
    ),
    "prefix": (PROXIES, {"dagster_webserver_path_prefix": "/ui"}, "dagster_webserver_path_prefix differs"),
    "state": (TWO, {"dagster_state_dir": "/srv/state"}, "dagster_state_dir differs between the hosts"),
    "lease": (
        groups(daemon=["a", "b"]),
        {"dagster_daemon_lease_ttl": 40},
        "dagster_daemon_lease_ttl differs between the hosts",
    ),
    "router": (
        PROXIES,
        {"dagster_vip_router_id": 52},
        "dagster_vip_router_id differs between the hosts (51 on a, 52 on b)",
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_hosts_agree_on_what_is_one_for_all(what: str) -> None:
    """Said on one of the two hosts at least, without a secret; the control is the same value for both."""
    hosts, changed, words = DIFFERENT[what]
    shared: dict[str, Any] = (
        {"dagster_vip": "10.0.0.9/24", "dagster_nginx_listen": "10.0.0.9"} if what == "router" else {}
    )
    found = [problem for host in "ab" for problem in plan(host, hosts, {"b": changed}, **shared).problems()]
    assert [problem for problem in found if words in problem], found
    assert "another-not-real" not in str(found)
    same = [problem for host in "ab" for problem in plan(host, hosts, **shared, **changed).problems()]
    assert not [problem for problem in same if "differs" in problem or "not the same" in problem], same


def test_addresses_that_are_no_way_to_a_host() -> None:
    found = plan("a", groups(run=["b"], code=["b"]), {"b": {"dagster_address": "localhost"}}).problems()
    assert [problem for problem in found if problem.startswith("b is known as localhost")], found
    both = {host: {"dagster_address": "10.0.0.7"} for host in "ab"}
    found = plan("a", groups(run=["b"], code=["b"]), both).problems()
    assert [problem for problem in found if problem.startswith("a and b have one address, 10.0.0.7")], found


@pytest.mark.parametrize(("role", "more"), [("postgres", {}), ("mysql", ENGINE)])
def test_memory_that_the_host_has_not(role: str, more: dict[str, Any]) -> None:
    facts = {**FACTS, "memory_mb": 4000}
    for given, said in (
        (5000, [f"dagster_{role}_memory_mb is 5000, and the host has 4000 MiB; set it below that"]),
        (1000, []),
    ):
        problems = component(role, **more, **{f"dagster_{role}_memory_mb": given}).memory_problems(facts)
        assert [problem[: len(words)] for problem, words in zip(problems, said, strict=True)] == said
