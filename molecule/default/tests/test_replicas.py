"""A replica whose port is taken out of the inventory is stopped, and comes back with its port."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from deployment import Dagster, Play, identities

LISTED = "dagster-webserver@3001.service"
READ_ONLY = "dagster-webserver-read-only@3009.service"
CHANGE = json.dumps({"dagster_webserver_ports": [3000, 3002], "dagster_webserver_read_only_port": 3009})


def running(host: Any) -> set[str]:
    """The webservers that run, and those that the next boot would start."""
    listed = host.check_output("systemctl list-units --state=active --plain --no-legend 'dagster-webserver*@*'")
    links = host.check_output("ls /etc/systemd/system/multi-user.target.wants")
    names = [line.split()[0] for line in listed.splitlines()]
    return {*names, *(name for name in links.split() if name.startswith("dagster-webserver"))}


@pytest.mark.long  # tests/unit/roles/test_replicas.py plays it without hosts
def test_replica_that_is_no_longer_listed_is_stopped(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """In place of one replica there is a read-only webserver for a while."""
    others, before = {f"dagster-webserver@{port}.service" for port in (3000, 3002)}, identities(host)
    assert running(host) == {*others, LISTED}, "the control"

    shown = play("site.yml", "--check", "--diff", "-e", CHANGE)
    assert f"+++ after: {LISTED}" in shown.output, shown.output[-3000:]
    assert "+stop: is not wanted here" in shown.output
    assert identities(host) == before, "check mode touched something"

    play("site.yml", "-e", CHANGE)
    assert running(host) == {*others, READ_ONLY}
    assert host.run("systemctl is-failed %s", LISTED).stdout.strip() == "inactive"
    assert dagster.get("/server_info")[0] == 200

    play("site.yml")
    assert running(host) == {*others, LISTED}
    unit = "/etc/systemd/system/dagster-webserver-read-only@.service"
    assert host.run("test -e %s", unit).rc == 1, "its unit is left over"
