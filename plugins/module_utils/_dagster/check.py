# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check dagster.yaml and workspace.yaml against the installed Dagster: the real schema and the real classes.

Runs under the Python of Dagster's virtual environment, or of a code location's image, and needs nothing beside the
standard library and that Dagster.

Input, JSON on stdin:   {"texts": {"dagster_yaml": text or null, "workspace": text or null},
                         "env": {NAME: value}, or null for that of the process}
Output, JSON on stdout: {"dagster_version": "1.13.27", "problems": [{"path": "run_launcher.config.image",
                         "section": "run_launcher", "message": "..."}]}
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from .instance import check_dagster_yaml
from .no_effects import Blocked, Guard
from .problems import Report, attempt, load, text_of
from .workspace import check_workspace

TIME_LIMIT_SECONDS = 120


class TooSlow(BaseException):
    """The time limit was reached."""


def loaded(text: str) -> Any:
    """The data of a text as Dagster reads its files."""
    try:
        return load("dagster_shared.yaml_utils:load_run_config_yaml")(text)
    except ImportError:  # where code may have an older Dagster than hosts
        return load("dagster._utils.yaml_utils:load_run_config_yaml")(text)


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run all checks; never raises."""
    given = request.get("env", {})
    env = {str(name): str(value) for name, value in (os.environ if given is None else given).items()}
    if given is not None:
        # The environment of the services, not that of whoever logged in to deploy. In a container it is the right one.
        os.environ.clear()
        os.environ.update({"PATH": os.defpath, **env})
        sys.path[:0] = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    report = Report(env)
    version = ""
    try:
        guard = Guard()
        version = str(load("dagster.version:__version__"))
        guard.block_databases()
        texts = request.get("texts") or {}
        for name, function in (("dagster_yaml", check_dagster_yaml), ("workspace", check_workspace)):
            if isinstance(texts.get(name), str):
                attempt(report, "", lambda n=name, f=function: f(report, guard, loaded(texts[n])))  # type: ignore[misc]
    except TooSlow:
        report.add("", f"the check did not finish within {TIME_LIMIT_SECONDS} seconds")
    except (Exception, SystemExit, Blocked) as error:
        report.add("", f"the check itself failed: {text_of(error)}")
    return {"dagster_version": version, "problems": report.problems}


def main() -> None:
    """Read the request, write the answer. Whatever libraries print goes to stderr."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.dont_write_bytecode = True

    def too_slow(*_args: Any) -> NoReturn:
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIME_LIMIT_SECONDS)
    result = check(json.load(sys.stdin))
    signal.alarm(0)
    json.dump(result, answer)
    answer.close()
