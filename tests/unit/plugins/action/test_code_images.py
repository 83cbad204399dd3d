"""What the action sends to begin builds, with its module replaced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.dataops.dagster.plugins.action import code_images

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
