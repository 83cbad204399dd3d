"""The files that roles copy as they are: their names stand for their texts in what tests show."""

from __future__ import annotations

import functools
from typing import Any

from deployments import ROOT


@functools.cache
def copied() -> dict[str, str]:
    """The files that roles copy as they are, by their text without the space around it."""
    # Tests that import a program of a role leave its compiled form beside it.
    paths = [path for path in ROOT.glob("roles/*/files/**/*") if path.is_file() and path.suffix != ".pyc"]
    return {path.read_text(encoding="utf-8").strip(): f"as {path.relative_to(ROOT)}" for path in paths}


def shortened(value: Any) -> Any:
    """Arguments in which the name of a copied file stands for its text."""
    if isinstance(value, dict):
        return {key: item if key in ("content", "secrets") else shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    return named(value) if isinstance(value, str) else value


def named(value: str) -> str:
    """A text, or parts of a query, by the names of their files."""
    if value.strip() in copied():
        return copied()[value.strip()]
    for text, name in copied().items() if "SELECT" in value else ():
        value = value.replace(text, name) if "SELECT" in text else value
    return value
