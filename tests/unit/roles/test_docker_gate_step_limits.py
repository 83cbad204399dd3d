"""The Docker gate: a step has no more of the host than its run."""

from __future__ import annotations

from typing import Any

import gate_container
import gate_steps
import pytest
from gate_container import Refused, Rules
from gate_world import ALLOWED, DELEGATES, LOCATION, OTHER, RUN, delegating_body, step_body, step_name

RULES = Rules(memory=1 << 30, most_memory=2 << 30, pids=4096, locations=(LOCATION, OTHER, DELEGATES))
ASKING = gate_steps.Run(RUN, "nightly", ALLOWED)


def made(body: dict[str, Any] | None = None, name: str = "", run: gate_steps.Run = ASKING) -> dict[str, Any]:
    """The body that the engine gets for a step."""
    asked = step_body() if body is None else body
    return gate_steps.checked(asked, name or step_name(), run, run.rules(RULES))


def test_limits_of_a_step() -> None:
    host = made(step_body(Memory=1 << 20, CapAdd=["NET_RAW"]))["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["CapAdd"], host["CapDrop"]) == (1 << 20, 4096, ["NET_RAW"], ["ALL"])
    assert made()["HostConfig"]["Memory"] == 1 << 30, "what the run has"
    for more in ({"Memory": (1 << 30) + 1}, {"Memory": 1 << 40}, {"PidsLimit": 4097}):
        with pytest.raises(Refused, match=next(iter(more))):
            made(step_body(**more))


def test_step_has_no_more_than_its_run_was_given() -> None:
    """The limits of a location are those of each of its steps, whatever the code in the run asks for."""
    asked = delegating_body(Memory=1 << 28, PidsLimit=100, NanoCpus=5 * 10**8, CpusetCpus="0")
    run = gate_container.checked(asked, RULES)
    asking = gate_steps.asking({"Config": run, "State": {"Running": True}}, "mapped", RULES)
    host = made(step_body(NanoCpus=64 * 10**9), run=asking)["HostConfig"]
    kept = {"Memory": 1 << 28, "PidsLimit": 100, "NanoCpus": 5 * 10**8, "CpusetCpus": "0"}
    assert {key: host[key] for key in kept} == kept
    with pytest.raises(Refused, match="Memory"):
        made(step_body(Memory=1 << 29), run=asking)


def step_of(asked: dict[str, Any], given: dict[str, Any], **exactly: Any) -> dict[str, Any]:
    """The HostConfig of a step that asks for something, of a run that was given something."""
    location = {**DELEGATES, "exactly": {**DELEGATES["exactly"], **exactly}, "security_opt": ["seccomp={}"]}
    rules = Rules(memory=1 << 30, most_memory=2 << 30, pids=4096, locations=(location,))
    run = gate_container.checked(delegating_body(**given), rules)
    asking = gate_steps.asking({"Config": run, "State": {"Running": True}}, "mapped", rules)
    body = step_body(**asked)
    host: dict[str, Any] = gate_steps.checked(body, step_name(), asking, asking.rules(rules))["HostConfig"]
    return host


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        # A quota is one of a period: a shorter period makes more of it.
        ({"CpuQuota": 50000}, {"CpuQuota": 50000, "CpuPeriod": 1000}),
        ({"CpusetCpus": "0"}, {"NanoCpus": 64 * 10**9}),
        ({}, {"CpuShares": 262144}),
        ({"BlkioWeight": 10}, {"BlkioWeight": 1000}),
        ({}, {"MemoryReservation": 1 << 30}),
        ({"OomScoreAdj": 900}, {"OomScoreAdj": 0}),
        ({}, {"Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}]}),
        ({"SecurityOpt": ["seccomp={}"]}, {}),
    ],
)
def test_step_has_the_share_of_its_run(given: dict[str, Any], asked: dict[str, Any]) -> None:
    run, step = step_of({}, given), step_of(asked, given)
    assert step == run
    for name in asked:
        assert step.get(name) == given.get(name)
    if "SecurityOpt" in given:
        assert step["SecurityOpt"] == ["no-new-privileges:true", "seccomp={}"]


def test_step_leaves_out_nothing_that_the_plan_says() -> None:
    """Docker's default would be more: another runtime, no limit of its log."""
    exactly = {"Runtime": "runsc", "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024"}}
    asked = {"Runtime": "", "Sysctls": {}, "LogConfig": {}}
    host = step_of(asked, {"Runtime": "runsc"}, **exactly)
    assert {name: host[name] for name in asked} == {**exactly, "LogConfig": DELEGATES["exactly"]["LogConfig"]}


@pytest.mark.parametrize(
    ("run", "asked", "wanted"),
    [
        (None, {}, None),  # as much as memory, says the engine
        (None, {"Memory": 1 << 20, "MemorySwap": 2 << 30}, (1 << 20) + (1 << 30)),
        (1 << 30, {}, 1 << 30),
        (1 << 30, {"MemorySwap": 2 << 30}, 1 << 30),
        (1 << 30, {"Memory": 1 << 20, "MemorySwap": 1 << 30}, 1 << 20),
        (3 << 29, {"MemorySwap": 1 << 30}, 1 << 30),
    ],
)
def test_step_has_at_most_the_swap_of_its_run(run: int | None, asked: dict[str, int], wanted: int | None) -> None:
    given = {"Memory": 1 << 30, **({"MemorySwap": run} if run else {})}
    assert step_of(asked, given).get("MemorySwap") == wanted


def test_step_does_not_say_how_it_ends() -> None:
    """An engine that ends waits for a container as long as it says."""
    step = made({**step_body(), "StopTimeout": 86400, "StopSignal": "SIGCONT"})
    assert (step["StopTimeout"], step["StopSignal"]) == (None, None)


RESTRICTED = {**ALLOWED, "exactly": {**ALLOWED["exactly"], "User": "1000:1000", "ReadonlyRootfs": True}}


def test_step_is_as_restricted_as_its_run() -> None:
    asking = gate_steps.Run(RUN, "nightly", RESTRICTED)
    assert asking.user == 1000
    body = {**step_body(ReadonlyRootfs=True), "User": "1000:1000"}
    assert made(body, run=asking)["HostConfig"]["ReadonlyRootfs"] is True
    for changed in ({**body, "User": "0:0"}, {**step_body(), "User": "1000:1000"}):
        with pytest.raises(Refused):
            made(changed, run=asking)
