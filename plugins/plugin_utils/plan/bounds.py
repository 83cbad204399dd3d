# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Numbers that have a meaning only between two others. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DAY = 86400
RENEWAL = (1, 36500, "days; more than a certificate has left renews it now")
# The least and the largest value of a variable, and its unit.
BOUNDS: dict[str, tuple[int, int, str]] = {
    "dagster_canary.timeout": (1, DAY, "seconds"),
    "dagster_compute_log_retention_days": (1, 36500, "days"),
    "dagster_docker_run_retention_hours": (1, 876000, "hours"),
    "dagster_docker_tls_renew_days": RENEWAL,
    "dagster_health_wait": (0, DAY, "seconds"),
    "dagster_heartbeat_tolerance": (30, DAY, "seconds; Dagster writes a heartbeat each 30"),
    "dagster_webserver_options.db_pool_max_overflow": (0, 10000, "connections"),
    "dagster_webserver_pool_overflow": (0, 10000, "connections"),
}


def problems(values: Mapping[str, Any], dialect: str) -> list[str]:
    """A sentence for each number that is below or above what it may be; dialect is that of the database."""
    found = []
    for name, (least, most, unit) in {**BOUNDS, f"dagster_{dialect}_tls_renew_days": RENEWAL}.items():
        variable, _dot, key = name.partition(".")
        value = values.get(variable)
        if key:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or str(value).strip() == "":
            continue
        try:
            number = float(value)
        except ValueError:
            found.append(f"{name} is {value!r}; it is a number from {least} to {most} ({unit})")
            continue
        if not least <= number <= most:
            found.append(f"{name} is {value}; it is a number from {least} to {most} ({unit})")
    return found
