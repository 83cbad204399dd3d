"""The shipped inventories: who reaches whom in each, before anybody has a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

from ansible_collections.dataops.dagster.plugins.action import preflight
from ansible_collections.dataops.dagster.plugins.module_utils import _preflight as check

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir())


def groups(name: str) -> dict[str, list[str]]:
    found = InventoryManager(loader=DataLoader(), sources=[str(ROOT / "inventories" / name)]).get_groups_dict()
    return {kind: list(found.get(f"dagster_{kind}", [])) for kind in check.ROLES}


def values(name: str) -> dict[str, Any]:
    """The defaults of all roles with what the inventory sets, its templates as they are."""
    found = {
        variable: option.get("default")
        for options in preflight.specs().values()
        for variable, option in options.items()
    }
    for path in sorted((ROOT / "inventories" / name / "group_vars").rglob("*.yml")):
        found.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return found


@pytest.mark.parametrize("name", INVENTORIES)
def test_inventory_is_accepted(name: str) -> None:
    hosts, variables = groups(name), values(name)
    specs = {variable for options in preflight.specs().values() for variable in options}
    assert check.unknown_names(variables, specs) == []
    assert (
        check.location_problems(
            [{**location, "env": location.get("env") or {}} for location in variables["dagster_code_locations"]],
            hosts["code"],
        )
        == []
    )
    ours = yaml.safe_load((ROOT / "roles" / "instance" / "vars" / "main.yml").read_text(encoding="utf-8"))
    config = preflight.merged(ours, variables)
    assert check.compute_log_problems(hosts, variables, config) == []
    assert check.budget_problems(check.connection_budget(hosts, variables, config)) == []
    assert check.group_problems(hosts, "") == []
    assert check.daemon_problems(hosts, variables, "") == []


def test_cluster() -> None:
    hosts = groups("cluster")
    names = sorted({name for found in hosts.values() for name in found})
    assert names == ["ctl1", "ctl2", "db", "edge1", "edge2", "run"]
    addresses = {name: f"10.0.0.{number}" for number, name in enumerate(names, 1)}
    found = {name: check.topology(name, hosts, addresses, values("cluster")) for name in names}
    for name in ("ctl1", "ctl2", "edge1", "edge2"):
        assert found[name]["docker_endpoint"] == "tcp://10.0.0.6:2376"
        assert found[name]["docker_ca_host"] == "run"
        assert found[name]["database_host"] == "10.0.0.3"
    assert found["run"]["docker_tls_address"] == "10.0.0.6"
    assert {name for name in names if found[name]["docker_tls_address"]} == {"run"}
    assert found["run"]["code_images"] == ["pipeline", "reporting"]
    assert found["run"]["code_locations"] == []
    assert (found["ctl1"]["code_locations"], found["ctl2"]["code_images"]) == (["pipeline"], ["reporting"])
    assert found["edge1"]["webserver_addresses"] == found["edge2"]["webserver_addresses"] == ["10.0.0.4", "10.0.0.5"]
    assert [(endpoint["host"], endpoint["port"]) for endpoint in found["edge1"]["code_endpoints"]] == [
        ("10.0.0.1", 4000),
        ("10.0.0.2", 4000),
    ]
    runs = {"address": "10.0.0.6/32", "users": ["dagster_run"]}
    assert runs in found["db"]["postgres_clients"]
    assert found["db"]["postgres_listen"] == ["10.0.0.3", "127.0.0.1"]
