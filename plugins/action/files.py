# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.files: renders the templates, so that one remote call writes them all.

There is no call where preflight has seen that all is as wanted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

try:
    from ansible.template import trust_as_template

    AS_TEXT: dict[str, Any] = {}
except ImportError:  # before ansible-core 2.19 all text is trusted, and text that looks like data becomes data
    trust_as_template = str
    AS_TEXT = {"convert_data": False}

# What role instance stages, so another call names it.
STAGED = {
    "current": "dagster_version",
    "dagster.yaml": "dagster_config",
    "environment": "dagster_environment",
    "environment.secret": "dagster_secret_environment",
    "workspace.yaml": "dagster_code_locations",
}


def made_from(text: str, variables: Mapping[str, Any]) -> list[str]:
    """The variables of an inventory that a template reads, also through variables of the roles (__dagster_NAME).

    Roles read most of them as dagster.NAME, as preflight has typed them.
    """
    typed = {f"dagster_{name}" for name in variables.get("dagster") or ()}
    names, found = read_names(text), set[str]()
    while names:
        name = names.pop()
        if not name.startswith("__"):
            found |= {name} & (variables.keys() | typed)
        elif name not in found:
            found.add(name)
            names |= read_names(str(variables.get(name, "")))
    return sorted(name for name in found if not name.startswith("__") and name not in ("dagster_plan", "dagster_host"))


def read_names(text: str) -> set[str]:
    """The names that a template reads, those of options as an inventory has them."""
    return {name.replace("dagster.", "dagster_") for name in re.findall(r"\b(?:dagster\.|(?:__)?dagster_)\w+", text)}


class ActionModule(ActionBase):
    """Turns C(template) into content and hands the whole list to the module in one call."""

    MODULE = "dataops.dagster.files"
    UNITS = False  # whether the units that read the files may be given with them
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the module's result."""
        result = super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        if not self.UNITS and "units" in self._task.args:
            raise AnsibleActionFail("files has no option units; use dataops.dagster.service for both")
        files = self._task.args.get("files")
        if not isinstance(files, list):
            raise AnsibleActionFail(f"files is a list of dictionaries; found {type(files).__name__}")
        self._texts: dict[str, str] = {}
        rendered = [self._rendered(dict(entry), variables) for entry in files]
        secrets = {
            str(entry.get("dest")): str(entry.pop("content"))
            for entry in rendered
            if boolean(entry.get("secret") or False) and entry.get("content") is not None
        }
        arguments = {**self._task.args, "files": rendered, "secrets": secrets}
        result.update(
            snapshot.answered(
                self._task,
                variables,
                lambda read: read.service(arguments),
                lambda: self._execute_module(
                    module_name="dataops.dagster.service", module_args=arguments, task_vars=variables
                ),
            )
        )
        if result.get("failed"):
            said = str(result.get("msg", ""))
            result["msg"] = "\n".join([said, *self._origins(said, variables)])
        return result

    def _origins(self, message: str, variables: dict[str, Any]) -> list[str]:
        """What the operator can change about each file that a failure names."""
        named = {dest: made_from(text, variables) for dest, text in self._texts.items() if dest in message}
        staged = re.findall(rf"(/\S+/({'|'.join(map(re.escape, STAGED))}))(?=[,.]?\s|[,.]?$)", message)
        named.update((path, [STAGED[name]]) for path, name in staged)
        return [f"{dest} is made from {', '.join(names)}." for dest, names in named.items() if names]

    def _rendered(self, entry: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        template = entry.pop("template", None)
        own_vars = entry.pop("vars", None) or {}
        if template is not None:
            if entry.get("content") is not None:
                raise AnsibleActionFail(f"{entry.get('dest')} has both content and template; keep one of them")
            source = self._find_needle("templates", str(template))
            with open(self._loader.get_real_file(source), encoding="utf-8") as stream:
                self._texts[str(entry.get("dest"))] = stream.read()
            text = trust_as_template(self._texts[str(entry.get("dest"))])
            entry["content"] = self._render(text, source, {**variables, **own_vars})
        return entry

    def _render(self, text: str, source: str, variables: dict[str, Any]) -> str:
        search = [os.path.dirname(source)]
        for path in variables.get("ansible_search_path", []):
            search += [os.path.join(path, "templates"), path]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
        rendered = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True}, **AS_TEXT)
        return "" if rendered is None else str(rendered)
