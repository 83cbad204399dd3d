# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each login of the database with real Dagster: what its process does works, and nothing else does.

Each attack has its control: somebody may do it, or could before.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from deployment import Dagster
from fence_rig import LEASE, PYTHON, SCHEDULE, Process, Site, result
from guard_postgres import Cluster
from guard_rig import free_port, until
from logins_rig import CODE, DAEMON, DATABASE, LOCATION, LOGINS, MIGRATION, READ, RUN, WEB, WORKER, attempt, made


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    with made(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def ui(site: Site) -> Iterator[Dagster]:
    """A webserver, and a code server with its own login."""
    port = free_port()
    argv = ["dagster", "api", "grpc", "-f", "jobs.py", "-a", "defs", "-h", "127.0.0.1", "-p", str(port)]
    place = f"load_from: [grpc_server: {{host: 127.0.0.1, port: {port}, location_name: jobs}}]\n"
    (site.folder / "workspace.yaml").write_text(place)
    server = Process(argv, site.environment(CODE), site.folder)
    try:
        until(lambda: "Started Dagster code server" in server.text(), 90, "the code server serves")
        with site.webserver() as dagster:
            yield dagster
    finally:
        server.end()
        print(f"--- code server\n{server.text()[-3000:]}")


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


def of(answer: dict[str, Any]) -> Any:
    (found,) = answer.values()
    return found


def test_ui(site: Site, ui: Dagster) -> None:
    """What test_fence.py does with this login is not done again: runs, schedules, backfills, the command line."""
    assert of(ui.query("query { version }"))
    limit = 'mutation($l: Int!) { setConcurrencyLimit(concurrencyKey: "ui", limit: $l) }'
    for number in (3, 1):
        assert of(ui.query(limit, l=number)) is True
    assert site.number("concurrency_slots", "concurrency_key = 'ui'") == 1
    assert of(ui.query('mutation { freeConcurrencySlots(runId: "none") }')) is not None
    assert of(ui.query('mutation { deleteConcurrencyLimit(concurrencyKey: "ui") }')) is True
    paused = "mutation($p: Boolean!) { setAutoMaterializePaused(paused: $p) }"
    assert of(ui.query(paused, p=True)) is True
    repository = {"repositoryName": LOCATION["repositoryName"], "repositoryLocationName": "jobs"}
    added = (
        "mutation($r: RepositorySelector!) { addDynamicPartition(repositorySelector: $r,"
        ' partitionsDefName: "words", partitionKey: "of the UI") { __typename } }'
    )
    result(ui.query(added, r=repository), "AddDynamicPartitionSuccess")
    reported = (
        "mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION,"
        ' assetKey: {path: ["counted"]}}) { __typename ... on PythonError { message } } }'
    )
    result(ui.query(reported), "ReportRunlessAssetEventsSuccess")
    wiped = (
        'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["counted"]}}])'
        " { __typename ... on PythonError { message } } }"
    )
    result(ui.query(wiped), "AssetWipeSuccess")
    run = ui.launch("plain", "jobs")
    result(ui.query("mutation($r: String!) { terminateRun(runId: $r) { __typename } }", r=run), "TerminateRunSuccess")
    result(
        ui.query("mutation($r: String!) { deletePipelineRun(runId: $r) { __typename } }", r=run),
        "DeletePipelineRunSuccess",
    )
    assert site.number("runs", f"run_id = '{run}'") == 0
    schedule = "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }"
    result(ui.query(schedule, s={**SCHEDULE, **LOCATION}), "ScheduleStateResult")


def work(site: Site, run: str) -> None:
    """A run as its container executes it."""
    argv = [PYTHON, "-c", WORKER, run]
    done = subprocess.run(
        argv, env=site.environment(RUN), cwd=site.folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_runs(site: Site, ui: Dagster) -> None:
    """Under their login, from the launch of the real daemon on: assets, a check, a pool, partitions, tags."""
    assert of(ui.query('mutation { setConcurrencyLimit(concurrencyKey: "narrow", limit: 2) }')) is True
    asked = [ui.launch("plain", "jobs"), ui.launch("everything", "jobs")]
    with site.daemon(DAEMON) as daemon:
        until(lambda: set(asked) <= set(daemon.launched()), 120, "the daemon launches them")
        assert "permission denied" not in daemon.text()
    for run in asked:
        work(site, run)
        assert ui.status(run) == "SUCCESS"
    assert site.number("asset_keys", "asset_key = '[\"counted\"]' AND last_materialization IS NOT NULL") == 1
    assert site.number("concurrency_slots", "concurrency_key = 'narrow'") == 2, "the control: the pool has a limit"
    assert site.number("concurrency_slots", "run_id IS NOT NULL") == 0, "its slots are free again"
    assert site.number("run_tags", "key = 'seen'") == 2
    assert site.number("dynamic_partitions", "partition = 'b'") == 1


def test_code_servers(site: Site, ui: Dagster) -> None:
    """A sensor runs inside of the code server, with its login."""
    dry = (
        "mutation($s: SensorSelector!) { sensorDryRun(selectorData: $s, cursor: null) { __typename"
        " ... on DryRunInstigationTick { evaluationResult { error { message } runRequests { runKey } } }"
        " ... on PythonError { message } } }"
    )
    found = result(ui.query(dry, s={**LOCATION, "sensorName": "looks"}), "DryRunInstigationTick")["evaluationResult"]
    assert found["error"] is None
    assert len(found["runRequests"]) == 1
    assert site.number("dynamic_partitions", "partition = 'of a sensor'") == 1
    assert site.number("asset_keys", "asset_key = '[\"outside\"]'") == 1


QUERIES = {
    "runs": "query { runsOrError(limit: 9) { __typename } }",
    "assets": "query { assetsOrError { __typename } }",
    "schedules": "query { repositoriesOrError { __typename ... on RepositoryConnection { nodes { schedules {"
    " scheduleState { status ticks(limit: 3) { status } } } sensors { name sensorState { status } } } } } }",
    "partitions": "query { assetNodes { assetKey { path } partitionStats { numMaterialized }"
    " assetPartitionStatuses { __typename } } }",
    "daemons": "query { instance { daemonHealth { allDaemonStatuses { healthy } }"
    " concurrencyLimits { concurrencyKey } } }",
}


def test_read_only_webserver(site: Site, ui: Dagster) -> None:
    """It writes all the same: the identity of the storage with the first page, and what it has seen of partitions."""
    site.query("DELETE FROM instance_info")
    reported = (
        "mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION,"
        ' assetKey: {path: ["lettered"]}, partitionKeys: ["a"]}) { __typename ... on PythonError { message } } }'
    )
    result(ui.query(reported), "ReportRunlessAssetEventsSuccess")
    with site.webserver(READ, "--read-only") as reader:
        assert reader.get("/")[0] == 200
        assert reader.get("/runs")[0] == 200
        for name, query in QUERIES.items():
            asked, given = reader.query(query), ui.query(query)
            assert "Error" not in json.dumps(asked).replace("OrError", ""), (name, asked)
            assert asked == given, name
        assert site.number("asset_keys", "asset_key = '[\"lettered\"]' AND cached_status_data IS NOT NULL") == 1
        assert site.number("instance_info") == 1
        with pytest.raises(AssertionError):
            reader.launch("plain", "jobs")


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
