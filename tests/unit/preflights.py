"""Action preflight without a play, for the tests of what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from plans import FACTS, PASSWORDS, ROLES, VARIABLES, Groups, groups

from ansible_collections.dataops.dagster.plugins.action import preflight


class Preflight:
    """Runs the action without a play: the host is what `facts` says."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = dict(FACTS)
        self.answer: dict[str, Any] = {}
        self.others: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.arguments: dict[str, Any] = {"groups": ROLES}

    def run(self, hosts: Groups | None = None, host: str = "a", **variables: Any) -> dict[str, Any]:
        addresses = {
            "a": {"ansible_host": "10.0.0.1"},
            "b": {"ansible_host": "x", "dagster_address": "10.0.0.2"},
            "c": {},
        }
        addresses = {name: {**known, **self.others.get(name, {})} for name, known in addresses.items()}
        magic = {"inventory_hostname": host, "hostvars": addresses, "groups": hosts or groups()}
        given = {**VARIABLES, **variables, **magic}
        task = SimpleNamespace(args=self.arguments, async_val=0, check_mode=False, diff=False, action="preflight")
        templar = Templar(loader=DataLoader(), variables=given)
        shell = SimpleNamespace(tmpdir=None)
        action = preflight.ActionModule(
            task, SimpleNamespace(_shell=shell), SimpleNamespace(), DataLoader(), templar, None
        )
        action._execute_module = self.execute
        result: dict[str, Any] = action.run(task_vars=given)
        return result

    def execute(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        assert module_name == "dataops.dagster.host_facts"
        assert task_vars["inventory_hostname"]
        self.asked.append(module_args)
        return self.answer or {"host": self.facts}

    def plan(self, *args: Any, **variables: Any) -> dict[str, Any]:
        """The plan, and in it what roles read as dagster.NAME, by the names that users know."""
        result = self.run(*args, **variables)
        options = {f"dagster_{name}": value for name, value in result["options"].items()}
        return {**result["plan"], "options": options}

    def options(self, *args: Any, **variables: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.plan(*args, **variables)["options"]
        return found

    def packages(self, *args: Any, **variables: Any) -> list[str]:
        return [name for names in self.plan(*args, **variables)["packages"].values() for name in names]

    def refused(self, *args: Any, **variables: Any) -> list[str]:
        with pytest.raises(AnsibleActionFail) as error:
            self.run(*args, **variables)
        head, *problems = str(error.value).split("\n- ")
        assert head.startswith("Nothing was changed. ")
        assert head.endswith("one problem:" if len(problems) == 1 else f"{len(problems)} problems:")
        assert not [password for password in PASSWORDS.values() if password in str(error.value)]
        return problems
