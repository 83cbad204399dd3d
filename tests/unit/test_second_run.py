"""A second run of site.yml with nothing to do: which modules it sends to hosts, and when it asks a host after all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from deployments import Deployment
from support import ROOT
from two_runs import Twice, World, second, sent

Json = dict[str, Any]
SINGLE = Deployment(("inventories/single_host",))
# Each costs 0.3 CPU s. Only what no snapshot can say is asked: database, code servers, the health of the whole.
QUIET = ["host_facts", "community.postgresql.postgresql_query", "schema", "code_containers", "instance_info"]


@functools.cache
def quiet(name: str) -> Twice:
    return second(Deployment((f"inventories/{name}",)))


def test_calls_of_one_host() -> None:
    assert sent(quiet("single_host")) == QUIET


def test_calls_of_a_cluster() -> None:
    players = quiet("cluster")
    assert {host: sent(players, [host]) for host in players.hosts} == {
        "db": ["host_facts", "community.postgresql.postgresql_query"],
        "edge1": ["host_facts", "schema", "instance_info"],
        "edge2": ["host_facts", "instance_info"],
        **{host: ["host_facts", "code_containers"] for host in ("ctl1", "ctl2", "run")},
    }


def test_calls_of_the_other_database() -> None:
    players = second(Deployment(("inventories/cluster",), extra={"dagster_database_engine": "mysql"}))
    query = "community.mysql.mysql_query"
    assert sent(players, ["db"]) == ["host_facts", query, query], "its certificate, and whether all is as wanted"
    assert sent(players, ["edge1"]) == sent(quiet("cluster"), ["edge1"])


def edited(path: str) -> Callable[[dict[str, World]], None]:
    def change(worlds: dict[str, World]) -> None:
        assert path in worlds["dagster1"].texts
        worlds["dagster1"].texts[path] += "# by hand\n"

    return change


def stopped(unit: str) -> Callable[[dict[str, World]], None]:
    return lambda worlds: worlds["dagster1"].units.remove(unit)


def owned(path: str) -> Callable[[dict[str, World]], None]:
    return lambda worlds: worlds["dagster1"].paths[path].update(st_uid=4711)


def without_image(worlds: dict[str, World]) -> None:
    worlds["dagster1"].images.clear()


def without(path: str) -> Callable[[dict[str, World]], None]:
    return lambda worlds: worlds["dagster1"].write({"dest": path, "state": "absent"})


# What somebody has changed by hand, and all that is sent then. From the role that mends it on, the host is asked.
HEAD, ENDING = QUIET[:4], [*QUIET[4:], "host_facts"]
DRIFT: dict[str, tuple[Callable[[dict[str, World]], None], list[str]]] = {
    "site of nginx": (edited("/etc/nginx/conf.d/dagster.conf"), [*HEAD, "service", "service", *ENDING]),
    "nginx that is down": (stopped("nginx.service"), [*HEAD, "service", "service", *ENDING]),
    # The daemon was mended, so the canary proves it.
    "secret of the daemon": (
        edited("/etc/dagster/daemon.pgpass"),
        [*HEAD, "service", *ENDING, "service", "dagster_run", "service"],
    ),
    "owner of a password": (
        owned("/etc/dagster/code/pgpass"),
        [*QUIET[:3], "service", "code_containers", *(["service"] * 4), *ENDING],
    ),
    "dagster.yaml": (
        edited("/etc/dagster/dagster.yaml"),
        [*QUIET[:2], "config_file", "schema", "service", "code_containers", *(["service"] * 4), *ENDING],
    ),
    # An image says nothing of files.
    "no image": (without_image, [*QUIET[:2], "code_images", *QUIET[2:]]),
    "nothing known of an image": (
        without("/usr/local/lib/dagster/proven_images.json"),
        [*QUIET[:2], "code_images", *QUIET[2:]],
    ),
}


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_mended_as_without_a_snapshot(what: str) -> None:
    change, wanted = DRIFT[what]
    assert sent(second(SINGLE, change)) == wanted


def test_only_site_yml_reads_a_snapshot() -> None:
    """In other plays an operator's own tasks may come in between, or nothing is compared."""
    for playbook, reads in (("site.yml", True), ("health.yml", False), ("preflight.yml", False)):
        players = second(Deployment(SINGLE.inventories, playbooks=("site.yml", playbook)))
        (*_first, last) = [task for task in players.hosts["dagster1"].given if "dataops.dagster.preflight" in task]
        assert last["dataops.dagster.preflight"]["snapshot"] is reads, playbook
        assert ("snapshot" in last["dataops.dagster.preflight"]["host_facts"]) is reads


def test_a_change_of_the_database_has_every_host_asked() -> None:
    """It may restart, and the daemons of other hosts with it."""

    def change(worlds: dict[str, World]) -> None:
        (path,) = (path for path in worlds["db"].texts if path.endswith("/conf.d/dagster.conf"))
        worlds["db"].texts[path] += "# by hand\n"

    before, players = quiet("cluster"), second(Deployment(("inventories/cluster",)), change)
    assert {host for host in players.hosts if "service" in sent(players, [host])} == set(players.hosts)
    assert {host for host in before.hosts if "service" in sent(before, [host])} == set()


def test_a_network_that_was_made_has_the_host_asked() -> None:
    def change(worlds: dict[str, World]) -> None:
        worlds["dagster1"].networks = False

    modules = sent(second(SINGLE, change))
    assert modules.index("community.docker.docker_network") < modules.index("service")
    assert modules.count("host_facts") == 2, "the stamps tell a network, so the last good canary has not proven it"


# --- what is changed by modules that are not ours ---------------------------------------------------------------------

# These change no host.
READING = {
    *("assert", "debug", "fail", "group_by", "import_playbook", "import_role", "import_tasks", "include_role"),
    *("include_tasks", "meta", "set_fact", "slurp"),
}
PIPES = {"community.crypto.openssl_csr_pipe", "community.crypto.x509_certificate_pipe"}
# Modules of ours without an action that ends a snapshot: they read, try, or launch a run.
OURS_READING = {"dagster_run", "end_snapshot", "instance_info", "preflight", "validate"}
END = "dataops.dagster.end_snapshot"


def changing(entries: Any) -> Iterator[list[Json]]:
    """Each list of tasks, with those of its blocks."""
    for entry in entries or []:
        for part in ("tasks", "block", "always", "rescue", "handlers"):
            yield from changing(entry.get(part))
    yield [entry for entry in entries or [] if isinstance(entry, dict)]


def is_foreign_change(task: Json) -> bool:
    """Whether a task of a module that is not ours may change a managed host."""
    found = {key for key in task if "." in key and not key.startswith("dataops.dagster.")} - PIPES
    found = {key for key in found if key.removeprefix("ansible.builtin.") not in READING}
    return bool(found) and task.get("changed_when") is not False and task.get("delegate_to") != "localhost"


def test_a_snapshot_ends_before_a_module_of_others_changes_a_host() -> None:
    found = 0
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/part_*.yml")]:
        for tasks in changing(yaml.safe_load(path.read_text(encoding="utf-8"))):
            for number, task in enumerate(tasks):
                if is_foreign_change(task):
                    found += 1
                    ends = [other for other in tasks[:number] if END in other]
                    assert any(end.get("when") in (None, task.get("when")) for end in ends), f"{path}: {task['name']}"
    assert found > 10


def test_a_snapshot_ends_with_each_change_of_ours() -> None:
    """An action of ours answers for its module, and ends it."""
    modules = {path.stem for path in ROOT.glob("plugins/modules/[a-z]*")} - OURS_READING
    modules -= {"config_file"}  # of dagster_yaml
    actions = {path.stem for path in ROOT.glob("plugins/action/[a-z]*.py") if "snapshot." in path.read_text()}
    assert modules - actions <= {"service"}, "service is that of files"
