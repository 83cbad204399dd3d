# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who holds the ports that code servers are published on."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from .._addresses import overlap
from .._host.proc import Listener, listeners, socket_owners
from .decide import Decision
from .engine import Engine, sdk_errors
from .state import ANY_ADDRESS, Inspect
from .survey import Json


def without_clashes(engine: Engine, decisions: list[Decision], strays: list[Json]) -> list[Decision]:
    """The decisions; a clash is an error of that location only, and nothing of it has been touched yet."""
    if not engine.local or not any(decision.takes_port for decision in decisions):
        return decisions
    found = listeners()
    stands = [decision.stand for decision in decisions]
    ours = [item for stand in stands for item in (stand.current, stand.previous, stand.next) if item] + strays

    def checked(decision: Decision) -> Decision:
        address, port = decision.location.publish_address, decision.location.port
        listener = listener_on(found, address, port) if decision.takes_port else None
        if not listener or any(publishes(item, address, port) for item in ours):
            return decision
        return replace(
            decision,
            error=f"Port {address}:{port} is taken by {_owner(engine, listener)}. Expected it to be free: two code "
            f"servers on one port would answer in turn. Free it or change {decision.location.where}.port.",
        )

    return [checked(decision) for decision in decisions]


def hands_over(holder: Decision, decisions: t.Iterable[Decision]) -> bool:
    """Does a container that is to be replaced hold the port that another location will take?"""
    current = holder.stand.current
    if not current or holder.error or holder.action != "recreated":
        return False
    return any(
        publishes(current, taker.location.publish_address, taker.location.port)
        for taker in decisions
        if taker is not holder and taker.takes_port
    )


def listener_on(listeners: t.Iterable[Listener], address: str, port: int) -> Listener | None:
    return next((item for item in listeners if item.port == port and overlap(item.address, address)), None)


def publishes(container: Inspect, address: str, port: int) -> bool:
    """Does a running container hold this host port?"""
    if not (container.get("State") or {}).get("Running"):
        return False
    bindings = ((container.get("HostConfig") or {}).get("PortBindings") or {}).values()
    return any(
        str(binding.get("HostPort")) == str(port) and overlap(binding.get("HostIp") or ANY_ADDRESS, address)
        for items in bindings
        for binding in items or ()
    )


def _owner(engine: Engine, listener: Listener) -> str:
    try:
        for item in engine.api.containers(filters={"publish": str(listener.port)}):
            return f"the container {item['Names'][0].lstrip('/')} (image {item['Image']})"
    except sdk_errors():
        pass  # the process below says enough
    owner = socket_owners({listener.inode}).get(listener.inode)
    return f"process {owner.pid} ({owner.process})" if owner else "a process that could not be identified"
