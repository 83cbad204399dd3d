#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: config_file
short_description: Have the host's Dagster check a configuration file, and write it
version_added: 0.1.0
author:
  - DataOps (@dataops)
description:
  - This is the host's part of M(dataops.dagster.dagster_yaml). Use that instead.
  - The Dagster in the host's virtual environment checks a text. It applies its schema, imports each class that the text
    names, processes the configuration and builds the object. It opens no connection and changes nothing on the host.
    Then the module replaces the file in one step.
  - If the file already has the wanted content, Dagster is not asked. The comment on top of the file says with which
    version the content was checked.
options:
  path:
    description: Where to write the file. The folder has to exist.
    type: path
    required: true
  content:
    description: The text to write.
    type: str
    required: true
extends_documentation_fragment:
  - dataops.dagster.config_file
  - ansible.builtin.files
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The old content is shown without what looks like a secret.
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Write a text that was checked before
  dataops.dagster.config_file:
    path: /etc/dagster/dagster.yaml
    content: "telemetry: {enabled: false}"
    python: /opt/dagster/current/bin/python
    dagster_version: 1.13.27
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/dagster/dagster.yaml
problems:
  description: What the host's Dagster refuses. Empty if the module succeeds.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The dotted path of the key, empty for the file as a whole.
      type: str
      returned: always
      sample: run_monitoring.poll_interval_seconds
    message:
      description: What was found and what was expected.
      type: str
      returned: always
      sample: "found the text '120', expected a number: write it without quotes"
checked_by:
  description: What has checked the content, now or when the file was written.
  returned: success
  type: str
  sample: Dagster 1.13.27
"""

import json
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.program import program
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import next_of
from ansible_collections.dataops.dagster.plugins.module_utils._secrets import masked

CATALOGUE_ONLY = "catalogue of the collection"

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "validate": {"type": "str", "choices": ["strict", "catalogue"], "default": "strict"},
    "python": {"type": "path", "required": True},
    "dagster_version": {"type": "str", "required": True},
    "env": {"type": "dict", "default": {}},
    "secret_env": {"type": "dict", "default": {}, "no_log": True},
    "mode": {"type": "raw", "default": "0640"},
    "stage": {"type": "bool", "default": False},
}


class ConfigFile:
    """One managed file of DAGSTER_HOME."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path: str = module.params["path"]
        self.version: str = module.params["dagster_version"]
        env = {**(module.params["env"] or {}), **(module.params["secret_env"] or {})}
        self.env = {str(key): "" if value is None else str(value) for key, value in env.items()}

    def manage(self) -> None:
        """Check, then write. Ends the module."""
        text: str = self.module.params["content"]
        before, target = self.read(self.path), self.path
        # What is not there yet has no reader, so it is written at once.
        if self.module.params["stage"] and os.path.exists(self.path) and text != before:
            target = next_of(self.path)
            before = text if self.read(target) == text else before  # an earlier play has staged it
        strict = self.module.params["validate"] == "strict"
        checked_by = f"Dagster {self.version}" if strict else CATALOGUE_ONLY
        if strict and text != before:
            found = self.ask_dagster(text)
            if found is None:
                checked_by = CATALOGUE_ONLY
            elif found:
                self.fail(found)
        self.write(before, text, target, checked_by)

    def read(self, path: str) -> str:
        if os.path.isdir(path):
            self.module.fail_json(msg=f"path: {path} is a directory; expected the name of a file")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""
        except OSError as error:
            self.module.fail_json(msg=f"path: {path} cannot be read: {error.strerror}")
            raise  # fail_json does not return

    def ask_dagster(self, text: str) -> list[dict[str, str]] | None:
        """The problems that the Dagster of the virtual environment finds; None if there is none to ask (check mode)."""
        python = self.module.params["python"]
        if not os.access(python, os.X_OK):
            if not self.module.check_mode:
                self.module.fail_json(
                    msg=f"python: {python} does not exist or is not executable, so {self.path} cannot be checked; "
                    "expected the Python of Dagster's virtual environment, which has to be installed first"
                )
            self.module.warn(
                f"{python} does not exist yet: {self.path} was checked with the catalogue of the collection only; "
                f"Dagster {self.version} checks it before it is written"
            )
            return None
        request = {"env": self.env, "texts": {"dagster_yaml": text}}
        # -I: the operator's own PYTHON* variables and folders play no part. -B: root leaves no files in the venv.
        command = [python, "-I", "-B", "-c", program()]
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
                    f"{python} still has Dagster {version}: {self.path} was checked with the catalogue of the "
                    f"collection only; Dagster {self.version} checks it before it is written"
                )
                return None
            wrong = f"found Dagster {version} in {python}; expected {self.version} (dagster_version)"
            return [{"path": "", "section": "", "message": wrong}]
        return problems

    def fail(self, found: list[dict[str, str]]) -> None:
        lines = [f"{problem['path'] or '(whole file)'}: {problem['message']}" for problem in found]
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        unknown = any(problem["message"].startswith("cannot import ") for problem in found)
        remedy = (
            "or dagster_requirements, if a package is missing there" if unknown else "and please report the difference"
        )
        self.module.fail_json(
            msg=f"{self.path} was not written: the catalogue of the collection accepts it, the Dagster of this host "
            f"has {count}; change dagster_config in the inventory, {remedy}:\n" + "\n".join(lines),
            path=self.path,
            problems=[{"path": problem["path"], "message": problem["message"]} for problem in found],
        )

    def write(self, before: str, text: str, target: str, checked_by: str) -> None:
        module = self.module
        result: dict[str, Any] = {"path": self.path, "problems": [], "checked_by": checked_by}
        changed = text != before
        if changed:
            # What stood there may be written by hand, with a password in it.
            result["diff"] = {
                "before_header": self.path,
                "after_header": self.path,
                "before": masked(before),
                "after": text,
            }
        if not module.check_mode:
            if changed:
                self.replace(text, target)
            if target == self.path and os.path.lexists(next_of(self.path)):
                os.unlink(next_of(self.path))
        if os.path.exists(target):
            arguments = module.load_file_common_arguments(module.params, path=target)
            changed = module.set_fs_attributes_if_different(arguments, changed)
        module.exit_json(changed=changed, **result)

    def replace(self, text: str, target: str) -> None:
        """Put the new text in place in one step, so that no reader finds half of it."""
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            self.module.fail_json(msg=f"path: the folder {folder} does not exist; expected DAGSTER_HOME, made before")
        handle, temporary = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # An existing file keeps its owner and mode; a new one is closed to others until it has the right ones.
        old_umask = os.umask(0o077)
        try:
            self.module.atomic_move(temporary, target)
        finally:
            os.umask(old_umask)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, add_file_common_args=True, supports_check_mode=True)
    ConfigFile(module).manage()


if __name__ == "__main__":
    main()
