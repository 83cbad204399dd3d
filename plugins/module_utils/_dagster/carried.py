# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The beginning of a program that is one text: makes modules importable whose texts it carries.

Nothing is written to a disk, and no folder of the host is searched.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType


class Carried:
    """Finds and loads modules by their texts."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    def find_spec(self, name: str, *_where: object) -> ModuleSpec | None:
        """Ask of Python, for a module that is to be imported."""
        if name not in self.texts:
            return None
        is_package = any(other.startswith(f"{name}.") for other in self.texts)
        return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Python makes it."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a new module."""
        exec(compile(self.texts[module.__name__], f"<{module.__name__}>", "exec"), module.__dict__)  # noqa: S102


def carry(texts: Mapping[str, str]) -> None:
    """From now on these modules can be imported."""
    sys.meta_path.insert(0, Carried(texts))
