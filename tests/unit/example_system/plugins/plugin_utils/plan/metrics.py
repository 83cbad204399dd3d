# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A system that exists for a test only: everything that a new one brings, as small as it can be."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port


class Metrics(Component):
    """Something that listens, and asks the webservers."""

    def packages(self, facts: Facts) -> list[str]:
        return ["metrics-exporter"]

    def ports(self) -> list[Port]:
        return [Port(self.values["dagster_metrics_port"], "dagster_metrics_port", ("0.0.0.0",), "metrics.service")]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"metrics": (1, 5000)}

    def journal(self) -> list[str]:
        return ["_SYSTEMD_UNIT=metrics.service"]

    def options(self, facts: Facts) -> dict[str, Any]:
        webservers = self.inventory.group("dagster_webserver")
        return {"dagster_metrics_targets": [self.inventory.address(name) for name in webservers]}
