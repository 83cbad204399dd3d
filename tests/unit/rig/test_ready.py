"""tests/rig/rig ready: a scenario that is started by hand says which command has to be run first."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing was made yet, on a machine with an engine that has all."""
    shutil.copytree(ROOT / "tests" / "rig", tmp_path / "tests" / "rig", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docker", "chromium"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
    return tmp_path


def ready(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "tests" / "rig" / "rig", "ready", *arguments],
        env={**os.environ, "PATH": f"{checkout / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_is_there(checkout: Path) -> None:
    for name in ("ssh/id_ed25519", "python-bookworm.tar"):
        file = checkout / ".cache" / "rig" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("made by rig up", encoding="utf-8")
    assert (ready(checkout).returncode, ready(checkout, "suite").returncode) == (0, 0)


@pytest.mark.parametrize(("arguments", "command"), [((), "tests/rig/rig up"), (("suite",), "tests/rig/rig suite")])
def test_a_fresh_clone_names_the_command(checkout: Path, arguments: tuple[str, ...], command: str) -> None:
    done = ready(checkout, *arguments)
    assert done.returncode == 1
    assert done.stderr == f"rig: the key of its hosts is missing; run {command} first\n"


def test_an_engine_that_does_not_answer(checkout: Path) -> None:
    (checkout / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    done = ready(checkout)
    assert (done.returncode, done.stderr) == (1, "rig: no Docker engine answers; run tests/rig/rig up first\n")
