# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Dagster on the database of the guard's rig: a webserver, and daemons with any login.

In the place of a container a launch is a line in a file: the launcher writes it where DockerRunLauncher makes a
container. The fence is put up by the program of module schema, with the login of the migration.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployment import Dagster
from guard_postgres import LEASE, LOGINS, SQL, Cluster, roles
from guard_rig import PATIENCE, PYTHON, free_port, password, until

from ansible_collections.dataops.dagster.plugins.module_utils._database import postgres_probe, schema_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import source_of

DATABASE = "fenced"
PROGRAMS = Path(PYTHON).parent
WEBSERVER, DAEMON, MIGRATION = "dagster", "dagster_daemon_a", "dagster_migration"
FENCE = {
    "query": (LEASE / "fence.sql").read_text(encoding="utf-8").rstrip(),
    "logins": "dagster_daemon",
    "unit": "etl-daemon",
    "command": "/usr/local/bin/etl-cli",
}
RIGHTS = {
    "query": (LEASE / "rights.sql").read_text(encoding="utf-8").rstrip(),
    "logins": LOGINS,
    "app": "dagster_app",
}
LAUNCHER = """
import os
from dagster._core.launcher import RunLauncher
from dagster._serdes import ConfigurableClass

class Launches(RunLauncher, ConfigurableClass):
    def __init__(self, inst_data=None):
        self._inst_data = inst_data
        super().__init__()
    inst_data = property(lambda self: self._inst_data)
    config_type = classmethod(lambda cls: {})
    from_config_value = classmethod(lambda cls, inst_data, config_value: cls(inst_data))
    def launch_run(self, context):
        with open(os.environ["LAUNCHES"], "a") as stream:
            stream.write(context.dagster_run.run_id + chr(10))
    def terminate(self, run_id):
        return False
"""
CODE = """
from dagster import *

@op
def say():
    pass

@job
def plain():
    say()

@job(partitions_def=StaticPartitionsDefinition(["one", "two"]))
def parts():
    say()

@schedule(job=plain, cron_schedule="* * * * *")
def minutely():
    return RunRequest()

@sensor(job=plain, minimum_interval_seconds=5)
def looks(context):
    return RunRequest(run_key="once")

@asset(automation_condition=AutomationCondition.missing() & ~AutomationCondition.in_progress())
def wanted():
    pass

defs = Definitions(assets=[wanted], jobs=[plain, parts], schedules=[minutely], sensors=[looks])
"""
STORAGE = """
storage:
  postgres:
    postgres_db:
      {{hostname: 127.0.0.1, port: {port}, db_name: {database}, username: {{env: DAGSTER_POSTGRES_USER}},
        password: "", scheme: postgresql+psycopg2}}
"""
CONFIG = """
run_coordinator:
  {module: dagster, class: QueuedRunCoordinator, config: {dequeue_interval_seconds: 1, max_concurrent_runs: 1000}}
run_launcher: {module: launcher, class: Launches}
run_retries: {enabled: true}
telemetry: {enabled: false}
"""
COMMAND_LINE = """
import json, sys
from dagster._cli import cli
for command in json.loads(sys.argv[1]):
    cli(command, standalone_mode=False)
"""
PLACE = {"repositoryLocationName": "jobs.py", "repositoryName": "__repository__"}
SCHEDULE = {**PLACE, "scheduleName": "minutely"}
SENSORS = [{**PLACE, "sensorName": name} for name in ("looks", "default_automation_condition_sensor")]


class Process:
    """A program of Dagster with its log."""

    def __init__(self, argv: list[str], environment: dict[str, str], folder: Path) -> None:
        self.log = folder / f"{argv[0]}-{time.monotonic_ns()}.log"
        self.launches = folder / f"launches-{time.monotonic_ns()}"
        self.launches.touch()
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(PROGRAMS / argv[0]), *argv[1:]],
                env={**environment, "LAUNCHES": str(self.launches)},
                cwd=folder,
                stdout=stream,
                stderr=stream,
            )

    def text(self) -> str:
        return self.log.read_text()

    def launched(self) -> list[str]:
        """The runs that it has launched."""
        return self.launches.read_text().split()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Site:
    """A Dagster on PostgreSQL whose tables exist, with the fence up."""

    key = "key"  # a column's name
    cluster: Any

    def __init__(self, cluster: Cluster, folder: Path, database: str = DATABASE, code: str = CODE) -> None:
        self.cluster, self.folder, self.database = cluster, folder, database
        cluster.apply(
            SQL / "roles.sql", [json.dumps(roles(["a", "b", "c"])), database, "dagster_owner", "[]"], "postgres"
        )
        cluster.apply(SQL / "grants.sql", ["dagster_owner", "dagster_app"], database)
        cluster.query(f"ALTER DATABASE {database} SET timezone = 'UTC'", "postgres")
        cluster.query(f"ALTER ROLE {DAEMON} LOGIN", "postgres")
        self.write(STORAGE.format(port=cluster.port, database=database), code)
        logins = (WEBSERVER, DAEMON, MIGRATION, *LOGINS.values())
        (folder / "pgpass").write_text("".join(f"*:*:*:{login}:{password(login)}\n" for login in logins))
        (folder / "pgpass").chmod(0o600)

    def write(self, storage: str, code: str) -> None:
        """Dagster's files."""
        for name, text in (("dagster.yaml", f"{storage}{CONFIG}"), ("launcher.py", LAUNCHER), ("jobs.py", code)):
            (self.folder / name).write_text(text)
        (self.folder / "workspace.yaml").write_text("load_from: [python_file: {relative_path: jobs.py}]\n")

    def environment(self, login: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DAGSTER_"))}
        return {
            **kept,
            "PATH": f"{PROGRAMS}:/usr/bin:/bin",
            "PYTHONPATH": str(self.folder),
            "DAGSTER_HOME": str(self.folder),
            "LAUNCHES": str(self.folder / "launches"),
            **self.connection(login),
        }

    def connection(self, login: str) -> dict[str, str]:
        """With which Dagster connects as a login."""
        return {"DAGSTER_POSTGRES_USER": login, "PGPASSFILE": str(self.folder / "pgpass")}

    def command_line(self, *commands: list[str], login: str = WEBSERVER) -> None:
        """Commands of Dagster as a login, in one process, because each would import Dagster for seconds."""
        done = subprocess.run(
            [PYTHON, "-c", COMMAND_LINE, json.dumps(commands)],
            env=self.environment(login),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300 * PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def migrate(self) -> None:
        self.command_line(["instance", "migrate"], login=MIGRATION)

    def asked(self) -> dict[str, Any]:
        """What role instance has module schema ask."""
        return {
            "dialect": source_of(postgres_probe),
            "host": "127.0.0.1",
            "port": self.cluster.port,
            "database": self.database,
            "logins": [{"user": MIGRATION, "password": password(MIGRATION), "migration": True}],
            "lease": None,
            "fence": FENCE,
            "rights": RIGHTS,
            "migrates": False,
            "apply": True,
        }

    def ask(self, **more: Any) -> dict[str, Any]:
        """What module schema's program says."""
        argv = [PYTHON, "-I", "-c", source_of(schema_probe)]
        asked = json.dumps({**self.asked(), **more})
        done = subprocess.run(argv, input=asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def probe(self, migrates: bool = False, apply: bool = True, **fence: str) -> dict[str, Any]:
        """The same without a problem. It puts the fence up on the way."""
        answer = self.ask(migrates=migrates, apply=apply, fence={**self.asked()["fence"], **fence})
        assert answer["problems"] == []
        return answer

    def query(self, text: str) -> list[tuple[Any, ...]]:
        return self.cluster.query(text, self.database)

    def number(self, table: str, where: str = "true") -> int:
        return int(self.query(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])  # noqa: S608 - words of the tests

    def empty(self, *tables: str) -> None:
        self.query("; ".join(f"TRUNCATE {table} CASCADE" for table in tables))

    def fences(self) -> tuple[int, int]:
        """How many triggers and functions it has."""
        triggers = "(SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dagster_fence%')"
        found = self.query(f"SELECT {triggers}, count(*) FROM pg_proc WHERE proname LIKE 'dagster_fence%'")[0]  # noqa: S608
        return int(found[0]), int(found[1])

    def attempt(self, statement: str, login: str = WEBSERVER) -> str:
        """The error of a statement as a login, empty when it worked. Nothing of it stays."""
        with contextlib.closing(self.cluster.session(login, self.database, autocommit=False)) as session:
            try:
                return str(self.cluster.said(session, statement))
            finally:
                session.rollback()

    def switch(self, state: str) -> None:
        """Triggers on or off: without them the tables are as Dagster made them, and any login may write them."""
        fence = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgname LIKE 'dagster_fence%'"
        for table, name in self.query(fence):
            self.query(f"ALTER TABLE {table} {state} TRIGGER {name}")
        if state == "ENABLE":
            self.cluster.rights(self.database)
            return
        self.query("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dagster_app")
        self.query("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO dagster_app")

    @contextlib.contextmanager
    def webserver(self, login: str = WEBSERVER, *options: str) -> Iterator[Dagster]:
        port = free_port()
        argv = ["dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml", *options]
        process = Process(argv, self.environment(login), self.folder)
        dagster = Dagster(f"http://127.0.0.1:{port}")

        def answers() -> bool:
            assert process.process.poll() is None, process.text()
            with contextlib.suppress(OSError):
                return dagster.get("/server_info")[0] == 200
            return False

        try:
            until(answers, 180, "the webserver answers")
            yield dagster
        finally:
            process.end()

    @contextlib.contextmanager
    def daemon(self, login: str) -> Iterator[Process]:
        process = Process(["dagster-daemon", "run", "-w", "workspace.yaml"], self.environment(login), self.folder)
        try:
            yield process
        finally:
            process.end()
            print(f"--- daemon of {login}\n{process.text()[-6000:]}")


def result(answer: dict[str, Any], expected: str) -> dict[str, Any]:
    """The only field of an answer, which must be of a type."""
    (found,) = answer.values()
    assert found["__typename"] == expected, found
    only: dict[str, Any] = found
    return only
