# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database and two hosts for the tests of the guard."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guard_mariadb import MariaDB
from guard_postgres import BIN, Cluster
from guard_rig import HOSTS, Host
from mariadb_rig import there


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="1/1", help="which of how many equal parts of the tests to run, as 2/3")


@pytest.hookimpl(trylast=True)  # of what other options have left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part, parts = map(int, config.getoption("part").split("/"))
    left = [item for number, item in enumerate(items) if number % parts != part - 1]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for number, item in enumerate(items) if number % parts == part - 1]


ENGINES = {"postgres": Cluster, "mariadb": MariaDB}


class Databases:
    """A server of each database, from the first test that needs it to the last of all."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def get(self, kind: str) -> Any:
        if kind not in self.found:
            self.found[kind] = cluster = ENGINES[kind](Path(tempfile.mkdtemp(prefix=f"guard-{kind}-")))
            cluster.install(HOSTS)
            cluster.prepare()
            cluster.install(HOSTS)
        return self.found[kind]

    def close(self) -> None:
        for cluster in self.found.values():
            cluster.stop("immediate")
            shutil.rmtree(cluster.folder)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    found = Databases()
    yield found
    found.close()


@pytest.fixture(scope="session")
def cluster(databases: Databases, request: pytest.FixtureRequest) -> Any:
    """PostgreSQL, or the database that a test names (ON_BOTH)."""
    kind = getattr(request, "param", "postgres")
    if kind == "postgres" and not BIN:
        pytest.fail("no PostgreSQL in /usr/lib/postgresql; install it or name the folder of its programs with PG_BIN")
    if kind == "mariadb" and not there():
        pytest.fail(
            "no MariaDB in /usr/sbin; install mariadb-server or name the folder of its packages with MARIADB_ROOT"
        )
    return databases.get(kind)


@pytest.fixture
def free(cluster: Any) -> None:
    """Nobody has ever had the lease."""
    cluster.free()


@pytest.fixture
def hosts(cluster: Any, free: None, tmp_path: Path) -> Iterator[list[Host]]:  # noqa: ARG001 - it comes first
    """Two hosts whose guards do not run yet."""
    found = [Host(name, tmp_path, cluster) for name in "ab"]
    yield found
    for host in found:
        host.close()
    for host in found:
        print(f"--- {host.name}: {host.starts} starts, {host.kills} watchdog kills\n{host.text()[-3000:]}")
