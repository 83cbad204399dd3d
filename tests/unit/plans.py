"""Deployments as the plan sees them: which hosts are in which groups, and what the inventory sets.

The rest is real: the roles of each group are those of playbooks/preflight.yml, types and defaults those of the specs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import names, spec
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan, chosen
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory

ROOT = Path(__file__).resolve().parents[2]
PLAY = yaml.safe_load((ROOT / "playbooks" / "preflight.yml").read_text(encoding="utf-8"))[0]
ROLES: dict[str, tuple[str, ...]] = {group: tuple(roles) for group, roles in PLAY["vars"]["__dagster_roles"].items()}
ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "c.example.com"}
LOCATION: dict[str, Any] = {"name": "etl", "module": "etl.definitions", "image": "etl:1"}
PASSWORDS = {
    "dagster_database_password": "one-secret",
    "dagster_database_run_password": "two-secret",
    "dagster_database_migration_password": "three-secret",
}
VARIABLES: dict[str, Any] = {"dagster_version": "1.13.27", "dagster_code_locations": [LOCATION], **PASSWORDS}
FACTS: dict[str, Any] = {
    "distribution": "debian",
    "release": "bookworm",
    "memory_mb": 4000,
    "packages": {},
    "listeners": [],
    "connect_errors": [],
}
# An engine of Debian's package with its own settings, and what runs on it: as module host_facts describes it.
ENGINE: dict[str, Any] = {
    "product": "Docker",
    "version": "20.10.24+dfsg1",
    "api": "1.41",
    "folder": "/var/lib/docker",
    "rootless": False,
    "live_restore": False,
    "log_driver": "json-file",
    "root": 0,
    "group": "docker",
    "networks": [{"name": "bridge", "subnets": ["172.17.0.0/16"], "ours": False}],
    "containers": [{"name": "shop", "published": [{"address": "0.0.0.0", "port": 9000}]}],
}
Groups = dict[str, list[str]]
specs = functools.cache(spec.specs)


def groups(**others: list[str]) -> Groups:
    """Host a in all groups, except for those that are named here without their prefix."""
    found = {group: others.pop(group.removeprefix("dagster_"), ["a"]) for group in ROLES}
    assert others == {}, "these are no groups of ours"
    return found


def inventory(
    hosts: Groups | None = None, each: dict[str, dict[str, Any]] | None = None, **variables: Any
) -> Inventory:
    """An inventory with these groups, one host without any; each are the variables of single hosts."""
    members = hosts or groups()
    names = {name for group in members.values() for name in group}
    addresses = {name: {"ansible_host": ADDRESSES.get(name, name)} for name in names}
    return read(
        members, {name: {**VARIABLES, **addresses[name], **variables, **(each or {}).get(name, {})} for name in names}
    )


def read(hosts: Groups, given: dict[str, dict[str, Any]]) -> Inventory:
    """An inventory of these groups and variables; what the specs refuse about these is an error here."""
    members = {group: tuple(names) for group, names in hosts.items()}
    first = next(iter(given.values()), {})
    roles, others = chosen(ROLES, first.get("dagster_database_engine"))
    roles_of = Inventory(members, roles, {}).roles_of
    known = {}
    for name, variables in sorted(given.items()):
        documented = spec.with_defaults(specs(), names.chosen(variables.get))
        values, problems = spec.read(documented, [*roles_of(name), "playbooks"], variables)
        assert problems == []
        address = variables.get("dagster_address") or variables.get("ansible_host") or name
        known[name] = Host(name, str(address), values, frozenset(variables))
    return Inventory(members, roles, known, others)


def plan(
    host: str = "a", hosts: Groups | None = None, each: dict[str, dict[str, Any]] | None = None, **variables: Any
) -> Plan:
    """The plan of a host."""
    return Plan(inventory(hosts, each, **variables), host)


def fact(*given: Any, **variables: Any) -> dict[str, Any]:
    """The fact of a host that was just installed."""
    return plan(*given, **variables).as_fact(FACTS)


def options(*given: Any, **variables: Any) -> dict[str, Any]:
    """The derived options of the roles of a host."""
    found: dict[str, Any] = fact(*given, **variables)["options"]
    return found


def component(role: str, *given: Any, **variables: Any) -> Any:
    """The component of a role on a host, whether the host gets the role or not."""
    return plan(*given, **variables).known[role]
