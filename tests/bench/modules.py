"""Rows about single modules of ours: one call against the calls of standard modules that do the same.

The calls of ours are those of the roles, read from their task files; the standard ones are in standard/*.yml and get
the same arguments as bench_calls. Both run in a role that has defaults, variables, templates and files of the real one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from measure import CACHE, HERE, ROOT, SITE, BenchError, Cost, Host, Json, Row, changed, ratio, remote_calls, say

ROLES = ROOT / "roles"
GENERATED = CACHE / "roles"
FACTS = CACHE / "facts.json"
SIDES = ("ours", "standard")
PARTS_OF_A_ROLE = ("defaults", "vars", "templates", "files")


@dataclass(frozen=True)
class Comparison:
    """Calls of ours and what stands against them."""

    name: str  # as --rows names it; the standard calls are in standard/NAME.yml
    what: str  # what the row compares, for the table
    role: str  # whose variables both sides have, and the play of site.yml that hands more of them on
    calls: Path | list[Json]  # a file whose calls of the modules are taken, or the calls themselves
    modules: tuple[str, ...]
    first: int | None = None  # only so many calls of the file
    extra: dict[str, Json] = field(default_factory=dict)  # what of the options differs on each side
    reset: str = ""  # takes back on the host what a call makes, {side} is the side: then a first run is measured too
    cleanup: str = ""  # takes away what the standard calls made beside ours


# --- rows as data -----------------------------------------------------------------------------------------------------

# Roles and a database of their own: a side does not undo what the other one did, and the deployment is left alone.
LOGINS = ("user", "read_user", "code_user", "run_user", "migration_user", "guard_user")
NAMES = (*LOGINS, "name", "owner_role", "app_role", "guard_role", "daemon_role")
SCRATCH = {
    side: {
        **{f"database_{name}": f"bench_{side}_{name}" for name in NAMES},
        "postgres_daemon_logins": [f"bench_{side}_daemon_1"],
        "postgres_connection_limits": {f"bench_{side}_{name}": 20 for name in (*LOGINS, "daemon_1")},
    }
    for side in SIDES
}
DROP = (
    'sql() {{ runuser -u postgres -- psql -qAt -v ON_ERROR_STOP=1 "$@"; }}; cd /;'
    " sql -c 'DROP DATABASE IF EXISTS bench_{side}_name';"
    " sql -c \"SELECT format('DROP ROLE %I;', rolname) FROM pg_roles WHERE rolname LIKE 'bench\\_{side}\\_%'\" | sql"
)

# The units of module service in role webserver: its files have a row of their own.
WEBSERVER_UNITS: list[Json] = [{"dataops.dagster.units": {"units": "{{ __dagster_webserver_units }}"}}]

COMPARISONS = (
    Comparison(
        "files",
        "folders, link and files of role instance, against file, template and copy in loops",
        "instance",
        ROLES / "instance/tasks/configure.yml",
        ("dataops.dagster.files",),
        # Services that run have read them; the next play of site.yml finds them younger and restarts those services.
        reset="cd /etc; rm -r dagster/environment dagster/environment.secret dagster/pgpass tmpfiles.d/dagster.conf"
        " systemd/system/dagster-.service.d /usr/local/lib/dagster/systemd_service.py",
    ),
    Comparison(
        "units",
        "two webservers and the age of what they read, against stat and systemd_service in loops",
        "webserver",
        WEBSERVER_UNITS,
        ("dataops.dagster.units",),
    ),
    Comparison(
        "units_handlers",
        "the same, against systemd_service alone: handlers would restart, and a killed play loses them",
        "webserver",
        WEBSERVER_UNITS,
        ("dataops.dagster.units",),
    ),
    Comparison(
        "host_facts",
        "what preflight reads of a host, against setup, package_facts, listen_ports_facts, getent, stat and slurp",
        "docker",
        [{"dataops.dagster.host_facts": {"paths": ["/opt/dagster/{{ dagster.version }}/.complete"]}}],
        ("dataops.dagster.host_facts",),
    ),
    Comparison(
        "packages",
        "all packages of the host, against apt",
        "",
        ROOT / "playbooks" / "part_packages.yml",
        ("dataops.dagster.packages",),
    ),
    Comparison(
        "config",
        "dagster.yaml, checked, against copy, which checks nothing",
        "instance",
        ROLES / "instance/tasks/configure.yml",
        ("dataops.dagster.dagster_yaml",),
        cleanup="rm -f /etc/dagster/bench.*.yaml",
    ),
    Comparison(
        "code_images",
        "the image of a location, against copy of context and base image and docker_image",
        "code_location",
        ROLES / "code_location/tasks/images.yml",
        ("dataops.dagster.code_images",),
        cleanup="docker image rm -f bench-code/pipeline:1 >/dev/null 2>&1; rm -rf /var/tmp/bench-images",
    ),
    Comparison(
        "code_containers",
        "the container of a location, against docker_container, its health command and docker_host_info",
        "code_location",
        ROLES / "code_location/tasks/run.yml",
        ("dataops.dagster.code_containers",),
        cleanup="docker rm -f bench-code-pipeline >/dev/null 2>&1",
    ),
    Comparison(
        "postgres",
        "roles.sql and grants.sql, against postgresql_user, _db, _membership, _owner and _privs",
        "postgres",
        ROLES / "postgres/tasks/database_change.yml",
        ("community.postgresql.postgresql_query",),
        first=4,  # the others are the daemon's lease, for which there is no module
        extra=SCRATCH,
        reset=DROP,
        cleanup=f"{DROP.format(side='ours')}; {DROP.format(side='standard')}",
    ),
)


# --- plays ------------------------------------------------------------------------------------------------------------


def calls_of(tasks: Any, modules: Sequence[str]) -> Iterator[Json]:
    """The tasks that call one of the modules, of a playbook, a task file or a block."""
    for task in tasks or []:
        if any(module in task for module in modules):
            yield task
        for part in ("pre_tasks", "tasks", "block", "always"):
            yield from calls_of(task.get(part), modules)


def own_calls(comparison: Comparison) -> list[Json]:
    """The tasks of ours."""
    if isinstance(comparison.calls, list):
        return comparison.calls
    tasks = yaml.safe_load(comparison.calls.read_text(encoding="utf-8"))
    found = list(calls_of(tasks, comparison.modules))[: comparison.first]
    if not found:
        raise BenchError(f"{comparison.calls} calls none of {', '.join(comparison.modules)}")
    return found


def plays(playbook: Path) -> Iterator[Json]:
    """The plays of a playbook, with those that it imports."""
    for play in yaml.safe_load(playbook.read_text(encoding="utf-8")):
        imported = play.get("ansible.builtin.import_playbook")
        yield from plays(playbook.parent / imported) if imported else [play]


def play_of(role: str) -> Json:
    """Hosts and variables that site.yml gives a role."""
    for play in plays(SITE):
        actions = ("ansible.builtin.import_role", "ansible.builtin.include_role")
        named = [task.get(action) for task in play.get("tasks", []) for action in actions]
        if {"name": f"dataops.dagster.{role}", "rolespec_validate": False} in named:
            return {"hosts": play["hosts"], "vars": play.get("vars", {})}
    if role:
        raise BenchError(f"no play of {SITE} has role {role}")
    return {"hosts": "dagster_run", "vars": {}}


def playbook(comparison: Comparison, side: str) -> Path:
    """Writes the play of one side, and the role that it has."""
    ours = own_calls(comparison)
    folder = GENERATED / f"{comparison.name}_{side}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tasks").mkdir(parents=True)
    for part in PARTS_OF_A_ROLE:
        if comparison.role and (ROLES / comparison.role / part).is_dir():
            (folder / part).symlink_to(ROLES / comparison.role / part)
    standard = HERE / "standard" / f"{comparison.name}.yml"
    tasks = ours if side == "ours" else yaml.safe_load(standard.read_text(encoding="utf-8"))
    (folder / "tasks" / "main.yml").write_text(json.dumps(tasks), encoding="utf-8")
    arguments = [task[module] for task in ours for module in comparison.modules if module in task]
    role = {"role": folder.name, **({"vars": {"bench_calls": arguments}} if side == "standard" else {})}
    play = {"name": folder.name, "become": True, "gather_facts": False, **play_of(comparison.role), "roles": [role]}
    path = CACHE / f"{folder.name}.yml"
    path.write_text(json.dumps([play]), encoding="utf-8")
    return path


def read_facts(host: Host) -> Json:
    """What preflight and the images' task say of a deployed host, so that no row pays for it."""
    locations = {"dagster_code_locations": host.locations()}
    host.play(HERE / "facts.yml", {"bench_facts": str(FACTS), **locations})
    return {**json.loads(FACTS.read_text(encoding="utf-8")), **locations}


# --- measuring --------------------------------------------------------------------------------------------------------


def with_options(facts: Json, options: Json) -> Json:
    """The facts, with other values of these options."""
    return {**facts, "dagster": {**facts.get("dagster", {}), **options}}


def compare(host: Host, comparison: Comparison, facts: Json, rounds: int) -> Iterator[Row]:
    """A row for a run with nothing to do, and one for a first run if it can be taken back."""
    say(f"{comparison.name}, {rounds} rounds")
    playbooks = {side: playbook(comparison, side) for side in SIDES}
    plays = {
        side: partial(host.play, path, with_options(facts, comparison.extra.get(side, {})), roles=str(GENERATED))
        for side, path in playbooks.items()
    }
    try:
        for play in plays.values():
            play()
        outputs = {side: play(verbose=True) for side, play in plays.items()}
        if tasks := changed(outputs["ours"]):
            raise BenchError(
                f"{comparison.name} changed something although there was nothing to do: {'; '.join(tasks)}"
            )
        number = len(changed(outputs["standard"]))
        calls = {side: remote_calls(output)[1] for side, output in outputs.items()}
        note = f"modules called: {calls['ours']} against {calls['standard']}"
        note += f"; {number} of the standard tasks change each time" if number else ""
        host.measure_idle(10)
        second: dict[str, list[Cost]] = {side: [] for side in SIDES}
        for turn in range(rounds):
            for side in SIDES if turn % 2 else reversed(SIDES):
                second[side].append(host.measure(plays[side]))
        yield saved(f"{comparison.name}, nothing to do", second, f"{note}; {comparison.what}")
        if comparison.reset:
            first: dict[str, list[Cost]] = {side: [] for side in SIDES}
            for turn in range(rounds):
                for side in SIDES if turn % 2 else reversed(SIDES):
                    host.shell(comparison.reset.format(side=side))
                    first[side].append(host.measure(partial(play_changed, plays[side], f"{comparison.name}, {side}")))
            yield saved(f"  {comparison.name}, first run", first)
    finally:
        host.shell(f"set +e; {comparison.cleanup or 'true'}; true")


def play_changed(play: Callable[[], str], what: str) -> None:
    """A play that has something to do; an error if it finds nothing."""
    if not changed(play()):
        raise BenchError(f"{what}: the first run changed nothing, so it was none")


def saved(name: str, costs: dict[str, list[Cost]], note: str = "") -> Row:
    """The ratio of whole plays, and in the note what the calls of ours spare. A module has no bound: see README.md."""
    row = ratio(name, costs["ours"], costs["standard"], None)
    assert row.ours
    assert row.yardstick
    spared = f"spares {row.yardstick.cpu - row.ours.cpu:.2f} CPU s, {row.yardstick.wall - row.ours.wall:.2f} s"
    row.note = "; ".join(filter(None, [spared, note]))
    return row
