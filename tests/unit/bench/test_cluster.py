"""The arithmetic of tests/bench/cluster.py."""

from __future__ import annotations

import json
from pathlib import Path

import cpu
import pytest
from accounts import account, used
from cluster import Step, chain, cost, same_roles


def step(task: str, role: str = "", play: str = "Play", controller: float = 0, **hosts: float) -> Step:
    return Step(play, role, task, list(hosts), 1.0, dict(hosts), controller)


def test_the_same_roles_count_for_each_host_that_has_them() -> None:
    single = [step("a", "dataops.dagster.proxy", one=2, controller=1), step("b", one=5)]
    cluster = [step("a", "dataops.dagster.proxy", edge1=9, edge2=9), step("b", edge1=1)]
    assert same_roles(single, cluster) == 2 * (2 + 1) + 5
    assert cost(cluster).cpu == 19


def test_packages_are_left_out() -> None:
    packages = step("apt", play="Packages", one=30)
    assert same_roles([packages, step("b", one=5)], [step("apt", play="Packages", x=9, y=9)]) == 5
    assert cost([packages, step("b", one=5)]).cpu == 5


def test_what_no_host_does_counts_once() -> None:
    assert same_roles([step("start of ansible-playbook", controller=3)], []) == 3


def test_chain_is_that_of_the_slowest_host_of_each_task() -> None:
    steps = [step("a", x=4, y=1), step("b", x=1, y=4), step("c", play="Next", x=2), step("skipped", play="Next")]
    waited, least, plays = chain(steps)
    assert (waited, least) == (4 + 4 + 2, 5 + 2)
    assert plays == ["Play 8", "Next 2"]


def test_chain_leaves_out_what_others_do_meanwhile() -> None:
    busy = Step("Play", "", "a", ["x"], 1.0, {"x": 1.0, "y": 50.0}, 0)
    assert chain([busy])[0] == 1


@pytest.mark.parametrize("text", ["2500000000\n", "usage_usec 2500000\nuser_usec 1\n"])
def test_both_versions_of_control_groups(tmp_path: Path, text: str) -> None:
    (tmp_path / "account").write_text(text)
    assert used(tmp_path / "account") == pytest.approx(2.5)


def test_account_of_a_container_that_is_not_there() -> None:
    with pytest.raises(LookupError, match="no control group of container nobody"):
        account("nobody")


def test_rows_add_up_to_the_whole_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("1000000000")
    monkeypatch.setenv("BENCH_CPU_ACCOUNTS", json.dumps({"x": str(tmp_path / "x")}))
    monkeypatch.setenv("BENCH_CPU", str(tmp_path / "rows.json"))
    callback = cpu.CallbackModule()
    (tmp_path / "x").write_text("4000000000")
    callback.v2_playbook_on_stats(None)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["cpu"] for row in rows] == [{"x": 3.0}]
    assert rows[0]["controller"] > 0
