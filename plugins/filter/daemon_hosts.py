# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what module units found on each daemon host, as module instance_info takes it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: daemon_hosts
short_description: The daemon's hosts as they were found
version_added: 0.2.0
author: dataops (@dataops)
description: Turns the results of M(dataops.dagster.units) in a loop over the hosts into the option
  O(dataops.dagster.instance_info#module:expect.daemon_hosts).
options:
  _input: {description: Results about one unit each; C(item) is the host., type: list, elements: dict, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ asked.results | dataops.dagster.daemon_hosts }}"
"""

RETURN = r"""
_value:
  description: Name, unit, start and status of each host, or the reason why the host could not be asked.
  type: list
  elements: dict
  sample: [{name: ctl1, unit: dagster-daemon.service, started: 1795513200, status: "active: daemon runs", error: ""}]
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def daemon_hosts(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The daemon's hosts as they were found."""
    found = []
    for result in results:
        failed = result.get("unreachable") or result.get("failed")
        unit = "" if failed else next(iter(result["started"]))  # the one that was asked for
        found.append(
            {
                "name": str(result["item"]),
                "unit": unit,
                "started": 0 if failed else result["started"][unit],
                "status": "" if failed else result["status"][unit],
                "error": " ".join(str(result.get("msg", "no answer")).split()) if failed else "",
            }
        )
    return found


def daemons_settled(results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one host runs the daemon and each other one stands by, and none of several was changed just now."""
    hosts = daemon_hosts(results)
    active = [host for host in hosts if host["status"].startswith("active")]
    waiting = [host for host in hosts if re.match(rf"standby: (?!{re.escape(host['name'])} ).* holds", host["status"])]
    changed = len(hosts) > 1 and any(result.get("actions") or result.get("changed_paths") for result in results)
    return len(active) == 1 and len(active) + len(waiting) == len(hosts) and not changed


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"daemon_hosts": daemon_hosts, "daemons_settled": daemons_settled}
