# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A proxy: nginx, the way in, and HAProxy behind it, which picks the replica."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import WILDCARDS, bare, host_port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, Port, reached_at


def named_addresses(values: Mapping[str, Any]) -> list[str]:
    """The addresses to listen on that the inventory names: one, or a list of them."""
    listen = values["dagster_nginx_listen"]
    return [str(address) for address in (listen if isinstance(listen, list) else [listen])]


class Proxy(Component):
    """The entry points, and the balancer between them and the replicas."""

    @property
    def addresses(self) -> list[str]:
        """Where it listens. With a shared address on loopback too, where this host is asked whether it can hold it."""
        named = named_addresses(self.values)
        more = self.values["dagster_vip"] and not {LOOPBACK, *WILDCARDS}.intersection(named)
        return [*named, *([LOOPBACK] if more else [])]

    @property
    def url(self) -> str:
        """Base URL of the UI as this host reaches it."""
        address = bare(self.addresses[0])
        # At a shared address another host may answer.
        address = LOOPBACK if address in WILDCARDS or self.values["dagster_vip"] else address
        place = host_port(address, self.values["dagster_nginx_port"])
        return f"http://{place}{self.values['dagster_webserver_path_prefix']}"

    @property
    def url_file(self) -> str:
        """Says where the deployed entry point answers: what a check asks before a change of that is made."""
        return f"{self.plan.names['programs']}/edge.url"

    def webserver_address(self, server: str) -> str:
        """Where the replicas of a host are reached."""
        bind = self.plan.webserver(server).bind
        return reached_at(bind, self.inventory.address(server), own=server == self.host.name)

    def packages(self, facts: Facts) -> list[str]:
        there = {"nginx", "nginx-light"}.intersection(facts["packages"])
        return ["haproxy", *([] if there else ["nginx-light"])]

    def ports(self) -> list[Port]:
        entries = ["dagster_nginx_port"]
        entries += ["dagster_nginx_read_only_port"] if self.values["dagster_nginx_read_only_port"] else []
        return [Port(self.values[name], name, tuple(self.addresses), "nginx.service") for name in entries]

    def mark(self) -> str:
        return self.plan.names["nginx"]

    def removal(self) -> list[str]:
        return [*super().removal(), "systemctl reload nginx.service"]

    def known_by(self) -> list[str]:
        return self.inventory.group("dagster_webserver")

    def texts(self) -> list[str]:
        return [self.url_file]

    def options(self, facts: Facts) -> dict[str, Any]:
        servers = self.inventory.group("dagster_webserver")
        return {"dagster_haproxy_webservers": [self.webserver_address(name) for name in servers]}

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {"url": self.url, "url_file": self.url_file, "sysctl": self.plan.names.sysctl("nginx")}
