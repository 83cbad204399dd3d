# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Dagster with a login for each of its processes, for the tests of what each may do and from where."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deployment import Dagster
from fence_rig import SCHEDULE, Process, Site, result
from guard_postgres import Cluster
from guard_rig import PYTHON, Proxy, free_port, password, until

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


@contextmanager
def made(cluster: Cluster) -> Iterator[Site]:
    """A Dagster in a database of its own, whose tables have the rights of the role."""
    folder = Path(tempfile.mkdtemp(prefix="logins-"))
    try:
        site = Site(cluster, folder, DATABASE, DEFINITIONS)
        site.migrate()
        site.probe()
        yield site
    finally:
        shutil.rmtree(folder)


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


def through(way: Proxy, login: str, database: str = DATABASE, **more: Any) -> str:
    """The error of a connection by a way."""
    given: dict[str, Any] = {"host": "127.0.0.1", "port": way.port, "user": login, "password": password(login), **more}
    try:
        psycopg.connect(dbname=database, connect_timeout=10, **given).close()
    except psycopg.Error as error:
        return str(error)
    return ""


@contextmanager
def served(site: Site) -> Iterator[Dagster]:
    """A webserver, and a code server with its own login."""
    port = free_port()
    argv = ["dagster", "api", "grpc", "-f", "jobs.py", "-a", "defs", "-h", "127.0.0.1", "-p", str(port)]
    place = f"load_from: [grpc_server: {{host: 127.0.0.1, port: {port}, location_name: jobs}}]\n"
    (site.folder / "workspace.yaml").write_text(place)
    server = Process(argv, site.environment(CODE), site.folder)
    try:
        until(lambda: "Started Dagster code server" in server.text(), 180, "the code server serves")
        with site.webserver() as dagster:
            yield dagster
    finally:
        server.end()
        print(f"--- code server\n{server.text()[-3000:]}")


# What the process of each login does, whichever the database is


def of(answer: dict[str, Any]) -> Any:
    (found,) = answer.values()
    return found


def ui_works(site: Site, ui: Dagster) -> None:
    """Pools, partitions, assets, runs and schedules by GraphQL."""
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
        argv, env=site.environment(RUN), cwd=site.folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def runs_work(site: Site, ui: Dagster) -> None:
    """Under their login, from the launch of the real daemon on: assets, a check, a pool, partitions, tags."""
    assert of(ui.query('mutation { setConcurrencyLimit(concurrencyKey: "narrow", limit: 2) }')) is True
    asked = [ui.launch("plain", "jobs"), ui.launch("everything", "jobs")]
    with site.daemon(DAEMON) as daemon:
        until(lambda: set(asked) <= set(daemon.launched()), 240, "the daemon launches them")
        assert not re.search("(permission|command) denied", daemon.text())
    for run in asked:
        work(site, run)
        assert ui.status(run) == "SUCCESS"
    assert site.number("asset_keys", "asset_key = '[\"counted\"]' AND last_materialization IS NOT NULL") == 1
    assert site.number("concurrency_slots", "concurrency_key = 'narrow'") == 2, "the control: the pool has a limit"
    assert site.number("concurrency_slots", "run_id IS NOT NULL") == 0, "its slots are free again"
    assert site.number("run_tags", "key = 'seen'") == 2
    assert site.number("dynamic_partitions", "partition = 'b'") == 1


def code_servers_work(site: Site, ui: Dagster) -> None:
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


def read_only_webserver_works(site: Site, ui: Dagster) -> None:
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
