# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guard's way to a MariaDB on another host: with TLS alone, to a server that it knows by its name."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guard_mariadb import MariaDB
from guard_rig import HOSTS, PROGRAM, PYTHON, programs
from mariadb_rig import LEASE, authority, certificate

# What the guard does first. Only here its driver is the real one.
LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import lease
database = lease.Lease(json.loads(sys.argv[2]), "dagster_guard", 3)
try:
    print("row", database.call("look", limit=10))
    cursor = database.connection.cursor()
    cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
    print(*cursor.fetchall()[0])
except lease.Error as error:
    print("error", error)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDB]:
    """Its certificate is for the name localhost, and not for the address."""
    folder = Path(tempfile.mkdtemp(prefix="guard-tls-"))
    tls = folder / "tls"
    tls.mkdir()
    for path in (folder, tls):
        path.chmod(0o755)
    for name in ("ca", "other"):
        authority(tls, name)
    certificate(tls, "DNS:localhost")
    found = MariaDB(folder, tls)
    found.install(HOSTS)
    yield found
    found.close()
    shutil.rmtree(folder)


def look(cluster: MariaDB, host: str, authority: str) -> str:
    """What a guard hears at this host's name, and what it says that it has."""
    passwords = cluster.passwords(cluster.folder / "mysql.cnf", "dagster_guard")
    verify = {"ssl_ca": authority, "ssl_verify_cert": True, "ssl_verify_identity": True}
    where: dict[str, Any] = {"host": host, "port": cluster.port, "name": "dagster", "parameters": verify}
    environment = {**programs(LEASE), **cluster.login("dagster_daemon_a", passwords)}
    argv = [PYTHON, "-c", LOOK, str(PROGRAM.parent), json.dumps(where)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_server_of_the_authority(server: MariaDB) -> None:
    """The name is verified, although the connection goes to the address that was found for it."""
    said = look(server, "localhost", f"{server.folder}/tls/ca.pem")
    assert said.startswith("row (0, 0, "), said
    assert "Ssl_version TLSv1." in said


def test_server_of_another_authority(server: MariaDB) -> None:
    assert "certificate verify failed" in look(server, "localhost", f"{server.folder}/tls/other.pem")


def test_server_of_another_name(server: MariaDB) -> None:
    said = look(server, "127.0.0.1", f"{server.folder}/tls/ca.pem")
    assert "certificate verify failed: IP address mismatch" in said


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True, scope="session")
def test_server_without_tls(cluster: MariaDB, server: MariaDB) -> None:
    said = look(cluster, "localhost", f"{server.folder}/tls/ca.pem")
    assert "SSL is required but the server doesn't support it" in said
