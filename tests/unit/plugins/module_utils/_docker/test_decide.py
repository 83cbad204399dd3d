# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps that each state of a location takes."""

from __future__ import annotations

from typing import Any

import pytest
from wishes import IMAGE, Json, real, wish

from ansible_collections.dataops.dagster.plugins.module_utils._docker import decide
from ansible_collections.dataops.dagster.plugins.module_utils._docker.decide import Step
from ansible_collections.dataops.dagster.plugins.module_utils._docker.survey import Survey

NETWORKS = {"dagster": "n1", "extra": "n2"}


def decided(*containers: Json, check_mode: bool = False, **changes: Any) -> decide.Decision:
    location = wish(**changes)
    found = Survey({item["Name"].lstrip("/"): item for item in containers}, {location.image: IMAGE}, NETWORKS)
    return decide.decide(location, found, "unix:///run/docker.sock", check_mode)


def steps(decision: decide.Decision) -> tuple[Step, ...]:
    return (*decision.settle, *decision.in_place, *decision.steps)


def container(suffix: str = "", policy: str = "unless-stopped", status: str = "running") -> Json:
    made = real(wish())
    made["Name"] += suffix
    made["State"] = {"Status": status, "Running": status == "running"}
    made["HostConfig"]["RestartPolicy"]["Name"] = policy
    return made


@pytest.mark.parametrize(
    ("containers", "changes", "action", "expected"),
    [
        ([], {}, "created", (Step.CREATE,)),
        ([container()], {}, "none", (Step.WAIT_IF_SILENT,)),
        ([container()], {"env": {"A": 2}}, "recreated", (Step.SWAP,)),
        ([container()], {"mem_limit": "2g"}, "updated", (Step.LIMIT,)),
        ([container()], {"networks": []}, "updated", (Step.JOIN, Step.WAIT)),
        ([container()], {"restart_policy": "always"}, "updated", (Step.SET_POLICY,)),
        (
            [container()],
            {"cpus": 2, "networks": [], "restart_policy": "no"},
            "updated",
            (Step.LIMIT, Step.JOIN, Step.SET_POLICY, Step.WAIT),
        ),
        ([container(status="exited")], {"cpus": 2}, "started", (Step.LIMIT, Step.BRING_UP)),
        # Never seen healthy: the policy alone would start it again and again.
        ([container(policy="no")], {}, "updated", (Step.BRING_UP,)),
        ([container(), container("-next")], {}, "updated", (Step.REMOVE_NEXT, Step.WAIT_IF_SILENT)),
        ([container("-previous")], {}, "updated", (Step.TAKE_BACK, Step.LOOK_AGAIN, Step.CREATE)),
        (
            [container(policy="no"), container("-previous")],
            {},
            "updated",
            (Step.GO_ON, Step.LOOK_AGAIN, Step.BRING_UP),
        ),
        (
            [container(), container("-previous")],
            {"user": "1"},
            "recreated",
            (Step.KEEP_HEALTHY, Step.LOOK_AGAIN, Step.SWAP),
        ),
    ],
)
def test_steps(containers: list[Json], changes: Json, action: str, expected: tuple[Step, ...]) -> None:
    decision = decided(*containers, **changes)
    assert (decision.error, decision.action, steps(decision)) == ("", action, expected)


def test_what_stands_after_a_settled_swap_decides() -> None:
    before = decided(container("-previous"))
    after = decide.settled(before, container(), NETWORKS)
    assert (after.action, steps(after)) == ("updated", (Step.WAIT_IF_SILENT,))
    assert "leftover of an interrupted swap: dagster-code-analytics-previous" in after.lines
    assert steps(decide.settled(before, None, NETWORKS)) == (Step.CREATE,)


def test_what_the_engine_refuses_in_place_is_a_swap() -> None:
    decision = decide.refused(decided(container(), mem_limit="2g"), "no limits here")
    assert (decision.action, steps(decision)) == ("recreated", (Step.SWAP,))
    assert decision.lines[-1] == "the engine refused the change in place: no limits here"


def test_what_is_missing_is_an_error_but_not_in_a_check() -> None:
    location = wish(networks=["nowhere"])
    found = Survey({}, {location.image: "no such image"}, NETWORKS)
    assert "has no image 'repo/analytics:1' (no such image)" in decide.decide(location, found, "here", False).error
    checked = decide.decide(location, found, "here", True)
    assert (checked.error, checked.action, len(checked.lines)) == ("", "created", 2)
    assert "The engine has no network nowhere" in decided(networks=["nowhere"]).error
