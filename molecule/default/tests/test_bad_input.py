"""Bad input gets one clear error that names the variable, before anything is changed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployment import RIG, ROOT, Play, identities
from refusals import refused

LOCATION = {
    "name": "pipeline",
    "port": 4000,
    "module": "pipeline.definitions",
    "build": {"context": str(ROOT / "examples/pipeline")},
}

# One play for each stage of preflight, which says all that it has found: an input, and what is said of it.
TYPES: dict[str, Any] = {
    "dagster_nginx_prot": 80,
    "dagster_nginx_vip": "10.0.0.9/24",
    "dagster_webserver_options": {"db_pool_recylce": 1},
    "dagster_database_run_password": "",
    "dagster_database_migration_password": "hunter2hunter2\n",
}
ALONE: dict[str, Any] = {
    "dagster_version": "1.12.3",
    "dagster_code_locations": [
        LOCATION,
        {**LOCATION, "port": 4001},
        {
            **LOCATION,
            "name": "other",
            "env": {"API_TOKEN": "x", "PGPASSFILE": "/x"},
            "secrets": {"../../containers/pgpass": "x"},
            "container_context": {
                "env_vars": ["SNOWFLAKE_PASSWORD=hunter2hunter2"],
                "container_kwargs": {"privileged": True},
            },
        },
    ],
    "dagster_firewall_sources": {"code": [], "engine": ["10.0.0.300"]},
    "dagster_environment": {"DATABASE_URL": "postgresql://u:hunter2hunter2@db.example.com/x", "DBT_DEBUG": True},
    "dagster_database_run_user": "dagster run",
    "dagster_webserver_path_prefix": "dagster",
    "dagster_daemon_lease_ttl": 5,
    "dagster_nginx_port": 70000,
    "dagster_config": {
        "storage": {"postgres": {"postgres_db": {"password": "hunter2hunter2"}}},
        "local_artifact_storage": {"config": {"base_dir": "/srv/outputs"}},
        "run_launcher": {"config": {"network": "dagster_network", "container_kwargs": {"memory": "2g"}}},
        "concurrency": {"runs": {"tag_concurrency_limits": [{"key": "team", "limit": 0}, {"key": "all", "limit": 11}]}},
    },
    "dagster_database_host": "192.0.2.1",
    "dagster_nginx_listen": ["10.0.0.5:80", "fe80::1%eth0"],
    "dagster_docker_network": "host",
    "dagster_docker_config": {"icc": "no", "registry-mirror": []},
    "dagster_install_dir": "/home/dagster",
    "dagster_proxy": {"http": "user:hunter2hunter2@proxy:3128"},
}
IMAGES: dict[str, Any] = {
    "dagster_code_locations": [{"name": "none", "module": "x", "image": "127.0.0.1:1/no/such:image"}]
}
CONTEXT: dict[str, Any] = {"dagster_code_locations": [{**LOCATION, "build": {"context": "/no/such/folder"}}]}

BAD: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "names and types": (
        TYPES,
        {
            "misspelt variable": ["dagster_nginx_prot", "did you mean dagster_nginx_port?"],
            "renamed variable": ["dagster_nginx_vip is now called dagster_vip"],
            "misspelt option": ["db_pool_recylce", "db_pool_recycle"],
            "password from cat FILE": ["dagster_database_migration_password has a newline as character 15 of 15"],
            "missing secret": ["dagster_database_run_password is not set"],
        },
    ),
    "values": (
        ALONE,
        {
            "unsupported version": ["dagster_version is 1.12.3", "1.13.27, 1.13.26"],
            "two locations of one name": ["2 locations named pipeline"],
            "two locations on one port": ["port 4000 is set 2 times", "dagster_code_locations[other].port"],
            "prefix without slash": ["dagster_webserver_path_prefix is 'dagster'", "'/dagster'"],
            "lease that is too short": [
                "dagster_daemon_lease_ttl is 5; it is at least 12",
                "a standby starts before the old daemon has ended",
            ],
            "port that is none": ["dagster_nginx_port is 70000", "1 to 65535"],
            "folder that no run mounts": [
                "dagster_config.local_artifact_storage.config.base_dir",
                "/srv/outputs, which no volume mounts into runs",
            ],
            "network of the launcher": ["run_launcher.config.network", "dagster_docker_network"],
            "argument that Docker does not know": ["container_kwargs.memory", "did you mean mem_limit?"],
            "variable of ours": ["dagster_code_locations[other].env.PGPASSFILE", "is set by the collection"],
            "secret of a run": ["[other].container_context.env_vars[0]", "put it into secret_env"],
            "run that would be root": [
                "container_kwargs.privileged: found true, which makes each run root on the host"
            ],
            "set without members": ["dagster_firewall_sources.code is empty"],
            "address that is none": ["dagster_firewall_sources.engine: '10.0.0.300' does not appear to be"],
            "limit that is never met": ["tag_concurrency_limits[0].limit: found 0: every run with this tag stays"],
            "limit that is never reached": ["tag_concurrency_limits[1].limit: found 11, which is never reached"],
            "literal password": ["dagster_config.storage.postgres.postgres_db.password", "PGPASSFILE"],
            "secret in the environment": [
                "API_TOKEN looks like a secret, and would show in docker inspect",
                "secret_env",
            ],
            "password in a URL": [
                "dagster_environment: DATABASE_URL has a password or a key in its text",
                "secret_env",
            ],
            "value that YAML has changed": ["dagster_environment: DBT_DEBUG is true or false", "quote what you mean"],
            "secret whose name is a path": ["dagster_code_locations[other].secrets: '../../containers/pgpass'"],
            "login with a space": ["dagster_database_run_user is 'dagster run'"],
            "address with a port": ["dagster_nginx_listen is 10.0.0.5:80", "belongs in dagster_nginx_port"],
            "address of one interface": ["dagster_nginx_listen is fe80::1%eth0", "without a zone"],
            "network of the engine's own": ["dagster_docker_network is 'host'", "is one of Docker's own"],
            "setting of another kind": ["dagster_docker_config: icc is text; Docker takes true or false"],
            "setting that no engine knows": ["knows no registry-mirror", "registry-mirrors"],
            "folder that services do not see": ["dagster_install_dir is /home/dagster", "see nothing of /home"],
            "proxy without a scheme": ["dagster_proxy.http is no URL of a proxy"],
            "database named twice": ["dagster_database_host names an external server"],
        },
    ),
    "image that does not exist": (IMAGES, {"image": ["127.0.0.1:1/no/such:image", "dagster_code_locations"]}),
    "context that does not exist": (CONTEXT, {"context": ["/no/such/folder", "dagster_code_locations"]}),
}


@pytest.fixture(scope="module", autouse=True)
def untouched(host: Any) -> Any:
    """Nothing on the host differs after all of these."""
    before = identities(host)
    yield
    assert identities(host) == before


@pytest.mark.parametrize("stage", BAD)
def test_bad_variables(play: Callable[..., Play], stage: str) -> None:
    variables, inputs = BAD[stage]
    result = play("site.yml", "-e", json.dumps(variables), ok=False)
    for words in inputs.values():
        refused(result, words)
    assert "hunter2hunter2" not in result.output


# The host's own stage: what is wrong with it, what it cannot reach and what is taken there.
EXTERNAL = {
    "dagster_database_host": "127.0.0.1",
    "dagster_database_run_host": "192.0.2.5",  # a container finds itself at the other one
    "dagster_daemon_fencing": "lease_only",
}
KINDS = ("webserver", "daemon", "code", "run", "proxy")


def test_host_that_cannot_take_it(play: Callable[..., Play], tmp_path: Path, host: Any) -> None:
    source = hosts_file(tmp_path, {kind: {"hosts": {"dagster1": {}}} for kind in KINDS})
    ports = {"dagster_webserver_ports": [3055, *range(20000, 20400)]}
    variables = {**EXTERNAL, **ports, "dagster_database_port": 5999}
    with contextlib.ExitStack() as undo:
        host.check_output("systemd-run --unit=squatter -q python3 -m http.server 3055 --bind 127.0.0.1")
        undo.callback(host.check_output, "systemctl stop squatter")
        host.check_output("mount --bind /etc/hostname /etc/os-release")
        undo.callback(host.check_output, "umount /etc/os-release")
        host.check_output("timeout 60 sh -c 'until ss -Hltn | grep -q :3055; do sleep 0.1; done'")
        result = play("site.yml", "-e", json.dumps(variables), ok=False, inventories=source)
    refused(result, ["supported is debian bookworm"])
    refused(result, ["port 3055 is held by python3 of squatter.service", "dagster_webserver_ports"])
    refused(result, ["MiB of memory", "dagster_webserver_ports"])
    refused(result, ["dagster_database_host", "127.0.0.1:5999 cannot be reached"])


def test_addresses_and_networks_that_are_not_the_hosts(play: Callable[..., Play]) -> None:
    """The deployment serves, and its network and pools stay as they are: only what is new is refused."""
    variables = {"dagster_nginx_listen": ["127.0.0.1", "192.0.2.77"]}
    refused(
        play("site.yml", "-e", json.dumps(variables), ok=False),
        ["dagster_nginx_listen is 192.0.2.77, and the host has no such address", "it has "],
    )


def test_something_else_where_the_database_should_be(play: Callable[..., Play], tmp_path: Path) -> None:
    source = hosts_file(tmp_path, {kind: {"hosts": {"dagster1": {}}} for kind in KINDS})
    variables = json.dumps({**EXTERNAL, "dagster_database_port": 22})
    refused(
        play("site.yml", "-e", variables, ok=False, inventories=source),
        ["127.0.0.1:22 answers, but not as a PostgreSQL server"],
    )


def test_no_daemon_host(play: Callable[..., Play], tmp_path: Path) -> None:
    groups: dict[str, Any] = {
        kind: {"hosts": {"dagster1": {}}} for kind in ("database", "webserver", "code", "run", "proxy")
    }
    source = hosts_file(tmp_path, {**groups, "daemon": {"hosts": {}}})
    refused(play("site.yml", ok=False, inventories=source), ["group dagster_daemon has no host"])


def hosts_file(folder: Path, groups: dict[str, Any]) -> list[str]:
    """Inventories with these groups and the rig's addresses."""
    path = folder / "hosts.json"
    path.write_text(json.dumps({"all": {"children": {f"dagster_{kind}": group for kind, group in groups.items()}}}))
    variables = ROOT / "inventories/single_host/group_vars"
    (folder / "group_vars").symlink_to(variables)
    return [str(path), str(RIG)]
