# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Installs the Debian packages that a host lacks, by what preflight read of it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs M(ansible.builtin.apt) only when a package is missing, and never in check mode.

    Files that scripts of the packages read are written only then, and before. The roles that give them own them.

    What it returns as C(installed) is to be remembered in C(dagster_host), so that roles that come later need not ask.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of apt, or what it would install."""
        result = super().run(tmp, task_vars)
        variables = dict(task_vars or {})
        host = self._templar.template(variables["dagster_host"])
        installed = host["packages"]
        missing = [str(name) for name in self._task.args["name"] if name not in installed]
        diff = {"before": "", "after": "".join(f"install {name}\n" for name in missing), "after_header": "packages"}
        result.update(changed=bool(missing), missing=missing)
        if missing and not self._task.check_mode:  # a bare host's apt does not know the names before its first update
            arguments = {
                "name": missing,
                "install_recommends": False,
                "update_cache": True,
                "cache_valid_time": 3600,
                # A service that starts with its package has the package's settings: nginx shows its welcome page to
                # everybody, an engine without user namespaces keeps its images apart.
                "policy_rc_d": 101,
            }
            answer = self._unwritten(variables) or self._execute_module(
                module_name="ansible.builtin.apt", module_args=arguments, task_vars=variables
            )
            kept = ("changed", "failed", "unreachable", "msg", "rc", "stderr", "module_stderr", "exception")
            result.update({key: answer[key] for key in kept if key in answer})
            if not (answer.get("failed") or answer.get("unreachable")):
                result["installed"] = dict.fromkeys(missing, "")  # nobody asks for a version
        if missing:
            result["diff"] = diff
        return result

    def _unwritten(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Writes the files; the answer if they cannot be written, else nothing."""
        files = self._task.args.get("files") or []
        if not files:
            return {}
        answer: dict[str, Any] = self._execute_module(
            module_name="dataops.dagster.service", module_args={"files": files, "secrets": {}}, task_vars=variables
        )
        return answer if answer.get("failed") or answer.get("unreachable") else {}
