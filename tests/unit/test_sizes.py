"""No Python file and no function is longer than somebody reads at once."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE, FUNCTION = 450, 60
# What may be longer, and why; an entry that is no longer needed goes.
LONGER: dict[str, str] = {}


def sources() -> Iterator[tuple[str, str]]:
    """Name and text of each Python file and program that git knows."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.is_symlink():
            continue
        if name.endswith(".py"):
            yield name, path.read_text(encoding="utf-8")
        elif not path.suffix:
            with path.open("rb") as stream:
                first = stream.readline(200)
            if first.startswith(b"#!") and b"python" in first:
                yield name, path.read_text(encoding="utf-8")


def too_long(name: str, text: str) -> list[str]:
    """What of a file is too long."""
    lines = len(text.splitlines())
    found = [f"{name} has {lines} lines; expected at most {FILE}: split it by what it is about"] if lines > FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION:
                found.append(f"{name}: {node.name} has {lines} lines; expected at most {FUNCTION}")
    return found


def test_nothing_is_too_long() -> None:
    found = {name: too_long(name, text) for name, text in sources()}
    assert len(found) > 200, "the control: it has looked"
    assert [line for name, lines in found.items() if name not in LONGER for line in lines] == []
    assert [name for name in LONGER if not found.get(name)] == [], "no longer too long: take it off the list"


def test_what_is_too_long_is_named() -> None:
    body = "".join(f"    x = {number}\n" for number in range(FUNCTION))
    assert too_long("a.py", f"def small():\n{body[:-12]}") == []
    assert too_long("a.py", f"def large():\n{body}") == ["a.py: large has 61 lines; expected at most 60"]
    assert too_long("a.py", "x = 1\n" * FILE) == []
    assert len(too_long("a.py", "x = 1\n" * (FILE + 1))) == 1
