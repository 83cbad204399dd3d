# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a file, and where."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

SECRET = re.compile(r"passw|secret|token|credential|_key", re.IGNORECASE)


class Report:
    """The problems found so far, each once."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.problems: list[dict[str, str]] = []
        # Constructors quote what they were given. The modules send no secrets; should one come, its name is shown.
        self._values = sorted(
            ((value, name) for name, value in env.items() if value and SECRET.search(name)), reverse=True
        )

    def add(self, path: str, message: str, section: str = "") -> None:
        for value, name in self._values:
            message = message.replace(value, f"<value of {name}>")
        problem = {"path": path, "section": section or path.split(".", 1)[0].split("[", 1)[0], "message": message}
        if problem not in self.problems:
            self.problems.append(problem)


def load(pointer: str) -> Any:
    """Import "module:name"."""
    module, name = pointer.split(":")
    return getattr(importlib.import_module(module), name)


def text_of(error: BaseException) -> str:
    """What an exception says, without Dagster's wrapping and on one line."""
    message = str(error).strip() or type(error).__name__
    message = re.sub(r"^Invariant failed\.( Description:)?", "", message).strip() or "invariant failed"
    message = " ".join(message.split())
    if isinstance(error, ImportError) and "'psycopg'" in message:
        message += " (with SQLAlchemy 2.1 postgresql:// means psycopg 3; set scheme: postgresql+psycopg2)"
    elif not isinstance(error, ImportError) and type(error).__name__ not in (
        "CheckError",
        "DagsterInvalidConfigError",
        "Exception",
    ):
        message = f"{type(error).__name__}: {message}"
    return message[:1000]


def join(prefix: str, path: str) -> str:
    """Append a relative dotted path."""
    return prefix + path if path.startswith("[") or not prefix or not path else f"{prefix}.{path}"


def attempt(report: Report, path: str, function: Callable[[], Any]) -> Any:
    """Call a piece of Dagster; whatever it raises is a problem at that path."""
    try:
        return function()
    except Exception as error:
        report.add(path, text_of(error))
        return None
