# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The networks of containers against those of the hosts: what an engine takes for itself is cut off from its host.

Pure: no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host

Network = ipaddress.IPv4Network
# The variables of the networks that we make: that of runs, and that of code servers.
RUNS = ("dagster_docker_network", "dagster_docker_network_subnet")
CODE = ("dagster_docker_code_network", "dagster_docker_code_network_subnet")
TRIED = 64  # subnets behind that of the runs, of which one is for code servers
# The interfaces of an engine's own networks.
BRIDGE = re.compile(r"docker0|br-[0-9a-f]{12}")
# A wider route sums up the networks of a site. Those of the host lie in it as a rule, and the narrower one wins.
WIDEST_ROUTE = 16
POOLS, BRIDGE_ADDRESS = "dagster_docker_address_pools", "dagster_docker_bridge_address"
NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Networks that every engine has, and ways to have none.
RESERVED = ("bridge", "container", "default", "host", "nat", "none")


def name_problems(variable: str, name: str) -> list[str]:
    """A sentence about a name that a network of ours cannot have."""
    if NETWORK.fullmatch(name) and name not in RESERVED:
        return []
    why = "is one of Docker's own" if name in RESERVED else "is no name of a network"
    who = "runs need" if variable == RUNS[0] else "code servers need"
    return [
        f"{variable} is {name!r}, which {why}; {who} a network with a fixed subnet, which site.yml makes. Choose a "
        "name such as dagster, or leave it out"
    ]


def of_runs(host: Host) -> str:
    """The subnet of runs on the engine of a host."""
    return str(host.values[RUNS[1]])


def of_code(host: Host) -> str:
    """The subnet of code servers there: as large as that of the runs, and the next one that is not the engine's own.

    Empty where there is none, which another problem says.
    """
    return str(host.chosen(CODE[1], _behind(host.values)))


def _behind(values: Mapping[str, Any]) -> str:
    try:
        runs = Network(str(values[RUNS[1]]))
        own = [ipaddress.ip_interface(str(values[BRIDGE_ADDRESS])).network, *map(ipaddress.ip_network, pools(values))]
        for number in range(1, TRIED + 1):
            found = Network((int(runs.network_address) + number * runs.num_addresses, runs.prefixlen))
            if not any(found.overlaps(other) for other in own if isinstance(other, Network)):
                return str(found)
    except ValueError:  # none of these is a network, or there is no address left
        pass
    return ""


def pools(values: Mapping[str, Any]) -> list[str]:
    """The ranges of dagster_docker_address_pools as they were written."""
    return [str(pool["base"]) for pool in values[POOLS] or []]


def pool_problems(values: Mapping[str, Any]) -> list[str]:
    """Sentences about ranges that are none."""
    found = []
    for pool in values[POOLS] or []:
        base, size = str(pool["base"]), int(pool["size"])
        try:
            network = ipaddress.ip_network(base)
        except ValueError as error:
            found.append(f"{POOLS}: {error}; for example {{base: 172.31.0.0/16, size: 24}}")
            continue
        if not network.prefixlen <= size <= network.max_prefixlen - 2:
            found.append(
                f"{POOLS}: the subnets of {base} cannot have the prefix length {size}; it is a number from "
                f"{network.prefixlen} to {network.max_prefixlen - 2}"
            )
    return found


def near(facts: Facts) -> dict[str, str]:
    """The networks that a host knows without its engine, and what it knows of each."""
    routed = dict.fromkeys(facts.get("routed") or [], "to which the host has a route")
    direct = (facts.get("networks") or {}).items()
    return {
        **{subnet: text for subnet, text in routed.items() if int(subnet.partition("/")[2]) >= WIDEST_ROUTE},
        **{subnet: f"the network of {name}" for subnet, name in direct if not BRIDGE.fullmatch(name)},
    }


def overlaps(variable: str, subnet: str, taken: Mapping[str, str]) -> list[str]:
    """A sentence for each network that shares addresses with a subnet."""
    wanted = ipaddress.ip_network(subnet)
    networks = ((ipaddress.ip_network(other), what) for other, what in taken.items())
    advice = free(wanted.prefixlen, taken) if wanted.version == 4 else ""
    return [
        f"{variable}: {subnet} overlaps {other}, {what}; choose one that is free"
        + (f", such as {written(variable, advice)}" if advice else "")
        for other, what in networks
        if other.version == wanted.version and wanted.overlaps(other)
    ]


def written(variable: str, subnet: str) -> str:
    """A subnet as the variable takes it."""
    network = ipaddress.ip_network(subnet)
    return f"{network[1]}/{network.prefixlen}" if variable == BRIDGE_ADDRESS else subnet


def free(length: int, taken: Iterable[str]) -> str:
    """A private network of this prefix length that shares no address with these, empty when there is none."""
    used = [network for network in map(ipaddress.ip_network, taken) if isinstance(network, Network)]
    for private in ("172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"):
        space = Network(private)
        # From its end: sites begin at the beginning.
        for number in range(min(2 ** max(length - space.prefixlen, 0), 4096) if length >= space.prefixlen else 0):
            step = 2 ** (32 - length)
            found = Network((int(space.broadcast_address) + 1 - step * (number + 1), length))
            if not any(found.overlaps(other) for other in used):
                return str(found)
    return ""


def own_engine(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """What an engine of ours takes beside the network of the runs, by the variable."""
    bridge = ipaddress.ip_interface(str(values[BRIDGE_ADDRESS])).network
    return {BRIDGE_ADDRESS: [str(bridge)], POOLS: pools(values)}


def taken_elsewhere(wanted: Mapping[str, Mapping[str, list[str]]], hosts: Mapping[str, Facts]) -> list[str]:
    """Sentences about networks of containers that are networks of other hosts; wanted are those of each new engine.

    An engine answers whoever has an address in one of them on its own host, so that host could not be reached.
    """
    found = []
    for engine, variables in wanted.items():
        taken = {
            **{f"{address}/32": f"the address of {name}" for name, facts in hosts.items() for address in v4(facts)},
            **{subnet: f"a network of {name}" for name, facts in hosts.items() for subnet in near_networks(facts)},
        }
        own = {*near(hosts.get(engine, {})), *(f"{address}/32" for address in v4(hosts.get(engine, {})))}
        others = {subnet: what for subnet, what in taken.items() if subnet not in own}
        for variable, subnets in variables.items():
            for subnet in subnets:
                found += [f"{engine}: {text}" for text in overlaps(variable, subnet, others)]
    return found


def near_networks(facts: Facts) -> list[str]:
    """The networks that a host is in itself."""
    return [subnet for subnet, name in (facts.get("networks") or {}).items() if not BRIDGE.fullmatch(name)]


def v4(facts: Facts) -> list[str]:
    """The IPv4 addresses of a host that others may use: those in one of its networks."""
    networks = [Network(subnet) for subnet in near_networks(facts)]
    every = [ipaddress.ip_address(address) for address in facts.get("addresses") or []]
    return [str(address) for address in every if any(address in network for network in networks)]
