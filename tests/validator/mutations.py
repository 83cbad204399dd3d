"""Wrong files made of right ones: what the fuzzer gives to real Dagster and to the validator.

Half of the mutations change data (keys dropped, misspelt, moved; values of another type, or out of range; classes and
modules exchanged; keys and samples out of the catalogue added), half change text (indentation, punctuation, lines).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml
from corpus import Case

VALUES: tuple[Any, ...] = (
    None, True, False, "true", 0, 1, -1, -2, 5, 1000, 1001, 5.0, 2.5, "", "x", "10", "a/b", "a:b", "a b", [], {}, ["x"],
    [1], [None], {"env": "X"}, {"env": ""}, {"env": 1}, {"ENV": "X"}, {"env": "X", "y": 1}, {"a": 1}, {1: 2}, "${X}",
    "run", "op", "s3://b/k", "http://h:1", "h:1", "postgresql://u@h/d", "2024-01-01", {"enabled": {}}, 10**12,
)  # fmt: skip
MARKS = (
    ":",
    "-",
    '"',
    "'",
    "{",
    "}",
    "[",
    "]",
    "#",
    "&a ",
    "*a",
    "!x ",
    "%",
    "\t",
    "|",
    ">",
    ",",
    "?",
    " ",
    "\n",
    "<<",
    "\\",
    "é",
    "0",
)
WORDS = (
    "yes",
    "no",
    "on",
    "~",
    "null",
    "05",
    "0x1f",
    "1:30",
    "1e3",
    ".5",
    "0o7",
    "2024-01-01",
    '"x"',
    "''",
    "{}",
    "[]",
    "- a",
)


def _sizes(value: Any) -> int:
    """How much there is. Raises RecursionError for a structure that contains itself."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_sizes(item) for item in items)


class Mutator:
    """Makes mutated files, the same ones for the same seed."""

    def __init__(self, seed: int, files: Sequence[Case], catalogue: dict[str, Any]) -> None:
        self.random = random.Random(seed)  # noqa: S311 - the same files for the same seed
        self.catalogue = catalogue
        self.files = list(files)
        self.parsed = []
        for case in files:
            try:
                data = yaml.safe_load(case.content)
                _sizes(data)
            except (yaml.YAMLError, ValueError, RecursionError):
                continue
            if isinstance(data, dict) and data:
                self.parsed.append((case.kind, data))
        self.classes = [
            (section, module, name)
            for module, names in catalogue["modules"].items()
            for name, identity in names.items()
            for section in catalogue["classes"][identity]["sections"]
        ]

    def files_of(self, count: int) -> Iterator[tuple[str, bytes]]:
        """(kind, content) of mutated files."""
        for _round in range(count):
            yield self.by_text() if self.random.random() < 0.4 else self.by_data()

    # --- data ---

    def by_data(self) -> tuple[str, bytes]:
        """A file whose data was changed in one to three places."""
        kind, data = self.random.choice(self.parsed)
        data = copy.deepcopy(data)
        if kind == "dagster" and self.random.random() < 0.25:
            other = self.random.choice([found for other, found in self.parsed if other == kind])
            data.update(copy.deepcopy(other))
        changes: list[Callable[[Any, Any], None]] = [
            *(self._drop, self._misspell, self._replace, self._replace, self._add, self._add),
            *(self._move, self._class, self._nudge),
        ]
        for _round in range(self.random.choice((1, 1, 1, 2, 3))):
            places = list(self._places(data))
            if not places:
                break
            container, key = self.random.choice(places)
            self.random.choice(changes)(container, key)
        text = yaml.safe_dump(data, sort_keys=False, default_flow_style=self.random.choice((False, None)))
        return kind, text.encode()

    def _places(self, value: Any) -> Iterator[tuple[Any, Any]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in list(items):
            yield value, key
            yield from self._places(item)

    def _value(self) -> Any:
        return copy.deepcopy(self.random.choice(VALUES))

    def _drop(self, container: Any, key: Any) -> None:
        del container[key]

    def _misspell(self, container: Any, key: Any) -> None:
        if isinstance(container, dict) and isinstance(key, str) and key:
            at = self.random.randrange(len(key))
            container[key[:at] + self.random.choice(("", "x", key[at].upper())) + key[at + 1 :]] = container.pop(key)

    def _replace(self, container: Any, key: Any) -> None:
        container[key] = self._value()

    def _add(self, container: Any, key: Any) -> None:
        """Add a key that some class knows, if possible this one."""
        if isinstance(container, list):
            container.insert(key, self._value())
            return
        shapes = [
            fields
            for entry in self.catalogue["types"]
            for word, fields in entry.items()
            if word in ("shape", "permissive", "selector") and fields
        ]
        fitting = [fields for fields in shapes if fields.keys() >= set(map(str, container))]
        fields = self.random.choice(fitting or shapes)
        name = self.random.choice(sorted(fields))
        container[name] = self._sample(fields[name][0]) if self.random.random() < 0.6 else self._value()

    def _sample(self, kind: Any) -> Any:
        simple = {
            "int": 3,
            "str": "x",
            "bool": True,
            "float": 1.5,
            "any": "x",
            "str_source": {"env": "X"},
            "int_source": {"env": "N"},
            "bool_source": {"env": "B"},
        }
        if isinstance(kind, str):
            return simple[kind] if self.random.random() < 0.6 else simple[kind.removesuffix("_source")]
        ((word, inner),) = self.catalogue["types"][kind].items()
        if word in ("shape", "permissive"):
            return {
                name: self._sample(field[0]) for name, field in inner.items() if field[1] or self.random.random() < 0.3
            }
        if word == "selector":
            name = self.random.choice(sorted(inner))
            return {name: self._sample(inner[name][0])}
        if word == "array":
            return [self._sample(inner) for _round in range(self.random.randrange(3))]
        if word == "map":
            return {"k": self._sample(inner[1])}
        if word == "noneable":
            return None if self.random.random() < 0.3 else self._sample(inner)
        if word == "enum":
            return self.random.choice(inner)
        return self._sample(self.random.choice(inner))

    def _move(self, container: Any, key: Any) -> None:
        if isinstance(container, dict) and isinstance(container[key], dict) and container[key]:
            inner = self.random.choice(sorted(container[key], key=str))
            container[inner] = container[key].pop(inner)
        elif isinstance(container, dict):
            container["config"] = {key: container.pop(key)}

    def _class(self, container: Any, key: Any) -> None:
        """Another class, of the same section or any, with or without its samples."""
        section, module, name = self.random.choice(self.classes)
        if isinstance(container, dict):
            if "class" in container:
                container.update(
                    self.random.choice(({"class": name}, {"module": module}, {"module": module, "class": name}))
                )
            elif isinstance(container.get(key), dict) or container.get(key) is None:
                container[section] = {"module": module, "class": name}
                config = self.catalogue["classes"][self.catalogue["modules"][module][name]].get("config")
                if config is not None and self.random.random() < 0.8:
                    container[section]["config"] = self._sample(config)

    def _nudge(self, container: Any, key: Any) -> None:
        """A value close to what it was."""
        value = container[key]
        if isinstance(value, bool):
            container[key] = self.random.choice((str(value).lower(), int(value), not value))
        elif isinstance(value, int):
            container[key] = self.random.choice((str(value), float(value), -value, value + 1, value * 1000))
        elif isinstance(value, str):
            container[key] = self.random.choice(
                (value.upper(), value[:-1], value + "x", [value], {"env": value}, {value: None}, "0" + value)
            )
        elif isinstance(value, list):
            container[key] = self.random.choice(
                (value * 2, value[:1], dict(enumerate(value)), value[0] if value else None)
            )
        elif isinstance(value, dict):
            container[key] = self.random.choice((list(value), [value], {**value, "x": 1}, None, str(value)))

    # --- text ---

    def by_text(self) -> tuple[str, bytes]:
        """A file whose text was changed in one to three places."""
        case = self.random.choice(self.files)
        text = case.content.decode("utf-8", "surrogateescape")
        for _round in range(self.random.choice((1, 1, 2, 3))):
            text = self._edited(text)
        return case.kind, text.encode("utf-8", "surrogateescape")

    def _edited(self, text: str) -> str:
        lines = text.split("\n")
        row, at = self.random.randrange(len(lines)), self.random.randrange(len(text) + 1)
        line = lines[row]
        other = self.random.randrange(len(lines))
        kind = self.random.randrange(10)
        if kind == 0:
            lines[row] = self.random.choice(("  ", " ", "\t")) + line
        elif kind == 1:
            lines[row] = line[2:] if line.startswith("  ") else line[1:]
        elif kind == 2:
            lines.pop(row)
        elif kind == 3:
            lines.insert(other, line)
        elif kind == 4:
            lines[row], lines[other] = lines[other], line
        elif kind == 5:
            key, colon, _value = line.partition(": ")
            lines[row] = key + colon + self.random.choice(WORDS) if colon else f"{line} {self.random.choice(WORDS)}"
        elif kind == 6:
            lines[row] = "# " + line
        elif kind == 7:
            return text[:at] + text[at + 1 :]
        else:
            return text[:at] + self.random.choice(MARKS) + text[at:]
        return "\n".join(lines)
