"""notify URL ADDRESS OFFSET COMMAND [ARG ...]: runs a web server under systemd's Type=notify and watchdog.

The command takes this process's place, so that systemd's main process is the server itself. A child stays behind and
asks URL: the first 200 is READY=1, each later one is WATCHDOG=1. It never ends the server: when the answers stop, or
the child is gone, the watchdog of systemd does.

The child also answers agent checks of load balancers, at ADDRESS on the port of URL plus OFFSET: "up ready", "drain"
before the first answer and before a stop, "down" while the server hangs.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import sys
import threading
import time
import urllib.parse

from systemd_service import credentials, tell

START_PERIOD = 0.25  # seconds between two tries until the first answer
ALIVE_PERIOD = 1.0  # seconds between two probes afterwards; several in a row may fail before WatchdogSec=90 is over
TIMEOUT = 10.0  # seconds that one answer may take
STOPPED = 2.0  # seconds without an answer after which a server counts as one that hangs, if it is stopped
SILENCE = 10.0  # or if it only is idle: it may wait for its database or a store
BUSY = 0.1  # share of a core from which on a silent server counts as one that works
SETTLE_PERIOD = 2.0  # seconds in which each load balancer asks its agent check at least once


def answers(url: str) -> bool:
    """Whether URL answers 200 in time. It is asked directly: http.client knows of no proxy in the environment."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT)
    try:
        connection.request("GET", place.path or "/", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Process:
    """The server as the kernel sees it."""

    def __init__(self, pid: int) -> None:
        self.folder = f"/proc/{pid}"

    def stat(self, path: str = "") -> list[str]:
        """The fields of stat after the name, of the process or of a thread."""
        with open(f"{self.folder}{path}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()

    def used(self) -> float:
        """CPU seconds so far; none of a server that has just gone."""
        try:
            fields = self.stat()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def states(self) -> set[str]:
        """What its threads do, as letters: R has or wants a core, D its disk, T is stopped."""
        return {self.stat(f"/task/{thread}")[0] for thread in os.listdir(f"{self.folder}/task")}


class Agent:
    """Tells load balancers whether they may send requests: the server has answered, and is not about to stop."""

    def __init__(self, server: Process) -> None:
        self.server = server
        self.ready = False
        self.asked = False
        # Since when an answer of the server is awaited, and its CPU seconds then.
        self.awaited: tuple[float, float] | None = None
        # The unit makes this file before it stops the server, an operator to take it out of rotation.
        self.draining = os.path.join(os.environ.get("RUNTIME_DIRECTORY", "/nonexistent"), "draining")

    def answers(self, url: str) -> bool:
        """Whether URL answers; how long that takes is known meanwhile."""
        if self.awaited is None:
            self.awaited = time.monotonic(), self.server.used()
        if not answers(url):
            return False
        self.awaited = None
        return True

    def hangs(self) -> bool:
        """Whether the server is silent although it has nothing to do: it is stopped, or waits for something for ever.

        One that is silent because it computes, or gets no core on a loaded host, only is slow. It keeps its requests.
        """
        if self.awaited is None:
            return False
        since, used = self.awaited
        silent = time.monotonic() - since
        if silent < STOPPED:
            return False
        states = self.server.states()
        idle = states.isdisjoint("RD") and self.server.used() - used < BUSY * silent
        return states <= {"T", "t"} or (idle and silent >= SILENCE)

    def state(self) -> bytes:
        """The answer in HAProxy's words. One that was told to be down has to be told that it is up."""
        if not self.ready or os.path.exists(self.draining):
            return b"drain\n"
        return b"down\n" if self.hangs() else b"up ready\n"

    def serve(self, address: tuple[str, int]) -> None:
        """Answers for ever, or says why it cannot: the server is worth more than its agent."""
        try:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            listener = socket.create_server(address, family=family)
        except OSError as error:
            print(f"notify.py: no agent check on {address[0]} port {address[1]}: {error.strerror}", file=sys.stderr)
            return
        while True:
            try:
                connection, _peer = listener.accept()
                with connection:
                    connection.sendall(self.state())
            except OSError:  # whoever asked is gone already
                continue
            self.asked = True


def watch(url: str, server: int, agent: Agent) -> None:
    """Reports the server's health for as long as it lives; server is its pidfd, which is readable once it has ended."""
    end = select.poll()
    end.register(server, select.POLLIN)
    while not end.poll(1000 * (ALIVE_PERIOD if agent.ready else START_PERIOD)):
        if agent.answers(url):
            if agent.ready:
                tell("WATCHDOG=1")
                continue
            agent.ready = True
            # The next replica is stopped once this one is ready: by then requests have to come here.
            if agent.asked and end.poll(1000 * SETTLE_PERIOD):
                return
            tell("READY=1\nSTATUS=Answering on " + url)


def main(argv: list[str]) -> int:
    """Starts the watcher, then becomes the server."""
    if len(argv) < 5 or not argv[3].isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    url, address, offset, *command = argv[1:]
    os.environ.update(credentials())  # the server's, which this process is about to become
    pid = os.getpid()
    server = os.pidfd_open(pid)  # closed when the command takes over
    child = os.fork()
    if child == 0:
        # A second fork hands the watcher to systemd: the server must not inherit a child it never waits for.
        if os.fork() == 0:
            agent = Agent(Process(pid))
            port = (urllib.parse.urlsplit(url).port or 80) + int(offset)
            threading.Thread(target=agent.serve, args=((address, port),), daemon=True).start()
            watch(url, server, agent)
        os._exit(0)
    os.waitpid(child, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command line of our unit, run as it is
    except OSError as error:
        print(f"notify.py: {command[0]} cannot be run: {error.strerror}", file=sys.stderr)
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv))
