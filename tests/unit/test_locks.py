"""The locks that hosts install from: what lock.py makes of a version, and what the committed files promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import load_program

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "roles" / "instance" / "files" / "locks"


lock = load_program(ROOT / "tests" / "requirements" / "lock.py", "lock_program")


def requirements(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Return name: (version, hashes) of a lock; a line that is anything else fails the test."""
    found: dict[str, tuple[str, list[str]]] = {}
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        head, *hashes = line.split(" --hash=")
        match = re.fullmatch(r"([a-z0-9._-]+)==([^\s;]+)(\s*;.*)?", head.strip())
        assert match is not None, f"{path.name}: {head!r} is not a pinned requirement"
        found[match[1]] = (match[2], [value.strip() for value in hashes])
    return found


@pytest.mark.parametrize(("version", "library"), [("1.13.27", "0.29.27"), ("1.9.0", "0.25.0"), ("1.0.17", "0.16.17")])
def test_library_version_follows_dagster(version: str, library: str) -> None:
    assert lock.library_version(version) == library


@pytest.mark.parametrize("version", ["2.0.0", "1.13", "1.13.27rc1", "0.29.27", ""])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(lock.LockError, match=r"1\.X\.Y"):
        lock.library_version(version)


def test_supported_versions_are_the_committed_locks() -> None:
    assert {path.name for path in LOCKS.glob("dagster-*.txt")} == {
        f"dagster-{version}.txt" for version in lock.DAGSTER_VERSIONS
    }


@pytest.mark.parametrize("name", lock.EXAMPLE_LIBRARIES)
def test_library_of_the_example_adds_to_its_plain_lock_and_changes_nothing(name: str) -> None:
    example = [requirements(ROOT / f"examples/pipeline/requirements{suffix}.lock") for suffix in ("", f"-{name}")]
    assert {package: example[1].get(package) for package in example[0]} == example[0]


@pytest.mark.parametrize("version", lock.DAGSTER_VERSIONS)
def test_lock_holds_one_matching_set(version: str) -> None:
    pinned = {name: found[0] for name, found in requirements(LOCKS / f"dagster-{version}.txt").items()}
    library = lock.library_version(version)
    for name in ("dagster", "dagster-graphql", "dagster-webserver", "dagster-pipes", "dagster-shared"):
        assert pinned[name] == version, name
    optional = re.findall(
        r"^(dagster-[a-z0-9-]+)", (lock.ROOT / lock.INPUTS / "libraries.in").read_text(), re.MULTILINE
    )
    assert len(optional) == 8
    for name in ("dagster-docker", "dagster-postgres", *optional):
        assert pinned[name] == library, name
    # From 2.1 on, postgresql:// means a driver that dagster-postgres does not bring.
    assert tuple(map(int, pinned["sqlalchemy"].split(".")[:2])) < (2, 1)
    assert "psycopg2-binary" in pinned


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_every_package_of_a_host_lock_has_hashes(path: Path) -> None:
    pinned = requirements(path)
    assert pinned
    for name, (version, hashes) in pinned.items():
        assert hashes, f"{name} {version}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), name


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_host_lock_names_no_index(path: Path) -> None:
    # The same file serves the public index, a company mirror and an offline wheelhouse.
    assert re.findall(r"https?://\S+|--\S*index\S*|--find-links\S*", path.read_text(encoding="utf-8")) == []
