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
        [*QUIET[:3], "service", "code_containers", *(["service"] * 3), *ENDING],
    ),
    "dagster.yaml": (
        edited("/etc/dagster/dagster.yaml"),
        [*QUIET[:2], "config_file", "schema", "service", "code_containers", *(["service"] * 3), *ENDING],
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


# --- what is changed by modules that are not ours ---------------------------------------------------------------------

READING = {
    *("assert", "debug", "fail", "group_by", "import_playbook", "import_role", "import_tasks", "include_role"),
    *("include_tasks", "meta", "set_fact", "slurp"),
}
# A module of somebody else does not end a snapshot. So each one that changes a host has a reason why no role that comes
# after it in the same run believes anything else than what is there.
FOREIGN = {
    "ansible.builtin.group": "a new number is no owner in a snapshot, which is then asked for on the host",
    "ansible.builtin.user": "as a group",
    "ansible.builtin.command": "makes a cluster, installs, restarts: after files were written. Trusts certificates and "
    "reads journals: beside what roles compare",
    "ansible.builtin.tempfile": "on the controller",
    "ansible.builtin.file": "on the controller",
    "community.crypto.openssl_csr_pipe": "writes nothing",
    "community.crypto.openssl_privatekey": "no role compares the text of a key that a host has made",
    "community.crypto.x509_certificate_pipe": "writes nothing",
    "community.docker.docker_network": "the health gate looks at its result, because stamps tell a network",
    "community.postgresql.postgresql_query": "in the database",
}


def modules(entries: Any) -> Iterator[str]:
    """The modules of tasks, plays and blocks."""
    for entry in entries or []:
        yield from (key for key in entry if "." in key)
        for part in ("tasks", "block", "always", "rescue", "handlers"):
            yield from modules(entry.get(part))


def test_modules_of_others_that_change_a_host_are_known() -> None:
    """Who adds one says here why a snapshot stays true, or has it end."""
    paths = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
    texts = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths]
    found = {name for entries in texts if isinstance(entries, list) for name in modules(entries)}
    theirs = {name for name in found if not name.startswith("dataops.dagster.")}
    assert {name for name in theirs if name.removeprefix("ansible.builtin.") not in READING} == FOREIGN.keys()
