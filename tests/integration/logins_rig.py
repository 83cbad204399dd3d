# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Dagster with a login for each of its processes, for the tests of what each may do and from where."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from fence_rig import Site
from guard_postgres import Cluster
from guard_rig import Proxy, password

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
