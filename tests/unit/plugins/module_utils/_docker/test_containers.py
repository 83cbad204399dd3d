# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of code_containers: wishes, real states, and the differences between them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import containers as spec
from ansible_collections.dataops.dagster.plugins.module_utils._proc import Listener

Json = dict[str, Any]

IMAGE: Json = {
    "Id": "sha256:aaa",
    "Config": {
        "Env": ["PATH=/bin", "LANG=C"],
        "Labels": {"from": "image"},
        "Entrypoint": ["/tini", "--"],
        "User": "app",
    },
}


def wish(**changes: Any) -> spec.Location:
    params: Json = {
        "name": "analytics",
        "image": "repo/analytics:1",
        "command": ["dagster", "api", "grpc", "-p", 4000],
        "port": "4000",
        "env": {"A": 1, "DEBUG": True},
        "volumes": ["/etc/dagster/containers:/run/dagster:ro"],
        "mem_limit": "1g",
        "cpus": "1.5",
        "networks": ["extra"],
        "labels": {"team": "data"},
        "extra_hosts": {"db": "10.0.0.1"},
        **changes,
    }
    return spec.location_from_params(params, "dagster")


def real(location: spec.Location) -> Json:
    """What inspect shows for a container that the engine made from this wish."""
    return {
        "Id": "c1",
        "Name": f"/{location.container}",
        "Image": "sha256:aaa",
        "State": {"Status": "running", "Running": True},
        "Config": {
            "Image": location.image,
            "Cmd": list(location.command),
            "Entrypoint": ["/tini", "--"],
            "User": "app",
            "Env": ["A=1", "DEBUG=true", "PATH=/bin", "LANG=C"],
            "Labels": {"from": "image", **spec.container_labels(location, "sha256:aaa")},
            "StopTimeout": 65,
        },
        "HostConfig": {
            "Binds": ["/etc/dagster/containers/:/run/dagster:ro"],
            "PortBindings": {"4000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4000"}]},
            "Memory": 1024**3,
            "NanoCpus": 1_500_000_000,
            "CpuQuota": 0,
            "NetworkMode": "dagster",
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "ExtraHosts": ["db:10.0.0.1"],
        },
        "NetworkSettings": {"Networks": {"dagster": {"NetworkID": "n1"}, "extra": {"NetworkID": "n2"}}},
    }


def test_a_container_made_right_shows_no_difference() -> None:
    location = wish()
    assert spec.compare(location, IMAGE, real(location), {"dagster": "n1", "extra": "n2"}) == []
    assert spec.action_for([]) == "none"


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
    found = spec.compare(location, IMAGE, container, {"dagster": "n1", "extra": "n2"})
    assert field in [item.field for item in found]
    assert spec.action_for(found) == action


def test_what_another_image_brings_is_not_listed_with_it() -> None:
    location = wish()
    newer = deepcopy(IMAGE)
    newer["Id"] = "sha256:bbb"
    newer["Config"].update(Env=["PATH=/usr/bin", "NEW=1"], Labels={"other": "x"}, Entrypoint=None, User="root")
    assert [item.field for item in spec.compare(location, newer, real(location))] == ["image_id"]


def test_a_limit_that_is_taken_away_needs_a_new_container() -> None:
    container = real(wish())
    for change in ({"mem_limit": None}, {"cpus": None}):
        assert spec.action_for(spec.compare(wish(**change), IMAGE, container)) == "recreated"
    assert spec.action_for(spec.compare(wish(mem_limit="2g", cpus=2), IMAGE, container)) == "updated"


def test_the_digest_follows_what_cannot_change_in_place_only() -> None:
    same = [wish(), wish(mem_limit="2g"), wish(cpus=None), wish(networks=[]), wish(restart_policy="no")]
    assert len({spec.config_digest(item, "i") for item in same}) == 1
    assert spec.config_digest(wish(volumes=["/etc/dagster/containers:/run/dagster/:ro"]), "i") == spec.config_digest(
        wish(), "i"
    )
    other = [wish(env={}), wish(port=4001), wish(command=["x"]), wish(user="1"), wish(labels={}), wish(stop_timeout=9)]
    digests = [spec.config_digest(item, "i") for item in [wish(), *other]] + [spec.config_digest(wish(), "j")]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("value", "size"),
    [(None, 0), ("", 0), ("0", 0), ("512m", 512 << 20), ("1G", 1 << 30), ("1.5gb", 3 << 29), (64, 64)],
)
def test_sizes(value: Any, size: int) -> None:
    assert spec.parse_size(value) == size


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mem_limit": "lots"}, "mem_limit"),
        ({"name": "a b"}, "container name"),
        ({"name": "a-previous"}, "reserved"),
        ({"port": 70000}, "70000"),
        ({"port": 1, "container_port": 0}, "container_port"),
        ({"publish_address": "localhost"}, "publish_address"),
        ({"restart_policy": "sometimes"}, "restart_policy"),
        ({"restart_policy": "always:3"}, "restart_policy"),
        ({"volumes": ["/only"]}, "volumes"),
    ],
)
def test_bad_values_name_the_variable(change: Json, words: str) -> None:
    with pytest.raises(ValueError, match="dagster_code_locations") as caught:
        wish(**change)
    assert words in str(caught.value)


def test_clashes_of_names_and_ports() -> None:
    assert spec.clashes([wish(), wish(name="b", port=4001), wish(name="c", port=None), wish(name="d", port=0)]) == []
    assert spec.clashes([wish(), wish(name="b", publish_address="10.0.0.9")]) == []
    assert "both publish port 4000" in spec.clashes([wish(), wish(name="b")])[0]
    assert "both publish port 4000" in spec.clashes([wish(), wish(name="b", publish_address="0.0.0.0")])[0]
    assert "twice" in spec.clashes([wish(), wish(port=4001)])[0]


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    env = {"DB_PASSWORD": "hunter22", "API_TOKEN": "abc", "URL": "postgresql://u:s3cret@db/x", "PGPASSFILE": "/run/p"}
    location = wish(env=env)
    shown = spec.to_text(spec.readable(spec.wanted_state(location, IMAGE)))
    differences = " ".join(str(item) for item in spec.compare(location, IMAGE, real(wish())))
    for text in (shown, differences):
        assert "hunter22" not in text
        assert "s3cret" not in text
        assert "/run/p" in text
    assert spec.secret_values(env) == {"hunter22", "s3cret"}


def test_text_of_a_diff_reads_like_yaml() -> None:
    data = {"a": {"ports": ["x->y"], "env": {"K": "v"}, "volumes": [], "labels": {}, "user": "1"}}
    assert spec.to_text(data) == (
        "a:\n  ports:\n    - x->y\n  env:\n    K: v\n  volumes: []\n  labels: {}\n  user: 1\n"
    )


def test_an_address_is_taken_by_all_addresses_too() -> None:
    found = [Listener(4000, "127.0.0.1", "111"), Listener(8080, "::", "333")]
    assert spec.listener_on(found, "127.0.0.1", 4000) is not None
    assert spec.listener_on(found, "10.0.0.1", 4000) is None
    assert spec.listener_on(found, "0.0.0.0", 4000) is not None
    assert spec.listener_on(found, "10.0.0.1", 8080) is not None
    assert spec.listener_on(found, "127.0.0.1", 4001) is None


def test_only_a_running_container_holds_its_port() -> None:
    container = real(wish())
    assert spec.publishes(container, "127.0.0.1", 4000)
    assert not spec.publishes(container, "127.0.0.1", 4001)
    container["State"]["Running"] = False
    assert not spec.publishes(container, "127.0.0.1", 4000)
