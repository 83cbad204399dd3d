"""The module that writes dagster.yaml, with a stand-in for Dagster's Python that counts calls."""

from __future__ import annotations

import importlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from support import dagster_python

BASE = "ansible_collections.dataops.dagster.plugins.modules."
VERSION = "1.13.27"
TEXT = "# Managed.\nrun_launcher: {module: m, class: C}\ntelemetry: {enabled: false}\n"


class Stop(BaseException):
    """exit_json or fail_json was called. Like the SystemExit that it stands for, not an Exception."""


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.python = folder / "python"
        self.calls = folder / "calls"
        self.calls.mkdir()
        self.answer([])

    def answer(self, problems: list[dict[str, str]], version: str = VERSION, text: str | None = None) -> None:
        output = json.dumps({"dagster_version": version, "problems": problems}) if text is None else text
        self.python.write_text(
            f"#!{sys.executable}\nimport json, pathlib, sys\ncalls = pathlib.Path({str(self.calls)!r})\n"
            f"(calls / str(len(list(calls.iterdir())))).write_text(sys.stdin.read())\nprint({output!r})\n"
        )
        self.python.chmod(0o755)

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.calls.iterdir())]

    def run(self, check: bool = False, diff: bool = True, **changes: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "path": str(self.home / "dagster.yaml"),
            "content": TEXT,
            "python": str(self.python),
            "dagster_version": VERSION,
            "env": {"NAME": "x"},
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
            "_ansible_remote_tmp": str(self.folder / "tmp"),
        }
        arguments.update(changes)
        (self.folder / "tmp").mkdir(exist_ok=True)
        results: list[dict[str, Any]] = []

        def finish(instance: basic.AnsibleModule, result: dict[str, Any]) -> None:
            results.append({**result, "params": instance.params})
            raise Stop

        def exit_json(instance: basic.AnsibleModule, **result: Any) -> None:
            finish(instance, {"failed": False, **result})

        def fail_json(instance: basic.AnsibleModule, msg: str, **result: Any) -> None:
            finish(instance, {"failed": True, "changed": False, "msg": msg, **result})

        self.warnings: list[str] = []
        with pytest.MonkeyPatch.context() as patch, patch_module_args(arguments):
            patch.setattr(basic.AnsibleModule, "exit_json", exit_json)
            patch.setattr(basic.AnsibleModule, "fail_json", fail_json)
            patch.setattr(basic.AnsibleModule, "warn", lambda _self, text: self.warnings.append(text))
            with pytest.raises(Stop):
                importlib.import_module(BASE + "config_file").main()
        (result,) = results
        return result


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_check_apply_reapply(rig: Rig) -> None:
    path = rig.home / "dagster.yaml"
    checked = rig.run(check=True)
    assert (checked["failed"], checked["changed"], path.exists()) == (False, True, False)
    applied = rig.run()
    assert (applied["changed"], applied["checked_by"], applied["problems"]) == (True, "Dagster 1.13.27", [])
    assert applied["path"] == str(path)
    assert path.read_text() == TEXT
    assert checked["diff"] == applied["diff"]
    assert applied["diff"]["after"] == path.read_text()
    calls = len(rig.requests())
    assert calls == 2
    again = rig.run()
    assert (again["changed"], again["checked_by"], "diff" in again) == (False, "Dagster 1.13.27", False)
    assert len(rig.requests()) == calls, "the second run must not start Dagster's Python"


def test_what_dagster_is_asked(rig: Rig) -> None:
    rig.run()
    (request,) = rig.requests()
    assert request == {"env": {"NAME": "x"}, "texts": {"dagster_yaml": TEXT}}


def test_catalogue_asks_nobody(rig: Rig) -> None:
    rig.python.unlink()
    result = rig.run(validate="catalogue")
    assert (result["failed"], result["changed"]) == (False, True)
    assert result["checked_by"] == "catalogue of the collection"


def test_mode_and_nothing_left_behind(rig: Rig) -> None:
    rig.run()
    path = rig.home / "dagster.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in rig.home.iterdir()] == ["dagster.yaml"]
    assert rig.run(mode="0600")["changed"] is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rig.run(mode="0600")["changed"] is False


def test_new_file_is_never_open(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = basic.AnsibleModule.atomic_move

    def atomic_move(self: basic.AnsibleModule, source: str, target: str, **options: Any) -> None:
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        original(self, source, target, **options)
        seen.append(stat.S_IMODE(os.stat(target).st_mode))

    monkeypatch.setattr(basic.AnsibleModule, "atomic_move", atomic_move)
    rig.run(mode="0600")
    assert seen == [0o600, 0o600]


def test_problems_say_that_the_verdicts_differ(rig: Rig) -> None:
    rig.answer([{"path": "telemetry.enabled", "section": "telemetry", "message": "found 'yes', expected a boolean"}])
    result = rig.run()
    assert result["failed"] is True
    assert [problem["path"] for problem in result["problems"]] == ["telemetry.enabled"]
    for words in ("the catalogue of the collection accepts it", "1 problem;", "dagster_config", "report"):
        assert words in result["msg"]
    assert not (rig.home / "dagster.yaml").exists()


def test_bad_content_leaves_the_old_file(rig: Rig) -> None:
    rig.run()
    before = (rig.home / "dagster.yaml").read_text()
    rig.answer([{"path": "nux", "section": "nux", "message": "wrong"}])
    assert rig.run(content="nux: 1\n")["failed"] is True
    assert (rig.home / "dagster.yaml").read_text() == before


def test_bare_host_in_check_mode(rig: Rig) -> None:
    rig.python.unlink()
    result = rig.run(check=True, path="/no/such/folder/dagster.yaml", owner="nobody-yet", group="nobody-yet")
    assert (result["failed"], result["changed"]) == (False, True)
    assert result["checked_by"] == "catalogue of the collection"
    assert "does not exist yet" in rig.warnings[0]


def test_without_dagster_nothing_is_written(rig: Rig) -> None:
    rig.python.unlink()
    result = rig.run()
    assert result["failed"] is True
    assert str(rig.python) in result["msg"]
    assert list(rig.home.iterdir()) == []


def test_other_version_than_expected(rig: Rig) -> None:
    rig.answer([{"path": "nux", "section": "nux", "message": "an old opinion"}], version="1.12.0")
    result = rig.run()
    assert "found Dagster 1.12.0" in result["msg"]
    assert "dagster_version" in result["msg"]
    checked = rig.run(check=True)
    assert (checked["failed"], checked["checked_by"]) == (False, "catalogue of the collection")
    assert "still has Dagster 1.12.0" in rig.warnings[0]


def test_no_answer(rig: Rig) -> None:
    rig.answer([], text="Segmentation fault")
    result = rig.run()
    assert "gave no answer" in result["msg"]


def test_missing_folder_and_folder_as_file(rig: Rig) -> None:
    assert "DAGSTER_HOME" in rig.run(path=str(rig.home / "x" / "dagster.yaml"))["msg"]
    assert "is a directory" in rig.run(path=str(rig.home))["msg"]


def test_staged_file_takes_no_place(rig: Rig) -> None:
    path, staged = rig.home / "dagster.yaml", rig.home / ".dagster.yaml.next"
    rig.run(stage=True)
    assert (path.read_text(), staged.exists()) == (TEXT, False), "what is not there has no reader"
    assert rig.run(stage=True)["changed"] is False
    result = rig.run(stage=True, content="telemetry: {enabled: true}\n")
    assert (result["changed"], result["diff"]["before"]) == (True, TEXT)
    assert (path.read_text(), staged.read_text()) == (TEXT, "telemetry: {enabled: true}\n")
    assert stat.S_IMODE(staged.stat().st_mode) == 0o640
    asked = len(rig.requests())
    again = rig.run(stage=True, content="telemetry: {enabled: true}\n")
    assert (again["changed"], len(rig.requests())) == (False, asked), "it is staged already"
    assert rig.run(stage=True)["changed"] is False
    assert [entry.name for entry in rig.home.iterdir()] == ["dagster.yaml"], "what is wanted again is not staged"
    rig.answer([{"path": "nux", "section": "nux", "message": "wrong"}])
    assert rig.run(stage=True, content="nux: 1\n")["failed"] is True
    assert [entry.name for entry in rig.home.iterdir()] == ["dagster.yaml"]


def test_drift_is_mended_and_shown_without_old_secrets(rig: Rig) -> None:
    path = rig.home / "dagster.yaml"
    path.write_text("storage:\n  password: hunter2\n")
    result = rig.run(check=True)
    assert result["changed"] is True
    assert "password: " in result["diff"]["before"]
    assert "hunter2" not in json.dumps(result["diff"])
    assert path.read_text().startswith("storage")
    rig.run()
    assert path.read_text() == TEXT


def test_packed_by_ansible_with_the_real_dagster(tmp_path: Path) -> None:
    """Once as Ansible runs it: the module and its utils in an archive, under the host's Python, and a real Dagster."""
    python = dagster_python()
    command = [python, "-c", "import dagster; print(dagster.__version__)"]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    collections = Path(importlib.import_module(BASE + "config_file").__file__ or "").absolute().parents[5]

    def run(config: dict[str, Any]) -> tuple[int, str]:
        arguments = {
            "path": str(tmp_path / "dagster.yaml"),
            "python": python,
            "dagster_version": version,
            "config": config,
        }
        command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-c", "local", "-vvv"]
        command += ["-m", "dataops.dagster.dagster_yaml", "-a", json.dumps(arguments)]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        }
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return_code, output = run({"telemetry": {"enabled": False}, "run_monitoring": {"enabled": True}})
    assert return_code == 0, output
    assert f"Checked with Dagster {version}" in (tmp_path / "dagster.yaml").read_text()
    return_code, output = run({"telemetry": {"enabled": "false"}, "x": {"password": "hunter2"}})
    assert return_code != 0
    assert "hunter2" not in output.replace(json.dumps({"password": "hunter2"}), "")
    assert "telemetry.enabled" in output
