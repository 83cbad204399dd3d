# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the code-location containers of one engine to the wanted state, in parallel.

A swap never leaves a host without its last good container: the new one is created as `<name>-next` (a wrong volume or
network shows here, with the old one still serving), the old one is stopped and kept as `<name>-previous` until the new
one is healthy. A container that was not yet seen healthy has the restart policy `no`; the wanted policy is set once it
is. Both marks survive a kill of this process at any point, and the next call finishes or undoes the swap by them.
"""

from __future__ import annotations

import socket
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .._proc import Listener, listeners, socket_owners
from . import containers as spec
from .engine import Engine, explain, sdk_errors, status_of

THREADS = 8
LOG_LINES = 30
# A container that failed its health check holds no calls worth waiting for.
FAILED_STOP_TIMEOUT = 10
# Without a listening port a health command is still tried, but rarely: the real one costs more than a CPU second.
BLIND_AFTER = 3.0
BLIND_EVERY = 10.0

# The engine's words for a health command that the image does not have.
_NO_PROGRAM = ("executable file not found", "no such file or directory", "permission denied")

Json = dict[str, t.Any]


class LocationError(Exception):
    """One location could not be brought to the wanted state."""


@dataclass
class Outcome:
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
        return {
            "name": self.name,
            "action": self.action,
            "container_id": self.container_id,
            "image_id": self.image_id,
            "differences": self.differences,
        }


@dataclass
class Plan:
    location: spec.Location
    image: Json
    outcome: Outcome
    current: Json | None = None
    previous: Json | None = None
    leftover_next: Json | None = None
    differences: list[spec.Difference] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"dagster_code_locations[{self.location.name}]"

    @property
    def takes_port(self) -> bool:
        """Will this plan start a container, and so bind the port?"""
        return self.outcome.action in ("created", "recreated", "started") and bool(self.location.port)


def on_bare_host(locations: list[spec.Location]) -> list[Outcome]:
    """What a check says where no engine is installed yet: everything would be created."""
    return [
        Outcome(item.name, "created", differences=["container: absent -> running"], changed=True) for item in locations
    ]


def _running(container: Json) -> bool:
    state = container.get("State") or {}
    return bool(state.get("Running")) and not state.get("Paused") and not state.get("Restarting")


def _name(container: Json) -> str:
    return str(container.get("Name") or "").lstrip("/")


class Reconciler:
    def __init__(
        self,
        engine: Engine,
        network: str,
        locations: list[spec.Location],
        *,
        health_command: list[str],
        health_timeout: float,
        check_mode: bool,
    ) -> None:
        self.engine = engine
        self.network = network
        self.locations = locations
        self.health_command = health_command
        self.health_timeout = health_timeout
        self.check_mode = check_mode
        self._network_ids: dict[str, str] = {}

    # --- looking ----------------------------------------------------------------------------------------------------

    def run(self) -> list[Outcome]:
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            found, images = self._survey(pool)
            wanted = {location.container: location for location in self.locations}
            base_names = {name + suffix for name in wanted for suffix in ("", spec.NEXT_SUFFIX, spec.PREVIOUS_SUFFIX)}
            plans = [self._plan(location, found, images) for location in self.locations]
            strays = [item for name, item in sorted(found.items()) if name not in base_names]
            self._check_ports(plans, strays)
            removed = list(pool.map(self._remove_stray, strays))
            # A port that moves from one location to another must be free before its new owner starts.
            list(pool.map(self._retire, self._holders(plans)))
            done = list(pool.map(self._apply, plans))
        return done + removed

    def _survey(self, pool: ThreadPoolExecutor) -> tuple[dict[str, Json], dict[str, Json | str]]:
        """All containers of ours by name, and the wanted images by reference: one list, then parallel inspects."""
        references = sorted({location.image for location in self.locations})
        names = {name for location in self.locations for name in location.all_networks}
        networks = pool.submit(self._list_networks, names)
        images = pool.map(self._inspect_image, references)
        # Both labels: an image may carry the first one, and every run container inherits the labels of its image.
        filters = {"label": [spec.LOCATION_LABEL, spec.CONFIG_LABEL]}
        listed = self.engine.api.containers(all=True, filters=filters)
        inspected = pool.map(self._inspect, [item["Id"] for item in listed])
        found = {_name(item): item for item in inspected if item and _name(item).startswith(spec.NAME_PREFIX)}
        self._network_ids = networks.result()
        return found, dict(zip(references, images, strict=True))

    def _inspect(self, container: str) -> Json | None:
        try:
            return t.cast(Json, self.engine.api.inspect_container(container))
        except sdk_errors() as error:
            if status_of(error) == 404:
                return None
            raise

    def _inspect_image(self, reference: str) -> Json | str:
        try:
            return t.cast(Json, self.engine.api.inspect_image(reference))
        except sdk_errors() as error:
            return explain(error)

    def _list_networks(self, names: set[str]) -> dict[str, str]:
        # The engine's filter matches parts of names.
        listed = self.engine.api.networks(names=sorted(names)) if names else []
        return {item["Name"]: item["Id"] for item in listed if item["Name"] in names}

    def _plan(self, location: spec.Location, found: dict[str, Json], images: dict[str, Json | str]) -> Plan:
        image = images[location.image]
        outcome = Outcome(location.name)
        plan = Plan(location, image if isinstance(image, dict) else {}, outcome)
        plan.current = found.get(location.container)
        plan.previous = found.get(location.container + spec.PREVIOUS_SUFFIX)
        plan.leftover_next = found.get(location.container + spec.NEXT_SUFFIX)
        if plan.current:
            outcome.container_id, outcome.image_id = plan.current["Id"], plan.current["Image"]
        missing = [name for name in location.all_networks if name not in self._network_ids]
        if self.check_mode and (isinstance(image, str) or missing):
            # Earlier tasks of this very check would have made them.
            outcome.action = "recreated" if plan.current else "created"
            absent = [f"image {location.image}"] if isinstance(image, str) else []
            outcome.differences = [
                f"{item}: not on the engine yet" for item in absent + [f"network {n}" for n in missing]
            ]
            return plan
        if isinstance(image, str):
            outcome.error = (
                f"The engine at {self.engine.endpoint} has no image {location.image!r} ({image}). Expected the image "
                f"to be pulled, built or loaded before the container; see {plan.where}.image."
            )
            return plan
        if missing:
            outcome.error = (
                f"The engine has no network {', '.join(missing)}. Expected it to exist before the containers; see "
                f"dagster_docker_network and {plan.where}.networks."
            )
            return plan
        self._judge(plan)
        for leftover in (plan.leftover_next, plan.previous):
            if leftover:
                outcome.differences.append(f"leftover of an interrupted swap: {_name(leftover)}")
                if outcome.action == "none":
                    outcome.action = "updated"
        return plan

    def _judge(self, plan: Plan) -> None:
        """Set differences and action for what stands under the name (or will, once an interrupted swap is undone)."""
        outcome, location = plan.outcome, plan.location
        base = plan.current or plan.previous
        if not base:
            plan.differences = []
            outcome.action = "created"
            outcome.differences = ["container: absent -> running"]
            outcome.before, outcome.after = {}, spec.readable(spec.wanted_state(location, plan.image))
            return
        plan.differences = spec.compare(location, plan.image, base, self._network_ids)
        outcome.action = spec.action_for(plan.differences)
        outcome.differences = [str(item) for item in plan.differences]
        only = {item.field.split(".")[0] for item in plan.differences}
        outcome.before = spec.readable(spec.actual_state(base), only)
        outcome.after = spec.readable(spec.wanted_state(location, plan.image), only)

    # --- ports ------------------------------------------------------------------------------------------------------

    def _check_ports(self, plans: list[Plan], strays: list[Json]) -> None:
        """A clash is an error of that location only, and nothing of it has been touched yet."""
        takers = [plan for plan in plans if plan.takes_port and not plan.outcome.error]
        if not takers or not self.engine.local:
            return
        found = listeners()
        ours = [item for plan in plans for item in (plan.current, plan.previous, plan.leftover_next) if item] + strays
        for plan in takers:
            address, port = plan.location.publish_address, plan.location.port
            listener = spec.listener_on(found, address, port)
            if listener and not any(spec.publishes(item, address, port) for item in ours):
                plan.outcome.error = (
                    f"Port {address}:{port} is taken by {self._owner(listener)}. Expected it to be free: two code "
                    f"servers on one port would answer in turn. Free it or change {plan.where}.port."
                )

    def _owner(self, listener: Listener) -> str:
        try:
            for item in self.engine.api.containers(filters={"publish": str(listener.port)}):
                return f"the container {item['Names'][0].lstrip('/')} (image {item['Image']})"
        except sdk_errors():
            pass  # the process below says enough
        return _process_of(listener)

    def _holders(self, plans: list[Plan]) -> list[Plan]:
        takers = [plan for plan in plans if plan.takes_port and not plan.outcome.error]
        return [
            holder
            for holder in plans
            if holder.current
            and holder.outcome.action == "recreated"
            and not holder.outcome.error
            and any(
                taker is not holder
                and spec.publishes(holder.current, taker.location.publish_address, taker.location.port)
                for taker in takers
            )
        ]

    def _retire(self, plan: Plan) -> None:
        if self.check_mode or not plan.current:
            return
        try:
            self._stop(plan.current)
            plan.outcome.changed = True
        except sdk_errors() as error:
            plan.outcome.error = f"The old container {_name(plan.current)} could not be stopped: {explain(error)}."

    # --- acting -----------------------------------------------------------------------------------------------------

    def _remove_stray(self, container: Json) -> Outcome:
        labels = (container.get("Config") or {}).get("Labels") or {}
        outcome = Outcome(str(labels.get(spec.LOCATION_LABEL) or _name(container)), "removed")
        outcome.container_id, outcome.image_id = container["Id"], container["Image"]
        outcome.differences = [f"container {_name(container)}: its location is not in dagster_code_locations"]
        outcome.before = spec.readable(spec.actual_state(container))
        outcome.changed = True
        if not self.check_mode:
            try:
                self._stop(container)
                self._remove(container["Id"])
            except sdk_errors() as error:
                outcome.error = f"The container {_name(container)} could not be removed: {explain(error)}."
        return outcome

    def _apply(self, plan: Plan) -> Outcome:
        outcome = plan.outcome
        if outcome.error:
            return outcome
        try:
            if self.check_mode:
                outcome.changed = outcome.action != "none"
                return outcome
            if plan.leftover_next or plan.previous:
                self._settle(plan)
            if not plan.current:
                self._create(plan)
            elif outcome.action == "recreated":
                self._recreate(plan)
            elif plan.differences:
                self._repair(plan)
            elif not self._listening(plan.current, plan.location):
                # Nothing differs, but nobody answers: still starting, crash-looping, or never healthy.
                self._wait_healthy(plan, plan.current["Id"])
        except LocationError as error:
            outcome.error = str(error)
        except sdk_errors() as error:
            outcome.error = f"The engine refused: {explain(error)}"
        return outcome

    def _settle(self, plan: Plan) -> None:
        """Finish or undo the swap that an earlier call began and did not live to end."""
        name = plan.location.container
        plan.outcome.changed = True
        if plan.leftover_next:
            self._remove(plan.leftover_next["Id"])
            plan.leftover_next = None
        previous = plan.previous
        if not previous:
            return
        notes = [item for item in plan.outcome.differences if item.startswith("leftover")]
        current = plan.current
        if current:
            unfit = any(item.repair == spec.RECREATE for item in plan.differences)
            try:
                if unfit:
                    self._wait_healthy(plan, current["Id"], once=True)
                else:
                    # The new container of the interrupted call is the one wanted now: go on from there.
                    self._bring_up(plan, current["Id"])
                self._remove(previous["Id"])
            except LocationError as error:
                self._restore(plan, current["Id"], previous)
                if not unfit:
                    raise LocationError(f"{error}\n{self._restored(plan)}") from error
                current = None
        else:
            self.engine.api.rename(previous["Id"], name)
        plan.previous = None
        plan.current = self._inspect(current["Id"] if current else previous["Id"])
        action = plan.outcome.action
        self._judge(plan)
        plan.outcome.differences += notes
        if plan.outcome.action == "none":
            plan.outcome.action = action if action in ("started", "updated") else "updated"
        self._identify(plan, plan.current["Id"] if plan.current else None)

    def _create(self, plan: Plan) -> None:
        container = self._make(plan, plan.location.container)
        plan.outcome.changed = True
        self._identify(plan, container)
        self._bring_up_or_stop(plan, container)

    def _recreate(self, plan: Plan) -> None:
        current = t.cast(Json, plan.current)
        api, name = self.engine.api, plan.location.container
        was_running = _running(current)
        try:
            new = self._make(plan, name + spec.NEXT_SUFFIX)
        except LocationError:
            if plan.outcome.changed and was_running:
                api.start(current["Id"])  # it had been stopped to hand over its port
            raise
        plan.outcome.changed = True
        self._stop(current)
        api.rename(current["Id"], name + spec.PREVIOUS_SUFFIX)
        api.rename(new, name)
        try:
            self._bring_up(plan, new)
        except LocationError as error:
            self._restore(plan, new, current)
            raise LocationError(f"{error}\n{self._restored(plan)}") from error
        self._identify(plan, new)
        self._remove(current["Id"])

    def _repair(self, plan: Plan) -> None:
        """Mend in place; what the engine refuses to change in place is mended by a new container."""
        current, location = t.cast(Json, plan.current), plan.location
        container = current["Id"]
        fields = {item.field for item in plan.differences}
        try:
            limits: Json = {}
            if "memory" in fields:
                # The engine refuses a memory limit above the old sum with swap; twice is what it sets by itself.
                limits.update(Memory=location.memory, MemorySwap=location.memory * 2)
            if "nano_cpus" in fields:
                limits["NanoCpus"] = location.nano_cpus
            if limits:
                self._update(container, limits)
                plan.outcome.changed = True
            if "networks" in fields:
                self._connect(plan, container, current)
                plan.outcome.changed = True
        except sdk_errors() as error:
            plan.outcome.action = "recreated"
            plan.outcome.differences.append(f"the engine refused the change in place: {explain(error)}")
            self._recreate(plan)
            return
        unproven = spec.actual_state(current)["restart_policy"] == "no" and "restart_policy" in fields
        if "status" in fields or unproven:
            plan.outcome.changed = True
            self._bring_up_or_stop(plan, container)
            return
        if "restart_policy" in fields:
            self._set_restart_policy(container, location.restart_policy)
            plan.outcome.changed = True
        if "networks" in fields:
            self._wait_healthy(plan, container)

    def _make(self, plan: Plan, name: str) -> str:
        """Create a container, attached to all its networks, not started; nothing is left of one that fails."""
        location, api = plan.location, self.engine.api
        port = location.container_port
        try:
            made = api.create_container(
                location.image,
                list(location.command),
                name=name,
                user=location.user or None,
                environment=location.env,
                labels=spec.container_labels(location, plan.image["Id"]),
                ports=[port] if location.port else None,
                # Binds in host_config are enough; `volumes` would add anonymous ones.
                host_config=api.create_host_config(
                    binds=list(location.volumes),
                    port_bindings={port: (location.publish_address, location.port)} if location.port else None,
                    mem_limit=location.memory or None,
                    nano_cpus=location.nano_cpus or None,
                    network_mode=location.network,
                    restart_policy={"Name": "no"},
                    extra_hosts=location.extra_hosts or None,
                ),
                networking_config=api.create_networking_config({location.network: api.create_endpoint_config()}),
                stop_timeout=location.stop_timeout,
            )
        except sdk_errors() as error:
            if status_of(error) == 409:
                raise LocationError(
                    f"The engine already has a container {name!r} that this collection did not make (it lacks the "
                    f"label {spec.CONFIG_LABEL}). Remove or rename it, or rename {plan.where}."
                ) from error
            raise LocationError(
                f"The container could not be created from {location.image}: {explain(error)}. See {plan.where}."
            ) from error
        container = str(made["Id"])
        try:
            for extra in location.all_networks[1:]:
                api.connect_container_to_network(container, extra)
        except sdk_errors() as error:
            self._remove(container)
            raise LocationError(
                f"The container could not join a network: {explain(error)}. See {plan.where}.networks."
            ) from error
        return container

    def _connect(self, plan: Plan, container: str, current: Json) -> None:
        wanted = set(plan.location.all_networks)
        actual = set((current.get("NetworkSettings") or {}).get("Networks") or ())
        for name in sorted(wanted - actual):
            self.engine.api.connect_container_to_network(container, name)
        for name in sorted(actual - wanted):
            self.engine.api.disconnect_container_from_network(container, name)

    def _bring_up(self, plan: Plan, container: str) -> None:
        """Start, wait until healthy, then hand it to its restart policy."""
        api, location = self.engine.api, plan.location
        info = self._inspect(container)
        if info is None:
            raise LocationError(f"The container {location.container} was removed by somebody while it was set up.")
        try:
            if (info.get("State") or {}).get("Paused"):
                api.unpause(container)
            elif not _running(info):
                if spec.actual_state(info)["restart_policy"] != "no":
                    self._set_restart_policy(container, "no")
                api.start(container)
        except sdk_errors() as error:
            hint = ""
            if location.port and ("port is already allocated" in explain(error) or "in use" in explain(error)):
                hint = f" Port {location.publish_address}:{location.port} is set in {plan.where}.port."
            raise LocationError(f"The container could not be started: {explain(error)}.{hint}") from error
        self._wait_healthy(plan, container)
        self._set_restart_policy(container, location.restart_policy)

    def _bring_up_or_stop(self, plan: Plan, container: str) -> None:
        try:
            self._bring_up(plan, container)
        except LocationError as error:
            # Stopped, not left half alive: so the next call sees that it still has to become healthy.
            try:
                self._set_restart_policy(container, "no")
                self.engine.api.stop(container, timeout=FAILED_STOP_TIMEOUT)
                kept = f"It is kept, stopped: docker logs {plan.location.container}"
            except sdk_errors() as second:
                kept = f"It could not be stopped either: {explain(second)}"
            raise LocationError(f"{error}\n{kept}") from error

    def _restore(self, plan: Plan, new: str, previous: Json) -> None:
        """Undo a swap: the new container goes, the previous one takes its name back and serves again."""
        api, name = self.engine.api, plan.location.container
        self._remove(new)
        api.rename(previous["Id"], name)
        api.start(previous["Id"])
        self._identify(plan, previous["Id"], previous["Image"])

    def _restored(self, plan: Plan) -> str:
        previous = plan.outcome.container_id or ""
        try:
            self._wait_healthy(plan, previous)
        except LocationError as error:
            return f"The previous container ({previous[:12]}) was started again, but is not healthy either: {error}"
        return f"The previous container ({previous[:12]}) serves again."

    def _identify(self, plan: Plan, container: str | None, image: str | None = None) -> None:
        plan.outcome.container_id = container
        plan.outcome.image_id = image or plan.image.get("Id")

    def _stop(self, container: Json) -> None:
        timeout = (container.get("Config") or {}).get("StopTimeout") or 65
        self.engine.api.stop(container["Id"], timeout=timeout)

    def _remove(self, container: str) -> None:
        try:
            self.engine.api.remove_container(container, v=True, force=True)
        except sdk_errors() as error:
            if status_of(error) != 404:
                raise

    def _set_restart_policy(self, container: str, policy: str) -> None:
        name, _colon, count = policy.partition(":")
        self._update(container, {"RestartPolicy": {"Name": name, "MaximumRetryCount": int(count or 0)}})

    def _update(self, container: str, data: Json) -> None:
        # update_container() of the SDK knows no NanoCpus.
        api = self.engine.api
        api._result(api._post_json(api._url("/containers/{0}/update", container), data=data), True)

    # --- health -----------------------------------------------------------------------------------------------------

    def _listening(self, container: Json, location: spec.Location) -> bool:
        """Does the server's port answer, asked past the published port (whose proxy always answers)?"""
        if not self.engine.local or not location.container_port or not _running(container):
            return False
        networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
        address = (networks.get(location.network) or {}).get("IPAddress")
        if not address:
            return False
        try:
            with socket.create_connection((address, location.container_port), timeout=0.5):
                return True
        except OSError:
            return False

    def _wait_healthy(self, plan: Plan, container: str, once: bool = False) -> None:
        """Return when the health command succeeds; LocationError with the log when it does not in time."""
        location = plan.location
        command = [word.replace("{container_port}", str(location.container_port)) for word in self.health_command]
        begin = time.monotonic()
        deadline = begin + (0 if once else self.health_timeout)
        next_blind = begin if once or not self.engine.local or not location.container_port else begin + BLIND_AFTER
        restarts: int | None = None
        answer = "it was never asked"
        delay = 0.1
        while True:
            info = self._inspect(container)
            if info is None:
                raise LocationError(f"The container {location.container} was removed while it was starting.")
            state = info.get("State") or {}
            restarts = info.get("RestartCount", 0) if restarts is None else restarts
            if not _running(info) or info.get("RestartCount", 0) > restarts:
                raise LocationError(self._ended(plan, container, state))
            now = time.monotonic()
            if self._listening(info, location) or now >= next_blind:
                next_blind = now + BLIND_EVERY
                code, answer = self._probe(container, command, max(deadline, now + 5))
                if code == 0:
                    return
                if code in (126, 127):
                    raise LocationError(
                        f"The health command {command} cannot run in the container: {answer}. Expected the image "
                        f"{location.image} ({plan.where}) to bring it.\n{self._log(container)}"
                    )
            if time.monotonic() >= deadline:
                raise LocationError(
                    f"The container {location.container} runs, but was not healthy within {self.health_timeout:g} s: "
                    f"{answer} ({' '.join(command)}).\n{self._log(container)}"
                )
            time.sleep(delay)
            delay = min(delay * 1.5, 2.0)

    def _probe(self, container: str, command: list[str], deadline: float) -> tuple[int | None, str]:
        api = self.engine.api
        try:
            made = api.exec_create(container, command)
            # Detached and polled: a command that hangs must not hang this call.
            api.exec_start(made["Id"], detach=True)
            delay = 0.02
            while True:
                state = api.exec_inspect(made["Id"])
                if not state.get("Running") and state.get("ExitCode") is not None:
                    return state["ExitCode"], f"the health command ended with {state['ExitCode']}"
                if time.monotonic() >= deadline:
                    return None, "the health command did not end"
                time.sleep(delay)
                delay = min(delay * 1.5, 0.2)
        except sdk_errors() as error:
            if any(words in explain(error) for words in _NO_PROGRAM):
                return 127, explain(error)
            return None, explain(error)  # most likely it stopped meanwhile; the next inspect tells

    def _ended(self, plan: Plan, container: str, state: Json) -> str:
        reason = f"ended with exit code {state.get('ExitCode')}"
        if state.get("OOMKilled"):
            reason += f" (killed for memory; see {plan.where}.mem_limit)"
        if state.get("Restarting") or _running({"State": state}):
            reason = f"restarts again and again; it last {reason}"
        if state.get("Error"):
            reason += f" ({state['Error']})"
        return f"The container {plan.location.container} {reason}.\n{self._log(container)}"

    def _log(self, container: str) -> str:
        try:
            raw = self.engine.api.logs(container, stdout=True, stderr=True, tail=LOG_LINES)
        except sdk_errors() as error:
            return f"Its log could not be read: {explain(error)}"
        lines = raw.decode(errors="replace").splitlines()[-LOG_LINES:]
        if not lines:
            return "Its log is empty."
        return "\n".join([f"Its last {len(lines)} log lines:"] + [f"  {line}" for line in lines])


def _process_of(listener: Listener) -> str:
    """The process behind a listening socket, as far as this user may see it."""
    owner = socket_owners({listener.inode}).get(listener.inode)
    return f"process {owner.pid} ({owner.process})" if owner else "a process that could not be identified"
