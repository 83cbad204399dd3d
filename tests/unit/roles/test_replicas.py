"""Role webserver: what it does with replicas that are no longer listed."""

from __future__ import annotations

from typing import Any

from dry_play import Deployment, Players

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
