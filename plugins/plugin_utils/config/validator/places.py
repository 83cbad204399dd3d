# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables and files that dagster.yaml names, in each place where it is read: a run opens the instance, too.

Of a file nobody knows more than what its launcher says. Of a deployment the plan also says what each code location adds
to its runs, and what its code server has, which opens the instance for a run-status sensor.
"""

from __future__ import annotations

import re
from collections import namedtuple

from ....module_utils._secrets import leaves, looks_secret
from . import containers
from .report import listed
from .schema import env_names
from .sections import known_class, named_classes, options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NamedTuple

    from .report import Path
    from .schema import Checker

    class Location(NamedTuple):
        """A code location: variables and volumes of its code server and its runs, and those of its runs alone."""

        name: str
        env: Iterable[str]
        volumes: list[str]
        run: dict[str, Any]  # its container context

    class Place(NamedTuple):
        """Where dagster.yaml is read. None where nobody knows what is there."""

        location: str  # empty for all
        env: set[str] | None
        mounts: list[tuple[str, str, bool]] | None
else:  # typing takes a third of the time that a small file takes
    Location = namedtuple("Location", "name env volumes run")
    Place = namedtuple("Place", "location env mounts")

# What preflight has judged with more knowledge than is in dagster.yaml.
JUDGED_BY_PLAN = ("env_not_in_runs", "env_not_in_code_servers", "folder_not_in_runs", "file_not_in_runs")
KUBERNETES = ("K8sRunLauncher", "CeleryK8sRunLauncher")
# The launchers that a code location tells more of its runs.
OF_LOCATIONS = ("DockerRunLauncher", "K8sRunLauncher")
# What is built with the instance, before any code begins.
OPENED_WITH_THE_INSTANCE = (
    *("storage", "run_storage", "event_log_storage", "schedule_storage"),
    *("local_artifact_storage", "scheduler", "secrets", "defs_state_storage"),
)
OPENED_BY_RUNS = (*OPENED_WITH_THE_INSTANCE, "compute_logs")
# What each container has by itself.
OF_A_CONTAINER = ("DAGSTER_RUN_JOB_NAME", "HOME", "HOSTNAME", "PATH")
LOCAL_FILES = ("LocalComputeLogManager", "LocalArtifactStorage")
# Text that begins like a path and is none, or that the container may have as its own.
NO_FILES = frozenset(("prefix", "local_dir", "base_dir", "db_name", "container", "bucket"))
# What every image of a Debian with certificates has.
OF_IMAGES = ("/etc/ssl/certs/ca-certificates.crt", "/dev/")
LOST = "files in each run's own container, which go with it"


def monitored(config: dict[Any, Any]) -> bool:
    """Whether run monitoring is on."""
    monitoring = config.get("run_monitoring")
    return isinstance(monitoring, dict) and monitoring.get("enabled") is True


def resumed(config: dict[Any, Any]) -> int:
    """How often run monitoring resumes a run."""
    attempts = config["run_monitoring"].get("max_resume_run_attempts") if monitored(config) else 0
    return attempts if isinstance(attempts, int) and not isinstance(attempts, bool) else 0


def check(checker: Checker, config: dict[Any, Any]) -> None:
    """Report variables, folders and files that one of the places lacks."""
    runs, servers = list(_runs(checker, config)), list(_code_servers(checker))
    _variables(checker, config, runs, servers)
    _folders(checker, config, runs)
    _files(checker, config, runs, servers)


def _runs(checker: Checker, config: dict[Any, Any]) -> Iterator[Place]:
    """What runs have: of each location, where it adds something."""
    launcher, options = options_of(config, "run_launcher")
    env, mounts = _given(launcher, options), _mounts(launcher, options)
    locations = checker.locations or []
    if launcher == "DefaultRunLauncher":  # its runs are processes of the code server
        yield from _code_servers(checker)
    elif launcher not in OF_LOCATIONS or not locations:
        yield Place("", env, mounts)
    for location in locations if launcher in OF_LOCATIONS else ():
        own = _given(launcher, location.run)
        more = _mounts(launcher, location.run)
        # A pod has no volume of the code server's host.
        of_the_host = containers.volumes(location.volumes) if launcher == "DockerRunLauncher" else []
        both = None if mounts is None or more is None else [*mounts, *of_the_host, *more]
        names = None if env is None or own is None else {*env, *location.env, *own}
        yield Place(location.name, names, both)


def _code_servers(checker: Checker) -> Iterator[Place]:
    for location in checker.locations or ():
        yield Place(location.name, {*location.env, *OF_A_CONTAINER}, list(containers.volumes(location.volumes)))


def _given(launcher: str, options: dict[str, Any]) -> set[str] | None:
    """The variables that the launcher gives to each run; None if they are not in this file."""
    names = options.get("env_vars")
    given = {name.partition("=")[0] for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    if launcher == "DockerRunLauncher":
        return given.union(OF_A_CONTAINER)
    if launcher not in KUBERNETES or any(options.get(key) for key in ("env_config_maps", "env_secrets", "env")):
        return None
    if options.get("run_k8s_config"):
        return None
    secret = {"DAGSTER_PG_PASSWORD"} if options.get("postgres_password_secret") else set()
    return given.union(OF_A_CONTAINER, secret, {"DAGSTER_HOME"})


def _mounts(launcher: str, options: dict[str, Any]) -> list[tuple[str, str, bool]] | None:
    """(source, path in the container, read-only) of all that each run mounts; None if this is not in the file."""
    if launcher == "DockerRunLauncher":
        kwargs = options.get("container_kwargs")
        if not isinstance(kwargs, dict):
            return []
        if kwargs.get("volumes_from"):
            return None
        return [*containers.volumes(kwargs.get("volumes")), *containers.mounts(kwargs.get("mounts"))]
    if launcher in KUBERNETES:
        pods = options.get("run_k8s_config")
        container = pods.get("container_config") if isinstance(pods, dict) else None
        extra = container if isinstance(container, dict) else {}
        found = (options.get("volume_mounts"), extra.get("volume_mounts"), extra.get("volumeMounts"))
        return [mount for each in found for mount in containers.mounts(each)]
    return None


def _who(lacking: list[Place], of: list[Place], what: str) -> str:
    """Which of the places lack something."""
    if len(lacking) == len(of):
        return what
    return f"{what} of {listed(place.location for place in lacking)}"


# --- variables ---


def _variables(checker: Checker, config: dict[Any, Any], runs: list[Place], servers: list[Place]) -> None:
    """Each place looks up {env: NAME} in its own environment, not in that of the services."""
    for section in named_classes(config):
        opened = section.name in OPENED_BY_RUNS or (section.name == "run_launcher" and resumed(config) > 0)
        kind = known_class(checker, section).get("config") if opened else None
        if kind is None:
            continue
        named = list(env_names(checker, kind, section.config, section.config_path))
        if section.class_name == "GCSComputeLogManager" and isinstance(section.config, dict):
            name = section.config.get("json_credentials_envvar")
            named += [((*section.config_path, "json_credentials_envvar"), name)] if isinstance(name, str) else []
        for path, name in named:
            if checker.env is not None and name not in checker.env:
                continue  # not even the services have it, which is an error
            opens = f"no environment variable {name}, and each of them opens {section.path[0]}"
            if lacking := [place for place in runs if place.env is not None and name not in place.env]:
                message = f"{_who(lacking, runs, 'runs')} have {opens}"
                checker.report.harm("env_not_in_runs", path, message, _given_by(checker, name))
            elif section.name in OPENED_WITH_THE_INSTANCE and (
                lacking := [place for place in servers if place.env is not None and name not in place.env]
            ):
                message = f"{_who(lacking, servers, 'code servers')} have {opens} for a run-status sensor"
                checker.report.harm("env_not_in_code_servers", path, message, _given_by(checker, name))


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


# --- folders and files ---


def _folders(checker: Checker, config: dict[Any, Any], runs: list[Place]) -> None:
    """Files that a run writes into its own container go with it, and no webserver sees them."""
    launcher = options_of(config, "run_launcher")[0]
    known = [place for place in runs if place.mounts is not None]
    if not known:
        return
    if "compute_logs" not in config and not any(place.mounts for place in known):
        message = f"compute_logs is missing: logs are {LOST}, and no webserver sees them"
        hint = "write compute_logs with a bucket (S3ComputeLogManager, ...), or mount a folder into runs and name it"
        checker.report.harm("folder_not_in_runs", ("run_launcher",), message, hint)
    _folder(checker, config, "compute_logs", known, f"logs are {LOST}, and no webserver sees them")
    if launcher in ("DockerRunLauncher", "DefaultRunLauncher"):
        what = f"outputs of steps are {LOST}, and no other run sees them"
        _folder(checker, config, "local_artifact_storage", known, what)


def _value(checker: Checker, value: Any) -> Any:
    """A value, or that of the variable which it names, where the plan knows it."""
    if isinstance(value, dict) and set(value) == {"env"} and isinstance(checker.env, dict):
        return checker.env.get(value["env"])
    return value


def _folder(checker: Checker, config: dict[Any, Any], section: str, runs: list[Place], what: str) -> None:
    name, options = options_of(config, section)
    folder = _value(checker, options.get("base_dir"))
    if name not in LOCAL_FILES or not isinstance(folder, str) or not folder.startswith("/"):
        return
    path, shown = (section, "config", "base_dir"), folder[:60]
    sources = [_source(folder, place.mounts or [], write=True) for place in runs]
    lacking = [place for place, source in zip(runs, sources) if source is None]  # noqa: B905
    moved = next((source for source in sources if source not in (None, "", folder.rstrip("/"))), None)
    if lacking:
        message = f"found {shown}, which no volume mounts into {_who(lacking, runs, 'runs')}: {what}"
        checker.report.harm("folder_not_in_runs", path, message, _mounted_by(config, shown))
    elif checker.report.deployed and moved is not None:
        message = f"found {shown}, which runs have from {moved[:60]}; services read {shown} itself"
        checker.report.harm("folder_not_in_runs", path, message, "mount it at the path that it has on the host")


def _mounted_by(config: dict[Any, Any], folder: str) -> str:
    launcher = options_of(config, "run_launcher")[0]
    if launcher in KUBERNETES:
        return "use a bucket, or mount it: run_launcher.config.volumes and volume_mounts"
    if launcher == "DefaultRunLauncher":
        return f"mount it: volumes: ['{folder}:{folder}'] in each of dagster_code_locations"
    return f"mount it: run_launcher.config.container_kwargs.volumes: ['{folder}:{folder}']"


def _files(checker: Checker, config: dict[Any, Any], runs: list[Place], servers: list[Place]) -> None:
    """Certificates, option files and the like, which each place reads for itself."""
    for section in named_classes(config):
        if section.name not in OPENED_BY_RUNS:
            continue
        places = [*runs, *(servers if section.name in OPENED_WITH_THE_INSTANCE else [])]
        known = [place for place in places if place.mounts is not None]
        for path, value in leaves(section.config, section.config_path):
            keys = [part for part in path if isinstance(part, str)]
            for file in _paths_in(_value(checker, {"env": value}) if keys[-1] == "env" else value):
                lacking = [place for place in known if _source(file, place.mounts or [], write=False) is None]
                if lacking and NO_FILES.isdisjoint(keys[-2:] if keys[-1] == "env" else keys[-1:]):
                    _missing_file(checker, path, file, section.path[0])


def _paths_in(value: Any) -> list[str]:
    """The files that a text names: it is one, or a URL with some among its parameters."""
    if not isinstance(value, str):
        return []
    found = [value] if value.startswith("/") else re.findall(r"[?&][A-Za-z_]+=(/[^&]*)", value.replace("%2F", "/"))
    return [file for file in found if not file.startswith(OF_IMAGES)]


def _missing_file(checker: Checker, path: Path, file: str, section: str) -> None:
    shown = file[:60]
    message = f"found {shown}, which no volume mounts into runs and code servers, and each of them opens {section}"
    hint = f"mount it: run_launcher.config.container_kwargs.volumes: ['{shown}:{shown}:ro']"
    if checker.report.deployed:
        allowed = checker.report.allowing("file_not_in_runs")
        hint = (
            f"write volumes: ['{shown}:{shown}:ro'] in each of dagster_code_locations, or {allowed} if every image has "
            "that file"
        )
    checker.report.harm("file_not_in_runs", path, message, hint)


def _source(folder: str, mounts: Iterable[tuple[str, str, bool]], *, write: bool) -> str | None:
    """Where a path of a container is outside; empty if nobody knows, None if it is inside, or cannot be written."""
    folder = folder.rstrip("/")
    for source, target, read_only in sorted(mounts, key=lambda mount: -len(mount[1])):
        inside = target.rstrip("/")
        if folder == inside or folder.startswith(f"{inside}/"):
            return None if read_only and write else source and source.rstrip("/") + folder[len(inside) :]
    return None
