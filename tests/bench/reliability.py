"""Writes the tables of docs/reliability.md from what the scenarios measured: .cache/figures/SCENARIO.json.

    python tests/bench/reliability.py    ends with 1 when a figure misses its bound

Of each figure the newest run of the tests counts, with all its rounds. A scenario that was not run keeps its table.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
FIGURES = ROOT / ".cache" / "figures"
BLOCK = re.compile(r"(<!-- figures (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)

Figure = dict[str, Any]


def newest(figures: list[Figure]) -> dict[str, list[Figure]]:
    """The rounds of each figure in its last run, in the order in which the tests measure them."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(figure["name"], []).append(figure)
    for name, rounds in found.items():
        last = max(figure["session"] for figure in rounds)
        found[name] = [figure for figure in rounds if figure["session"] == last]
    return found


def missed(rounds: list[Figure]) -> bool:
    bound = rounds[-1]["bound"]
    return bound is not None and max(figure["value"] for figure in rounds) > bound


def number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def row(name: str, rounds: list[Figure]) -> str:
    values, last = [figure["value"] for figure in rounds], rounds[-1]
    unit = f" {last['unit']}" if last["unit"] else ""
    bound = "" if last["bound"] is None else number(last["bound"]) + unit
    if total := sum(figure["of"] for figure in rounds):
        measured = f"{number(sum(values))} of {total}{unit}"
        bound = f"{bound} a round" if last["bound"] else bound
    elif len(set(values)) == 1:
        measured = number(values[0]) + unit
    else:
        measured = f"{number(max(values))}{unit}, median {number(statistics.median(values))}{unit}"
    if bound and bound[0] != "0":
        bound = f"at most {bound}"
    return f"| {name} | {bound} | {measured}{' **missed**' if missed(rounds) else ''} | {len(rounds)} |"


def table(figures: list[Figure]) -> str:
    found = newest(figures)
    last = max(figures, key=lambda figure: figure["session"])
    lines = [f"Measured on {last['session'][:10]} with {last['cpus']} cores for all hosts together.", ""]
    lines += ["| figure | pass | measured | rounds |", "|---|---|---|---|"]
    lines += [row(name, rounds) for name, rounds in found.items()]
    return "\n".join(lines) + "\n"


def page(text: str, measured: dict[str, list[Figure]]) -> str:
    """The page with the tables of the scenarios that were measured."""

    def block(match: re.Match[str]) -> str:
        figures = measured.get(match[2])
        return match[1] + table(figures) + match[3] if figures else match[0]

    return BLOCK.sub(block, text)


def main() -> int:
    measured = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIGURES.glob("*.json"))}
    if not measured:
        print(f"reliability: no figures in {FIGURES}: run a scenario first", file=sys.stderr)
        return 2
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    bad = [name for figures in measured.values() for name, rounds in newest(figures).items() if missed(rounds)]
    for name in bad:
        print(f"reliability: missed: {name}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
