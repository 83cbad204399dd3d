# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each login of the database with real Dagster: what its process does works, and nothing else does.

Each attack has its control: somebody may do it, or could before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from deployment import Dagster
from fence_rig import LEASE, Site
from guard_postgres import Cluster
from logins_rig import (
    CODE,
    DAEMON,
    DATABASE,
    LOGINS,
    MIGRATION,
    READ,
    RUN,
    WEB,
    attempt,
    code_servers_work,
    made,
    read_only_webserver_works,
    runs_work,
    served,
    ui_works,
)


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    with made(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def ui(site: Site) -> Iterator[Dagster]:
    """A webserver, and a code server with its own login."""
    with served(site) as found:
        yield found


# What no login may do

DDL = [
    "CREATE TABLE mine (a int)",
    "CREATE TEMPORARY TABLE mine (a int)",
    "CREATE SCHEMA mine",
    "ALTER TABLE runs ADD COLUMN mine int",
    "ALTER TABLE runs DISABLE TRIGGER USER",
    "DROP TABLE runs CASCADE",
    "DROP FUNCTION public.dagster_fence() CASCADE",
    "TRUNCATE runs CASCADE",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX ON runs (status)",
    "UPDATE alembic_version SET version_num = 'mine'",
    "COMMENT ON TABLE runs IS 'mine'",
]


@pytest.mark.parametrize("statement", DDL)
def test_only_the_owner_changes_the_schema(site: Site, statement: str) -> None:
    for login in LOGINS:
        said = attempt(site, login, statement)
        assert re.search(r"permission denied|must be owner", said), (login, said)
    assert attempt(site, MIGRATION, statement) == "", "the control: the login of the migration"


OF_THE_SERVER = [
    "SET ROLE dagster_owner",
    "SET ROLE dagster_guard_owner",
    "CREATE ROLE mine LOGIN",
    "ALTER ROLE dagster_daemon_b LOGIN",
    "ALTER ROLE dagster_run PASSWORD 'mine'",
    "CREATE DATABASE mine",
    "ALTER SYSTEM SET ssl = off",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "SELECT pg_reload_conf()",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM dagster_guard.look()",
]


@pytest.mark.parametrize("statement", OF_THE_SERVER)
def test_nobody_gets_more(site: Site, statement: str) -> None:
    for login in (*LOGINS, MIGRATION):
        if (login == MIGRATION and "owner" in statement and "guard" not in statement) or f"ROLE {login} P" in statement:
            continue  # its own group, and its own password
        assert attempt(site, login, statement) != "", login
    if not re.search("DATABASE|SYSTEM|dagster_guard.look", statement):
        assert attempt(site, "postgres", statement, host=str(site.cluster.folder)) == "", "the control"


# What is another's

SENSOR_STATE = "INSERT INTO instigators (selector_id, status, instigator_body) VALUES ('s', 'RUNNING', '{}')"
OTHERS = [
    # What a login tries, who may not, and who may: the control
    ("INSERT INTO job_ticks (status) VALUES ('STARTED')", (WEB, READ, CODE, RUN), DAEMON),
    ("INSERT INTO daemon_heartbeats (daemon_type, timestamp) VALUES ('x', now())", (WEB, READ, CODE, RUN), DAEMON),
    (SENSOR_STATE, (READ, CODE, RUN), WEB),
    ("UPDATE instigators SET status = 'STOPPED'", (READ, CODE, RUN), WEB),
    ("INSERT INTO jobs (job_origin_id, status, job_type) VALUES ('s', 'RUNNING', 'x')", (READ, CODE, RUN), WEB),
    ("INSERT INTO bulk_actions (key, status, timestamp) VALUES ('b', 'REQUESTED', now())", (READ, CODE, RUN), WEB),
    ("DELETE FROM runs", (READ, CODE, RUN, DAEMON), WEB),
    ("DELETE FROM event_logs", (READ, CODE, RUN, DAEMON), WEB),
    ("UPDATE event_logs SET event = ''", (READ, CODE, RUN, DAEMON), WEB),
    ("UPDATE runs SET status = 'CANCELING'", (READ, CODE), RUN),
    ("INSERT INTO runs (run_id, status, run_body) VALUES ('r', 'NOT_STARTED', '')", (READ, CODE), RUN),
    ("DELETE FROM concurrency_slots", (READ, CODE), RUN),
    ("INSERT INTO event_logs (run_id, event) VALUES ('r', '')", (READ,), CODE),
    ("UPDATE asset_keys SET wipe_timestamp = now()", (READ,), CODE),
    ("INSERT INTO kvs (key, value) VALUES ('k', 'v')", (READ,), CODE),
    ("DELETE FROM secondary_indexes", (WEB, READ, CODE, RUN, DAEMON), MIGRATION),
]


@pytest.mark.parametrize(("statement", "refused", "control"), OTHERS, ids=[str(n) for n in range(len(OTHERS))])
def test_data_of_another(site: Site, statement: str, refused: tuple[str, ...], control: str) -> None:
    for login in refused:
        said = attempt(site, login, statement)
        # A table that webservers may wipe is behind the fence, which tells a second daemon what it is.
        assert re.search(r"permission denied|login dagster may not", said), (login, said)
    assert attempt(site, control, statement) == "", "the control"


def test_every_login_reads(site: Site) -> None:
    """The UI shows nothing else, and an asset sensor looks at the events of other runs."""
    tables = [name for (name,) in site.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert len(tables) >= 20
    for login in LOGINS:
        assert [name for name in tables if attempt(site, login, f"SELECT FROM {name}")] == []


def test_each_table_of_dagster_is_judged(site: Site) -> None:
    """What rights.sql does not name is for the services, and would be lacked by runs."""
    named = set(re.findall(r"^  \('(\w+)', '[awd]*'", (LEASE / "rights.sql").read_text(), re.MULTILINE))
    assert {name for (name,) in site.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")} == named


# What each does


def test_ui(site: Site, ui: Dagster) -> None:
    """What test_fence.py does with this login is not done again: runs, schedules, backfills, the command line."""
    ui_works(site, ui)


@pytest.mark.long  # every run on a host has this login
def test_runs(site: Site, ui: Dagster) -> None:
    runs_work(site, ui)


def test_code_servers(site: Site, ui: Dagster) -> None:
    code_servers_work(site, ui)


def test_read_only_webserver(site: Site, ui: Dagster) -> None:
    read_only_webserver_works(site, ui)


# From an earlier release


def test_rights_of_an_earlier_release_are_taken_away(site: Site, ui: Dagster) -> None:
    """Each login wrote each table through a group. No request fails on the way, and a second play changes nothing."""
    assert site.probe()["rights"] == 0
    attack = "INSERT INTO bulk_actions (key, status, timestamp) VALUES ('b', 'REQUESTED', now())"
    for login in ("dagster", "dagster_run", "dagster_code", "dagster_read", "dagster_daemon"):
        site.query(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {login}")
        site.query(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {login}")
    site.query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dagster_app")
    site.query("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO dagster_app")
    for kind, rights in (("TABLES", "SELECT, INSERT, UPDATE, DELETE"), ("SEQUENCES", "USAGE, SELECT")):
        site.query(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE dagster_owner IN SCHEMA public GRANT {rights} ON {kind} TO dagster_app"
        )
    assert {attempt(site, login, attack) for login in (WEB, READ, CODE, RUN)} == {""}, "the control"
    assert ui.launch("plain", "jobs")
    assert site.probe()["rights"] > 50
    assert ui.launch("plain", "jobs")
    for login in (READ, CODE, RUN):
        assert "permission denied for table" in attempt(site, login, attack)
    assert site.probe()["rights"] == 0
    owned = "SET ROLE dagster_owner; CREATE TABLE later (id serial PRIMARY KEY); RESET ROLE"
    site.query(owned)
    try:
        assert "permission denied" in attempt(site, RUN, "INSERT INTO later DEFAULT VALUES")
        assert site.probe()["rights"] > 0
        assert attempt(site, WEB, "INSERT INTO later DEFAULT VALUES") == "", (
            "a table of a later Dagster is for the services"
        )
        assert "permission denied" in attempt(site, RUN, "INSERT INTO later DEFAULT VALUES")
    finally:
        site.query("DROP TABLE later")


def test_what_an_operator_has_granted_stays(site: Site) -> None:
    """A job of theirs may delete old runs."""
    delete = "DELETE FROM runs"
    assert "permission denied" in attempt(site, RUN, delete)
    site.query("GRANT DELETE ON runs TO dagster_run")
    try:
        assert site.probe()["rights"] == 0
        assert attempt(site, RUN, delete) == ""
    finally:
        site.query("REVOKE DELETE ON runs FROM dagster_run")


def test_server_of_the_users_own(site: Site) -> None:
    """Without the group nothing is taken away, and what a login has in another way is not granted."""
    given = [json.dumps({"web": WEB, "daemon": WEB, "code": RUN, "run": RUN, "read": WEB}), None]
    site.query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dagster_app")
    site.query("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO dagster_app")
    try:
        with site.cluster.connect(DATABASE) as connection:
            assert connection.execute((LEASE / "rights.sql").read_text(), given).fetchall() == []
    finally:
        site.probe()
