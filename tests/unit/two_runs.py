"""Plays a deployment twice without hosts: the second play finds on its hosts what the first one has left there.

A host is a dictionary of paths here. Modules that write files and run units change it; the others do nothing. What the
second play sends to hosts is remembered.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from zlib import crc32

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from deployments import Deployment, bare_host
from dry_play import ACTIONS, OURS, Host, Players, plain

from ansible_collections.dataops.dagster.plugins.action import (
    code_containers,
    code_images,
    compute_logs,
    end_snapshot,
    firewall,
    host_facts,
    schema,
    units,
)
from ansible_collections.dataops.dagster.plugins.module_utils._docker import proven
from ansible_collections.dataops.dagster.plugins.module_utils._host.snapshot import expression, mark, with_versions
from ansible_collections.dataops.dagster.plugins.modules.compute_logs import ARGUMENTS, noted

Json = dict[str, Any]
KINDS = {"file": stat.S_IFREG | 0o644, "directory": stat.S_IFDIR | 0o755, "link": stat.S_IFLNK | 0o777}
ROOT_OF_CONTAINERS = 100000
# What host_facts reads in every certificate: none is due.
CERTIFICATE: Json = {
    "not_after": 4102444800,
    "key_matches": True,
    **dict.fromkeys(("key_id", "authority_key_id", "pem"), "id"),
}


def number(name: str | None) -> int:
    """The number of a user or group: any will do, as long as each has its own."""
    if name is None or name == "root":
        return 0
    return int(name) if str(name).isdigit() else crc32(name.encode()) % 1000


@dataclass
class World:
    """What a host has."""

    paths: dict[str, Json] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=lambda: {"root", "postgres"})
    packages: set[str] = field(default_factory=set)
    units: set[str] = field(default_factory=set)
    certificates: dict[str, Json] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    networks: bool = True  # those of the engine
    status: str = ""  # what the daemon says of itself

    def write(self, spec: Json, text: str | None = None) -> None:
        """Makes one path as module files would."""
        path, state = str(spec["dest"]), spec.get("state") or "file"
        if state == "absent":
            for each in [each for each in self.paths if each == path or each.startswith(f"{path}/")]:
                del self.paths[each]
            return
        before = self.paths.get(path, {})
        mode = stat.S_IFMT(KINDS[state]) | int(str(spec["mode"]), 8) if spec.get("mode") else KINDS[state]
        owners = (("st_uid", "owner"), ("st_gid", "group"))
        owned = {key: number(spec.get(name)) for key, name in owners if spec.get(name)}
        found = {"st_mode": mode, "st_uid": 0, "st_gid": 0, "st_mtime": 1.0, **before}
        found.pop("target", None)
        found.update({"st_mode": mode} if spec.get("mode") or not before else {}, **owned)
        self.paths[path] = {**found, **({"target": spec["src"]} if state == "link" else {})}
        if text is not None:
            self.texts[path] = text

    def service(self, arguments: Json) -> Json:
        """What module service does."""
        files, before, units = arguments.get("files") or [], self.seen(), set(self.units)
        for spec in files:
            self.write(spec, (arguments.get("secrets") or {}).get(spec["dest"], spec.get("content")))
        for unit in arguments.get("units") or []:
            (self.units.discard if unit.get("state") == "stopped" else self.units.add)(unit["name"])
        after = self.seen()
        paths = [str(spec["dest"]) for spec in files if before.get(spec["dest"]) != after.get(spec["dest"])]
        return {"changed": bool(paths) or units != self.units, "changed_paths": paths}

    def seen(self) -> dict[str, tuple[Json, str | None]]:
        """What is at each path."""
        return {path: (dict(found), self.texts.get(path)) for path, found in self.paths.items()}

    def snapshot(self, asked: Json, key: str) -> Json:
        """What module host_facts reads of it for a later comparison."""
        places = with_versions(asked["places"])
        wanted = expression(places)
        entries = {path: dict(found) for path, found in self.paths.items() if wanted.fullmatch(path)}
        for path, found in entries.items():
            if path in self.texts:
                found["mark"] = mark(key, path, self.texts[path].encode())
        owners = {name: number(name) for name in sorted(self.names)}
        up = {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": "7", "StatusText": self.status}
        times = dict.fromkeys(("started", "since", "newest"), 1000.0)
        fit = expression(asked["units"])
        known = {name: {"Id": name, "ActiveState": "inactive"} for name in asked["units"] if "*" not in name}
        known.update((name, {**up, "Id": name, "times": times}) for name in self.units if fit.fullmatch(name))
        there = asked["table"] is not None and asked["table"]["path"] in self.paths
        read = {"places": places, "entries": entries, "units": known, "in_force": there}
        return {**read, "owners": {"user": owners, "group": owners}, "images": self.images}

    def bound(self, unit: str) -> str:
        """The address at which a webserver listens, by its unit."""
        text = next(text for path, text in self.texts.items() if path.endswith(re.sub(r"@.*", "@.service", unit)))
        return re.findall(r"--host (\S+)", text)[0]

    def facts(self, asked: Json, address: str) -> Json:
        """What module host_facts says of it."""
        patterns = expression(asked["paths"])
        lines = {
            path: [found[1] for found in re.finditer(text, self.texts.get(path, ""), re.MULTILINE)]
            for place, text in (asked.get("lines") or {}).items()
            for path in self.paths
            if expression([place]).fullmatch(path)
        }
        listening = [
            {"port": int(port[0]), "address": self.bound(unit), "process": "x", "unit": unit}
            for unit in sorted(self.units)
            if (port := re.findall(r"@(\d+)\.service$", unit))
        ]
        found = {
            **bare_host(),
            "addresses": ["127.0.0.1", address, *(["172.30.0.1", "172.30.1.1"] if self.networks else [])],
            "paths": [path for path in self.paths if patterns.fullmatch(path)],
            "texts": {path: self.texts[path] for path in asked["texts"] if path in self.paths and path in self.texts},
            "lines": lines,
            "users": sorted(self.names),
            "groups": sorted(self.names),
            "packages": dict.fromkeys(self.packages, "1"),
            "container_root": ROOT_OF_CONTAINERS if "docker.service" in self.units else 0,
            "certificates": {path: self.certificates[path] for path in asked["certificates"] if path in self.paths},
            "listeners": listening,
            "stamps": ["/some/file 1"],
        }
        more = {"snapshot": self.snapshot(asked["snapshot"], asked["snapshot_key"])} if asked.get("snapshot") else {}
        return {"changed": False, "host": found, **more}


class Twice(Players):
    """The first or the second play on these hosts."""

    actions: ClassVar[Json] = {
        **ACTIONS,
        "code_containers": code_containers.ActionModule,
        "code_images": code_images.ActionModule,
        "compute_logs": compute_logs.ActionModule,
        "end_snapshot": end_snapshot.ActionModule,
        "firewall": firewall.ActionModule,
        "host_facts": host_facts.ActionModule,
        "schema": schema.ActionModule,
        "units": units.ActionModule,
    }

    def __init__(self, deployment: Deployment, worlds: dict[str, World], second: bool) -> None:
        self.worlds, self.second = worlds, second
        self.sent: list[tuple[str, str]] = []  # host and module
        super().__init__(deployment)

    def remote(self, host: Host, module: str, arguments: Json, variables: Json) -> Json:
        world, arguments = self.worlds.setdefault(host.name, World()), plain(arguments)
        if module == OURS + "host_facts" and "paths" in arguments:
            self.sent.append((host.name, "host_facts"))
            world.status = super().answer(host, OURS + "units", {"units": [{"name": "any"}]}, {})["status"]["any"]
            return world.facts(arguments, variables["ansible_host"])
        if module == OURS + "code_images":
            return self.engine(host, world, arguments)
        answer = self.answer(host, module, arguments, variables)
        return {**answer, **world.service(arguments)} if module == OURS + "service" else answer

    def answer(self, host: Host, module: str, arguments: Json, variables: Json) -> Json:
        arguments = plain(arguments)
        if self.is_remote(module):
            self.sent.append((host.name, module.removeprefix(OURS)))
        self.leaves(self.worlds.setdefault(host.name, World()), module, arguments, variables)
        answer = super().answer(host, module, arguments, variables)
        if module == OURS + "host_facts":  # again, after one was made
            texts, made = self.worlds[host.name].texts, {**CERTIFICATE, "names": []}
            answer["host"]["certificates"] = dict.fromkeys(arguments.get("certificates", {}), made)
            answer["host"]["texts"] = {path: texts[path] for path in arguments.get("texts", ()) if path in texts}
        return self.quiet(answer)

    def engine(self, host: Host, world: World, asked: Json) -> Json:
        """What an engine says of images: it has them from then on, and they have been shown to open the instance."""
        self.sent.append((host.name, "code_images"))
        staged, instance = asked["staged"], asked.get("instance")
        known = {item["name"]: f"sha256:{item['name']}" for item in staged.get("images", [])}
        world.images.update((item["ref"], known[item["name"]]) for item in staged.get("images", []))
        world.images.update((item["ref"], item["id"]) for item in staged.get("load", []))
        if instance:
            proofs = {name: proven.digest(instance, proven.environment(instance, name)) for name in known}
            world.write({"dest": instance["record"]}, json.dumps({known[name]: {proofs[name]: "1"} for name in known}))
        images = {item["name"]: {"ref": item["ref"], "id": known[item["name"]]} for item in staged.get("images", [])}
        return {"changed": False, "images": images, "missing": [], "loaded": []}

    @staticmethod
    def is_remote(module: str) -> bool:
        """Whether a task sends a module. Our own packages are missing in no second play."""
        here = ("debug", "end_snapshot", "fail", "set_fact", "group_by", "include_role", "packages")
        return module.rpartition(".")[2] not in here

    def leaves(self, world: World, module: str, arguments: Json, variables: Json) -> None:
        """What modules leave on a host, beside service."""
        if module == OURS + "config_file":
            world.write({**arguments, "dest": arguments["path"]}, arguments["content"])
        if module == OURS + "firewall":
            world.write({"dest": arguments["path"]}, arguments["content"].rstrip("\n") + "\n")
        if module == OURS + "compute_logs":
            params = ArgumentSpecValidator(ARGUMENTS).validate(arguments).validated_parameters
            world.write({"dest": params["record"], "mode": "0600"}, noted(params))
        if module in ("ansible.builtin.user", "ansible.builtin.group"):
            world.names.add(arguments["name"])
        if module == OURS + "packages":
            names = variables["dagster_plan"]["names"]
            world.packages.update(arguments["name"])
            for path in ("", "/.complete", *(f"/{name}" for name in arguments["name"])):
                world.write({"dest": names["record"] + path, "state": "file" if path else "directory"})
        if module == "ansible.builtin.command" and "creates" in arguments:
            marks = variables["dagster_plan"].get("instance", {}).get("marks", [])
            for path in {arguments["creates"], *marks}:
                world.write({"dest": path}, "")

    def quiet(self, answer: Json) -> Json:
        """The answer of a module that finds nothing to do."""
        if not self.second:
            return answer
        nothing: Json = {"rowcount": 0, "query_result": [], "old_images": False, "missing": []}
        if isinstance(answer.get("rowcount"), list):  # community.mysql counts each query
            nothing["rowcount"] = [0]
        return {**answer, "changed": False, **{key: value for key, value in nothing.items() if key in answer}}


def certified(players: Twice) -> None:
    """Certificates that are valid, where the plan has some: what is in them is read by another module's tests."""
    plans = {name: plain(host.facts["dagster_plan"]) for name, host in players.hosts.items()}
    servers = [plan[role] for plan in plans.values() for role in ("postgres", "mysql") if role in plan]
    names = [text for server in servers for text in server["tls"]]
    gates = [plan["instance"]["gate"]["certificates"] for plan in plans.values() if "instance" in plan]
    names += [each["name"] for gate in gates for each in gate.values()]
    names += [plain(host.facts["dagster"]).get("docker_tls_address") for host in players.hosts.values()]
    for name, world in players.worlds.items():
        for path, key in plans[name]["certificates"].items():
            world.paths.setdefault(path, {**world.paths.get(key, {}), "st_mode": KINDS["file"]})
            world.certificates[path] = {**CERTIFICATE, "names": sorted(filter(None, names))}


def second(deployment: Deployment, *changes: Any) -> Twice:
    """The second play of a deployment, after changes to its worlds in between."""
    worlds: dict[str, World] = {}
    first = Twice(deployment, worlds, second=False)
    certified(first)
    for change in changes:
        change(worlds)
    return Twice(replace(deployment, facts={}), worlds, second=True)


def sent(players: Twice, names: Iterable[str] = ()) -> list[str]:
    """The modules that were sent to hosts, in their order."""
    return [module for host, module in players.sent if not names or host in names]


def shown(players: Twice) -> str:
    """What hosts were given, as text."""
    return json.dumps({name: plain(host.given) for name, host in players.hosts.items()})
