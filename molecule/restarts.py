"""Which units a play would restart for which file: asked of the module, with the arguments that a play gave it."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass
from typing import Any

from deployment import ROOT, Play

MODULES = {name: ROOT / f"plugins/module_utils/_host/{name}.py" for name in ("here", "units")}
# Runs on the host what the module decides by. Each file is made young for a moment; its times are given back.
PROGRAM = r"""
import base64, json, os, sys, time, types

# The host has no Ansible: a stand-in for each name that is imported.
OURS = "ansible_collections.dataops.dagster.plugins.module_utils._host"
STANDINS = {"ansible.module_utils.common.warnings": ["warn"], OURS: ["access"], f"{OURS}.kept": ["Kept", "undisturbed"]}
for path, names in STANDINS.items():
    parts = path.split(".")
    for end in range(len(parts)):
        package = ".".join(parts[: end + 1])
        sys.modules.setdefault(package, types.ModuleType(package))
    for name in names:
        setattr(sys.modules[path], name, object)
sources, units, files = json.loads(base64.b64decode(sys.stdin.read()))
for name, source in sources.items():
    module = sys.modules[f"{OURS}.{name}"] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)

def actions():
    now = module.show([spec["name"] for spec in units])
    found = {spec["name"]: module.wanted_action(spec, now[spec["name"]])[0] for spec in units}
    return {name: action for name, action in found.items() if action}

answer = {"": actions()}
for path in files:
    about = os.lstat(path)
    try:
        os.utime(path, follow_symlinks=False)
        answer[path] = actions()
    finally:
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns), follow_symlinks=False)
print(json.dumps(answer))
"""


def sources() -> dict[str, str]:
    """What of the module the host is asked with, each after what it imports."""
    return {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}


@dataclass
class Checked:
    """One `site.yml --check --diff -vvv` of the deployment as it is."""

    play: Play
    touched: bool
    """Whether the host differs after it."""


def hidden(secret: str) -> str:
    """A secret as a command may hold it: sudo writes that to the journal."""
    return base64.b64encode(secret.encode()).decode()


def invocations_by_host(output: str, module: str) -> dict[str, list[dict[str, Any]]]:
    """The arguments of each call with a parameter of this name, by the host that it ran on.

    output: what a play printed with -vvv and results as JSON.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    decoder = json.JSONDecoder()
    for head, start in itertools.pairwise(output.split("] => {")):
        result, _end = decoder.raw_decode("{" + start)
        arguments = result.get("invocation", {}).get("module_args", {})
        if module in arguments:
            # "ok: [edge1" or, for a task that ran elsewhere, "ok: [edge1 -> db(10.0.0.3)".
            host = head.rpartition("[")[2].rpartition(" -> ")[2].partition("(")[0]
            found.setdefault(host, []).append(arguments)
    assert found, f"the play shows no call with {module}:\n{output[-3000:]}"
    return found


def invocations(output: str, module: str) -> list[dict[str, Any]]:
    """The same of all hosts."""
    return [arguments for calls in invocations_by_host(output, module).values() for arguments in calls]


def units(output: str) -> list[dict[str, Any]]:
    """What the play asked of each unit."""
    return [spec for arguments in invocations(output, "units") for spec in arguments["units"]]


def actions(host: Any, specs: list[dict[str, Any]], files: list[str]) -> dict[str, dict[str, str]]:
    """What the play would do to which unit when one of the files were new; under "" when none is."""
    given = base64.b64encode(json.dumps([sources(), specs, files]).encode()).decode()
    answer: dict[str, dict[str, str]] = json.loads(
        host.check_output("printf %%s %s | timeout 60 python3 -c %s", given, PROGRAM)
    )
    return answer
