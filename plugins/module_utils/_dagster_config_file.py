# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules dagster_yaml and workspace_yaml share: ask the real Dagster, then put the file in place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils import _dagster_check
from ansible_collections.dataops.dagster.plugins.module_utils._dagster_config import (
    Problem,
    env_references,
    header,
    masked,
    redacted,
    render,
)

RULES_ONLY = "rules of the collection"

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "python": {"type": "path", "required": True},
    "dagster_version": {"type": "str", "required": True},
    "env": {"type": "dict", "default": {}},
    "mode": {"type": "raw", "default": "0640"},
}


class ConfigFile:
    """One managed file of DAGSTER_HOME."""

    def __init__(self, module: AnsibleModule, name: str, variable: str) -> None:
        self.module = module
        self.name = name  # of the request to the check program
        self.variable = variable
        self.path: str = module.params["path"]
        self.version: str = module.params["dagster_version"]
        env = module.params["env"] or {}
        self.env = {str(key): "" if value is None else str(value) for key, value in env.items()}

    def manage(self, data: Any, problems: Sequence[Problem]) -> None:
        """Check, then write. Ends the module."""
        found = [{"path": problem.path, "message": message(problem)} for problem in problems]
        text = before = ""
        if not any(problem.path == "" for problem in problems):
            text = self.render(data, found)
        before = self.read()
        checked_by = f"Dagster {self.version}"
        # The comment in the file says what it was checked with, so an equal text needs no second check, unless a
        # variable has disappeared from the environment since.
        if found or text != before or self.unset_names(data):
            # A refused secret goes no further, so that no message of Dagster can quote it.
            answer = self.ask_dagster(redacted(data), "" if found else text)
            if answer is None:
                checked_by = RULES_ONLY
            else:
                found += unreported(answer, found)
        if found:
            self.fail(found)
        self.write(before, text, checked_by)

    def render(self, data: Any, found: list[dict[str, str]]) -> str:
        try:
            return render(data, header(self.variable, self.version))
        except TypeError as error:
            found.append({"path": "", "message": str(error)})
            return ""

    def unset_names(self, data: Any) -> bool:
        return any(name not in self.env for _path, name in env_references(data))

    def read(self) -> str:
        if os.path.isdir(self.path):
            self.module.fail_json(msg=f"path: {self.path} is a directory; expected the name of a file")
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""
        except OSError as error:
            self.module.fail_json(msg=f"path: {self.path} cannot be read: {error.strerror}")
            raise  # fail_json does not return

    def ask_dagster(self, data: Any, text: str) -> list[dict[str, str]] | None:
        """The problems that the Dagster of the virtual environment finds; None if there is none to ask (check mode)."""
        python = self.module.params["python"]
        if not os.access(python, os.X_OK):
            if not self.module.check_mode:
                self.module.fail_json(
                    msg=f"python: {python} does not exist or is not executable, so {self.path} cannot be checked; "
                    "expected the Python of Dagster's virtual environment, which has to be installed first"
                )
            self.module.warn(
                f"{python} does not exist yet: {self.path} was checked with the rules of the collection only; "
                f"Dagster {self.version} checks it before it is written"
            )
            return None
        request = {self.name: data, "env": self.env, "texts": {self.name: text or None}}
        # -I: the operator's own PYTHON* variables and folders play no part. -B: root leaves no files in the venv.
        command = [python, "-I", "-B", "-c", _dagster_check.program()]
        return_code, output, errors = self.module.run_command(command, data=json.dumps(request), cwd="/")
        try:
            answer = json.loads(output)
            version, problems = str(answer["dagster_version"]), list(answer["problems"])
        except (ValueError, KeyError, TypeError):
            tail = "\n".join(errors.strip().splitlines()[-5:])
            self.module.fail_json(
                msg=f"{self.path} could not be checked: {python} ended with {return_code} and gave no answer; "
                f"its last words:\n{tail}"
            )
            raise  # fail_json does not return
        if version and version != self.version:
            if self.module.check_mode:
                self.module.warn(
                    f"{python} still has Dagster {version}: {self.path} was checked with the rules of the collection "
                    f"only; Dagster {self.version} checks it before it is written"
                )
                return None
            wrong = f"found Dagster {version} in {python}; expected {self.version} (dagster_version)"
            return [{"path": "", "section": "", "message": wrong}]
        return problems

    def fail(self, found: list[dict[str, str]]) -> None:
        lines = [f"{problem['path'] or '(whole file)'}: {problem['message']}" for problem in found]
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        self.module.fail_json(
            msg=f"{self.path} was not written, {count}; change {self.variable} in the inventory:\n" + "\n".join(lines),
            path=self.path,
            problems=found,
        )

    def write(self, before: str, text: str, checked_by: str) -> None:
        module = self.module
        result: dict[str, Any] = {"path": self.path, "problems": [], "checked_by": checked_by}
        changed = text != before
        if changed:
            # What stood there may be written by hand, with a password in it; ours never has one.
            result["diff"] = {
                "before_header": self.path,
                "after_header": self.path,
                "before": masked(before),
                "after": text,
            }
            if not module.check_mode:
                self.replace(text)
        if os.path.exists(self.path):
            changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), changed)
        module.exit_json(changed=changed, **result)

    def replace(self, text: str) -> None:
        """Put the new text in place in one step: a running daemon re-reads workspace.yaml each minute."""
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            self.module.fail_json(msg=f"path: the folder {folder} does not exist; expected DAGSTER_HOME, made before")
        handle, temporary = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # An existing file keeps its owner and mode; a new one is closed to others until it has the right ones.
        old_umask = os.umask(0o077)
        try:
            self.module.atomic_move(temporary, self.path)
        finally:
            os.umask(old_umask)


def message(problem: Problem) -> str:
    return f"found {problem.found}; expected {problem.expected}"


def unreported(answer: list[dict[str, str]], found: list[dict[str, str]]) -> list[dict[str, str]]:
    """What Dagster found beyond our own rules, which explain the same thing better.

    A constructor says what is wrong with a section as a whole; that is left out where a rule names the key.
    """
    paths = {problem["path"] for problem in found}
    new = []
    for problem in answer:
        path = problem["path"]
        of_section = path in (problem["section"], f"{problem['section']}.config")
        explained = of_section and any(known.startswith(f"{problem['section']}.") for known in paths)
        if path not in paths and not explained:
            new.append({"path": path, "message": problem["message"]})
    return new
