# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Docker engine as it was found on a host: whose it is, what it cannot promise, and what it cannot share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import gateway, in_brackets, overlap
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import subnets
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port

# The engine that we install, and those of other sources: one of these is never ours.
OWN_PACKAGE = "docker.io"
OTHER_PACKAGES = ("docker-ce", "docker-ee", "moby-engine", "podman-docker")
# What shows an engine that came without a package, or what somebody has left of one.
TRACES = (
    "/etc/docker/daemon.json",
    "/etc/systemd/system/docker.service",
    "/usr/bin/dockerd",
    "/usr/sbin/dockerd",
    "/usr/local/bin/dockerd",
    "/snap/bin/docker",
)
STARTED_AT_BOOT = "/etc/systemd/system/multi-user.target.wants/docker.service"
# Debian 11 and 12 have 20.10; nothing older is tried by anybody here.
OLDEST, OLDEST_API = "20.10", (1, 41)
GROUP = "docker"
OF_A_SWARM = (2377, 7946)  # members alone get in there, by certificates of their own


def packages_of_others(facts: Facts) -> list[str]:
    """The packages of an engine from another source than Debian."""
    return [name for name in OTHER_PACKAGES if name in facts["packages"]]


def found(facts: Facts) -> str:
    """What shows that the host has an engine, or had one; empty without any."""
    packages = [name for name in (*OTHER_PACKAGES, OWN_PACKAGE) if name in facts["packages"]]
    paths = [path for path in TRACES if path in (facts.get("paths") or [])]
    return next(iter([*packages, *paths]), "a running engine" if facts.get("engine") else "")


def package_problems(facts: Facts) -> list[str]:
    """A sentence when the packages of our engine would push those of somebody else out."""
    if "containerd.io" not in facts["packages"] or OWN_PACKAGE in facts["packages"]:
        return []
    return [
        "the host has the package containerd.io without docker-ce, as a node of Kubernetes has, and the engine that "
        f"site.yml installs ({OWN_PACKAGE}) would remove it. Install docker-ce from the same source, which is used as "
        "it is, or give another host to the groups dagster_code and dagster_run"
    ]


def refusals(facts: Facts, socket: str, *, gated: bool) -> list[str]:
    """A sentence when somebody else's engine makes us impossible; gated says whether our gate uses its socket."""
    engine, what = facts.get("engine"), found(facts)
    if engine is None:  # nobody has asked it, because its address is none of this host
        return []
    where, instead = f"dagster_docker_socket {socket}", f"Run Docker {OLDEST} or newer as a service of the system there"
    if "podman-docker" in facts["packages"] or engine.get("product") == "Podman":
        return [f"{where}: Podman answers in the place of Docker, which runs need. {instead}"]
    if not engine:
        return [
            f"{where}: the host has {what}, which is not ours, and no engine answers. Start it, or remove it with its "
            "/etc/docker/daemon.json so that site.yml installs one"
        ]
    if engine["rootless"]:
        return [f"{where}: a rootless engine cannot mount our files into containers. {instead}"]
    if engine["folder"].startswith("/var/snap/"):
        return [f"{where}: an engine from a snap cannot mount our files into containers. {instead}"]
    if tuple(int(part) for part in engine["api"].split(".")[:2]) < OLDEST_API:
        return [f"{where}: the engine is Docker {engine['version']}. {instead}"]
    if gated and engine["group"] != GROUP:
        return [
            f"{where}: the socket belongs to the group {engine['group']}, and our gate gets the group {GROUP}. Set "
            f"the engine's group to {GROUP}"
        ]
    return []


def promises(facts: Facts, unused: Iterable[str]) -> str:
    """A sentence about what somebody else's engine cannot promise; unused are variables that are set for our own."""
    engine = facts.get("engine")
    if not engine:
        return ""
    lacks = []
    if not engine["live_restore"]:
        lacks.append("its restart ends code servers and runs (live-restore is off)")
    if not engine["root"]:
        lacks.append("root of a container is root of the host (userns-remap is off)")
    if engine["log_driver"] != "journald":
        lacks.append(f"its log driver is {engine['log_driver']}, only containers of ours log to the journal")
    if STARTED_AT_BOOT not in (facts.get("paths") or []):
        lacks.append("docker.service is not enabled, so a reboot ends code servers and runs until somebody starts it")
    open_at = [
        f"{in_brackets(str(each['address']))}:{each['port']}"
        for each in facts.get("listeners") or []
        if each["process"] == "dockerd" and each["port"] not in OF_A_SWARM
    ]
    if open_at:
        lacks.append(
            f"it listens at {', '.join(open_at)}, where a client has all of it, past our gate; take hosts out of its "
            "settings"
        )
    variables = sorted(unused)
    if variables:
        lacks.append(f"{', '.join(variables)} would be its settings and have no effect")
    return (
        f"the Docker engine ({found(facts)}, {engine['version']}) is not ours and stays as it is"
        + (": " if lacks else "")
        + "; ".join(lacks)
    )


def network_problems(
    values: Mapping[str, Any], wanted: Mapping[str, tuple[str, str]], facts: Facts, *, own: bool, deployed: bool
) -> list[str]:
    """Sentences about subnets of containers that this host uses already; own says whose its engine is.

    wanted are name and subnet of each of our networks, by the variable of its name.
    """
    found: list[str] = []
    for variable, (name, subnet) in wanted.items():
        found = found or _taken(variable, name, subnet, facts, deployed=deployed)
    if own and not deployed:
        for variable, ranges in subnets.own_engine(values).items():
            for each in ranges:
                found += subnets.overlaps(variable, each, subnets.near(facts))
    return found


def _taken(variable: str, name: str, subnet: str, facts: Facts, *, deployed: bool) -> list[str]:
    """The same about one network."""
    networks: list[dict[str, Any]] = (facts.get("engine") or {}).get("networks") or []
    none: dict[str, Any] = {"ours": True, "subnets": []}
    named = next((network for network in networks if network["name"] == name), none)
    # A deployment may have found its network there. Role docker would make any other of that name anew, and cut off
    # the containers in it.
    as_we_make_it = subnet in named["subnets"] and gateway(subnet) in (facts.get("addresses") or [])
    if not named["ours"] and not (deployed and as_we_make_it):
        return [
            f"{variable} is {name}, and the engine has a network of that name which is not ours; choose another name"
        ]
    if subnet in named["subnets"]:  # it is there as it should be
        return []
    others = {each: f"the network {other['name']} of the engine" for other in networks for each in other["subnets"]}
    every = {each: whose for each, whose in {**subnets.near(facts), **others}.items() if each not in named["subnets"]}
    return subnets.overlaps(f"{variable}_subnet", subnet, every)


def pool_warnings(values: Mapping[str, Any], facts: Facts) -> list[str]:
    """Sentences about ranges of a deployment in which networks of its host lie: the next network may cut them off."""
    taken = subnets.near(facts)
    return [text for each in subnets.pools(values) for text in subnets.overlaps(subnets.POOLS, each, taken)]


def container_problems(ports: Iterable[Port], names: Iterable[str], facts: Facts) -> list[str]:
    """Sentences about ports and names of our containers that somebody else's have."""
    problems, wanted = [], set(names)
    for container in (facts.get("engine") or {}).get("containers") or []:
        problems += [
            f"port {port.number} is held by the container {container['name']} on {held['address']}; stop it or change "
            f"{port.variable}"
            for port in ports
            for held in container["published"]
            if held["port"] == port.number and any(overlap(address, held["address"]) for address in port.addresses)
        ]
        if container["name"] in wanted:
            problems.append(
                f"the engine has a container {container['name']}, which is not ours; rename it, or the location in "
                "dagster_code_locations"
            )
    return problems
