"""Plays a playbook without hosts: what each task would be given, and each file that would be written.

Inventory, variables, templates and filters are Ansible's own, and our actions on the controller are the real ones. Only
modules do not run: each answers as on a bare host. Only what our playbooks and roles use of the language is known here;
anything else is an error.
"""

from __future__ import annotations

import functools
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import jinja2
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.conditional import Conditional
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from copied import copied, shortened
from deployments import Deployment, bare_host

from ansible_collections.dataops.dagster.plugins.action import dagster_yaml, files, preflight, service
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import gate, spec

ROOT = Path(__file__).resolve().parents[2]
OURS = "dataops.dagster."
# Before ansible-core 2.19 all text is trusted.
TRUSTED = (
    {"trusted_as_template": True} if "trusted_as_template" in signature(DataLoader.load_from_file).parameters else {}
)
# What a task says beside its module.
KEYWORDS = {
    *("name", "when", "register", "loop", "loop_control", "vars", "block", "always"),
    *("become", "changed_when", "check_mode", "connection", "delegate_to", "environment", "failed_when"),
    *("ignore_errors", "ignore_unreachable", "no_log", "run_once"),
}
# Of these only the effect is seen.
UNSEEN = {"name", "when", "register", "loop", "loop_control", "vars", "block", "always"}
ACTIONS: dict[str, Any] = {
    "preflight": preflight.ActionModule,
    "files": files.ActionModule,
    "service": service.ActionModule,
    "dagster_yaml": dagster_yaml.ActionModule,
}
SECRETS = {
    "dagster_database_password": "services-password",
    "dagster_database_run_password": "runs-password",
    "dagster_database_migration_password": "migration-password",
    "compute_log_key_id": "key-id",
    "bucket_login": "[default]\naws_access_key_id = key-id\n",
    "compute_log_key": "key",
}
Json = dict[str, Any]


class HostVars(dict):  # type: ignore[type-arg]
    """What a play knows of hosts. Before ansible-core 2.19 this name keeps a template from following it into itself."""

    __UNSAFE__ = True


def roles_of(play: Json) -> dict[str, list[Any]]:
    """The whole roles of a play, named, imported or included, in their order, each with its conditions.

    One with tasks_from is a task of its own.
    """
    named: dict[str, list[Any]] = {entry["role"]: [] for entry in play.get("roles") or []}
    whole = {}
    tasks = play.get("tasks") or []
    for task in tasks:
        arguments = task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role") or {}
        if arguments and "tasks_from" not in arguments:
            when = task.get("when", [])
            whole[arguments["name"]] = when if isinstance(when, list) else [when]
    assert not whole or len(whole) == len(tasks), f"{play['name']}: roles and other tasks in one play"
    return {str(plain(name)).removeprefix(OURS): when for name, when in {**named, **whole}.items()}


def holds(condition: Any, templar: Templar, variables: Json) -> bool:
    """Whether a condition of a task holds."""
    if hasattr(templar, "evaluate_conditional"):
        return bool(templar.evaluate_conditional(condition))
    conditional = Conditional(loader=templar._loader)  # before ansible-core 2.19
    conditional.when = [condition]
    return bool(conditional.evaluate_conditional(templar, variables))


def plain(value: Any) -> Any:
    """A value of Ansible's without its tags."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


JINJA_COMPILE = jinja2.Environment.compile
CODE: dict[tuple[Any, ...], Any] = {}


def compiled(environment: jinja2.Environment, source: Any, *arguments: Any, **more: Any) -> Any:
    """The code of a template, made once for all hosts and tasks."""
    if not isinstance(source, str):  # a tree already
        return JINJA_COMPILE(environment, source, *arguments, **more)
    key = (plain(source), environment.trim_blocks, *arguments, *more.items())
    if key not in CODE:
        CODE[key] = JINJA_COMPILE(environment, source, *arguments, **more)
    return CODE[key]


@dataclass
class Host:
    """What is known of a host during the plays, and what it was given."""

    name: str
    variables: Json  # of the inventory
    facts: Json = field(default_factory=dict)  # and registered results
    given: list[Json] = field(default_factory=list)  # each play and its tasks
    written: dict[str, str] = field(default_factory=dict)  # content of each file by its path


class Players:
    """The hosts of a deployment, and the plays that they take part in."""

    actions: ClassVar[dict[str, Any]] = ACTIONS

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.ended: set[str] = set()  # the hosts that a task of the play has left out
        self.loader = DataLoader()
        self.loader.set_basedir(str(ROOT / "playbooks"))
        inventory = InventoryManager(self.loader, sources=[str(ROOT / path) for path in deployment.inventories])
        manager = VariableManager(self.loader, inventory)
        self.groups = {name: [str(host) for host in hosts] for name, hosts in inventory.get_groups_dict().items()}
        self.hosts = {}
        names = sorted(host.name for host in inventory.get_hosts())
        for number, name in enumerate(names, 1):
            variables = manager.get_vars(host=inventory.get_host(name), include_hostvars=False)
            variables.update(SECRETS, ansible_host=f"10.0.0.{number}", **deployment.extra)
            self.hosts[name] = Host(name, variables)
        with (
            patch.object(gate, "supplied_problems", return_value=[]),  # the certificates here are words
            # Most of the time of a play without hosts went into these two.
            patch.object(spec, "specs", functools.cache(spec.specs)),
            patch.object(jinja2.Environment, "compile", compiled),
        ):
            for playbook in deployment.playbooks:
                self.playbook(ROOT / "playbooks" / playbook, {})

    def load(self, path: Path) -> Any:
        return self.loader.load_from_file(str(path), **TRUSTED) if path.exists() else None

    def playbook(self, path: Path, variables: Json) -> None:
        for play in self.load(path):
            own = {**variables, **(play.get("vars") or {})}
            if "ansible.builtin.import_playbook" in play:
                self.playbook(path.parent / play["ansible.builtin.import_playbook"], own)
                continue
            pattern = Templar(loader=self.loader, variables=own).template(play["hosts"])
            names = list(dict.fromkeys(name for group in pattern.split(":") for name in self.groups.get(group, [])))
            hosts = [self.hosts[name] for name in names]
            self.ended = set()
            header = plain({key: play[key] for key in play.keys() - {"name", "tasks", "roles", "vars"}})
            header["hosts"] = plain(pattern)
            for role, when in (roles_of(play) or {"": []}).items():
                what = {"play": dict(sorted(header.items()))}
                if role:
                    what["play"]["role"] = OURS + role
                here = [host for host in hosts if self.included(host, when, self.scope("", own, names), {})]
                for host in here:
                    host.given.append(what)
                if here:
                    self.role(role, play, own, here)

    def role(self, role: str, play: Json, variables: Json, hosts: list[Host]) -> None:
        scope = self.scope(role, variables, [host.name for host in hosts])
        tasks = self.load(scope.folder / "tasks/main.yml") if role else play["tasks"]
        self.tasks(tasks, scope, {host.name: [] for host in hosts}, {})

    def scope(self, role: str, variables: Json, names: list[str]) -> Scope:
        """What the tasks of a role of a play with these variables see; without a role, those of the play."""
        folder = ROOT / "roles" / role if role else ROOT / "playbooks"
        low = (self.load(folder / "defaults/main.yml") or {}) if role else {}
        high = (self.load(folder / "vars/main.yml") or {}) if role else {}
        return Scope(folder, low, variables, high, names)

    def called(self, arguments: Json, scope: Scope) -> Scope:
        """What the tasks of a role see that another role calls: its own variables over those of the caller."""
        assert arguments.keys() == {"name", "tasks_from"}, arguments
        own = self.scope(arguments["name"].removeprefix(OURS), scope.variables, scope.names)
        return replace(own, low={**scope.low, **own.low}, high={**scope.high, **own.high})

    def tasks(self, tasks: Iterable[Json], scope: Scope, conditions: dict[str, list[Any]], variables: Json) -> None:
        """Task after task, each on all hosts."""
        for task in tasks:
            own = {**variables, **(task.get("vars") or {})}
            when = task.get("when", [])
            added = when if isinstance(when, list) else [when]
            every = {name: [*before, *added] for name, before in conditions.items() if name not in self.ended}
            module, *more = sorted(key for key in task if key not in KEYWORDS) or [""]
            assert not more, f"{task.get('name')}: {module} and {more}: one of them is not known here"
            if module == "ansible.builtin.import_tasks":
                self.tasks(self.load(scope.folder / "tasks" / task[module]), scope, every, own)
            elif module == "ansible.builtin.include_tasks":
                # Whether a host takes part is decided here, once.
                included: dict[str, list[Any]] = {
                    name: [] for name in every if self.included(self.hosts[name], every[name], scope, own)
                }
                if included:
                    self.tasks(self.load(scope.folder / "tasks" / task[module]), scope, included, own)
            elif module in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                inner = self.called(task[module], scope)
                self.tasks(self.load(inner.folder / "tasks" / f"{task[module]['tasks_from']}.yml"), inner, every, own)
            elif module == "ansible.builtin.meta" and task[module] == "end_host":
                # One after the other, and each leaves the hosts of the play.
                for name in every:
                    if self.included(self.hosts[name], every[name], scope, own):
                        self.ended.add(name)
            elif module == "ansible.builtin.meta":
                for name in every:
                    self.hosts[name].given.append({module: plain(task[module])})
            elif "block" in task:
                shared = {key: task[key] for key in task.keys() & {"environment"}}
                block = [{**shared, **entry} for entry in [*task["block"], *task.get("always", [])]]
                self.tasks(block, scope, every, own)
            else:
                names = list(every)[:1] if task.get("run_once") else list(every)
                results = {name: self.task(self.hosts[name], task, module, scope, every[name], own) for name in names}
                for name in every:
                    if "register" in task:
                        self.hosts[name].facts[task["register"]] = results.get(name) or results[names[0]]

    def included(self, host: Host, conditions: list[Any], scope: Scope, own: Json) -> bool:
        variables = self.variables(host, scope, own)
        templar = Templar(loader=self.loader, variables=variables)
        return all(holds(condition, templar, variables) for condition in conditions)

    def variables(self, host: Host, scope: Scope, own: Json) -> Json:
        paths = {"role_path": str(scope.folder), "ansible_search_path": [str(scope.folder)]} if scope.low else {}
        found = {
            **scope.low,
            **host.variables,
            "ansible_check_mode": self.deployment.check,
            "playbook_dir": str(ROOT / "playbooks"),
            "groups": self.groups,
            "ansible_play_hosts": [name for name in scope.names if name not in self.ended],
            "ansible_play_hosts_all": scope.names,
            "ansible_play_batch": scope.names,
            **paths,
            **scope.variables,
            **scope.high,
            **host.facts,
            **own,
        }
        found["hostvars"] = HostVars(
            (name, HostVars(found if name == host.name else {**other.variables, **other.facts}))
            for name, other in self.hosts.items()
        )
        return found

    def task(self, host: Host, task: Json, module: str, scope: Scope, conditions: list[Any], own: Json) -> Json:
        variables = self.variables(host, scope, own)
        templar = Templar(loader=self.loader, variables=variables)
        results = []
        index = str((task.get("loop_control") or {}).get("index_var", "ansible_index"))
        for number, item in enumerate(templar.template(task["loop"]) if "loop" in task else [None]):
            each = {**variables, **({"item": item, index: number} if "loop" in task else {})}
            templar = Templar(loader=self.loader, variables=each)
            if all(holds(condition, templar, each) for condition in conditions):
                result = self.call(host, task, module, scope, each, templar)
                results.append({**result, "item": item} if "loop" in task else result)
        if "loop" in task:
            return {"changed": any(result.get("changed") for result in results), "results": results}
        return results[0] if results else {"changed": False, "skipped": True}

    def call(self, host: Host, task: Json, module: str, scope: Scope, variables: Json, templar: Templar) -> Json:
        arguments = templar.template(task[module] or {})
        name = module.removeprefix(OURS)
        if name in self.actions:
            result, arguments = self.action(host, task, arguments, scope, variables, templar)
        else:
            asked = templar.template(task["delegate_to"]) if "delegate_to" in task else host.name
            result = self.answer(self.hosts.get(asked, host), module, arguments, variables)
        arguments = shortened(plain(arguments))
        for entry in [arguments, *arguments.get("files", [])]:
            path = entry.get("path") or entry.get("dest")
            text = arguments.get("secrets", {}).pop(path, None) if entry.get("secret") else entry.get("content")
            if entry.get("state") == "absent":
                entry.pop("content", None)
            elif text is not None:
                entry["content"] = self.content(host, str(path), text)
        if arguments.get("secrets") == {}:
            del arguments["secrets"]
        said = {key: plain(templar.template(task[key])) for key in sorted(task.keys() & KEYWORDS - UNSEEN)}
        # What the host is like was said above, by the test itself.
        arguments.pop("dagster_host", None)
        host.given.append({module: arguments, **said})
        for key, value in (result.pop("ansible_facts", None) or {}).items():
            host.facts[key] = value
        return result

    @staticmethod
    def content(host: Host, path: str, text: str) -> str:
        """Where the content of a file is to be seen; files that are copied as they are need no second copy."""
        source = copied().get(text.strip(), "")
        if source:
            return source
        if "/locks/" in path:  # what each requirement is, without hashes and comments
            text = "".join(f"{line.rstrip(' ' + chr(92))}\n" for line in text.splitlines() if line[:1].strip())
        host.written[path] = text
        return "below"

    def action(
        self, host: Host, task: Json, arguments: Json, scope: Scope, variables: Json, templar: Templar
    ) -> tuple[Json, Json]:
        """Runs the controller's side; returns its result and what the host's side was given."""
        given: Json = {}
        name = next(key for key in task if key not in KEYWORDS).removeprefix(OURS)
        delegate_to = task.get("delegate_to")

        def execute(
            module_name: str = "",
            module_args: Json | None = None,
            task_vars: Json | None = None,
            wrap_async: bool = False,
        ) -> Json:
            assert task_vars
            assert not wrap_async
            asked = {**(arguments if module_args is None else module_args)}
            there = self.hosts.get(known.delegate_to, host)
            answer = self.remote(there, module_name or OURS + name, asked, variables)
            # Another one each time.
            asked.pop("snapshot_key", None)
            given.update({**arguments, "host_facts": asked} if name == "preflight" else asked)
            return answer

        known = SimpleNamespace(
            args=arguments, async_val=0, check_mode=False, diff=False, action=OURS + name, collections=[]
        )
        known.delegate_to = templar.template(delegate_to) if delegate_to else None
        known.get_search_path = lambda: [str(scope.folder)]
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        action = self.actions[name](known, connection, SimpleNamespace(), self.loader, templar, None)
        action._execute_module = execute
        result: Json = action.run(task_vars=variables)
        assert not result.get("failed"), result
        result.pop("invocation", None)  # to Ansible it is no template, before ansible-core 2.19 either
        return result, given or arguments

    def remote(self, host: Host, module: str, arguments: Json, variables: Json) -> Json:
        """What a module says that an action of ours calls on a host. A snapshot says nothing: all is asked."""
        if module != "dataops.dagster.host_facts":
            return self.answer(host, module, arguments, variables)
        own = {"addresses": ["127.0.0.1", variables["ansible_host"]]}
        nothing: Json = {key: {} for key in ("entries", "units", "images")}
        nothing |= {"places": [], "owners": {"user": {}, "group": {}}, "in_force": False}
        read = {**bare_host(), **own, **self.deployment.facts, "stamps": []}
        return {"host": {**read, "texts": dict(read["texts"])}, "snapshot": nothing}

    def answer(self, host: Host, module: str, arguments: Json, variables: Json) -> Json:
        """What a module says on a bare host."""
        known = variables.get("dagster_host", {}).get("packages", {})
        missing = [name for name in arguments.get("name", []) if name not in known]
        changed: Json = {"changed": True}
        if module == "ansible.builtin.group_by":
            self.groups.setdefault(str(arguments["key"]), []).append(host.name)
        daemons = self.groups["dagster_daemon"]
        holder = "active: daemon" if host.name == daemons[0] else f"standby: {daemons[0]} holds the lease"
        read = host.written.get(str(arguments.get("path")), "ca")
        names = units(arguments)
        start = 1000 + daemons.index(host.name) if host.name in daemons else 1
        said = {"started": dict.fromkeys(names, start), "status": dict.fromkeys(names, holder)}
        if self.deployment.check:  # no service runs, and no certificate is there to be read
            said = {"started": dict.fromkeys(names, 0), "status": dict.fromkeys(names, "")}
        answers: dict[str, Json] = {
            "ansible.builtin.command": {**changed, "stdout": "words"},
            "ansible.builtin.set_fact": {"ansible_facts": arguments},
            "ansible.builtin.slurp": {"content": b64encode(read.encode()).decode()},
            "ansible.builtin.tempfile": {**changed, "path": "/tmp/folder"},
            "community.crypto.openssl_csr_pipe": {**changed, "csr": f"request of {host.name}\n"},
            "community.crypto.x509_certificate_pipe": {**changed, "certificate": f"certificate of {host.name}\n"},
            "community.mysql.mysql_query": {"query_result": [[{"statement": "SELECT 1"}]], "rowcount": [1]},
            "community.postgresql.postgresql_query": {"query_result": [{"statement": "SELECT 1"}], "rowcount": 1},
            "dataops.dagster.code_containers": {**changed, "old_images": True},
            "dataops.dagster.code_images": {
                **changed,
                "images": {
                    image["name"]: {"id": "sha256:1", "ref": f"{image['name']}:1"}
                    for image in (arguments.get("images", []) if module == "dataops.dagster.code_images" else [])
                },
                "missing": [image["ref"] for image in arguments.get("load", [])],
            },
            # Role docker has set the engine up: its user namespaces are there.
            "dataops.dagster.host_facts": {
                "host": {
                    "container_root": self.container_root(variables),
                    "certificates": {},
                    "engine": {"run_mounts": self.deployment.run_mounts},
                    "stamps": ["/some/file 1"],
                }
            },
            "dataops.dagster.instance_info": {
                "ok": not self.deployment.problems,
                "problems": list(self.deployment.problems),
                "locations": [{"name": "pipeline", "jobs": ["dagster_canary", "nightly"]}],
            },
            "dataops.dagster.packages": {
                "changed": missing != [],
                "installed": dict.fromkeys(missing, ""),
                **{key: [] for key in ("recorded", "removed")},
            },
            "dataops.dagster.service": {**changed, **said, "changed_paths": ["/some/file"]},
            "dataops.dagster.units": {**changed, **said},
        }
        return answers.get(module, changed)

    @staticmethod
    def container_root(variables: Json) -> int:
        return 100000 if variables.get("dagster", {}).get("docker_userns_remap") else 0


@dataclass(frozen=True)
class Scope:
    """What the tasks of a role, or of a play, have in common."""

    folder: Path
    low: Json  # the role's defaults
    variables: Json  # the play's
    high: Json  # the role's vars
    names: list[str]


def units(arguments: Json) -> list[str]:
    return [str(unit["name"]) for unit in arguments.get("units", [])]
