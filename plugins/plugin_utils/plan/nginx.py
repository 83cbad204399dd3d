# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""nginx on a proxy's host: the way in, and the address that the proxies share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import vip
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import (
    LOOPBACK,
    WILDCARDS,
    Port,
    bare,
    host_port,
    interface_of,
)

# Says where the deployed entry point answers: what a check asks before a change of that is made.
URL_FILE = "/usr/local/lib/dagster/edge.url"


def named_addresses(values: Mapping[str, Any]) -> list[str]:
    """The addresses to listen on that the inventory names: one, or a list of them."""
    listen = values["dagster_nginx_listen"]
    return [str(address) for address in (listen if isinstance(listen, list) else [listen])]


class Nginx(Component):
    """The entry points, and keepalived beside them when the proxies share an address."""

    @property
    def addresses(self) -> list[str]:
        """Where it listens. With a shared address on loopback too, where this host is asked whether it can hold it."""
        named = named_addresses(self.values)
        more = self.values["dagster_nginx_vip"] and not {LOOPBACK, *WILDCARDS}.intersection(named)
        return [*named, *([LOOPBACK] if more else [])]

    @property
    def address(self) -> str:
        """The host's own address, from which it talks to the other proxies."""
        return str(self.host.chosen("dagster_nginx_address", self.host.address))

    @property
    def url(self) -> str:
        """Base URL of the UI as this host reaches it."""
        address = bare(self.addresses[0])
        # At a shared address another host may answer.
        address = LOOPBACK if address in WILDCARDS or self.values["dagster_nginx_vip"] else address
        place = host_port(address, self.values["dagster_nginx_port"])
        return f"http://{place}{self.values['dagster_webserver_path_prefix']}"

    def interface(self, facts: Facts) -> str:
        """The interface for the shared address, empty when none is in a network with the host's own."""
        given = self.values.get("dagster_nginx_vip_interface")
        return str(given or interface_of(self.address, facts.get("networks", {})))

    def packages(self, facts: Facts) -> list[str]:
        there = {"nginx", "nginx-light"}.intersection(facts["packages"])
        return [*([] if there else ["nginx-light"]), *(["keepalived"] if self.values["dagster_nginx_vip"] else [])]

    def ports(self) -> list[Port]:
        entries = ["dagster_nginx_port"]
        entries += ["dagster_nginx_read_only_port"] if self.values["dagster_nginx_read_only_port"] else []
        return [Port(self.values[name], name, tuple(self.addresses), "nginx.service") for name in entries]

    def mark(self) -> str:
        return "/etc/nginx/conf.d/dagster.conf"

    def known_by(self) -> list[str]:
        shared = self.inventory.group("dagster_proxy") if self.values["dagster_nginx_vip"] else []
        return [*self.inventory.group("dagster_webserver"), *shared]

    def paths(self) -> list[str]:
        return [vip.PROGRAM, vip.CONFIG]

    def options(self, facts: Facts) -> dict[str, Any]:
        return {
            "dagster_nginx_address": self.address,
            "dagster_nginx_peers": [self.plan.nginx(name).address for name in self.inventory.group("dagster_proxy")],
            "dagster_nginx_vip_interface": self.interface(facts),
        }

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {"url": self.url, "url_file": URL_FILE, "vip_program": vip.PROGRAM}

    def problems(self) -> list[str]:
        return vip.problems(self.host, self.inventory, named_addresses(self.values))

    def host_problems(self, facts: Facts) -> list[str]:
        if not self.values["dagster_nginx_vip"]:
            return []
        return vip.host_problems(self.address, self.interface(facts), facts.get("paths", []))
