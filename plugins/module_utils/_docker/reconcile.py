# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the code-location containers of one engine to the wanted state, in parallel.

A swap never leaves a host without its last good container: the new one is created as `<name>-next` (a wrong volume or
network shows here, with the old one still serving), the old one is stopped and kept as `<name>-previous` until the new
one is healthy. A container that was not yet seen healthy has the restart policy `no`; the wanted policy is set once it
is. The one that was set aside has the policy `always`, so that it serves after a reboot in the middle. These marks
survive a kill of this process at any point, and the next call finishes or undoes the swap by them.

What there is (survey), what that takes (decide), then the steps, each location in a thread of its own.
"""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .containers import Containers
from .decide import Decision, Step, decide, refused, settled
from .engine import Engine, explain, sdk_errors
from .health import Health
from .labels import LOCATION_LABEL
from .location import NEXT_SUFFIX, PREVIOUS_SUFFIX, Location, LocationError
from .ports import hands_over, without_clashes
from .shown import readable
from .state import actual_state, is_running, name_of
from .survey import Json, inspect, survey

THREADS = 8
# A container that failed its health check holds no calls worth waiting for.
FAILED_STOP_TIMEOUT = 10


@dataclass(frozen=True)
class Outcome:
    """What was done for one location, or would be."""

    name: str
    action: str = "none"
    container_id: str | None = None
    image_id: str | None = None
    differences: list[str] = field(default_factory=list)
    changed: bool = False
    error: str | None = None
    before: Json = field(default_factory=dict)
    after: Json = field(default_factory=dict)

    def public(self) -> Json:
        """What the module returns of it."""
        return {
            "name": self.name,
            "action": self.action,
            "container_id": self.container_id,
            "image_id": self.image_id,
            "differences": self.differences,
        }


def on_bare_host(locations: list[Location]) -> list[Outcome]:
    """What a check says where no engine is installed yet: everything would be created."""
    return [
        Outcome(item.name, "created", differences=["container: absent -> running"], changed=True) for item in locations
    ]


def reconcile(
    engine: Engine, locations: list[Location], health: Health, *, check_mode: bool, prefix: str
) -> list[Outcome]:
    """Bring the locations of an instance (its containers have that prefix) to the wanted state, and remove others."""
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        found = survey(engine, locations, prefix, pool)
        strays = found.strays(locations)
        wished = [decide(location, found, engine.endpoint, check_mode) for location in locations]
        decisions = without_clashes(engine, wished, strays)
        if check_mode:
            return [_planned(decision) for decision in decisions] + [_stray(container) for container in strays]
        removed = list(pool.map(lambda container: _removed(engine, container), strays))
        works = [_Work(engine, health, decision, found.networks) for decision in decisions]
        # A port that moves from one location to another must be free before its new owner starts.
        list(pool.map(_Work.hand_over_port, [work for work in works if hands_over(work.decision, decisions)]))
        return list(pool.map(_Work.run, works)) + removed


def _outcome(decision: Decision, *, changed: bool, error: str | None = None, serving: Json | None = None) -> Outcome:
    serving = serving or {}
    return Outcome(
        decision.location.name,
        decision.action,
        serving.get("Id"),
        serving.get("Image"),
        list(decision.lines),
        changed,
        error,
        decision.before,
        decision.after,
    )


def _planned(decision: Decision) -> Outcome:
    changed = not decision.error and decision.action != "none"
    return _outcome(decision, changed=changed, error=decision.error or None, serving=decision.stand.current)


def _stray(container: Json, error: str | None = None) -> Outcome:
    labels = (container.get("Config") or {}).get("Labels") or {}
    return Outcome(
        str(labels.get(LOCATION_LABEL) or name_of(container)),
        "removed",
        container["Id"],
        container["Image"],
        [f"container {name_of(container)}: its location is not in dagster_code_locations"],
        changed=True,
        error=error,
        before=readable(actual_state(container)),
    )


def _removed(engine: Engine, container: Json) -> Outcome:
    containers = Containers(engine)
    try:
        containers.stop(container)
        containers.remove(container["Id"])
    except sdk_errors() as error:
        return _stray(container, f"The container {name_of(container)} could not be removed: {explain(error)}.")
    return _stray(container)


class _Work:
    """Takes the steps of one location. Its state is its own: what it has changed, and which container serves."""

    def __init__(self, engine: Engine, health: Health, decision: Decision, networks: t.Mapping[str, str]) -> None:
        self.engine = engine
        self.health = health
        self.containers = Containers(engine)
        self.networks = networks
        self.decision = decision
        self.location = decision.location
        self.error = decision.error
        self.changed = False
        # ID and image of the container under the name of the location.
        self.serving = decision.stand.current

    def hand_over_port(self) -> None:
        """Stop a container that will be replaced, so that another location can have its port."""
        current = t.cast(Json, self.decision.stand.current)
        try:
            self._set_aside(current)
            self.changed = True
        except sdk_errors() as error:
            self.error = f"The old container {name_of(current)} could not be stopped: {explain(error)}."

    def run(self) -> Outcome:
        """Take all steps, up to the first that fails."""
        try:
            if not self.error:
                self._take_steps()
        except LocationError as error:
            self.error = str(error)
        except sdk_errors() as error:
            self.error = f"The engine refused: {explain(error)}"
        return _outcome(self.decision, changed=self.changed, error=self.error or None, serving=self.serving)

    def _take_steps(self) -> None:
        for step in self.decision.settle:
            self.changed = True
            self.take[step](self)
        try:
            for step in self.decision.in_place:
                self.take[step](self)
                self.changed = True
        except sdk_errors() as error:
            self.decision = refused(self.decision, explain(error))
        for step in self.decision.steps:
            self.take[step](self)

    # --- an interrupted swap ----------------------------------------------------------------------------------------

    def _remove_next(self) -> None:
        self.containers.remove(t.cast(Json, self.decision.stand.next)["Id"])

    def _take_back(self) -> None:
        previous = t.cast(Json, self.decision.stand.previous)
        self.engine.api.rename(previous["Id"], self.location.container)
        self.serving = previous

    def _go_on(self) -> None:
        current, previous = t.cast(Json, self.decision.stand.current), t.cast(Json, self.decision.stand.previous)
        if is_running(previous):
            self.containers.stop(previous)  # the host was restarted in the middle, so it serves, and has the port
        try:
            self._bring_up(current["Id"])
        except LocationError as error:
            self._restore(current["Id"], previous)
            raise LocationError(f"{error}\n{self._restored(previous['Id'])}") from error
        self.containers.remove(previous["Id"])

    def _keep_healthy(self) -> None:
        current, previous = t.cast(Json, self.decision.stand.current), t.cast(Json, self.decision.stand.previous)
        try:
            self.health.wait(self.location, current["Id"], once=True)
        except LocationError:
            self._restore(current["Id"], previous)
        else:
            self.containers.remove(previous["Id"])

    def _look_again(self) -> None:
        self.serving = inspect(self.engine, t.cast(Json, self.serving)["Id"])
        self.decision = settled(self.decision, self.serving, self.networks)

    # --- a container that stays -------------------------------------------------------------------------------------

    def _limit(self) -> None:
        self.containers.limit(self.location, self._current, self.decision.fields)

    def _join(self) -> None:
        self.containers.connect(self.location, t.cast(Json, self.decision.stand.current))

    def _start(self) -> None:
        self.changed = True
        self._bring_up_or_stop(self._current)

    def _set_policy(self) -> None:
        self.containers.set_restart_policy(self._current, self.location.restart_policy)
        self.changed = True

    def _wait(self) -> None:
        self.health.wait(self.location, self._current)

    def _wait_if_silent(self) -> None:
        if not self.health.listening(t.cast(Json, self.decision.stand.current), self.location):
            self._wait()

    @property
    def _current(self) -> str:
        return str(t.cast(Json, self.decision.stand.current)["Id"])

    # --- a new container --------------------------------------------------------------------------------------------

    def _create(self) -> None:
        new = self.containers.make(self.location, self.decision.image, self.location.container)
        self.changed = True
        self._serves(new)
        self._bring_up_or_stop(new)

    def _swap(self) -> None:
        current = t.cast(Json, self.decision.stand.current)
        api, name = self.engine.api, self.location.container
        try:
            new = self.containers.make(self.location, self.decision.image, name + NEXT_SUFFIX)
        except LocationError:
            if self.changed and is_running(current):
                self._serve_again(current)  # it had been stopped to hand over its port
            raise
        self.changed = True
        self._set_aside(current)
        api.rename(current["Id"], name + PREVIOUS_SUFFIX)
        api.rename(new, name)
        try:
            self._bring_up(new)
        except LocationError as error:
            self._restore(new, current)
            raise LocationError(f"{error}\n{self._restored(current['Id'])}") from error
        self._serves(new)
        self.containers.remove(current["Id"])

    def _set_aside(self, current: Json) -> None:
        """Stop the container that serves. Should the host restart before the swap ends, the engine starts it again."""
        if actual_state(current)["restart_policy"] not in ("no", "always"):
            self.containers.set_restart_policy(current["Id"], "always")  # the only one for what was stopped by a call
        self.containers.stop(current)

    def _serve_again(self, container: Json) -> None:
        """Start a container that was set aside, with the policy that it had."""
        self.engine.api.start(container["Id"])
        if actual_state(container)["restart_policy"] != "no" and self.location.restart_policy != "always":
            self.containers.set_restart_policy(container["Id"], self.location.restart_policy)

    def _serves(self, new: str) -> None:
        self.serving = {"Id": new, "Image": self.decision.image["Id"]}

    def _bring_up(self, container: str) -> None:
        """Start, wait until healthy, then hand it to its restart policy."""
        api, location = self.engine.api, self.location
        info = inspect(self.engine, container)
        if info is None:
            raise LocationError(f"The container {location.container} was removed by somebody while it was set up.")
        try:
            if (info.get("State") or {}).get("Paused"):
                api.unpause(container)
            elif not is_running(info):
                if actual_state(info)["restart_policy"] != "no":
                    self.containers.set_restart_policy(container, "no")
                api.start(container)
        except sdk_errors() as error:
            hint = ""
            if location.port and ("port is already allocated" in explain(error) or "in use" in explain(error)):
                hint = f" Port {location.publish_address}:{location.port} is set in {location.where}.port."
            raise LocationError(f"The container could not be started: {explain(error)}.{hint}") from error
        self.health.wait(location, container)
        self.containers.set_restart_policy(container, location.restart_policy)

    def _bring_up_or_stop(self, container: str) -> None:
        try:
            self._bring_up(container)
        except LocationError as error:
            # Stopped, not left half alive: so the next call sees that it still has to become healthy.
            try:
                self.containers.set_restart_policy(container, "no")
                self.engine.api.stop(container, timeout=FAILED_STOP_TIMEOUT)
                kept = f"It is kept, stopped: docker logs {self.location.container}"
            except sdk_errors() as second:
                kept = f"It could not be stopped either: {explain(second)}"
            raise LocationError(f"{error}\n{kept}") from error

    def _restore(self, new: str, previous: Json) -> None:
        """Undo a swap: the new container goes, the previous one takes its name back and serves again."""
        self.containers.remove(new)
        self.engine.api.rename(previous["Id"], self.location.container)
        self._serve_again(previous)
        self.serving = previous

    def _restored(self, previous: str) -> str:
        try:
            self.health.wait(self.location, previous)
        except LocationError as error:
            return f"The previous container ({previous[:12]}) was started again, but is not healthy either: {error}"
        return f"The previous container ({previous[:12]}) serves again."

    take: t.ClassVar[dict[Step, t.Callable[[_Work], None]]] = {
        Step.REMOVE_NEXT: _remove_next,
        Step.TAKE_BACK: _take_back,
        Step.GO_ON: _go_on,
        Step.KEEP_HEALTHY: _keep_healthy,
        Step.LOOK_AGAIN: _look_again,
        Step.LIMIT: _limit,
        Step.JOIN: _join,
        Step.CREATE: _create,
        Step.SWAP: _swap,
        Step.BRING_UP: _start,
        Step.SET_POLICY: _set_policy,
        Step.WAIT: _wait,
        Step.WAIT_IF_SILENT: _wait_if_silent,
    }
