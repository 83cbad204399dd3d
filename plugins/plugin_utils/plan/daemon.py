# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The daemon on one of its hosts, and the guard that lets only one of them run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.configuration import workers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.gate import Way
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage

LOOPS = 16  # eight loops, and a launch or an evaluation may hold a second connection
GUARD_CONNECTIONS = 2  # the lease's own, and a new one while the server has not missed a cut one yet


class Daemon(Component):
    """The daemon, or its standby."""

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"daemon": (1, 140)}

    def connections(self) -> dict[str, int]:
        # A standby has none, but a daemon that is just being ended may hold its own for a moment.
        return {"daemon": LOOPS + workers(self.plan.configuration.merged), "guard": GUARD_CONNECTIONS}

    def run_needs(self) -> list[str]:
        names = (f"daemon.{self.plan.storage.credential}", "guard.json", "gate/*/*")
        return [*self.plan.instance.staged, self.mark(), *(f"{self.values['dagster_home']}/{name}" for name in names)]

    def mark(self) -> str:
        return self.plan.names.unit_file("daemon")

    def needs(self) -> list[str]:
        return ["instance", *self.plan.gates(self.host.name)]

    def removal(self) -> list[str]:
        return [f"systemctl disable --now {self.plan.names['daemon']}.service", *super().removal()]

    def compared(self) -> list[str]:
        return [self.mark()]

    def units(self) -> list[str]:
        return [f"{self.plan.names['daemon']}.service"]

    def journal(self) -> list[str]:
        return [f"_SYSTEMD_UNIT={self.plan.names['daemon']}.service"]

    @property
    def config(self) -> str:
        """What the guard of the host runs with."""
        return f"{self.values['dagster_home']}/guard.json"

    def lines(self) -> dict[str, str]:
        return {self.config: '"login": (null)'}

    def unfenced(self, facts: Facts) -> bool:
        """Whether the daemon runs with the login of the webservers: behind a fence it could do nothing."""
        return bool((facts.get("lines") or {}).get(self.config))

    def options(self, facts: Facts) -> dict[str, Any]:
        return {"dagster_daemon_login": self.plan.storage.daemon_login(self.host.name)}

    def handed(self, facts: Facts) -> dict[str, Any]:
        storage = self.plan.storage
        login = storage.daemon_login(self.host.name) or storage.login("web")
        return {"login": storage.unit_environment(login), "gate": Way(self.host, self.plan).of_service("daemon")}

    def deployment_problems(self) -> list[str]:
        return [
            *timing_problems(self.values),
            *login_problems(self.inventory, self.values, self.plan.storage),
        ]


def timing_problems(values: Mapping[str, Any]) -> list[str]:
    """Sentences about timings with which two daemons could run at a time, or a healthy one would be ended.

    The guard refuses the same (guard.py, Timings); a test compares the two.
    """
    renew, deadline, ttl, watchdog = (
        int(values[f"dagster_daemon_{name}"]) for name in ("lease_renew", "lease_deadline", "lease_ttl", "watchdog")
    )
    rules = (
        (renew > 0, f"dagster_daemon_lease_renew is {renew}; it is at least 1"),
        (
            deadline >= 3 * renew,
            f"dagster_daemon_lease_deadline is {deadline}; with dagster_daemon_lease_renew {renew} it is at least "
            f"{3 * renew}, or one lost answer ends a healthy daemon",
        ),
        (
            watchdog >= 2 * renew,
            f"dagster_daemon_watchdog is {watchdog}; with dagster_daemon_lease_renew {renew} it is at least "
            f"{2 * renew}",
        ),
        (
            ttl >= max(deadline + 2, watchdog + 2 * renew + 1),
            f"dagster_daemon_lease_ttl is {ttl}; it is at least {max(deadline + 2, watchdog + 2 * renew + 1)} "
            "(dagster_daemon_lease_deadline + 2, and dagster_daemon_watchdog + 2 x dagster_daemon_lease_renew + 1), or "
            "a standby starts before the old daemon has ended",
        ),
    )
    problems = [text for holds, text in rules if not holds]
    heartbeat = int(values["dagster_daemon_heartbeat_timeout"])
    if heartbeat < 60:
        problems.append(
            f"dagster_daemon_heartbeat_timeout is {heartbeat}; it is at least 60, because Dagster writes a heartbeat "
            "each 30 seconds"
        )
    return problems


def login_problems(inventory: Inventory, values: Mapping[str, Any], storage: Storage) -> list[str]:
    """Sentences about daemon hosts that could not be told apart, or not be fenced."""
    problems = []
    if storage.external and values["dagster_daemon_fencing"] == "full":
        problems.append(
            f"dagster_daemon_fencing is full, but at {storage.external} this collection has no owner that may shut a "
            "login out; set it to lease_only: a daemon host that was paused for longer than dagster_daemon_lease_ttl "
            "can then write for a moment after it comes back"
        )
    logins: dict[str, str] = {}
    for host in inventory.group("dagster_daemon"):
        login = storage.daemon_login(host)
        if login and login in logins:
            problems.append(
                f"{logins[login]} and {host} of group dagster_daemon would both have the database login {login}; "
                "rename one of them"
            )
        logins[login] = host
    return problems
