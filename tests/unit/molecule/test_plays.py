"""molecule/deployment.py: a play ends in time, whoever holds its output."""

from __future__ import annotations

import os
import time

import pytest
from deployment import ended

ENVIRONMENT = dict(os.environ)


def test_what_it_printed() -> None:
    found = ended(["sh", "-c", "echo out; echo err >&2; exit 3"], ENVIRONMENT)
    assert (found.rc, found.output) == (3, "out\nerr\n")


@pytest.mark.parametrize("last", ["sleep 60", "exit 0"])
def test_child_that_holds_the_output(last: str) -> None:
    since = time.monotonic()
    with pytest.raises(AssertionError, match=r"not ended within 0\.5 s: (?s:.*)\nbegun\n"):
        ended(["sh", "-c", f"sleep 60 & echo begun; {last}"], ENVIRONMENT, 0.5)
    assert time.monotonic() - since < 30
