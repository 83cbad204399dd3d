# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side check of a deployment: everything that can be known to be wrong before a host is touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.vars.hostvars import HostVars

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import bare
from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean, nearest
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import names, spec
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan, chosen
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.renamed import tag_problems


def encrypted(value: Any) -> bool:
    """Whether a value is in a vault, to be read only when somebody needs it."""
    return type(value).__name__ == "EncryptedString"


def group_problems(every: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    """A sentence for each group whose name is nearly one of ours, and which has a host that no group of ours has."""
    members = {host for hosts in groups.values() for host in hosts}
    return [
        f"group {name} is none of this collection, and {', '.join(sorted(map(str, left)))} would be in no deployment"
        f"{did_you_mean(name, groups, '; ')}"
        for name, hosts in sorted(every.items())
        if name.startswith("dagster_") and name not in groups and nearest(name, groups, 0.85)
        for left in [set(hosts) - members]
        if left
    ]


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
        known = spec.specs()
        inventory, problems = self._inventory(name, variables, known)
        self._refuse(name, problems)  # what follows relies on types
        plan = Plan(inventory, name)
        self._refuse(name, plan.problems() + self._file_problems(plan, variables))
        questions = plan.questions()
        watched = plan.watched() if boolean(self._task.args.get("snapshot") or False) else {}
        snapshot.forget(name)
        asked, began = snapshot.now(), time.time()
        answer = self._execute_module(
            module_name="dataops.dagster.host_facts",
            module_args=snapshot.questions(questions, watched),
            task_vars=variables,
        )
        ended = time.time()
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        facts = answer["host"]
        if watched:
            snapshot.remember(name, snapshot.taken(answer, watched), asked)
        played = list(variables.get("ansible_play_hosts_all") or inventory.hosts)
        problems = plan.host_problems(facts, began, ended) + plan.limit_problems(facts, played)
        tags, skipped = (variables.get(f"ansible_{kind}_tags") or [] for kind in ("run", "skip"))
        self._refuse(name, problems + plan.tag_problems(facts, tags, skipped))
        if warnings := plan.warnings(facts):
            result["warnings"] = [f"{name}: {text}" for text in warnings]
        fact = plan.as_fact(facts, played)
        derived = fact.pop("options")
        options = spec.handed_on(
            known,
            [*plan.components, "playbooks"],
            lambda option: plan.host.chosen(option, derived.get(option, plan.host.values[option])),
        )
        result.update(changed=False, plan=fact, options=options, host=facts)
        return result

    def _inventory(
        self, name: str, variables: dict[str, Any], undecided: dict[str, spec.Options]
    ) -> tuple[Inventory, list[str]]:
        """The hosts of the groups with their variables, and what is wrong with those of the named one."""
        every = variables["groups"]
        groups = {group: tuple(str(host) for host in every.get(group) or []) for group in self._task.args["groups"]}
        documented = {option: found for options in undecided.values() for option, found in options.items()}
        own = self._given(name, documented, variables)[1]
        roles, others = chosen(
            {group: tuple(found) for group, found in self._task.args["groups"].items()}, own("dagster_database_engine")
        )
        problems = tag_problems(variables.get("ansible_run_tags") or []) + spec.taken_name_problems(variables)
        problems += spec.unknown_names(variables, documented) + group_problems(every, groups)
        hosts = {}
        for other in sorted({host for members in groups.values() for host in members}):
            given, read = self._given(other, documented, variables)
            address = bare(str(read("dagster_address") or read("ansible_host") or other))
            known = spec.with_defaults(undecided, names.chosen(read))
            values: Mapping[str, Any] = spec.Asked(known, given, read)
            if other == name:
                needed = [role for group, members in groups.items() if other in members for role in roles[group]]
                values, wrong = spec.read(known, [*needed, "playbooks"], {each: read(each) for each in given})
                problems += wrong  # what is wrong on another host is told there
            hosts[other] = Host(other, address, values, frozenset(given))
        return Inventory(groups, roles, hosts, others), problems

    def _file_problems(self, plan: Plan, variables: Mapping[str, Any]) -> list[str]:
        """A sentence for each certificate of an authority that the controller has not, or that is none."""
        found = []
        search = variables.get("ansible_search_path") or [self._loader.get_basedir()]
        for path in plan.host.values["dagster_ca_certificates"] if "instance" in plan.components else []:
            where = f"dagster_ca_certificates: {path}"
            try:
                with open(self._loader.path_dwim_relative_stack(search, "files", str(path)), encoding="utf-8") as file:
                    if "-----BEGIN CERTIFICATE-----" not in file.read():
                        found.append(f"{where} holds no certificate; expected PEM text")
            except (AnsibleFileNotFound, OSError):
                found.append(f"{where} is no file on the controller; a relative path counts from the playbook")
            except UnicodeDecodeError:
                found.append(f"{where} is no text; expected PEM (openssl x509 -inform der makes it from DER)")
        return found

    def _given(
        self, host: str, documented: spec.Options, variables: dict[str, Any]
    ) -> tuple[list[str], Callable[[str], Any]]:
        """The documented variables that are set for a host, and what reads one."""
        every = variables["hostvars"]
        # Ansible's own way through hostvars knows no hostvars inside of it.
        found: dict[str, Any] = dict(every.raw_get(host) if isinstance(every, HostVars) else every[host])
        if host == str(variables["inventory_hostname"]):
            found.update(variables)
        templar = self._templar.copy_with_new_env(available_variables={**found, "hostvars": every})

        def read(name: str) -> Any:
            try:
                value = templar.template(found.get(name))
            except AnsibleError as error:
                raise AnsibleActionFail(f"Nothing was changed. {name} of {host} cannot be read: {error}") from error
            return None if spec.blank(value, documented.get(name, {"type": "str"})) else value

        names = sorted(documented.keys() & found.keys())
        return [name for name in names if encrypted(found[name]) or not spec.blank(found[name], documented[name])], read

    @staticmethod
    def _refuse(host: str, problems: list[str]) -> None:
        if problems:
            count = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
            lines = "".join(f"\n- {problem}" for problem in problems)
            raise AnsibleActionFail(f"Nothing was changed. {host} has {count}:{lines}")
