# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side check of a deployment: everything that can be known to be wrong before a host is touched."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.vars.hostvars import HostVars

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import spec
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory


class ActionModule(ActionBase):
    """Checks variables, groups and the host, and returns the host's part of the plan."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fails with all problems that a stage finds, or returns plan and facts of the host.

        The stages: what the host's variables say, what all hosts say together, what the host itself says.
        """
        result = super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        name = str(variables["inventory_hostname"])
        inventory, problems = self._inventory(name, variables)
        self._refuse(name, problems)  # what follows relies on types
        plan = Plan(inventory, name)
        self._refuse(name, plan.problems())
        began = time.time()
        answer = self._execute_module(
            module_name="dataops.dagster.host_facts", module_args=plan.questions(), task_vars=variables
        )
        ended = time.time()
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        facts = answer["host"]
        played = variables.get("ansible_play_hosts_all") or inventory.hosts
        self._refuse(name, plan.host_problems(facts, began, ended) + plan.limit_problems(facts, played))
        result.update(changed=False, plan=plan.as_fact(facts), host=facts)
        return result

    def _inventory(self, name: str, variables: dict[str, Any]) -> tuple[Inventory, list[str]]:
        """The hosts of the groups with their variables, and what is wrong with those of the named one."""
        roles = {group: tuple(found) for group, found in self._task.args["groups"].items()}
        every = variables["groups"]
        groups = {group: tuple(str(host) for host in every.get(group) or []) for group in roles}
        known = spec.specs()
        documented = {option for options in known.values() for option in options}
        problems = spec.unknown_names(variables, documented)
        hosts = {}
        for other in sorted({host for members in groups.values() for host in members}):
            needed = {role for group, members in groups.items() if other in members for role in roles[group]}
            given = self._given(other, {*documented, "ansible_host"}, variables)
            values, wrong = spec.read(known, [*sorted(needed), "playbooks"], given)
            # What is wrong on another host is told there.
            problems += wrong if other == name else []
            address = str(given.get("dagster_address") or given.get("ansible_host") or other)
            hosts[other] = Host(other, address, values, frozenset(given))
        return Inventory(groups, roles, hosts), problems

    def _given(self, host: str, names: set[str], variables: dict[str, Any]) -> dict[str, Any]:
        """Those of the named variables that are set for a host."""
        every = variables["hostvars"]
        # Ansible's own way through hostvars knows no hostvars inside of it.
        found: dict[str, Any] = dict(every.raw_get(host) if isinstance(every, HostVars) else every[host])
        if host == str(variables["inventory_hostname"]):
            found.update(variables)
        templar = self._templar.copy_with_new_env(available_variables={**found, "hostvars": every})
        given = {}
        for name in sorted(names & found.keys()):
            raw = found[name]
            # The defaults of roles in the same play are no user's.
            if not (isinstance(raw, str) and "dagster_plan." in raw):
                value = templar.template(raw)
                given[name] = "" if value is None and raw == "" else value  # what a template makes of no text
        return given

    @staticmethod
    def _refuse(host: str, problems: list[str]) -> None:
        if problems:
            count = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
            lines = "".join(f"\n- {problem}" for problem in problems)
            raise AnsibleActionFail(f"Nothing was changed. {host} has {count}:{lines}")
