# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The validator as a command: scripts/validate [options] FILE...

Prints what a compiler would print (file:line: severity: path: message) or, with --format json, one object a file and
line. Ends with 0 if all files are valid (warnings are no fault), with 1 if one is not, with 2 if it could not look.
"""

from __future__ import annotations

import os
import sys

from . import catalogue, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .report import Report

USAGE = """usage: validate [--kind dagster|workspace] [--format text|json] [--dagster 1.13]
                [--env NAMES] [--allow NAME]... FILE...
       validate --schema [--kind dagster|workspace] [--dagster 1.13]

  FILE            dagster.yaml or workspace.yaml; - reads stdin
  --kind          what the files are; without it a file named workspace*.yaml is a workspace
  --format        text like a compiler's, or one JSON object a line and file
  --dagster       version or minor of the Dagster that reads the files
  --env           names of the variables that its process has, separated by commas; others are errors then
  --allow         refusal or warning not to report: NAME, or NAME:dotted.path; custom_module:PACKAGE for classes of
                  your own
  --schema        print a JSON Schema for editors
"""
VALUES = ("--kind", "--format", "--dagster", "--env", "--allow")


class UsageError(Exception):
    """The command line is wrong."""


def options(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """(values by option, files). Small by intent: argparse takes as long as a file."""
    found: dict[str, list[str]] = {}
    files: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            files += rest
        elif name in VALUES:
            given = value if equals else next(rest, None)
            if given is None:
                raise UsageError(f"{name} needs a value")
            found.setdefault(name, []).append(given)
        elif argument in ("--schema", "--help", "-h"):
            found[argument] = [""]
        elif argument.startswith("-") and argument != "-":
            raise UsageError(f"no option {argument}")
        else:
            files.append(argument)
    for name, allowed in (("--kind", ("dagster", "workspace", "")), ("--format", ("text", "json", ""))):
        if found.get(name, [""])[-1] not in allowed:
            raise UsageError(f"{name} is {found[name][-1]}; expected one of: {', '.join(allowed[:2])}")
    return found, files


def kind_of(path: str) -> str:
    """What a file is, by its name."""
    return "workspace" if os.path.basename(path).startswith("workspace") else "dagster"


def content_of(path: str) -> bytes:
    """The bytes of a file, a few more than are read at most."""
    if path == "-":
        return sys.stdin.buffer.read(20_000_000)
    with open(path, "rb") as file:
        return file.read(20_000_000)


def compiler_lines(path: str, report: Report) -> str:
    """The findings of a file as text, errors first in each line."""
    rows = []
    for severity, findings in (("error", report.errors), ("refused", report.refusals), ("warning", report.warnings)):
        for finding in findings:
            where = f"{finding.path}: " if finding.path else ""
            hint = f" -- {finding.hint}" if finding.hint else ""
            name = f" [{finding.name}]" if severity != "error" else ""
            rows.append((finding.line, f"{path}:{finding.line}: {severity}: {where}{finding.message}{hint}{name}\n"))
    return "".join(row for _line, row in sorted(rows, key=lambda row: row[0]))


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    try:
        found, files = options(arguments)
        if "--help" in found or "-h" in found:
            sys.stdout.write(USAGE)
            return 0
        version = found.get("--dagster", [""])[-1]
        catalogue.minor_of(version)
    except (UsageError, ValueError) as error:
        sys.stderr.write(f"validate: {error}\n{USAGE}")
        return 2
    kind = found.get("--kind", [""])[-1]
    if "--schema" in found:
        return _schema(kind or "dagster", version)
    if not files:
        sys.stderr.write(USAGE)
        return 2
    env = None
    if "--env" in found:
        env = {name.strip() for names in found["--env"] for name in names.split(",") if name.strip()}
    as_json = found.get("--format", [""])[-1] == "json"
    status = 0
    for path in files:
        try:
            content = content_of(path)
        except OSError as error:
            message = f"the file cannot be read: {error.strerror or error}"
            if as_json:
                import json

                row = {"line": 0, "path": "", "message": message, "hint": ""}
                body = {"accepted_by_dagster": False, "valid": False, "errors": [row], "refusals": [], "warnings": []}
                sys.stdout.write(json.dumps({"file": path, **body}) + "\n")
            else:
                sys.stdout.write(f"{path}:0: error: {message}\n")
            status = 1
            continue
        report = validate(content, kind or kind_of(path), version, env, found.get("--allow", ()))
        status = status if report.valid else 1
        if as_json:
            import json

            sys.stdout.write(json.dumps({"file": path, **report.as_dict()}) + "\n")
        else:
            sys.stdout.write(compiler_lines(path, report))
    return status


def _schema(kind: str, version: str) -> int:
    import json

    from .json_schema import json_schema

    sys.stdout.write(json.dumps(json_schema(catalogue.load(version), kind), indent=1) + "\n")
    return 0
