"""Networks of containers: none may be a network of any host."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, component, plan

from ansible_collections.dataops.dagster.plugins.filter.addresses import subnets_taken
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import subnets as subject

TIMER = "/etc/systemd/system/prune-dagster-runs.timer"
VPC = {**FACTS, "engine": {}, "networks": {"172.31.16.0/20": "ens5"}, "addresses": ["172.31.20.4", "127.0.0.1"]}


def test_default_pools_in_the_default_network_of_aws() -> None:
    (said,) = component("docker").host_problems(VPC)
    assert said.startswith("dagster_docker_address_pools: 172.31.0.0/16 overlaps 172.31.16.0/20, the network of ens5")
    assert said.endswith("choose one that is free, such as 172.30.0.0/16")
    free = {"dagster_docker_address_pools": [{"base": "10.200.0.0/16", "size": 24}]}
    assert component("docker", **free).host_problems(VPC) == []


def test_a_deployment_is_only_warned_of_its_pools() -> None:
    deployed = {**VPC, "paths": [TIMER]}
    assert component("docker").host_problems(deployed) == []
    (said,) = component("docker").host_warnings(deployed)
    assert "dagster_docker_address_pools: 172.31.0.0/16 overlaps" in said
    assert component("docker").host_warnings({**deployed, "networks": {}}) == []


def test_networks_of_all_other_hosts() -> None:
    wanted = {"run": component("docker").handed(FACTS)["subnets"], "db": {}}
    hosts: dict[str, Any] = {"run": {"networks": {"10.0.0.0/24": "eth0"}}, "db": VPC}
    found = subnets_taken(wanted, hosts)
    assert found[0].startswith(
        "run: dagster_docker_address_pools: 172.31.0.0/16 overlaps 172.31.20.4/32, the address of"
    )
    assert any("a network of db" in text for text in found)
    # Networks of engines there are nobody else's business.
    hosts["db"] = {"networks": {"172.31.1.0/24": "br-0123456789ab"}, "addresses": ["172.31.1.1"]}
    assert subnets_taken(wanted, hosts) == []
    deployed = {"run": component("docker").handed({**FACTS, "paths": [TIMER]})["subnets"]}
    assert subnets_taken(deployed, {"run": {}, "db": VPC}) == []
    assert subnets_taken({"run": None}, {"run": None}) == []


def test_a_free_network() -> None:
    assert subject.free(16, []) == "172.31.0.0/16"
    assert subject.free(16, ["172.16.0.0/12"]) == "10.255.0.0/16"
    assert subject.free(24, ["172.16.0.0/12", "10.0.0.0/8"]) == "192.168.255.0/24"
    assert subject.free(24, ["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"]) == ""


@pytest.mark.parametrize("name", ["host", "none", "bridge", "default", "container:x", "a b", ""])
def test_names_that_are_no_network_of_ours(name: str) -> None:
    (said,) = subject.name_problems("dagster_docker_network", name)
    assert said.startswith(f"dagster_docker_network is {name!r}, which is ")
    assert subject.name_problems("dagster_docker_network", "dagster_runs.1") == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"dagster_docker_network_subnet": "fd00::/64"}, "are networks of IPv4"),
        ({"dagster_docker_address_pools": [{"base": "172.31.0.1/16", "size": 24}]}, "has host bits set"),
        ({"dagster_docker_address_pools": [{"base": "172.31.0.0/16", "size": 8}]}, "it is a number from 16 to 30"),
        ({"dagster_docker_config": {"icc": "no"}}, "icc is text; Docker takes true or false"),
        ({"dagster_docker_config": {"mtu": True}}, "mtu is true or false; Docker takes a number"),
        ({"dagster_docker_config": {"proxies": {}}}, "proxies is set by the collection; use dagster_proxy"),
        ({"dagster_docker_config": {"bip": "10.0.0.1/24"}}, "use dagster_docker_bridge_address"),
        ({"dagster_docker_config": {"registry-mirror": []}}, "knows no registry-mirror, and does not start"),
        ({"dagster_docker_config": {"registry-mirrors": ["https://m"], "log-opts": {"max-size": "1m"}}}, ""),
        (
            {"dagster_state_dir": "/srv/dagster state:1"},
            "dagster_state_dir is '/srv/dagster state:1'; it is an absolute",
        ),
        ({"dagster_state_dir": "/srv/../etc"}, "it is an absolute path"),
        ({"dagster_home": "/etc"}, "a folder of the system, and would get our owner; add a folder: /etc/dagster"),
        ({"dagster_state_dir": "/home/dagster"}, "the services see nothing of /home"),
        ({"dagster_state_dir": "/etc/dagster"}, "two of them are the same"),
    ],
)
def test_what_is_refused_before_a_change(variables: dict[str, Any], said: str) -> None:
    found = plan(**variables).problems()
    assert bool(found) == bool(said), found
    assert not said or [text for text in found if said in text], found
