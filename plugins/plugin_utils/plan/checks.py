# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be wrong with groups and hosts, whatever runs there: sums and collisions over all components. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import overlap
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port, is_address
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import differing

# What the test suite runs; anything else is not called supported.
SUPPORTED_SYSTEMS = {"debian": ("bookworm",)}
CLOCK_TOLERANCE = 60  # seconds
SYSTEM_MB = 200  # what the system keeps for itself


def same_problems(inventory: Inventory, variable: str, why: str) -> list[str]:
    """A sentence when hosts do not agree on a variable of the whole deployment."""
    every = {host: str(known.values[variable]) for host, known in inventory.hosts.items()}
    return differing(variable, every, why)


def group_problems(inventory: Inventory, external_database: str, cluster: str = "") -> list[str]:
    """Sentences about groups that are too small, too large or not together.

    cluster is the launcher, where runs start in Kubernetes.
    """
    problems = []
    database, run = inventory.group("dagster_database"), inventory.group("dagster_run")
    if not inventory.group("dagster_daemon"):
        problems.append(
            "group dagster_daemon has no host; schedules, sensors and the run queue need one, and each "
            "further host is a standby"
        )
    if len(database) > 1:
        problems.append(
            f"group dagster_database has {len(database)} hosts; exactly one is allowed, or none with "
            "dagster_database_host set"
        )
    if database and external_database:
        problems.append(
            "dagster_database_host names an external server, but group dagster_database has a host; keep one of them"
        )
    if not database and not external_database:
        problems.append(
            "there is no database: put one host in group dagster_database or set dagster_database_host to a server of "
            "yours"
        )
    for group, need in (("dagster_webserver", "the UI and GraphQL"), ("dagster_proxy", "the way in to the UI")):
        if not inventory.group(group):
            problems.append(f"group {group} has no host; it serves {need}")
    if cluster:
        if run:
            problems.append(
                f"group dagster_run has {', '.join(run)}, but dagster_config.run_launcher is {cluster}, and runs start "
                "in Kubernetes; take its hosts out of the group"
            )
    elif len(run) != 1:
        problems.append(
            f"group dagster_run has {len(run)} hosts; exactly one is allowed, because all runs start on one "
            "Docker engine"
        )
    return problems


def system_problems(facts: Facts) -> list[str]:
    """A sentence when the host's system is none that the suite runs."""
    if facts["release"] in SUPPORTED_SYSTEMS.get(str(facts["distribution"]), ()):
        return []
    supported = ", ".join(f"{name} {release}" for name, releases in SUPPORTED_SYSTEMS.items() for release in releases)
    return [f"the host runs {facts['distribution']} {facts['release']}; supported is {supported}"]


def names_to_resolve(inventory: Inventory, host: str) -> list[str]:
    """The other hosts' addresses that are names."""
    others = {known.address for name, known in inventory.hosts.items() if name != host}
    return sorted(address for address in others if not is_address(address))


def surroundings_problems(facts: Facts, began: float, ended: float) -> list[str]:
    """Sentences about a clock that is off, and about names of other hosts; the host was asked between the two times."""
    problems = []
    clock = float(facts.get("time") or ended)
    off = max(clock - ended, began - clock)
    if off > CLOCK_TOLERANCE:
        direction = "ahead of" if clock > ended else "behind"
        problems.append(
            f"the host's clock is {off:.0f} s {direction} the controller's; set both by NTP, schedules and "
            "certificates go by them"
        )
    for name in facts.get("unresolved") or []:
        problems.append(
            f"the host cannot resolve {name}, another host of the inventory; give that one a dagster_address"
        )
    return problems


def port_problems(wanted: list[Port]) -> list[str]:
    """Sentences about ports that are no ports or are wanted twice on one host."""
    problems = [
        f"{port.variable} is {port.value!r}; a port is a number from 1 to 65535" for port in wanted if not port.number
    ]
    for number, count in Counter(port.number for port in wanted if port.number).items():
        if count > 1:
            names = " and ".join(port.variable for port in wanted if port.number == number)
            problems.append(f"port {number} is set {count} times on one host: {names}; each needs a port of its own")
    return problems


def taken_port_problems(wanted: list[Port], listeners: list[Mapping[str, Any]]) -> list[str]:
    """Sentences about wanted ports that somebody else's process holds."""
    problems = []
    for port in wanted:
        for listener in listeners:
            if listener["port"] != port.number or listener["unit"].startswith(port.unit):
                continue
            if any(overlap(address, listener["address"]) for address in port.addresses):
                holder = " of ".join(filter(None, [listener["process"], listener["unit"]])) or "another process"
                problems.append(
                    f"port {port.number} is held by {holder} on {listener['address']}; stop it or change "
                    f"{port.variable}"
                )
    return sorted(set(problems))


def user_problems(facts: Facts, user: str) -> list[str]:
    """A sentence about a user of the services who is somebody: whoever logs in as that user would have our secrets."""
    shell = (facts.get("shells") or {}).get(user, "/usr/sbin/nologin")
    if shell.rpartition("/")[2] in ("nologin", "false"):
        return []
    return [
        f"the host has a user {user} who can log in (shell {shell or '/bin/sh'}); set dagster_user to another name, or "
        "give that user the shell /usr/sbin/nologin if it is meant for the services"
    ]


def group_member_problems(facts: Facts, group: str, user: str) -> list[str]:
    """A sentence about a group of the services that has other members, who could read our files."""
    others = [name for name in (facts.get("members") or {}).get(group, []) if name != user]
    if not others:
        return []
    return [
        f"group {group} of the host has members ({', '.join(others)}) who could read what the services read; set "
        "dagster_group to another name, or take them out of it"
    ]


def memory_problems(components: list[Component], memory_mb: int) -> list[str]:
    """A sentence when the host has less memory than its share of the stack takes at rest with one run."""
    parts = {"system": (1, SYSTEM_MB)}
    for component in components:
        parts.update(component.memory())
    need = sum(count * each for count, each in parts.values())
    if memory_mb >= need:
        return []
    listed = ", ".join(f"{count} x {part} of {each}" for part, (count, each) in parts.items() if count)
    return [
        f"the host has {memory_mb} MiB of memory, its part of the stack needs {need} ({listed}); fewer "
        "dagster_webserver_ports or a larger host"
    ]


def journal(components: list[Component]) -> list[str]:
    """Arguments with which journalctl shows what the components of a host said."""
    matches = [match for component in components for match in component.journal()]
    # Matches of one field are alternatives for journalctl, those of two fields only with a plus between them.
    fields = list(dict.fromkeys(match.partition("=")[0] for match in matches))
    arguments: list[str] = []
    for field in fields:
        arguments += ["+"] * bool(arguments) + [match for match in matches if match.partition("=")[0] == field]
    return arguments


def live(listeners: Iterable[Mapping[str, Any]], webserver: str) -> bool:
    """Whether a host serves already, with units of that name, so that hosts are changed one after the other."""
    return any(str(listener["unit"]).startswith(webserver) for listener in listeners)
