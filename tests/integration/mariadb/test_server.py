# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""MariaDB as role mysql sets it up: its settings, who may log in from where, TLS; and what is refused about others."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mariadb_rig
import pymysql
import pytest
from guard_rig import PYTHON, Proxy, password, until
from logins_rig import DAEMON, DEFINITIONS, MIGRATION, READ, RUN, WEB
from mariadb_rig import LEASE, ROOT, MariaSite, Server, authority, certificate, everybody, running

from ansible_collections.dataops.dagster.plugins.module_utils._database import mysql
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client

# Connects as Dagster does, by the URL, and says whether that is with TLS, or why not.
CONNECT = """
import json, sys, sqlalchemy
try:
    engine = sqlalchemy.create_engine(sys.argv[1])
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").fetchall()
        print(json.dumps([bool(rows[0][1]), ""]))
except Exception as error:
    print(json.dumps([False, str(error).splitlines()[0]]))
"""


def connected(server: Server, login: str, file: Path, port: int = 0, **tls: Any) -> tuple[bool, str]:
    """Whether a login has TLS, and the error of a connection with the URL of its processes."""
    client = Client("127.0.0.1", port or server.port, "dagster", login, str(file), **tls)
    argv = [PYTHON, "-c", CONNECT, mysql.environment(client)["DAGSTER_MYSQL_URL"]]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    encrypted, error = json.loads(done.stdout)
    return bool(encrypted), str(error)


def options_of(folder: Path, **passwords: str) -> Path:
    """An option file with these logins."""
    path = folder / "my.cnf"
    path.write_text("".join(mysql.login(secret, login) for login, secret in passwords.items()), encoding="utf-8")
    return path


# Settings


def test_settings(server: Server) -> None:
    found = dict(server.query("SHOW VARIABLES"))
    assert found["time_zone"] == "+00:00"
    assert (found["character_set_server"], found["collation_server"]) == ("utf8mb4", "utf8mb4_bin")
    assert found["tx_isolation"] == "REPEATABLE-READ"
    assert found["max_allowed_packet"] == str(64 * 2**20)
    assert (found["local_infile"], found["skip_name_resolve"]) == ("OFF", "ON")
    assert server.query("SHOW ENGINES")
    assert server.query(
        "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'dagster'"
    ) == [("utf8mb4_bin",)]


def test_a_fresh_server_has_nobody_else(server: Server) -> None:
    """No anonymous user, no database for tests, and nobody who is root without being root."""
    found = server.query("SELECT User, Host FROM mysql.user WHERE is_role = 'N' AND User NOT LIKE 'dagster%'")
    assert {user for user, _host in found} <= {"root", "mariadb.sys", *[u for u, h in found if h == "localhost"]}
    assert {host for _user, host in found} == {"localhost"}
    assert server.query("SHOW DATABASES LIKE 'test'") == []
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        pymysql.connect(host="127.0.0.1", port=server.port, user="root", password="")


# Who may log in


def test_a_second_run_finds_nothing(server: Server) -> None:
    assert server.accounts([everybody()]) == []


def test_a_login_from_elsewhere(server: Server) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="not allowed to connect"):
        server.session(WEB, bind_address="127.0.0.2")
    moved = [everybody(), {"address": "127.0.0.2", "users": [WEB]}]
    assert server.accounts(moved) != []
    server.session(WEB, bind_address="127.0.0.2").close()
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        server.session(RUN, bind_address="127.0.0.2")
    assert server.accounts([everybody()]) == [f"DROP USER '{WEB}'@'127.0.0.2'"]
    with pytest.raises(pymysql.err.OperationalError, match="not allowed to connect"):
        server.session(WEB, bind_address="127.0.0.2")


def test_a_network_of_containers(server: Server) -> None:
    server.accounts([everybody(), {"address": "127.0.16.0/20", "users": [RUN]}])
    try:
        server.session(RUN, bind_address="127.0.31.9").close()
        with pytest.raises(pymysql.err.OperationalError, match="not allowed to connect"):
            server.session(RUN, bind_address="127.0.32.1")
    finally:
        server.accounts([everybody()])


def test_a_new_password(server: Server) -> None:
    """Only that of this login, and nothing else about it: a daemon stays locked."""
    statements = server.accounts([everybody()], **{RUN: "another", "dagster_daemon_b": "another"})
    assert [text.split(" IDENTIFIED")[0] for text in statements] == [
        "ALTER USER 'dagster_daemon_b'@'127.0.0.1'",
        f"ALTER USER '{RUN}'@'127.0.0.1'",
    ]
    assert "another" not in json.dumps(statements)
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        server.session(RUN)
    server.session(RUN, password="another").close()
    with pytest.raises(pymysql.err.OperationalError, match="locked"):
        server.session("dagster_daemon_b", password="another")
    assert len(server.accounts([everybody()])) == 2
    server.session(RUN).close()


def test_a_daemon_that_has_left_the_inventory(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shut out, and stays in the role of the daemons."""
    server.query("ALTER USER dagster_daemon_c@'127.0.0.1' ACCOUNT UNLOCK", database="")
    server.session("dagster_daemon_c").close()
    left = [one for one in mariadb_rig.logins() if one["name"] != "dagster_daemon_c"]
    monkeypatch.setattr(mariadb_rig, "logins", lambda _passwords: left)
    users = [{"address": "127.0.0.1", "users": [one["name"] for one in left]}]
    assert server.accounts(users) == ["ALTER USER 'dagster_daemon_c'@'127.0.0.1' ACCOUNT LOCK"]
    assert server.accounts(users) == []
    with pytest.raises(pymysql.err.OperationalError, match="locked"):
        server.session("dagster_daemon_c")


def test_how_many_connections(server: Server) -> None:
    server.accounts([everybody(connections={READ: 2})])
    try:
        first, second = server.session(READ), server.session(READ)
        with pytest.raises(pymysql.err.OperationalError, match="max_user_connections"):
            server.session(READ)
        server.session(WEB).close()
        first.close()
        second.close()
    finally:
        server.accounts([everybody()])


PASSWORDS = [
    "plain",
    "with space inside",
    '"quoted"',
    "'quoted'",
    "back\\slash\\n",
    "#not a comment",
    ";not a comment",
    "a=b:c",
    "[client]",
    "100%s%(name)s",
    "ünï©ödé ✓",
    "!include /etc/passwd",
    "ends with backslash\\",
]


@pytest.mark.parametrize("secret", PASSWORDS)
def test_a_password_arrives_as_it_was_written(server: Server, tmp_path: Path, secret: str) -> None:
    server.accounts([everybody()], **{READ: secret})
    try:
        assert connected(server, READ, options_of(tmp_path, **{WEB: "other", READ: secret, RUN: "other"}))[1] == ""
        assert "denied" in connected(server, READ, options_of(tmp_path, **{READ: f"{secret}x"}))[1], "the control"
    finally:
        server.accounts([everybody()])


# TLS


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[tuple[Server, Path]]:
    """A server with a certificate, to which everybody comes with TLS alone; and the folder of its authority."""
    tls = folder / "tls"
    tls.mkdir()
    tls.chmod(0o755)
    authority(tls, "ca")
    authority(tls, "other")
    certificate(tls, "IP:127.0.0.1")
    place = folder / "secure"
    place.mkdir()
    with running(place, tls=tls) as server:
        server.accounts([everybody(tls=True)])
        yield server, tls


def test_plain_text_is_refused(secure: tuple[Server, Path], server: Server) -> None:
    found, tls = secure
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        found.session(WEB, ssl_disabled=True)
    found.session(WEB, ssl={"ca": f"{tls}/ca.pem"}).close()
    server.session(WEB).close()


def test_who_knows_the_server(secure: tuple[Server, Path], tmp_path: Path) -> None:
    server, tls = secure
    options = options_of(tmp_path, **{RUN: password(RUN)})
    assert connected(server, RUN, options, tls=True, authority=f"{tls}/ca.pem") == (True, "")
    encrypted, error = connected(server, RUN, options, tls=True, authority=f"{tls}/other.pem")
    assert not encrypted
    assert "certificate verify failed" in error
    assert "certificate verify failed" in connected(server, RUN, options, tls=True)[1], "no authority of the system"
    assert "No such file" in connected(server, RUN, options, tls=True, authority=f"{tls}/gone.pem")[1]


def test_a_new_account_has_tls_from_the_beginning(secure: tuple[Server, Path]) -> None:
    server, tls = secure
    server.accounts([everybody(tls=True), {"address": "127.0.0.4", "users": [WEB], "tls": True}])
    asked: dict[str, Any] = {"statement": "SELECT 1", "bind_address": "127.0.0.4"}
    assert "denied" in mariadb_rig.attempt(server, WEB, ssl_disabled=True, **asked)
    assert mariadb_rig.attempt(server, WEB, ssl={"ca": f"{tls}/ca.pem"}, **asked) == "", "the control"
    server.accounts([everybody(tls=True)])


def test_a_server_without_tls_is_refused(server: Server, tmp_path: Path, secure: tuple[Server, Path]) -> None:
    """Somebody in between may say that the server has none. The password's answer would be sent in plain text."""
    options = options_of(tmp_path, **{RUN: password(RUN)})
    assert connected(server, RUN, options) == (False, ""), "the control: without TLS of ours it connects"
    assert "SSL" in connected(server, RUN, options, tls=True, authority=f"{secure[1]}/ca.pem")[1]


def test_a_renewed_certificate_is_read_without_a_restart(secure: tuple[Server, Path], tmp_path: Path) -> None:
    """And one for another address is refused: a client verifies whom it meant."""
    server, tls = secure
    options = options_of(tmp_path, **{RUN: password(RUN)})
    verified: dict[str, Any] = {"tls": True, "authority": f"{tls}/ca.pem"}
    kept, pid = server.session(WEB, ssl={"ca": f"{tls}/ca.pem"}), server.pid()
    certificate(tls, "DNS:db.example.com")
    assert connected(server, RUN, options, **verified) == (True, ""), "the old one is in memory"
    server.query("FLUSH SSL", database="")
    assert "mismatch" in connected(server, RUN, options, **verified)[1]
    certificate(tls, "IP:127.0.0.1")
    server.query("FLUSH SSL", database="")
    assert connected(server, RUN, options, **verified) == (True, "")
    with kept.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert server.pid() == pid


def test_dagster_verifies_the_server(secure: tuple[Server, Path], folder: Path) -> None:
    """By the URL of its processes: it migrates with the right authority, and sends nothing with another one."""
    server, tls = secure
    (place := folder / "verified").mkdir()
    with pytest.raises(AssertionError, match="certificate verify failed"):
        MariaSite(server, place, code=DEFINITIONS, tls=f"{tls}/other.pem").migrate()
    site = MariaSite(server, place, code=DEFINITIONS, tls=f"{tls}/ca.pem")
    assert site.query("SHOW TABLES") == []
    site.migrate()
    assert site.probe()["rights"] > 50, "the program of module schema comes in the same way"


def documented(heading: str) -> list[str]:
    """The statements of the first block of SQL below a heading of the page on servers of one's own."""
    text = (ROOT / "docs/external-database.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    block = re.sub("^--.*$", "", text.split("```sql\n")[1].split("```")[0], flags=re.MULTILINE)
    return [statement for statement in (part.strip() for part in block.split(";")) if statement]


def test_server_of_ones_own_as_the_documentation_makes_it(secure: tuple[Server, Path], folder: Path) -> None:
    """Its two logins do what they are for, and no more."""
    place = folder / "own"
    place.mkdir()
    own = Server(place, tls=secure[1])
    words = {"database": "orchestration", "hosts": "127.0.0.%"}
    for kind, login in (("migration_", MIGRATION), ("", WEB), ("run_", RUN)):
        words |= {f"{kind}user": login, f"{kind}password": password(login)}
    try:
        for statement in documented("MariaDB"):
            own.query(statement.format(**words), database="")
        site = MariaSite(own, place, "orchestration", DEFINITIONS, tls=f"{secure[1]}/ca.pem")
        site.migrate()
        rights = {"query": (LEASE / "rights.sql").read_text(encoding="utf-8"), "app": ""}
        secrets = [
            {"user": user, "password": password(user), "migration": user == MIGRATION} for user in (MIGRATION, WEB, RUN)
        ]
        asked = {
            "logins": secrets,
            "rights": {**rights, "logins": {"web": WEB, "daemon": WEB, "code": RUN, "run": RUN, "read": WEB}},
        }
        answer = site.ask(**asked)
        assert answer["problems"] == []
        assert answer["rights"] > 20
        assert site.ask(**asked)["rights"] == 0
        site.command_line(["run", "list"], login=WEB)
        for login in (WEB, RUN):
            said = mariadb_rig.attempt(
                own, login, "DROP TABLE runs", "orchestration", ssl={"ca": f"{secure[1]}/ca.pem"}
            )
            assert "denied" in said
    finally:
        own.close()


# What is refused about a server


def greeting(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return mysql.refused(connection)


def test_a_server_is_known_before_a_login(server: Server) -> None:
    assert greeting(server.port) == ""


def test_a_host_that_no_login_may_come_from(server: Server) -> None:
    way = Proxy(server.port, source="127.0.0.9")
    try:
        assert greeting(way.port).startswith("refuses this host: Host '127.0.0.9' is not allowed to connect")
    finally:
        way.close()


def test_good_server(site: MariaSite) -> None:
    secrets = [
        {"user": user, "password": password(user), "migration": user == MIGRATION} for user in (MIGRATION, WEB, RUN)
    ]
    assert site.ask(logins=secrets)["problems"] == []
    wrong = site.ask(logins=[{"user": MIGRATION, "password": "wrong", "migration": True}])["problems"]
    assert len(wrong) == 1
    assert "user dagster_migration cannot connect" in wrong[0]
    assert "wrong" not in wrong[0]


SETTINGS: dict[str, tuple[Any, str]] = {
    "time_zone": ("+02:00", "the time zone of the server is +02:00; Dagster needs UTC"),
    "tx_isolation": ("SERIALIZABLE", "transactions are SERIALIZABLE; REPEATABLE-READ is needed"),
    "max_allowed_packet": (2**20, "max_allowed_packet is 1048576 bytes; 16777216 is needed"),
    "sql_mode": ("NO_BACKSLASH_ESCAPES", "sql_mode has NO_BACKSLASH_ESCAPES"),
    "innodb_snapshot_isolation": (1, "innodb_snapshot_isolation is ON, the default since MariaDB 11.6"),
    "read_only": (1, "the server is read-only (read_only), as a replica is"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_dagster_does_not_bear(site: MariaSite, name: str) -> None:
    """One sentence, and nothing is changed."""
    value, said = SETTINGS[name]
    ((before,),) = site.cluster.query(f"SELECT @@global.{name}")
    site.query("REVOKE INSERT ON runs FROM dagster_run")
    site.cluster.query(f"SET GLOBAL {name} = %s", arguments=(value,))
    try:
        answer = site.ask()
        assert [problem[: len(said)] for problem in answer["problems"]] == [said]
        assert answer["rights"] == 0
    finally:
        site.cluster.query(f"SET GLOBAL {name} = %s", arguments=(before,))
        assert site.probe()["rights"] == 1


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("CHARACTER SET latin1", "the character set of the database is latin1; utf8mb4 is needed"),
        ("CHARACTER SET utf8mb3", "the character set of the database is utf8mb3; utf8mb4 is needed"),
        (
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            "the collation of the database is utf8mb4_general_ci, for which",
        ),
        ("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ""),
    ],
)
def test_character_set_of_a_database(site: MariaSite, made: str, said: str) -> None:
    """Before the first migration. A database with tables is as it is."""
    site.cluster.query(f"CREATE DATABASE other {made}", database="")
    site.cluster.query("GRANT ALL PRIVILEGES ON other.* TO dagster_owner WITH GRANT OPTION", database="")
    try:
        problems = site.ask(database="other", rights=None)["problems"]
        assert [problem[: len(said)] for problem in problems] == ([said] if said else [])
        if "general_ci" in said:
            site.cluster.query("CREATE TABLE alembic_version (version_num text)", database="other")
            site.cluster.query("INSERT INTO alembic_version VALUES ('x')", database="other")
            assert site.ask(database="other", rights=None)["problems"] == []
    finally:
        site.cluster.query("DROP DATABASE other", database="")
        site.cluster.query("REVOKE ALL PRIVILEGES ON other.* FROM dagster_owner", database="")
        site.cluster.query("REVOKE GRANT OPTION ON other.* FROM dagster_owner", database="")


def test_rights_of_the_migration(site: MariaSite) -> None:
    site.cluster.query("CREATE DATABASE less COLLATE utf8mb4_bin", database="")
    site.cluster.query("GRANT SELECT, INSERT ON less.* TO dagster_owner", database="")
    site.cluster.query("REVOKE SELECT ON mysql.tables_priv FROM dagster_owner", database="")
    try:
        first, second = site.ask(database="less", rights=None)["problems"]
        assert first.startswith(
            f"user {MIGRATION} may not UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER in database less"
        )
        assert second.startswith(f"user {MIGRATION} may not read mysql.tables_priv")
    finally:
        site.cluster.query("DROP DATABASE less", database="")
        site.cluster.query("REVOKE ALL PRIVILEGES ON less.* FROM dagster_owner", database="")
        site.cluster.accounts([everybody()])


def test_a_login_that_may_not_read(site: MariaSite) -> None:
    site.cluster.query("REVOKE SELECT ON dagster.* FROM dagster_app", database="")
    asked = [{"user": user, "password": password(user), "migration": user == MIGRATION} for user in (MIGRATION, READ)]
    try:
        (problem,) = site.ask(logins=asked)["problems"]
        assert problem.startswith(f"user {READ} may not read alembic_version")
    finally:
        site.cluster.accounts([everybody()])
    assert site.ask(logins=asked)["problems"] == []


def test_what_the_schema_lacks_is_seen(site: MariaSite) -> None:
    site.query("DROP INDEX idx_step_key ON event_logs")
    site.query("RENAME TABLE pending_steps TO away")
    try:
        assert site.ask(rights=None)["missing"] == ["table pending_steps", "index idx_step_key"]
    finally:
        site.query("RENAME TABLE away TO pending_steps")
        site.query("CREATE INDEX idx_step_key ON event_logs (step_key(32))")
    assert site.probe()["missing"] == []


def test_a_daemon_is_let_in_by_the_guard_alone(server: Server) -> None:
    server.query(f"ALTER USER {DAEMON}@'127.0.0.1' ACCOUNT LOCK", database="")
    try:
        assert server.accounts([everybody()]) == []
        with pytest.raises(pymysql.err.OperationalError, match="locked"):
            server.session(DAEMON)
    finally:
        server.query(f"ALTER USER {DAEMON}@'127.0.0.1' ACCOUNT UNLOCK", database="")
    assert server.accounts([everybody()]) == [], "nor does role mysql lock the one that is let in"


def test_the_server_comes_back_by_itself(folder: Path) -> None:
    """Killed in the middle of a write: what was committed is there."""
    place = folder / "killed"
    place.mkdir()
    with running(place, innodb_flush_log_at_trx_commit=1) as server:
        server.query("CREATE TABLE t (a int PRIMARY KEY)")
        server.query("INSERT INTO t VALUES (1)")
        server.stop("immediate")
        server.start()
        until(lambda: server.query("SELECT a FROM t") == [(1,)], 10, "the row is there")
        assert server.accounts([everybody()]) == []
