# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The code locations of the inventory: which host serves each, and what can be wrong with an entry. Pure: no I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.location import NEXT_SUFFIX, PREVIOUS_SUFFIX
from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import environment
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import code_port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.texts import length_problems

SOURCES = ("image", "build", "archive")
TARGETS = ("module", "package", "file")
START_TIMEOUT = 60  # seconds that a code server may take, where its location says nothing
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Of all that has the name of a location in it, the tag of an image is the narrowest.
LONGEST_NAME = 128


@dataclass(frozen=True)
class Location:
    """A code location: its name, the host that runs its code server, and the port there as it was written."""

    name: str
    host: str
    port: Any


def locations(inventory: Inventory, values: Mapping[str, Any]) -> list[Location]:
    """The code locations that a host's variables name. The first host of the group serves those that name none."""
    first = next(iter(inventory.group("dagster_code")), "")
    port = code_port(values)
    return [
        Location(str(entry.get("name")), str(entry.get("host") or first), entry.get("port") or port)
        for entry in values["dagster_code_locations"]
    ]


def run_start_timeout(values: Mapping[str, Any]) -> int:
    """Seconds until a run that has not begun is given up: it imports the same code as its code server."""
    slowest = max(
        [START_TIMEOUT, *(int(entry.get("start_timeout") or 0) for entry in values["dagster_code_locations"])]
    )
    return slowest + 120


def name_problems(where: str, name: Any) -> list[str]:
    """A sentence about the name of a location that could not be part of a path, of a container or of an image."""
    text = str(name or "")
    if not NAME.fullmatch(text) or ".." in text:
        return [
            f"{where}: name is {name!r}; letters, digits, '_', '-' and '.' are allowed, without '..', and a letter or "
            "digit is the first"
        ]
    for suffix in (NEXT_SUFFIX, PREVIOUS_SUFFIX):
        if text.endswith(suffix):
            return [f"{where}: name ends in {suffix}, which the swap of containers needs; choose another end"]
    return length_problems(f"{where}: name", text, LONGEST_NAME, "the tag of an image")


def location_problems(
    entries: list[dict[str, Any]], code_hosts: list[str], own: Mapping[str, str], allow: Iterable[str] = ()
) -> list[str]:
    """Sentences about entries of dagster_code_locations that cannot work.

    own are the environment variables that the collection sets, allow is dagster_config_allow.
    """
    problems = []
    for number, entry in enumerate(entries):
        where = f"dagster_code_locations[{entry.get('name', number)}]"
        problems += name_problems(where, entry.get("name"))
        for kinds in (SOURCES, TARGETS):
            given = [kind for kind in kinds if entry.get(kind)]
            if len(given) != 1:
                problems.append(
                    f"{where} has {' and '.join(given) or 'none'} of {', '.join(kinds)}; exactly one is needed"
                )
        if entry.get("host") and entry["host"] not in code_hosts:
            problems.append(
                f"{where}: host {entry['host']} is not in group dagster_code"
                f"{did_you_mean(entry['host'], code_hosts, '; ')}"
            )
        problems += environment.location_problems(where, entry, own, allow)
    for name, count in Counter(str(entry.get("name")) for entry in entries).items():
        if count > 1:
            problems.append(f"dagster_code_locations has {count} locations named {name}; each name must be unique")
    if entries and not code_hosts:
        problems.append("dagster_code_locations is set, but group dagster_code has no host")
    return problems
