"""The conductor of the suite: what runs beside what, and what becomes of a step that hangs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import conduct
import machine
import pytest
import steps
import yaml
from conduct import Suite, next_step
from steps import Step, chosen, suite

CHECKOUT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))

FIRST, SECOND = Step("first", ("true",), 9), Step("second", ("true",), 9, ["first"])
ALONE = Step("alone", ("true",), 9, alone=True)
FILLER = Step("filler", ("true",), 9, filler=True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that is none, so that no step of the suite that runs this test is touched."""
    for module in (conduct, machine, steps):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(conduct, "LOGS", tmp_path)
    monkeypatch.setattr(machine, "GRACE", 1.0)
    monkeypatch.setattr(machine.HostTime, "look", lambda _self: None)
    return tmp_path


def results(*table: Step, width: int = 2) -> dict[str, str]:
    run = Suite(table, width)
    run.run()
    return {result.step.name: result.outcome for result in run.results}


def test_order() -> None:
    assert next_step([ALONE, SECOND, FIRST], [], set(), 2) == FIRST, "what needs nothing, before what runs alone"
    assert next_step([ALONE, SECOND], [FIRST], set(), 2) is None, "one waits for the other, one for both"
    assert next_step([ALONE, SECOND], [], {"first"}, 2) == SECOND
    assert next_step([ALONE], [], {"first"}, 2) == ALONE
    assert next_step([SECOND], [ALONE], {"first"}, 2) is None, "nothing beside it"
    assert next_step([FIRST], [SECOND], set(), 1) is None, "no more than there is room for"


def test_a_filler_takes_what_others_leave() -> None:
    assert next_step([ALONE, FIRST, FILLER], [SECOND], set(), 1) == FILLER, "on top of the others"
    assert next_step([FILLER], [SECOND, FIRST], set(), 1) is None, "one"
    assert next_step([FILLER, FIRST], [FILLER, FILLER], set(), 2) == FIRST, "and no place of theirs"
    assert next_step([FILLER], [SECOND, FILLER], set(), 2) is None
    assert next_step([FILLER], [FILLER], set(), 2) == FILLER, "nobody else wants the place"
    assert next_step([FILLER], [ALONE], set(), 2) is None, "but nothing beside what runs alone"
    assert next_step([ALONE, FILLER], [], set(), 2) == FILLER, "and before it"


def test_without_fillers_another_step_takes_what_is_left() -> None:
    third, late = Step("third", ("true",), 9), Step("late", ("true",), 9, ["first"], filler=True)
    assert next_step([third, ALONE], [FIRST, SECOND], set(), 2, 3) == third
    assert next_step([third, FILLER], [FIRST, SECOND], set(), 2, 3) == FILLER, "a filler comes first"
    assert next_step([third, late], [FIRST, SECOND], set(), 2, 3) is None, "also one that waits for a step"
    assert next_step([third], [FIRST, FILLER, SECOND], set(), 2, 4) is None, "one"
    assert next_step([third], [FIRST, SECOND], set(), 2, 2) is None, "and only where the memory has room"
    assert next_step([ALONE], [FIRST, SECOND], set(), 2, 3) is None, "nothing that runs alone"


def test_what_needs_a_failed_step_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Step("first", ("bash", "-c", "echo the reason; false"), 9)
    assert results(broken, SECOND, ALONE) == {"first": "failed", "second": "not run", "alone": "passed"}
    assert "first failed; first.log ends with:\n  the reason\n" in capsys.readouterr().out
    assert not (folder / "second.log").exists()


def test_a_step_over_its_time_is_ended_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that has left the group of the step, and will not end when it is asked to."""
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('hangs', flush=True); time.sleep(60)"
    )
    script = f'setsid {sys.executable} -c "{stubborn}" & sleep 1; echo $! > {folder}/pid; wait'
    since = time.monotonic()
    assert results(Step("hangs", ("bash", "-c", script), 6), FIRST) == {"first": "passed", "hangs": "over time"}
    assert time.monotonic() - since < 40
    assert not machine.alive(int((folder / "pid").read_text())), "it runs on"
    shown = capsys.readouterr().out
    assert "hangs was ended after its 6 s" in shown
    assert "\n  hangs\n" in shown, "the end of its log"


def test_the_next_suite_ends_what_a_killed_one_has_left(folder: Path) -> None:
    mark = {steps.MARK: f"{folder}:default-tests"}
    other = {steps.MARK: f"{folder}-other:default-tests"}
    left, foreign = (subprocess.Popen(["sleep", "60"], env=env, start_new_session=True) for env in (mark, other))
    try:
        assert machine.end() == 1
        assert left.wait(5) != 0
        assert foreign.poll() is None, "the control: another checkout's goes on"
    finally:
        for process in (left, foreign):
            process.kill()
            process.wait(5)


def test_report(folder: Path) -> None:
    (folder / "tests.log").unlink(missing_ok=True)
    run = Suite([Step("tests", ("bash", "-c", "echo '  | ==== 3 passed, 1 skipped in 2.1s (0:00:02) ===='"), 9)])
    assert run.run()
    table = run.report()
    assert "3 passed, 1 skipped in 2.1s" in table
    assert "1 passed, 0 failed, 0 over time, 0 not run" in table


@pytest.mark.usefixtures("folder")
def test_report_ends_with_what_failed() -> None:
    """Also of a step that has printed much since, or that hangs in a test."""
    words = "FAILED tests/test_edge.py::test_login - timed out\nERROR    Verifier tests failed\n"
    printed = f"printf '{words}GREEN  edge/login  nobody noticed\n'; seq 200; false"
    hangs = "echo 'tests/test_vip.py::test_move'; sleep 60"
    play = "TASK [Make it] ******\nfatal: [db]: FAILED! => \n    msg: no route\n    rc: 1\n"
    gone = "TASK [Remove it] ****\nok: [db]\n    msg: removed\n"
    deploy = f"printf '{play}{gone}'; false"
    run = Suite(
        [
            Step("tests", ("bash", "-c", printed), 9),
            Step("hangs", ("bash", "-c", hangs), 1),
            Step("deploy", ("bash", "-c", deploy), 9),
            FIRST,
        ]
    )
    assert not run.run()
    assert sorted(run.report().partition("0 not run\n")[2].splitlines()) == [
        "deploy:     msg: no route",
        "deploy: TASK [Make it]",
        "deploy: fatal: [db]: FAILED! => ",
        "hangs: tests/test_vip.py::test_move",
        "tests: FAILED tests/test_edge.py::test_login - timed out",
        "tests: GREEN  edge/login  nobody noticed",
    ]


@pytest.mark.parametrize(("ends", "outcome"), [((0, 0), "passed"), ((0, 1), "failed"), ((1, 0), "failed")])
def test_parts_beside_each_other(ends: tuple[int, int], outcome: str) -> None:
    """Each waits for the other one here, and either one fails the step."""
    parts = [
        f"{{ touch {one}.part; until [ -e {other}.part ]; do sleep 0.01; done; (exit {end}); }}"
        for one, other, end in zip("ab", "ba", ends, strict=True)
    ]
    assert results(Step("both", steps.beside(*parts), 20)) == {"both": outcome}


@pytest.mark.parametrize("full", [False, True])
def test_the_table(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "ROOT", CHECKOUT)
    table = suite(full=full)
    names = [step.name for step in table]
    assert len(names) == len(set(names))
    assert all(set(step.needs) <= set(names) for step in table)
    assert all(step.limit > 0 for step in table)
    assert {step.name for step in table if step.alone} >= {"guard-alone", "cluster-alone"}
    chosen_tests = {step.name: [step.env.get("RIG_TESTS", ""), *step.argv] for step in table}
    for name in ("unit", "alternative-tests", "default-tests", "cluster-tests", "cluster-alone"):
        assert any("not long" in words for words in chosen_tests[name]) != full, name
    # What is alone in the files of scenario default is long as well, so that the short suite has no such step.
    assert ("default-alone" in names) == full
    assert {"packages", "images", "venvs", "default-deploy", "default-tests"} == {
        step.name for step in chosen(table, ["default-tests"])
    }
    with pytest.raises(SystemExit, match="no step nothing; there are packages"):
        chosen(table, ["nothing"])
    if full:
        assert {step.name for step in suite(full=False)} <= set(names), "the long suite has all of the short one"


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_alone_has_a_step_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the short suite does not run it."""
    monkeypatch.setattr(steps, "ROOT", CHECKOUT)
    if f"{name}-alone" in [step.name for step in suite(full=False)]:
        return
    texts = [path.read_text(encoding="utf-8") for path in (CHECKOUT / f"molecule/{name}/tests").glob("*.py")]
    marked = re.findall(r"(@pytest.mark.long[^\n]*\n)?@pytest.mark.alone\n", "\n".join(texts))
    assert "" not in marked


def test_every_scenario_is_run_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "ROOT", CHECKOUT)
    assert set(SCENARIOS) <= {step.rig for step in suite(full=True)}
    described = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in SCENARIOS if f"\n| `{name}` |" not in described] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_verb_of_a_scenario_is_one_step(name: str) -> None:
    """molecule's own sequence of `check` removes the hosts, and that of `create` prepares them."""
    shared, own = (
        yaml.safe_load((CHECKOUT / path).read_text(encoding="utf-8"))["scenario"]
        for path in (".config/molecule/config.yml", f"molecule/{name}/molecule.yml")
    )
    scenario = {**shared, **own}
    assert (scenario["create_sequence"], scenario["check_sequence"]) == (["create"], ["check"])
    # Their sequences do no more than what has been done already.
    assert "converge_sequence" not in scenario
    assert "destroy_sequence" not in scenario
