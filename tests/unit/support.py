"""What several unit tests need: programs of this repository as modules, and a good dagster.yaml."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What of this repository a copy has, in which a test plays with a system of its own.
COPIED = (".deps", "docs", "inventories", "examples", "playbooks", "plugins", "roles", "tools/docs.py", "tests/unit")
# Secrets are named in it, none stands in it.
GOOD: dict[str, Any] = {
    "storage": {
        "postgres": {
            "postgres_db": {
                "hostname": {"env": "DAGSTER_POSTGRES_HOST"},
                "username": {"env": "DAGSTER_POSTGRES_USER"},
                "password": {"env": "DAGSTER_POSTGRES_PASSWORD"},
                "db_name": "dagster",
                "port": 5432,
            }
        }
    },
    "run_launcher": {
        "module": "dagster_docker",
        "class": "DockerRunLauncher",
        "config": {
            "network": "dagster",
            "env_vars": [
                "DAGSTER_POSTGRES_USER=dagster_run",
                "PGPASSFILE=/run/dagster/pgpass",
                "AWS_SECRET_ACCESS_KEY",
            ],
            "container_kwargs": {"stop_timeout": 30, "volumes": ["/srv/a:/srv/a"]},
        },
    },
    "run_coordinator": {
        "module": "dagster",
        "class": "QueuedRunCoordinator",
        "config": {"tag_concurrency_limits": [{"key": "database", "value": "postgres", "limit": 3}]},
    },
    "telemetry": {"enabled": False},
}
# A Dagster with all its libraries, which `tests/rig/rig oracle` makes.
ORACLE = ROOT / ".cache" / "oracle" / "1.13" / "bin" / "python"


def dagster_python() -> str:
    """The Python of an environment with Dagster; `make test` names it."""
    found = os.environ.get("DAGSTER_PYTHON")
    if not found:
        pytest.fail("DAGSTER_PYTHON is not set, expected the Python of an environment with Dagster (make test)")
    return found


def load_program(path: Path, name: str) -> ModuleType:
    """A program that is not importable by a name, as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being run
    spec.loader.exec_module(module)
    return module


def copy_collection(root: Path) -> Path:
    """Copies the collection, without the systems that exist for tests only."""
    ignored = shutil.ignore_patterns("__pycache__", "example_*")
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, target)
    return root
