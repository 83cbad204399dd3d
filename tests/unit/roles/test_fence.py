"""When the fence goes up: never before every daemon has a login of its own."""

from __future__ import annotations

from typing import Any

from deployments import Deployment
from dry_play import Players

GUARD = "/etc/dagster/guard.json"
MODULE = "dataops.dagster.schema"


def given(unfenced: bool, **extra: Any) -> list[tuple[str, Any]]:
    """In their order: what the schema is asked of the fence, and the daemon's files."""
    lines = {GUARD: ["null"]} if unfenced else {GUARD: []}
    deployment = Deployment(("inventories/single_host",), extra=extra, facts={"lines": lines})
    found: list[tuple[str, Any]] = []
    for task in Players(deployment).hosts["dagster1"].given:
        if MODULE in task:
            found.append(("fence", task[MODULE].get("fence", {}).get("logins")))
        if any(entry["dest"] == GUARD for entry in task.get("dataops.dagster.service", {}).get("files", [])):
            found.append(("daemon", None))
    return found


def test_fence_waits_for_a_daemon_without_a_login_of_its_own() -> None:
    """It would be refused from the play of role instance on."""
    assert given(True) == [("fence", None), ("daemon", None), ("fence", "dagster_daemon")]


def test_otherwise_the_schema_is_asked_once() -> None:
    assert given(False) == [("fence", "dagster_daemon"), ("daemon", None)]


def test_lease_only_takes_the_fence_down_before_the_daemon_changes() -> None:
    for unfenced in (True, False):
        assert given(unfenced, dagster_daemon_fencing="lease_only") == [("fence", ""), ("daemon", None)]
