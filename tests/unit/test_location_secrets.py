"""Which host gets the secrets of which code location, and when it loses those of others: played without hosts."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from deployments import DEPLOYMENTS, Deployment
from dry_play import ROOT, TRUSTED, Host, Players

FOLDER = "/etc/dagster/secrets"
EVERY = [f"{FOLDER}/{name}" for name in ("gone", "pipeline", "reporting")]
HERE = {"ctl1": ["pipeline"], "ctl2": ["reporting"], "run": ["pipeline", "reporting"]}
# What an earlier release, which wrote all secrets to all of these hosts, has left, and a location that is gone.
LEFT = {"ctl1": ["gone", "reporting"], "ctl2": ["gone", "pipeline"], "run": ["gone"]}
HOSTS = ["db", "edge1", "edge2", "ctl1", "ctl2", "run"]


@functools.cache
def upgraded(*run_mounts: str) -> dict[str, Host]:
    """The hosts of the shipped cluster after a play over a deployment that has the secrets of all locations."""
    cluster = Deployment(("inventories/cluster",), facts={"paths": EVERY}, run_mounts=run_mounts)
    return Players(cluster).hosts


def removed(host: Host) -> list[str]:
    """The paths that a host loses below the folder of secrets, in the order of the plays."""
    calls = [arguments for task in host.given for arguments in task.values() if isinstance(arguments, dict)]
    files = [entry for arguments in calls for entry in files_of(arguments)]
    return [path for path, state in files if state == "absent" and path.startswith(FOLDER)]


def files_of(arguments: dict[str, Any]) -> list[tuple[str, str]]:
    return [(str(entry["dest"]), str(entry.get("state"))) for entry in arguments.get("files") or []]


def place(host: Host, what: str, path: str = "") -> list[int]:
    """The numbers of the tasks that call a module, with a path among their files if one is given."""
    return [
        number
        for number, task in enumerate(host.given)
        if what in task and (not path or path in [name for name, _state in files_of(task[what])])
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_gets_the_secrets_of_what_starts_there(name: str) -> None:
    """Two code servers on two hosts, all runs on a third one; the others start no code."""
    host = upgraded()[name]
    written = [path for path in host.written if path.startswith(FOLDER)]
    assert written == [f"{FOLDER}/{location}/aws" for location in HERE.get(name, [])]
    assert removed(host) == [f"{FOLDER}/{location}" for location in LEFT.get(name, [])]
    texts = [text for path, text in host.written.items() if not path.endswith("environment.secret")]
    assert ("aws_secret_access_key = key" in "".join(texts)) == (name in HERE)


@pytest.mark.parametrize("name", HERE)
def test_secrets_are_there_before_their_code_server_and_go_after_it(name: str) -> None:
    host = upgraded()[name]
    (servers,) = place(host, "dataops.dagster.code_containers")
    (written,) = place(host, "dataops.dagster.files", f"{FOLDER}/{HERE[name][0]}/aws")
    (gone,) = place(host, "dataops.dagster.files", f"{FOLDER}/gone")
    assert written < servers < gone
    # All that starts runs knows the new place of runs by then.
    roles = [str(task.get("play", {}).get("role", "")) for task in host.given]
    daemons = [number for number, role in enumerate(roles) if role.endswith(".daemon")]
    assert all(number < gone for number in daemons)
    assert bool(daemons) == name.startswith("ctl")


@pytest.mark.parametrize("name", HERE)
def test_runs_in_progress_keep_their_secrets(name: str) -> None:
    """The control is the same host without runs."""
    assert f"{FOLDER}/gone" in removed(upgraded()[name])
    host = upgraded(f"{FOLDER}/gone", "/var/lib/dagster")[name]
    assert removed(host) == [f"{FOLDER}/{location}" for location in LEFT[name][1:]]
    said = [str(task["ansible.builtin.debug"]["msg"]) for task in host.given if "ansible.builtin.debug" in task]
    words = f"{FOLDER}/gone not needed any more, but still in use by runs in progress."
    assert [message for message in said if message.startswith(words)], said


LOGINS = [
    *("/etc/dagster/code/pgpass", "/etc/dagster/containers/pgpass"),
    *("/etc/dagster/users/1000/code/pgpass", "/etc/dagster/users/1000/containers/pgpass"),
]


def logins_gone(host: Host) -> list[int]:
    """The tasks that take a login away."""
    return [
        number
        for path in LOGINS[:2]
        for number in place(host, "dataops.dagster.files", path)
        if path not in host.written
    ]


@pytest.mark.parametrize(("name", "kept"), [("ctl1", "code"), ("run", "containers")])
def test_each_host_has_the_logins_of_what_starts_there(name: str, kept: str) -> None:
    """An earlier release wrote both everywhere, and runs may have started on another host before."""
    other = {"code": "containers", "containers": "code"}[kept]
    host = Players(Deployment(("inventories/cluster",), facts={"paths": LOGINS})).hosts[name]
    assert f"/etc/dagster/{kept}/pgpass" in host.written
    assert f"/etc/dagster/{other}/pgpass" not in host.written
    (gone,) = logins_gone(host)
    roles = [str(task.get("play", {}).get("role", "")) for task in host.given]
    assert all(number < gone for number, role in enumerate(roles) if role.endswith((".daemon", ".code_location")))


def test_runs_in_progress_keep_their_login() -> None:
    """Of a host on which none start any more."""
    mounts = ("/etc/dagster/containers",)
    host = Players(Deployment(("inventories/cluster",), facts={"paths": LOGINS}, run_mounts=mounts)).hosts["ctl1"]
    assert logins_gone(host) == []


def test_nothing_left_costs_no_call() -> None:
    """A first installation and each later play of the same ask no engine and remove nothing."""
    for host in Players(DEPLOYMENTS["cluster"]).hosts.values():
        assert removed(host) == []
        plays = [task["play"]["hosts"] for task in host.given if "play" in task]
        assert plays
        asked = [task["dataops.dagster.host_facts"] for task in host.given if "dataops.dagster.host_facts" in task]
        assert not [arguments for arguments in asked if arguments.keys() == {"engine"}]


PLAYED: dict[str, Any] = {"dagster_daemon_units": {}}


@pytest.mark.parametrize(
    ("left_out", "runs", "login", "gone"),
    [
        ([], True, True, True),
        ([], False, False, True),
        (["ctl1"], False, False, True),  # --limit to a host that has never started a run
        (["ctl1"], True, True, False),  # --limit, and the daemon there may start what has gone from the inventory
        (["ctl1", "ctl2"], True, True, False),  # --tags code_location
        (["ctl1"], False, True, False),  # runs have started here until now
    ],
)
def test_secrets_wait_for_a_daemon_that_may_start_runs(
    left_out: list[str], runs: bool, login: bool, gone: bool
) -> None:
    play = next(
        play for play in load("playbooks/part_close_old_access.yml") if play["name"] == "Secrets of other hosts"
    )
    hosts = {name: {"inventory_hostname": name, **({} if name in left_out else PLAYED)} for name in ("ctl1", "ctl2")}
    role = load("roles/code_location/vars/main.yml")
    names = ("__dagster_code_secrets", "__dagster_code_daemon", "__dagster_code_locations")
    variables = {
        **{name: text for name, text in role.items() if name.startswith(names)},
        **play["vars"],
        "dagster": {"home": "/etc/dagster"},
        "dagster_code_locations": [{"name": "a", "secrets": {"x": "y"}}],
        "dagster_plan": {
            "code_location": {"here": ["a"], "runs": runs, "logins_left": []},
            "compute_logs": {"key": ""},
        },
        "dagster_host": {"paths": [f"{FOLDER}/a", f"{FOLDER}/gone", *(["/login"] if login else [])]},
        "groups": {"dagster_daemon": list(hosts)},
        "hostvars": hosts,
        "__dagster_code_password_of_runs": {"dest": "/login"},
        "__dagster_code_mounts": {"host": {"engine": {"run_mounts": []}}},
    }

    def value(name: str, **changes: Any) -> Any:
        return Templar(loader=DataLoader(), variables={**variables, **changes}).template(variables[name])

    assert value("__dagster_daemons_left_out") == left_out
    expected = [{"dest": f"{FOLDER}/gone", "state": "absent"}]
    assert value("__dagster_code_secrets_gone") == (expected if gone else [])
    silent: dict[str, Any] = {"host": {"engine": {}}}
    assert value("__dagster_code_secrets_gone", __dagster_code_mounts=silent) == [], "the engine has not answered"


def load(path: str) -> Any:
    return DataLoader().load_from_file(str(ROOT / path), **TRUSTED)


@pytest.mark.parametrize(
    ("runs", "chosen", "expected"),
    [
        (False, None, {"b": "of b"}),
        (True, None, {"a": "of a", "b": "of b"}),
        (False, [{"name": "own", "secrets": "mine"}], {"own": "mine"}),
        (True, [{"name": "b", "secrets": "mine"}], {"a": "of a", "b": "mine"}),
        (False, [], {}),
    ],
)
def test_locations_that_start_on_a_host(runs: bool, chosen: list[Any] | None, expected: dict[str, str]) -> None:
    """What the user has chosen for a host (dagster_code_locations_here) is what its code servers are."""
    role = load("roles/code_location/vars/main.yml")
    variables = {
        **{name: text for name, text in role.items() if name.startswith("__dagster_code_locations")},
        "dagster_code_locations": [{"name": name, "secrets": f"of {name}"} for name in ("a", "b")],
        "dagster_plan": {"code_location": {"here": ["b"], "runs": runs}, "compute_logs": {"key": ""}},
        **({} if chosen is None else {"dagster_code_locations_here": chosen}),
    }
    found = Templar(loader=DataLoader(), variables=variables).template(role["__dagster_code_locations_started"])
    assert {entry["name"]: entry["secrets"] for entry in found} == expected
    assert len(found) == len(expected)
