# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Dagster accepts and should not be written: refusals, which a user can allow by name, and warnings."""

from __future__ import annotations

import re

from ....module_utils._secrets import leaves, literal_secrets
from ....module_utils._words import did_you_mean
from .constructors import CONTAINER_KWARGS_OWNED
from .report import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path
    from .schema import Checker

LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET", "FATAL", "WARN")

# What the command line of Docker and its Compose files call otherwise.
KWARGS = {
    "memory": "did you mean mem_limit?",
    "mem": "did you mean mem_limit?",
    "cpus": "did you mean nano_cpus (a billion is one)?",
    "env": "use env_vars of the launcher",
    "restart": "did you mean restart_policy?",
    "gpus": "did you mean device_requests?",
}


def check(checker: Checker, config: dict[Any, Any]) -> None:
    """Report what is accepted and harms."""
    for part in (
        _secrets,
        _legacy_storage,
        _launcher_environment,
        _docker,
        _compute_logs,
        _monitoring,
        _queue,
        _workers,
        _unresolved,
        _shell_variables,
        _paths,
        _logs,
        _database,
    ):
        part(checker, config)


def _options(config: dict[Any, Any], section: str) -> tuple[str, dict[Any, Any]]:
    """(class, configuration) of a section; empty where it has another shape."""
    data = config.get(section)
    if not isinstance(data, dict):
        return "", {}
    options = data.get("config")
    return str(data.get("class", "")), options if isinstance(options, dict) else {}


def _secrets(checker: Checker, config: dict[Any, Any]) -> None:
    for path, found, expected in literal_secrets(config):
        checker.report.refuse("literal_secret", path, f"found {found}", f"write {expected}")


def _legacy_storage(checker: Checker, config: dict[Any, Any]) -> None:
    names = ("run_storage", "event_log_storage", "schedule_storage")
    legacy = [key for key in names if key in config]
    if not legacy or "storage" in config:
        return
    classes = {str((config[key] or {}).get("class", "")) for key in legacy if isinstance(config[key], dict)}
    kind = next(
        (kind for kind in ("Postgres", "MySQL", "Sqlite") if any(name.startswith(kind) for name in classes)), "custom"
    )
    modern = {
        "Postgres": "storage: {postgres: {postgres_db: {...}}}",
        "MySQL": "storage: {mysql: {mysql_db: {...}}}",
        "Sqlite": "storage: {sqlite: {base_dir: ...}}",
        "custom": "storage: {custom: {module: ..., class: ..., config: ...}}",
    }[kind]
    missing = [key for key in names if key not in config]
    if missing:
        message = f"found only {listed(legacy)}; without {listed(missing)} that part stays in a local SQLite, silently"
        checker.report.refuse(
            "partial_legacy_storage", (legacy[0],), message, f"write one block for all three: {modern}"
        )
    else:
        checker.report.warn(
            "legacy_storage", (legacy[0],), "found three sections in the old form", f"write one: {modern}"
        )


def _launcher_environment(checker: Checker, config: dict[Any, Any]) -> None:
    """Names without a value are copied from the launching process, and missed only when a run starts."""
    names = _options(config, "run_launcher")[1].get("env_vars")
    if checker.env is None or not isinstance(names, list):
        return
    for index, name in enumerate(names):
        if isinstance(name, str) and "=" not in name and name not in checker.env:
            hint = (
                did_you_mean(name, checker.env) or f"write {name}=<value>, or add it to the environment of the services"
            )
            path = ("run_launcher", "config", "env_vars", index)
            checker.report.refuse(
                "missing_env_var", path, f"found {name[:60]}, which the services do not have in their environment", hint
            )


def _docker(checker: Checker, config: dict[Any, Any]) -> None:
    name, options = _options(config, "run_launcher")
    if name != "DockerRunLauncher":
        return
    report, at = checker.report, ("run_launcher", "config")
    kwargs = options.get("container_kwargs")
    known = set(checker.catalogue.data["container_kwargs"]) | {"stop_timeout"}
    if isinstance(kwargs, dict):
        for key in kwargs:
            if key not in known and key not in CONTAINER_KWARGS_OWNED:
                message = f"found {key}, which the Docker SDK does not take: the first run fails to start"
                hint = KWARGS.get(key) or did_you_mean(key, known) or "see the parameters of docker.containers.create"
                report.refuse("unknown_container_kwarg", (*at, "container_kwargs", key), message, hint)
        volumes = kwargs.get("volumes")
        mounts = (
            volumes.items() if isinstance(volumes, dict) else enumerate(volumes) if isinstance(volumes, list) else ()
        )
        for key, volume in mounts:
            if "docker.sock" in f"{key} {volume}":
                where: Path = (*at, "container_kwargs", "volumes", key)
                message = "found the Docker socket mounted into every run, which makes each run root on the host"
                report.warn("docker_socket", where, message, "leave it out: the launcher does not need it")
    monitoring = config.get("run_monitoring")
    if not isinstance(monitoring, dict) or monitoring.get("enabled") is not True:
        where = ("run_monitoring", "enabled") if isinstance(monitoring, dict) else ("run_launcher",)
        message = "run monitoring is off: a run whose container dies stays STARTED for ever"
        report.warn("run_monitoring_off", where, message, "write run_monitoring: {enabled: true}")
    storage = config.get("storage")
    if (isinstance(storage, dict) and "sqlite" in storage) or not ({"storage", "run_storage"} & set(config)):
        message = "found SQLite as storage: run containers have a file of their own, and the runs are never seen"
        report.warn(
            "sqlite_in_containers",
            ("storage" if "storage" in config else "run_launcher",),
            message,
            "write storage: {postgres: ...}",
        )


def _compute_logs(checker: Checker, config: dict[Any, Any]) -> None:
    name, options = _options(config, "compute_logs")
    at = ("compute_logs", "config")
    if name == "GCSComputeLogManager" and options.get("json_credentials_envvar") == "GOOGLE_APPLICATION_CREDENTIALS":
        message = "found GOOGLE_APPLICATION_CREDENTIALS, which holds the path of a file; Dagster wants JSON text in it"
        hint = "leave the key out (the default credentials read that file), or name a variable that holds the JSON text"
        checker.report.warn("gcs_credentials_path", (*at, "json_credentials_envvar"), message, hint)


def _monitoring(checker: Checker, config: dict[Any, Any]) -> None:
    monitoring = config.get("run_monitoring")
    if not isinstance(monitoring, dict):
        return
    for key, value in monitoring.items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 0:
            checker.report.warn(
                "negative_time", ("run_monitoring", key), f"found {value}", "write 0 for none, or a positive number"
            )


def _queue(checker: Checker, config: dict[Any, Any]) -> None:
    concurrency = config.get("concurrency")
    runs = concurrency.get("runs") if isinstance(concurrency, dict) else None
    places = {
        ("run_queue",): config.get("run_queue"),
        ("run_coordinator", "config"): _options(config, "run_coordinator")[1],
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
        if options.get("dequeue_num_workers") is not None and options.get("dequeue_use_threads") is not True:
            message = "found dequeue_num_workers without dequeue_use_threads: true, where it does nothing"
            checker.report.warn("no_effect", (*path, "dequeue_num_workers"), message, "add dequeue_use_threads: true")


def _workers(checker: Checker, config: dict[Any, Any]) -> None:
    for section in ("schedules", "sensors", "backfills", "auto_materialize"):
        options = config.get(section)
        if not isinstance(options, dict):
            continue
        for key in ("num_workers", "num_submit_workers"):
            workers = options.get(key)
            if workers is None or isinstance(workers, bool) or not isinstance(workers, int):
                continue
            if workers < 1:
                message = f"found {workers}: the daemon's thread fails in a loop, and still counts as live"
                checker.report.warn("no_workers", (section, key), message, "write a number from 1 on")
            elif options.get("use_threads") is not True:
                message = f"found {key} without use_threads: true, where it does nothing"
                checker.report.warn("no_effect", (section, key), message, "add use_threads: true")


def _unresolved(checker: Checker, config: dict[Any, Any]) -> None:
    """The schema takes a variable there, and nothing ever looks it up."""
    options = config.get("auto_materialize")
    for key, value in options.items() if isinstance(options, dict) else ():
        if isinstance(value, dict) and set(value) == {"env"}:
            message = f"found {{env: {value['env']}}}, which Dagster takes here and never looks up"
            checker.report.warn("env_not_resolved", ("auto_materialize", key), message, "write the value")


def _shell_variables(checker: Checker, config: dict[Any, Any]) -> None:
    for path, value in leaves(config, ()):
        match = re.search(r"\$\{(\w+)[^}]*\}", value) if isinstance(value, str) and "${" in value else None
        if match:
            message = f"found ${{{match[1]}}}, which Dagster does not replace"
            checker.report.warn("shell_variable", path, message, f"write {{env: {match[1]}}}, alone, where it is taken")


def _paths(checker: Checker, config: dict[Any, Any]) -> None:
    storage = config.get("storage")
    places = [
        ((section, "config"), _options(config, section)[1]) for section in ("compute_logs", "local_artifact_storage")
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
