"""A replica that is frozen, from its SIGSTOP until it is back in rotation, as its bounds tell it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from deployment import until
from load import Load
from processes import one_process, send
from replicas import Edge, Replica, in_rotation, leaves, returns

# The watcher of a replica asks it each second, and calls it down after 2 s without an answer. HAProxy asks the watcher
# each second. The rest is for the look at it. HAProxy's own questions would take up to 21 s.
OUT = 1 + 2 + 1 + 1
# systemd's watchdog, fed by each answer, kills 90 s after the last answer, and RestartSec=2 comes after it.
WATCHDOG = 90 + 5
START = 30.0  # seconds that a replica may take to its first answer on a busy machine
FOR_ALL = OUT + WATCHDOG + START + 120  # seconds for everything that `freeze` looks at
LOAD = 600.0  # seconds that 500 requests may take on a busy machine


@dataclass(frozen=True)
class FrozenReplica:
    """What happened: seconds since the SIGSTOP, but `back`, which is since the first answer of the new process."""

    out: float  # of the rotation
    load: Load  # requests while it was out
    restarted: float
    answers: float
    back: float


def freeze(urls: Sequence[str], edges: list[Edge], victim: Replica) -> FrozenReplica:
    """Freezes a replica and looks at it until it serves again."""
    pid = one_process(victim.pid)
    assert all(in_rotation(edges, victim))
    send(victim.edge.host, "STOP", pid)
    since = time.monotonic()
    try:
        out = leaves(edges, victim, OUT + 10)
        # The control: it is still frozen, so whoever answers now is another one.
        assert victim.edge(f"ps -o stat= -p {pid}").strip().startswith("T")
        with Load(urls, limit=500) as running:
            running.wait(500, LOAD)
        until(lambda: victim.pid not in ("0", pid), WATCHDOG + 30, "systemd starts it again", every=0.5)
        restarted = time.monotonic() - since
        until(lambda: victim.ready, START + 30, "it answers", every=0.2)
        answers = time.monotonic() - since
    finally:
        victim.edge.host.run(f"kill -CONT {pid}")
    return FrozenReplica(out, running, restarted, answers, returns(edges, [victim]))
