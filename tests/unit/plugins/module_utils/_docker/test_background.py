"""Work that goes on after its call, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import sys, time
from ansible_collections.dataops.dagster.plugins.module_utils._docker import background
background.LOCK, folder, done = sys.argv[1:4]
background.wait_for_others()

def work():
    time.sleep(1)
    open(done, "w").close()
    if len(sys.argv) > 4:
        raise OSError("fails")

if background.leave(work, folder):
    print("left")
"""
WAITER = """
import sys
from ansible_collections.dataops.dagster.plugins.module_utils._docker import background
background.LOCK = sys.argv[1]
background.wait_for_others()
"""


def python(script: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=30).stdout


def test_the_call_returns_and_the_next_one_waits(tmp_path: Path) -> None:
    folder, done, lock = tmp_path / "files", tmp_path / "done", tmp_path / "lock"
    folder.mkdir()
    # The process that goes on holds neither output nor input: the call would not end for who reads it.
    assert python(PROGRAM, lock, folder, done) == "left\n"
    assert not done.exists(), "it has waited for the work"
    assert folder.exists()
    python(WAITER, lock)
    assert done.exists()
    assert not folder.exists()


def test_work_that_fails_leaves_neither_files_nor_lock(tmp_path: Path) -> None:
    folder, done, lock = tmp_path / "files", tmp_path / "done", tmp_path / "lock"
    folder.mkdir()
    python(PROGRAM, lock, folder, done, "fail")
    begin = time.monotonic()
    python(WAITER, lock)
    assert time.monotonic() - begin < 20
    assert done.exists()
    assert not folder.exists()
