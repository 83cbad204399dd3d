# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What only a run meets: services look healthy while its container lacks a variable or a folder, or cannot start."""

from __future__ import annotations

from ....module_utils._secrets import looks_secret
from ....module_utils._words import did_you_mean
from .constructors import CONTAINER_KWARGS_OWNED
from .schema import env_names
from .sections import known_class, named_classes, options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from .report import Path
    from .schema import Checker

LAUNCHER: Path = ("run_launcher", "config")
KUBERNETES = ("K8sRunLauncher", "CeleryK8sRunLauncher")
# What a run builds before its code begins.
OPENED_BY_RUNS = (
    *("storage", "run_storage", "event_log_storage", "schedule_storage"),
    *("compute_logs", "local_artifact_storage", "secrets"),
)
# What each container has by itself.
OF_A_CONTAINER = ("DAGSTER_RUN_JOB_NAME", "HOME", "HOSTNAME", "PATH")
# What the command line of Docker and its Compose files call otherwise.
KWARGS = {
    "memory": "did you mean mem_limit?",
    "mem": "did you mean mem_limit?",
    "cpus": "did you mean nano_cpus (a billion is one)?",
    "env": "use env_vars of the launcher",
    "restart": "did you mean restart_policy?",
    "gpus": "did you mean device_requests?",
}
LOCAL_FILES = ("LocalComputeLogManager", "LocalArtifactStorage")
# Stores of results that only the process that sent a task can ask, or nobody.
NO_RESULTS = ("rpc", "amqp", "cache+memory", "disabled")


def check(checker: Checker, config: dict[Any, Any]) -> None:
    """Report what services do not notice and runs fail with."""
    for part in (_copied_variables, _docker, _root, _storage, _variables, _folders, _resume, _celery):
        part(checker, config)


def monitored(config: dict[Any, Any]) -> bool:
    """Whether run monitoring is on."""
    monitoring = config.get("run_monitoring")
    return isinstance(monitoring, dict) and monitoring.get("enabled") is True


def resumed(config: dict[Any, Any]) -> int:
    """How often run monitoring resumes a run."""
    attempts = config["run_monitoring"].get("max_resume_run_attempts") if monitored(config) else 0
    return attempts if isinstance(attempts, int) and not isinstance(attempts, bool) else 0


# --- arguments of the container ---


def _docker(checker: Checker, config: dict[Any, Any]) -> None:
    name, options = options_of(config, "run_launcher")
    if name != "DockerRunLauncher":
        return
    report = checker.report
    kwargs = options.get("container_kwargs")
    known = set(checker.catalogue.data["container_kwargs"]) | {"stop_timeout"}
    for key in kwargs if isinstance(kwargs, dict) else ():
        if key not in known and key not in CONTAINER_KWARGS_OWNED:
            message = f"found {key}, which the Docker SDK does not take: the first run fails to start"
            hint = KWARGS.get(key) or did_you_mean(key, known) or "see the parameters of docker.containers.create"
            report.refuse("unknown_container_kwarg", (*LAUNCHER, "container_kwargs", key), message, hint)
    if isinstance(kwargs, dict) and kwargs.get("auto_remove") is True:
        message = "found true: with its container the exit state of a run is gone, and why it died cannot be known"
        hint = "leave it out, and remove containers of ended runs later: docker container prune --filter until=72h"
        report.warn("auto_remove", (*LAUNCHER, "container_kwargs", "auto_remove"), message, hint)
    if not monitored(config):
        where = ("run_monitoring", "enabled") if isinstance(config.get("run_monitoring"), dict) else ("run_launcher",)
        message = "run monitoring is off: a run whose container dies stays STARTED for ever"
        report.warn("run_monitoring_off", where, message, "write run_monitoring: {enabled: true}")


def _root(checker: Checker, config: dict[Any, Any]) -> None:
    """What makes each run root on its host."""
    name, options = options_of(config, "run_launcher")
    kwargs = options.get("container_kwargs") if name == "DockerRunLauncher" else None
    if not isinstance(kwargs, dict):
        return
    report, at = checker.report, (*LAUNCHER, "container_kwargs")
    volumes = kwargs.get("volumes")
    mounts = volumes.items() if isinstance(volumes, dict) else enumerate(volumes) if isinstance(volumes, list) else ()
    for key, volume in mounts:
        if "docker.sock" in f"{key} {volume}":
            message = "found the Docker socket mounted into every run, which makes each run root on the host"
            hint = (
                "leave it out unless a job has docker_executor or starts containers itself: for starting runs only the "
                "services need it"
            )
            report.warn("docker_socket", (*at, "volumes", key), message, hint)
        elif (key if isinstance(volumes, dict) else str(volume).partition(":")[0]) == "/":
            message = "found the host's whole disk mounted into every run, which makes each run root on the host"
            report.warn("host_root", (*at, "volumes", key), message, "mount the folders that runs need")
    if kwargs.get("privileged") is True:
        message = "found true, which makes each run root on the host"
        report.warn("privileged", (*at, "privileged"), message, "name what is needed with cap_add or devices")


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


def _copied_variables(checker: Checker, config: dict[Any, Any]) -> None:
    """Names without a value are copied from the launching process, and missed only when a run starts."""
    names = options_of(config, "run_launcher")[1].get("env_vars")
    if checker.env is None or not isinstance(names, list):
        return
    for index, name in enumerate(names):
        if isinstance(name, str) and "=" not in name and name not in checker.env:
            hint = (
                did_you_mean(name, checker.env) or f"write {name}=<value>, or add it to the environment of the services"
            )
            message = f"found {name[:60]}, which the services do not have in their environment"
            checker.report.refuse("missing_env_var", (*LAUNCHER, "env_vars", index), message, hint)


def _variables(checker: Checker, config: dict[Any, Any]) -> None:
    """A run looks up {env: NAME} in its own environment, not in that of the services."""
    given = _given(config)
    if given is None:
        return
    for section in named_classes(config):
        if section.name not in OPENED_BY_RUNS and not (section.name == "run_launcher" and resumed(config)):
            continue
        kind = known_class(checker, section).get("config")
        if kind is None:
            continue
        named = list(env_names(checker, kind, section.config, section.config_path))
        if section.class_name == "GCSComputeLogManager" and isinstance(section.config, dict):
            name = section.config.get("json_credentials_envvar")
            named += [((*section.config_path, "json_credentials_envvar"), name)] if isinstance(name, str) else []
        for path, name in named:
            if name not in given:
                message = f"runs have no environment variable {name}, and each of them opens {section.path[0]}"
                checker.report.harm("env_not_in_runs", path, message, _given_by(checker, name))


def _given_by(checker: Checker, name: str) -> str:
    """What gives a variable to runs."""
    if not checker.report.deployed:
        return f"add {name} to run_launcher.config.env_vars, unless the image of each code location sets it"
    if not looks_secret(name):
        return f"write {name} into dagster_environment, which services, code servers and runs all have"
    return (
        "dagster_secret_environment is for the services alone: let runs read a file instead, or have the image of each "
        f"code location set {name} and write {checker.report.allowing('env_not_in_runs')}"
    )


def _given(config: dict[Any, Any]) -> set[str] | None:
    """The variables that the launcher gives to each run; None if they are not in this file."""
    launcher, options = options_of(config, "run_launcher")
    names = options.get("env_vars")
    given = {name.partition("=")[0] for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    if launcher == "DockerRunLauncher":
        return given.union(OF_A_CONTAINER)
    if launcher not in KUBERNETES or any(options.get(key) for key in ("env_config_maps", "env_secrets")):
        return None
    if options.get("run_k8s_config"):
        return None
    secret = {"DAGSTER_PG_PASSWORD"} if options.get("postgres_password_secret") else set()
    return given.union(OF_A_CONTAINER, secret, {"DAGSTER_HOME"})


def _folders(checker: Checker, config: dict[Any, Any]) -> None:
    """Files that a run writes into its own container go with it, and no webserver sees them."""
    launcher = options_of(config, "run_launcher")[0]
    mounts = _mounts(config)
    if mounts is None:
        return
    lost = "files in each run's own container, which go with it"
    if "compute_logs" not in config and not mounts:
        message = f"compute_logs is missing: logs are {lost}, and no webserver sees them"
        hint = "write compute_logs with a bucket (S3ComputeLogManager, ...), or mount a folder into runs and name it"
        checker.report.harm("folder_not_in_runs", ("run_launcher",), message, hint)
    _folder(checker, config, "compute_logs", mounts, f"logs are {lost}, and no webserver sees them")
    if launcher == "DockerRunLauncher":
        what = f"outputs of steps are {lost}, and no other run sees them"
        _folder(checker, config, "local_artifact_storage", mounts, what)


def _folder(checker: Checker, config: dict[Any, Any], section: str, mounts: list[tuple[str, str]], what: str) -> None:
    name, options = options_of(config, section)
    folder = options.get("base_dir")
    if name not in LOCAL_FILES or not isinstance(folder, str) or not folder.startswith("/"):
        return
    path = (section, "config", "base_dir")
    source = _source(folder, mounts)
    if source is None:
        message = f"found {folder[:60]}, which no volume mounts into runs: {what}"
        hint = f"mount it: run_launcher.config.container_kwargs.volumes: ['{folder[:60]}:{folder[:60]}']"
        if options_of(config, "run_launcher")[0] in KUBERNETES:
            hint = "use a bucket, or mount it: run_launcher.config.volumes and volume_mounts"
        checker.report.harm("folder_not_in_runs", path, message, hint)
    elif checker.report.deployed and source not in ("", folder):
        message = f"found {folder[:60]}, which runs have from {source[:60]}; services read {folder[:60]} itself"
        checker.report.harm("folder_not_in_runs", path, message, "mount it at the path that it has on the host")


def _mounts(config: dict[Any, Any]) -> list[tuple[str, str]] | None:
    """(source, path in the container) of all that each run may write to; None if this is not in the file."""
    launcher, options = options_of(config, "run_launcher")
    if launcher == "DockerRunLauncher":
        kwargs = options.get("container_kwargs")
        if not isinstance(kwargs, dict):
            return []
        if kwargs.get("volumes_from"):
            return None
        return [*_volumes(kwargs.get("volumes")), *_listed(kwargs.get("mounts"))]
    if launcher in KUBERNETES:
        pods = options.get("run_k8s_config")
        container = pods.get("container_config") if isinstance(pods, dict) else None
        extra = container if isinstance(container, dict) else {}
        places = (options.get("volume_mounts"), extra.get("volume_mounts"), extra.get("volumeMounts"))
        return [mount for place in places for mount in _listed(place)]
    return None


def _volumes(volumes: Any) -> Iterator[tuple[str, str]]:
    """Docker's short form: SOURCE:TARGET:MODE in a list, or by source. A target alone goes with its container."""
    if isinstance(volumes, dict):
        for source, target in volumes.items():
            if isinstance(target, dict):
                target = f"{target.get('bind')}:{target.get('mode', 'rw')}"
            yield from _volumes([f"{source}:{target}"])
    for volume in volumes if isinstance(volumes, list) else ():
        source, *rest = volume.split(":") if isinstance(volume, str) else ("",)
        if rest and "ro" not in rest[-1].split(","):
            yield source, rest[0]


def _listed(mounts: Any) -> Iterator[tuple[str, str]]:
    """The long form of Docker, and that of Kubernetes, whose sources stand elsewhere."""
    for mount in mounts if isinstance(mounts, list) else ():
        if isinstance(mount, dict) and not any(mount.get(key) for key in ("ReadOnly", "read_only", "readOnly")):
            target = next((mount[key] for key in ("Target", "target", "mount_path", "mountPath") if key in mount), "")
            source = mount.get("Source", mount.get("source", ""))
            if isinstance(target, str) and target:
                yield source if isinstance(source, str) else "", target


def _source(folder: str, mounts: Iterable[tuple[str, str]]) -> str | None:
    """Where a folder of a container is outside; empty if nobody knows, None if it is inside."""
    for source, target in sorted(mounts, key=lambda mount: -len(mount[1])):
        inside = target.rstrip("/")
        if folder == inside or folder.startswith(f"{inside}/"):
            return source and source.rstrip("/") + folder[len(inside) :]
    return None


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
