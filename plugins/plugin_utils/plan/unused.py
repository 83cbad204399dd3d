# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables of a database that this deployment has not, or does not set up: they would be ignored. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import specs

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan


def given(plan: Plan, roles: Iterable[str]) -> list[str]:
    """Variables of these roles that are set. A survey of AWX sends the default of each: these say nothing."""
    host = plan.host
    found = [(role, name) for role in roles for name in host.given if name.startswith(f"dagster_{role}_")]
    known = specs() if found else {}
    return sorted(name for role, name in found if host.values.get(name) != known[role].get(name, {}).get("default"))


def problems(plan: Plan, others: Iterable[str]) -> list[str]:
    """A sentence about each; others are the roles of the databases that this is not."""
    storage = plan.storage
    own = given(plan, [storage.dialect]) if storage.external else []
    return [
        f"{variable} is set, and dagster_database_engine is {storage.dialect}, where it does nothing; remove it"
        for variable in given(plan, others)
    ] + [
        f"{variable} is set, and the database is a server of yours ({storage.external}), which this collection does "
        "not set up; remove it"
        for variable in own
        if variable != storage.limit_variable
    ]
