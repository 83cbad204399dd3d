# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The webserver replicas of a host."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.budget import ENGINES
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.gate import Way
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, Port, Reach, is_ipv4

KINDS = ("webserver", "webserver_read_only")  # as names.py calls their units
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def prefix_problems(values: Mapping[str, Any]) -> list[str]:
    """A sentence about a path prefix that is none."""
    prefix = str(values["dagster_webserver_path_prefix"])
    if not prefix or PREFIX.fullmatch(prefix):
        return []
    near = "/" + re.sub(r"[^A-Za-z0-9_./-]+", "-", prefix.strip("/ ")).strip("-")
    hint = f"for example {near!r}" if PREFIX.fullmatch(near) else "leave it out for the root of the site"
    return [f"dagster_webserver_path_prefix is {prefix!r}; it starts with '/' and does not end with one; {hint}"]


class Webserver(Component):
    """The replicas, and the read-only one."""

    @property
    def replicas(self) -> list[tuple[str, Any, str]]:
        """The variable, the port and the unit of each webserver."""
        name, names = "dagster_webserver_read_only_port", self.plan.names
        found = [
            ("dagster_webserver_ports", port, f"{names['webserver']}@")
            for port in self.values["dagster_webserver_ports"]
        ]
        return found + ([(name, self.values[name], f"{names['webserver_read_only']}@")] if self.values[name] else [])

    @property
    def bind(self) -> str:
        """Where the replicas listen: on the host's own address when a proxy is elsewhere."""
        apart = set(self.inventory.group("dagster_proxy")) - {self.host.name}
        return str(self.host.chosen("dagster_webserver_bind", self.host.address if apart else LOOPBACK))

    def listening(self) -> dict[str, list[str]]:
        return {"dagster_webserver_bind": [self.bind]}

    def ports(self) -> list[Port]:
        offset = self.values["dagster_webserver_agent_offset"]
        proxies = self.inventory.group("dagster_proxy")
        # The one that holds the shared address may come from it, as when its network is narrower.
        shared = {str(self.inventory.hosts[name].values["dagster_vip"] or "").partition("/")[0] for name in proxies}
        reach = Reach("webserver", tuple(proxies), more=tuple(sorted(filter(is_ipv4, shared))))
        served = [Port(port, variable, (self.bind,), unit, reach) for variable, port, unit in self.replicas]
        agents = {
            port.number: replace(
                port, value=port.number + offset, variable=f"{port.variable} + dagster_webserver_agent_offset"
            )
            for port in served
            if port.number
        }
        return [*served, *agents.values()]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"webserver": (len(self.replicas), 165)}

    def pools(self) -> dict[str, int]:
        read = int(bool(self.values["dagster_webserver_read_only_port"]))
        return {"web": ENGINES * (len(self.replicas) - read), "read": ENGINES * read}

    def needs(self) -> list[str]:
        return ["instance", *self.plan.gates(self.host.name)]

    def journal(self) -> list[str]:
        return [f"_SYSTEMD_UNIT={unit}{port}.service" for _variable, port, unit in self.replicas]

    def run_needs(self) -> list[str]:
        return self.plan.instance.staged  # without the queue, webservers launch the runs

    def mark(self) -> str:
        return self.plan.names.unit_file("webserver", "@.service")

    def removal(self) -> list[str]:
        units = [self.plan.names[key] for key in ("webserver", "webserver_read_only")]
        return [
            f"systemctl stop {' '.join(repr(f'{unit}@*') for unit in units)}",
            f"systemctl disable {' '.join(f'{unit}@.service' for unit in units)}",
            f"rm {' '.join(self.plan.names.unit_file(key, '@.*') for key in ('webserver', 'webserver_read_only'))}",
        ]

    def known_by(self) -> list[str]:
        return self.inventory.group("dagster_proxy")

    @property
    def read_only_login(self) -> str:
        """The file with the password of the read-only webserver."""
        return f"{self.values['dagster_home']}/read_only.{self.plan.storage.credential}"

    def paths(self) -> list[str]:
        return [self.read_only_login, *(self.plan.names.enabled(kind) for kind in KINDS)]

    def compared(self) -> list[str]:
        return [self.plan.names.unit_file(kind, "@.service") for kind in KINDS]

    def units(self) -> list[str]:
        return [f"{unit}{port}.service" for _variable, port, unit in self.replicas]

    def gone(self, facts: Facts) -> list[str]:
        """The units of webservers that are no longer listed: those that run there, or would at the next boot."""
        ours = tuple(f"{self.plan.names[kind]}@" for kind in KINDS)
        there = {os.path.basename(path) for path in facts.get("paths", []) if ".wants/" in path}
        there |= {str(listener["unit"]) for listener in facts["listeners"]}
        listed = {f"{unit}{port}.service" for _variable, port, unit in self.replicas}
        return sorted(unit for unit in there - listed if unit.startswith(ours))

    def handed(self, facts: Facts) -> dict[str, Any]:
        storage = self.plan.storage
        read = storage.login_environment(storage.login("read"))
        return {
            "login": {kind: storage.unit_environment(storage.login(kind)) for kind in ("web", "read")},
            "read_only": {name: value for name, value in read.items() if name != storage.variables["credential"]},
            "gate": Way(self.host, self.plan).of_service("webserver"),
            "gone": self.gone(facts),
            "state": self.values["dagster_state_dir"],
            "log_folder": self.plan.configuration.log_folder,
        }

    def options(self, facts: Facts) -> dict[str, Any]:
        return {
            "dagster_webserver_bind": self.bind,
            "dagster_database_read_user": self.plan.storage.login("read"),
            "dagster_webserver_pool_overflow": self.plan.budget.overflow,
        }

    def problems(self) -> list[str]:
        read_only = self.values["dagster_webserver_read_only_port"]
        return self.plan.storage.password_problems("read") if read_only else []

    def deployment_problems(self) -> list[str]:
        ports = self.values["dagster_webserver_ports"]
        none = [] if ports else ["dagster_webserver_ports is empty; each port is a webserver, and one is needed"]
        return [*none, *prefix_problems(self.values)]
