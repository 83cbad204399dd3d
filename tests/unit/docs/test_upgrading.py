"""docs/upgrading.md names all that has to be renamed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.renamed import RENAMED, TAGS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "upgrading.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("old", RENAMED)
def test_variable(old: str) -> None:
    assert f"\n| `{old}` | `{RENAMED[old]}` |\n" in PAGE


@pytest.mark.parametrize("old", TAGS)
def test_tag(old: str) -> None:
    assert f"instead of `{old}`" in PAGE
