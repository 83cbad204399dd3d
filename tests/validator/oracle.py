"""What real Dagster says of a dagster.yaml or workspace.yaml: the yardstick of the validator.

Runs under the Python of an environment made from oracle-1.X.lock. It goes the way a Dagster process goes: the file is
loaded, the instance reference built, each class imported, checked, configured and constructed; what a process does
later (launcher, coordinator, compute logs) is done at once. Nothing may act on the world, so the verdict ends where a
constructor connects, writes or looks for credentials: what comes after depends on the machine, not on the file.

As a program it answers one JSON line per line: {"kind": "dagster" | "workspace", "text": "..."} or, for bytes that are
not text, "base64"; answer {"accepted": bool, "reason": "..."}.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from plugins.module_utils._dagster.no_effects import Blocked, Guard  # noqa: E402
from plugins.module_utils._dagster.problems import load, text_of  # noqa: E402

# The value of a variable that a file takes from the environment, by the key that takes it.
ENVIRONMENT = {
    "postgres_url": "postgresql+psycopg2://u:p@h:5432/d",
    "mysql_url": "mysql+mysqlconnector://u:p@h:3306/d",
    "scheme": "postgresql+psycopg2",
    "endpoint_url": "http://localhost:9000",
    "endpoint_suffix": "core.windows.net",
    "region": "eu-central-1",
    "broker": "redis://h:6379/0",
    "backend": "redis://h:6379/1",
}

LAZY = {
    "compute_logs": "compute_log_manager",
    "run_coordinator": "run_coordinator",
    "run_launcher": "run_launcher",
    "defs_state_storage": "defs_state_storage",
    "local_artifact_storage": "local_artifact_storage",
    "scheduler": "scheduler",
    "secrets": "secrets_loader",
    "storage": "storage",
    "run_storage": "run_storage",
    "event_log_storage": "event_storage",
    "schedule_storage": "schedule_storage",
    "run_queue": "run_coordinator",
}
# Raised by constructors that looked for something of this machine: a cluster, credentials, a file.
OF_THIS_MACHINE = (
    "ConfigException",
    "DefaultCredentialsError",
    "NoRegionError",
    "NoCredentialsError",
    "JSONDecodeError",
)


class Oracle:
    """Asks the Dagster of this Python."""

    def __init__(self) -> None:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        self.guard = Guard()
        self.guard.block_databases()
        self.folder = tempfile.mkdtemp(prefix="oracle-")
        for name, value in {
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_GCE_CHECK": "true",
        }.items():
            os.environ[name] = value
        self._be_in_a_cluster()
        self._no_credentials()
        self._be_on_aws()

    @staticmethod
    def _be_in_a_cluster() -> None:
        """Configurations of Kubernetes are found, whatever is (not) on this machine."""
        try:
            kubernetes: Any = importlib.import_module("kubernetes")
        except ImportError:
            return
        kubernetes.config.load_incluster_config = lambda *_args, **_kwargs: None
        kubernetes.config.load_kube_config = lambda *_args, **_kwargs: None

    @staticmethod
    def _no_credentials() -> None:
        """Google's credentials are of this machine: building a client gets no further than looking for them."""
        try:
            auth: Any = importlib.import_module("google.auth")
        except ImportError:
            return

        def default(*_args: Any, **_kwargs: Any) -> Any:
            raise Blocked("credentials")

        auth.default = default
        auth._default.default = default

    @staticmethod
    def _be_on_aws() -> None:
        """ECS knows each task definition, with every container, and each secret."""
        try:
            client: Any = importlib.import_module("botocore.client")
            launcher: Any = importlib.import_module("dagster_aws.ecs.launcher")
        except ImportError:
            return

        class Anything(str):
            __slots__ = ()
            __hash__ = str.__hash__

            def __eq__(self, other: object) -> bool:
                return True

        def call(_client: Any, operation: str, _parameters: Any) -> Any:
            if operation == "DescribeTaskDefinition":
                return {"taskDefinition": {"containerDefinitions": [{"name": Anything()}], "taskDefinitionArn": "arn"}}
            raise Blocked(operation)

        client.BaseClient._make_api_call = call
        launcher.get_secrets_from_arns = lambda *_args: {}

    def verdict(self, kind: str, content: bytes) -> tuple[bool, str]:
        """Whether Dagster takes the file, and if not, why."""
        path = os.path.join(self.folder, "dagster.yaml" if kind == "dagster" else "workspace.yaml")
        with open(path, "wb") as file:
            file.write(content)
        environment = dict(os.environ)
        try:
            config = self._call(load("dagster_shared.yaml_utils:load_yaml_from_path"), path)
            # A variable may be called whatever the system allows; others can never be set.
            os.environ.update(variables(config))
            if kind == "dagster":
                self._instance(config or {})
            else:
                self._call(load("dagster._core.workspace.load:location_origins_from_yaml_paths"), [path])
        except Refused as refused:
            return False, str(refused)
        finally:
            os.environ.clear()
            os.environ.update(environment)
        return True, ""

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return self.guard.call(function, *args)
        except Blocked:  # type: ignore[misc,unused-ignore]
            return None
        except (Exception, SystemExit, RecursionError) as error:
            if type(error).__name__ in OF_THIS_MACHINE or isinstance(error, (FileNotFoundError, PermissionError)):
                return None
            raise Refused(f"{type(error).__name__}: {text_of(error)}") from error

    def _instance(self, config: Any) -> None:
        # Importing may do what building may not: packages ask for their versions, and write caches.
        for name in modules_of(config):
            with suppress(Exception, SystemExit):
                importlib.import_module(re.sub(r"^dagster\.([^_])", r"dagster._\1", name))
        ref = self._call(load("dagster._core.instance.ref:InstanceRef").from_dir, self.folder)
        if ref.custom_instance_class is not None:
            base = load("dagster._core.instance:DagsterInstance")
            if not (isinstance(ref.custom_instance_class, type) and issubclass(ref.custom_instance_class, base)):
                raise Refused("instance_class is no DagsterInstance")
        built = {}
        for section, attribute in LAZY.items():
            if section in config:
                built[section] = self._call(getattr, ref, attribute)
        self._monitoring(ref)
        coordinator = built.get("run_coordinator") or built.get("run_queue")
        queue = getattr(coordinator, "get_run_queue_config", lambda: None)
        concurrency = load("dagster._core.instance.config:ConcurrencyConfig").from_concurrency_settings
        self._call(lambda: concurrency(ref.settings.get("concurrency") or {}, queue()))
        self._daemons(ref.settings, coordinator)

    def _daemons(self, settings: dict[str, Any], coordinator: Any) -> None:
        """The pools of threads that the daemon makes, by its own code, and the day from which ticks are kept."""
        daemon = importlib.import_module("dagster._daemon.daemon")
        assets = load("dagster._daemon.asset_daemon:AssetDaemon")
        of = {name: settings.get(name) or {} for name in ("sensors", "schedules", "backfills", "auto_materialize")}
        for make, name in ((daemon.SensorDaemon, "sensors"), (daemon.BackfillDaemon, "backfills")):
            self._call(lambda make=make, name=name: make(of[name]).__exit__(None, None, None))
        instance = SimpleNamespace(
            get_scheduler_settings=lambda: of["schedules"],
            schedule_storage=SimpleNamespace(supports_auto_materialize_asset_evaluations=True),
        )
        context = SimpleNamespace(instance=instance)
        schedules = load("dagster._scheduler.scheduler:execute_scheduler_iteration_loop")
        loops = [schedules(context, logging.getLogger("oracle"), 5, 0, threading.Event())]
        if of["auto_materialize"].get("enabled", True) or of["auto_materialize"].get("use_sensors", True):
            loops.append(assets(of["auto_materialize"], 30).core_loop(context, threading.Event()))
        for loop in loops:
            self._call(next, loop)
            loop.close()
        if getattr(coordinator, "dequeue_use_threads", False):
            queue = load("dagster._daemon.run_coordinator.queued_run_coordinator_daemon:QueuedRunCoordinatorDaemon")
            self._call(lambda: queue(5)._get_executor(coordinator.dequeue_num_workers).shutdown())
        self._call(self._first_day, settings.get("retention") or {})

    @staticmethod
    def _first_day(retention: dict[str, Any]) -> None:
        config = importlib.import_module("dagster._core.instance.config")
        types = load("dagster._core.definitions.run_request:InstigatorType")
        for kind in (types.SCHEDULE, types.SENSOR, types.AUTO_MATERIALIZE):
            default = config.get_default_tick_retention_settings(kind)
            days = config.get_tick_retention_settings(retention.get(kind.value.lower()), default)
            for day in (day for day in days.values() if day > 0):
                (datetime.now(UTC) - timedelta(days=day)).timestamp()

    def _monitoring(self, ref: Any) -> None:
        settings = ref.settings.get("run_monitoring") or {}
        if settings.get("enabled", False) and settings.get("max_resume_run_attempts", 0):
            module, name = ref.run_launcher_data.module_name, ref.run_launcher_data.class_name
            launcher = self._call(getattr, ref, "run_launcher")
            klass = getattr(importlib.import_module(module), name)
            able = klass.supports_resume_run.fget(launcher)
            if not able:
                raise Refused(f"run_monitoring: {name} cannot resume runs")


class Refused(Exception):
    """Real Dagster does not take the file."""


def modules_of(value: Any, depth: int = 0) -> Iterator[str]:
    """The modules that the sections of a configuration name."""
    if isinstance(value, dict) and depth < 3:
        if isinstance(value.get("module"), str):
            yield value["module"]
        for item in value.values():
            yield from modules_of(item, depth + 1)


def variables(config: Any) -> dict[str, str]:
    """A value for every variable that a configuration takes and a process can have."""
    found: dict[str, str] = {}
    for name, value in taken(config):
        # One that several keys take has the value of the most particular of them.
        if name and not set(name) & set("=\0") and not (name in found and value.isdecimal()):
            found[name] = value
    return found


def taken(value: Any, key: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, str]]:
    """(name, value) of the variables that a configuration takes, with a value that fits the key."""
    if not isinstance(value, (dict, list)) or id(value) in seen:
        return
    seen |= {id(value)}
    if isinstance(value, dict):
        name = value.get("env")
        if set(value) == {"env"} and isinstance(name, str):
            # A number fits text, numbers and booleans; one of its own, because names of locations have to differ.
            yield name, ENVIRONMENT.get(key) or str(1 + zlib.crc32(name.encode()) % 60000)
        for inner, item in value.items():
            yield from taken(item, str(inner), seen)
    else:
        for item in value:
            yield from taken(item, key, seen)


@contextmanager
def quiet() -> Iterator[Any]:
    """Keep stdout for answers; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    yield answers
    answers.close()


def content_of(request: Mapping[str, str]) -> bytes:
    return (
        base64.b64decode(request["base64"]) if "base64" in request else request["text"].encode("utf-8", "surrogatepass")
    )


def main() -> None:
    """Answer until the input ends."""
    with quiet() as answers:
        oracle = Oracle()
        for line in sys.stdin:
            request = json.loads(line)
            accepted, reason = oracle.verdict(request["kind"], content_of(request))
            answers.write(json.dumps({"accepted": accepted, "reason": reason[:300]}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
