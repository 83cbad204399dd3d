# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text that has lost its indentation, as text copied from a rendered page has: which of its lines belong where.

A key without a value is open. A line that stands beside an open key, and not below it, is put below it if the type of
that key knows the line's key. Lines stay lines, so their numbers stay right.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .catalogue import Catalogue

# Snippets are short; nothing that somebody may have put into a file takes long.
MAX_LINES = 2000
MAX_LEVELS = 40
_KEY = re.compile(
    r"""(?P<dash>-\s+)?(?P<quote>["']?)(?P<key>[\w./-]+)(?P=quote)\s*:(?:\s+(?P<value>[^#\s].*)?(?:#.*)?)?$"""
)
# Types of text that may be {env: NAME}.
SOURCES = ("str_source", "int_source", "bool_source")
_CLASS = re.compile(r"\s*class:\s*[\"']?(\w+)")


class Moved:
    """A section of a text some of whose lines were moved below others."""

    def __init__(self, section: str, key: str, parent: str, first: int) -> None:
        self.section, self.key, self.parent = section, key, parent
        self.first = self.last = first

    def message(self) -> str:
        """What is wrong with it."""
        lines = f"lines {self.first} to {self.last} have" if self.last > self.first else f"line {self.first} has"
        return f"{lines} lost the indentation: {self.key} stands beside {self.parent} and belongs below it"


class _Level:
    """What may stand below one key, or in one item of a list."""

    def __init__(self, kind: Any, path: str, column: int, indent: int, least: int | None = None) -> None:
        self.kind = kind  # a type of the catalogue; empty where anything may stand
        self.path = path
        self.key_column = column  # of the key above it; what stands further to the right is below it in any case
        self.least = column if least is None else least  # the leftmost column that is beside the key
        self.indent = indent  # where its lines belong
        self.column: int | None = None  # where its lines are; None as long as there is none
        self.children: dict[str, _Level | None] = {}
        self.items = False
        self.more = False  # items after the first

    def outline(self) -> str:
        """Its keys and theirs, on one line."""
        parts = [
            key if child is None or not (child.children or child.items) else f"{key}: {child.outline()}"
            for key, child in self.children.items()
        ]
        text = f"{{{', '.join(parts)}}}" if parts else "..."
        return f"[{text}{', ...' if self.more else ''}]" if self.items else text


class Restorer:
    """Puts lines where they belong."""

    def __init__(self, catalogue: Catalogue, kind: str, hints: Mapping[str, str]) -> None:
        self.catalogue = catalogue
        self.hints = hints  # by dotted path: keys that are wrong there, and still belong there
        root = catalogue.data["instance" if kind == "dagster" else "workspace"]
        self.stack = [_Level(root, "", -1, 0)]
        self.stack[0].column = 0
        self.moved: list[Moved] = []
        self.lines: list[str] = []

    def restore(self, text: str) -> str:
        """The text with the indentation that it should have; empty if it has lost none."""
        self.lines = text.split("\n")
        if len(self.lines) > MAX_LINES or any(line.lstrip(" ").startswith("\t") for line in self.lines):
            return ""  # tabs are another mistake
        made: list[str] = []
        for number, line in enumerate(self.lines, 1):
            if len(self.stack) > MAX_LEVELS:
                return ""
            made.append(self._line(number, line))
            if self.moved and made[-1] != line:
                self.moved[-1].last = number
        return "\n".join(made) if self.moved else ""

    def outline(self, section: str) -> str:
        """The keys of a section as they should stand."""
        level = self.stack[0].children.get(section)
        return f"{section}: {level.outline() if level else '...'}"

    def _line(self, number: int, line: str) -> str:
        text = line.strip()
        if not text or text.startswith("#"):
            return line
        column = len(line) - len(line.lstrip(" "))
        match = _KEY.match(text)
        if text.startswith(("- ", "-\t")) or text == "-":
            level = self._list_at(column)
            if level is None:
                return line
            self._item(level, match, column, number)
            return " " * level.indent + text
        if match is None:
            return " " * self.stack[-1].indent + text if self.moved else line
        level = self._level_of(match["key"], column, number)
        self._open(level, match, column, number)
        return " " * level.indent + text

    def _level_of(self, key: str, column: int, number: int) -> _Level:
        """The level that a key at a column belongs to; all that is deeper is closed."""
        top = self.stack[-1]
        if top.column is None and column > top.key_column:
            top.column = column
            return top
        beside = [level for level in self.stack if level.column == column or self._is_open(level, column)]
        level = next((level for level in reversed(beside) if self._knows(level, key)), None)
        if level is None:  # what nobody knows stays with what is still open, or where it is
            proper = [level for level in beside if level.key_column < column]
            loose = [level for level in beside if level.key_column >= column and not self._is_full(level)]
            level = ((loose if self.moved else []) or proper or self.stack)[-1]
        elif level.key_column >= column and level.least <= column:
            self._move(level, key, number)
        level.column = column
        del self.stack[self.stack.index(level) + 1 :]
        return level

    def _is_open(self, level: _Level, column: int) -> bool:
        return level.column is None and level.least <= column <= level.key_column

    def _move(self, level: _Level, key: str, number: int) -> None:
        section = level.path.split(".", 1)[0]
        if not self.moved or self.moved[-1].section != section:
            self.moved.append(Moved(section, key, level.path.rsplit(".", 1)[-1], number))

    def _list_at(self, column: int) -> _Level | None:
        """The level that an item of a list belongs to."""
        for at in range(len(self.stack) - 1, 0, -1):
            level = self.stack[at]
            fits = level.column in (None, column) and level.least <= column
            if fits and (level.items or (not level.children and self._word(level.kind) in ("array", ""))):
                level.items, level.column = True, column
                del self.stack[at + 1 :]
                return level
        return None

    def _item(self, level: _Level, match: re.Match[str] | None, column: int, number: int) -> None:
        """Open the mapping that an item is, if it is one."""
        if match is None or match["dash"] is None:
            return
        kind = self.catalogue.types[self._bare(level.kind)]["array"] if self._word(level.kind) == "array" else ""
        first = column + len(match["dash"])
        item = _Level(kind, level.path, first - 1, level.indent + 2, column)
        if level.children:
            level.more = True
        else:
            level.children = item.children
        self.stack.append(item)
        self._open(item, match, first, number)
        child = self.stack[-1]
        if child is not item:
            child.least = column

    def _open(self, level: _Level, match: re.Match[str], column: int, number: int) -> None:
        """Note a key, and what may stand below it if it has no value."""
        key = match["key"]
        if match["value"]:
            level.children.setdefault(key, None)
            return
        path = f"{level.path}.{key}" if level.path else key
        child = _Level(self._below(level, key, number), path, column, level.indent + 2)
        level.children[key] = child
        self.stack.append(child)

    # --- types ---

    def _bare(self, kind: Any) -> Any:
        """A type without what says that it may be null, or plain text."""
        while isinstance(kind, int):
            ((word, inner),) = self.catalogue.types[kind].items()
            if word not in ("noneable", "union"):
                break
            kind = inner[1] if word == "union" else inner
        return kind

    def _word(self, kind: Any) -> str:
        kind = self._bare(kind)
        return next(iter(self.catalogue.types[kind])) if isinstance(kind, int) else str(kind)

    def _is_full(self, level: _Level) -> bool:
        """Whether a level takes no second key."""
        return level.items or "env" in level.children or (bool(level.children) and self._word(level.kind) == "selector")

    def _knows(self, level: _Level, key: str) -> bool:
        kind = self._bare(level.kind)
        if self._is_full(level):
            return False
        if isinstance(kind, str):
            return kind in SOURCES and key == "env"
        if key in self.catalogue.fields(kind):
            return True
        if level.path.endswith("container_kwargs"):
            return key in self.catalogue.data["container_kwargs"]
        return bool(level.path) and f"{level.path}.{key}" in self.hints

    def _below(self, level: _Level, key: str, number: int) -> Any:
        """The type of what stands below a key."""
        fields = self.catalogue.fields(self._bare(level.kind))
        if key == "config" and "class" in fields:
            section = level.path.split(".", 1)[0]
            names = (_CLASS.match(line) for line in self.lines[max(0, number - 4) : number + 60])
            name = next((match[1] for match in names if match), "")
            for _module, offered, identity in self.catalogue.offers(section):
                if offered == name:
                    return self.catalogue.classes[identity].get("config", "")
        return fields.get(key, ("",))[0]
