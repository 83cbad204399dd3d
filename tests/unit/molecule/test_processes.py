"""molecule/processes.py: no signal goes to a process that is not meant."""

from __future__ import annotations

from types import SimpleNamespace

import processes
import pytest


class Host:
    """Remembers what it was told to run."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.rc = 0

    def run(self, command: str) -> SimpleNamespace:
        self.commands.append(command)
        return SimpleNamespace(rc=self.rc)

    def check_output(self, command: str) -> str:
        self.commands.append(command)
        return ""


@pytest.mark.parametrize("pid", ["", "0", "00", "1", "01", "-1", "-7", "7 8", "12 13", "x", "\n"])
def test_not_one_process(pid: str) -> None:
    """kill 0 is the shell's own group, kill -1 is everything, and 1 is the host's init."""
    host = Host()
    with pytest.raises(AssertionError, match="so nothing runs that could be signalled"):
        processes.send(host, "STOP", pid)
    with pytest.raises(AssertionError, match="so nothing runs that could be signalled"):
        processes.alive(host, pid)
    assert host.commands == []


def test_one_process() -> None:
    host = Host()
    processes.send(host, "STOP", "4711")
    assert processes.alive(host, "4711")
    host.rc = 1
    assert not processes.alive(host, "4711")
    assert host.commands == ["kill -STOP 4711", "kill -0 4711", "kill -0 4711"]


def test_the_message_says_whose_it_would_have_been() -> None:
    with pytest.raises(AssertionError, match="the daemon has no process of its own"):
        processes.one_process("0", "the daemon")


@pytest.mark.parametrize("text", ["2", "10", "4711\n"])
def test_process_of_its_own(text: str) -> None:
    assert processes.one_process(text) == text.strip()
