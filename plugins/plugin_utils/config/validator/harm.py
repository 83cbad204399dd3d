# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Dagster accepts and should not be written: refusals, which a user can allow by name, and warnings."""

from __future__ import annotations

from ....module_utils._secrets import literal_secrets
from ....module_utils._words import did_you_mean
from . import containers, runs, variables
from .report import listed
from .sections import options_of, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .schema import Checker

LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET", "FATAL", "WARN")
DEFAULT_CONCURRENT_RUNS = 10  # where max_concurrent_runs is not written
NO_PAUSE = "the database is asked again and again without a pause"
LEGACY_STORAGES = ("run_storage", "event_log_storage", "schedule_storage")


def check(checker: Checker, config: dict[Any, Any]) -> None:
    """Report what is accepted and harms."""
    for part in (
        _secrets,
        _legacy_storage,
        _compute_logs,
        _monitoring,
        _queue,
        _workers,
        _paths,
        _logs,
        _database,
        variables.check,
        runs.check,
    ):
        part(checker, config)


def _secrets(checker: Checker, config: dict[Any, Any]) -> None:
    # One place is allowed by its path, and a key or variable that is no secret by its name, wherever it stands.
    for path, found, expected in literal_secrets(config, checker.report.allowed("literal_secret")):
        hint = f"write {expected}"
        if checker.report.deployed and "env_vars" in path:
            hint = containers.TO_A_FILE
        checker.report.refuse("literal_secret", path, f"found {found}", hint)


def _legacy_storage(checker: Checker, config: dict[Any, Any]) -> None:
    legacy = [key for key in LEGACY_STORAGES if key in config]
    if not legacy or "storage" in config:
        return
    classes = [options_of(config, key)[0] for key in legacy]
    kinds = ("Postgres", "MySQL", "Sqlite")
    kind = next((kind for kind in kinds if any(kind in name for name in classes)), "custom")
    modern = {
        "Postgres": "storage: {postgres: {postgres_db: {...}}}",
        "MySQL": "storage: {mysql: {mysql_db: {...}}}",
        "Sqlite": "storage: {sqlite: {base_dir: ...}}",
        "custom": "storage: {custom: {module: ..., class: ..., config: ...}}",
    }[kind]
    if kind == "Sqlite":
        modern += ", which has its files in history, history/runs and schedules below base_dir: move them there"
    missing = [key for key in LEGACY_STORAGES if key not in config]
    if missing and not all("Sqlite" in name for name in classes):
        message = f"found only {listed(legacy)}; without {listed(missing)} that part stays in a local SQLite, silently"
        checker.report.refuse(
            "partial_legacy_storage", (legacy[0],), message, f"write one block for all three: {modern}"
        )
        return
    message = "found three sections in the old form"
    if missing:
        message = f"found {listed(legacy)} in the old form; {listed(missing)} is in SQLite too, below DAGSTER_HOME"
    checker.report.warn("legacy_storage", (legacy[0],), message, f"write one: {modern}")


def _compute_logs(checker: Checker, config: dict[Any, Any]) -> None:
    name, options = options_of(config, "compute_logs")
    at = ("compute_logs", "config")
    if name == "GCSComputeLogManager" and options.get("json_credentials_envvar") == "GOOGLE_APPLICATION_CREDENTIALS":
        message = "found GOOGLE_APPLICATION_CREDENTIALS, which holds the path of a file; Dagster wants JSON text in it"
        hint = "leave the key out (the default credentials read that file), or name a variable that holds the JSON text"
        checker.report.harm("gcs_credentials_path", (*at, "json_credentials_envvar"), message, hint)


def _monitoring(checker: Checker, config: dict[Any, Any]) -> None:
    monitoring = config.get("run_monitoring")
    if not isinstance(monitoring, dict):
        return
    for key, value in monitoring.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if value <= 0 and "poll_interval" in str(key):
            checker.report.warn("no_pause", ("run_monitoring", key), f"found {value}: {NO_PAUSE}", "write 1 or more")
        elif value < 0:
            checker.report.warn(
                "negative_time", ("run_monitoring", key), f"found {value}", "write 0 for none, or a positive number"
            )


def _queue(checker: Checker, config: dict[Any, Any]) -> None:
    concurrency = config.get("concurrency")
    runs = concurrency.get("runs") if isinstance(concurrency, dict) else None
    places = {
        ("run_queue",): config.get("run_queue"),
        ("run_coordinator", "config"): options_of(config, "run_coordinator")[1],
        ("concurrency", "runs"): runs,
    }
    for path, options in places.items():
        if not isinstance(options, dict):
            continue
        limit = options.get("max_concurrent_runs")
        if limit == 0 and not isinstance(limit, bool):
            message = "found 0: every run stays in the queue"
            checker.report.warn(
                "no_runs", (*path, "max_concurrent_runs"), message, "write -1 for no limit, or a positive number"
            )
        elif path[0] == "concurrency" and isinstance(limit, int) and limit < -1:
            checker.report.warn("no_runs", (*path, "max_concurrent_runs"), f"found {limit}", "write -1 for no limit")
        pause = options.get("dequeue_interval_seconds")
        if isinstance(pause, int) and not isinstance(pause, bool) and pause <= 0:
            path_of_pause = (*path, "dequeue_interval_seconds")
            checker.report.warn("no_pause", path_of_pause, f"found {pause}: {NO_PAUSE}", "write 1 or more")
        if options.get("dequeue_num_workers") is not None and options.get("dequeue_use_threads") is not True:
            message = "found dequeue_num_workers without dequeue_use_threads: true, where it does nothing"
            checker.report.warn("no_effect", (*path, "dequeue_num_workers"), message, "add dequeue_use_threads: true")
        _tag_limits(checker, path, options)
    pools = concurrency.get("pools") if isinstance(concurrency, dict) else None
    if isinstance(pools, dict) and whole_number(pools.get("default_limit")) == 0:
        message = "found 0: what uses a pool without a limit of its own never starts"
        checker.report.warn(
            "no_runs", ("concurrency", "pools", "default_limit"), message, "write 1 or more, or leave it out"
        )


def _tag_limits(checker: Checker, path: tuple[str, ...], options: dict[Any, Any]) -> None:
    limits = options.get("tag_concurrency_limits")
    most = whole_number(options.get("max_concurrent_runs", DEFAULT_CONCURRENT_RUNS))
    for index, entry in enumerate(limits if isinstance(limits, list) else []):
        limit = whole_number(entry.get("limit")) if isinstance(entry, dict) else None
        at = (*path, "tag_concurrency_limits", index, "limit")
        if limit is not None and limit <= 0:
            message = f"found {limit}: every run with this tag stays in the queue"
            checker.report.warn("no_runs", at, message, "write 1 or more, or remove the entry")
        elif limit is not None and most is not None and limit > most > 0:
            message = f"found {limit}, which is never reached: max_concurrent_runs lets in {most} of all"
            checker.report.warn("idle_limit", at, message, f"write {most} or less, or raise max_concurrent_runs")


def _workers(checker: Checker, config: dict[Any, Any]) -> None:
    for section in ("schedules", "sensors", "backfills", "auto_materialize"):
        options = config.get(section)
        if not isinstance(options, dict):
            continue
        for key in ("num_workers", "num_submit_workers"):
            workers = options.get(key)
            if workers is None or isinstance(workers, bool) or not isinstance(workers, int):
                continue
            if options.get("use_threads", section == "backfills") is not True:
                message = f"found {key} without use_threads: true, where it does nothing"
                checker.report.warn("no_effect", (section, key), message, "add use_threads: true")


def _paths(checker: Checker, config: dict[Any, Any]) -> None:
    storage = config.get("storage")
    places = [
        ((section, "config"), options_of(config, section)[1]) for section in ("compute_logs", "local_artifact_storage")
    ]
    if isinstance(storage, dict) and isinstance(storage.get("sqlite"), dict):
        places.append((("storage", "sqlite"), storage["sqlite"]))
    for path, options in places:
        for key in ("base_dir", "local_dir"):
            folder = options.get(key)
            if isinstance(folder, str) and folder and not folder.startswith(("/", "$")):
                message = f"found {folder[:60]!r}, which is below the folder that each process happens to start in"
                checker.report.warn("relative_path", (*path, key), message, "write an absolute path")


def _logs(checker: Checker, config: dict[Any, Any]) -> None:
    logs = config.get("python_logs")
    level = logs.get("python_log_level") if isinstance(logs, dict) else None
    if isinstance(level, str) and level.upper() not in LEVELS:
        hint = did_you_mean(level.upper(), LEVELS) or f"one of: {listed(LEVELS[:5])}"
        checker.report.warn(
            "log_level", ("python_logs", "python_log_level"), f"found {level[:40]!r}: each run fails", hint
        )


def _database(checker: Checker, config: dict[Any, Any]) -> None:
    storage = config.get("storage")
    if not isinstance(storage, dict):
        return
    for kind in ("postgres", "mysql"):
        options = storage.get(kind)
        fields = options.get(f"{kind}_db") if isinstance(options, dict) else None
        if not isinstance(fields, dict):
            continue
        user, password = fields.get("username"), fields.get("password")
        if isinstance(user, str) and "/" in user:
            path = ("storage", kind, f"{kind}_db", "username")
            checker.report.warn(
                "user_name",
                path,
                "found '/' in the user, which Dagster does not quote in its URL",
                "choose another user",
            )
        if kind == "mysql" and isinstance(password, str) and " " in password:
            path = ("storage", kind, "mysql_db", "password")
            checker.report.warn(
                "password", path, "found a space, which the driver gets as '+'", "choose another password"
            )
