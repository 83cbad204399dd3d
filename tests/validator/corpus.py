"""The corpus: files that show every class, rule and trap of dagster.yaml and workspace.yaml.

corpus/dagster.txt and corpus/workspace.txt hold a file after each `=== name`; they are no files of their own because
most of them would not pass a linter. In one marked (escaped), backslash sequences stand for bytes (\\t or \\xe9).
verdicts.json has what real Dagster says of each, by minor: `agreement.py corpus --write` asks it.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("corpus")
VERDICTS = FOLDER / "verdicts.json"


class Case(NamedTuple):
    """One file."""

    kind: str  # dagster or workspace
    name: str
    content: bytes


def cases() -> list[Case]:
    """All files of the corpus."""
    found = []
    for kind in ("dagster", "workspace"):
        text = (FOLDER / f"{kind}.txt").read_text(encoding="utf-8")
        parts = re.split(r"^=== (\w+)( \(escaped\))?\n", text, flags=re.MULTILINE)[1:]
        for name, escaped, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            found.append(Case(kind, name, unescaped(body) if escaped else body.encode()))
    return found


def unescaped(body: str) -> bytes:
    """The bytes that backslash sequences stand for: \\xNN is a byte, \\uNNNN a character in UTF-8."""
    return b"".join(
        codecs.decode(part, "unicode_escape").encode("latin-1" if part.startswith("\\x") else "utf-8")
        for part in re.findall(r"\\x..|\\u....|\\.|[^\\]+", body)
    )


def verdicts() -> dict[str, dict[str, bool]]:
    """Whether Dagster takes a file, by minor and by kind/name."""
    found: dict[str, dict[str, bool]] = json.loads(VERDICTS.read_text(encoding="utf-8"))
    return found
