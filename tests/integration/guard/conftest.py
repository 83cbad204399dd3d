# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database and two hosts for the tests of the guard."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_rig import BIN, Cluster, Host


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if not BIN:
        pytest.fail("no PostgreSQL in /usr/lib/postgresql; install it or name the folder of its programs with PG_BIN")
    folder = Path(tempfile.mkdtemp(prefix="guard-pg-"))
    cluster = Cluster(folder)
    cluster.install(["a", "b", "c"])
    cluster.query(
        "CREATE TABLE work (number bigserial PRIMARY KEY, epoch bigint, host text, pid int,"
        " at timestamptz DEFAULT clock_timestamp());"
        "CREATE TABLE daemon_heartbeats (timestamp timestamp);"
        "INSERT INTO daemon_heartbeats VALUES (clock_timestamp());"
    )
    cluster.install(["a", "b", "c"])
    yield cluster
    cluster.stop("immediate")
    shutil.rmtree(folder)


@pytest.fixture
def free(cluster: Cluster) -> None:
    """Nobody has ever had the lease."""
    cluster.query(
        "TRUNCATE work; UPDATE dagster_guard.lease SET epoch = 0, generation = 0, holder = '', boot = '', wanted = ''"
    )
    for name in "abc":
        cluster.query(f"ALTER ROLE dagster_daemon_{name} NOLOGIN")


@pytest.fixture
def hosts(cluster: Cluster, free: None, tmp_path: Path) -> Iterator[list[Host]]:  # noqa: ARG001 - it comes first
    """Two hosts whose guards do not run yet."""
    found = [Host(name, tmp_path, cluster) for name in "ab"]
    yield found
    for host in found:
        host.close()
    for host in found:
        print(f"--- {host.name}: {host.starts} starts, {host.kills} watchdog kills\n{host.text()[-3000:]}")
