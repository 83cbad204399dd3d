"""Deploys to a throw-away host. A line for each step says what happens, how long it usually takes, how long it took.

It is called by tests/rig/quickstart with the machine's Python, before the tools are installed: standard library only.
QUICKSTART_PORT names the port of the UI on 127.0.0.1; without it the first free one from 8080 is taken.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, TextIO

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "rig"
LOG = Path(".cache/logs/quickstart.log")
INVENTORY = Path(".cache/rig/quickstart/inventory")
SETTINGS = INVENTORY / "host_vars" / "dagster1.yml"
PORTS = range(8080, 8180)
# What a failure shows of the log of a step that is no play.
LAST_LINES = 15


class Step(NamedTuple):
    """A step, as a person sees it. `first` and `again` are typical seconds on two cores: a new host, a deployed one."""

    name: str
    what: str
    first: int
    again: int
    plays: tuple[str, ...] = ()


RIG = {
    "tools": Step("Tools", "install Ansible from PyPI", 20, 1),
    "engine": Step("Engine", "start a Docker engine if none runs", 10, 1),
    "images": Step("Image", "build a bare Debian from its mirror", 70, 1),
    "shared": Step("Network", "connect the host to this machine", 1, 1),
}
HOST = Step("Host", "boot it, wait for systemd and SSH", 10, 8)
SITE = (
    Step(
        "Check",
        "read settings and host, change nothing",
        6,
        4,
        (
            "Check the deployment before anything is changed",
            "Check the images of the code locations before anything is changed",
            "Try the object store of compute logs before anything is changed",
            "Check that the images are those of the engines that the play leaves out",
        ),
    ),
    Step(
        "Packages",
        "PostgreSQL, Docker, nginx from Debian",
        40,
        1,
        ("Packages", "Start of the installation", "Firewall"),
    ),
    Step(
        "Docker",
        "start engine and gate, begin image",
        8,
        2,
        ("Docker engine", "Docker gate", "Images of a new deployment"),
    ),
    Step(
        "Database",
        "set up PostgreSQL and its logins",
        10,
        4,
        ("Database", "New passwords of webservers and daemons", "New password of runs and code servers"),
    ),
    Step("Image", "wait for that of the code", 20, 2, ("Images of the code locations",)),
    Step("Dagster", "install it from PyPI, make its tables", 20, 6, ("Instance",)),
    Step("Code", "wait until it loads", 15, 4, ("Code locations",)),
    Step("Webservers", "start three, wait for each", 12, 2, ("Webservers",)),
    Step("Proxy", "put HAProxy and nginx in front", 6, 3, ("Load balancer", "Stop replicas that are no longer listed")),
    Step(
        "Daemon",
        "start it: it launches the runs",
        6,
        2,
        (
            *("Daemon", "Fence", "Secrets of other hosts", "What an earlier release allowed"),
            *("What runs reach on their host", "The engine that other hosts reached"),
            "Keys and logins that services read no more",
        ),
    ),
    Step(
        "Health",
        "wait for heartbeats, then for one run",
        25,
        12,
        ("Health",),
    ),
)


class Failed(Exception):
    """A step failed; the text says how."""


class Screen:
    """One line a step. A terminal also sees the seconds run and the name of the current task."""

    def __init__(self, out: TextIO, again: bool) -> None:
        """`again` says that the host is deployed already, which takes less time."""
        self.out, self.again = out, again
        # A line that wraps could not be written again.
        self.live = out.isatty() and shutil.get_terminal_size().columns >= 80
        self.began = time.monotonic()
        self.step: Step | None = None
        self.since = self.began
        self.head = ""

    def usual(self, step: Step) -> int:
        """Typical seconds of a step."""
        return step.again if self.again else step.first

    def start(self, step: Step) -> None:
        """Begins the line of a step and ends that of the one before."""
        if step == self.step:
            return
        self.end()
        self.step, self.since = step, time.monotonic()
        elapsed = int(self.since - self.began)
        about = f"about {self.usual(step)} s"
        self.head = f"[{elapsed // 60:2d}:{elapsed % 60:02d}] {step.name:<11}{step.what:<39}{about:>11} ..."
        self.write(self.head)

    def tick(self, task: str) -> None:
        """Shows a terminal that something happens."""
        if not self.live or self.step is None:
            return
        line = f"{self.head}{time.monotonic() - self.since:4.0f} s  {task.rsplit(' : ', 1)[-1]}"
        self.write("\r\033[K" + line[: shutil.get_terminal_size().columns - 1])

    def end(self, result: str = "") -> None:
        """Ends the line of the current step with its seconds, or with `result`."""
        if self.step is not None:
            took = f"{time.monotonic() - self.since:4.0f} s"
            self.write(("\r\033[K" + self.head if self.live else "") + f"{took}{result}\n")
        self.step = None

    def write(self, text: str) -> None:
        """Writes at once: the line of a step is shown before its end."""
        self.out.write(text)
        self.out.flush()


def run(screen: Screen, command: list[str], log: Path) -> list[dict[str, Any]]:
    """Run a command with all its output in the log. Return the failures that it reports; raise Failed when it fails.

    A play reports by callback_plugins/progress.py: events, one JSON text a line, through a pipe.
    """
    steps = {play: step for step in SITE for play in step.plays}
    read, write = os.pipe()
    environment = {**os.environ, "RIG_PROGRESS": str(write), "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins")}
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, pass_fds=[write]
        )
    os.close(write)
    failures: list[dict[str, Any]] = []
    task, rest = "", b""
    # A program that goes on in the background (the Docker engine) may hold the pipe, so its end is not waited for.
    while (ended := process.poll()) is None or select.select([read], [], [], 0)[0]:
        if select.select([read], [], [], 0 if ended is not None else 0.5)[0]:
            chunk = os.read(read, 65536)
            if not chunk:
                process.wait()
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for event in map(json.loads, lines):
                if "play" in event and event["play"] in steps:
                    screen.start(steps[event["play"]])
                task = event.get("task", "")
                if "message" in event:
                    failures.append(event)
        screen.tick(task)
    os.close(read)
    if process.returncode:
        screen.end("  FAILED")
        raise Failed(describe(failures) or f"{' '.join(command)} ends with:\n{tail(log)}")
    return failures


def describe(failures: list[dict[str, Any]]) -> str:
    """Say which tasks failed, and how."""
    return "\n".join(f"Task failed on {event['host']}: {event['task']}\n{event['message']}" for event in failures)


def tail(log: Path) -> str:
    """Return the last lines of the log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])


def free_port(wanted: str) -> int:
    """Return the port of the UI on this machine's loopback."""
    for port in [int(wanted)] if wanted else PORTS:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)):
                return port
    taken = wanted or f"{PORTS[0]}-{PORTS[-1]}"
    raise Failed(f"Port {taken} on 127.0.0.1 is taken. Name a free one: make quickstart QUICKSTART_PORT=...")


def settings() -> str:
    """Return the URL of the UI. Its port is chosen once: it stays the same when quickstart is run again."""
    if not SETTINGS.exists():
        port = free_port(os.environ.get("QUICKSTART_PORT", ""))
        SETTINGS.parent.mkdir(parents=True, exist_ok=True)
        SETTINGS.write_text(
            f"""---
quickstart_url: http://127.0.0.1:{port}
# Only this machine's loopback leads to the throw-away host's port; the host itself listens on its address for that.
rig_publish: ["127.0.0.1:{port}:8080"]
dagster_nginx_listen: [127.0.0.1, "{{{{ ansible_host }}}}"]
""",
            encoding="utf-8",
        )
    return next(line.split()[1] for line in SETTINGS.read_text().splitlines() if line.startswith("quickstart_url:"))


def deploy(screen: Screen) -> str:
    """Run all steps; return the URL of the UI."""
    for name, step in RIG.items():
        screen.start(step)
        run(screen, ["tests/rig/rig", name], LOG)
    url = settings()
    inventories = ["-i", "inventories/single_host", "-i", str(INVENTORY)]
    screen.start(HOST)
    run(screen, ["ansible-playbook", *inventories, "tests/rig/create.yml"], LOG)
    run(screen, ["ansible-playbook", *inventories, "playbooks/site.yml"], LOG)
    screen.end()
    return url


def main() -> int:
    """Deploy, and say where the UI is or what failed."""
    os.chdir(ROOT)
    again = (INVENTORY / "hosts.yml").exists()
    screen = Screen(sys.stdout, again)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    seconds = sum(map(screen.usual, (*RIG.values(), HOST, *SITE)))
    print(
        f"""Dagster comes up on a throw-away Debian host, a container of this machine.
Ansible deploys to it with playbooks/site.yml, as it would to a machine of yours.
This takes about {-(-seconds // 60)} min, longer on a busy machine. Each line says what happens,
how long it usually takes, and how long it took.
The whole log: {LOG}
""",
        flush=True,
    )
    try:
        url = deploy(screen)
    except Failed as error:
        screen.end("  FAILED")
        print(f"\nquickstart: {error}\n\nThe whole log: {LOG}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        screen.end("  stopped")
        print(f"\nquickstart was stopped. `make quickstart` goes on from here. The whole log: {LOG}", file=sys.stderr)
        return 130
    minutes, rest = divmod(int(time.monotonic() - screen.began), 60)
    print(
        f"""
Dagster runs after {minutes} min {rest} s: webservers behind nginx, the daemon,
a code location, PostgreSQL, and one run that ended in SUCCESS.
There is no login yet, so the port is open on this machine's loopback only.

  Look at the runs          {url}/runs
  Log in to the host        docker exec -it rig-quickstart-dagster1 bash
  What Ansible did          {LOG}
  Remove all of it          make clean

Dagster UI: {url}"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
