# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of one Dagster minor: read from the files that `make catalogue` writes."""

from __future__ import annotations

import functools
import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "catalogues")
# Other forms of what storage says.
OTHER_FORMS = ("run_storage", "event_log_storage", "schedule_storage", "storage.custom")
_loaded: dict[str, Catalogue] = {}


def minors() -> list[str]:
    """The minors with a catalogue, newest first."""
    found = [name.removesuffix(".json") for name in os.listdir(FOLDER) if re.fullmatch(r"\d+\.\d+\.json", name)]
    return sorted(found, key=lambda minor: [int(part) for part in minor.split(".")], reverse=True)


def minor_of(version: str) -> str:
    """The minor whose catalogue a version is checked with. Raises ValueError if there is none."""
    known = minors()
    if not version:
        return known[0]
    minor = ".".join(version.split(".")[:2])
    if minor not in known:
        raise ValueError(f"Dagster {version} has no catalogue; there are ones for {', '.join(known)}")
    return minor


def load(version: str = "") -> Catalogue:
    """The catalogue of a version (1.13 or 1.13.27), of the newest minor by default. Raises ValueError."""
    minor = minor_of(version)
    if minor not in _loaded:
        with open(os.path.join(FOLDER, f"{minor}.json"), encoding="utf-8") as file:
            _loaded[minor] = Catalogue(json.load(file))
    return _loaded[minor]


class Catalogue:
    """Sections, classes and types of one Dagster."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.version: str = data["dagster"]
        self.types: list[dict[str, Any]] = data["types"]
        self.classes: dict[str, dict[str, Any]] = data["classes"]
        self.modules: dict[str, dict[str, str]] = data["modules"]

    @property
    def top_level(self) -> dict[str, Any]:
        """The keys of dagster.yaml."""
        return self.types[self.data["instance"]]["shape"]

    def has_fields(self, kind: int) -> bool:
        """Whether a type is a mapping of named keys."""
        return any(word in self.types[kind] for word in ("shape", "permissive", "selector"))

    def fields(self, kind: str | int | None) -> dict[str, Any]:
        """The named keys of a type; none if it has none."""
        if not isinstance(kind, int):
            return {}
        ((_word, inner),) = self.types[kind].items()
        return inner if self.has_fields(kind) else {}

    @functools.cached_property
    def homes(self) -> dict[str, list[str]]:
        """Where in dagster.yaml a key can stand: by key, the paths above it from the top."""
        found: dict[str, list[str]] = {}

        def look(kind: Any, path: str) -> None:
            while isinstance(kind, int) and not self.has_fields(kind):
                ((_word, inner),) = self.types[kind].items()
                kind = inner[1] if isinstance(inner, list) else inner
            fields = self.fields(kind) if path not in OTHER_FORMS else {}
            for name in fields:
                if path not in found.setdefault(name, []):
                    found[name].append(path)
            if "class" in fields:  # what stands below config depends on the class
                for _module, _name, identity in self.offers(path.split(".", 1)[0]):
                    look(self.classes[identity].get("config"), f"{path}.config")
            else:
                for name, field in fields.items():
                    look(field[0], f"{path}.{name}")

        for name, field in self.top_level.items():
            look(field[0], name)
        return found

    def named(self, name: str) -> list[dict[str, Any]]:
        """The classes of a name."""
        return [entry for identity, entry in self.classes.items() if identity.rpartition(":")[2] == name]

    def scalar(self, kind: str | int, path: tuple[Any, ...]) -> str:
        """The scalar type at a path below a type; empty where anything may stand."""
        for part in path:
            while not isinstance(kind, str) and not self.has_fields(kind):
                ((word, inner),) = self.types[kind].items()
                kind = inner[1] if word in ("union", "map") else inner
                if word in ("array", "map"):
                    break
            else:
                kind = self.fields(kind).get(part, ("",))[0]
        while not isinstance(kind, str):
            ((word, inner),) = self.types[kind].items()
            if word not in ("noneable", "union"):
                return word
            kind = inner[0] if word == "union" else inner
        return kind

    def offers(self, section: str) -> Iterator[tuple[str, str, str]]:
        """(module, class, identity) of what a section can hold and is meant for use; as documents write it first."""
        found = []
        for module, names in self.modules.items():
            for name, identity in names.items():
                entry = self.classes[identity]
                if section in entry["sections"] and "unusable" not in entry and "for_tests" not in entry:
                    found.append((module, name, identity))
        yield from sorted(found, key=lambda offer: (not offer[2].startswith(offer[0]), len(offer[0]), offer))


def private(module: str) -> str:
    """The spelling that Dagster imports: dagster.core.x is dagster._core.x."""
    return re.sub(r"^dagster\.([^_])", r"dagster._\1", module)
