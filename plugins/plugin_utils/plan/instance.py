# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The instance on a host of webservers or daemon: version, environment and dagster.yaml, and the way to the rest."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import JOURNAL_LABELS, RUN_LABEL
from ansible_collections.dataops.dagster.plugins.module_utils._secrets import looks_secret
from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.merge import deep_merge
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.refusal import sentence
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import validate_data
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import checks, docker, record
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import locations
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import port_of, reached_at
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import by_host, kind_of

# What Dagster takes where dagster.yaml says nothing: runs in progress, threads of an executor.
DEFAULT_CONCURRENT_RUNS = 10
DEFAULT_WORKERS = 8
# What code servers, runs and units are given beside the environment of the services.
CONTAINER_ENVIRONMENT = {
    "DAGSTER_CURRENT_IMAGE",
    "DAGSTER_CONTAINER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "PATH",
}
# What the programs of the services import.
PROGRAM = "systemd_service.py"
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def versions(collection: str = COLLECTION) -> list[str]:
    """The Dagster versions with a committed lock, newest first."""
    names = os.listdir(os.path.join(collection, "roles", "instance", "files", "locks"))
    matches = (re.fullmatch(r"dagster-(\d+\.\d+\.\d+)\.txt", name) for name in names)
    found = [match.group(1) for match in matches if match]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")], reverse=True)


def program_text() -> str:
    """The text of what the programs of the services import."""
    path = os.path.join(COLLECTION, "roles", "instance", "files", "usr", "local", "lib", "dagster", PROGRAM)
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Instance(Component):
    """What webservers and daemon of a host share."""

    def packages(self, facts: Facts) -> list[str]:
        signed = docker.authority(self.host, self.inventory)
        return ["python3-pip-whl", "ca-certificates", *(["python3-cryptography"] if signed else [])]

    def mark(self) -> str:
        return f"{self.plan.names['unit_drop_ins']}/10-instance.conf"

    def removal(self) -> list[str]:
        return [f"rm -r {self.values['dagster_install_dir']}", *super().removal()]

    def known_by(self) -> list[str]:
        asks = self.host.name in docker.clients(self.inventory)
        # Code servers that were published on loopback are not any more.
        groups = ["dagster_database", "dagster_code", *(["dagster_run"] if asks else [])]
        return [host for group in groups for host in self.inventory.group(group)]

    @property
    def config_file(self) -> str:
        """Where dagster.yaml is."""
        return f"{self.values['dagster_home']}/dagster.yaml"

    def paths(self) -> list[str]:
        venv = f"{self.values['dagster_install_dir']}/{self.values['dagster_version']}"
        marks = [
            f"{venv}/.complete{suffix}" for suffix in ("", *(f"-{name}" for name in self.values["dagster_libraries"]))
        ]
        return [self.config_file, *self.by_hand, *self.plan.names.services(), *marks]

    @property
    def by_hand(self) -> dict[str, str]:
        """What a Dagster that somebody runs by hand may have where ours goes, with the variable that moves ours."""
        return {
            f"{self.values['dagster_install_dir']}/current": "dagster_install_dir",
            f"{self.values['dagster_state_dir']}/dagster.yaml": "dagster_state_dir",
        }

    def headed(self) -> list[str]:
        return [*super().headed(), self.plan.names["command_line"], self.plan.names["tmpfiles"]]

    @property
    def program(self) -> str:
        """Where that is on a host."""
        return f"{self.plan.names['programs']}/{PROGRAM}"

    def texts(self) -> list[str]:
        return [self.program]

    def other_version(self, facts: Facts) -> str:
        there = str((facts.get("texts") or {}).get(self.program, ""))
        return "" if there.strip() == program_text().strip() else self.program

    def certificates(self) -> dict[str, str]:
        return docker.client_certificates(self.host, self.inventory)

    def servers(self) -> list[dict[str, Any]]:
        return self.plan.storage.asked_for()

    def options(self, facts: Facts) -> dict[str, Any]:
        storage = self.plan.storage
        return {
            "dagster_database_host": storage.address(self.host.name, in_container=False),
            "dagster_database_run_host": storage.run_address,
            "dagster_database_port": storage.port,
            "dagster_database_external": not storage.server,
            "dagster_docker_endpoint": docker.endpoint(self.host, self.inventory),
            "dagster_docker_ca_host": docker.authority(self.host, self.inventory),
            "dagster_code_endpoints": self.code_endpoints(),
        }

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "no_proxy": self.plan.exceptions("dagster_environment", "dagster_secret_environment"),
            "config": self.config,
            "authority_folder": docker.TLS_FOLDER,
            "fence": self.fence,
        }

    @property
    def staged(self) -> list[str]:
        """What role instance stages, and the roles of the services put in place when they restart them."""
        home, names = self.values["dagster_home"], self.plan.names
        files = (self.plan.storage.credential, "environment", "environment.secret", "dagster.yaml", "workspace.yaml")
        return [
            f"{self.values['dagster_install_dir']}/current",
            f"{names['programs']}/systemd_service.py",
            *(f"{home}/{name}" for name in files),
            f"{names['unit_drop_ins']}/10-instance.conf",
        ]

    def code_endpoints(self) -> list[dict[str, Any]]:
        """Where the services of this host reach each code server."""
        return [
            {"name": location.name, "host": self.code_address(location.host), "port": port_of(location.port)}
            for location in locations(self.inventory, self.values)
        ]

    def code_address(self, host: str) -> str:
        """Where the services of this host reach the code servers of a host."""
        if host not in self.inventory.hosts:  # another problem says so
            return host
        published = self.plan.code_location(host).publish_address
        return reached_at(published, self.inventory.address(host), own=host == self.host.name)

    @property
    def environment(self) -> dict[str, Any]:
        """The environment that the collection gives webservers and daemon."""
        values, storage = self.values, self.plan.storage
        endpoint = docker.endpoint(self.host, self.inventory)
        remote = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": f"{values['dagster_home']}/docker"}
        return {
            "DAGSTER_HOME": str(values["dagster_home"]),
            **storage.environment(
                storage.address(self.host.name, in_container=False), str(values["dagster_database_user"])
            ),
            "DOCKER_HOST": endpoint,
            "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE": values["dagster_heartbeat_tolerance"],
            **(remote if endpoint.startswith("tcp://") else {}),
        }

    @property
    def fence(self) -> dict[str, str]:
        """Whose logins may do what a daemon does (empty: any login), and what a second daemon is told."""
        full = self.values["dagster_daemon_fencing"] == "full"
        return {
            "logins": str(self.values["dagster_database_daemon_role"]) if full else "",
            "unit": self.plan.names["daemon"],
            "command": self.plan.names["command_line"],
        }

    @property
    def run_environment(self) -> dict[str, Any]:
        """The environment of runs."""
        storage = self.plan.storage
        return {
            **self.plan.environment("dagster_environment"),
            **storage.run_environment(storage.run_address, self.values["dagster_database_run_user"]),
        }

    @property
    def config(self) -> dict[str, Any]:
        """Our part of dagster.yaml.

        Services and run containers reach the database at different addresses under different logins, so both stand in
        the environment; the password stands in neither, a client reads it from a file that a unit brings along.
        """
        values = self.values
        state = str(values["dagster_state_dir"])
        return {
            "storage": self.plan.storage.config(),
            "run_launcher": {
                "module": "dagster_docker",
                "class": "DockerRunLauncher",
                "config": {
                    "network": str(values["dagster_docker_network"]),
                    "env_vars": [f"{name}={value}" for name, value in sorted_by_name(self.run_environment)],
                    "container_kwargs": {
                        "volumes": [f"{state}:{state}", f"{values['dagster_home']}/containers:/run/dagster:ro"],
                        # As process 1 of its container a run would ignore a termination that comes before it has set
                        # its handlers.
                        "init": True,
                        "stop_timeout": 30,
                        # A list: the launcher writes each run's ID into a dictionary, and its threads would share that.
                        "labels": [RUN_LABEL],
                        **self.log_config,
                    },
                },
            },
            "compute_logs": {
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
                "start_timeout_seconds": 180,
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
    def log_config(self) -> dict[str, Any]:
        """Where runs log to, as the launcher passes it on; nothing where the inventory says another driver."""
        given: Any = self.values["dagster_config"]
        for key in ("run_launcher", "config", "container_kwargs"):
            given = given.get(key) if isinstance(given, Mapping) else None
        run = self.inventory.group("dagster_run")
        driver = docker.log_driver(self.inventory.hosts[run[0]] if run else self.host)
        if not driver or (isinstance(given, Mapping) and "log_config" in given):
            return {}
        return {"log_config": {"type": driver, "config": {"labels": JOURNAL_LABELS}}}

    @functools.cached_property
    def merged(self) -> dict[str, Any]:
        """The dagster.yaml of the services."""
        found: dict[str, Any] = deep_merge(self.config, self.values["dagster_config"])
        return found

    def concurrent_runs(self) -> int:
        """How many runs the queue lets in at a time, -1 for any number."""
        return concurrent_runs(self.merged)

    def deployment_problems(self) -> list[str]:
        values = self.values
        return [
            *version_problems(str(values["dagster_version"] or ""), versions()),
            *same_version_problems(self.inventory),
            *environment_problems(
                values["dagster_environment"],
                values["dagster_secret_environment"],
                [*self.environment, *self.plan.storage.variables.values()],
            ),
            *self.config_problems(),
            *coordinator_problems(values, self.merged),
            *compute_log_problems(self.inventory, values, self.merged),
            *docker.endpoint_problems(self.host, self.inventory),
        ]

    def host_problems(self, facts: Facts) -> list[str]:
        """Sentences at first contact about what somebody else has there: user, group, a Dagster, units like ours."""
        paths = facts.get("paths") or []
        if self.mark() in paths:
            return []
        user, group = (str(self.values[name]) for name in ("dagster_user", "dagster_group"))
        found = [*checks.user_problems(facts, user), *checks.group_member_problems(facts, group, user)]
        if self.config_file in paths:
            found.append(
                f"the host has a {self.config_file} of somebody else; set dagster_home to another folder, or give this "
                "instance a dagster_instance_name of its own"
            )
        # A play of ours that was interrupted has written the record first.
        if record.whole(self.plan.names["record"]) not in paths:
            found += [
                f"the host has {path} of somebody else, who may run Dagster there; set {variable} to another folder, "
                "or give this instance a dagster_instance_name of its own"
                for path, variable in self.by_hand.items()
                if path in paths
            ]
        return [*found, *self.unit_problems(paths)]

    def unit_problems(self, paths: Iterable[str]) -> list[str]:
        """Sentences about units of others whose names begin as ours do: they would get user and settings of ours."""
        names = self.plan.names
        return [
            f"the host has a unit {path} of somebody else; systemd would give it user, environment and sandbox of "
            f"ours, because its name begins with {names.name}-. Rename it, or give this instance a "
            "dagster_instance_name of its own"
            for path in paths
            if any(fnmatch.fnmatch(path, pattern) for pattern in names.services()) and path not in names.own_services()
        ]

    def config_problems(self) -> list[str]:
        """Sentences about the dagster.yaml of the services."""
        values = self.values
        version = str(values["dagster_version"])
        report = validate_data(
            self.merged,
            version=version if version in versions() else "",  # another problem says so
            env={**self.environment, **values["dagster_environment"], **values["dagster_secret_environment"]},
            allow=values["dagster_config_allow"],
        )
        return [
            f"dagster_config.{finding.path}: {sentence(finding)}"
            + (f" (dagster_config_allow: {finding.name})" if finding.name != "error" else "")
            for finding in [*report.errors, *report.refusals]
        ]


def sorted_by_name(environment: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The variables of an environment in the order of their names, capital letters as small ones."""
    return sorted(environment.items(), key=lambda item: item[0].lower())


def version_problems(version: str, known: list[str]) -> list[str]:
    """A sentence when a version of Dagster has no committed lock."""
    if not version or version in known:
        return []
    return [
        f"dagster_version is {version}; supported are {', '.join(known)} (each has a committed lock)"
        f"{did_you_mean(version, known, '; ')}"
    ]


def same_version_problems(inventory: Inventory) -> list[str]:
    """A sentence when the services' hosts, a standby included, would not all have one Dagster."""
    found = {name: str(inventory.hosts[name].values["dagster_version"] or "") for name in inventory.services}
    if len(set(found.values())) < 2:
        return []
    return [f"dagster_version differs between the services' hosts ({by_host(found)}); one instance has one version"]


def environment_problems(plain: Mapping[str, Any], secret: Mapping[str, Any], own: Iterable[str]) -> list[str]:
    """Sentences about environment variables that cannot be set, are ours (own), or would show a secret."""
    problems = []
    own = CONTAINER_ENVIRONMENT.union(own)
    for variable, values in (("dagster_environment", plain), ("dagster_secret_environment", secret)):
        for name, value in values.items():
            if not ENVIRONMENT_NAME.fullmatch(str(name)):
                problems.append(
                    f"{variable}: {name!r} is no name of an environment variable; letters, digits and '_' are"
                )
            elif name in own:
                problems.append(f"{variable}: {name} is set by the collection; remove it")
            elif not isinstance(value, str | int | float):
                problems.append(f"{variable}: {name} is {kind_of(value)}; an environment variable is text")
    problems += [
        f"dagster_environment: {name} would show in docker inspect; put it in dagster_secret_environment"
        for name in plain
        if looks_secret(str(name))
    ]
    both = sorted(set(plain) & set(secret))
    problems += [f"{name} is in dagster_environment and in dagster_secret_environment; keep one" for name in both]
    return problems


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
