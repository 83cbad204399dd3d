"""The files that name releases agree with each other and with the history."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# The version in galaxy.yml between two releases: the next one, as semantic versioning writes what comes before it.
DEVELOPMENT = "-dev0"


def content(path: str) -> Any:
    """Return the content of a YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def numbers(version: str) -> tuple[int, ...]:
    """Return a version so that it can be compared."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", version), f"{version!r} is no version of a release"
    return tuple(map(int, version.split(".")))


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


COMMITS: dict[str, str] = content("changelogs/releases.yml")
CHANGES: dict[str, Any] = content("changelogs/changelog.yaml")["releases"]
VERSION: str = content("galaxy.yml")["version"]
NEXT = VERSION.removesuffix(DEVELOPMENT)


def test_version_is_the_release_or_comes_after_it() -> None:
    """In the commit of a release the changelog has the version; in development it does not have it yet."""
    newest = max(COMMITS, key=numbers)
    assert numbers(NEXT) > numbers(newest), f"galaxy.yml says {VERSION}, and {newest} is released: set the next version"
    assert (NEXT in CHANGES) == (VERSION == NEXT), f"galaxy.yml says {VERSION}; changelog.yaml has {sorted(CHANGES)}"


def test_each_release_has_changes_and_a_commit() -> None:
    # A commit cannot name itself: the commit of the newest release is written by the next one.
    assert set(COMMITS) == set(CHANGES) - {VERSION}
    headings = re.findall(r"^v(\S+)\n=+$", (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == sorted(CHANGES, key=numbers, reverse=True)


def test_no_fragment_is_released_twice() -> None:
    """`antsibull-changelog release` takes the fragments away: one that is in changelog.yaml was put back by a merge."""
    released = {name for release in CHANGES.values() for name in release["fragments"]}
    assert released & {path.name for path in (ROOT / "changelogs" / "fragments").glob("*.y*ml")} == set()


@pytest.mark.parametrize(("version", "commit"), COMMITS.items())
def test_commit_of_a_release(version: str, commit: str) -> None:
    """The commit has the version, this state comes after it, and a tag names it."""
    assert re.fullmatch(r"[0-9a-f]{40}", commit), "a whole hash: a short one can become ambiguous"
    whole = git("rev-parse", "--is-shallow-repository").stdout.strip() == "false"
    if not whole and git("cat-file", "-e", commit).returncode:
        pytest.skip("an archive has no history, and a shallow clone may end before the release")
    assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, f"{commit} is not in the history"
    assert yaml.safe_load(git("show", f"{commit}:galaxy.yml").stdout)["version"] == version
    tag = git("rev-parse", "--verify", "--quiet", f"v{version}^{{commit}}")
    assert tag.stdout.strip() in ("", commit), f"tag v{version} names another commit"


# Not listed: documentation of actions in files that are no modules, and Python files that hold several filters.
@pytest.mark.parametrize(
    ("folder", "kind", "unlisted"),
    [
        ("roles/", "role", set()),
        ("plugins/modules/", "module", {"packages", "preflight"}),
        ("plugins/filter/", "filter", {"config", "code_location"}),
    ],
)
def test_first_release_names_all_that_it_brought(folder: str, kind: str, unlisted: set[str]) -> None:
    found = git("ls-tree", "--name-only", COMMITS["0.1.0"], folder)
    if found.returncode:
        pytest.skip("an archive has no history, and a shallow clone may end before the release")
    first = CHANGES["0.1.0"]
    listed = {"role": first["objects"]["role"], "module": first["modules"], "filter": first["plugins"]["filter"]}[kind]
    assert {entry["name"] for entry in listed} == {Path(name).stem for name in found.stdout.split()} - unlisted
