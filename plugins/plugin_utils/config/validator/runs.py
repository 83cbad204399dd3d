# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What only a run meets: services look healthy while its container lacks a variable or a folder, or cannot start."""

from __future__ import annotations

from . import containers, places
from .containers import LAUNCHER
from .places import monitored, resumed
from .sections import known_class, named_classes, options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .schema import Checker

# Stores of results that only the process that sent a task can ask, or nobody.
NO_RESULTS = ("rpc", "amqp", "cache+memory", "disabled")


def check(checker: Checker, config: dict[Any, Any]) -> None:
    """Report what services do not notice and runs fail with."""
    for part in (_launcher, _storage, places.check, _resume, _celery):
        part(checker, config)


def _launcher(checker: Checker, config: dict[Any, Any]) -> None:
    name, options = options_of(config, "run_launcher")
    containers.copied_variables(checker, options, LAUNCHER)
    if name != "DockerRunLauncher":
        return
    containers.arguments(checker, options, LAUNCHER)
    if not monitored(config):
        where = ("run_monitoring", "enabled") if isinstance(config.get("run_monitoring"), dict) else ("run_launcher",)
        message = "run monitoring is off: a run whose container dies stays STARTED for ever"
        checker.report.warn("run_monitoring_off", where, message, "write run_monitoring: {enabled: true}")


# --- what the instance of a run is built from ---


def _storage(checker: Checker, config: dict[Any, Any]) -> None:
    if options_of(config, "run_launcher")[0] != "DockerRunLauncher":
        return
    storage = config.get("storage")
    local = isinstance(storage, dict) and "sqlite" in storage
    legacy = options_of(config, "run_storage")[0]
    if local or "Sqlite" in legacy or not ({"storage", "run_storage"} & set(config)):
        message = "found SQLite as storage: run containers have a file of their own, and the runs are never seen"
        where = "storage" if "storage" in config else "run_storage" if legacy else "run_launcher"
        checker.report.harm("sqlite_in_containers", (where,), message, "write storage: {postgres: ...}")


# --- runs that are watched ---


def _resume(checker: Checker, config: dict[Any, Any]) -> None:
    attempts = resumed(config)
    for section in named_classes(config) if attempts > 0 else ():
        if section.name == "run_launcher" and known_class(checker, section).get("resume"):
            message = (
                f"found {attempts}: with Dagster's default executor a resumed run executes all its steps again, those "
                "that had ended too"
            )
            hint = (
                "write 0, and run_retries for the retry of a run that failed; or give the jobs an executor that knows "
                "what has run, such as docker_executor or k8s_job_executor, and allow resume_repeats_steps"
            )
            path = ("run_monitoring", "max_resume_run_attempts")
            checker.report.warn("resume_repeats_steps", path, message, hint)


def _celery(checker: Checker, config: dict[Any, Any]) -> None:
    name, options = options_of(config, "run_launcher")
    backend = options.get("backend", "rpc://")
    if name != "CeleryRunLauncher" or not monitored(config) or isinstance(backend, dict):
        return
    if backend is None or str(backend).startswith(NO_RESULTS):
        found = str(backend).partition(":")[0] if "backend" in options else "no backend, which means rpc"
        message = f"found {found}: the daemon cannot ask it, and run monitoring marks healthy runs as failed"
        hint = "write backend: redis://HOST:6379/1, or run_monitoring: {enabled: false}"
        checker.report.harm("celery_backend", (*LAUNCHER, "backend"), message, hint)
