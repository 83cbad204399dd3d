# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fence in Dagster's tables: a second daemon with the login of the webservers does nothing, all else works."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from deployment import Dagster
from fence_rig import DAEMON, DATABASE, MIGRATION, PLACE, SCHEDULE, SENSORS, WEBSERVER, Process, Site, result
from guard_mariadb import MariaDB
from guard_postgres import Cluster
from guard_rig import ON_BOTH, until
from mariadb_rig import MariaSite

TABLES = ("runs", "run_tags", "event_logs", "job_ticks", "bulk_actions", "asset_daemon_asset_evaluations", "kvs")
BODY = '{"__class__": "DagsterRun", "parent_run_id": %s, "tags": {%s}}'
TICK, PARENT, RETRY = '"dagster/tick": "1"', '"dagster/parent_run_id": "p"', '"dagster/retry_number": "1"'


SITES: dict[type, type[Site]] = {Cluster: Site, MariaDB: MariaSite}
pytestmark = ON_BOTH


@pytest.fixture(scope="module")
def site(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Site:
    if isinstance(cluster, MariaDB):
        cluster.serve(DATABASE)
    found = SITES[type(cluster)](cluster, tmp_path_factory.mktemp("dagster"), DATABASE)
    assert found.probe(migrates=True)["fence"] == 0, "there are no tables yet"
    found.migrate()
    assert found.probe()["fence"] > len(TABLES)
    return found


@pytest.fixture(scope="module")
def ui(site: Site) -> Iterator[Dagster]:
    with site.webserver() as dagster:
        yield dagster


@pytest.fixture
def work(site: Site, ui: Dagster) -> dict[str, Any]:
    """One of each is waiting for a daemon: a schedule that is due, sensors, a run in the queue, a backfill."""
    site.empty(*TABLES, "jobs", "instigators", "daemon_heartbeats")
    start(ui)
    since = f'"start_timestamp": {time.time() - 120}'
    for table, column in (("jobs", "job_body"), ("instigators", "instigator_body")):
        site.query(
            f"UPDATE {table} SET {column} = regexp_replace({column}, '\"start_timestamp\": [0-9.]+', '{since}')"  # noqa: S608
        )
    return {"run": launch(ui), "backfill": backfill(ui)}


def start(ui: Dagster) -> None:
    result(
        ui.query("mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }", s=SCHEDULE),
        "ScheduleStateResult",
    )
    for sensor in SENSORS:
        answer = ui.query("mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }", s=sensor)
        result(answer, "Sensor")


def launch(ui: Dagster) -> str:
    return ui.launch("plain", PLACE["repositoryLocationName"])


def backfill(ui: Dagster) -> str:
    repository = {"repositoryName": PLACE["repositoryName"], "repositoryLocationName": PLACE["repositoryLocationName"]}
    selector = {"partitionSetName": "parts_partition_set", "repositorySelector": repository}
    answer = ui.query(
        "mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename"
        " ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
        p={"selector": selector, "partitionNames": ["one", "two"]},
    )
    found: str = result(answer, "LaunchBackfillSuccess")["backfillId"]
    return found


def everything(site: Site) -> list[Any]:
    """All that a daemon could have changed."""
    names = ("jobs", "instigators", "kvs", "bulk_actions", "runs", "event_logs")
    states = [site.query(f"SELECT * FROM {name} ORDER BY 1") for name in names]  # noqa: S608 - tables of Dagster
    return [*states, *(site.number(table) for table in (*TABLES, "daemon_heartbeats"))]


# A daemon by hand


def refused(daemon: Process, deed: str) -> bool:
    return f"login dagster may not {deed}" in daemon.text()


def test_second_daemon_does_nothing(site: Site, work: dict[str, Any]) -> None:
    before = everything(site)
    deeds = (
        "send a heartbeat of the daemon",
        "launch a run",
        "evaluate a schedule or sensor",
        "go on with a backfill",
    )
    with site.daemon(WEBSERVER) as daemon:
        for deed in deeds:
            until(functools.partial(refused, daemon, deed), 90, deed)
        time.sleep(15)  # each of its loops comes again
        assert daemon.process.poll() is None, "it could go on for as long as it likes"
        assert daemon.launched() == []
        assert everything(site) == before
        assert site.number("job_ticks") == 0
    assert "Unit etl-daemon runs the one daemon" in daemon.text()
    assert "systemctl status etl-daemon" in daemon.text()
    assert "/usr/local/bin/etl-cli" in daemon.text()
    assert work["run"] in str(before)


def all_done(site: Site, daemon: Process, work: dict[str, Any]) -> bool:
    runs = site.query("SELECT run_id, run_body, backfill_id FROM runs")
    sources = ('"dagster/schedule_name"', '"dagster/sensor_name": "looks"', '"dagster/from_automation_condition"')
    return (
        all(any(source in body for _run, body, _backfill in runs) for source in sources)
        and sum(backfill == work["backfill"] for _run, _body, backfill in runs) == 2
        and {run for run, _body, _backfill in runs} <= set(daemon.launched())
    )


def test_control_without_the_fence_it_does_all(site: Site, work: dict[str, Any]) -> None:
    site.switch("DISABLE")
    try:
        with site.daemon(WEBSERVER) as daemon:
            until(lambda: all_done(site, daemon, work), 120, "schedule, sensor, queue and backfill")
            assert work["run"] in daemon.launched()
    finally:
        site.switch("ENABLE")


def test_daemon_of_the_lease_beside_it(site: Site, work: dict[str, Any]) -> None:
    """It does everything, each thing once, and the second one costs it nothing."""
    with site.daemon(WEBSERVER) as second, site.daemon(DAEMON) as first:
        until(lambda: all_done(site, first, work), 120, "schedule, sensor, queue and backfill")
        since = site.number("job_ticks", "type = 'SENSOR'")
        started = time.monotonic()
        # Over a whole minute: both look at the schedule in the same moment.
        time.sleep(60 - time.time() % 60 + 12)
        ticks = site.number("job_ticks", "type = 'SENSOR'") - since
        elapsed = time.monotonic() - started
        until(lambda: site.number("runs", "status = 'QUEUED'") == 0, 180, "the queue is empty")
        assert second.launched() == []
        launched = Counter(first.launched())
    assert set(launched.values()) == {1}, launched
    assert set(launched) == {run for (run,) in site.query("SELECT run_id FROM runs")}
    minutes = site.query(
        f"SELECT value, count(*) FROM run_tags WHERE {site.key} = '.dagster/scheduled_execution_time' GROUP BY value"  # noqa: S608
    )
    assert len(minutes) >= 2
    assert {number for _minute, number in minutes} == {1}
    assert site.number("run_tags", f"{site.key} = 'dagster/backfill' AND value = '{work['backfill']}'") == 2
    # Every 5 s, and the loop looks each 5 s: never more than 10 s apart.
    assert ticks >= elapsed / 10 - 2, "the second daemon takes no turn of a sensor"
    assert "Another " not in first.text()


# What others do


@pytest.mark.usefixtures("work")
def test_webserver_does_all_it_did(site: Site, ui: Dagster) -> None:
    schedule = (
        "query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) {"
        " ... on Schedule { scheduleState { id } } } }"
    )
    sensor = "query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { sensorState { id } } } }"
    for _round in range(2):
        state = ui.query(schedule, s=SCHEDULE)["scheduleOrError"]["scheduleState"]["id"]
        result(
            ui.query("mutation($i: String!) { stopRunningSchedule(id: $i) { __typename } }", i=state),
            "ScheduleStateResult",
        )
        state = ui.query(sensor, s=SENSORS[0])["sensorOrError"]["sensorState"]["id"]
        result(
            ui.query("mutation($i: String!) { stopSensor(id: $i) { __typename } }", i=state),
            "StopSensorMutationResult",
        )
        result(
            ui.query(
                'mutation($s: SensorSelector!) { setSensorCursor(sensorSelector: $s, cursor: "7") { __typename } }',
                s=SENSORS[0],
            ),
            "Sensor",
        )
        start(ui)
    assert site.number("instigators", "status = 'RUNNING'") == 3
    result(
        ui.query("mutation($s: SensorSelector!) { resetSensor(sensorSelector: $s) { __typename } }", s=SENSORS[0]),
        "Sensor",
    )
    run = launch(ui)
    assert ui.status(run) == "QUEUED"
    terminate = "mutation($r: String!) { terminateRun(runId: $r) { __typename } }"
    result(ui.query(terminate, r=run), "TerminateRunSuccess")
    assert ui.status(run) == "CANCELED"
    again = (
        "mutation($p: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $p) { __typename"
        " ... on PythonError { message } } }"
    )
    result(ui.query(again, p={"parentRunId": run, "strategy": "ALL_STEPS"}), "LaunchRunSuccess")
    asked = backfill(ui)
    for name, typename in (("cancel", "CancelBackfillSuccess"), ("resume", "ResumeBackfillSuccess")):
        answer = ui.query(
            f"mutation($b: String!) {{ {name}PartitionBackfill(backfillId: $b) {{ __typename }} }}", b=asked
        )
        result(answer, typename)


@pytest.mark.usefixtures("work")
@pytest.mark.long  # scenario default asks it on a host
def test_command_line_does_all_it_did(site: Site) -> None:
    where = ["-w", "workspace.yaml"]
    site.command_line(
        ["schedule", "stop", "minutely", *where],
        ["schedule", "start", "minutely", *where],
        ["sensor", "cursor", "looks", "--set", "9", *where],
        ["job", "launch", "-j", "plain", *where],
        ["job", "backfill", "-j", "parts", "--all", "x", "--noprompt", *where],
        ["asset", "wipe", "--all", "--noprompt"],
    )
    assert site.number("runs", "backfill_id IS NOT NULL") == 2
    assert site.number("runs", "status = 'QUEUED'") == 4


def insert(tags: str, backfill: str = "NULL", parent: str = "null") -> str:
    values = f"'r', 'NOT_STARTED', '{BODY % (parent, tags)}', {backfill}"
    return f"INSERT INTO runs (run_id, status, run_body, backfill_id) VALUES ({values})"  # noqa: S608


def update(table: str, column: str, value: str, where: str = "true") -> str:
    return f"UPDATE {table} SET {column} = {value} WHERE {where}"  # noqa: S608


MARK = "regexp_replace(instigator_body, '\"last_tick_start_timestamp\": [0-9.]+', '\"last_tick_start_timestamp\": {}')"
EVENT = "INSERT INTO event_logs (run_id, event, dagster_event_type) VALUES ('r', '{}', '{}')"
CASES = [
    (insert(""), True),
    (insert(TICK), False),
    (insert('"dagster/asset_evaluation_id": "1"'), False),
    (insert(f"{TICK}, {PARENT}", parent='"p"'), True),
    (insert(f"{PARENT}, {RETRY}", parent='"p"'), False),
    (insert("", "'unknown'"), True),
    (insert("", "'asked'"), False),
    (insert("", "'asked'", '"of the same"'), True),
    (insert("", "'asked'", '"of another"'), False),
    (update("runs", "status", "'STARTING'", "run_id = 'of another'"), False),
    (update("runs", "status", "'STARTING'", "run_id = 'starts'"), False),  # two that have read QUEUED
    (update("runs", "status", "'CANCELING'", "run_id = 'of another'"), True),
    (update("runs", "status", "'STARTED'", "run_id = 'of another'"), True),
    (update("bulk_actions", "status", "'CANCELING'"), True),
    (update("bulk_actions", "status", "'COMPLETED_SUCCESS'"), False),
    (update("bulk_actions", "body", "'x'"), False),
    (update("instigators", "instigator_body", MARK.format("1800000000.5")), False),
    (update("instigators", "instigator_body", MARK.format("1600000000.5")), True),
    (update("instigators", "status = 'STOPPED', instigator_body", MARK.format("1800000000.5")), True),
    (update("instigators", "instigator_body", "'{}'"), True),  # one that was never looked at
    ("INSERT INTO kvs ({key}, value) VALUES ('EVENT_LOG_CONSUMER_CURSOR-PIPELINE_FAILURE', '1')", False),
    ("INSERT INTO kvs ({key}, value) VALUES ('ASSET_DAEMON_CURSOR_NEW', '1')", False),
    ("INSERT INTO kvs ({key}, value) VALUES ('ASSET_DAEMON_PAUSED', '1')", True),
    (EVENT.format("{}", "PIPELINE_STARTING"), False),
    (EVENT.format("{}", "FRESHNESS_STATE_CHANGE"), False),
    (EVENT.format("{}", "PIPELINE_START"), True),
    (EVENT.format("Launching a new run worker to resume run", "ENGINE_EVENT"), False),
    (EVENT.format("Multiprocess executor", "ENGINE_EVENT"), True),
    ("INSERT INTO job_ticks (status) VALUES ('STARTED')", False),
    ("INSERT INTO daemon_heartbeats (daemon_type, timestamp) VALUES ('x', now())", False),
]


@pytest.fixture
def rows(site: Site) -> None:
    site.empty(*TABLES, "instigators")
    for statement in (
        "INSERT INTO runs (run_id, status, backfill_id)"
        " VALUES ('of the same', 'FAILURE', 'asked'), ('of another', 'QUEUED', 'b'), ('starts', 'STARTING', NULL)",
        f"INSERT INTO bulk_actions ({site.key}, status, timestamp, body) VALUES ('asked', 'REQUESTED', now(), '')",  # noqa: S608
        "INSERT INTO instigators (selector_id, status, instigator_body)"
        " VALUES ('s', 'RUNNING', '{\"last_tick_start_timestamp\": 1700000000.5}')",
    ):
        site.query(statement)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(("statement", "allowed"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_who_may_what(site: Site, statement: str, allowed: bool) -> None:
    statement = statement.replace("{key}", site.key)
    said = site.attempt(statement)
    assert ("login dagster may not" in said) is not allowed, said
    assert (said == "") is allowed, said
    for login in (DAEMON, MIGRATION):
        assert site.attempt(statement, login) == "", "the daemon of the lease and the owner of the tables"


# The fence itself


def test_second_installation_changes_nothing(site: Site) -> None:
    assert site.probe()["fence"] == 0
    assert site.probe(migrates=True)["fence"] == 0, "a schema at the head is not migrated"


CHANGES = {
    Cluster: [
        "ALTER TABLE runs DISABLE TRIGGER dagster_fence_launch",
        "DROP TRIGGER dagster_fence_tick ON job_ticks",
        "COMMENT ON FUNCTION public.dagster_fence() IS 'of an older release'",
    ],
    MariaDB: [
        "DROP TRIGGER dagster_fence_job_ticks_insert",
        "CREATE OR REPLACE TRIGGER dagster_fence_kvs_insert BEFORE INSERT ON kvs FOR EACH ROW SET @old = 1",
        "CREATE TRIGGER dagster_fence_of_an_older_release BEFORE DELETE ON kvs FOR EACH ROW SET @old = 1",
    ],
}


@pytest.mark.parametrize("number", range(3))
def test_drift_is_noticed(site: Site, number: int) -> None:
    site.query(CHANGES[type(site.cluster)][number])
    assert site.probe(apply=False)["fence"] > 0
    assert site.probe()["fence"] > 0
    assert site.probe()["fence"] == 0


def test_fence_goes_with_the_logins(site: Site) -> None:
    """dagster_daemon_fencing is lease_only."""
    try:
        assert site.probe(logins="")["fence"] > 0
        assert site.fences() == (0, 0)
        assert site.probe(logins="")["fence"] == 0
    finally:
        assert site.probe()["fence"] > 0


def test_migration_is_not_hindered(site: Site) -> None:
    """It may change the type of a column that a trigger watches, because the fence is down as long."""
    if isinstance(site.cluster, MariaDB):  # whose triggers hinder none
        assert site.attempt("ALTER TABLE runs MODIFY status VARCHAR(64)", MIGRATION) == ""
        return
    change = "ALTER TABLE runs ALTER COLUMN status TYPE varchar(64)"
    assert "cannot alter type of a column used in a trigger definition" in site.attempt(change, MIGRATION), (
        "the control"
    )
    revision = site.query("SELECT version_num FROM alembic_version")[0][0]
    site.query("UPDATE alembic_version SET version_num = 'older'")
    try:
        assert site.probe(migrates=True)["fence"] > 0
        assert site.attempt(change, MIGRATION) == ""
    finally:
        site.query(f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
        assert site.probe()["fence"] > 0


NUMBERS = {Cluster: "generate_series(1, 1000)", MariaDB: "seq_1_to_1000"}


def test_cost_of_an_event(site: Site) -> None:
    """A row that the fence is not about costs next to nothing."""
    values = f"SELECT 'r', repeat('x', 900), 'STEP_OUTPUT' FROM {NUMBERS[type(site.cluster)]}"  # noqa: S608
    many = f"INSERT INTO event_logs (run_id, event, dagster_event_type) {values}"
    times: dict[str, list[float]] = {"DISABLE": [], "ENABLE": []}
    with contextlib.closing(site.cluster.session(WEBSERVER, DATABASE)) as session:
        for _round in range(15):
            for state, found in times.items():
                site.switch(state)
                assert site.cluster.said(session, "SELECT 1 FROM event_logs LIMIT 1") == ""
                started = time.perf_counter()
                assert site.cluster.said(session, many) == ""
                found.append(time.perf_counter() - started)
    bare, fenced = (min(times[state]) for state in ("DISABLE", "ENABLE"))  # what a busy machine adds says nothing
    print(f"1,000 events: {1000 * bare:.1f} ms, with the fence {1000 * fenced:.1f} ms, {fenced / bare:.2f} x")
    assert fenced < 1.5 * bare
