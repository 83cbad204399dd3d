"""Writes the variables' part of the README.md of each role, and of the playbooks, from their argument specs.

    python tools/docs.py            write
    python tools/docs.py --check    change nothing, show what would differ, fail when something does

Only what stands between the two markers is written; the rest of a README is written by hand.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PLAYBOOKS = ""  # in place of a role
BEGIN, END = "<!-- begin generated -->", "<!-- end generated -->"
NOTE = "<!-- `make docs` writes this part from the argument specs -->"
HEAD = ("| variable | type | default | meaning |", "|---|---|---|---|")
DERIVED = "\n### Derived from the inventory\n\nThe plan works these out. Set one to overrule it.\n"
MARKUP = re.compile(r"\b[A-Z]\(([^)]*)\)")


class DocsError(Exception):
    """A README cannot be written; the text says why."""


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise DocsError(f"{path}: found {type(found).__name__}, expected a mapping")
    return found


def roles(root: Path) -> list[str]:
    """The names of all roles."""
    return sorted(path.name for path in (root / "roles").iterdir() if path.is_dir())


def pages(root: Path) -> dict[str, str]:
    """The folders with a README to write, each with the name of its role; playbooks have the variables of none."""
    playbooks = {"playbooks": PLAYBOOKS} if (root / "playbooks/argument_specs.yml").exists() else {}
    return {**{f"roles/{role}": role for role in roles(root)}, **playbooks}


def entries(root: Path, role: str) -> dict[str, dict[str, Any]]:
    """The entry points of a role, each with what it declares: variables of main, parameters of the others."""
    path = "playbooks/argument_specs.yml" if role == PLAYBOOKS else f"roles/{role}/meta/argument_specs.yml"
    found = load(root / path)["argument_specs"]
    return {entry: spec["options"] for entry, spec in found.items()}


def options(root: Path, role: str) -> dict[str, Any]:
    """All that a role declares."""
    return {name: option for found in entries(root, role).values() for name, option in found.items()}


def code(text: str) -> str:
    """Text as code in a cell of a table."""
    return "`" + text.replace("|", "\\|") + "`"


def prose(description: str | list[str]) -> str:
    """A description in one line, with Ansible's markup as code."""
    sentences = [description] if isinstance(description, str) else description
    return MARKUP.sub(lambda found: code(found[1]), " ".join(" ".join(sentences).split()).replace("|", "\\|"))


def kind(option: Mapping[str, Any]) -> str:
    """The type of an option, with that of its elements."""
    name = str(option.get("type", "str"))
    return f"{name} of {option['elements']}" if "elements" in option else name


def default(option: Mapping[str, Any], expression: Any) -> str:
    """The default of an option; expression is what defaults/main.yml has where a spec has none."""
    if option.get("required"):
        return "**required**"
    if "default" in option:
        return code(json.dumps(option["default"], ensure_ascii=False))
    return code(str(expression)) if expression is not None else ""


def rows(name: str, option: Mapping[str, Any], expression: Any, shared: list[str]) -> Iterator[str]:
    """The row of an option, and those of the options in it."""
    meaning = prose(option["description"])
    if option.get("choices"):
        meaning += " One of " + ", ".join(code(str(choice)) for choice in option["choices"]) + "."
    if shared:
        meaning += f" Shared with {', '.join(shared)}."
    yield f"| {code(name)} | {kind(option)} | {default(option, expression)} | {meaning} |"
    inner = f"{name}[]" if option.get("type") == "list" else name
    for key, value in (option.get("options") or {}).items():
        yield from rows(f"{inner}.{key}", value, None, [])


def block(root: Path, role: str) -> str:
    """What stands between the markers of a role's README: a table of variables, or one for each other entry point."""
    lines = [NOTE]
    for entry, found in entries(root, role).items():
        lines += [] if entry == "main" else [f"\n### {entry}\n"]
        lines += tables(root, role, found, entry == "main")
    return "\n".join(lines)


def tables(root: Path, role: str, found: Mapping[str, Any], of_users: bool) -> list[str]:
    """The lines of the tables of an entry point. What users may set and has no default is derived by the plan."""
    expressions = {} if role == PLAYBOOKS else load(root / "roles" / role / "defaults/main.yml")
    everywhere = {other: options(root, other) for other in roles(root) if other != role}
    given: list[str] = []
    derived: list[str] = []
    for name, option in found.items():
        shared = [other for other, known in everywhere.items() if name in known]
        if (
            of_users
            and role != PLAYBOOKS
            and not option.get("required")
            and "default" not in option
            and name not in expressions
        ):
            derived += rows(name, option, None, shared)
        else:
            given += rows(name, option, expressions.get(name), shared)
    more = [DERIVED, *HEAD, *derived] if derived else []
    return [*HEAD, *given, *more]


def rendered(root: Path, folder: str, role: str) -> tuple[str, str]:
    """The README of a folder as it is and as it should be."""
    path = root / folder / "README.md"
    if not path.exists():
        raise DocsError(f"{path.relative_to(root)} is missing; write its head by hand, with {BEGIN} and {END} below it")
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise DocsError(f"{path.relative_to(root)} needs one line {BEGIN} and one line {END} below it")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return text, f"{before}{BEGIN}\n{block(root, role)}\n{END}{after}"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Writes or compares all READMEs; 1 when one differs or cannot be written."""
    parser = argparse.ArgumentParser(description="Write the generated part of each README.md of variables.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing, show differences and fail when there are any"
    )
    check = parser.parse_args(arguments).check
    status = 0
    for folder, role in pages(root).items():
        name = f"{folder}/README.md"
        try:
            found, wanted = rendered(root, folder, role)
        except DocsError as error:
            print(f"docs.py: {error}", file=sys.stderr)
            status = 1
            continue
        if found == wanted:
            continue
        if check:
            status = 1
            lines = difflib.unified_diff(
                found.splitlines(), wanted.splitlines(), name, f"{name} by `make docs`", lineterm=""
            )
            print("\n".join(lines))
        else:
            (root / name).write_text(wanted, encoding="utf-8")
            print(f"wrote {name}")
    return status


if __name__ == "__main__":
    sys.exit(main())
