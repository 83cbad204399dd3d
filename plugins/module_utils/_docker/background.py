# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Work with images that goes on after its call, and the lock by which other calls wait for it."""

from __future__ import annotations

import fcntl
import os
import shutil
import typing as t

LOCK = "/run/lock/dagster-code-images"
_held: list[t.TextIO] = []


def wait_for_others() -> None:
    """Returns when no other call works with images. The lock ends with the last process that has it open."""
    stream = open(LOCK, "w", encoding="utf-8")  # noqa: SIM115 - it is closed by the end of the process
    fcntl.flock(stream, fcntl.LOCK_EX)
    _held.append(stream)


def leave(work: t.Callable[[], t.Any], folder: str) -> bool:
    """Goes on with the work in a process of its own, which removes the folder of its files. True for the caller.

    What fails there is for the next call to find: it does the same again, and somebody hears of it. All modules that
    the work needs are imported by now; Ansible removes their archive.
    """
    if os.fork():
        return True
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        work()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
