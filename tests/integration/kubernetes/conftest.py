# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database, and a cluster for the runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_postgres import BIN, Cluster
from kubernetes_rig import Kubernetes


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if not BIN:
        pytest.fail("no PostgreSQL in /usr/lib/postgresql; install it or name the folder of its programs with PG_BIN")
    folder = Path(tempfile.mkdtemp(prefix="kubernetes-pg-"))
    cluster = Cluster(folder)
    cluster.install(["a", "b", "c"])
    yield cluster
    cluster.stop("immediate")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    found = Kubernetes(tmp_path_factory.mktemp("kubernetes"))
    yield found
    found.stop()
