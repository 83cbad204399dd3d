"""What row queue makes of the runs: whether their order and the limits held."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import queued
from measure import BenchError
from queued import EACH, TOGETHER, Run, above_the_limits, most_together, out_of_order, queued_runs

GOOD = [Run(team, "SUCCESS", 10 + 5 * turn, 14 + 5 * turn) for turn in range(3) for team in ("red", "blue")]


def test_order_is_that_of_a_team() -> None:
    assert out_of_order(GOOD) == 0
    assert out_of_order([Run("red", "SUCCESS", 20, 21), Run("blue", "SUCCESS", 10, 11)]) == 0, "another team's limit"
    assert out_of_order([Run("red", "SUCCESS", when, 99) for when in (20, 10, 30, 29)]) == 2


def test_limits() -> None:
    assert most_together(GOOD) == 2
    assert above_the_limits(GOOD) == 0
    assert most_together([Run("red", "SUCCESS", 1, 2), Run("red", "SUCCESS", 2, 3)]) == 1, "one takes the other's place"
    assert above_the_limits([Run("red", "SUCCESS", 1, 9)] * (EACH + 1)) == 1
    assert above_the_limits([Run(str(team), "SUCCESS", 1, 9) for team in range(TOGETHER + 2)]) == 2


class FakeHost:
    container = "x"

    def __init__(self) -> None:
        self.played: list[Any] = []
        self.seconds = iter([5.0, 9.0])

    def idle_of(self, _unit: str, _seconds: int) -> float:
        return 0.0

    def unit_cpu(self, _unit: str) -> float:
        return next(self.seconds)

    def play(self, _playbook: object, extra: dict[str, Any] | None = None) -> None:
        self.played.append(extra)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE"])
def test_rows(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [["red", status, 2, 3], ["red", "SUCCESS", 1, 2]]
    monkeypatch.setattr(queued, "run", lambda *_argv, **_more: json.dumps(runs))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    host = FakeHost()
    if status != "SUCCESS":
        with pytest.raises(BenchError, match="1 of 2 queued runs did not succeed: FAILURE"):
            list(queued_runs(host, 2))  # type: ignore[arg-type]
        return
    each, order, limit = queued_runs(host, 2)  # type: ignore[arg-type]
    assert each.ours is not None
    assert each.ours.cpu == pytest.approx(2)
    assert (order.verdict, limit.verdict) == ("FAIL", "PASS")
    assert host.played == [{"dagster_config": queued.LIMITS}, None], "it stays as it was deployed"
