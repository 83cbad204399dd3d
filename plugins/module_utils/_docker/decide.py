# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has to be done for a location, as explicit steps. Pure: it asks no engine."""

from __future__ import annotations

import enum
import typing as t
from dataclasses import dataclass, field, replace

from .location import Location
from .shown import readable
from .state import RECREATE, Difference, action_for, actual_state, compare, name_of, wanted_state
from .survey import Json, Stand, Survey


class Step(enum.Enum):
    """One thing to do with the containers of a location."""

    # An interrupted swap is finished or undone first.
    REMOVE_NEXT = "remove the new container that has not taken the name yet"
    TAKE_BACK = "give the previous container its name back"
    GO_ON = "bring up the new container, then remove the previous one"
    KEEP_HEALTHY = "keep the new container if it is healthy, else take the previous one back"
    LOOK_AGAIN = "compare what stands there now"
    # In place; what the engine refuses is done by a swap instead.
    LIMIT = "set memory and processors"
    JOIN = "join and leave networks"
    # The rest.
    CREATE = "make the container and bring it up"
    SWAP = "make a new container, and keep the previous one until it is healthy"
    BRING_UP = "start it, wait until it is healthy, set its restart policy"
    SET_POLICY = "set its restart policy"
    WAIT = "wait until it is healthy"
    WAIT_IF_SILENT = "wait until it is healthy, unless its port answers"


@dataclass(frozen=True)
class Decision:
    """What stands there, how it differs from what is wanted, and what that takes."""

    location: Location
    image: Json
    stand: Stand
    action: str = "none"
    differences: tuple[Difference, ...] = ()
    # The same for an operator, with what else there is to say.
    lines: tuple[str, ...] = ()
    before: Json = field(default_factory=dict)
    after: Json = field(default_factory=dict)
    error: str = ""

    @property
    def takes_port(self) -> bool:
        """Will this start a container, and so bind the port?"""
        return not self.error and self.action in ("created", "recreated", "started") and bool(self.location.port)

    @property
    def settle(self) -> tuple[Step, ...]:
        """The steps that end the swap of an earlier call that did not live to end it."""
        first = (Step.REMOVE_NEXT,) if self.stand.next else ()
        if not self.stand.previous:
            return first
        if not self.stand.current:
            return (*first, Step.TAKE_BACK, Step.LOOK_AGAIN)
        # Without such a difference the new container of that call is the one wanted now.
        unfit = any(item.repair == RECREATE for item in self.differences)
        return (*first, Step.KEEP_HEALTHY if unfit else Step.GO_ON, Step.LOOK_AGAIN)

    @property
    def in_place(self) -> tuple[Step, ...]:
        """The steps that change a container which stays."""
        if not self.stand.current or self.action == "recreated":
            return ()
        limit = (Step.LIMIT,) if {"memory", "nano_cpus"} & self.fields else ()
        return (*limit, Step.JOIN) if "networks" in self.fields else limit

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps behind these."""
        current = self.stand.current
        if not current:
            return (Step.CREATE,)
        if self.action == "recreated":
            return (Step.SWAP,)
        if not self.differences:
            # Nothing differs, but if nobody answers: still starting, crash-looping, or never healthy.
            return (Step.WAIT_IF_SILENT,)
        unproven = "restart_policy" in self.fields and actual_state(current)["restart_policy"] == "no"
        if "status" in self.fields or unproven:
            return (Step.BRING_UP,)
        policy = (Step.SET_POLICY,) if "restart_policy" in self.fields else ()
        return (*policy, Step.WAIT) if "networks" in self.fields else policy

    @property
    def fields(self) -> set[str]:
        """What differs."""
        return {item.field for item in self.differences}


def decide(location: Location, found: Survey, endpoint: str, check_mode: bool) -> Decision:
    """What has to be done for a location, or why nothing can be."""
    image, stand = found.images[location.image], found.stand(location)
    plain = Decision(location, image if isinstance(image, dict) else {}, stand)
    missing = [name for name in location.all_networks if name not in found.networks]
    if check_mode and (isinstance(image, str) or missing):
        # Earlier tasks of this very check would have made them.
        absent = [f"image {location.image}"] if isinstance(image, str) else []
        lines = tuple(f"{item}: not on the engine yet" for item in absent + [f"network {n}" for n in missing])
        return replace(plain, action="recreated" if stand.current else "created", lines=lines)
    if isinstance(image, str):
        return replace(
            plain,
            error=f"The engine at {endpoint} has no image {location.image!r} ({image}). Expected the image "
            f"to be pulled, built or loaded before the container; see {location.where}.image.",
        )
    if missing:
        return replace(
            plain,
            error=f"The engine has no network {', '.join(missing)}. Expected it to exist before the containers; see "
            f"dagster_docker_network and {location.where}.networks.",
        )
    decision = _judged(location, image, stand, found.networks)
    leftovers = _leftovers(stand)
    action = "updated" if leftovers and decision.action == "none" else decision.action
    return replace(decision, action=action, lines=decision.lines + leftovers)


def settled(before: Decision, current: Json | None, networks: t.Mapping[str, str]) -> Decision:
    """What has to be done once an interrupted swap has ended, and this container stands there."""
    decision = _judged(before.location, before.image, Stand(current), networks)
    action = decision.action
    if action == "none":
        action = before.action if before.action in ("started", "updated") else "updated"
    return replace(decision, action=action, lines=decision.lines + _leftovers(before.stand))


def refused(decision: Decision, reason: str) -> Decision:
    """What has to be done once the engine has refused a change in place."""
    line = f"the engine refused the change in place: {reason}"
    return replace(decision, action="recreated", lines=(*decision.lines, line))


def _leftovers(stand: Stand) -> tuple[str, ...]:
    return tuple(
        f"leftover of an interrupted swap: {name_of(item)}" for item in (stand.next, stand.previous) if item is not None
    )


def _judged(location: Location, image: Json, stand: Stand, networks: t.Mapping[str, str]) -> Decision:
    """By what stands under the name, or will once an interrupted swap is undone."""
    base = stand.current or stand.previous
    wanted = wanted_state(location, image)
    if not base:
        lines = ("container: absent -> running",)
        return Decision(location, image, stand, "created", lines=lines, after=readable(wanted))
    differences = tuple(compare(location, image, base, networks))
    only = {item.field.split(".")[0] for item in differences}
    return Decision(
        location,
        image,
        stand,
        action_for(differences),
        differences,
        tuple(str(item) for item in differences),
        before=readable(actual_state(base), only),
        after=readable(wanted, only),
    )
