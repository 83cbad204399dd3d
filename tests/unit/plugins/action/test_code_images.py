"""What the action sends to begin builds, with its module replaced."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.dataops.dagster.plugins.action import code_images
from ansible_collections.dataops.dagster.plugins.module_utils._docker import images, proven
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

FOLDER = "/home/admin/.ansible/tmp/task"
NEEDED: dict[str, Any] = {"changed": False, "needs": ["pipeline"], "needs_bases": []}
BEGUN: dict[str, Any] = {"changed": True}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    return folder


class Begin:
    """A task that begins, and the answers of its module one after the other."""

    def __init__(self, images: list[dict[str, Any]], *answers: dict[str, Any], check_mode: bool = False) -> None:
        task = MagicMock(args={"images": images, "begin": True}, check_mode=check_mode, async_val=0, environment=None)
        self.connection = MagicMock()
        self.connection._shell = SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        self.action = code_images.ActionModule(
            task, self.connection, MagicMock(), MagicMock(path_dwim=str), MagicMock(), MagicMock()
        )
        self.action._templar.template = lambda value: value
        self.action._make_tmp_path = self._make_tmp_path
        self.action._transfer_file = MagicMock()
        self.action._fixup_perms2 = MagicMock()
        self.action._remove_tmp_path = MagicMock()
        self.action._execute_module = MagicMock(side_effect=answers)

    def _make_tmp_path(self) -> None:
        self.connection._shell.tmpdir = FOLDER

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [call.kwargs["module_args"] for call in self.action._execute_module.call_args_list]


def build(context: Path) -> dict[str, Any]:
    return {"name": "pipeline", "build": {"context": str(context)}}


def test_builds_begin_with_what_they_need(context: Path) -> None:
    begin = Begin([build(context), {"name": "other", "image": "example.org/other:1"}], NEEDED, BEGUN)
    assert begin.action.run(task_vars={}) == {"changed": True, "images": {}}
    asked, begun = begin.asked
    assert "begin" not in asked
    assert begun["begin"] is True
    assert begun["staged"]["folder"] == FOLDER
    for call in (asked, begun):
        assert [item["name"] for item in call["staged"]["images"]] == ["pipeline"], "what is pulled is not begun"
    begin.action._transfer_file.assert_called_once()
    begin.action._remove_tmp_path.assert_not_called()  # the build has its files there, and removes them


def test_call_that_fails_leaves_no_files(context: Path) -> None:
    begin = Begin([build(context)], NEEDED, {"failed": True, "msg": "The engine refused."})
    result = begin.action.run(task_vars={})
    assert (result["failed"], result["msg"]) == (True, "The engine refused.")
    begin.action._remove_tmp_path.assert_called_once_with(FOLDER)


@pytest.mark.parametrize("answer", [{"changed": False, "needs": []}, {"failed": True, "msg": "No engine answers."}])
def test_nothing_is_sent_unless_it_is_needed(context: Path, answer: dict[str, Any]) -> None:
    begin = Begin([build(context)], answer)
    result = begin.action.run(task_vars={})
    assert result.get("msg") == answer.get("msg")
    begin.action._transfer_file.assert_not_called()


@pytest.mark.parametrize("check_mode", [False, True])
def test_no_call_when_nothing_can_begin(context: Path, check_mode: bool) -> None:
    """Nothing is built, or it is a check."""
    images = [build(context)] if check_mode else [{"name": "other", "image": "example.org/other:1"}]
    begin = Begin(images, check_mode=check_mode)
    assert begin.action.run(task_vars={}) == {"changed": False, "images": {}}
    assert begin.asked == []


# --- what preflight has read ------------------------------------------------------------------------------------------

INSTANCE: dict[str, Any] = {"dagster_yaml": "x: 1", "dagster_version": "1.13.27", "record": "/proven.json"}
OTHER_VERSION: dict[str, Any] = {**INSTANCE, "dagster_version": "1.13.26"}


def answered(read: dict[str, Any], check_mode: bool = False, **options: Any) -> tuple[dict[str, Any], int]:
    """The result of a task on a host that was read so, and how often its engine was asked."""
    task = MagicMock(args=options, check_mode=check_mode, async_val=0, environment=None, delegate_to="run")
    connection = MagicMock(_shell=SimpleNamespace(tmpdir=None))
    made = code_images.ActionModule(task, connection, MagicMock(), MagicMock(path_dwim=str), MagicMock(), MagicMock())
    made._templar.template = lambda value: value
    made._execute_module = MagicMock(return_value={"changed": False, "images": {}, "missing": [], "loaded": []})
    snapshot.remember("run", {"places": [], "entries": {}, **read}, snapshot.now())
    result = made.run(task_vars={"inventory_hostname": "ctl1", "playbook_dir": snapshot.PLAYBOOKS})
    return result, made._execute_module.call_count


def proof(instance: dict[str, Any]) -> str:
    return proven.digest(instance, proven.environment(instance, "etl"))


def test_images_that_preflight_has_seen_cost_no_call(context: Path) -> None:
    (wanted,), _errors = images.want_all([build(context)], str)
    known = {wanted.ref: "sha256:1", "etl:1": "sha256:2"}
    record = json.dumps({"sha256:2": {proof(INSTANCE): "1.13.27"}})
    read = {"images": known, "texts": {"/proven.json": record}}
    both = [build(context), {"name": "etl", "image": "etl:1"}]
    found, calls = answered(read, images=both)
    assert calls == 0
    assert found["images"] == {
        "pipeline": {"ref": wanted.ref, "id": "sha256:1", "action": "none"},
        "etl": {"ref": "etl:1", "id": "sha256:2", "action": "none"},
    }
    found, calls = answered(read, images=both[1:], instance=INSTANCE)
    assert (calls, found["dagster_versions"]) == (0, {"etl": "1.13.27"})
    found, calls = answered(read, load=[{"id": "sha256:2", "ref": "etl:1"}])
    assert (calls, found["missing"], found["loaded"]) == (0, [], [])
    found, calls = answered(read, images=both, verify_only=True)
    assert (calls, found["unverified"]) == (0, {})
    assert answered(read, images=both, instance=INSTANCE)[1] == 1, "an image that was never asked"
    assert answered(read, images=both, instance=INSTANCE, check_mode=True)[1] == 0, "a check asks none"


@pytest.mark.parametrize(
    "options",
    [
        {"images": [{"name": "etl", "image": "etl:2"}]},
        {"images": [{"name": "etl", "image": "etl:2"}], "verify_only": True},
        {"images": [{"name": "etl", "image": "etl:1", "pull": "always"}]},
        {"images": [{"name": "etl", "image": "etl@sha256:5"}]},
        {"images": [{"name": "etl", "image": "etl:1", "from_registry": True}]},
        {"images": [{"name": "etl", "image": "etl:1"}], "instance": OTHER_VERSION},
        {"load": [{"id": "sha256:9", "ref": "etl:1"}]},
        {"keep": {"etl": "etl:1"}},
    ],
    ids=str,
)
def test_what_only_the_engine_or_a_registry_can_say(options: dict[str, Any]) -> None:
    record = json.dumps({"sha256:2": {proof(INSTANCE): "1.13.27"}})
    known = {"etl:1": "sha256:2", "etl@sha256:5": "sha256:2"}
    assert answered({"images": known, "texts": {"/proven.json": record}}, **options)[1] == 1
