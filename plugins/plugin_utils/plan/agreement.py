# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables that are about the deployment and not about a host: hosts that use one have to agree on it. Pure: no I/O.

Set for some hosts alone, as in group_vars of one group, such a variable would be one thing for the database and another
one for its clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import differing

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

SERVICES = ("dagster_webserver", "dagster_daemon")
SERVED = ("dagster_database", *SERVICES)
CONTAINERS = ("dagster_code", "dagster_run")
# The groups whose hosts use a variable.
USED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dagster_database_port", "dagster_database_name", "dagster_database_tls"), (*SERVED, *CONTAINERS)),
    **dict.fromkeys(
        (
            *("dagster_database_user", "dagster_database_read_user", "dagster_database_migration_user"),
            *("dagster_database_guard_user", "dagster_database_daemon_role", "dagster_daemon_fencing"),
        ),
        SERVED,
    ),
    "dagster_database_code_user": (*SERVED, "dagster_code"),
    "dagster_database_run_user": (*SERVED, *CONTAINERS),
    **dict.fromkeys(
        (
            *("dagster_daemon_lease_renew", "dagster_daemon_lease_deadline", "dagster_daemon_lease_ttl"),
            "dagster_daemon_watchdog",
        ),
        ("dagster_daemon",),
    ),
    "dagster_webserver_path_prefix": ("dagster_webserver", "dagster_proxy"),
    "dagster_state_dir": (*SERVICES, *CONTAINERS),
    "dagster_docker_network": (*SERVICES, "dagster_run"),
}
# Of proxies alone, and only where they share an address.
OF_A_SHARED_ADDRESS = ("dagster_vip_router_id", "dagster_nginx_port")
# The values of these are not shown.
SECRET: dict[str, tuple[str, ...]] = {
    "dagster_database_password": SERVED,
    "dagster_database_run_password": ("dagster_database", *CONTAINERS),
    "dagster_database_migration_password": (*SERVED, "dagster_code"),
}


def shown(plan: Plan, name: str, values: Mapping[str, Any]) -> str:
    """The value of a variable for a comparison, also of one that is derived."""
    value = values.get(name)
    if name == "dagster_database_port" and value is None:
        return str(plan.storage.default_port)
    return "" if value is None else str(value)


def problems(plan: Plan) -> list[str]:
    """A sentence for each variable on which this host and the first one that uses it do not agree.

    With that one alone: each further host whose variables are read costs time. All are read for the sentence.
    """
    hosts, found = plan.inventory.hosts, []
    proxies = dict.fromkeys(OF_A_SHARED_ADDRESS if plan.host.values["dagster_vip"] else (), ("dagster_proxy",))
    for name, groups in {**USED, **proxies, **SECRET}.items():
        members = [host for group in groups for host in plan.inventory.group(group)]
        members = [host for host in dict.fromkeys(members) if host in hosts]
        own = plan.host.name
        if own not in members:
            continue
        # A host that lacks what it has to have says so itself.
        if name in SECRET and name not in hosts[members[0]].given & plan.host.given:
            continue
        if shown(plan, name, plan.host.values) == shown(plan, name, hosts[members[0]].values):
            continue
        if name in SECRET:
            found.append(
                f"{name} is not the same for {members[0]} and {own}; both use it for one login. Set it for all"
            )
            continue
        every = {host: shown(plan, name, hosts[host].values) for host in members}
        found += differing(name, every, "it is one for the deployment, set it for all")
    return found
