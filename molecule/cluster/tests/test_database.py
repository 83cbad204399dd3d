"""The database on a host of its own: each login gets in from where its processes are, and with TLS alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

CONNECT = (
    "import sys, psycopg2; more = dict(pair.split('=') for pair in sys.argv[3:]); "
    "psycopg2.connect(host=sys.argv[1], dbname=more.pop('dbname', 'dagster'), user=sys.argv[2], **more)"
    ".cursor().execute('SELECT 1')"
)
SERVICES = "env PGPASSFILE=/etc/dagster/{} PGSSLMODE=verify-full PGSSLROOTCERT=/etc/dagster/database-ca.pem {}"
PYTHON = "/opt/dagster/current/bin/python"
CODE = "docker exec dagster-code-pipeline python"
# Host, what asks there with which files, and the login.
ALLOWED = {
    "web": ("edge1", SERVICES.format("pgpass", PYTHON), "dagster"),
    "command line": ("ctl1", SERVICES.format("pgpass", PYTHON), "dagster"),
    "guard": ("ctl1", SERVICES.format("daemon.pgpass", PYTHON), "dagster_guard"),
    "code server": ("ctl1", CODE, "dagster_code"),
}


@pytest.fixture
def said(on: Callable[[str], Any], connections: dict[str, dict[str, str]]) -> Callable[..., str]:
    """What a connection says, empty when it worked."""
    database = connections["db"]["ansible_host"]

    def ask(name: str, program: str, login: str, *more: str) -> str:
        done = on(name).run(f"{program} -c %s %s %s {' '.join(more)}", CONNECT, database, login)
        return "" if done.rc == 0 else str(done.stderr)

    return ask


@pytest.mark.parametrize("kind", ALLOWED)
def test_only_with_tls_and_only_into_our_database(said: Callable[..., str], kind: str) -> None:
    name, program, login = ALLOWED[kind]
    assert said(name, program, login, "connect_timeout=9") == "", "the control"
    assert "no encryption" in said(name, program, login, "sslmode=disable")
    for other in ("postgres", "template1"):
        assert "no pg_hba.conf entry" in said(name, program, login, f"dbname={other}")


def test_only_from_where_its_processes_are(said: Callable[..., str]) -> None:
    for name, program, login in (
        ("edge1", SERVICES.format("pgpass", PYTHON), "dagster_guard"),
        ("edge1", SERVICES.format("pgpass", PYTHON), "dagster_code"),
        ("ctl1", SERVICES.format("daemon.pgpass", PYTHON), "dagster_daemon_ctl2"),
        ("ctl1", CODE, "dagster_run"),
    ):
        assert "no pg_hba.conf entry" in said(name, program, login), (name, login)


def test_another_server_is_not_believed(on: Callable[[str], Any], said: Callable[..., str]) -> None:
    """Its certificate would be of another authority."""
    other = "/root/other.pem"
    on("edge1").check_output(f"openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=x -keyout /dev/null -out {other}")
    try:
        name, program, login = ALLOWED["web"]
        assert "certificate verify failed" in said(name, program, login, f"sslrootcert={other}")
    finally:
        on("edge1").check_output(f"rm {other}")
