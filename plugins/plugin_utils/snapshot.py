# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What preflight has read of each host in this run of site.yml, so that a role with nothing to do asks no host.

The same code compares that compares on a host: only what it asks of the host is answered from here. What is different,
or not known here, is asked of the host as ever.

A snapshot is believed by the plays of this collection alone, for a few minutes, and until the first difference: a run
that has changed one host asks all hosts from then on. It is a file among the temporary ones of this ansible-playbook.
It is no fact, because facts are shown and may be cached. What it says of the content of files is of no use without a
key that only this process and its workers know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ansible import constants as C
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import normal

from ansible_collections.dataops.dagster.plugins.module_utils._host import files, units
from ansible_collections.dataops.dagster.plugins.module_utils._host.access import Entries
from ansible_collections.dataops.dagster.plugins.module_utils._host.here import Here
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import is_version, next_of, previous_of
from ansible_collections.dataops.dagster.plugins.module_utils._host.snapshot import expression, mark
from ansible_collections.dataops.dagster.plugins.modules.service import ARGUMENTS

# Made when ansible-playbook loads the first action of ours, before it starts the worker that runs it.
KEY = secrets.token_hex(32)
SECONDS = 300
ENDED = "dagster-changed"
PLAYBOOKS = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "playbooks"))
HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"  # as Ansible shows an option that it does not show
Json = dict[str, Any]


class Unknown(Exception):
    """The snapshot does not say."""


class Differs(Exception):
    """Something is to be done on the host."""


class Snapshot(Here):
    """A host as it was read."""

    def __init__(self, read: Json) -> None:
        self.read = read
        self.entries: dict[str, Json] = read["entries"]
        self.asked = expression(read["places"])
        self.listed = expression(place.removesuffix("/*") for place in read["places"] if place.endswith("/*"))

    def entry(self, path: str) -> Json | None:
        """What was at a path, None if nothing was."""
        if path in self.entries:
            if "unread" in self.entries[path]:
                raise Unknown(path)
            return self.entries[path]
        folder = os.path.dirname(path)
        if self.asked.fullmatch(path) or (folder != path and self.entry(folder) is None):
            return None
        raise Unknown(path)

    def state(self, path: str) -> Any:
        found = self.entry(path)
        return None if found is None else SimpleNamespace(**found)

    def folder(self, path: str) -> Any:
        found = self.entry(path)
        if found is not None and stat.S_ISDIR(found["st_mode"]):
            return SimpleNamespace(**found)
        return SimpleNamespace(**found["folder"]) if found and "folder" in found else None

    def names(self, path: str) -> list[str]:
        if not self.listed.fullmatch(path) or self.folder(path) is None:
            raise Unknown(path)
        return sorted(os.path.basename(each) for each in self.entries if os.path.dirname(each) == path)

    def target(self, path: str) -> str:
        return str((self.entry(path) or {}).get("target", ""))

    def content(self, path: str) -> bytes | None:
        raise Differs(path)

    def holds(self, path: str, text: bytes) -> bool:
        found = self.entry(path)
        if found is not None and "mark" not in found:
            raise Unknown(path)
        return found is not None and found["mark"] == mark(KEY, path, text)

    def lacking(self, path: str, writers: Iterable[int]) -> dict[str, Entries]:
        raise Unknown(f"{path}, {writers}")

    def number_of(self, name: str | None, kind: str) -> int:
        if name is None or name.isdigit():
            return super().number_of(name, kind)
        if name not in self.read["owners"][kind]:
            raise Unknown(f"{kind} {name}")
        return int(self.read["owners"][kind][name])

    def unit(self, name: str) -> units.Unit:
        """Properties of a unit."""
        if name not in self.read["units"]:
            raise Unknown(name)
        return dict(self.read["units"][name])

    # What the modules answer when there is nothing to do. Each raises Unknown or Differs when they have to be called.

    def service(self, arguments: Json) -> Json:
        """The answer of module service."""
        validated = ArgumentSpecValidator(ARGUMENTS).validate(arguments)
        params = validated.validated_parameters
        if validated.error_messages or params["status_timeout"]:
            raise Unknown("options")
        specs, wanted = params["files"], params["units"]
        now = {spec["name"]: self.unit(spec["name"]) for spec in wanted}
        paths = {*(spec["dest"] for spec in specs), *params["staged"]}
        self.tidy({*paths, *(path for spec in wanted for path in units.read_by(spec, now[spec["name"]]))}, specs)
        try:
            differences = list(files.reconcile(specs, params["secrets"], True, host=self))
        except files.Refused as error:
            raise Differs(str(error)) from error
        if differences or units.judged(wanted, now, host=self):
            raise Differs("files or units")
        shown = {**params, **({"secrets": HIDDEN} if params["secrets"] else {})}
        return {**units.answer({}, now), "changed": False, "changed_paths": [], "invocation": {"module_args": shown}}

    def tidy(self, paths: Iterable[str], specs: Iterable[Json]) -> None:
        """Whether no killed call has left something of these paths, or of what is in a folder that is kept clean."""
        left = [path for path in paths for version in (next_of, previous_of) if self.entry(version(path)) is not None]
        purged = [spec["dest"] for spec in specs if spec["purge"] and self.folder(spec["dest"]) is not None]
        left += [name for folder in purged for name in self.names(folder) if is_version(name)]
        if left:
            raise Differs(left[0])

    def firewall(self, arguments: Mapping[str, Any]) -> Json:
        """The answer of module firewall. The kernel was compared with the file."""
        text = str(arguments["content"]).rstrip("\n") + "\n"
        if arguments["state"] != "tried" or not self.read["in_force"]:
            raise Differs("rules")
        if not self.holds(str(arguments["path"]), text.encode()):
            raise Differs(str(arguments["path"]))
        return {"changed": False}

    def stamps(self, arguments: Mapping[str, Any]) -> Json:
        """The answer of module host_facts to a question for stamps."""
        if list(arguments["stamps"]) != self.read["asked"]:
            raise Unknown("stamps")
        texts = {path: self.text(path) for path in arguments.get("texts") or ()}
        found = {path: text for path, text in texts.items() if text is not None}
        return {"changed": False, "host": {"stamps": self.read["stamps"], "texts": found}}

    def text(self, path: str) -> str | None:
        """The text of a small file, None where there was none."""
        if path not in self.read["texts"]:
            raise Unknown(path)
        found = self.read["texts"][path]
        return None if found is None else str(found)

    def image(self, name: str) -> str:
        """The ID of the image that had a name on the engine. One that it lacked is for the engine itself."""
        if name not in self.read["images"]:
            raise Unknown(name)
        return str(self.read["images"][name])


def place(host: str) -> str:
    """The file with the snapshot of a host."""
    return os.path.join(C.DEFAULT_LOCAL_TMP, f"dagster-{hashlib.sha256(host.encode()).hexdigest()[:16]}.json")


def questions(asked: Json, watched: Json) -> Json:
    """The arguments of host_facts, with those for a snapshot."""
    if not watched:
        return asked
    more = {"snapshot": watched["snapshot"], "snapshot_key": KEY, "stamps": watched["stamps"]}
    return {**asked, **more, "texts": [*asked["texts"], *watched["texts"]]}


def taken(answer: Json, watched: Json) -> Json:
    """The snapshot in an answer of host_facts. What was asked for it alone is taken out of the facts."""
    facts = answer["host"]
    texts = {path: facts["texts"].pop(path, None) for path in watched["texts"]}
    return {**answer["snapshot"], "asked": watched["stamps"], "stamps": facts.pop("stamps"), "texts": texts}


def now() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the controller sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def remember(host: str, read: Mapping[str, Any], began: float) -> None:
    """Keeps what was read of a host; began is when that was begun."""
    forget(host)
    handle = os.open(place(host), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump({**read, "began": began}, stream)


def forget(host: str) -> None:
    """Nothing is known of a host."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place(host))


def end() -> None:
    """From now on all hosts are asked: a change of one host may reach others, as a restart of the database does."""
    with open(os.path.join(C.DEFAULT_LOCAL_TMP, ENDED), "a", encoding="utf-8") as stream:
        stream.write(f"{now()}\n")


def ended() -> float:
    """When something was changed last in this run."""
    try:
        with open(os.path.join(C.DEFAULT_LOCAL_TMP, ENDED), encoding="utf-8") as stream:
            return max(float(line) for line in stream)
    except FileNotFoundError:
        return 0.0


def host_of(task: Any, variables: Mapping[str, Any]) -> str:
    """The host that a task asks."""
    return str(task.delegate_to or variables.get("inventory_hostname"))


def of(task: Any, variables: Mapping[str, Any]) -> Snapshot | None:
    """The snapshot of its host that a task may believe."""
    if os.path.realpath(str(variables.get("playbook_dir") or os.sep)) != PLAYBOOKS:
        return None
    try:
        with open(place(host_of(task, variables)), encoding="utf-8") as stream:
            read = json.load(stream)
    except FileNotFoundError:
        return None
    return Snapshot(read) if now() - SECONDS < read["began"] and ended() < read["began"] else None


def answered(
    task: Any, variables: Mapping[str, Any], known: Callable[[Snapshot], Json], ask: Callable[[], Json]
) -> Json:
    """What the snapshot answers for the host, or else the host. Once one is not as wanted, all are asked."""
    read = of(task, variables)
    try:
        if read is not None:
            return known(read)
    except Differs:
        end()
    except Unknown:
        pass
    quiet = False
    try:
        result = ask()
        quiet = not any(result.get(key) for key in ("changed", "failed", "unreachable"))
    finally:  # also when it cannot be reached
        if not quiet:
            end()
    return result


class Asking(normal.ActionModule):
    """An action that only calls its module, unless the snapshot knows the answer."""

    def known(self, read: Snapshot) -> Json:  # noqa: ARG002 - for subclasses
        """The answer. Raises Unknown or Differs."""
        raise Unknown(self._task.action)

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """The module's result."""
        variables = dict(task_vars or {})
        return answered(self._task, variables, self.known, lambda: dict(super(Asking, self).run(tmp, variables)))
