"""Words for an operator: what a value is, what each host has."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import words


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", "text"),
        (True, "true or false"),
        (1, "a number"),
        (0.5, "a number"),
        ([], "a list"),
        ({}, "a dictionary"),
        (datetime.date(2025, 1, 1), "a date"),
    ],
)
def test_kind_of_a_value(value: Any, kind: str) -> None:
    assert words.kind_of(value) == kind


def test_what_each_host_has() -> None:
    assert words.by_host({"a": "x", "b": ""}) == "x on a, none on b"
