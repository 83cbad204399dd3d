# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A MariaDB and a Dagster on it, for the tests of both."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import Dagster
from logins_rig import DEFINITIONS, served
from mariadb_rig import MariaSite, Server, running, there


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """One that the server's user may enter, as he may not those of pytest."""
    found = Path(tempfile.mkdtemp(prefix="mariadb-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    if not there():
        pytest.fail("no MariaDB in /usr/sbin; install mariadb-server-core and mariadb-client-core, or set MARIADB_ROOT")
    place = folder / "server"
    place.mkdir()
    with running(place) as found:
        yield found


@pytest.fixture(scope="session")
def site(server: Server, folder: Path) -> MariaSite:
    """A Dagster whose schema is migrated, with the rights of its logins."""
    place = folder / "site"
    place.mkdir()
    found = MariaSite(server, place, code=DEFINITIONS)
    assert found.probe(migrates=True)["revision"] == ""
    found.migrate()
    answer = found.probe()
    assert (answer["revision"], answer["missing"]) == (answer["head"], [])
    assert answer["rights"] > 50
    return found


@pytest.fixture(scope="session")
def ui(site: MariaSite) -> Iterator[Dagster]:
    with served(site) as found:
        yield found
