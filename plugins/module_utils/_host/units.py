# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""systemd units and the files they read."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.common.warnings import warn

from ansible_collections.dataops.dagster.plugins.module_utils._host.here import HERE, Here
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import Kept, undisturbed

PROPERTIES = (
    "Id,LoadState,ActiveState,UnitFileState,MainPID,ControlGroup,FragmentPath,DropInPaths,ActiveEnterTimestampMonotonic,"
    "StatusText"
)
RELOAD = 20.0  # seconds that a unit may take for its new process: nginx tries for 2.5 s to bind an address
LINES = 60  # of its own log that a unit that has refused a reload shows at most
# The options of a module that runs units.
ARGUMENTS: dict[str, Any] = {
    "units": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "reload": {"type": "bool", "default": False},
            "log": {"type": "path"},
            "check": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "status": {"type": "str", "default": ""},
        },
    },
    "status_timeout": {"type": "int", "default": 0},
    "journal_lines": {"type": "int", "default": 20},
}
SERVING = ("active", "reloading")
Unit = dict[str, Any]
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")


class Failed(Exception):
    """A command failed; the text says which one and how."""


def run(*argv: str) -> str:
    """Output of a command. Raises Failed with what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def show(names: list[str]) -> dict[str, Unit]:
    """Properties of the units by name."""
    return dict(zip(names, shown(names), strict=True)) if names else {}


def shown(patterns: list[str]) -> list[Unit]:
    """Properties of the units that fit. A name without a pattern has some even when systemd does not know it."""
    blocks = run("systemctl", "show", f"--property={PROPERTIES}", *patterns).strip().split("\n\n")
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def started_at(pid: int) -> float:
    """When a process started, in seconds since 1970; 0 when it is gone or there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            ticks = int(stream.read().rsplit(")", 1)[1].split()[19])
        with open("/proc/uptime", encoding="utf-8") as stream:
            uptime = float(stream.read().split()[0])
    except (OSError, IndexError):
        return 0.0
    return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def activated_at(microseconds: str) -> float:
    """When a unit became active, in seconds since 1970, from its monotonic time stamp."""
    return time.time() - (time.monotonic() - int(microseconds or 0) / 1e6)


def processes(cgroup: str) -> list[int]:
    """The processes of a unit's control group; none when it cannot be read."""
    for root in CGROUPS if cgroup else ():
        try:
            with open(f"{root}{cgroup}/cgroup.procs", encoding="utf-8") as stream:
                return [int(line) for line in stream]
        except OSError:
            continue
    return []


def times(now: Unit) -> dict[str, float]:
    """When a unit's main process started (0 without one), since when it runs, and when its newest process started."""
    if "times" in now:  # of a host that was read before
        return dict(now["times"])
    pid = int(now.get("MainPID") or 0)
    since = started_at(pid) if pid else activated_at(now.get("ActiveEnterTimestampMonotonic", ""))
    newest = max([since, *map(started_at, processes(now.get("ControlGroup", "")))])
    return {"started": since if pid else 0.0, "since": since, "newest": newest}


def modified_at(path: str, host: Here = HERE) -> float:
    """When a file, the link itself or a file in a directory was changed; 0 when the path is not there."""
    try:
        state = host.state(path)
        inside = host.names(path) if state is not None and stat.S_ISDIR(state.st_mode) else []
        states = [state, *(host.state(os.path.join(path, name)) for name in inside)]
    except OSError:  # it goes in this moment
        return 0.0
    return max((float(each.st_mtime) for each in states if each is not None), default=0.0)


def is_enabled(now: Unit) -> bool:
    """Whether a unit comes up at boot by itself, or is none that could be enabled.

    One that is only enabled in /run comes up with another unit, which somebody may have disabled for theirs.
    """
    state = now.get("UnitFileState", "")
    return state != "enabled-runtime" and state.startswith(("enabled", "static", "indirect", "generated", "alias"))


def unit_files(now: Unit) -> list[str]:
    """The file of a unit and its drop-ins. Sandbox and command are those with which its main process was started.

    The folder beside its file stands for a drop-in that systemd has not read yet.
    """
    file = now.get("FragmentPath", "")
    return [*filter(None, [file, *now.get("DropInPaths", "").split()]), *([f"{file}.d"] if file else [])]


def read_by(spec: dict[str, Any], now: Unit) -> list[str]:
    """The files that a unit reads."""
    return [*filter(None, spec["files"]), *unit_files(now)]


def wanted_action(spec: dict[str, Any], now: Unit, young: Iterable[str] = (), host: Here = HERE) -> tuple[str, str]:
    """The action a unit needs (start, restart, reload, enable, stop or nothing) and why.

    young are the paths that check mode would have written: they count as newer than every process.
    """
    active = now.get("ActiveState") in (*SERVING, "activating")
    if spec["state"] == "stopped":
        there = active or now.get("UnitFileState", "").startswith("enabled")
        return ("stop", "is not wanted here") if there else ("", "")
    pid = int(now.get("MainPID") or 0)
    # A unit that crashes again and again is activating too, without a process while it waits for its next try.
    if not active or (now["ActiveState"] == "activating" and not pid):
        return "start", f"was {now.get('ActiveState', 'unknown')}"
    found = times(now)
    since = found["since"]
    written = {place for path in young for place in (path, os.path.dirname(path))}
    if spec["reload"]:
        for path in set(spec["files"]).intersection(unit_files(now)):
            if path in young or modified_at(path, host) > since:
                return "restart", f"{path} is newer than the process, and a reload would not apply it"
        # A reload keeps the main process and brings new workers; the newest process is as old as the last reload.
        since = found["newest"]
    for path in read_by(spec, now):
        if path in written or modified_at(path, host) > since:
            return ("reload" if spec["reload"] else "restart"), f"{path} is newer than the process"
    return ("", "") if is_enabled(now) else ("enable", f"was {now.get('UnitFileState') or 'not enabled'}")


def size_of(path: str | None) -> int:
    """Bytes in a file, 0 when there is none."""
    try:
        return os.path.getsize(path) if path else 0
    except OSError:
        return 0


def gained(path: str | None, size: int) -> str:
    """The last lines that a file did not have at this size. A file that was made anew since has only such lines."""
    try:
        with open(path or "", encoding="utf-8", errors="replace") as stream:
            stream.seek(size if size <= size_of(path) else 0)
            return "".join(deque(stream, LINES))
    except OSError:
        return ""


def journal(name: str, *options: str) -> str:
    """What a unit said. An error is told instead of raised: something has failed already, and that comes first."""
    try:
        return run("journalctl", "--no-pager", "-o", "cat", *options, "-u", name)
    except (Failed, OSError) as error:
        return f"{error}\n"


def refusal(name: str) -> str:
    """What became of a unit that has no new process after its reload."""
    try:
        state = show([name])[name].get("ActiveState", "unknown")
    except Failed as error:
        return f"{name} has no new process {RELOAD:.0f} s after the reload. Whether it is up is unknown: {error}."
    if state not in SERVING:
        return f"{name} went down at the reload: it has no new process after {RELOAD:.0f} s and is {state}."
    return (
        f"{name} has refused the reload: it has no new process after {RELOAD:.0f} s, so its old configuration still "
        "serves."
    )


def reload(spec: dict[str, Any], cgroup: str) -> None:
    """Reloads a unit and waits for the process that has read the files. Raises Failed.

    systemctl says ok as soon as the unit was asked. nginx and HAProxy read their files after that. When they cannot use
    them, they go on with the processes that they have.
    """
    name, log = spec["name"], spec.get("log")
    before, size, since = set(processes(cgroup)), size_of(log), int(time.time())
    run("systemctl", "reload", name)
    if not before:
        warn(
            f"The reload of {name} could not be verified: found no process in cgroup.procs of {cgroup or 'its group'} "
            f"below {', '.join(CGROUPS)}, so a new process cannot be seen."
        )
        return
    end = time.monotonic() + RELOAD
    while not set(processes(cgroup)) - before:
        if time.monotonic() >= end:
            said = journal(name, f"--since=@{since}") + gained(log, size)
            raise Failed(f"{refusal(name)} It said:\n{said}")
        time.sleep(0.1)


def perform(
    specs: list[dict[str, Any]],
    actions: dict[str, tuple[str, str]],
    now: dict[str, Unit],
    tried: dict[str, str],
) -> None:
    """Carries the actions out. Raises Failed. tried gets the action of each unit that is touched."""
    by_action: dict[str, list[str]] = {}
    for name, (action, _reason) in actions.items():
        by_action.setdefault(action, []).append(name)
    run("systemctl", "daemon-reload")
    for spec in specs:
        if spec["check"] and spec["name"] in by_action.get("start", []):
            run(*spec["check"])
    if by_action.get("stop"):
        tried.update(dict.fromkeys(by_action["stop"], "stop"))
        run("systemctl", "disable", "--now", *by_action["stop"])
    to_enable = [name for name, (action, _reason) in actions.items() if action != "stop" and not is_enabled(now[name])]
    if to_enable:
        run("systemctl", "enable", "--quiet", *to_enable)
    if by_action.get("start"):
        tried.update(dict.fromkeys(by_action["start"], "start"))
        run("systemctl", "reset-failed", *by_action["start"])
        run("systemctl", "start", *by_action["start"])
    # Those that are up, one after the other: the first that refuses its files leaves the others as they are.
    for spec in specs:
        action = actions.get(spec["name"], ("", ""))[0]
        if action not in ("restart", "reload"):
            continue
        if spec["check"]:
            run(*spec["check"])
        tried[spec["name"]] = action
        if action == "restart":
            run("systemctl", "restart", spec["name"])
        else:
            reload(spec, now[spec["name"]].get("ControlGroup", ""))


def settled(specs: list[dict[str, Any]], seconds: float) -> dict[str, Unit]:
    """Properties of the units once each of them is down or says what it is to say, at the latest after so long."""
    end = time.monotonic() + seconds
    while True:
        now = show([spec["name"] for spec in specs])
        waiting = [
            spec["name"]
            for spec in specs
            if now[spec["name"]].get("ActiveState") in ("active", "activating")
            and not re.match(spec["status"], now[spec["name"]].get("StatusText", ""))
        ]
        if not waiting or time.monotonic() >= end:
            return now
        time.sleep(0.5)


def last_words(names: list[str], lines: int) -> list[str]:
    """What the units that are neither up nor down said last."""
    words = []
    try:
        for name, state in show(names).items():
            if state.get("ActiveState") not in ("active", "inactive"):
                words.append(f"Last lines of {name}:\n{journal(name, '-n', str(lines))}")
    except Failed as error:
        words.append(str(error))
    return words


def attempt(*argv: str) -> str:
    """Why a command failed, empty when it did not."""
    try:
        run(*argv)
    except (Failed, OSError) as error:
        return str(error)
    return ""


def undo(kept: Kept, before: dict[str, Unit], tried: dict[str, str]) -> list[str]:
    """Puts the previous files back, and brings the units that were touched back to what they were before.

    What became of that, in sentences. Only a unit that served before is waited for.
    """
    if not kept.is_needed():
        return []
    with undisturbed():
        idle = [name for name in tried if before[name].get("ActiveState") not in (*SERVING, "activating", "failed")]
        if idle:  # while their unit files are there
            attempt("systemctl", "stop", *idle)
            attempt("systemctl", "disable", "--quiet", *[name for name in idle if not is_enabled(before[name])])
        words = [f"The previous files are back: {', '.join(kept.put_back())}."]
        attempt("systemctl", "daemon-reload")
        words += [came_back(name, before[name], action) for name, action in tried.items() if name not in idle]
    return list(filter(None, words))


def came_back(name: str, before: Unit, action: str) -> str:
    """Has a unit run as before an action; a sentence when it served then."""
    if action == "stop" and is_enabled(before):
        attempt("systemctl", "enable", "--quiet", name)
    attempt("systemctl", "reset-failed", name)
    if before.get("ActiveState") not in SERVING:
        attempt("systemctl", "restart", "--no-block", name)
        return ""
    refused = attempt("systemctl", "reload-or-restart" if action == "reload" else "restart", name)
    return f"{name} does not come up with them either: {refused}" if refused else f"{name} serves with them."


def serve(options: dict[str, Any]) -> bool:
    """Whether all units run with the files as they are now."""
    now = show([spec["name"] for spec in options["units"]])
    return not judged(options["units"], now)


def reconcile(
    options: dict[str, Any], check_mode: bool, young: Iterable[str] = (), kept: Kept | None = None
) -> dict[str, Any]:
    """Brings the units to what is wanted (options as in ARGUMENTS), and says what was done. Raises Failed.

    young are the paths that check mode would have written. kept has what was replaced: it comes back when a unit
    refuses the new files. In check mode there is none.
    """
    specs = options["units"]
    now: dict[str, Unit] = {}
    tried: dict[str, str] = {}
    try:
        now = show([spec["name"] for spec in specs])
        if kept is not None:
            kept.adopt(path for spec in specs for path in read_by(spec, now[spec["name"]]))
        actions = judged(specs, now, young)
        if actions and not check_mode:
            perform(specs, actions, now, tried)
        if options["status_timeout"] or (actions and not check_mode):
            now = settled(specs, options["status_timeout"])
    except (Failed, OSError) as error:
        words = [str(error), *last_words([spec["name"] for spec in specs], options["journal_lines"])]
        words += undo(kept, now, tried) if kept is not None else []
        raise Failed("\n".join(words)) from error
    return answer(actions, now)


def judged(
    specs: list[dict[str, Any]], now: dict[str, Unit], young: Iterable[str] = (), host: Here = HERE
) -> dict[str, tuple[str, str]]:
    """The action that each unit needs, and why; without those that need none."""
    actions = {spec["name"]: wanted_action(spec, now[spec["name"]], young, host) for spec in specs}
    return {name: action for name, action in actions.items() if action[0]}


def answer(actions: dict[str, tuple[str, str]], now: dict[str, Unit]) -> dict[str, Any]:
    """What a module says of its units."""
    texts = {name: f"{action}: {reason}" for name, (action, reason) in actions.items()}
    return {
        "actions": texts,
        "status": {name: state.get("StatusText", "") for name, state in now.items()},
        "started": {name: int(times(state)["started"]) for name, state in now.items()},
        "diff": [{"before": "", "after": f"{text}\n", "after_header": name} for name, text in texts.items()],
    }
