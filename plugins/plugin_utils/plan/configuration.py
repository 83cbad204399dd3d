# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""dagster.yaml of the services: our part, the user's dagster_config in it, and what can be wrong with both together."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker import rights
from ansible_collections.dataops.dagster.plugins.module_utils._docker.forms import text
from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import JOURNAL_LABELS, RUN_LABEL
from ansible_collections.dataops.dagster.plugins.module_utils._secrets import redacted
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.merge import deep_merge
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.refusal import sentence
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import validate_data
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.harm import DEFAULT_CONCURRENT_RUNS
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.places import Location
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import (
    compute_logs,
    docker,
    environment,
    kubernetes,
    launchers,
    pasted,
    step_containers,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.instance import versions
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import run_start_timeout
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.run_containers import LAUNCHER, RunContainers, said
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS, PODS

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

# What Dagster takes where dagster.yaml says nothing: threads of an executor.
DEFAULT_WORKERS = 8
# Ours is among the networks; that the user names one there is said in a sentence of its own.
NO_NETWORK = {"run_launcher": {"config": {"network": None}}}

# Sections of ours that may not go, and what would be lost.
KEPT = {"compute_logs": "compute logs", "local_artifact_storage": "outputs of steps"}
# What the validator only warns of, because a file for tests may have it. A deployment would never work with it.
HOPELESS = ("idle_limit", "log_level", "negative_time", "no_pause", "no_runs", "relative_path")


class Configuration:
    """The dagster.yaml of a host's webservers and daemon."""

    def __init__(self, host: Host, plan: Plan) -> None:
        self.host = host
        self.plan = plan
        self.values = host.values
        self.given: Mapping[str, Any] = self.values["dagster_config"]

    @property
    def logs(self) -> compute_logs.ComputeLogs:
        """Where compute logs go."""
        return compute_logs.of(self.values)

    @property
    def old_logs(self) -> str:
        """What removes compute logs by their age, on each host that has some: of runs, or fetched from a store."""
        folder, days = self.values["dagster_state_dir"], self.values["dagster_compute_log_retention_days"]
        return f"# Managed by dataops.dagster. Old compute logs go by age.\ne {folder}/compute_logs - - - {days}d"

    @property
    def stored_logs(self) -> dict[str, Any]:
        """The section of a store, without what looks like a secret; empty where logs are in none."""
        found: dict[str, Any] = redacted(self.merged.get("compute_logs") or {}) if self.logs.stored else {}
        return found

    @property
    def run_environment(self) -> dict[str, Any]:
        """The environment of runs."""
        storage = self.plan.storage
        return {
            # A pod has no file of ours but the ConfigMap, which holds no login.
            **({} if storage.cluster else self.logs.container_environment),
            **self.values["dagster_environment"],
            **self.plan.exceptions("dagster_environment"),
            **storage.environment(storage.runs),
            **({kubernetes.VARIABLE: f"{CONTAINERS}/{kubernetes.OF_A_POD}"} if storage.cluster else {}),
        }

    @property
    def ours(self) -> dict[str, Any]:
        """Our part of dagster.yaml.

        Services and run containers reach the database at different addresses under different logins, so both stand in
        the environment; the password stands in neither, a client reads it from a file that a unit brings along.
        """
        values = self.values
        state = str(values["dagster_state_dir"])
        return {
            "storage": self.plan.storage.config(),
            "run_launcher": self.plan.cluster.section() if self.plan.cluster else self.docker,
            "compute_logs": self.logs.ours
            or {
                "module": "dagster._core.storage.local_compute_log_manager",
                "class": "LocalComputeLogManager",
                "config": {"base_dir": f"{state}/compute_logs"},
            },
            "local_artifact_storage": {
                "module": "dagster._core.storage.root",
                "class": "LocalArtifactStorage",
                "config": {"base_dir": state},
            },
            "run_monitoring": {
                "enabled": True,
                "start_timeout_seconds": run_start_timeout(self.values),
                "cancel_timeout_seconds": 180,
                "poll_interval_seconds": 60,
            },
            "retention": {
                "schedule": {"purge_after_days": 90},
                "sensor": {"purge_after_days": {"skipped": 7, "failure": 30, "success": 90}},
            },
            "telemetry": {"enabled": False},
        }

    @property
    def docker(self) -> dict[str, Any]:
        """Our part of run_launcher where runs are containers of an engine."""
        return {
            "module": "dagster_docker",
            "class": "DockerRunLauncher",
            "config": {
                "networks": [str(self.values["dagster_docker_network"])],
                "env_vars": [
                    step_containers.NO_ENGINE,
                    *(f"{name}={text(value)}" for name, value in sorted_by_name(self.run_environment)),
                ],
                "container_kwargs": {
                    "volumes": self.run_volumes,
                    # As process 1 of its container a run would ignore a termination that comes before it has set its
                    # handlers.
                    "init": True,
                    "stop_timeout": 30,
                    **rights.kwargs(),
                    # A list: the launcher writes each run's ID into a dictionary, and its threads would share that.
                    "labels": [RUN_LABEL],
                    **self.log_config,
                },
            },
        }

    @property
    def run_volumes(self) -> list[str]:
        """What each container of a run mounts."""
        state = str(self.values["dagster_state_dir"])
        return [f"{state}:{state}", f"{self.values['dagster_home']}/containers:/run/dagster:ro"]

    @property
    def log_config(self) -> dict[str, Any]:
        """Where runs log to, as the launcher passes it on; nothing where the inventory says another driver."""
        given = at(self.given, (*LAUNCHER, context.KWARGS))
        run = self.plan.inventory.group("dagster_run")
        driver = docker.log_driver(self.plan.inventory.hosts[run[0]] if run else self.host)
        if not driver or (isinstance(given, Mapping) and "log_config" in given):
            return {}
        return {"log_config": {"type": driver, "config": {"labels": JOURNAL_LABELS}}}

    @functools.cached_property
    def merged(self) -> dict[str, Any]:
        """The dagster.yaml of the services."""
        found: dict[str, Any] = deep_merge(self.ours, self.given)
        return found

    @property
    def log_folder(self) -> str:
        """Where a webserver keeps compute logs: a folder below the state, the whole of it where that is not known."""
        state = str(self.values["dagster_state_dir"])
        config = at(self.merged, ("compute_logs", "config")) or {}
        found = config.get("base_dir") or config.get("local_dir") or state
        if isinstance(found, Mapping):
            found = self.values["dagster_environment"].get(str(found.get("env"))) or state
        return str(found) if str(found).startswith(f"{state}/") else state

    @property
    def queued(self) -> bool:
        """Whether runs go through the queue, and so through the daemon."""
        return queues(self.merged)

    def concurrent_runs(self) -> int:
        """How many runs the queue lets in at a time, -1 for any number."""
        return concurrent_runs(self.merged)

    def problems(self) -> list[str]:
        """Sentences about what stands in it."""
        # With another storage in it, whatever else would be said is about something that nobody meant.
        return (
            pasted.of_data(self.given)
            or self.plan.storage.config_problems(self.given)
            or [
                *RunContainers(self.plan).of_all_runs(self.given),
                *self.taken_away(),
                *launchers.problems(self.values, logins=self.plan.storage.has_logins(self.merged)),
                *self.refused(),
                *coordinator_problems(self.values, self.merged),
                *compute_log_problems(self.plan.inventory, self.values, self.merged),
                *self.logs.problems(
                    self.values["dagster_environment"],
                    self.values["dagster_secret_environment"],
                    self.given.get("secrets"),
                ),
            ]
        )

    @property
    def every_run(self) -> dict[str, Any]:
        """What the user adds to the container of each run, and a code location adds to in turn; never a secret."""
        given = at(self.given, (*LAUNCHER, context.KWARGS))
        kwargs = given if isinstance(given, Mapping) else {}
        added = {key: kwargs[key] for key in sorted(context.ADDED & kwargs.keys())}
        return {
            "networks": at(self.merged, (*LAUNCHER, "networks")) or [],
            **({context.KWARGS: added} if added else {}),
        }

    @property
    def catalogue_version(self) -> str:
        """The version whose catalogue it is checked with; of one without a lock another problem speaks."""
        version = str(self.values["dagster_version"])
        return version if version in versions() else ""

    def locations(self) -> list[Location]:
        """What each code location adds, for what each place has."""
        values, storage = self.values, self.plan.storage
        env = {*values["dagster_environment"], *storage.variables.values(), *self.logs.secret_variables}
        # Where a pod has a volume, says its launcher; that it has this one is checked there.
        volumes = [*self.run_volumes, *([f"{PODS}:{PODS}:ro"] if self.plan.cluster else [])]
        found = []
        for entry in values["dagster_code_locations"]:
            given, others = context.parts(entry.get("container_context"))
            given = others.get("k8s") or {} if self.plan.cluster else given
            run = dict(given) if isinstance(given, Mapping) else {}
            names = (part for part in (others.get("env_vars"), run.get("env_vars")) if isinstance(part, list))
            run["env_vars"] = [name for part in names for name in part]
            own = [*volumes, *(entry.get("volumes") or [])]
            found.append(Location(str(entry.get("name")), {*env, *(entry.get("env") or {})}, own, run))
        return found

    @property
    def login(self) -> dict[str, Any]:
        """What names the file of a password, as runs have it: each unit of a service names its own."""
        name, known = self.plan.storage.variables["credential"], self.run_environment
        return {name: known[name]} if name in known else {}

    def taken_away(self) -> list[str]:
        """Sentences about a section of ours that is null: then Dagster's own default is in each container alone.

        That happens to a heading below which all lines are comments.
        """
        return [
            f"dagster_config.{section}: found null, which would take away where {kept} go, and they would be lost with "
            "the container of a run; leave it out"
            for section, kept in KEPT.items()
            if section in self.given and self.given[section] is None and self.plan.inventory.group("dagster_run")
        ]

    def refused(self) -> list[str]:
        """Sentences about what Dagster would refuse, what would do harm, and what could never work."""
        values = self.values
        data: dict[str, Any] = deep_merge(self.merged, NO_NETWORK if "run_launcher" in self.merged else {})
        report = validate_data(
            data,
            version=self.catalogue_version,
            env={
                **self.plan.instance.environment,
                **self.login,
                **values["dagster_environment"],
                **dict.fromkeys(
                    [*values["dagster_secret_environment"], *self.logs.secret_variables]
                ),  # shown to nobody
            },
            # A secret of dagster_environment is told by the name that the user wrote.
            allow=[
                *values["dagster_config_allow"],
                *(environment.ALLOW + name for name in values["dagster_environment"]),
            ],
            locations=self.locations(),
        )
        hopeless = [
            f"{finding.path}: {sentence(finding)} (dagster_config_allow: {finding.name})"
            for finding in report.warnings
            if finding.name in HOPELESS and finding.name not in values["dagster_config_allow"]
        ]
        return [f"dagster_config.{self.as_written(problem)}" for problem in [*said(report), *hopeless]]

    def as_written(self, problem: str) -> str:
        """A sentence with the place of an entry in the user's list, before which ours are in the merged one."""
        match = re.match(r"run_launcher\.config\.((?:container_kwargs\.)?\w+)\[(\d+)\]", problem)
        if not match:
            return problem
        merged, given = (at(config, (*LAUNCHER, *match[1].split("."))) for config in (self.merged, self.given))
        entry = merged[int(match[2])]
        if not isinstance(given, list) or entry not in given:
            return problem
        return f"{problem[: match.start(2)]}{given.index(entry)}{problem[match.end(2) :]}"


def at(config: Any, path: Iterable[str]) -> Any:
    """What stands at a path, None where nothing does."""
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def sorted_by_name(variables: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The variables of an environment in the order of their names, capital letters as small ones."""
    return sorted(variables.items(), key=lambda item: item[0].lower())


def compute_log_problems(inventory: Inventory, values: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """A sentence when runs would write their logs where a webserver cannot read them; config is dagster.yaml."""
    manager = config.get("compute_logs") or {}
    local = manager.get("class", "LocalComputeLogManager") == "LocalComputeLogManager"
    run = inventory.group("dagster_run")
    elsewhere = sorted(set(inventory.group("dagster_webserver")) - set(run)) if run else []
    if not local or not elsewhere or values["dagster_compute_logs_shared"]:
        return []
    return [
        f"compute logs are files on {', '.join(run)}, where runs write them, and {', '.join(elsewhere)} "
        "could not show them; set another manager in dagster_config.compute_logs (such as S3ComputeLogManager), or "
        "dagster_compute_logs_shared to true when all of them mount dagster_state_dir from one place"
    ]


def coordinator_problems(values: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """A sentence when webservers would launch runs, which the fence lets only the daemon do; config is dagster.yaml."""
    if values["dagster_daemon_fencing"] != "full" or queues(config):
        return []
    return [
        f"dagster_config.run_coordinator is {config['run_coordinator'].get('class')}, with which webservers launch "
        "runs; with dagster_daemon_fencing full only the daemon may, so that a second one cannot. Remove "
        "run_coordinator (runs then wait in a queue, which concurrency.runs limits), or set dagster_daemon_fencing to "
        "lease_only"
    ]


def queues(config: Mapping[str, Any]) -> bool:
    """Whether runs of a merged dagster.yaml go through the queue, and so through the daemon."""
    coordinator = config.get("run_coordinator") or {}
    return not coordinator or coordinator.get("class") == "QueuedRunCoordinator"


def concurrent_runs(config: Mapping[str, Any]) -> int:
    """How many runs the queue of a merged dagster.yaml lets in at a time, -1 for any number."""
    if not queues(config):
        return -1
    places = (
        (config.get("concurrency") or {}).get("runs") or {},
        (config.get("run_coordinator") or {}).get("config") or {},
        config.get("run_queue") or {},
    )
    for place in places:
        value = place.get("max_concurrent_runs")
        if isinstance(value, int) or re.fullmatch(r"-?[0-9]+", str(value)):
            return int(str(value))
    return DEFAULT_CONCURRENT_RUNS


def workers(config: Mapping[str, Any]) -> int:
    """The threads that a merged dagster.yaml gives the daemon beside its own loops."""
    queue = (config.get("run_coordinator") or {}).get("config") or config.get("run_queue") or {}
    wanted = [
        (queue.get("dequeue_use_threads"), queue.get("dequeue_num_workers"), 0),
        *(
            (settings.get("use_threads"), settings.get("num_workers"), settings.get("num_submit_workers"))
            for settings in (config.get(section) or {} for section in ("sensors", "schedules", "backfills"))
        ),
    ]
    return sum(
        (number if isinstance(number, int) else DEFAULT_WORKERS) + (more if isinstance(more, int) else 0)
        for threads, number, more in wanted
        if threads
    )
