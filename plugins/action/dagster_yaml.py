# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of dataops.dagster.dagster_yaml: checks the content, then hands the text to the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import FILE_COMMON_ARGUMENTS
from ansible.plugins.action import ActionBase

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import masked
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.refusal import refusal, refused, sentence
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import Report, validate_data
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.report import Finding
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.source import read
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import header, render

VARIABLE = "dagster_config"
ARGUMENTS: dict[str, Any] = {
    "config": {"type": "dict", "required": True},
    **FILE_COMMON_ARGUMENTS,
    "path": {"type": "path", "required": True},
    "python": {"type": "path", "required": True},
    "dagster_version": {"type": "str", "required": True},
    "env": {"type": "dict", "default": {}},
    "secret_env": {"type": "dict", "default": {}, "no_log": True},
    "mode": {"type": "raw", "default": "0640"},
    "validate": {"type": "str", "choices": ["strict", "catalogue"], "default": "strict"},
    "allow": {"type": "list", "elements": "str", "default": []},
    "stage": {"type": "bool", "default": False},
}


def row(finding: Finding) -> dict[str, str]:
    """A finding as a returned value."""
    return {"path": finding.path, "message": finding.message, "hint": finding.hint, "name": finding.name}


def changed_keys(before: str, after: str) -> list[str]:
    """Dotted paths of what two texts set differently; those of the whole section where one of them has none."""
    try:
        old, new = yaml.safe_load(before) or {}, yaml.safe_load(after) or {}
    except (yaml.YAMLError, ValueError):
        return []
    return sorted(_differences(old, new, ""))


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = {str(key): key for key in [*old, *new]}
        return [
            found
            for text, key in keys.items()
            for found in (
                _differences(old[key], new[key], f"{path}.{text}".lstrip("."))
                if key in old and key in new
                else [f"{path}.{text}".lstrip(".")]
            )
        ]
    return [] if old == new else [path]


class ActionModule(ActionBase):
    """Checks the content of dagster.yaml on the controller; only a good one is sent to the host, in one call."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the module's result, or what is wrong."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENTS)
        return self._write(arguments["config"], arguments, dict(task_vars or {}))

    def _write(self, data: Any, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Refuse the data, or have the host write it."""
        env = {str(name): value for name, value in (arguments["env"] or {}).items()}
        secrets = {str(name): value for name, value in (arguments["secret_env"] or {}).items()}
        version = str(arguments["dagster_version"])
        allow = arguments["allow"]
        try:
            report = validate_data(data, "dagster", version, {**env, **secrets}, allow)
        except ValueError as error:
            raise AnsibleActionFail(f"dagster_version: {error}") from error
        if not report.valid:
            return {
                "failed": True,
                "changed": False,
                "msg": refusal(arguments["path"], VARIABLE, report),
                "path": arguments["path"],
                "problems": [row(finding) for finding in refused(report)],
            }
        strict = arguments["validate"] == "strict"
        checked_with = f"Dagster {version}" if strict else f"the catalogue of Dagster {version}"
        try:
            text = render(data, header(VARIABLE, checked_with))
        except TypeError as error:
            raise AnsibleActionFail(f"{VARIABLE}: {error}") from error
        if read(text).data != data:
            raise AnsibleActionFail(
                f"the text for {arguments['path']} does not read back as its data: please report this"
            )
        sent = {name: arguments[name] for name in FILE_COMMON_ARGUMENTS if arguments.get(name) is not None}
        sent.update({name: arguments[name] for name in ("path", "python", "validate")})
        sent.update({"stage": True} if arguments["stage"] else {})
        sent.update(content=text, env=env, secret_env=secrets, dagster_version=version)
        result = snapshot.answered(
            self._task,
            task_vars,
            lambda read: self._known(read, sent),
            lambda: self._execute_module(
                module_name="dataops.dagster.config_file", module_args=sent, task_vars=task_vars
            ),
        )
        # Whatever the user allowed to stand there stays out of logs.
        result.pop("invocation", None)
        self._show(result, report)
        return result

    @staticmethod
    def _known(read: snapshot.Snapshot, sent: dict[str, Any]) -> dict[str, Any]:
        """What config_file answers when nothing is to be written: then it asks no Dagster either."""
        same = {name: str(sent[name]) for name in ("owner", "group", "mode") if name in sent}
        more = [name for name in FILE_COMMON_ARGUMENTS if sent.get(name) and name not in same]
        if more or sent["validate"] != "strict":
            raise snapshot.Unknown("attributes")
        stage = bool(sent.get("stage"))
        read.service({"files": [{"dest": sent["path"], "content": sent["content"], "stage": stage, **same}]})
        by = f"Dagster {sent['dagster_version']}"
        return {"changed": False, "path": sent["path"], "problems": [], "checked_by": by}

    def _show(self, result: dict[str, Any], report: Report) -> None:
        """Add what the module cannot know: what harms, and which keys change."""
        result["harms"] = [row(finding) for finding in report.warnings]
        diff = result.get("diff")
        if not isinstance(diff, dict):
            return
        result["changed_keys"] = changed_keys(str(diff["before"]), str(diff["after"]))
        diff["after"] = masked(str(diff["after"]))
        # Once, when the file is written: a second run is silent.
        for finding in report.warnings:
            result.setdefault("warnings", []).append(f"{VARIABLE}: {finding.path}: {sentence(finding)}")
