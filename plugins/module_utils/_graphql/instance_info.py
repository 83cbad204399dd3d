# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a deployment says about itself over the API, and the judgement whether that is healthy.

Dagster's own `healthy` stays true for half an hour after the daemon is gone, and /server_info answers with the database
down. So the age of the heartbeats and the load state of the code locations are judged here.

Which clock: a heartbeat carries the daemon host's time. It is compared with the Date header of the HTTP answer, the
time of the proxy or webserver. Servers of one deployment keep one time among themselves; the machine that runs the
module may be anything, down to a laptop. If the header is missing, that machine's clock is used and the answer says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import (
    DagsterApiError,
    GraphQLClient,
    Unreachable,
    error_text,
)

# A Date header has whole seconds, and an answer takes a moment; more than this is a clock that runs ahead.
CLOCK_TOLERANCE = 5.0
DEFAULT_MAX_HEARTBEAT_AGE = 75.0

INSTANCE = """
query Instance {
  instance {
    daemonHealth { allDaemonStatuses {
      daemonType required healthy lastHeartbeatTime
      lastHeartbeatErrors { message causes { message } }
    } }
  }
  workspaceOrError {
    __typename
    ... on Workspace { locationEntries {
      name loadStatus updatedTimestamp
      locationOrLoadError {
        __typename
        ... on RepositoryLocation { dagsterLibraryVersions { name version } repositories { name jobs { name } } }
        ... on PythonError { message causes { message } }
      }
    } }
    ... on PythonError { message causes { message } }
  }
}
"""


@dataclass(frozen=True)
class DaemonHost:
    """A host that may run the daemon, as its unit was found there."""

    name: str
    started: float = 0.0  # seconds since 1970, 0 when the unit does not run
    status: str = ""  # what the guard says of itself
    error: str = ""  # why the host could not be asked
    unit: str = "dagster-daemon.service"

    @property
    def active(self) -> bool:
        """Whether this host runs the daemon."""
        return self.status.startswith("active")


@dataclass(frozen=True)
class Expectation:
    dagster_version: str = ""
    locations: tuple[str, ...] = ()
    daemons_newer_than: float = 0.0
    max_heartbeat_age: float = DEFAULT_MAX_HEARTBEAT_AGE
    daemon_hosts: tuple[DaemonHost, ...] = ()

    @property
    def daemon_started(self) -> float:
        """The moment that each heartbeat has to be newer than."""
        return max([self.daemons_newer_than, *(host.started for host in self.daemon_hosts if host.active)])


def gather(client: GraphQLClient, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """One look at the deployment: versions, daemons, locations, and the time it was taken at."""
    versions = client.server_info()
    data = client.query(INSTANCE)
    seen = client.server_time
    return {**facts(versions, data, clock() if seen is None else seen), "clock": "local" if seen is None else "server"}


def facts(versions: dict[str, str], data: dict[str, Any], now: float) -> dict[str, Any]:
    workspace = data["workspaceOrError"]
    if workspace["__typename"] == "PythonError":
        raise DagsterApiError(f"the webserver cannot read its workspace: {error_text(workspace)}")
    return {
        "time": now,
        "versions": {
            name: versions.get(f"{name}_version", "") for name in ("dagster", "dagster_webserver", "dagster_graphql")
        },
        "daemons": [daemon_facts(status, now) for status in data["instance"]["daemonHealth"]["allDaemonStatuses"]],
        "locations": sorted((location_facts(entry) for entry in workspace["locationEntries"]), key=lambda x: x["name"]),
    }


def daemon_facts(status: dict[str, Any], now: float) -> dict[str, Any]:
    beat = status["lastHeartbeatTime"]
    return {
        "type": status["daemonType"],
        "required": status["required"],
        "healthy": status["healthy"],
        "last_heartbeat": beat,
        "heartbeat_age": None if beat is None else round(now - beat, 1),
        "errors": [error_text(error) for error in status["lastHeartbeatErrors"]],
    }


def location_facts(entry: dict[str, Any]) -> dict[str, Any]:
    loaded = entry["locationOrLoadError"]
    known: dict[str, Any] = {
        "name": entry["name"],
        "state": "loading",
        "updated": entry["updatedTimestamp"],
        "error": "",
        "repositories": [],
        "jobs": [],
        "versions": {},
    }
    if loaded is not None and loaded["__typename"] == "PythonError":
        known.update(state="error", error=error_text(loaded))
    elif loaded is not None:
        known.update(
            state="loaded",
            repositories=sorted(repository["name"] for repository in loaded["repositories"]),
            # Names that start with two underscores are Dagster's own.
            jobs=sorted(
                {
                    job["name"]
                    for repository in loaded["repositories"]
                    for job in repository["jobs"]
                    if not job["name"].startswith("__")
                }
            ),
            versions={item["name"]: item["version"] for item in loaded["dagsterLibraryVersions"] or []},
        )
    return known


def judge(seen: dict[str, Any], expected: Expectation) -> list[str]:
    """What is wrong, one sentence each; an empty list means healthy."""
    return [
        *_version_problems(seen["versions"], expected.dagster_version),
        *(
            problem
            for daemon in seen["daemons"]
            if daemon["required"]
            for problem in _daemon_problems(daemon, expected)
        ),
        *_location_problems(seen["locations"], expected.locations),
    ]


def daemon_host_problems(hosts: tuple[DaemonHost, ...]) -> list[str]:
    """Sentences about who runs the daemon: exactly one host does, and each other one stands by."""
    problems = [f"{host.name} of group dagster_daemon cannot be asked: {host.error}" for host in hosts if host.error]
    asked = [host for host in hosts if not host.error]
    # A standby that is down is no trouble until it is needed, which is when it is too late to hear of it.
    down = [host for host in asked if not host.started]
    active = [host.name for host in asked if host.active]
    problems += [f"{host.unit} does not run on {host.name}." for host in down]
    if len(active) > 1:
        problems.append(f"More than one host runs a daemon: {', '.join(active)}.")
    if hosts and not active and not problems:
        said = "; ".join(f"{host.name} says {host.status}" for host in asked)
        problems.append(f"No host of group dagster_daemon runs the daemon: {said}.")
    return problems


def _version_problems(versions: dict[str, str], expected: str) -> list[str]:
    if not expected:
        return []
    return [
        f"{name} on the webserver is {found or 'unknown'}, expected {expected} (dagster_version)."
        for name, found in versions.items()
        if found != expected
    ]


def _daemon_problems(daemon: dict[str, Any], expected: Expectation) -> list[str]:
    name, age = daemon["type"], daemon["heartbeat_age"]
    if age is None:
        return [f"Daemon {name} has never written a heartbeat, expected one: is dagster-daemon running?"]
    problems: list[str] = []
    if age > expected.max_heartbeat_age:
        problems.append(
            f"Daemon {name} wrote its last heartbeat {age:g} s ago, expected at most {expected.max_heartbeat_age:g} s: "
            "is dagster-daemon running and can it reach the database?"
        )
    elif daemon["last_heartbeat"] < expected.daemon_started:
        late = expected.daemon_started - daemon["last_heartbeat"]
        problems.append(
            f"Daemon {name} wrote its last heartbeat {late:.1f} s before the daemon was started, expected one after "
            "it: the new process has not written any."
        )
    if age < -CLOCK_TOLERANCE:
        problems.append(
            f"Daemon {name} wrote a heartbeat {-age:g} s in the future, expected at most {CLOCK_TOLERANCE:g} s: "
            "the clocks of the daemon's and the webserver's host differ, synchronise them."
        )
    # The errors of a heartbeat are no problem of now: Dagster repeats each for five minutes, so a code server that was
    # restarted a moment ago would make a healthy deployment red. They are in the returned daemons.
    return problems


def _location_problems(locations: list[dict[str, Any]], expected: tuple[str, ...]) -> list[str]:
    names = [location["name"] for location in locations]
    problems = [
        f"Code location {name} is not in the workspace, expected it there (found: {', '.join(names) or 'none'})."
        for name in expected
        if name not in names
    ]
    for location in locations:
        if location["state"] == "error":
            problems.append(f"Code location {location['name']} is not loaded: {one_line(location['error'])}")
        elif location["state"] == "loading":
            problems.append(f"Code location {location['name']} is still loading, expected it to be loaded.")
    return problems


def one_line(text: str, limit: int = 600) -> str:
    """One sentence for a list of problems: Dagster's load errors carry whole tracebacks."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def watch(
    client: GraphQLClient,
    expected: Expectation,
    wait: float,
    *,
    poll_interval: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Look until all is well or `wait` seconds are over; the last look is returned, with `ok` and `problems`."""
    deadline = clock() + wait
    while True:
        try:
            seen = gather(client)
            problems = judge(seen, expected)
        except (Unreachable, DagsterApiError) as error:
            seen, problems = {}, [f"The deployment cannot be asked: {one_line(str(error))}"]
        if not problems or clock() >= deadline:
            problems = [*daemon_host_problems(expected.daemon_hosts), *problems]  # waiting would not change these
            return {**seen, "ok": not problems, "problems": problems}
        sleep(min(poll_interval, max(deadline - clock(), 0.05)))
