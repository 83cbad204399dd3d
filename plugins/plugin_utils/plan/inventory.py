# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inventory as typed values: which hosts there are, what each gets, and what is set for it. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Host:
    """A host of the deployment, in the play or not."""

    name: str
    address: str  # at which the other hosts reach it
    values: Mapping[str, Any]  # each documented variable with the type of its spec, or its default
    given: frozenset[str] = frozenset()  # the variables that the inventory sets

    def chosen(self, name: str, derived: Any) -> Any:
        """What the inventory sets, else what was derived."""
        given = self.values[name] if name in self.given else None
        return derived if given is None else given


@dataclass(frozen=True)
class Inventory:
    """The groups of the deployment, the roles that each group gets, and their hosts."""

    groups: Mapping[str, tuple[str, ...]]  # names of hosts, in the order of the inventory
    roles: Mapping[str, tuple[str, ...]]  # roles of each group
    hosts: Mapping[str, Host]
    # Roles of databases that the deployment has not (any more): nobody gets them.
    others: tuple[str, ...] = ()

    def group(self, name: str) -> list[str]:
        """The hosts of a group, none for one that the inventory lacks."""
        return list(self.groups.get(name, ()))

    def roles_of(self, host: str) -> list[str]:
        """The roles that a host gets, each once."""
        return sorted({role for group, hosts in self.groups.items() if host in hosts for role in self.roles[group]})

    def address(self, host: str) -> str:
        """At which address the other hosts reach a host; a name that is no host's stands for itself."""
        return self.hosts[host].address if host in self.hosts else host

    @property
    def services(self) -> list[str]:
        """The hosts of webservers and daemons."""
        return sorted({*self.group("dagster_webserver"), *self.group("dagster_daemon")})

    @property
    def engines(self) -> list[str]:
        """The hosts with a Docker engine."""
        return sorted({*self.group("dagster_code"), *self.group("dagster_run")})
