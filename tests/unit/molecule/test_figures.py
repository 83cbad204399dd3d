"""What record() keeps, and the table that tests/bench/reliability.py makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import figures
import pytest
from support import load_program

ROOT = Path(__file__).resolve().parents[3]
reliability = load_program(ROOT / "tests/bench/reliability.py", "reliability")


def taken(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.iterdir()
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rows(folder: Path) -> list[str]:
    return [line for line in reliability.table(taken(folder)).splitlines() if line.startswith("| ")][1:]


def test_one_round(tmp_path: Path) -> None:
    figures.record("stop: handover", 1.2345, "s", 5, folder=tmp_path)
    figures.record("stop: duration", 40, "s", folder=tmp_path)
    assert taken(tmp_path)[0]["value"] == 1.234
    assert rows(tmp_path) == ["| stop: handover | at most 5 s | 1.23 s | 1 |", "| stop: duration |  | 40 s | 1 |"]


def test_worst_round_decides(tmp_path: Path) -> None:
    for value in (1.0, 9.0, 2.0):
        figures.record("stop: handover", value, "s", 5, folder=tmp_path)
    assert rows(tmp_path) == ["| stop: handover | at most 5 s | 9 s, median 2 s **missed** | 3 |"]


def test_counted_failures_add_up(tmp_path: Path) -> None:
    for value in (0, 3):
        figures.record("kill: failed POSTs", value, bound=4, of=100, folder=tmp_path)
        figures.record("kill: failed GETs", 0, bound=0, of=50, folder=tmp_path)
    assert rows(tmp_path) == [
        "| kill: failed POSTs | at most 4 a round | 3 of 200 | 2 |",
        "| kill: failed GETs | 0 | 0 of 100 | 2 |",
    ]


def test_only_the_last_run_of_a_figure_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures.record("a: x", 9, "s", 5, folder=tmp_path)
    figures.record("b: y", 1, "s", 5, folder=tmp_path)
    monkeypatch.setattr(figures, "SESSION", "2999-01-01T00:00:00Z")
    figures.record("a: x", 2, "s", 5, folder=tmp_path)
    assert rows(tmp_path) == ["| a: x | at most 5 s | 2 s | 1 |", "| b: y | at most 5 s | 1 s | 1 |"]


def test_page_keeps_what_was_not_measured(tmp_path: Path) -> None:
    figures.record("a: x", 2, "s", 5, folder=tmp_path)
    text = (
        "head\n<!-- figures cluster -->\nold\n<!-- /figures -->\n<!-- figures other -->\nkept\n<!-- /figures -->\nend\n"
    )
    made = reliability.page(text, {"cluster": taken(tmp_path)})
    assert "old" not in made
    assert "| a: x | at most 5 s | 2 s | 1 |\n<!-- /figures -->" in made
    assert made.startswith("head\n<!-- figures cluster -->\n")
    assert made.endswith("<!-- figures other -->\nkept\n<!-- /figures -->\nend\n")
    assert reliability.page(made, {"cluster": taken(tmp_path)}) == made
