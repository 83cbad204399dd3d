# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""dagster.yaml as a whole: its keys, and the rules between sections for which Dagster refuses to start."""

from __future__ import annotations

import time

from ....module_utils._words import nearest
from . import harm
from .report import dotted, listed, shown
from .sections import check_sections, find_class, named_classes, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path
    from .schema import Checker

LEGACY_STORAGES = ("run_storage", "event_log_storage", "schedule_storage")

# What documents, blog posts and the reference document write, and the form that works. By dotted path; * is any key.
MODERN = {
    "data_retention": "write retention",
    "log_conf": "write python_logs",
    "logging": "write python_logs",
    "ui": "no released Dagster has it",
    "execution": "belongs into the run config of a job; for run limits write concurrency",
    "max_concurrent_runs": "write concurrency: {runs: {max_concurrent_runs: N}}",
    "tag_concurrency_limits": "write concurrency: {runs: {tag_concurrency_limits: [...]}}",
    "pools": "write concurrency: {pools: {default_limit: N}}",
    "compute_log_manager": "write compute_logs",
    "launcher": "write run_launcher",
    "executor": "belongs into the code of a job; what starts its runs is run_launcher",
    "resources": "belongs into the code: resources of Definitions",
    **dict.fromkeys(("database", "db", "postgres", "postgresql"), "write storage: {postgres: {postgres_db: {...}}}"),
    "mysql": "write storage: {mysql: {mysql_db: {...}}}",
    "sqlite": "write storage: {sqlite: {base_dir: ...}}",
    "postgres_db": "indent it below storage: {postgres: ...}",
    **dict.fromkeys(
        ("workspace", "load_from", "code_locations", "locations", "grpc_server", "python_file", "python_module"),
        "code locations stand in a file of their own: workspace.yaml, with load_from: and a list below it",
    ),
    **dict.fromkeys(
        ("daemon", "dagster_daemon"),
        "no section is for the daemon alone; what it does is set by schedules, sensors, backfills, auto_materialize, "
        "run_queue, run_monitoring, run_retries and retention",
    ),
    **dict.fromkeys(
        ("webserver", "dagster_webserver", "dagit", "server", "host", "port"),
        "options of the webserver stand on its command line: dagster-webserver --host ... --port ...",
    ),
    **dict.fromkeys(
        ("env", "environment", "env_vars"),
        "variables are those of the processes that read this file; those of runs are run_launcher.config.env_vars",
    ),
    "concurrency.max_concurrent_runs": "write runs: {max_concurrent_runs: N}",
    "concurrency.tag_concurrency_limits": "write runs: {tag_concurrency_limits: [...]}",
    **dict.fromkeys(
        ("concurrency.*", "concurrency.pools", "concurrency.pools.*"),
        "pools has default_limit, for all of them; the limit of one pool is set in the UI, at Deployment > "
        "Concurrency, or with: dagster instance concurrency set POOL LIMIT",
    ),
    "retention.*": (
        "Dagster removes old ticks only, those of schedule, sensor and auto_materialize; runs, their events and logs "
        "stay until somebody deletes them: dagster run delete, or instance.delete_run in a job of yours"
    ),
    "run_launcher.config.annotations": "write run_k8s_config: {pod_template_spec_metadata: {annotations: {...}}}",
    "run_launcher.config.job_image": (
        "leave it out: the image is that of the code location; the pull policy is image_pull_policy: Always"
    ),
    "run_launcher.config.instance_config_map": (
        "add instance_config_map: the name of a ConfigMap in the namespace of the runs, such as dagster-instance"
    ),
    "compute_logs.config.default_azure_credential": (
        "write default_azure_credential: {} (options of the credential, none needed)"
    ),
}
# Python's calendar begins with the year 1.
DAYS_BEFORE_1970 = 719_162
# A key that more places have says nothing.
MOST_HOMES = 3
# Whether the daemon has threads for a section that says nothing about it, and what it does without any worker.
THREADS = {
    "sensors": (False, "dagster-daemon does not start"),
    "schedules": (False, "the daemon's thread for schedules dies in a loop, and no schedule ticks"),
    "backfills": (True, "dagster-daemon does not start"),
    "auto_materialize": (False, "the daemon's thread for assets dies in a loop, and no condition is evaluated"),
}


def check_instance(checker: Checker, config: Any) -> None:
    """Report everything that is wrong with the data of a dagster.yaml."""
    report, catalogue = checker.report, checker.catalogue
    if not config:
        return  # an empty file is Dagster with its defaults
    if not isinstance(config, dict):
        report.error(
            (), f"found {shown(config)}; expected a mapping of sections", f"sections are {listed(catalogue.top_level)}"
        )
        return
    checker.hints.update(MODERN)
    _orphans(checker, config)
    _keys(checker, config)
    _exclusive(checker, config)
    _concurrency(checker, config)
    check_sections(checker, config)
    _resume(checker, config)
    _threads(checker, config)
    _retention(checker, config)
    harm.check(checker, config)


def _orphans(checker: Checker, config: dict[Any, Any]) -> None:
    """Hints for keys that stand where sections do and belong below one: a header or the indentation is lost."""
    catalogue = checker.catalogue
    name = config.get("class")
    entries = catalogue.named(name) if isinstance(name, str) else []
    section = entries[0]["sections"][0] if entries else "a section, such as run_launcher"
    for key in config:
        if not isinstance(key, str) or key in catalogue.top_level:
            continue
        if key in ("module", "class", "config"):
            checker.hints[key] = f"the indentation is lost: {key} belongs below {section}"
            continue
        if entries and key in catalogue.fields(entries[0].get("config")):
            checker.hints.setdefault(key, f"the indentation is lost: {key} belongs below {section}.config")
            continue
        homes = catalogue.homes.get(key, [])
        near = nearest(key, catalogue.top_level) if 0 < len(homes) <= MOST_HOMES else "?"
        # schedule is schedules misspelt, although retention has a key of that name.
        if near in ("", *(home.split(".", 1)[0] for home in homes)):
            checker.hints.setdefault(key, f"{key} belongs below {' or '.join(homes)}")


def _keys(checker: Checker, config: dict[Any, Any]) -> None:
    fields = checker.catalogue.top_level
    own = _fields_of_instance_class(checker, config)
    if own is None:  # a class of the user's may have keys of its own: only the class knows
        config = {key: value for key, value in config.items() if key in fields or not isinstance(key, str)}
        own = {}
    checker._shape({**fields, **own}, config, (), processed=False)


def _fields_of_instance_class(checker: Checker, config: dict[Any, Any]) -> dict[str, Any] | None:
    for section in named_classes(config):
        if section.name == "instance_class":
            quiet = checker.catalogue.modules.get(str(section.module))
            if quiet is None:
                return None
            entry = checker.catalogue.classes.get(quiet.get(str(section.class_name), ""), {})
            return checker.catalogue.fields(entry.get("config"))
    return {}


def _exclusive(checker: Checker, config: dict[Any, Any]) -> None:
    report = checker.report
    if "run_queue" in config and "run_coordinator" in config:
        report.error(
            ("run_queue",),
            "found run_queue and run_coordinator; expected only one of them",
            "run_queue configures the QueuedRunCoordinator, which is the default",
        )
    legacy = [key for key in LEGACY_STORAGES if key in config]
    if "storage" in config and legacy:
        report.error(
            ("storage",),
            f"found storage and {listed(legacy)}; expected storage alone",
            "leave them out: ours covers all three, and dagster_database_host names a server of your own; or take ours "
            "back with storage: null"
            if report.deployed
            else "storage covers all three: leave them out",
        )


def _concurrency(checker: Checker, config: dict[Any, Any]) -> None:
    report, section = checker.report, config.get("concurrency")
    if not isinstance(section, dict):
        return
    pools = section.get("pools")
    old = section.get("default_op_concurrency_limit")
    if "pools" in section and old is not None:
        report.error(
            ("concurrency", "default_op_concurrency_limit"),
            "found default_op_concurrency_limit beside pools; expected only pools",
            f"write pools: {{default_limit: {old}}}",
        )
    inner = pools if isinstance(pools, dict) else {}
    most = checker.catalogue.data["max_pool_limit"]
    limits: dict[Path, Any] = {("concurrency", "pools", "default_limit"): inner.get("default_limit")}
    if "pools" not in section:
        limits["concurrency", "default_op_concurrency_limit"] = old
    for path, limit in limits.items():
        number = whole_number(limit)
        if number is not None and not 0 <= number <= most:
            report.error(
                path,
                f"found {limit}; expected a number from 0 to {most}",
                f"at most {most}, unless DAGSTER_MAX_GLOBAL_OP_CONCURRENCY_LIMIT says more",
            )
    granularity = inner.get("granularity")
    if granularity and granularity not in ("run", "op"):
        report.error(
            ("concurrency", "pools", "granularity"), f"found {granularity!r}; expected run or op", "write op or run"
        )
    if "runs" in section or "pools" in section:
        _limits_elsewhere(checker, config)


def _limits_elsewhere(checker: Checker, config: dict[Any, Any]) -> None:
    """With concurrency.runs or .pools the limits may stand nowhere else."""
    moved = {
        ("max_concurrent_runs",): "concurrency.runs.max_concurrent_runs",
        ("tag_concurrency_limits",): "concurrency.runs.tag_concurrency_limits",
        (
            "block_op_concurrency_limited_runs",
            "op_concurrency_slot_buffer",
        ): "concurrency.pools.op_granularity_run_buffer",
    }
    coordinator = config.get("run_coordinator")
    queued = isinstance(coordinator, dict) and coordinator.get("class") == "QueuedRunCoordinator"
    for start in (("run_queue",), ("run_coordinator", "config") if queued else ()):
        for path, new in moved.items():
            value: Any = config
            for part in (*start, *path) if start else ():
                value = value.get(part) if isinstance(value, dict) else None
            if start and value is not None:
                full = (*start, *path)
                checker.report.error(
                    full, f"found {dotted(full)} beside concurrency.runs or concurrency.pools", f"move it to {new}"
                )


def _resume(checker: Checker, config: dict[Any, Any]) -> None:
    """Dagster starts no process at all if runs shall be resumed by a launcher that cannot do it."""
    monitoring = config.get("run_monitoring")
    if not isinstance(monitoring, dict) or monitoring.get("enabled") is not True:
        return
    attempts = whole_number(monitoring.get("max_resume_run_attempts"))
    if not attempts:
        return
    name, able = "DefaultRunLauncher", False
    for section in named_classes(config):
        if section.name == "run_launcher":
            entry = find_class(checker, section)
            if entry is None:
                return
            name, able = section.class_name, entry.get("resume", False)
    if not able:
        checker.report.error(
            ("run_monitoring", "max_resume_run_attempts"),
            f"found {attempts}, but {name} cannot resume runs; no Dagster process would start",
            "write max_resume_run_attempts: 0",
        )


def _threads(checker: Checker, config: dict[Any, Any]) -> None:
    """Numbers with which no pool of threads can be made. 0 means no pool for backfills, and for what submits."""
    for section, (by_default, happens) in THREADS.items():
        options = config.get(section)
        if not isinstance(options, dict) or options.get("use_threads", by_default) is not True:
            continue
        if options.get("enabled") is False and options.get("use_sensors") is False:
            continue  # auto_materialize is off
        for key, least in (("num_workers", 0 if section == "backfills" else 1), ("num_submit_workers", 0)):
            workers = whole_number(options.get(key))
            if workers is not None and workers < least:
                checker.report.error(
                    (section, key),
                    f"found {workers}; expected a number from {least} on: {happens}",
                    f"write a number from 1 on, or leave {key} out",
                )


def _retention(checker: Checker, config: dict[Any, Any]) -> None:
    """Days before the first one there is: the end of each tick fails."""
    retention = config.get("retention")
    for section, options in retention.items() if isinstance(retention, dict) else ():
        days = options.get("purge_after_days") if isinstance(options, dict) else None
        given = days.items() if isinstance(days, dict) else [("", days)]
        for status, value in given:
            number = whole_number(value)
            most = int(time.time()) // 86400 + DAYS_BEFORE_1970
            if number is not None and number > most:
                path = ("retention", section, "purge_after_days", *([status] if status else []))
                message = f"found {shown(number)}; expected at most {most} days: there is no day before that"
                checker.report.error(path, message, "write -1 to keep ticks for ever")
