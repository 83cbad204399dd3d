# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A YAML file as Dagster reads it, with the line of everything in it.

Dagster reads with PyYAML's SafeLoader, without timestamps. The same grammar in C is fifteen times faster and reads all
usual text alike; what it might read otherwise, and what it refuses, is read again by the slower one, whose word counts.
Nothing that somebody may have put into a file takes long: size, depth and what aliases multiply to are limited.
"""

from __future__ import annotations

import re

import yaml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path

MAX_BYTES = 256 * 1024
# What the slower loader is given, at most.
MAX_BYTES_SLOW = 96 * 1024
MAX_DEPTH = 100
MAX_VALUES = 60_000

STR, INT, BOOL, FLOAT, NULL, MAP, SEQ, MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "bool", "float", "null", "map", "seq", "merge")
)
# What PyYAML raises for a text it cannot make data of: !!bool maybe is a KeyError.
UNREADABLE = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
# What the two loaders may read differently, as a test found by comparing them.
_UNUSUAL = ("?", "!", "\\", "\n---", "\n...", "\n%")
_OCTAL_DIGITS = frozenset("01234567_")


class SourceError(Exception):
    """The text is no YAML that Dagster would read; says why, where, and what to do about it."""

    def __init__(self, message: str, line: int = 0, hint: str = "", column: int = 0) -> None:
        super().__init__(message)
        self.message, self.line, self.hint, self.column = message, line, hint, column


def _without_timestamps(base: type) -> type:
    resolvers = {
        first: [(tag, regexp) for tag, regexp in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in base.yaml_implicit_resolvers.items()  # type: ignore[attr-defined]
    }
    return type("Loader", (base,), {"yaml_implicit_resolvers": resolvers})


SlowLoader = _without_timestamps(yaml.SafeLoader)
FastLoader = _without_timestamps(yaml.CSafeLoader) if hasattr(yaml, "CSafeLoader") else None


class Document:
    """The data of a file, where each part of it stands, and what is suspicious about how it is written."""

    def __init__(self) -> None:
        self.data: Any = None
        self.lines: dict[int, dict[Any, int]] = {}
        self.duplicates: list[tuple[Path, int, int]] = []
        self.odd_numbers: list[tuple[Path, str, int]] = []
        # What was written where a plain word became something else than text.
        self.words: dict[tuple[int, Any], str] = {}

    def line(self, path: Path) -> int:
        """The line of a value, or of the nearest part around it that is there."""
        found, value = 1, self.data
        for part in path:
            places = self.lines.get(id(value))
            if places is None or part not in places:
                break
            found, value = places[part], value[part]
        return found

    def written(self, path: Path) -> str:
        """The word that stands in the file at a path where YAML made something else of it."""
        value = self.data
        for part in path[:-1]:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return ""
        return self.words.get((id(value), path[-1]), "") if path else ""


def read(content: bytes | str) -> Document:
    """Read a file. Raises SourceError for what Dagster could not read, and for what nobody should make it read."""
    text = _decoded(content)
    document = Document()
    fast = FastLoader is not None and is_usual(text)
    _refuse_depth(text)
    if fast:
        try:
            _build(document, FastLoader, text)
        except UNREADABLE as error:
            if len(text) > MAX_BYTES_SLOW:
                raise _source_error(error) from error
        else:
            return document
        document = Document()
    if len(text) > MAX_BYTES_SLOW:
        raise SourceError(
            f"found {len(text)} characters with unusual YAML in them; at most {MAX_BYTES_SLOW} are read then"
        )
    try:
        _build(document, SlowLoader, text)
    except UNREADABLE as error:
        raise _source_error(error) from error
    return document


def is_usual(text: str) -> bool:
    """Whether both loaders are known to read a text alike, if both can read it."""
    if not text.replace("\n", "").isprintable():
        return False
    if text.startswith(("---", "...", "%")) or any(mark in text for mark in _UNUSUAL):
        return False
    return "#" not in text or not ("|" in text or ">" in text) or not re.search(r"[|>][-+0-9]*#", text)


def _decoded(content: bytes | str) -> str:
    if len(content) > MAX_BYTES:
        raise SourceError(
            f"found {len(content)} bytes; expected a configuration of at most {MAX_BYTES} bytes",
            hint="this is hardly a configuration of Dagster; was the right file named?",
        )
    if (b"\0" if isinstance(content, bytes) else "\0") in content[:4096]:  # type: ignore[operator]
        raise SourceError("found a binary file; expected YAML in UTF-8")
    if isinstance(content, str):
        text = content
    else:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise SourceError(
                f"found the byte 0x{content[error.start]:02x}, which is no UTF-8; Dagster reads UTF-8 only",
                line,
                "save the file as UTF-8",
            ) from error
    # As Python opens text files.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refuse_depth(text: str) -> None:
    """Refuse what would exhaust the stack, before anything recursive sees it."""
    prefix = max(len(line) - len(line.lstrip(" -?:")) for line in text.split("\n"))
    if 2 * prefix + text.count("[") + text.count("{") < MAX_DEPTH:
        return
    depth = 0
    try:
        events: Any = yaml.parse(text, Loader=FastLoader or SlowLoader)
        for event in events:
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
                if depth > MAX_DEPTH:
                    mark: Any = event.start_mark
                    raise SourceError(f"found more than {MAX_DEPTH} levels inside each other", mark.line + 1)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
    except (yaml.YAMLError, ValueError):
        return  # whoever reads it for good says what is wrong


def _source_error(error: Exception) -> SourceError:
    """What is wrong with the syntax, in one line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split("\n", 1)[0]
    hint = ""
    if "\\t" in problem or "tab" in problem:
        hint = "indent with spaces, never with tabs"
    elif "could not determine a constructor" in problem:
        hint = "Dagster knows no tags like !vault or !env; for an environment variable write {env: NAME}"
    elif "expected a single document" in str(getattr(error, "context", "")):
        problem, hint = "found a second document (---)", "one file holds one document"
    elif isinstance(error, (LookupError, AttributeError, ArithmeticError)):
        problem = f"found a value that its tag (!!...) cannot have: {problem[:60]}"
    elif isinstance(error, RecursionError):
        problem = "found a structure that is too deep"
    elif "special characters" in problem or "control characters" in problem:
        hint = "is this a text file?"
    elif "mapping values are not allowed" in problem:
        hint = "is the indentation right, and text with ': ' in it quoted?"
    return SourceError(f"the YAML cannot be read: {problem}", line, hint, column)


def _build(document: Document, loader_class: Any, text: str) -> None:
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.data = _Builder(document, loader).value(node, ())
    finally:
        loader.dispose()


class _Builder:
    """Makes data of nodes as SafeLoader does, and notes where each comes from."""

    def __init__(self, document: Document, loader: Any) -> None:
        self.document, self.loader = document, loader
        self.done: dict[int, Any] = {}
        self.sizes: dict[int, int] = {}
        self.open: set[int] = set()
        self.count = 0

    def value(self, node: Any, path: Path) -> Any:
        tag = node.tag
        if tag == STR and node.__class__ is yaml.ScalarNode:
            return node.value
        if node.__class__ is yaml.ScalarNode:
            return self.loader.construct_object(node, deep=True)
        key = id(node)
        if key in self.done:
            # What an alias stands for counts each time: nine lines can say a billion values.
            self._grow(self.sizes[key], node)
            return self.done[key]
        if key in self.open:
            raise SourceError("found an alias that contains itself", node.start_mark.line + 1)
        self.open.add(key)
        before = self.count
        self._grow(1 + len(node.value), node)
        if tag == MAP and node.__class__ is yaml.MappingNode:
            made: Any = self._mapping(node, path)
        elif tag == SEQ and node.__class__ is yaml.SequenceNode:
            made = self._sequence(node, path)
        else:
            made = self.loader.construct_object(node, deep=True)
        self.open.discard(key)
        self.done[key], self.sizes[key] = made, self.count - before
        return made

    def _grow(self, count: int, node: Any) -> None:
        self.count += count
        if self.count > MAX_VALUES:
            raise SourceError(
                f"found more than {MAX_VALUES} values; a configuration has a few hundred", node.start_mark.line + 1
            )

    def _sequence(self, node: Any, path: Path) -> list[Any]:
        made: list[Any] = []
        places: dict[Any, int] = {}
        self.document.lines[id(made)] = places
        for index, item in enumerate(node.value):
            places[index] = item.start_mark.line + 1
            made.append(self.value(item, (*path, index)))
            self._note(made, index, item, path)
        return made

    def _mapping(self, node: Any, path: Path) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        places: dict[Any, int] = {}
        self.document.lines[id(made)] = places
        merges = False
        seen: dict[tuple[str, str], int] = {}
        for key_node, _value in node.value:
            merges = merges or key_node.tag == MERGE
            if key_node.__class__ is yaml.ScalarNode:
                key, line = (key_node.tag, key_node.value), key_node.start_mark.line + 1
                if key in seen and key_node.tag != MERGE:
                    self.document.duplicates.append(((*path, key_node.value), seen[key], line))
                seen[key] = line
        if merges:
            self._refuse_wide_merge(node)
            self.loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self.value(key_node, path)
            try:
                hash(key)
            except TypeError:
                raise SourceError(
                    "found a list or a mapping as a key; expected text",
                    key_node.start_mark.line + 1,
                    "a {{ template }} has to be quoted" if isinstance(key, dict) else "",
                ) from None
            places[key] = key_node.start_mark.line + 1
            made[key] = self.value(value_node, (*path, key))
            self._note(made, key, value_node, path)
        return made

    def _refuse_wide_merge(self, node: Any) -> None:
        """Merge keys copy, so they multiply as aliases do, and before anything is counted."""
        total = 0
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                nodes = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                total += sum(len(item.value) for item in nodes if isinstance(item, yaml.MappingNode))
        self._grow(total, node)

    def _note(self, container: Any, key: Any, node: Any, path: Path) -> None:
        tag = node.tag
        if tag == STR or node.__class__ is not yaml.ScalarNode:
            return
        digits = node.value.lstrip("+-")
        if tag == INT and (
            ":" in digits or (digits[0] == "0" and len(digits) > 1 and _OCTAL_DIGITS.issuperset(digits))
        ):
            self.document.odd_numbers.append(((*path, key), node.value, container[key]))
        if tag in (BOOL, INT, FLOAT, NULL):
            self.document.words[id(container), key] = node.value
