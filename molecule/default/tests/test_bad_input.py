"""Bad input gets one clear error that names the variable, before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployment import RIG, ROOT, Play, identities

LOCATION = {
    "name": "pipeline",
    "port": 4000,
    "module": "pipeline.definitions",
    "build": {"context": str(ROOT / "examples/pipeline")},
}

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "misspelt variable": ({"dagster_nginx_prot": 80}, ["dagster_nginx_prot", "did you mean dagster_nginx_port?"]),
    "misspelt option": ({"dagster_webserver_options": {"db_pool_recylce": 1}}, ["db_pool_recylce", "db_pool_recycle"]),
    "missing secret": ({"dagster_database_run_password": ""}, ["dagster_database_run_password is not set"]),
    "unsupported version": ({"dagster_version": "1.12.3"}, ["dagster_version is 1.12.3", "1.13.27, 1.13.26"]),
    "two locations of one name": (
        {"dagster_code_locations": [LOCATION, {**LOCATION, "port": 4001}]},
        ["2 locations named pipeline"],
    ),
    "two locations on one port": (
        {"dagster_code_locations": [LOCATION, {**LOCATION, "name": "other"}]},
        ["port 4000 is set 2 times", "dagster_code_locations[other].port"],
    ),
    "prefix without slash": (
        {"dagster_webserver_path_prefix": "dagster"},
        ["dagster_webserver_path_prefix is 'dagster'", "'/dagster'"],
    ),
    "lease that is too short": (
        {"dagster_daemon_lease_ttl": 5},
        ["dagster_daemon_lease_ttl is 5; it is at least 12", "a standby starts before the old daemon has ended"],
    ),
    "port that is none": ({"dagster_nginx_port": 70000}, ["dagster_nginx_port is 70000", "1 to 65535"]),
    "image that does not exist": (
        {"dagster_code_locations": [{"name": "none", "module": "x", "image": "127.0.0.1:1/no/such:image"}]},
        ["127.0.0.1:1/no/such:image", "dagster_code_locations"],
    ),
    "context that does not exist": (
        {"dagster_code_locations": [{**LOCATION, "build": {"context": "/no/such/folder"}}]},
        ["/no/such/folder", "dagster_code_locations"],
    ),
    "literal password": (
        {"dagster_config": {"storage": {"postgres": {"postgres_db": {"password": "hunter2hunter2"}}}}},
        ["dagster_config.storage.postgres.postgres_db.password", "PGPASSFILE"],
    ),
    "secret in the environment": (
        {"dagster_code_locations": [{**LOCATION, "env": {"API_TOKEN": "x"}}]},
        ["API_TOKEN would show in docker inspect", "secrets"],
    ),
    "host without memory": (
        {"dagster_webserver_ports": list(range(20000, 20400))},
        ["MiB of memory", "dagster_webserver_ports"],
    ),
    "database named twice": (
        {"dagster_database_host": "192.0.2.1"},
        ["dagster_database_host names an external server"],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def untouched(host: Any) -> Any:
    """Nothing on the host differs after all of these."""
    before = identities(host)
    yield
    assert identities(host) == before


def refused(result: Play, words: list[str]) -> None:
    """One error with all these words, and no change."""
    assert result.rc != 0
    assert result.changed == 0
    text = " ".join(result.output.split())
    for word in words:
        assert word in text, f"{word!r} is not in:\n{result.output}"
    assert "Traceback" not in result.output


@pytest.mark.parametrize("case", BAD)
def test_bad_variable(play: Callable[..., Play], case: str) -> None:
    variables, words = BAD[case]
    result = play("site.yml", "-e", json.dumps(variables), ok=False)
    refused(result, words)
    assert "hunter2hunter2" not in result.output


EXTERNAL = {"dagster_database_host": "127.0.0.1", "dagster_daemon_fencing": "lease_only"}


def test_unreachable_external_database(play: Callable[..., Play], tmp_path: Path) -> None:
    groups: dict[str, Any] = {
        kind: {"hosts": {"dagster1": {}}} for kind in ("webserver", "daemon", "code", "run", "proxy")
    }
    source = hosts_file(tmp_path, groups)
    result = play(
        "site.yml",
        "-e",
        json.dumps({**EXTERNAL, "dagster_database_port": 5999}),
        ok=False,
        inventories=source,
    )
    refused(result, ["dagster_database_host", "127.0.0.1:5999 cannot be reached"])


def test_something_else_where_the_database_should_be(play: Callable[..., Play], tmp_path: Path) -> None:
    groups: dict[str, Any] = {
        kind: {"hosts": {"dagster1": {}}} for kind in ("webserver", "daemon", "code", "run", "proxy")
    }
    result = play(
        "site.yml",
        "-e",
        json.dumps({**EXTERNAL, "dagster_database_port": 22}),
        ok=False,
        inventories=hosts_file(tmp_path, groups),
    )
    refused(result, ["127.0.0.1:22 answers, but not as a PostgreSQL server"])


def test_no_daemon_host(play: Callable[..., Play], tmp_path: Path) -> None:
    groups: dict[str, Any] = {
        kind: {"hosts": {"dagster1": {}}} for kind in ("database", "webserver", "code", "run", "proxy")
    }
    source = hosts_file(tmp_path, {**groups, "daemon": {"hosts": {}}})
    refused(play("site.yml", ok=False, inventories=source), ["group dagster_daemon has no host"])


def test_port_held_by_somebody_else(play: Callable[..., Play], host: Any) -> None:
    host.check_output("systemd-run --unit=squatter -q python3 -m http.server 3055 --bind 127.0.0.1")
    try:
        ports = '{"dagster_webserver_ports": [3000, 3055]}'
        refused(
            play("site.yml", "-e", ports, ok=False),
            ["port 3055 is held by python3 of squatter.service", "dagster_webserver_ports"],
        )
    finally:
        host.check_output("systemctl stop squatter")


def test_unsupported_system(play: Callable[..., Play], host: Any) -> None:
    host.check_output("mount --bind /etc/hostname /etc/os-release")
    try:
        refused(play("site.yml", ok=False), ["supported is debian bookworm"])
    finally:
        host.check_output("umount /etc/os-release")


def hosts_file(folder: Path, groups: dict[str, Any]) -> list[str]:
    """Inventories with these groups and the rig's addresses."""
    path = folder / "hosts.json"
    path.write_text(json.dumps({"all": {"children": {f"dagster_{kind}": group for kind, group in groups.items()}}}))
    variables = ROOT / "inventories/single_host/group_vars"
    (folder / "group_vars").symlink_to(variables)
    return [str(path), str(RIG)]
