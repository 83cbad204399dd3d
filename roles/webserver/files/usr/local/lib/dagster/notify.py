"""notify URL ADDRESS OFFSET COMMAND [ARG ...]: runs a web server under systemd's Type=notify and watchdog.

The command takes this process's place, so that systemd's main process is the server itself. A child stays behind and
asks URL: the first 200 is READY=1, each later one is WATCHDOG=1. It never ends the server: when the answers stop, or
the child is gone, the watchdog of systemd does.

The child also answers agent checks of load balancers, at ADDRESS on the port of URL plus OFFSET: "ready" or "drain".
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import sys
import threading
import urllib.parse
import urllib.request

from systemd_service import credentials, tell

START_PERIOD = 0.25  # seconds between two tries until the first answer
ALIVE_PERIOD = 30.0  # seconds between two probes afterwards; three in a row may fail before WatchdogSec=90 is over
TIMEOUT = 10.0  # seconds that one answer may take
SETTLE_PERIOD = 2.0  # seconds in which each load balancer asks its agent check at least once


def answers(url: str) -> bool:
    """Whether URL answers 200 in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # urllib's own errors are OSErrors
        return False


class Agent:
    """Tells load balancers whether they may send requests: the server has answered, and is not about to stop."""

    def __init__(self) -> None:
        self.ready = False
        self.asked = False
        # The unit makes this file before it stops the server, an operator to take it out of rotation.
        self.draining = os.path.join(os.environ.get("RUNTIME_DIRECTORY", "/nonexistent"), "draining")

    def state(self) -> bytes:
        """The answer in HAProxy's words."""
        return b"ready\n" if self.ready and not os.path.exists(self.draining) else b"drain\n"

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
        if answers(url):
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
    server = os.pidfd_open(os.getpid())  # closed when the command takes over
    child = os.fork()
    if child == 0:
        # A second fork hands the watcher to systemd: the server must not inherit a child it never waits for.
        if os.fork() == 0:
            agent = Agent()
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
