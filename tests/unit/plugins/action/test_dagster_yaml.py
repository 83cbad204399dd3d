"""Action dagster_yaml: what it refuses on the controller, and what it sends to the host."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.dataops.dagster.plugins.action import dagster_yaml
from ansible_collections.dataops.dagster.plugins.module_utils._host.snapshot import mark
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

CONFIG = {"telemetry": {"enabled": False}, "storage": {"postgres": {"postgres_url": {"env": "URL"}}}}


class Host:
    """Runs an action without a play; the host answers `answer`."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"changed": False, "path": "/x", "problems": [], "checked_by": "Dagster"}

    def run(self, **changes: Any) -> dict[str, Any]:
        args = {
            "path": "/etc/dagster/dagster.yaml",
            "python": "/opt/python",
            "dagster_version": "1.13.27",
            "env": {"URL": "x", "PORT": 1},
            "secret_env": {},
            "config": CONFIG,
            **changes,
        }
        args = {name: value for name, value in args.items() if value is not None}
        task = SimpleNamespace(args=args, async_val=0, check_mode=False, diff=True, action="dagster_yaml")
        task.delegate_to = None
        templar = Templar(loader=DataLoader(), variables={})
        shell = SimpleNamespace(tmpdir=None)
        action = dagster_yaml.ActionModule(task, SimpleNamespace(_shell=shell), SimpleNamespace(), None, templar, None)
        action._execute_module = self.execute
        result: dict[str, Any] = action.run(task_vars={})
        return result

    def execute(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        assert module_name == "dataops.dagster.config_file"
        assert task_vars == {}
        self.sent.append(module_args)
        return {**self.answer, "invocation": {"module_args": module_args}}


@pytest.fixture
def host() -> Host:
    return Host()


def test_one_call_with_the_checked_text(host: Host) -> None:
    result = host.run(mode="0600", group="dagster")
    assert result["harms"] == []
    assert "invocation" not in result
    (sent,) = host.sent
    content = sent.pop("content")
    assert content.startswith("# Managed by the Ansible collection dataops.dagster: change dagster_config")
    assert "# Checked with Dagster 1.13.27.\n" in content
    assert yaml.safe_load(content) == CONFIG
    assert sent.pop("unsafe_writes") is False
    assert sent == {
        "path": "/etc/dagster/dagster.yaml",
        "python": "/opt/python",
        "dagster_version": "1.13.27",
        "env": {"URL": "x", "PORT": 1},
        "secret_env": {},
        "validate": "strict",
        "mode": "0600",
        "group": "dagster",
    }


def test_staging_is_handed_on(host: Host) -> None:
    host.run(stage=True)
    assert host.sent[0]["stage"] is True


def test_the_comment_names_what_it_was_checked_with(host: Host) -> None:
    host.run(validate="catalogue")
    assert "# Checked with the catalogue of Dagster 1.13.27.\n" in host.sent[0]["content"]


def test_bad_content_never_leaves_the_controller(host: Host) -> None:
    storage = {"postgres": {"postgres_url": "postgresql://u:hunter2@h/d"}}
    result = host.run(config={"bogus": 1, "telemetry": {"enabled": "no"}, "storage": storage})
    assert host.sent == []
    assert (result["failed"], result["changed"]) == (True, False)
    assert [(problem["path"], problem["name"]) for problem in result["problems"]] == [
        ("bogus", "error"),
        ("telemetry.enabled", "error"),
        ("storage.postgres.postgres_url", "literal_secret"),
    ]
    first, *lines = result["msg"].splitlines()
    assert first == "/etc/dagster/dagster.yaml was not written, 3 problems; change dagster_config in the inventory:"
    assert lines[1].endswith("write no without quotes (in a template: {{ x | bool }})")
    assert lines[2].endswith("(allow: literal_secret)")
    assert "hunter2" not in json.dumps(result)


def test_variables_that_the_services_lack(host: Host) -> None:
    result = host.run(env={"URI": "x"})
    assert "the services have no environment variable URL; did you mean URI?" in result["msg"]


def test_allowed_secret_is_written_and_not_shown(host: Host) -> None:
    storage = {"postgres": {"postgres_url": "postgresql://u:hunter2@h/d"}}
    host.answer = {"changed": True, "diff": {"before": "", "after": "storage: {postgres: {url: 'pg://u:hunter2@h'}}"}}
    result = host.run(config={"storage": storage}, allow=["literal_secret:storage.postgres.postgres_url"])
    assert "hunter2" in host.sent[0]["content"]
    assert "hunter2" not in json.dumps(result)


def test_what_changes_and_what_harms_is_told_once(host: Host) -> None:
    config = {**CONFIG, "run_queue": {"max_concurrent_runs": 0}}
    assert "warnings" not in host.run(config=config), "nothing was written"
    old = "telemetry: {enabled: true}\nnux: {enabled: false}\n"
    host.answer["diff"] = {"before": old, "after": "telemetry: {enabled: false}\n"}
    result = host.run(config=config)
    assert result["changed_keys"] == ["nux", "telemetry.enabled"]
    (warning,) = result["warnings"]
    assert warning.startswith("dagster_config: run_queue.max_concurrent_runs: found 0")
    assert [harm["name"] for harm in result["harms"]] == ["no_runs"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dagster_version": "1.9.0"}, r"1\.9\.0 has no catalogue; there are ones for 1\.13"),
        ({"validate": "maybe"}, "strict, catalogue"),
        ({"path": None}, "path"),
    ],
)
def test_wrong_arguments(host: Host, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleActionFail, match=message):
        host.run(**changes)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a: 1", "a: 1", []),
        ("a: {b: 1, c: [1]}", "a: {b: 1, c: [2]}\nd: 1", ["a.c", "d"]),
        ("", "a: 1", ["a"]),
        ("not: [yaml", "a: 1", []),
    ],
)
def test_changed_keys(before: str, after: str, expected: list[str]) -> None:
    assert dagster_yaml.changed_keys(before, after) == expected


def test_a_file_that_preflight_has_seen_costs_no_call(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"mode": "0640", "group": "dagster", "stage": True}
    path = "/etc/dagster/dagster.yaml"
    host.run(**wanted)
    text = mark(snapshot.KEY, path, host.sent.pop()["content"].encode())
    entry = {"st_mode": 0o100640, "st_uid": 0, "st_gid": 7, "st_mtime": 1.0, "mark": text}
    owners = {"user": {"root": 0}, "group": {"dagster": 7}}
    read = snapshot.Snapshot({"places": ["/etc/dagster/*"], "entries": {path: entry}, "owners": owners, "units": {}})
    monkeypatch.setattr(snapshot, "of", lambda *_arguments: read)
    result = host.run(**wanted)
    assert (result["changed"], result["problems"], result["checked_by"]) == (False, [], "Dagster 1.13.27")
    assert (result["harms"], "invocation" in result, host.sent) == ([], False, [])
    others: tuple[dict[str, Any], ...]
    others = ({"mode": "0600"}, {"group": "other"}, {"seuser": "x"}, {"validate": "catalogue"}, {"config": {}})
    for other in others:
        host.run(**{**wanted, **other})
        assert host.sent.pop()["path"] == path, other
