# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""References of images that Docker takes, and the nearest one of those that it does not."""

from __future__ import annotations

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "text",
    ["debian", "me/app:2", "localhost/app", "r.example.com:5000/a/b_c/d-e:V1.0_x", f"r.example.com/a@{DIGEST}",
     f"r/a:1@{DIGEST}", "R.example.com/a", "[fd00::1]:5000/a:1", "a__b/c--d"],
)  # fmt: skip
def test_reference(text: str) -> None:
    assert reference.problem(text) == ""


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("https://r.example.com/x", "r.example.com/x"),
        ("docker://r/x:1", "r/x:1"),
        ("r/X", "r/x"),
        ("R.example.com/X:Tag", "R.example.com/x:Tag"),
        ("r/x:", "r/x"),
        ("r/x/", "r/x"),
        (" r/x:1\n", "r/x:1"),
        ("r//x:1", "r/x:1"),
        ("r/x: 1", "r/x:1"),
        ("docker pull r/x:1", "r/x:1"),
        ("x@latest", "x:latest"),
        ("x@sha256:abc", ""),
        ("a b", ""),
        ("x:1:2", ""),
        ("-x", ""),
        ("", ""),
        ("0a" * 32, ""),
    ],
)
def test_no_reference(text: str, near: str) -> None:
    told = reference.problem(text)
    assert "expected" in told
    assert (f"did you mean {near}?" in told) if near else ("did you mean" not in told)
