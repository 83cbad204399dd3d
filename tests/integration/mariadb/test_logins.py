# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each login of MariaDB with real Dagster: what its process does works, and nothing else does.

Each attack has its control: somebody may do it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from deployment import Dagster
from logins_rig import (
    CODE,
    DAEMON,
    LOGINS,
    MIGRATION,
    READ,
    RUN,
    WEB,
    code_servers_work,
    read_only_webserver_works,
    runs_work,
    ui_works,
)
from mariadb_rig import LEASE, MariaSite, Server, attempt, everybody

DENIED = r"denied|must be|Unknown database|not allowed"
GUARD = "dagster_guard"
EVERY = (*LOGINS, GUARD)


# What no login may do. MariaDB does not take such a statement back, so the control's own is taken back by another one.

DDL = [
    ("CREATE TABLE mine (a int)", "DROP TABLE mine"),
    ("CREATE TEMPORARY TABLE mine (a int)", ""),
    ("CREATE VIEW mine AS SELECT 1", "DROP VIEW mine"),
    ("ALTER TABLE runs ADD COLUMN mine int", "ALTER TABLE runs DROP COLUMN mine"),
    ("CREATE TRIGGER mine BEFORE INSERT ON runs FOR EACH ROW SET @x = 1", "DROP TRIGGER mine"),
    ("CREATE PROCEDURE mine() SELECT 1", "DROP PROCEDURE mine"),
    ("CREATE EVENT mine ON SCHEDULE EVERY 1 DAY DO SET @x = 1", "DROP EVENT mine"),
    ("CREATE INDEX mine ON runs (status)", "DROP INDEX mine ON runs"),
    ("RENAME TABLE runs TO mine", "RENAME TABLE mine TO runs"),
    ("LOCK TABLES runs WRITE", ""),
    ("UPDATE alembic_version SET version_num = 'mine'", ""),
    ("GRANT DELETE ON runs TO dagster_run", "REVOKE DELETE ON runs FROM dagster_run"),
]


@pytest.mark.parametrize(("statement", "undone"), DDL, ids=[statement for statement, _undone in DDL])
def test_only_the_owner_changes_the_schema(site: MariaSite, statement: str, undone: str) -> None:
    for login in LOGINS:
        said = attempt(site.cluster, login, statement)
        assert re.search(DENIED, said), (login, said)
    assert attempt(site.cluster, MIGRATION, statement) == "", "the control: the login of the migration"
    assert not undone or attempt(site.cluster, MIGRATION, undone) == ""


@pytest.mark.parametrize("statement", ["DROP TABLE runs", "TRUNCATE TABLE event_logs", "DROP DATABASE dagster"])
def test_nobody_drops_a_table(site: MariaSite, statement: str) -> None:
    """Which the owner may, but the tests need them: what the server says that it may is the control."""
    for login in LOGINS:
        assert re.search(DENIED, attempt(site.cluster, login, statement)), login
    with site.cluster.session(MIGRATION) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GRANTS")
        grants = [line for (line,) in cursor.fetchall()]
    assert "GRANT ALL PRIVILEGES ON `dagster`.* TO `dagster_owner` WITH GRANT OPTION" in grants


OF_THE_SERVER = [
    "SET ROLE dagster_owner",
    "CREATE ROLE mine",
    "CREATE USER mine@localhost",
    "ALTER USER dagster_daemon_b@'127.0.0.1' ACCOUNT UNLOCK",
    "SET PASSWORD FOR dagster_run@'127.0.0.1' = PASSWORD('mine')",
    "GRANT dagster_owner TO dagster_run",
    "CREATE DATABASE mine",
    "USE mysql",
    "SELECT * FROM mysql.global_priv",
    "SET GLOBAL max_connections = 5",
    "KILL 1",
    "SHUTDOWN",
    "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT 1 INTO OUTFILE '/tmp/mine'",
    "FLUSH PRIVILEGES",
    "INSTALL SONAME 'mine'",
]


@pytest.mark.parametrize("statement", OF_THE_SERVER)
def test_nobody_gets_more(site: MariaSite, statement: str) -> None:
    """Not even the owner of the tables. The control is the superuser, where its own does not end the tests."""
    for login in (*EVERY, MIGRATION):
        if (login, statement) == (MIGRATION, "SET ROLE dagster_owner") or f"FOR {login}@" in statement:
            continue  # its own role, and its own password
        if statement == "USE mysql" and login == MIGRATION:
            continue  # it reads there which rights there are
        if "LOAD_FILE" in statement:
            with (
                site.cluster.session(login, "" if login == GUARD else "dagster") as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)
                assert cursor.fetchall() == ((None,),)
            continue
        assert attempt(site.cluster, login, statement, "" if login == GUARD else "dagster") != "", login
    if statement in ("CREATE ROLE mine", "CREATE DATABASE mine"):
        site.cluster.query(statement)
        site.cluster.query(statement.replace("CREATE", "DROP"))


def test_another_database_on_the_server(site: MariaSite) -> None:
    site.cluster.query("CREATE DATABASE theirs", database="")
    try:
        site.cluster.query("CREATE TABLE t (a int)", database="theirs")
        for login in (*EVERY, MIGRATION):
            assert "denied" in attempt(site.cluster, login, "SELECT * FROM theirs.t", "")
            assert "denied" in attempt(site.cluster, login, "SELECT 1", "theirs")
        assert site.cluster.query("SELECT * FROM t", database="theirs") == [], "the control"
    finally:
        site.cluster.query("DROP DATABASE theirs", database="")


def test_a_database_of_a_similar_name(site: MariaSite) -> None:
    """In a grant, `_` stands for any letter: a_b would be a right on aXb."""
    server = site.cluster
    for name in ("a_b", "axb"):
        server.query(f"CREATE DATABASE {name} COLLATE utf8mb4_bin", database="")
    try:
        server.accounts([everybody()], "a_b")
        assert attempt(server, MIGRATION, "CREATE TABLE t (a int)", "a_b") == "", "the control"
        assert "denied" in attempt(server, MIGRATION, "CREATE TABLE t (a int)", "axb")
        assert "denied" in attempt(server, RUN, "SELECT 1", "axb")
    finally:
        for name in ("a_b", "axb"):
            server.query(f"DROP DATABASE {name}", database="")
        for role in ("dagster_owner", "dagster_app"):
            server.query(f"REVOKE ALL PRIVILEGES ON `a\\_b`.* FROM {role}", database="")


# What is another's

SENSOR_STATE = "INSERT INTO instigators (selector_id, status, instigator_body) VALUES ('s', 'RUNNING', '{}')"
OTHERS = [
    # What a login tries, who may not, and who may: the control. The fence refuses more, by rows.
    (
        "INSERT INTO job_ticks (job_origin_id, status, timestamp) VALUES ('x', 'STARTED', now())",
        (READ, CODE, RUN),
        DAEMON,
    ),
    (
        "INSERT INTO daemon_heartbeats (daemon_type, daemon_id, timestamp) VALUES ('x', 'x', now())",
        (READ, CODE, RUN),
        DAEMON,
    ),
    (SENSOR_STATE, (READ, CODE, RUN), WEB),
    ("UPDATE instigators SET status = 'STOPPED'", (READ, CODE, RUN), WEB),
    ("INSERT INTO jobs (job_origin_id, status, job_type) VALUES ('s', 'RUNNING', 'x')", (READ, CODE, RUN), WEB),
    ("INSERT INTO bulk_actions (`key`, status, timestamp) VALUES ('b', 'REQUESTED', now())", (READ, CODE, RUN), WEB),
    ("DELETE FROM runs", (READ, CODE, RUN, DAEMON), WEB),
    ("DELETE FROM event_logs", (READ, CODE, RUN, DAEMON), WEB),
    ("UPDATE event_logs SET event = ''", (READ, CODE, RUN, DAEMON), WEB),
    ("UPDATE runs SET status = 'CANCELING'", (READ, CODE), RUN),
    ("INSERT INTO runs (run_id, status, run_body) VALUES ('r', 'NOT_STARTED', '')", (READ, CODE), RUN),
    ("DELETE FROM concurrency_slots", (READ, CODE), RUN),
    ("INSERT INTO event_logs (run_id, event) VALUES ('r', '')", (READ,), CODE),
    ("UPDATE asset_keys SET wipe_timestamp = now()", (READ,), CODE),
    ("INSERT INTO kvs (`key`, value) VALUES ('k', 'v')", (READ,), CODE),
    ("DELETE FROM secondary_indexes", (WEB, READ, CODE, RUN, DAEMON), MIGRATION),
]


@pytest.mark.parametrize(("statement", "refused", "control"), OTHERS, ids=[str(n) for n in range(len(OTHERS))])
def test_data_of_another(site: MariaSite, statement: str, refused: tuple[str, ...], control: str) -> None:
    for login in (*refused, GUARD):
        said = attempt(site.cluster, login, statement, *([""] if login == GUARD else []))
        assert re.search("denied|No database selected", said), (login, said)
    assert attempt(site.cluster, control, statement) == "", "the control"


def test_every_login_reads(site: MariaSite) -> None:
    """The UI shows nothing else, and an asset sensor looks at the events of other runs. The guard reads nothing."""
    tables = [name for (name,) in site.query("SHOW TABLES")]
    assert len(tables) >= 20
    queries = [f"SELECT 1 FROM dagster.`{name}` LIMIT 0" for name in tables]  # noqa: S608 - tables of Dagster
    for login in LOGINS:
        assert [query for query in queries if attempt(site.cluster, login, query)] == []
    assert all(attempt(site.cluster, GUARD, query, "") for query in queries)


def test_each_table_of_dagster_is_judged(site: MariaSite) -> None:
    """What rights.sql does not name is for the services, and would be lacked by runs."""
    named = set(re.findall(r"^  \('(\w+)', '[awd]*'", (LEASE / "rights.sql").read_text(), re.MULTILINE))
    assert {name for (name,) in site.query("SHOW TABLES")} == named


def test_both_databases_give_the_same_rights() -> None:
    rows = r"^  \('\w+', '[awd]*'.*$"
    mysql, postgres = (
        re.findall(rows, (LEASE.parent / name / "rights.sql").read_text(), re.MULTILINE)
        for name in ("mysql", "postgres")
    )
    assert len(mysql) > 20
    assert mysql == postgres


# What each does


def test_ui(site: MariaSite, ui: Dagster) -> None:
    ui_works(site, ui)


def test_runs(site: MariaSite, ui: Dagster) -> None:
    runs_work(site, ui)


def test_code_servers(site: MariaSite, ui: Dagster) -> None:
    code_servers_work(site, ui)


def test_read_only_webserver(site: MariaSite, ui: Dagster) -> None:
    read_only_webserver_works(site, ui)


def test_command_line(site: MariaSite, ui: Dagster) -> None:
    """Of the webservers' login: it wipes what there is."""
    run = ui.launch("plain", "jobs")
    site.command_line(["run", "list"], ["run", "delete", run, "--force"], ["asset", "wipe", "--all", "--noprompt"])
    assert site.number("runs", f"run_id = '{run}'") == 0
    assert site.number("asset_keys", "wipe_timestamp IS NULL") == 0


# Grants


def test_what_an_operator_has_granted_stays(site: MariaSite) -> None:
    """A job of theirs may delete old runs."""
    delete = "DELETE FROM runs"
    assert "denied" in attempt(site.cluster, RUN, delete)
    site.query("GRANT DELETE ON runs TO dagster_run")
    try:
        assert site.probe()["rights"] == 0
        assert site.cluster.accounts([everybody()]) == []
        assert attempt(site.cluster, RUN, delete) == ""
    finally:
        site.query("REVOKE DELETE ON runs FROM dagster_run")


def test_a_table_of_a_later_dagster_is_for_the_services(site: MariaSite) -> None:
    site.query("CREATE TABLE later (id int AUTO_INCREMENT PRIMARY KEY)")
    add = "INSERT INTO later VALUES ()"
    try:
        assert "denied" in attempt(site.cluster, WEB, add)
        assert site.probe()["rights"] > 0
        assert attempt(site.cluster, WEB, add) == attempt(site.cluster, DAEMON, add) == ""
        assert "denied" in attempt(site.cluster, RUN, add)
    finally:
        site.query("DROP TABLE later")


def test_the_lease_is_no_table_of_dagster(site: MariaSite) -> None:
    site.query("CREATE TABLE dagster_guard_lease (one int)")
    try:
        assert site.probe()["rights"] == 0
        assert "denied" in attempt(site.cluster, WEB, "INSERT INTO dagster_guard_lease VALUES (1)")
    finally:
        site.query("DROP TABLE dagster_guard_lease")


def test_a_right_that_is_lost_comes_back(site: MariaSite) -> None:
    add = "INSERT INTO runs (run_id, status, run_body) VALUES ('r', 'NOT_STARTED', '')"
    site.query("REVOKE INSERT ON runs FROM dagster_run")
    site.query("REVOKE UPDATE (cached_status_data) ON asset_keys FROM dagster_read")
    assert "denied" in attempt(site.cluster, RUN, add)
    assert site.probe(apply=False)["rights"] == 2
    assert "denied" in attempt(site.cluster, RUN, add), "a check changes nothing"
    assert site.probe()["rights"] == 2
    assert attempt(site.cluster, RUN, add) == ""
    assert site.probe()["rights"] == 0


def test_server_of_the_users_own(site: MariaSite) -> None:
    """What a role may in the whole database is not granted again, and a login without a role is told."""
    logins = {"web": WEB, "daemon": WEB, "code": RUN, "run": RUN, "read": WEB}
    rights: dict[str, Any] = {"query": (LEASE / "rights.sql").read_text(encoding="utf-8"), "logins": logins, "app": ""}
    site.cluster.query("CREATE DATABASE own COLLATE utf8mb4_bin", database="")
    try:
        site.cluster.query("CREATE TABLE runs LIKE dagster.runs", database="own")
        for role in ("dagster_owner", "dagster"):
            more = " WITH GRANT OPTION" if role == "dagster_owner" else ""
            site.cluster.query(f"GRANT ALL PRIVILEGES ON own.* TO {role}{more}", database="")
        asked = {"database": "own", "rights": rights}
        answer = site.ask(**asked)
        assert answer["problems"] == []
        assert answer["rights"] == 2, "runs read and write theirs"
        assert site.ask(**asked)["rights"] == 0
        rights["logins"] = {**logins, "run": "nobody"}
        assert site.ask(**asked)["problems"] == [
            "there is no role nobody that a login has, to which its rights could be granted"
        ]
    finally:
        site.cluster.query("DROP DATABASE own", database="")
        for grant in (
            "GRANT OPTION ON own.* FROM dagster_owner",
            "ALL PRIVILEGES ON own.* FROM dagster_owner, dagster",
        ):
            site.cluster.query(f"REVOKE {grant}", database="")
        site.cluster.query("REVOKE SELECT ON own.* FROM dagster_run", database="")


def test_every_login_is_a_role_too(site: MariaSite, server: Server) -> None:
    """So what an operator grants is granted to a login, not to one of its accounts."""
    for login in (WEB, READ, CODE, RUN):
        with server.session(login) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_ROLE(), CURRENT_USER()")
            assert cursor.fetchall() == ((login, f"{login}@127.0.0.1"),)
    assert site.cluster is server
