"""notify URL COMMAND [ARG ...]: runs a web server under systemd's Type=notify and watchdog.

The command takes this process's place, so that systemd's main process is the server itself. A child stays behind and
asks URL: the first 200 is READY=1, each later one is WATCHDOG=1. It never ends the server: when the answers stop, or
the child is gone, the watchdog of systemd does.
"""

from __future__ import annotations

import http.client
import os
import select
import sys
import urllib.request

from systemd_service import passfile, tell

START_PERIOD = 0.25  # seconds between two tries until the first answer
ALIVE_PERIOD = 30.0  # seconds between two probes afterwards; three in a row may fail before WatchdogSec=90 is over
TIMEOUT = 10.0  # seconds that one answer may take


def answers(url: str) -> bool:
    """Whether URL answers 200 in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # urllib's own errors are OSErrors
        return False


def watch(url: str, server: int) -> None:
    """Reports the server's health for as long as it lives; server is its pidfd, which is readable once it has ended."""
    end = select.poll()
    end.register(server, select.POLLIN)
    ready = False
    while not end.poll(1000 * (ALIVE_PERIOD if ready else START_PERIOD)):
        if answers(url):
            tell("WATCHDOG=1" if ready else "READY=1\nSTATUS=Answering on " + url)
            ready = True


def main(argv: list[str]) -> int:
    """Starts the watcher, then becomes the server."""
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    url, *command = argv[1:]
    os.environ["PGPASSFILE"] = passfile()  # the server's, which this process is about to become
    server = os.pidfd_open(os.getpid())  # closed when the command takes over
    child = os.fork()
    if child == 0:
        # A second fork hands the watcher to systemd: the server must not inherit a child it never waits for.
        if os.fork() == 0:
            watch(url, server)
        os._exit(0)
    os.waitpid(child, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command line of our unit, run as it is
    except OSError as error:
        print(f"notify.py: {command[0]} cannot be run: {error.strerror}", file=sys.stderr)
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv))
