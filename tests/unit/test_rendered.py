"""What hosts are given, compared with what was reviewed: each argument of each task, each line of each file.

A number, an owner, a line of a sandbox, a file that a unit watches: whatever is lost or changed shows here, and a
change that is meant shows in the diff of its review. After one:

    WRITE=1 pytest -q tests/unit/test_rendered.py
"""

from __future__ import annotations

import difflib
import functools
import os
from pathlib import Path

import pytest
from dry_play import DEPLOYMENTS, SHOWN, documents

EXPECTED = Path(__file__).parent / "rendered"
of = functools.cache(documents)


@pytest.mark.parametrize(("name", "host"), [(name, host) for name in DEPLOYMENTS for host in SHOWN[name]])
def test_rendered(name: str, host: str) -> None:
    path = EXPECTED / name / f"{host}.txt"
    found = of(name)[host]
    if os.environ.get("WRITE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    if found != expected:
        diff = difflib.unified_diff(expected.splitlines(), found.splitlines(), "expected", "found", lineterm="", n=2)
        pytest.fail(
            "\n".join(diff) + "\n\nIf this is meant: WRITE=1 pytest -q tests/unit/test_rendered.py", pytrace=False
        )
