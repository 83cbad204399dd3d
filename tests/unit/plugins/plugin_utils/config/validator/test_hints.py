"""What the validator says of the usual slips: the form that works, and no class or key that nobody meant."""

from __future__ import annotations

import pytest
from findings import findings

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject


@pytest.mark.parametrize(
    ("module", "name", "hint"),
    [
        ("dagster_contrib_nomad.launcher", "NomadRunLauncher", "--allow custom_module:dagster_contrib_nomad"),
        ("dagster_slurm", "SlurmRunLauncher", "--allow custom_module:dagster_slurm"),
        ("acme.dagster", "CeleryLauncher", "--allow custom_module:acme"),
        ("acme.launchers", "DockerRunLauncher", "--allow custom_module:acme; Dagster's is module: dagster_docker"),
        ("docker", "DockerRunLauncher", "module: dagster_docker, class: DockerRunLauncher"),
        ("dagster-docker", "DockerRunLauncher", "module: dagster_docker, class: DockerRunLauncher"),
        ("dagster_dokcer", "Launcher", "did you mean module: dagster_docker, class: DockerRunLauncher?"),
        ("dagster_celery", "CeleryLauncher", "did you mean module: dagster_celery.launcher, class: CeleryRunLauncher?"),
        ("dagster_celery_docker", "CeleryDockerRunLauncher", "has an executor"),
    ],
)
def test_modules_that_no_package_of_dagster_brings(module: str, name: str, hint: str) -> None:
    (error,) = subject.validate(f"run_launcher: {{module: {module}, class: {name}}}").errors
    assert hint in error.hint
    if "custom_module" in hint:
        assert "did you mean" not in error.hint


def test_a_deployment_allows_a_module_by_its_variable() -> None:
    launcher = {"module": "dagster_slurm", "class": "SlurmRunLauncher"}
    (error,) = subject.validate_data({"run_launcher": launcher}).errors
    assert error.hint.endswith("dagster_config_allow: [custom_module:dagster_slurm]")
    allowed = subject.validate_data({"run_launcher": launcher}, allow=["custom_module:dagster_slurm"])
    assert allowed.valid


@pytest.mark.parametrize("section", ["compute_logs", "local_artifact_storage", "run_storage"])
@pytest.mark.parametrize("module", ["dagster.core.storage.file_manager", "dagster._core.storage.root"])
def test_a_class_that_a_module_does_not_have_is_not_looked_for_in_that_module(module: str, section: str) -> None:
    (error,) = subject.validate(f"{section}: {{module: {module}, class: LocalFileManager}}").errors
    assert "none of that name" in error.message
    assert "LocalFileManager" not in error.hint
    assert "did you mean dagster" not in error.hint
    assert section in error.hint or "class: LocalComputeLogManager" in error.hint


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("scheduler: {module: dagster_cron.cron_scheduler, class: SystemCronScheduler}", "scheduler.module", "leave"),
        ("concurrency: {pools: {bronze: 2}}", "concurrency.pools.bronze", "dagster instance concurrency set"),
        ("concurrency: {pools: [{pool: bronze, limit: 2}]}", "concurrency.pools", "dagster instance concurrency set"),
        ("concurrency: {bronze: 2}", "concurrency.bronze", "dagster instance concurrency set"),
        ("concurrency: {pools: {default_limt: 2}}", "concurrency.pools.default_limt", "did you mean default_limit?"),
        ("concurrency: {max_concurrent_runs: 2}", "concurrency.max_concurrent_runs", "runs: {max_concurrent_runs: N}"),
        ("retention: {runs: {purge_after_days: 30}}", "retention.runs", "dagster run delete"),
        ("retention: {event_logs: {purge_after_days: 30}}", "retention.event_logs", "dagster run delete"),
        ("retention: {sensors: {purge_after_days: 30}}", "retention.sensors", "did you mean sensor?"),
        ("workspace: {load_from: []}", "workspace", "workspace.yaml"),
        ("load_from: []", "load_from", "workspace.yaml"),
        ("daemon: {interval: 5}", "daemon", "run_monitoring"),
        ("webserver: {port: 3000}", "webserver", "dagster-webserver --host"),
        ("postgres: {}", "postgres", "storage: {postgres:"),
        ("env_vars: [A]", "env_vars", "run_launcher.config.env_vars"),
        ("max_retries: 3", "max_retries", "max_retries belongs below run_retries"),
        ("hostname: db", "hostname", "hostname belongs below storage.mysql.mysql_db or storage.postgres.postgres_db"),
        ("container_kwargs: {}", "container_kwargs", "container_kwargs belongs below run_launcher.config"),
        ("schedule: {}", "schedule", "did you mean schedules?"),
        ("config: {}", "config", "the indentation is lost: config belongs below a section, such as run_launcher"),
    ],
)
def test_keys_that_documents_and_habits_suggest(text: str, path: str, hint: str) -> None:
    (error,) = subject.validate(text).errors
    assert error.path == path
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "path", "least"),
    [
        ("sensors: {use_threads: true, num_workers: 0}", "sensors.num_workers", 1),
        ("sensors: {use_threads: true, num_submit_workers: -1}", "sensors.num_submit_workers", 0),
        ("schedules: {use_threads: true, num_workers: -1}", "schedules.num_workers", 1),
        ("backfills: {num_workers: -1}", "backfills.num_workers", 0),
        ("auto_materialize: {use_threads: true, num_workers: 0}", "auto_materialize.num_workers", 1),
        ("run_queue: {dequeue_use_threads: true, dequeue_num_workers: 0}", "run_queue.dequeue_num_workers", 1),
        (
            "run_coordinator: {module: dagster, class: QueuedRunCoordinator, "
            "config: {dequeue_use_threads: true, dequeue_num_workers: -1}}",
            "run_coordinator.config.dequeue_num_workers",
            1,
        ),
    ],
)
def test_pools_of_threads_that_cannot_be_made(text: str, path: str, least: int) -> None:
    (error,) = subject.validate(text).errors
    assert error.path == path
    assert f"expected a number from {least} on" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "sensors: {use_threads: false, num_workers: 0}",
        "sensors: {use_threads: true, num_submit_workers: 0}",
        "backfills: {num_workers: 0, num_submit_workers: 0}",
        "backfills: {use_threads: false, num_workers: -1}",
        "auto_materialize: {enabled: false, use_sensors: false, use_threads: true, num_workers: 0}",
        "run_queue: {dequeue_num_workers: 0}",
    ],
)
def test_pools_that_nobody_makes(text: str) -> None:
    assert subject.validate(text).valid


def test_days_before_the_first() -> None:
    (error,) = subject.validate("retention: {sensor: {purge_after_days: {failure: 999999, skipped: 7}}}").errors
    assert error.path == "retention.sensor.purge_after_days.failure"
    assert error.hint == "write -1 to keep ticks for ever"
    assert subject.validate("retention: {sensor: {purge_after_days: 700000}}").valid


@pytest.mark.parametrize("backend", ["postgres", "mysql"])
@pytest.mark.parametrize("address", ["::1", "fd00::a:1", "2001:db8:0:1:1:1:1:1", "::ffff:10.0.0.1"])
def test_ipv6_needs_brackets(address: str, backend: str) -> None:
    text = f"storage: {{{backend}: {{{backend}_db: {{hostname: 'X', username: u, password: {{env: P}}, db_name: d}}}}}}"
    (error,) = subject.validate(text.replace("X", address)).errors
    assert error.path == f"storage.{backend}.{backend}_db.hostname"
    assert error.message == f"found the IPv6 address {address} without brackets"
    assert f'"[{address}]"' in error.hint
    assert subject.validate(text.replace("X", f"[{address}]")).valid
    (port,) = subject.validate(text.replace("X", "db:5432")).errors
    assert "found the port" in port.message


def test_ipv6_of_a_code_server() -> None:
    text = "load_from: [{grpc_server: {host: 'X', port: 4000}}]"
    (refusal,) = subject.validate(text.replace("X", "fd00::1"), "workspace").refusals
    assert '"[fd00::1]"' in refusal.hint
    assert findings(text.replace("X", "[fd00::1]"), "workspace") == []
    (refusal,) = subject.validate(text.replace("X", "[fd00::1]:4000"), "workspace").refusals
    assert "without scheme, port and path" in refusal.hint


def test_two_old_sections_that_are_sqlite_as_the_third_is() -> None:
    runs = "run_storage: {module: dagster.core.storage.runs, class: SqliteRunStorage, config: {base_dir: /x}}\n"
    events = (
        "event_log_storage: {module: dagster_postgres, class: PostgresEventLogStorage, config: {postgres_url: X}}\n"
    )
    events = events.replace("X", "'postgresql://u@h/d'")
    report = subject.validate(runs)
    assert report.valid
    assert [(warning.name, warning.path) for warning in report.warnings] == [("legacy_storage", "run_storage")]
    assert [refusal.name for refusal in subject.validate(runs + events).refusals] == ["partial_legacy_storage"]
