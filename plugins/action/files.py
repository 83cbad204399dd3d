# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.files: renders the templates, so that one remote call writes them all."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

try:
    from ansible.template import trust_as_template

    AS_TEXT: dict[str, Any] = {}
except ImportError:  # before ansible-core 2.19 all text is trusted, and text that looks like data becomes data
    trust_as_template = str
    AS_TEXT = {"convert_data": False}


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
        rendered = [self._rendered(dict(entry), variables) for entry in files]
        secrets = {
            str(entry.get("dest")): str(entry.pop("content"))
            for entry in rendered
            if boolean(entry.get("secret") or False) and entry.get("content") is not None
        }
        result.update(
            self._execute_module(
                module_name="dataops.dagster.service",
                module_args={**self._task.args, "files": rendered, "secrets": secrets},
                task_vars=variables,
            )
        )
        return result

    def _rendered(self, entry: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        template = entry.pop("template", None)
        own_vars = entry.pop("vars", None) or {}
        if template is not None:
            if entry.get("content") is not None:
                raise AnsibleActionFail(f"{entry.get('dest')} has both content and template; keep one of them")
            entry["content"] = self._render(str(template), {**variables, **own_vars})
        return entry

    def _render(self, template: str, variables: dict[str, Any]) -> str:
        source = self._find_needle("templates", template)
        with open(self._loader.get_real_file(source), encoding="utf-8") as stream:
            text = trust_as_template(stream.read())
        search = [os.path.dirname(source)]
        for path in variables.get("ansible_search_path", []):
            search += [os.path.join(path, "templates"), path]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
        rendered = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True}, **AS_TEXT)
        return "" if rendered is None else str(rendered)
