# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""dagster.yaml: its sections, and the objects that Dagster builds of them.

`dagster instance info` is no validator: it exits 0 with broken compute logs, launcher or coordinator, since these
load lazily. So each class is imported, its configuration processed, and the object built, as Dagster would do later.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from .._words import did_you_mean
from .no_effects import Blocked, Guard
from .problems import Report, attempt, join, load, text_of
from .schema import NULL, process, validate

# section -> what the class named there must derive from
BASES = {
    "storage": "dagster._core.storage.base_storage:DagsterStorage",
    "run_storage": "dagster._core.storage.runs.base:RunStorage",
    "event_log_storage": "dagster._core.storage.event_log.base:EventLogStorage",
    "schedule_storage": "dagster._core.storage.schedules.base:ScheduleStorage",
    "compute_logs": "dagster._core.storage.compute_log_manager:ComputeLogManager",
    "scheduler": "dagster._core.scheduler.scheduler:Scheduler",
    "run_coordinator": "dagster._core.run_coordinator.base:RunCoordinator",
    "run_launcher": "dagster._core.launcher.base:RunLauncher",
    "local_artifact_storage": "dagster._core.storage.root:LocalArtifactStorage",
    "secrets": "dagster._core.secrets.loader:SecretsLoader",
    "defs_state_storage": "dagster._core.storage.defs_state.base:DefsStateStorage",
}
# storage: {postgres: ...} is short for a class
STORAGE_CLASSES = {
    "postgres": ("dagster_postgres", "DagsterPostgresStorage"),
    "mysql": ("dagster_mysql", "DagsterMySQLStorage"),
    "sqlite": ("dagster._core.storage.sqlite_storage", "DagsterSqliteStorage"),
}

# Sections that Dagster does not take together.
EXCLUSIVE = {
    "run_queue": ("run_coordinator",),
    "storage": ("run_storage", "event_log_storage", "schedule_storage"),
}


def check_dagster_yaml(report: Report, guard: Guard, config: Any) -> None:
    instance_config = importlib.import_module("dagster._core.instance.config")
    schema = dict(instance_config.dagster_instance_config_schema())
    config = config or {}
    if not isinstance(config, dict):
        report.add("", f"found a {type(config).__name__}, expected a mapping")
        return
    if "instance_class" in config:
        schema.update(instance_class_schema(report, config["instance_class"]))
    # As Dagster does: this level is validated only, values are resolved class by class.
    attempt(report, "", lambda: validate(report, schema, config, ""))
    for one, others in EXCLUSIVE.items():
        beside = [name for name in others if name in config]
        if one in config and beside:
            report.add(one, f"found {one} and {', '.join(beside)}, expected only one of them")
    if isinstance(config.get("concurrency"), dict):
        attempt(report, "concurrency", lambda: instance_config.validate_concurrency_config(config))

    launcher = None
    for section, path, data in class_sections(config):
        built = attempt(report, path, lambda s=section, p=path, d=data: check_class(report, guard, s, p, d))  # type: ignore[misc]
        if section == "run_launcher":
            launcher = built
    check_resume(report, config, launcher)


def instance_class_schema(report: Report, data: Any) -> Mapping[str, Any]:
    """The top-level keys that a custom instance class adds."""

    def read() -> Mapping[str, Any]:
        klass = load("dagster._serdes:class_from_code_pointer")(data["module"], data["class"])
        if not issubclass(klass, load("dagster._core.instance:DagsterInstance")):
            report.add("instance_class.class", f"{data['class']} is not a DagsterInstance")
            return {}
        if not hasattr(klass, "config_schema"):
            report.add("instance_class.class", f"{data['class']} has no configuration of its own, so Dagster fails")
            return {}
        return klass.config_schema()

    return attempt(report, "instance_class", read) or {}


def class_sections(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(section, path of the configuration, {module, class, config}) of everything that Dagster builds."""
    for section in BASES:
        data = config.get(section)
        if not isinstance(data, dict):
            continue
        if section == "storage":
            for kind, value in data.items():
                if kind in STORAGE_CLASSES:
                    module, name = STORAGE_CLASSES[kind]
                    yield section, f"storage.{kind}", {"module": module, "class": name, "config": value}
                elif kind == "custom" and isinstance(value, dict):
                    yield section, "storage.custom.config", value
        elif section == "secrets":
            if isinstance(data.get("custom"), dict):
                yield section, "secrets.custom.config", data["custom"]
        else:
            yield section, f"{section}.config", data
    if isinstance(config.get("run_queue"), dict):
        coordinator = {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}
        yield "run_coordinator", "run_queue", {**coordinator, "config": config["run_queue"]}


def check_class(report: Report, guard: Guard, section: str, path: str, data: Mapping[str, Any]) -> Any:
    """Import the class of a section, check its configuration, and build the object."""
    module_name, class_name = data.get("module"), data.get("class")
    if not isinstance(module_name, str) or not isinstance(class_name, str):
        return None  # the schema has reported it
    value = data.get("config", {})
    if value is None:
        report.add(path, NULL.format(wanted="a mapping"))  # the schema accepts storage: {postgres: null}
    if not isinstance(value, dict):
        return None
    yaml_text = importlib.import_module("yaml").dump(value, default_flow_style=False)
    inst_data = load("dagster._serdes:ConfigurableClassData")(module_name, class_name, yaml_text)
    at = path[: -len(".config")] if path.endswith(".config") else path
    try:
        module = importlib.import_module(inst_data.module_name)
    except Exception as error:
        report.add(join(at, "module") if at != path else at, f"cannot import {module_name}: {text_of(error)}")
        return None
    klass: Any = getattr(module, class_name, None)
    is_class = inspect.isclass(klass)
    if not is_class:
        classes = [name for name in dir(module) if inspect.isclass(getattr(module, name, None))]
        report.add(
            join(at, "class"),
            f"{module_name} has no class {class_name}{did_you_mean(class_name, classes, '; ')}",
        )
        return None
    base = load(BASES[section])
    if base not in inspect.getmro(klass):
        report.add(join(at, "class"), f"{class_name} is not a {base.__name__}, which {section} needs")
        return None
    processed = process(report, klass.config_type(), value, path)
    if processed is None:
        return None
    try:
        return guard.call(klass.from_config_value, inst_data, processed)
    except Blocked:
        return klass  # valid as far as it can be known without acting


def check_resume(report: Report, config: Mapping[str, Any], launcher: Any) -> None:
    """Dagster starts no process at all if runs shall be resumed by a launcher that cannot do it."""
    monitoring = config.get("run_monitoring")
    if not isinstance(monitoring, dict) or monitoring.get("enabled") is not True:
        return
    attempts = monitoring.get("max_resume_run_attempts", 0)
    if not isinstance(attempts, int) or not attempts:
        return
    name = launcher.__name__ if isinstance(launcher, type) else type(launcher).__name__
    if "run_launcher" not in config:
        supported, name = False, "DefaultRunLauncher"
    elif launcher is None or isinstance(launcher, type):
        return
    else:
        supported = bool(launcher.supports_resume_run)
    if not supported:
        report.add(
            "run_monitoring.max_resume_run_attempts",
            f"found {attempts}, but {name} cannot resume runs and no Dagster process would start; expected 0",
        )
