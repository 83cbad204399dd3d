"""What hosts are given, compared with what was reviewed: each argument of each task, each line of each file.

A number, an owner, a line of a sandbox, a file that a unit watches: whatever is lost or changed shows here, and a
change that is meant shows in the diff of its review. After one:

    WRITE=1 pytest -q tests/unit/test_rendered.py

The suite runs it with the oldest ansible-core as well, which gives modules text where newer ones give numbers.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from pathlib import Path

import pytest
from ansible.release import __version__
from deployments import DEPLOYMENTS, SHOWN
from documents import documents

EXPECTED = Path(__file__).parent / "rendered"
of = functools.cache(documents)
TYPED = [int(part) for part in __version__.split(".")[:2]] >= [2, 19]


def comparable(text: str) -> str:
    """A document in which numbers look alike, however they are written, and without what was left out."""
    if TYPED:
        return text
    text = re.sub(r"\n +\w+: __omit_place_holder__\w+", "", text)
    return re.sub(r"""(['"])(\d+)\1""", r"\2", text)


@pytest.mark.parametrize(("name", "host"), [(name, host) for name in DEPLOYMENTS for host in SHOWN[name]])
def test_rendered(name: str, host: str) -> None:
    path = EXPECTED / name / f"{host}.txt"
    found = of(name)[host]
    if os.environ.get("WRITE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    expected = comparable(path.read_text(encoding="utf-8"))
    found = comparable(found)
    if found != expected:
        diff = difflib.unified_diff(expected.splitlines(), found.splitlines(), "expected", "found", lineterm="", n=2)
        pytest.fail(
            "\n".join(diff) + "\n\nIf this is meant: WRITE=1 pytest -q tests/unit/test_rendered.py", pytrace=False
        )
