# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""States of containers, and the differences between them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from wishes import IMAGE, real, wish

from ansible_collections.dataops.dagster.plugins.module_utils._docker import state


def test_a_container_made_right_shows_no_difference() -> None:
    location = wish()
    assert state.compare(location, IMAGE, real(location), {"dagster": "n1", "extra": "n2"}) == []
    assert state.action_for([]) == "none"


@pytest.mark.parametrize(
    ("started", "fields"),
    [
        ("2026-11-26T08:00:00.5Z", ["reads"]),
        ("2026-11-26T08:00:00.7Z", []),
        ("2026-11-26T08:00:01Z", []),
        ("0001-01-01T00:00:00Z", []),  # never started
        ("", []),
    ],
)
def test_a_process_that_has_read_an_older_file_is_replaced(started: str, fields: list[str]) -> None:
    location = replace(wish(), reads={"/etc/dagster/secrets/etl/.env": 1795680000.6, "/gone": 0.0})
    container = real(location)
    container["State"]["StartedAt"] = started
    found = state.compare(location, IMAGE, container)
    assert [item.field for item in found] == fields
    assert state.action_for(found) == ("recreated" if fields else "none")
    assert "/etc/dagster/secrets/etl/.env" in str(found) or not fields


@pytest.mark.parametrize(
    ("path", "value", "field", "action"),
    [
        (("Image",), "sha256:bbb", "image_id", "recreated"),
        (("Config", "Env"), ["A=2", "DEBUG=true", "PATH=/bin", "LANG=C"], "env.A", "recreated"),
        (("Config", "Env"), ["A=1", "DEBUG=true", "PATH=/bin", "LANG=C", "HAND=1"], "env.HAND", "recreated"),
        (("Config", "Env"), ["A=1", "DEBUG=true", "PATH=/evil", "LANG=C"], "env.PATH", "recreated"),
        (("Config", "Cmd"), ["sleep", "1"], "command", "recreated"),
        (("Config", "Entrypoint"), None, "entrypoint", "recreated"),
        (("Config", "User"), "0", "user", "recreated"),
        (("Config", "StopTimeout"), None, "stop_timeout", "recreated"),
        (("Config", "Labels"), {"from": "image"}, "labels.dataops.dagster.location", "recreated"),
        (("HostConfig", "Binds"), None, "volumes", "recreated"),
        (("HostConfig", "Binds"), ["/etc/dagster/containers:/run/dagster"], "volumes", "recreated"),
        (("HostConfig", "PortBindings"), {}, "ports", "recreated"),
        (("HostConfig", "PortBindings", "4000/tcp"), [{"HostIp": "", "HostPort": "4000"}], "ports", "recreated"),
        (("HostConfig", "ExtraHosts"), None, "extra_hosts", "recreated"),
        (("HostConfig", "CapAdd"), None, "capabilities", "recreated"),
        (("HostConfig", "CapAdd"), ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"], "capabilities", "recreated"),
        (("HostConfig", "CapDrop"), None, "dropped", "recreated"),  # a container of an earlier release
        (("HostConfig", "CapDrop"), ["NET_RAW"], "dropped", "recreated"),
        (("HostConfig", "SecurityOpt"), None, "security", "recreated"),
        (("HostConfig", "SecurityOpt"), ["no-new-privileges:true", "seccomp=unconfined"], "security", "recreated"),
        (("HostConfig", "ReadonlyRootfs"), True, "read_only", "recreated"),
        (("HostConfig", "Tmpfs"), {"/tmp": ""}, "read_only", "recreated"),
        (("HostConfig", "Devices"), None, "devices", "recreated"),
        (("HostConfig", "ShmSize"), 1, "shm_size", "recreated"),
        (("HostConfig", "NetworkMode"), "bridge", "main_network", "recreated"),
        (("HostConfig", "CpuQuota"), 5000, "cpu_quota", "recreated"),
        (("HostConfig", "Memory"), 0, "memory", "updated"),
        (("HostConfig", "NanoCpus"), 0, "nano_cpus", "updated"),
        (("HostConfig", "RestartPolicy", "Name"), "no", "restart_policy", "updated"),
        (("NetworkSettings", "Networks"), {"dagster": {}}, "networks", "updated"),
        (("NetworkSettings", "Networks", "hand"), {}, "networks", "updated"),
        (("NetworkSettings", "Networks", "extra", "NetworkID"), "old", "network_id.extra", "recreated"),
        (("State", "Status"), "exited", "status", "started"),
    ],
)
def test_each_change_by_hand_is_seen(path: tuple[str, ...], value: Any, field: str, action: str) -> None:
    location = wish()
    container = real(location)
    spot = container
    for key in path[:-1]:
        spot = spot[key]
    spot[path[-1]] = value
    found = state.compare(location, IMAGE, container, {"dagster": "n1", "extra": "n2"})
    assert field in [item.field for item in found]
    assert state.action_for(found) == action


def test_options_that_came_later_leave_the_digest_of_a_container_as_it_was() -> None:
    """An upgrade must not make every code server anew."""
    plain: dict[str, Any] = {"capabilities": [], "devices": [], "shm_size": None}
    assert state.config_digest(wish(**plain), "i") == "469874aef58bbdf9669e8f2f0142ee4e"
    later: dict[str, Any] = {"capabilities": ["SYS_PTRACE"], "devices": ["/dev/fuse"], "shm_size": "256m"}
    assert len({state.config_digest(wish(**{**plain, name: value}), "i") for name, value in later.items()}) == 3


def test_read_only_root_is_compared() -> None:
    location = wish(read_only=True)
    assert state.compare(location, IMAGE, real(location)) == []
    (found, *_digest) = state.compare(location, IMAGE, real(wish()))
    assert str(found) == "read_only: false -> true with /tmp mode=1777"
    assert state.config_digest(location, "i") != state.config_digest(wish(), "i")


def test_shared_memory_of_the_engine_is_not_compared() -> None:
    location = wish(shm_size=None)
    container = real(location)
    container["HostConfig"]["ShmSize"] = 128 * 2**20
    assert state.compare(location, IMAGE, container) == []
    assert str(state.compare(wish(), IMAGE, container)[-1]) == "shm_size: 128m -> 256m"


def test_log_of_a_container() -> None:
    """An engine of ours gives it to its containers anyway, so those that were made before are right."""
    location = replace(wish(), log_driver="journald")
    container = real(location)
    assert [item.field for item in state.compare(location, IMAGE, container)] == ["log"]
    labels = "dagster/run_id,dagster/job_name,dataops.dagster.location"
    container["HostConfig"]["LogConfig"] = {"Type": "journald", "Config": {"labels": labels, "tag": "{{.Name}}"}}
    assert state.compare(location, IMAGE, container) == []
    assert state.config_digest(location, "i") == state.config_digest(wish(), "i")
    container["HostConfig"]["LogConfig"]["Type"] = "json-file"
    assert state.action_for(state.compare(location, IMAGE, container)) == "recreated"
    assert state.compare(wish(), IMAGE, container) == [], "the engine's own"


def test_what_another_image_brings_is_not_listed_with_it() -> None:
    location = wish()
    newer = deepcopy(IMAGE)
    newer["Id"] = "sha256:bbb"
    newer["Config"].update(Env=["PATH=/usr/bin", "NEW=1"], Labels={"other": "x"}, Entrypoint=None, User="root")
    assert [item.field for item in state.compare(location, newer, real(location))] == ["image_id"]


def test_a_limit_that_is_taken_away_needs_a_new_container() -> None:
    container = real(wish())
    for change in ({"mem_limit": None}, {"cpus": None}):
        assert state.action_for(state.compare(wish(**change), IMAGE, container)) == "recreated"
    assert state.action_for(state.compare(wish(mem_limit="2g", cpus=2), IMAGE, container)) == "updated"


def test_the_digest_follows_what_cannot_change_in_place_only() -> None:
    same = [wish(), wish(mem_limit="2g"), wish(cpus=None), wish(networks=[]), wish(restart_policy="no")]
    assert len({state.config_digest(item, "i") for item in same}) == 1
    assert state.config_digest(wish(volumes=["/etc/dagster/containers:/run/dagster/:ro"]), "i") == state.config_digest(
        wish(), "i"
    )
    other = [wish(env={}), wish(port=4001), wish(command=["x"]), wish(user="1"), wish(labels={}), wish(stop_timeout=9)]
    digests = [state.config_digest(item, "i") for item in [wish(), *other]] + [state.config_digest(wish(), "j")]
    assert len(set(digests)) == len(digests)
