"""What hosts install really fits: virtual environments made of parts of the lock, as install.sh makes them.

One combination in each suite. With LIBRARY_COMBINATIONS=all (make test-full) each library alone, those of each example,
and all together.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from libraries_rig import asked, installed, uv, versions

ROOT = Path(__file__).resolve().parents[3]
EVERY = os.environ.get("LIBRARY_COMBINATIONS") == "all"
# What to import of a library. What a token provider or a broker needs is imported only when it is used.
MODULES = {
    "dagster-celery": ["dagster_celery.launcher", "redis"],
    "dagster-celery-docker": ["dagster_celery_docker"],
    "dagster-azure": ["dagster_azure.blob"],
    "dagster-gcp": ["dagster_gcp.gcs"],
    "dagster-aws": ["dagster_aws.s3", "dagster_aws.ecs", "boto3"],
    "azure-identity": ["azure.identity"],
    "google-auth": ["google.auth.transport.requests"],
}


def combinations() -> list[tuple[str, ...]]:
    """Each library alone, all together, and what each example names."""
    if not EVERY:
        return [("dagster-aws", "dagster-celery", "dagster-mysql")]
    inputs = (ROOT / "tests/requirements/libraries.in").read_text(encoding="utf-8")
    names = re.findall(r"^([a-z0-9-]+)(?:\[\w+\])?==", inputs, re.MULTILINE)
    found = {(name,) for name in [*names, "boto3", "google-auth", "azure-identity"]} | {(), tuple(names)}
    for path in sorted((ROOT / "examples/dagster_config").glob("*.yml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8")).get("dagster_config", {})
        found.add(tuple(json.loads(asked(versions()[-1], "of", given=json.dumps(config)))))
    return sorted(found)


@pytest.mark.parametrize("version", versions() if EVERY else versions()[-1:])
@pytest.mark.parametrize("names", combinations(), ids="+".join)
def test_virtual_environment(tmp_path: Path, version: str, names: tuple[str, ...]) -> None:
    python = installed(tmp_path, version, *names)
    # Nothing that a package needs is left out, and no version is refused by another package.
    uv("pip", "check", "--python", str(python))
    modules = [module for name in names for module in MODULES.get(name, [name.replace("-", "_")])]
    program = "; ".join(f"import {module}" for module in ["dagster", "dagster_postgres", *modules])
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_library_goes_into_a_live_environment_and_moves_nothing() -> None:
    """The packages that are there stay as they are: services run from them."""
    for version in versions():
        plain, more = (
            dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", asked(version, "part", *names), re.MULTILINE))
            for names in ((), ("dagster-aws", "dagster-azure", "dagster-celery-k8s", "dagster-gcp", "dagster-mysql"))
        )
        assert plain.items() <= more.items()
