"""The choice of rows of tests/bench/bench.py, and the rows of tests/bench/whole.py."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import whole
from bench import ROWS, chosen
from measure import HERE, Cost
from whole import bare_to_first_run, beside_packages, webserver_command

UNIT = "[Service]\nLoadCredential=pgpass:/etc/dagster/pgpass\nLoadCredential=other:/x\n"


def test_rows_come_in_our_order() -> None:
    assert chosen("locations,files, second_run") == ["second_run", "files", "locations"]


def test_a_row_that_is_not_there() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no row filse; there are first_run, second_run"):
        chosen("files,filse")


def test_each_row_is_in_the_readme() -> None:
    text = (HERE / "README.md").read_text()
    assert [name for name in ROWS if f"`{name}`" not in text] == []


def test_webservers_get_the_credentials_of_the_deployed_one() -> None:
    argv = shlex.split(webserver_command(3900, 5, UNIT))
    assert "--property=LoadCredential=pgpass:/etc/dagster/pgpass" in argv
    assert "--property=LoadCredential=other:/x" in argv
    assert argv[argv.index("dagster-webserver") :][-2:] == ["--db-pool-recycle", "5"]
    assert "LoadCredential" not in webserver_command(3900, 5, "[Service]\n")


def test_reference_beside_packages_compares_within_a_round() -> None:
    steps = {
        "whole": [{"apt": 9.0}] * 3,
        "alone": [{"apt": 5.0, "venv": 5.0}, {"apt": 6.0, "venv": 6.0}, {"apt": 1.0, "venv": 1.0}],
    }
    row = beside_packages([Cost(20, 0), Cost(30, 0), Cost(99, 0)], steps)
    assert row.by_wall == 18  # of 10, 18 and 97
    assert row.judge(row.by_wall) == "FAIL"


class FakeHost:
    """Its first deployment of each kind costs ten times as much."""

    log: list[str]

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.seen = name, log, set[str]()

    def create(self) -> None:
        self.log.append(f"create {self.name}")

    def destroy(self) -> None:
        self.log.append(f"destroy {self.name}")

    def play(self, _playbook: object, extra: dict[str, Any] | None = None) -> None:
        self.log.append(str((extra or {}).get("dagster_database_engine", "site")))

    def locations(self, requirements: str) -> list[dict[str, Any]]:
        return [{"build": {"args": {"REQUIREMENTS": requirements}}}]

    def measure(self, action: Callable[[], object]) -> Cost:
        action()
        kind = self.log[-1]
        seconds = 10.0 if kind in self.seen else 100.0
        self.seen.add(kind)
        return Cost(seconds, seconds)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_warm_up_does_not_count_and_the_host_stays(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    bench, reference = FakeHost("bench", log), FakeHost("reference", log)

    def run_reference(_host: object, *how: str) -> dict[str, float]:
        log.append("alone" if how else "whole")
        return {"apt": 4.0}

    monkeypatch.setattr(whole, "run_reference", run_reference)
    monkeypatch.setattr(whole, "stage_reference", lambda _host: None)
    first, by_wall, beside, mariadb = bare_to_first_run(bench, reference, rounds)  # type: ignore[arg-type]
    assert first.by_cpu == 1
    assert len(first.samples["ours"]) == len(first.samples["yardstick"]) == rounds
    assert "the warm-up, not counted: 100 and 100 CPU s" in first.note
    assert by_wall.by_wall == first.by_wall
    assert beside.by_wall == 6
    assert (mariadb.by_cpu, mariadb.bound) == (1, None)
    assert [log.count(kind) for kind in ("site", "mysql", "whole", "alone")] == [rounds + 1] * 4
    last = len(log) - 1 - log[::-1].index("create bench")
    assert "destroy bench" not in log[last:]
    assert log[last + 1] == "site", "the host that stays has PostgreSQL, for the rows that come then"
