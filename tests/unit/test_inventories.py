"""The shipped inventories: who reaches whom in each, before anybody has a host."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.template import Templar
from deployments import Deployment
from dry_play import Players
from plans import FACTS, ROLES, read, specs

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import spec
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir())
DOCUMENTED = {variable for options in specs().values() for variable in options}


@functools.cache
def players(name: str) -> Players:
    """The hosts of an inventory with their variables, without any play."""
    return Players(Deployment((f"inventories/{name}",), playbooks=()))


def inventory(name: str) -> Inventory:
    found = players(name)
    given = {}
    for host in found.hosts.values():
        templar = Templar(loader=found.loader, variables=host.variables)
        names = host.variables.keys() & {*DOCUMENTED, "ansible_host"}
        given[host.name] = {variable: templar.template(host.variables[variable]) for variable in names}
    return read({group: found.groups.get(group, []) for group in ROLES}, given)


@pytest.mark.parametrize("name", INVENTORIES)
def test_inventory_is_accepted(name: str) -> None:
    found = inventory(name)
    assert found.hosts
    for host in players(name).hosts.values():
        assert spec.unknown_names(host.variables, DOCUMENTED) == []
        plan = Plan(found, host.name)
        assert plan.problems() == []
        assert plan.budget.problems() == []


def test_cluster() -> None:
    deployment = inventory("cluster")
    names = sorted(deployment.hosts)
    assert names == ["ctl1", "ctl2", "db", "edge1", "edge2", "run"]
    assert [deployment.address(name) for name in names] == [f"10.0.0.{number}" for number in range(1, 7)]
    found = {name: Plan(deployment, name).as_fact(FACTS) for name in names}
    options: dict[str, dict[str, Any]] = {name: fact["options"] for name, fact in found.items()}
    for name in ("ctl1", "ctl2", "edge1", "edge2"):
        assert options[name]["dagster_docker_endpoint"] == "tcp://10.0.0.6:2376"
        assert options[name]["dagster_docker_ca_host"] == "run"
        assert options[name]["dagster_database_host"] == "10.0.0.3"
    assert options["run"]["dagster_docker_tls_address"] == "10.0.0.6"
    assert {name for name in names if options[name].get("dagster_docker_tls_address")} == {"run"}
    assert options["run"]["dagster_code_images_here"] == ["pipeline", "reporting"]
    assert found["run"]["code_location"]["here"] == []
    assert found["ctl1"]["code_location"]["here"] == ["pipeline"]
    assert options["ctl2"]["dagster_code_images_here"] == ["reporting"]
    for name in ("edge1", "edge2"):
        assert options[name]["dagster_haproxy_webservers"] == ["10.0.0.4", "10.0.0.5"]
    assert [(endpoint["host"], endpoint["port"]) for endpoint in options["edge1"]["dagster_code_endpoints"]] == [
        ("10.0.0.1", 4000),
        ("10.0.0.2", 4000),
    ]
    runs = {"address": "10.0.0.6/32", "users": ["dagster_run"], "tls": True}
    assert runs in options["db"]["dagster_postgres_clients"]
    assert options["db"]["dagster_postgres_listen_addresses"] == ["10.0.0.3", "127.0.0.1"]


@pytest.mark.parametrize(
    ("name", "proxies", "places"),
    [
        ("single_host", ["dagster1"], ["127.0.0.1:3000", "127.0.0.1:3001", "127.0.0.1:3002"]),
        ("cluster", ["edge1", "edge2"], ["10.0.0.4:3000", "10.0.0.4:3001", "10.0.0.5:3000"]),
    ],
)
def test_three_replicas(name: str, proxies: list[str], places: list[str]) -> None:
    """Each proxy sends requests to all three, on whichever host they are, and the database has room for them."""
    deployment = inventory(name)
    for proxy in proxies:
        replicas = Plan(deployment, proxy).as_fact(FACTS)["proxy"]["replicas"]
        assert [f"{replica['address']}:{replica['port']}" for replica in replicas] == places
    (server,) = deployment.group("dagster_database")
    assert Plan(deployment, server).as_fact(FACTS)["options"]["dagster_postgres_max_connections"] == 300


@pytest.mark.parametrize("name", ["single_host", "cluster"])
def test_shipped_inventory_does_not_depend_on_its_folder(name: str, tmp_path: Path) -> None:
    """AWX keeps what it has read and forgets the folder; an operator copies it. The playbooks stay where they are."""
    copy = tmp_path / "mine"
    shutil.copytree(ROOT / "inventories" / name, copy)
    listed = []
    for source in (ROOT / "inventories" / name, copy):
        command = ["ansible-inventory", "-i", str(source), "--list", "--export"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        listed.append(json.loads(done.stdout))
    assert listed[0] == listed[1]
    variables = listed[0]["all"]["vars"]
    assert "inventory_dir" not in str(variables)
    contexts = {location["build"]["context"] for location in variables["dagster_code_locations"]}
    assert contexts == {"{{ playbook_dir }}/../examples/pipeline"}
    assert (ROOT / "playbooks/../examples/pipeline/Dockerfile").is_file()
