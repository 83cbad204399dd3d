"""The guard's rules for its lease, and what it does with each answer, refusal and silence of the database."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest
from guard_world import World, guard

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.daemon import timing_problems


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"renew": 1, "deadline": 4, "ttl": 6, "watchdog": 3}, ""),
        ({"renew": 0}, "renew must be above 0"),
        ({"deadline": 5}, "deadline must be at least 3 x renew"),
        ({"ttl": 11}, "ttl must be at least deadline + 2"),
        ({"watchdog": 3}, "watchdog must be at least 2 x renew"),
        ({"watchdog": 11}, "ttl must be at least watchdog + 2 x renew + 1"),
        ({"heartbeat": 0}, "heartbeat must be above 0"),
    ],
)
def test_timings(changes: dict[str, Any], words: str) -> None:
    problems = guard.Timings(**changes).problems()
    assert [words] == [problem[: len(words)] for problem in problems] if words else problems == []


def test_preflight_refuses_what_the_guard_refuses() -> None:
    values = itertools.product((0, 1, 2, 3), (3, 4, 6, 9, 10), (5, 6, 8, 11, 12, 15), (2, 3, 4, 6, 9))
    for renew, deadline, ttl, watchdog in values:
        timings = guard.Timings(renew=renew, deadline=deadline, ttl=ttl, watchdog=watchdog)
        variables = {
            "dagster_daemon_lease_renew": renew,
            "dagster_daemon_lease_deadline": deadline,
            "dagster_daemon_lease_ttl": ttl,
            "dagster_daemon_watchdog": watchdog,
            "dagster_daemon_heartbeat_timeout": 120,
        }
        assert bool(timings.problems()) == bool(timing_problems(variables)), timings


def test_the_last_sign_of_life_does_not_outlast_the_lease() -> None:
    for timings in (guard.Timings(), guard.Timings(renew=1, deadline=4, ttl=6, watchdog=3)):
        assert timings.problems() == []
        assert timings.trusted + timings.watchdog < timings.ttl, "a guard that freezes right after WATCHDOG=1"
        assert timings.trusted >= 2 * timings.renew, "one slow answer must not silence a healthy guard"
        assert timings.attempt < timings.watchdog, "nor may the wait for an answer"


@pytest.mark.parametrize(
    ("row", "unchanged", "allowed"),
    [
        ({"holder": ""}, 0, True),
        ({"holder": "", "wanted": "a"}, 0, True),
        ({"holder": "", "wanted": "b"}, 0, False),
        ({"holder": "", "wanted": "b"}, 15, True),
        ({"holder": "b"}, 14.9, False),
        ({"holder": "b"}, 15, True),
        ({"holder": "a", "boot": "now"}, 0, True),
        ({"holder": "b", "boot": "now"}, 0, False),  # containers of one machine share its boot
        ({"holder": "a", "boot": "before"}, 0, False),
        ({"holder": "a", "boot": "before"}, 15, True),
    ],
)
def test_may_take(row: dict[str, str], unchanged: float, allowed: bool) -> None:
    values = {"epoch": 1, "generation": 1, "holder": "", "boot": "", "wanted": "", **row}
    assert guard.may_take(guard.Row(**values), "a", "now", unchanged, 15) is allowed


def test_watch_goes_by_its_own_clock() -> None:
    watch = guard.Watch()
    assert watch.see((1, 1), 100.0) == 0
    assert watch.see((1, 1), 114.0) == 14
    assert watch.see((1, 2), 115.0) == 0
    assert watch.see((1, 2), 116.0) == 1


def test_takes_fences_then_starts(world: World) -> None:
    world.go(0.1)
    assert world.calls == ["look", "take", "fence"]
    assert world.done == ["start 5"]
    alive = "WATCHDOG=1"  # before the first call, and before the third one
    assert world.told[:3] == [alive, alive, "READY=1\nSTATUS=active: starting the daemon, a holds the lease, epoch 5"]
    assert world.told[-1] == "STATUS=active: daemon runs as PID 7, a holds the lease, epoch 5"
    assert world.told.count("READY=1") == 0
    assert len([text for text in world.told if "READY=1" in text]) == 1
    # Compare-and-set: with what was seen, for this host, its boot and the login that is let in.
    assert world.arguments["take"] == ("a", "now", "dagster_daemon_a", 4, 40)
    assert world.arguments["fence"] == (5,)


def test_does_not_start_before_the_fence(world: World) -> None:
    world.answers["fence"] = False
    world.go(5)
    assert world.done == []


def test_does_not_start_while_the_fence_has_no_answer(world: World) -> None:
    world.failing = {"fence"}
    world.go(5)
    assert world.calls.count("fence") > 1, "it is tried again"
    assert world.done == []
    world.failing = set()
    world.go(1)
    assert world.done == ["start 5"], "the control: only the fence was missing"
    world.go(10)
    assert world.calls[world.calls.index("renew") :].count("take") == 0


def test_does_not_start_when_the_fence_answers_after_the_deadline(world: World) -> None:
    world.failing = {"fence", "renew"}
    world.go(5)
    world.time = world.guard.renewed + world.guard.timings.deadline - 0.02
    world.failing, world.slow = {"renew"}, {"fence": 0.05}
    world.guard.lead()
    assert world.guard.fenced, "the control: the fence did answer"
    assert world.done == []


def test_somebody_was_faster(world: World) -> None:
    world.answers["take"] = False
    world.go(1)
    assert world.done == []
    assert "fence" not in world.calls
    assert world.calls[:3] == ["look", "take", "look"]
    assert world.sent["look"] - 1000 > 0.9, "who it is shows at once, not a period later"


def test_nothing_is_ready_before_the_database_has_answered(world: World) -> None:
    """The unit is Type=notify: a play must see that the database cannot be reached."""
    world.down = True
    world.go(30)
    assert set(world.told) == {"WATCHDOG=1"}
    world.down = False
    world.go(3)
    assert any(text.startswith("READY=1") for text in world.told), "the control"


def test_standby_says_that_the_database_is_silent(world: World) -> None:
    world.row[2:4] = ["b", "x"]
    world.go(1)
    world.down = True
    world.go(10)
    assert world.told[-1] in ("WATCHDOG=1", "STATUS=standby: no answer from the database: no answer in time")
    assert world.told.count("STATUS=standby: no answer from the database: no answer in time") == 1


def test_trouble_is_said_once_and_again_after_it_was_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.row[2:4] = ["b", "x"]
    for _time in range(2):
        world.down = True
        world.go(10)
        world.down = False
        world.go(5)
    assert capsys.readouterr().err.count("guard: database: no answer in time") == 2


@pytest.mark.parametrize("slow", [{}, {"take": 2.0}, {"fence": 2.0}, {"take": 2.0, "fence": 2.0}])
def test_the_lease_is_counted_from_the_sending_of_take(world: World, slow: dict[str, float]) -> None:
    """Another host may have seen the row as soon as the database has written it, long before the answer is here."""
    world.slow = slow
    while world.process is None:
        world.go(0.01)
    sent = world.sent["take"]
    assert world.time - sent >= sum(slow.values()), "the control: the answers took their time"
    world.slow, world.down = {}, True
    world.go(20)
    assert world.done == ["start 5", "kill"]
    assert world.when[-1] - sent == pytest.approx(guard.Timings().deadline, abs=0.06)


@pytest.mark.parametrize("took", [0.0, 1.0, 2.5])
def test_the_lease_is_counted_from_the_sending_of_renew(world: World, took: float) -> None:
    world.go(1)
    world.slow = {"renew": took}
    world.go(8)
    sent = world.sent["renew"]
    assert sent > 1001, "the control: it was renewed"
    world.down = True
    world.go(20)
    assert world.done == ["start 5", "kill"]
    assert world.when[-1] - sent == pytest.approx(guard.Timings().deadline, abs=0.06)


@pytest.mark.parametrize("refuses", [True, False])
def test_the_end_comes_at_the_deadline_however_the_database_fails(world: World, refuses: bool) -> None:
    """Also between two tries: a database that refuses at once leaves the guard asleep in between."""
    world.go(1.3)
    sent = world.sent["take"]
    world.failing, world.down = {"look", "renew"} if refuses else set(), not refuses
    world.go(20)
    assert world.when[1] - sent == pytest.approx(guard.Timings().deadline, abs=0.06)


@pytest.mark.parametrize("took", [0.0, 2.0])
def test_standby_counts_from_the_answer_and_takes_as_soon_as_it_may(world: World, took: float) -> None:
    """What was read may be as young as the answer; from there it is exactly ttl, not a period of the looks later."""
    world.row[2:4], world.slow = ["b", "x"], {"look": took}
    world.go(0.01)
    answered = 1000 + took
    assert world.guard.lease.since == answered
    while "take" not in world.calls:
        world.go(0.01)
    assert world.sent["look"] + took <= world.sent["take"]
    assert answered + 15 <= world.sent["take"] <= answered + 15 + took + 0.1


def test_slow_answers_silence_no_healthy_guard(world: World) -> None:
    """Each answer comes within its limit, so that systemd has no reason to end anything."""
    attempt = guard.Timings().attempt
    world.slow = dict.fromkeys(("look", "take", "fence", "renew"), attempt - 0.1)
    world.go(120)
    assert world.done == ["start 5"], "neither the deadline nor a second take"
    pauses = [after - before for before, after in itertools.pairwise([1000.0, *world.alive])]
    assert max(pauses) > attempt, "the control: the answers took their time"
    assert max(pauses) < guard.Timings().watchdog


def test_holder_tries_again_sooner(world: World) -> None:
    world.go(1)
    world.failing = {"renew"}
    before = world.calls.count("renew")
    world.go(8)
    assert world.calls.count("renew") - before >= 14
    world.failing = set()
    world.go(5)
    assert world.done == ["start 5"], "answers that were lost end nothing before the deadline"


def test_standby_waits_for_its_own_observation(world: World) -> None:
    world.row[2:4] = ["b", "x"]
    world.go(14.5)
    assert world.done == []
    assert world.guard.status == "standby: b holds the lease, epoch 4"
    world.row[1] += 1
    world.go(15)
    assert world.done == []
    world.go(2.1)
    assert world.done == ["start 5"]
    assert world.arguments["take"][3:] == (4, 41), "the row that it has watched"


def test_holder_ends_its_daemon_by_itself(world: World) -> None:
    world.go(1)
    world.down = True
    last = world.guard.renewed
    while world.process is not None:
        world.go(0.05)
    assert world.time - last == pytest.approx(10, abs=0.2)
    assert world.done == ["start 5", "kill"]
    assert world.guard.status.startswith("standby")
    world.down = False
    world.go(5)
    assert world.done[-1] == "start 6", "its own lease it takes back at once"


def test_silent_about_its_life_when_the_lease_is_old(world: World) -> None:
    world.go(1)
    last = world.guard.renewed
    world.down = True
    spoken = []
    while world.process is not None:
        world.told.clear()
        before = world.time
        world.guard.alive()
        if "WATCHDOG=1" in world.told:
            spoken.append(before)
        world.go(0.2)
    assert max(spoken) + guard.Timings().watchdog < last + guard.Timings().ttl
    world.told.clear()
    world.guard.alive()
    assert world.told == ["WATCHDOG=1"], "without a daemon it has nothing to fear"


def test_lease_that_another_host_took(world: World) -> None:
    world.go(1)
    world.answers["renew"] = False
    world.row[:4] = [6, 99, "b", "x"]
    world.go(2.5)
    assert world.done == ["start 5", "kill"]
    world.go(2)
    assert world.guard.status == "standby: b holds the lease, epoch 6"


def test_switchover(world: World) -> None:
    world.go(1)
    world.row[4] = "b"
    world.go(2.5)
    assert world.done == ["start 5", "SIGTERM"]
    world.status = 0
    world.row[2:4] = ["", ""]
    world.go(5)
    assert world.calls.count("release") == 1
    assert world.guard.status == "standby: the lease waits for b, epoch 5"


def test_asks_for_the_lease(world: World) -> None:
    world.row[2:4] = ["b", "x"]
    world.go(1)
    world.guard.handle(signal.SIGUSR1)
    assert world.calls[-1] == "request"
    world.row[2:5] = ["", "", "a"]
    world.go(0.5)
    assert world.done == ["start 5"]
    world.guard.handle(signal.SIGUSR1)
    assert world.calls.count("request") == 1, "the holder has nothing to ask for"


def test_no_call_of_a_holder_outlasts_its_deadline(world: World) -> None:
    world.go(1)
    last = world.guard.renewed
    world.down = True
    while world.process is not None:
        world.go(0.05)
        assert world.time <= last + guard.Timings().deadline + 0.2
    assert max(world.limits) <= guard.Timings().attempt
