# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HAProxy on a proxy's host: which webservers get requests."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import reached_at


class Haproxy(Component):
    """The balancer between nginx and the replicas."""

    def packages(self, facts: Facts) -> list[str]:
        return ["haproxy"]

    def options(self, facts: Facts) -> dict[str, Any]:
        return {
            "dagster_haproxy_webservers": [self.address_of(name) for name in self.inventory.group("dagster_webserver")]
        }

    def address_of(self, server: str) -> str:
        """Where the replicas of a host are reached."""
        bind = self.plan.webserver(server).bind
        return reached_at(bind, self.inventory.address(server), own=server == self.host.name)
