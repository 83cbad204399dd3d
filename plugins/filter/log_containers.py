# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that hand the store of compute logs to code locations, and say in which of their containers it is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.filter.code_location import ENV_FILE, SECRETS
from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import containers
from ansible_collections.dataops.dagster.plugins.plugin_utils.dotenv import dotenv
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS

Json = dict[str, Any]


def with_secret_env(locations: list[Json], variables: Mapping[str, str]) -> list[Json]:
    """Code locations that have these secret variables beside their own."""
    if not variables:
        return locations
    return [{**location, "secret_env": {**(location.get("secret_env") or {}), **variables}} for location in locations]


def log_containers(
    locations: list[Json],
    images: Mapping[str, Json],
    state: str,
    code: Mapping[str, Any],
    runs: Mapping[str, Any],
) -> list[Json]:
    """The containers in which module compute_logs tries the store: a code server and a run of each location.

    code has the names of the locations served here, their networks and environment; runs the same of the runs that
    start here, and what dagster.yaml gives to the container of each of them. Folders with secrets are not mounted.
    """
    found = []
    for kind, shared in (("code server", code), ("run", runs)):
        for location in locations:
            if location["name"] in shared["names"]:
                found.append(_container(kind, location, images[location["name"]]["ref"], state, shared))
    return found


def _container(kind: str, location: Json, image: str, state: str, shared: Mapping[str, Any]) -> Json:
    given: Mapping[str, Any] = {}
    if kind == "run":
        own, _others = context.parts(location.get("container_context"))
        given = own if isinstance(own, Mapping) else {}
    kwargs = [(part or {}).get(context.KWARGS) or {} for part in (shared, given)]
    named = [str(text).split("=", 1) for text in given.get("env_vars") or []]
    mounts = [
        f"{source}:{target}:{'ro' if read_only else 'rw'}"
        for volumes in (location.get("volumes"), *(part.get("volumes") for part in kwargs))
        for source, target, read_only in containers.volumes(volumes)
        if target not in (CONTAINERS, SECRETS)
    ]
    networks = [*shared["networks"], *(location.get("networks") or []), *(given.get("networks") or [])]
    hosts = [forms.extra_hosts(part.get("extra_hosts")) for part in (*kwargs[:1], location, *kwargs[1:])]
    return {
        "name": location["name"],
        "kind": kind,
        "image": image,
        "user": forms.user(location.get("user")) or "0:0",
        "env": {
            **shared["env"],
            **{name: forms.text(value) for name, value in (location.get("env") or {}).items()},
            **{part[0]: part[1] for part in named if len(part) == 2},
        },
        "volumes": list(dict.fromkeys([f"{state}:{state}:rw", *mounts])),
        "networks": list(dict.fromkeys(networks)),
        "extra_hosts": {name: address for found in hosts for name, address in found.items()},
    }


def log_secrets(locations: list[Json], files: Mapping[str, str]) -> dict[str, Json]:
    """What code servers and runs of each location have of secrets: files by their path in the container, variables.

    files are those that every container has beside the login of the database, by name.
    """
    found = {}
    for location in locations:
        texts = {name: str(text) for name, text in (location.get("secrets") or {}).items()}
        variables = {name: str(value) for name, value in (location.get("secret_env") or {}).items()}
        if variables:
            texts[ENV_FILE] = dotenv(variables)
        paths = {f"{SECRETS}/{name}": text for name, text in texts.items()}
        paths.update({f"{CONTAINERS}/{name}": text for name, text in files.items()})
        found[location["name"]] = {"files": paths, "env": variables}
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"with_secret_env": with_secret_env, "log_containers": log_containers, "log_secrets": log_secrets}
