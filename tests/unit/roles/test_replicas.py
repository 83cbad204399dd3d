"""Role webserver: what it does with replicas that are no longer listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from deployments import Deployment
from dry_play import Players

READ_ONLY = "/etc/systemd/system/dagster-webserver-read-only@.service"


def calls(*running: str, **extra: Any) -> list[tuple[str, str]]:
    """Each file and each unit that the host of one is given, in order, with its state."""
    listeners = [{"port": 1, "address": "127.0.0.1", "process": "x", "unit": unit} for unit in running]
    deployment = Deployment(("inventories/single_host",), extra=extra, facts={"listeners": listeners})
    found = []
    for task in Players(deployment).hosts["dagster1"].given:
        for module in ("files", "service", "units"):
            call = task.get(f"dataops.dagster.{module}", {})
            found += [(str(entry["dest"]), str(entry.get("state", "file"))) for entry in call.get("files", [])]
            found += [(str(unit["name"]), str(unit.get("state", "started"))) for unit in call.get("units", [])]
    return found


def test_replica_is_stopped_once_no_proxy_asks_it() -> None:
    """Its place in HAProxy goes first."""
    found = calls("dagster-webserver@3001.service", dagster_webserver_ports=[3000])
    stop = found.index(("dagster-webserver@3001.service", "stopped"))
    assert (
        found.index(("haproxy-dagster.service", "started")) < stop < found.index(("dagster-daemon.service", "started"))
    )
    assert ("dagster-webserver@3000.service", "started") in found


def test_where_all_are_listed_nothing_is_asked() -> None:
    found = calls("dagster-webserver@3000.service", "dagster-webserver@3001.service")
    assert [name for name, state in found if state == "stopped" and "webserver" in name] == []
    assert [state for name, state in found if name == READ_ONLY] == ["absent"]


def test_unit_of_a_read_only_webserver_goes_after_it() -> None:
    """systemd cannot disable what it has no unit file for."""
    unit = "dagster-webserver-read-only@3009.service"
    found = calls(unit)
    assert [state for name, state in found if name == READ_ONLY] == ["file", "absent"]
    assert found.index((unit, "stopped")) < found.index((READ_ONLY, "absent"))
    found = calls(unit, dagster_webserver_read_only_port=3010)
    assert [state for name, state in found if name == READ_ONLY] == ["file"], "another one has it"
    assert (unit, "stopped") in found


@pytest.mark.parametrize(
    ("played", "left_out"), [(["edge1", "edge2"], []), (["edge1"], ["edge2"]), ([], ["edge1", "edge2"])]
)
def test_replica_stays_until_every_proxy_was_played(played: list[str], left_out: list[str]) -> None:
    """--tags webserver and --limit leave proxies out, which still ask the old ports."""
    path = Path(__file__).resolve().parents[3] / "playbooks/part_stop_replicas.yml"
    (play,) = yaml.safe_load(path.read_text(encoding="utf-8"))
    hosts: dict[str, dict[str, Any]] = {
        name: {"inventory_hostname": name, **({"__dagster_proxy_units": {}} if name in played else {})}
        for name in ("edge1", "edge2")
    }
    templar = Templar(loader=DataLoader(), variables={"groups": {"dagster_proxy": [*hosts]}, "hostvars": hosts})
    assert templar.template(trust_as_template(play["vars"]["__dagster_proxies_left_out"])) == left_out
    (stop,) = (task for task in play["tasks"] if "ansible.builtin.include_role" in task)
    assert "__dagster_proxies_left_out == []" in stop["when"]
