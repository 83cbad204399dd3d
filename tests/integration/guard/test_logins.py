# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each login of the database with real Dagster: what its process does works, and nothing else does.

Rights and rules of who may connect are those of the roles. Each attack has its control: somebody may do it, or could before.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import psycopg
import pytest
from deployment import Dagster
from fence_rig import LEASE, PYTHON, SCHEDULE, Process, Site, result
from guard_rig import ROOT, Cluster, Proxy, free_port, password, until

DATABASE = "logins"
WEB, READ, CODE, RUN = "dagster", "dagster_read", "dagster_code", "dagster_run"
DAEMON, MIGRATION = "dagster_daemon_a", "dagster_migration"
LOGINS = (WEB, READ, CODE, RUN, DAEMON)
DEFINITIONS = """
from dagster import *

words = DynamicPartitionsDefinition(name="words")

@asset(partitions_def=words)
def lettered(context):
    return 1

@asset(pool="narrow")
def counted(context):
    context.instance.add_dynamic_partitions("words", ["a", "b"])
    context.add_output_metadata({"n": 1})
    return 1

@asset_check(asset=counted)
def is_one():
    return AssetCheckResult(passed=True)

@op(pool="narrow")
def say(context):
    context.log.info(str(context.instance.get_runs_count()))

@job
def plain():
    say()

everything = define_asset_job("everything", selection=[counted])

@schedule(job=plain, cron_schedule="0 0 1 1 *")
def minutely():
    return RunRequest()

@sensor(job=plain)
def looks(context):
    context.instance.add_dynamic_partitions("words", ["of a sensor"])
    context.instance.report_runless_asset_event(AssetMaterialization("outside"))
    context.instance.report_runless_asset_event(
        AssetCheckEvaluation(asset_key=AssetKey("counted"), check_name="is_one", passed=True, metadata={})
    )
    return RunRequest(run_key=str(context.instance.get_runs_count()))

@run_status_sensor(run_status=DagsterRunStatus.SUCCESS)
def hears(context):
    raise Exception("heard " + context.dagster_run.run_id)

defs = Definitions(assets=[lettered, counted], asset_checks=[is_one], jobs=[plain, everything], schedules=[minutely],
                   sensors=[looks, hears])
"""
# What the worker of a run does in its container, under the login of runs: execute a run that the daemon has launched.
WORKER = """
import sys
from dagster import DagsterInstance
from dagster._core.execution.api import execute_run
from dagster._core.code_pointer import FileCodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
with DagsterInstance.get() as instance:
    run = instance.get_run_by_id(sys.argv[1])
    job = ReconstructableRepository(FileCodePointer("jobs.py", "defs")).get_reconstructable_job(run.job_name)
    done = execute_run(job, run, instance)
    instance.add_run_tags(run.run_id, {"seen": "yes"})
    sys.exit(0 if done.success else 1)
"""
LOCATION = {"repositoryLocationName": "jobs", "repositoryName": "__repository__"}


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    found = Site(cluster, tmp_path_factory.mktemp("logins"), DATABASE, DEFINITIONS)
    found.migrate()
    assert found.probe()["rights"] > 50
    return found


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


def attempt(site: Site, login: str, statement: str, database: str = DATABASE, **where: Any) -> str:
    """The error of a statement as a login, empty when it worked. Nothing of it stays."""
    given: dict[str, Any] = {"host": "127.0.0.1", "user": login, "password": password(login), **where}
    try:
        with site.cluster.connect(database, autocommit=False, **given) as connection:
            try:
                connection.execute(statement)
            finally:
                connection.rollback()
    except psycopg.Error as error:
        return str(error)
    return ""


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
    "COPY (SELECT 1) TO PROGRAM 'true'",
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
        assert "permission denied" in attempt(site, login, statement), login
    assert attempt(site, control, statement) == "", "the control"


def test_every_login_reads(site: Site) -> None:
    """The UI shows nothing else, and an asset sensor looks at the events of other runs."""
    tables = [name for (name,) in site.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert len(tables) >= 20
    for login in LOGINS:
        assert [name for name in tables if attempt(site, login, f"SELECT FROM {name}")] == []  # noqa: S608


def test_each_table_of_dagster_is_judged(site: Site) -> None:
    """What rights.sql does not name is for the services, and would be lacked by runs."""
    named = set(re.findall(r"^  \('(\w+)', '[awd]*'", (LEASE / "rights.sql").read_text(), re.MULTILINE))
    assert {name for (name,) in site.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")} == named


# What each does


def of(answer: dict[str, Any]) -> Any:
    (found,) = answer.values()
    return found


def test_ui(site: Site, ui: Dagster) -> None:
    """What test_fence.py does with the same login is not done again: runs, schedules, sensors, backfills, the command line."""
    assert of(ui.query("query { version }"))
    limit = "mutation($l: Int!) { setConcurrencyLimit(concurrencyKey: \"ui\", limit: $l) }"
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
    result(ui.query("mutation($r: String!) { deletePipelineRun(runId: $r) { __typename } }", r=run), "DeletePipelineRunSuccess")
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
    asked = [ui.launch("plain", "jobs"), ui.launch("everything", "jobs")]
    with site.daemon(DAEMON) as daemon:
        until(lambda: set(asked) <= set(daemon.launched()), 120, "the daemon launches them")
        assert "permission denied" not in daemon.text()
    for run in asked:
        work(site, run)
        assert ui.status(run) == "SUCCESS"
    assert site.number("asset_keys", "asset_key = '[\"counted\"]' AND last_materialization IS NOT NULL") == 1
    assert site.number("concurrency_slots", "run_id IS NOT NULL") == 0, "the slots of the pool are free again"
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
    "schedules": "query { repositoriesOrError { __typename ... on RepositoryConnection { nodes { schedules { scheduleState"
    " { status ticks(limit: 3) { status } } } sensors { name sensorState { status } } } } } }",
    "partitions": "query { assetNodes { assetKey { path } assetPartitionStatuses { __typename } } }",
    "daemons": "query { instance { daemonHealth { allDaemonStatuses { healthy } } concurrencyLimits { concurrencyKey } } }",
}


def test_read_only_webserver(site: Site, ui: Dagster) -> None:
    with site.webserver(READ, "--read-only") as reader:
        assert reader.get("/")[0] == 200
        assert reader.get("/runs")[0] == 200
        for name, query in QUERIES.items():
            asked, given = reader.query(query), ui.query(query)
            assert "Error" not in json.dumps(asked).replace("OrError", ""), (name, asked)
            assert asked == given, name
        with pytest.raises(AssertionError):
            reader.launch("plain", "jobs")


# From where


@pytest.fixture
def rules(site: Site) -> Iterator[dict[str, Proxy]]:
    """The rules of the role: addresses of loopback stand for hosts. Way in by the kind of host."""
    sources = {"db": "127.0.0.1", "web": "127.0.0.2", "ctl": "127.0.0.3", "code": "127.0.0.4", "run": "127.0.0.5"}
    allowed = {"web": [WEB, READ, MIGRATION], "ctl": [WEB, MIGRATION, DAEMON], "code": [CODE], "run": [RUN]}
    template = (ROOT / "roles/postgres/templates/etc/postgresql/pg_hba.conf.j2").read_text(encoding="utf-8")
    clients = [{"address": f"{sources[name]}/32", "users": users} for name, users in allowed.items()]
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    text = environment.from_string(template).render(
        dagster={"database_name": DATABASE, "postgres_clients": clients},
        dagster_plan={"postgres": {"local": [MIGRATION]}},
        __dagster_postgres_open=[],
    )
    path = site.cluster.folder / "data/pg_hba.conf"
    before = path.read_text()
    path.write_text(f"local all postgres trust\n{text}")
    site.cluster.query("SELECT pg_reload_conf()", "postgres")
    until(lambda: "no pg_hba.conf entry" in attempt(site, WEB, "SELECT 1"), 10, "the rules are read")
    ways = {name: Proxy(site.cluster.port, source) for name, source in sources.items()}
    yield ways
    for way in ways.values():
        way.close()
    path.write_text(before)
    site.cluster.query("SELECT pg_reload_conf()", "postgres")
    until(lambda: attempt(site, WEB, "SELECT 1") == "", 10, "the rules are those of the rig")


def through(site: Site, way: Proxy, login: str, database: str = DATABASE, **more: Any) -> str:
    """The error of a connection by a way."""
    given: dict[str, Any] = {"host": "127.0.0.1", "port": way.port, "user": login, "password": password(login), **more}
    try:
        psycopg.connect(dbname=database, connect_timeout=10, **given).close()
    except psycopg.Error as error:
        return str(error)
    return ""


def test_source_and_login(site: Site, rules: dict[str, Proxy]) -> None:
    """Exactly the pairs that the deployment has, and only into its database."""
    found = {(name, login) for name, way in rules.items() for login in (*LOGINS, MIGRATION) if not through(site, way, login)}
    assert found == {
        ("db", MIGRATION),
        *(("web", login) for login in (WEB, READ, MIGRATION)),
        *(("ctl", login) for login in (WEB, MIGRATION, DAEMON)),
        ("code", CODE),
        ("run", RUN),
    }
    for name, login in sorted(found):
        for other in ("postgres", "template1", "dagster"):
            assert "no pg_hba.conf entry" in through(site, rules[name], login, other), (login, other)
        assert "password authentication failed" in through(site, rules[name], login, password="another")


def test_control_without_the_rules(site: Site) -> None:
    """Each login gets into another database by the way of any other: PUBLIC may connect to the server's own."""
    way = Proxy(site.cluster.port, "127.0.0.1")
    try:
        assert {through(site, way, login, "postgres") for login in (*LOGINS, MIGRATION)} == {""}
    finally:
        way.close()


# From an earlier release


def test_rights_of_an_earlier_release_are_taken_away(site: Site, ui: Dagster) -> None:
    """Each login wrote each table through a group. No request fails on the way, and a second play changes nothing."""
    assert site.probe()["rights"] == 0
    attack = "INSERT INTO bulk_actions (key, status, timestamp) VALUES ('b', 'REQUESTED', now())"
    tables = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND relkind = "
    for login in ("dagster", "dagster_run", "dagster_code", "dagster_read", "dagster_daemon"):
        site.query(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {login}")
        site.query(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {login}")
    site.query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dagster_app")
    site.query("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO dagster_app")
    for kind, rights in (("TABLES", "SELECT, INSERT, UPDATE, DELETE"), ("SEQUENCES", "USAGE, SELECT")):
        site.query(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE dagster_owner IN SCHEMA public GRANT {rights} ON {kind} TO dagster_app"
        )
    assert site.query(f"{tables} 'r'")
    assert {attempt(site, login, attack) for login in (WEB, READ, CODE, RUN)} == {""}, "the control"
    assert ui.launch("plain", "jobs")
    assert site.probe()["rights"] > 50
    assert ui.launch("plain", "jobs")
    for login in (READ, CODE, RUN):
        assert "permission denied" in attempt(site, login, attack)
    assert site.probe()["rights"] == 0
    owned = "SET ROLE dagster_owner; CREATE TABLE later (id serial PRIMARY KEY); RESET ROLE"
    site.query(owned)
    try:
        assert "permission denied" in attempt(site, RUN, "INSERT INTO later DEFAULT VALUES")
        assert site.probe()["rights"] > 0
        assert attempt(site, WEB, "INSERT INTO later DEFAULT VALUES") == "", "a table of a later Dagster is for the services"
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


def test_server_of_the_users_own(site: Site, tmp_path: Path) -> None:  # noqa: ARG001
    """Without the group nothing is taken away, and what a login has in another way is not granted again."""
    given = [json.dumps({"web": WEB, "daemon": WEB, "code": RUN, "run": RUN, "read": WEB}), None]
    site.query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dagster_app")
    site.query("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO dagster_app")
    try:
        with site.cluster.connect(DATABASE) as connection:
            assert connection.execute((LEASE / "rights.sql").read_text(), given).fetchall() == []
    finally:
        site.probe()
