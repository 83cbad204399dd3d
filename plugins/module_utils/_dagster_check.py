# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check dagster.yaml and workspace.yaml against the installed Dagster: the real schema and the real classes.

This file is a program of its own. The modules read its text (program()) and run it under the Python of Dagster's
virtual environment, because Dagster cannot be imported where Ansible modules run. It needs nothing beside the
standard library and that Dagster.

Input, JSON on stdin:   {"texts": {"dagster_yaml": text or null, "workspace": text or null}, "env": {NAME: value}}
Output, JSON on stdout: {"dagster_version": "1.13.27", "problems": [{"path": "run_launcher.config.image",
                         "section": "run_launcher", "message": "..."}]}

`dagster instance info` is no validator: it exits 0 with broken compute logs, launcher or coordinator, since these
load lazily. So each class is imported, its configuration processed, and the object built, as Dagster would do later.
Building must not act: no connection, no new folder, no file written, no process started.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

TIME_LIMIT_SECONDS = 120

# Dagster's kinds of types that have no name of their own, in words.
KINDS = {
    "STRICT_SHAPE": "a mapping",
    "PERMISSIVE_SHAPE": "a mapping",
    "SELECTOR": "a mapping with exactly one key",
    "MAP": "a mapping",
    "ARRAY": "a list",
}

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

NULL = "found null, expected {wanted}: give a value or leave the key out"
SECRET = re.compile(r"passw|secret|token|credential|_key", re.IGNORECASE)


class Blocked(BaseException):
    """The object under construction wanted to act on the world.

    Everything before that point was fine, which is all that can be known here. Not an Exception: libraries catch and
    retry those.
    """


class TooSlow(BaseException):
    """The time limit was reached."""


# --- no side effects ------------------------------------------------------------------------------------------------


class Guard:
    """While it is on, whatever connects, creates, writes or starts a process raises Blocked."""

    EVENTS = frozenset(
        [
            "socket.connect",
            "socket.bind",
            "socket.sendto",
            "socket.sendmsg",
            "socket.getaddrinfo",
            "socket.gethostbyname",
            "socket.gethostbyaddr",
            "os.mkdir",
            "os.rename",
            "os.remove",
            "os.rmdir",
            "os.symlink",
            "os.link",
            "os.chmod",
            "os.chown",
            "os.truncate",
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "os.fork",
            "os.forkpty",
            "os.kill",
            "sqlite3.connect",
        ]
    )
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __init__(self) -> None:
        self.on = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and (event in self.EVENTS or (event == "open" and self._writes(args))):
            raise Blocked(event)

    def _writes(self, args: tuple[Any, ...]) -> bool:
        path, mode, flags = (*args, None, None, None)[:3]
        if path == os.devnull:
            return False
        if isinstance(mode, str):
            return any(letter in mode for letter in "wax+")
        return isinstance(flags, int) and bool(flags & self.WRITING)

    def block_databases(self) -> None:
        """Database drivers connect in C, where Python's audit events do not see it."""
        try:
            dialect = importlib.import_module("sqlalchemy.engine.default").DefaultDialect
        except Exception:  # no SQLAlchemy, nothing to block
            return
        original = dialect.connect

        def connect(dialect_self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.on:
                raise Blocked("database connection")
            return original(dialect_self, *args, **kwargs)

        dialect.connect = connect

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        self.on = True
        try:
            return function(*args)
        finally:
            self.on = False


# --- collecting -----------------------------------------------------------------------------------------------------


class Report:
    """The problems found so far, each once."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.problems: list[dict[str, str]] = []
        # Constructors quote what they were given. The modules send no secrets; should one come, its name is shown.
        self._values = sorted(
            ((value, name) for name, value in env.items() if value and SECRET.search(name)), reverse=True
        )

    def add(self, path: str, message: str, section: str = "") -> None:
        for value, name in self._values:
            message = message.replace(value, f"<value of {name}>")
        problem = {"path": path, "section": section or path.split(".", 1)[0].split("[", 1)[0], "message": message}
        if problem not in self.problems:
            self.problems.append(problem)


def load(pointer: str) -> Any:
    """Import "module:name"."""
    module, name = pointer.split(":")
    return getattr(importlib.import_module(module), name)


def text_of(error: BaseException) -> str:
    """What an exception says, without Dagster's wrapping and on one line."""
    message = str(error).strip() or type(error).__name__
    message = re.sub(r"^Invariant failed\.( Description:)?", "", message).strip() or "invariant failed"
    message = " ".join(message.split())
    if isinstance(error, ImportError) and "'psycopg'" in message:
        message += " (with SQLAlchemy 2.1 postgresql:// means psycopg 3; set scheme: postgresql+psycopg2)"
    elif not isinstance(error, ImportError) and type(error).__name__ not in (
        "CheckError",
        "DagsterInvalidConfigError",
        "Exception",
    ):
        message = f"{type(error).__name__}: {message}"
    return message[:1000]


def join(prefix: str, path: str) -> str:
    """Append a relative dotted path."""
    return prefix + path if path.startswith("[") or not prefix or not path else f"{prefix}.{path}"


def did_you_mean(name: str, candidates: list[str]) -> str:
    near = difflib.get_close_matches(name, candidates, n=1)
    return f"did you mean {near[0]}? " if near else ""


def stack_path(stack: Any) -> str:
    """Dagster's evaluation stack as a dotted path."""
    path = ""
    for entry in stack.entries:
        if hasattr(entry, "field_name"):
            path = join(path, str(entry.field_name))
        elif hasattr(entry, "list_index"):
            path += f"[{entry.list_index}]"
        elif hasattr(entry, "map_key"):
            path = join(path, str(entry.map_key))
    return path


def type_at(config_type: Any, stack: Any) -> Any:
    """The config type that an evaluation stack points at; None if it cannot be followed."""
    for entry in [*stack.entries, None]:
        while config_type is not None and config_type.kind.name in ("NONEABLE", "SCALAR_UNION"):
            if entry is None and config_type.kind.name == "SCALAR_UNION":
                return config_type
            config_type = getattr(config_type, "inner_type", None) or getattr(config_type, "non_scalar_type", None)
        if entry is None or config_type is None:
            break
        if hasattr(entry, "field_name"):
            field = (getattr(config_type, "fields", None) or {}).get(entry.field_name)
            config_type = field.config_type if field else None
        else:
            config_type = getattr(config_type, "inner_type", None)
    return config_type


def schema_errors(config_type: Any, errors: Any) -> Iterator[tuple[str, str]]:
    """(relative path, message) for the errors of Dagster's config system; a list of keys is one error per key."""
    for error in errors:
        path, data, reason = stack_path(error.stack), error.error_data, error.reason.name
        message = " ".join(re.sub(r" (at path root[^ ]*?|at the root)(?=[ .]|$)", "", error.message).split())
        names = getattr(data, "field_names", None) or ([data.field_name] if hasattr(data, "field_name") else [])
        if reason.startswith(("FIELD_NOT", "FIELDS_NOT")):
            known = sorted(getattr(type_at(config_type, error.stack), "fields", None) or {})
            for name in names:
                allowed = f"expected one of: {', '.join(known)}" if known else "no key is known here"
                yield join(path, name), f"unknown key; {did_you_mean(name, known)}{allowed}"
        elif reason.startswith("MISSING_REQUIRED"):
            for name in names:
                yield join(path, name), "required key is missing"
        elif reason == "RUNTIME_TYPE_MISMATCH":
            yield path, type_message(path, data, message)
        elif reason == "FAILED_POST_PROCESSING":
            yield path, " ".join(re.sub(r"^[\w.]+: ", "", data.message).split())  # without the stack trace
        else:
            yield path, message


def type_message(path: str, data: Any, message: str) -> str:
    """A wrong type, with the usual cause: a number or a boolean that arrived as text."""
    snap = data.config_type_snap
    wanted = str(snap.given_name or KINDS.get(snap.kind.name) or snap.key)
    found = str(data.value_rep)
    if SECRET.search(path.rsplit(".", 1)[-1]):
        # A value of the wrong type can still be a secret.
        return f"wrong type; expected {wanted}"
    if wanted in ("Int", "IntSourceType") and re.fullmatch(r"'[+-]?\d+'", found):
        return f"found the text {found}, expected a number: write it without quotes, in a template {{{{ x | int }}}}"
    if wanted in ("Float",) and re.fullmatch(r"'[+-]?[\d.]+'", found):
        return f"found the text {found}, expected a number: write it without quotes, in a template {{{{ x | float }}}}"
    if wanted in ("Bool", "BoolSourceType") and re.fullmatch(r"'(true|false|yes|no|on|off)'", found, re.IGNORECASE):
        return f"found the text {found}, expected a boolean: write it without quotes, in a template {{{{ x | bool }}}}"
    if found == "None":
        return NULL.format(wanted=wanted)
    if snap.given_name or snap.kind.name in KINDS:
        return f"found {found[:200]}, expected {wanted}"
    return f"found {found[:200]}: {message}"


def unset_env(config_type: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, NAME) of each {env: NAME} that Dagster would resolve there and that is not set.

    By type, not by shape: inside free-form parts {env: ...} is ordinary data.
    """
    kind = config_type.kind.name
    if kind == "SCALAR_UNION":
        if getattr(config_type, "key", "").endswith("SourceType"):
            name = value.get("env") if isinstance(value, dict) and set(value) == {"env"} else None
            if isinstance(name, str) and name not in os.environ:
                yield path, name
        elif isinstance(value, (dict, list)):
            yield from unset_env(config_type.non_scalar_type, value, path)
    elif kind == "NONEABLE" and value is not None:
        yield from unset_env(config_type.inner_type, value, path)
    elif kind == "ARRAY" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from unset_env(config_type.inner_type, item, f"{path}[{index}]")
    elif kind == "MAP" and isinstance(value, dict):
        for key, item in value.items():
            yield from unset_env(config_type.inner_type, item, join(path, str(key)))
    elif isinstance(value, dict):
        fields = getattr(config_type, "fields", None) or {}
        for key, item in value.items():
            if key in fields:
                yield from unset_env(fields[key].config_type, item, join(path, str(key)))


def validate(report: Report, schema: Any, value: Any, path: str) -> bool:
    """Whether a value is of a type; the reasons are reported if it is not."""
    config_type = load("dagster._config:resolve_to_config_type")(schema)
    validated = load("dagster._config:validate_config")(config_type, value)
    for where, message in schema_errors(config_type, validated.errors or []):
        report.add(join(path, where), message)
    return bool(validated.success)


def process(report: Report, schema: Any, value: Any, path: str) -> Any:
    """Validate a value and resolve it as Dagster does; None, and the reasons reported, if it does not fit."""
    config_type = load("dagster._config:resolve_to_config_type")(schema)
    valid = validate(report, schema, value, path)
    unset = list(unset_env(config_type, value, path))
    for where, name in unset:
        report.add(where, f"the environment variable {name} is not set for the services")
    if unset or not valid:
        return None
    processed = load("dagster._config:process_config")(config_type, value)
    for where, message in schema_errors(config_type, processed.errors or []):
        report.add(join(path, where), message)
    return processed.value if processed.success else None


# --- dagster.yaml ---------------------------------------------------------------------------------------------------


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


def attempt(report: Report, path: str, function: Callable[[], Any]) -> Any:
    """Call a piece of Dagster; whatever it raises is a problem at that path."""
    try:
        return function()
    except Exception as error:
        report.add(path, text_of(error))
        return None


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
            f"{module_name} has no class {class_name}; {did_you_mean(class_name, classes)}".rstrip("; "),
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


# --- workspace.yaml -------------------------------------------------------------------------------------------------


def check_workspace(report: Report, guard: Guard, config: Any) -> None:
    if not isinstance(config, dict):
        report.add("", f"found a {type(config).__name__}, expected a mapping")
        return
    schema = load("dagster._core.workspace.config_schema:WORKSPACE_CONFIG_SCHEMA")
    if process(report, schema, config, "") is None:
        return
    origins = load("dagster._core.workspace.load:location_origins_from_config")
    try:
        guard.call(origins, config, os.path.join(os.sep, "workspace.yaml"))
    except Blocked:
        return


def loaded(text: str) -> Any:
    """The data of a text as Dagster reads its files."""
    return load("dagster_shared.yaml_utils:load_run_config_yaml")(text)


# --- the program ----------------------------------------------------------------------------------------------------


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run all checks; never raises."""
    env = {str(name): str(value) for name, value in (request.get("env") or {}).items()}
    # The environment of the services, not that of whoever logged in to deploy.
    os.environ.clear()
    os.environ.update({"PATH": os.defpath, **env})
    sys.path[:0] = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    report = Report(env)
    version = ""
    try:
        guard = Guard()
        version = str(load("dagster.version:__version__"))
        guard.block_databases()
        texts = request.get("texts") or {}
        for name, function in (("dagster_yaml", check_dagster_yaml), ("workspace", check_workspace)):
            if isinstance(texts.get(name), str):
                attempt(report, "", lambda n=name, f=function: f(report, guard, loaded(texts[n])))  # type: ignore[misc]
    except TooSlow:
        report.add("", f"the check did not finish within {TIME_LIMIT_SECONDS} seconds")
    except (Exception, SystemExit, Blocked) as error:
        report.add("", f"the check itself failed: {text_of(error)}")
    return {"dagster_version": version, "problems": report.problems}


def main() -> None:
    """Read the request, write the answer. Whatever libraries print goes to stderr."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.dont_write_bytecode = True

    def too_slow(*_args: Any) -> NoReturn:
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIME_LIMIT_SECONDS)
    result = check(json.load(sys.stdin))
    signal.alarm(0)
    json.dump(result, answer)
    answer.close()


def program() -> str:
    """The text of this file. Modules travel as an archive, so it comes from the import system, not from a path."""
    source = __loader__.get_source(__name__)  # type: ignore[name-defined]
    # Ansible's own loader on the controller gives bytes, that of the archive on the host gives text.
    return source.decode("utf-8") if isinstance(source, bytes) else str(source)


if __name__ == "__main__":
    main()
