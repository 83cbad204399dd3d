"""What a new system costs: a component, a role, a line for its group, a play, and no other file.

The collection is copied with a system that exists for this test only (example_system/). Whatever needs to know of all
systems has to know of it: the check of ports, the one call of apt, the sum of memory, the last words of the health
gate, the README and the check of variables.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import copy_collection

SYSTEM = Path(__file__).parent / "example_system"
SITE_PLAY = """
- name: Metrics
  hosts: dagster_metrics
  become: true
  gather_facts: false
  any_errors_fatal: true
  roles:
    - role: dataops.dagster.metrics
"""
LAST_GROUP = "      dagster_proxy: [proxy, vip, firewall]\n"
# Plays site.yml on one host with the group of the system, and writes what its plan and its tasks are.
PROGRAM = """
import json, sys
import conftest, dry_play
from ansible.errors import AnsibleActionFail
extra, facts = json.loads(sys.argv[1])
inventory = ("inventories/single_host", "metrics.yml")
try:
    host = dry_play.Players(dry_play.Deployment(inventory, extra=extra, facts=facts)).hosts["dagster1"]
    found = {"plan": host.facts["dagster_plan"], "given": host.given, "written": host.written}
    print(json.dumps(dry_play.plain({**found, "options": host.facts["dagster"]})))
except AnsibleActionFail as error:
    print(json.dumps({"refused": str(error)}))
"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection with the system in it."""
    root = copy_collection(tmp_path_factory.mktemp("collection"))
    for name in ("plugins", "roles"):
        shutil.copytree(SYSTEM / name, root / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    preflight, site = root / "playbooks/preflight.yml", root / "playbooks/site.yml"
    text = preflight.read_text(encoding="utf-8")
    assert LAST_GROUP in text
    preflight.write_text(text.replace(LAST_GROUP, f"{LAST_GROUP}      dagster_metrics: [metrics]\n"), encoding="utf-8")
    with site.open("a", encoding="utf-8") as stream:
        stream.write(SITE_PLAY)
    (root / "metrics.yml").write_text("dagster_metrics: {hosts: {dagster1: }}\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def play(collection: Path) -> Callable[..., dict[str, Any]]:
    """Plays site.yml with variables and facts of the host."""

    def played(facts: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
        argument = json.dumps([extra, {"memory_mb": 16000, **(facts or {})}])
        command = [sys.executable, "-c", PROGRAM, argument]
        folder = collection / "tests/unit"
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return played


def test_the_system_is_deployed(play: Callable[..., dict[str, Any]]) -> None:
    found = play(dagster_metrics_port=9101)
    plan = found["plan"]
    assert plan["packages"]["metrics"] == ["metrics-exporter"]
    calls = [task["dataops.dagster.packages"]["name"] for task in found["given"] if "dataops.dagster.packages" in task]
    assert {"metrics-exporter", "postgresql-15"} <= set(calls[0]), "all of a host are one call"
    assert "_SYSTEMD_UNIT=metrics.service" in plan["health"]["journals"][0]["matches"]
    assert found["options"]["metrics_targets"] == ["10.0.0.1"]
    assert found["written"]["/etc/metrics"] == "10.0.0.1:9101"


def test_what_the_user_sets_wins(play: Callable[..., dict[str, Any]]) -> None:
    assert play(dagster_metrics_targets=["a", "b"])["written"]["/etc/metrics"] == "a b:9100"


@pytest.mark.parametrize(
    ("facts", "extra", "words"),
    [
        ({}, {"dagster_metrics_port": 8080}, "port 8080 is set 2 times on one host"),
        (
            {"listeners": [{"port": 9100, "address": "127.0.0.1", "process": "x", "unit": "x.service"}]},
            {},
            "port 9100 is held by x of x.service on 127.0.0.1; stop it or change dagster_metrics_port",
        ),
        ({"memory_mb": 5000}, {}, "1 x metrics of 5000"),
        ({}, {"dagster_metrics_prot": 1}, "did you mean dagster_metrics_port?"),
        ({}, {"dagster_metrics_port": "many"}, "dagster_metrics_port"),
    ],
)
def test_what_is_wrong_with_it_is_told(
    play: Callable[..., dict[str, Any]], facts: dict[str, Any], extra: dict[str, Any], words: str
) -> None:
    refused = play(facts, **extra)["refused"]
    assert refused.count("\n- ") == 1, refused
    assert words in refused


def test_its_options_stand_in_its_readme(collection: Path) -> None:
    subprocess.run([sys.executable, "tools/docs.py"], cwd=collection, check=True, timeout=60)
    given, derived = (collection / "roles/metrics/README.md").read_text(encoding="utf-8").split("### Derived")
    assert "| `dagster_metrics_port` | int | `9100` | Port to listen on. |" in given
    assert "| `dagster_metrics_targets` | list of str |  | Addresses of the webservers. |" in derived
