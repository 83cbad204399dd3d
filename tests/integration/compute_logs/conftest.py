"""Dagster as hosts install it, and object stores. LOG_STORES names a folder that keeps what is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from libraries_rig import ROOT, installed, uv, versions
from stores_rig import Store, amazon, stores


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the venv of Dagster and all three libraries, and the packages of Google's emulator."""
    kept = os.environ.get("LOG_STORES")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("programs")
    if (folder / "complete").exists():
        return folder
    folder.mkdir(exist_ok=True)
    installed(folder, versions()[-1], "dagster-aws", "dagster-azure", "dagster-gcp")
    packages = ("--target", str(folder / "gcs"), "-r", str(ROOT / "tests/requirements/gcs.lock"))
    uv("pip", "install", "--quiet", "--require-hashes", *packages)
    (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def python(programs: Path) -> Path:
    return programs / "venv" / "bin" / "python"


@pytest.fixture(scope="session")
def moto() -> str:
    found = os.environ.get("DAGSTER_PYTHON")
    if not found:
        pytest.fail("DAGSTER_PYTHON is not set, expected the Python of an environment with moto")
    return found


@pytest.fixture(scope="session")
def world(
    programs: Path, python: Path, moto: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Store]]:
    with stores(tmp_path_factory.mktemp("stores"), python, moto, programs / "gcs") as found:
        yield found


@pytest.fixture(scope="session")
def open_store(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """S3 that asks nobody for rights."""
    found = amazon(tmp_path_factory.mktemp("open"), moto, guarded=False)
    yield found
    found.server.stop()
