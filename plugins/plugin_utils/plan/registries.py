# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logins of registries: what is wrong with dagster_registries, and with logins that stand elsewhere. Pure: no I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.reference import REGISTRY

EXAMPLE = "dagster_registries: [{address: registry.example.com, username: deploy, password: ...}]"


def problems(values: Mapping[str, Any]) -> list[str]:
    """Sentences about logins, never with a password."""
    found = []
    entries = values["dagster_registries"]
    for number, entry in enumerate(entries):
        where, address = f"dagster_registries[{number}]", str(entry["address"])
        if not REGISTRY.fullmatch(address):
            near = re.sub(r"^[a-z]+://", "", address.strip()).partition("/")[0]
            hint = f"; did you mean {near}?" if near != address and REGISTRY.fullmatch(near) else ""
            found.append(f"{where}.address is {address!r}; expected HOST[:PORT], as images begin{hint}")
        for key in ("username", "password"):
            if not entry[key] or re.search(r"[\x00-\x1f\x7f]", str(entry[key])):
                found.append(f"{where}.{key} is empty or has a control character; expected one line of text")
        if ":" in str(entry["username"]):
            found.append(f"{where}.username has a colon; a registry reads what comes before it as the name")
    for address, count in Counter(str(entry["address"]) for entry in entries).items():
        if count > 1:
            found.append(f"dagster_registries has {count} logins of {address}; keep one")
    return [*found, *elsewhere(values)]


def elsewhere(values: Mapping[str, Any]) -> list[str]:
    """Sentences about a password of a registry that would stand in dagster.yaml or in docker inspect."""
    launcher = (values["dagster_config"] or {}).get("run_launcher")
    places = {"dagster_config.run_launcher.config.registry": _registry(launcher, "config")}
    for entry in values["dagster_code_locations"]:
        context, where = (
            entry.get("container_context"),
            f"dagster_code_locations[{entry.get('name')}].container_context",
        )
        places[f"{where}.registry"] = _registry({"": context}, "")
        places[f"{where}.docker.registry"] = _registry(context, "docker")
    return [
        f"{place}: the password would be readable for everybody there. Set {EXAMPLE} with the password from a vault, "
        "and remove it: hosts pull the images of locations before a run needs them"
        for place, registry in places.items()
        if isinstance(registry, Mapping) and isinstance(registry.get("password"), str)
    ]


def _registry(parent: Any, key: str) -> Any:
    """The registry of a part of a dictionary, where both are there."""
    part = parent.get(key) if isinstance(parent, Mapping) else None
    return part.get("registry") if isinstance(part, Mapping) else None
