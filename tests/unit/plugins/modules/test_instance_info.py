"""instance_info, whole, against a stand-in for the webserver."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from fake_webserver import BASE, Webserver, run


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"url": "h:1"}, "url is 'h:1'"), ({"url": "https://h", "ca_path": "/nosuch"}, "ca_path cannot be read")],
)
def test_bad_connection_options_are_one_sentence(server: Webserver, changes: dict[str, Any], message: str) -> None:
    for module in ("dagster_run", "instance_info"):
        assert message in run(server, module=module, **changes)["msg"]


def test_instance_info_without_expectation_refuses_to_wait(server: Webserver) -> None:
    assert "need expect" in run(server, module="instance_info", wait="5")["msg"]


def test_instance_info_reports_problems_and_fails_only_when_told(server: Webserver) -> None:
    # The stand-in knows no GET: its 501 is a deployment that cannot be asked.
    result = run(server, module="instance_info", expect={"max_heartbeat_age": "75"})
    assert (result["failed"], result["ok"], len(result["problems"])) == (False, False, 1)
    result = run(server, module="instance_info", expect={}, fail_on_problems="true")
    assert result["failed"]
    assert "is not healthy: The deployment cannot be asked" in result["msg"]


def test_instance_info_judges_by_each_of_its_expectations(monkeypatch: pytest.MonkeyPatch, server: Webserver) -> None:
    module = importlib.import_module(BASE + "instance_info")
    judged: list[Any] = []

    def watch(_client: Any, expected: Any, wait: float, poll_interval: float) -> dict[str, Any]:
        judged.append((expected, wait, poll_interval))
        return {"ok": True, "problems": []}

    monkeypatch.setattr(module, "watch", watch)
    expect = {"dagster_version": "1.2.3", "locations": ["a"], "daemons_newer_than": 1000.5, "max_heartbeat_age": 33}
    run(server, module="instance_info", expect=expect, wait=7, poll_interval=3)
    assert judged == [(module.Expectation("1.2.3", ("a",), 1000.5, 33.0), 7.0, 3.0)]
    run(server, module="instance_info", expect={}, wait=7)
    assert judged[1:] == [(module.Expectation("", (), 0.0, 75.0), 7.0, 2.0)]


def test_instance_info_is_given_the_hosts_of_the_daemon(monkeypatch: pytest.MonkeyPatch, server: Webserver) -> None:
    """In check mode one that does not run may be new, one that cannot be asked is not."""
    module = importlib.import_module(BASE + "instance_info")
    judged: list[Any] = []

    def watch(_client: Any, expected: Any, _wait: float, poll_interval: float) -> dict[str, Any]:
        assert poll_interval
        judged.append([host.name for host in expected.daemon_hosts])
        return {"ok": True, "problems": []}

    monkeypatch.setattr(module, "watch", watch)
    hosts = [
        {"name": "a", "started": 7, "status": "active: daemon runs"},
        {"name": "b"},
        {"name": "c", "error": "no route"},
    ]
    for check in (False, True):
        run(server, check=check, module="instance_info", expect={"daemon_hosts": hosts})
    assert judged == [["a", "b", "c"], ["a", "c"]]
