"""Which PostgreSQL cluster of a host is ours; who may connect to it from where, and where it listens for them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from plans import FACTS, component, fact, groups, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import postgres


def test_database_on_a_host_of_its_own() -> None:
    found = groups(database=["b"])
    stack, database = fact("a", found), fact("b", found)
    addresses = [stack["options"][f"dagster_database_{kind}host"] for kind in ("", "run_", "code_")]
    assert addresses == ["10.0.0.2", "10.0.0.2", "10.0.0.2"]
    assert database["options"]["dagster_postgres_listen_addresses"] == ["10.0.0.2", "127.0.0.1"]
    assert database["options"]["dagster_postgres_clients"] == [
        {
            "address": "10.0.0.1/32",
            "users": ["dagster", "dagster_migration", "dagster_guard", "dagster_daemon_a"],
            "tls": True,
        },
        {"address": "10.0.0.1/32", "users": ["dagster_code", "dagster_run"], "tls": True},
    ]
    assert "code_location" not in database, "no code server is there"
    assert stack["options"]["dagster_code_endpoints"][0]["host"] == "127.0.0.1"


def test_host_that_is_known_by_name_only() -> None:
    """pg_hba.conf takes a name as it is, and refuses one with a /32 behind it."""
    found = options("a", groups(code=["c"]))
    assert {"address": "c.example.com", "users": ["dagster_code"], "tls": True} in found["dagster_postgres_clients"]


HBA = "/etc/postgresql/15/dagster/dagster/pg_hba.conf"
OF_RUNS = [{"address": "c.example.com", "users": ["dagster_run"], "tls": True}]
IN_THE_NETWORK_OF_RUNS = [{"address": "172.30.0.0/24", "users": ["dagster_code"]}]


@pytest.mark.parametrize(
    ("paths", "lines", "before"),
    [
        ([], [], []),  # a bare host
        ([HBA], ["Managed by dataops.dagster"], [*IN_THE_NETWORK_OF_RUNS, *OF_RUNS]),
        ([HBA], ["Managed by dataops.dagster", "Closed"], IN_THE_NETWORK_OF_RUNS),
        ([HBA], ["Managed by dataops.dagster", "Separate"], []),
    ],
)
def test_code_servers_of_an_earlier_release(paths: list[str], lines: list[str], before: list[Any]) -> None:
    """They have the login of runs, or their own in the network of runs. Both are let in until they are replaced.

    Where runs start, their login stays.
    """
    known = {**FACTS, "paths": paths, "lines": {HBA: lines} if paths else {}}
    assert plan("a", groups(code=["a", "c"])).as_fact(known)["postgres"]["before"] == before


@pytest.mark.parametrize(
    ("tls", "paths", "offered"),
    [(True, [], True), (False, [], False), (False, ["/etc/ssl/dagster-database/cert.pem"], True)],
)
def test_tls_that_is_turned_off_is_offered_still(tls: bool, paths: list[str], offered: bool) -> None:
    """Clients verify the server until they are played. Nobody has to use it any more."""
    found = plan("b", groups(database=["b"]), dagster_database_tls=tls).as_fact({**FACTS, "paths": paths})
    assert found["postgres"]["offers_tls"] is offered
    assert [client.get("tls", False) for client in found["options"]["dagster_postgres_clients"]] == [tls, tls]


def test_share_of_each_login() -> None:
    found = options("c", groups(database=["c"], daemon=["a", "b"]))
    assert found["dagster_postgres_max_connections"] == 250
    assert found["dagster_postgres_connection_limits"]["dagster_daemon_b"] == 16
    told = options(dagster_postgres_daemon_logins=["mine"])
    assert "mine" in told["dagster_postgres_connection_limits"]


MARK = "/etc/sysctl.d/60-dagster-postgres.conf"
RECORD = "/usr/local/lib/dagster/installed/.complete"
MAIN, OURS = "/etc/postgresql/15/main", "/etc/postgresql/15/dagster"
DATA = "/var/lib/postgresql/15/dagster/PG_VERSION"
AUTO = "/var/lib/postgresql/15/main/postgresql.auto.conf"
# What a host has of a cluster that nobody but Debian's package has touched.
UNTOUCHED = [f"{MAIN}/postgresql.conf", "/var/lib/postgresql/15/main/PG_VERSION"]
INSTALLED = {"postgresql-15": "15.9", "python3-psycopg2": "2.9"}


def found(paths: list[str], **more: Any) -> dict[str, Any]:
    """The facts of a host with PostgreSQL."""
    return {**FACTS, "packages": INSTALLED, "paths": paths, **more}


def handed(paths: list[str], **more: Any) -> dict[str, Any]:
    """What the role is given there."""
    given: dict[str, Any] = plan().as_fact(found(paths, **more))["postgres"]
    return given


def problems(paths: list[str], variables: dict[str, Any] | None = None, **more: Any) -> list[str]:
    """The sentences about it."""
    said: list[str] = component("postgres", **(variables or {})).host_problems(found(paths, **more))
    return said


def test_server_is_the_one_of_the_release() -> None:
    assert fact()["packages"]["postgres"] == ["postgresql-15", "python3-psycopg2"]


def test_cluster_of_a_bare_host_has_the_name_of_the_instance() -> None:
    assert fact()["postgres"] == {
        "version": "15",
        "cluster": "dagster",
        "etc": OURS,
        "config": f"{OURS}/postgresql.conf",
        "unit": "postgresql@15-dagster.service",
        "readers": ["a"],
        "max_connections": 200,
        "local": ["dagster", "dagster_migration", "dagster_guard", "dagster_daemon_a"],
        "before": [],
        "tls": [],
        "offers_tls": False,
        "tls_folder": "/etc/ssl/dagster-database",
        "made": False,
        "no_main": "/etc/postgresql-common/createcluster.d/dagster.conf",
        "sysctl": MARK,
        "sysctl_unit": "sysctl-dagster-postgres.service",
    }
    assert fact("a", dagster_instance_name="etl")["postgres"]["unit"] == "postgresql@15-etl.service"


def test_package_makes_no_main_on_a_bare_host() -> None:
    folder, file = fact()["package_files"]["postgres"]
    assert folder == {"dest": "/etc/postgresql-common/createcluster.d", "state": "directory"}
    assert file["dest"] == fact()["postgres"]["no_main"]
    assert file["content"].splitlines()[1:] == ["create_main_cluster = false"]
    # Where PostgreSQL is, this concerns nothing of ours.
    assert plan().as_fact(found(UNTOUCHED))["package_files"]["postgres"] == []
    # Another major version beside it is one that was not installed.
    assert plan().as_fact({**FACTS, "packages": {"postgresql-14": "14"}})["package_files"]["postgres"] != []


def test_cluster_is_made_beside_another_one() -> None:
    given = handed(UNTOUCHED)
    assert (given["etc"], given["made"]) == (OURS, False)
    assert problems(UNTOUCHED, {"dagster_database_port": 5433}) == []


@pytest.mark.parametrize("record", ["conf.d/dagster.conf", "dagster/pg_hba.conf"])
def test_deployment_of_0_1_stays_in_main(record: str) -> None:
    """Its drop-in is there; one file of it is enough."""
    paths = [*UNTOUCHED, f"{MAIN}/{record}", MARK]
    given = handed(paths)
    assert (given["etc"], given["unit"], given["made"]) == (MAIN, "postgresql@15-main.service", True)
    assert problems(paths) == []


@pytest.mark.parametrize("added", [UNTOUCHED, ["/etc/postgresql/17/main/postgresql.conf"]])
def test_what_others_add_later_changes_nothing(added: list[str]) -> None:
    paths = [
        f"{OURS}/postgresql.conf",
        f"{OURS}/conf.d/dagster.conf",
        "/var/lib/postgresql/15/dagster/PG_VERSION",
        MARK,
    ]
    # The other one has our port in its configuration, but we hold it.
    listeners = [{"port": 5432, "address": "127.0.0.1", "process": "postgres", "unit": "postgresql@15-dagster.service"}]
    with_others = [*paths, *added]
    assert handed(with_others) == handed(paths)
    assert handed(paths)["made"] is True
    assert problems(with_others, listeners=listeners) == []


def test_newer_version_of_our_cluster_is_ours() -> None:
    """An operator has upgraded it by hand: the old one is still there, with the same drop-in."""
    files = ("postgresql.conf", "conf.d/dagster.conf")
    paths = [f"/etc/postgresql/{version}/dagster/{file}" for version in (15, 9.6) for file in files]
    assert handed(paths)["version"] == "15"


def test_play_that_was_killed_before_the_cluster_was_made_makes_it() -> None:
    paths = [*UNTOUCHED, RECORD, f"{OURS}/conf.d/dagster.conf"]
    assert handed(paths)["made"] is False
    assert problems(paths, {"dagster_database_port": 5433}) == []


PORT = (
    "port 5432 is in the configuration of the PostgreSQL cluster 15/main, so it cannot start beside ours; change "
    "dagster_database_port"
)


@pytest.mark.parametrize(
    ("lines", "port", "said"),
    [
        ({}, 5432, [PORT]),  # PostgreSQL's own default
        ({f"{MAIN}/postgresql.conf": ["5432"]}, "5432", [PORT]),
        ({f"{MAIN}/postgresql.conf": ["5433"]}, 5432, []),
        ({f"{MAIN}/postgresql.conf": ["5433"], f"{MAIN}/conf.d/site.conf": ["5432"]}, 5432, [PORT]),
        (
            {
                f"{MAIN}/postgresql.conf": ["5432"],
                "/var/lib/postgresql/15/main/postgresql.auto.conf": ["6"],
            },
            5432,
            [],
        ),
        ({f"{MAIN}/postgresql.conf": ["5432"]}, 5433, []),
    ],
)
def test_port_of_a_cluster_that_does_not_run(lines: dict[str, list[str]], port: Any, said: list[str]) -> None:
    assert problems(UNTOUCHED, {"dagster_database_port": port}, lines=lines) == said


def test_cluster_without_its_server_has_no_port() -> None:
    """A package that was removed leaves the configuration; the server of our version could start it again."""
    old = "/etc/postgresql/13/main/postgresql.conf"
    assert problems([old]) == []
    assert len(problems([old], packages={**INSTALLED, "postgresql-13": "13"})) == 1
    assert len(problems(UNTOUCHED, packages={})) == 1


def test_port_of_a_cluster_that_runs() -> None:
    """The sum over all components lets every cluster have it, so a second run finds ours wherever it is."""
    listener = {"port": 5432, "address": "10.0.0.1", "process": "postgres", "unit": "postgresql@15-main.service"}
    said = plan().host_problems(found(UNTOUCHED, listeners=[listener]), 0, 0)
    assert said == [
        "port 5432 is held by postgres of postgresql@15-main.service on 10.0.0.1; stop it or change "
        "dagster_database_port"
    ]
    assert plan("a", dagster_database_port=5433).host_problems(found(UNTOUCHED, listeners=[listener]), 0, 0) == []
    deployed = [*UNTOUCHED, MARK, f"{MAIN}/conf.d/dagster.conf"]
    assert plan().host_problems(found(deployed, listeners=[listener]), 0, 0) == []


@pytest.mark.parametrize(
    ("port", "words"), [(1024, ""), ("1023", "is 1023; PostgreSQL is not root"), (0, "is 0; a port is")]
)
def test_port_that_postgres_cannot_have(port: Any, words: str) -> None:
    said = plan(dagster_database_port=port).problems()
    assert len(said) == bool(words)
    assert not words or said[0].startswith(f"dagster_database_port {words}")


def test_cluster_of_somebody_else_with_our_name() -> None:
    (said,) = problems([f"{OURS}/postgresql.conf"], lines={f"{OURS}/postgresql.conf": ["6000"]})
    assert said.startswith("the host has a PostgreSQL cluster 15/dagster, which dataops.dagster has not made (")
    assert "dagster_instance_name" in said
    # `main` is no better name than another.
    (said,) = problems(UNTOUCHED, {"dagster_instance_name": "main", "dagster_database_port": 5433})
    assert "PostgreSQL cluster 15/main, which dataops.dagster has not made" in said


@pytest.mark.parametrize("file", ["conf.d/dagster.conf", "dagster/pg_hba.conf"])
def test_file_of_a_dba_with_the_name_of_ours(file: str) -> None:
    """Somebody tuned `main` for a Dagster of their own, and calls the file after it."""
    path, header = f"{MAIN}/{file}", "Managed by dataops.dagster"
    for deployed in ([], [MARK], [RECORD]):
        (said,) = problems([*UNTOUCHED, *deployed, path], lines={path: ["5432"]})
        assert said.startswith(f"the host has a {path} of somebody else (nothing in it says")
        ours = problems([*UNTOUCHED, *deployed, path], lines={path: [header, "5432"]})
        assert len(ours) == (deployed == []), "the control"
    (said,) = problems([*UNTOUCHED, path], lines={path: [header]})
    assert said.startswith(f"{path} says that its PostgreSQL cluster is a deployment's, but nothing else of one is on")


def test_header_and_port_are_read_from_one_file() -> None:
    text = "# Managed by dataops.dagster (role postgres). Add or change.\n# port 1\nport = 5433\n"
    assert re.findall(postgres.PORT_OR_HEADER, text, re.MULTILINE) == ["Managed by dataops.dagster", "5433"]
    lines = {f"{MAIN}/conf.d/dagster.conf": ["5433", "Managed by dataops.dagster"]}
    assert component("postgres").port_of(postgres.Cluster("15", "main"), {**FACTS, "lines": lines}) == 5433


def test_lost_record_begins_no_empty_database() -> None:
    (said,) = problems([*UNTOUCHED, MARK], {"dagster_database_port": 5433})
    assert said.startswith(
        f"{MARK} is there from an earlier deployment, but no PostgreSQL cluster has conf.d/dagster.conf"
    )


@pytest.mark.parametrize("record", [[], [RECORD, f"{OURS}/conf.d/dagster.conf"]])
def test_data_without_its_configuration_is_left_alone(record: list[str]) -> None:
    (said,) = problems([DATA, *record])
    assert said.startswith(f"{DATA} is there, but {OURS}/postgresql.conf is not")
    assert "move /var/lib/postgresql/15/dagster away" in said


def test_what_a_host_keeps_that_has_left_the_group() -> None:
    assert component("postgres").removal() == [
        "systemctl disable --now sysctl-dagster-postgres.service",
        "rm /etc/systemd/system/sysctl-dagster-postgres.service",
        f"rm -r {MARK}",
    ]


def test_cluster_of_a_host_that_has_left_the_group_is_named() -> None:
    """Nothing removes data by itself, so the operator hears which cluster it is."""
    moved = plan("a", groups(database=["b"]))
    assert "/etc/postgresql/*/*/conf.d/dagster.conf" in moved.questions()["paths"]
    for cluster in ("dagster", "main"):
        paths = [MARK, f"/etc/postgresql/15/{cluster}/conf.d/dagster.conf"]
        (said,) = [text for text in moved.warnings({**FACTS, "paths": paths}) if MARK in text]
        assert said.endswith(
            f"rm -r {MARK}. The PostgreSQL cluster 15/{cluster} goes on and keeps its data. pg_dropcluster --stop 15 "
            f"{cluster} removes both for good; no play does that"
        )
    (said,) = [text for text in moved.warnings({**FACTS, "paths": [MARK]}) if MARK in text]
    assert said.endswith(f"rm -r {MARK}")


def test_system_that_is_not_supported_is_said_once() -> None:
    assert problems([], release="bullseye") == []


def test_host_is_asked_for_what_decides() -> None:
    asked = plan().questions()
    assert {"/etc/postgresql/*/*/postgresql.conf", "/etc/postgresql/*/*/conf.d/dagster.conf"} <= set(asked["paths"])
    assert {
        "/etc/postgresql/*/*/dagster/pg_hba.conf",
        "/etc/postgresql/*/*/postgresql.conf",
        "/etc/postgresql/*/*/conf.d/*.conf",
        "/var/lib/postgresql/*/*/postgresql.auto.conf",
    } <= set(asked["lines"])


@pytest.mark.parametrize("line", ["port = 5433\t# (requires restart)", "  port '5433'", "PORT=5433", "port 5433"])
def test_line_that_sets_the_port(line: str) -> None:
    text = f"#port = 1\nport_of_another = 2\n{line}\nmax_connections = 100\n"
    assert re.findall(postgres.PORT, text, re.MULTILINE) == ["5433"]


@pytest.mark.parametrize(
    ("address", "source"),
    [("10.0.0.1", "10.0.0.1/32"), ("fd00::1", "fd00::1/128"), ("db.example.com", "db.example.com")],
)
def test_source_in_pg_hba(address: str, source: str) -> None:
    assert postgres.source(address) == source
