# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the engine is asked for when a code server's container is made."""

from __future__ import annotations

from unittest.mock import MagicMock

from ansible_collections.dataops.dagster.plugins.module_utils._docker.containers import Containers
from ansible_collections.dataops.dagster.plugins.module_utils._docker.location import Location, location_from_params
from ansible_collections.dataops.dagster.plugins.module_utils._docker.state import config_digest


def made(location: Location) -> MagicMock:
    """The engine's API after it was asked for this container."""
    engine = MagicMock()
    engine.api.create_host_config.side_effect = engine.api.create_endpoint_config.side_effect = dict
    engine.api.create_networking_config.side_effect = dict
    Containers(engine).make(location, {"Id": "sha256:aaa"}, location.container)
    api: MagicMock = engine.api
    return api


def test_all_of_a_location_reaches_the_engine() -> None:
    location = location_from_params(
        {
            "name": "etl",
            "image": "etl:1",
            "command": ["dagster", "api", "grpc"],
            "port": 4001,
            "publish_address": "10.0.0.1",
            "env": {"A": "1"},
            "volumes": ["/a:/a", "/b:/b:ro"],
            "networks": ["extra"],
            "user": "0:0",
            "mem_limit": "1g",
            "cpus": 1.5,
            "stop_timeout": 70,
            "labels": {"team": "data"},
            "extra_hosts": {"db": "10.0.0.9"},
            "capabilities": ["CAP_SYS_PTRACE"],
            "devices": ["/dev/fuse"],
            "shm_size": "2Gi",
            "read_only": True,
        },
        "dagster",
        "dagster-code",
    )
    api = made(location)
    api.create_container.assert_called_once_with(
        "etl:1",
        ["dagster", "api", "grpc"],
        name="dagster-code-etl",
        user="0:0",
        environment={"A": "1"},
        labels={
            "team": "data",
            "dataops.dagster.location": "etl",
            "dataops.dagster.config": config_digest(location, "sha256:aaa"),
        },
        ports=[4000],
        host_config={
            "binds": ["/a:/a", "/b:/b:ro"],
            "port_bindings": {4000: ("10.0.0.1", 4001)},
            "mem_limit": 1024**3,
            "nano_cpus": 1_500_000_000,
            "network_mode": "dagster",
            # Until it is healthy: a location that cannot load would start again and again.
            "restart_policy": {"Name": "no"},
            "extra_hosts": {"db": "10.0.0.9"},
            "cap_add": ["SYS_PTRACE"],
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "read_only": True,
            "tmpfs": {"/tmp": "mode=1777"},
            "devices": ["/dev/fuse:/dev/fuse:rwm"],
            "shm_size": 2 * 1024**3,
        },
        networking_config={"dagster": {}},
        stop_timeout=70,
    )
    assert [asked.args[1:] for asked in api.connect_container_to_network.mock_calls] == [("extra",)]


def test_log_driver_does_not_depend_on_the_engine() -> None:
    params = {"name": "etl", "image": "etl:1", "command": ["x"]}
    given = made(
        location_from_params(params, "dagster", "dagster-code", log_driver="journald")
    ).create_container.call_args.kwargs
    assert given["host_config"]["log_config"] == {
        "Type": "journald",
        "Config": {"labels": "dagster/run_id,dagster/job_name,dataops.dagster.location", "tag": "{{.Name}}"},
    }


def test_what_a_location_leaves_out() -> None:
    """It is published on loopback only, and gets the time that running runs of it need to be told."""
    params = {"name": "etl", "image": "etl:1", "command": ["x"], "port": 4000}
    api = made(location_from_params(params, "dagster", "dagster-code"))
    given = api.create_container.call_args.kwargs
    assert given["host_config"]["port_bindings"] == {4000: ("127.0.0.1", 4000)}
    assert (given["host_config"]["mem_limit"], given["host_config"]["nano_cpus"]) == (None, None)
    assert given["stop_timeout"] == 65


def test_anonymous_volumes_go_with_their_container() -> None:
    """An image may declare some; nothing else would ever remove them."""
    engine = MagicMock()
    Containers(engine).remove("abc")
    engine.api.remove_container.assert_called_once_with("abc", v=True, force=True)
