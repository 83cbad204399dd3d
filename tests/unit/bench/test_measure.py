"""How the benches run commands and read plays: tests/bench/measure.py."""

from __future__ import annotations

import pytest
from measure import BenchError, changed, remote_calls, run


def test_a_command_that_hangs_is_ended_and_shows_what_it_said() -> None:
    with pytest.raises(BenchError, match=r"(?s)did not end in 1 s:\nhello"):
        run(["bash", "-c", "echo hello; exec sleep 60"], seconds=1)


def test_a_command_that_fails_shows_its_end() -> None:
    with pytest.raises(BenchError, match=r"(?s)ended with 3:\n.*99$"):
        run(["bash", "-c", "seq 99; exit 3"])


def test_tasks_that_changed_something_are_found_in_verbose_output_too() -> None:
    output = (
        "TASK [Quiet] ***\ntask path: x\n<h> SSH: EXEC ssh h '/usr/bin/python3'\nok: [h] => {}\n"
        "TASK [role : Loud] ***\nskipping: [h] => (item=a)\nchanged: [h] => (item=b)\n"
        "RUNNING HANDLER [Last] ***\n<h> SSH: EXEC ssh h 'echo ~'\nok: [h]\n"
    )
    assert changed(output) == ["role : Loud"]
    assert remote_calls(output) == (2, 1)
