# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What users add to the containers of runs and code servers, in dagster_config and in dagster_code_locations.

Their lists come on top of ours (config/context.py). Here is what would contradict ours: it is refused, with the
variable that decides it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms, rights
from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import RUN_ID_LABEL
from ansible_collections.dataops.dagster.plugins.module_utils._secrets import looks_secret
from ansible_collections.dataops.dagster.plugins.plugin_utils import run_arguments, run_rules
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.refusal import refused, sentence
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import Report, check_context, containers
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.report import shown
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import (
    compute_logs,
    environment,
    step_containers,
    subnets,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

Path = tuple[Any, ...]
LAUNCHER: Path = ("run_launcher", "config")
SECRETS = "/run/secrets"
# Networks of Docker's own: a container in one of them cannot be in another one, or has no fixed subnet.
NETWORK = "dagster_docker_network names the network of runs; more of them go into networks"
USER = "leave it out: dagster_docker_userns_remap says who root of a container is, and user of a location names another"
# Paths of the host that hold a socket of its engine. The validator speaks of the socket itself.
ENGINES = ("/run", "/var/run", "/run/containerd", "/run/containerd/containerd.sock", "/var/run/containerd")
ENGINE = "mount the folder that runs need; with that socket a run would be root of its host"
RIGHTS = "leave it out; capabilities of the location adds those that its code needs"
# Arguments of the container that only we can give.
FORBIDDEN = {
    **dict.fromkeys(("network_mode", "networking_config", "network_disabled"), NETWORK),
    "name": "leave it out: a second run would not get the same name, and the label dagster/run_id names each",
    "user": USER,
    "userns_mode": USER,
}
# Arguments with which runs can be lived with, so a user may want them.
DOUBTFUL = {
    "entrypoint": ("the launcher starts dagster by its command", "build it into the image of the location"),
    "restart_policy": ("an ended run would be executed again", "use dagster_config.run_retries"),
}
LABELS = ("dataops.dagster", RUN_ID_LABEL, "dagster/job_name")
# What of dagster_home is for one reader, beside the files of passwords.
SECRET_FILES = (
    *("environment.secret", "guard.json", "secrets", "docker", "gate", "containers", "code", "users"),
    compute_logs.FILE,
)


def said(report: Report, prefix: str = "") -> list[str]:
    """The findings as sentences, each with its way out."""
    return [
        f"{prefix}{finding.path}: {sentence(finding)}"
        + (f" (dagster_config_allow: {finding.name})" if finding.name != "error" else "")
        for finding in refused(report)
    ]


class RunContainers:
    """What the inventory says of the containers of runs, as one host sees it."""

    def __init__(self, plan: Plan) -> None:
        self.values = plan.host.values
        self.names = environment.of_containers(plan)
        self.services = {**plan.instance.environment, **self.values["dagster_environment"]}
        self.secret = set(self.values["dagster_secret_environment"])
        self.secret_files = (
            plan.storage.credential,
            f"daemon.{plan.storage.credential}",
            f"read_only.{plan.storage.credential}",
            *SECRET_FILES,
        )
        self.gate = plan.names["gate_sockets"]
        self.version = plan.configuration.catalogue_version
        self.most_pids = int(self.values["dagster_gate_pids_limit"])
        self.cluster = plan.storage.cluster
        self.report = plan.report

    def of_all_runs(self, given: Any) -> list[str]:
        """Sentences about what dagster_config says of all runs."""
        report = self.report()
        options: Any = given
        for number, key in enumerate(LAUNCHER):
            if isinstance(options, Mapping) and key in options and options[key] is None:
                report.error(LAUNCHER[: number + 1], "found null, which would take away what runs need", "leave it out")
            options = options.get(key) if isinstance(options, Mapping) else None
            kind = options.get("class") if isinstance(options, Mapping) and key == LAUNCHER[0] else None
            if kind not in (None, "DockerRunLauncher"):
                return []
        self.contradictions(report, LAUNCHER, options)
        return said(report, "dagster_config.")

    def of_locations(self) -> list[str]:
        """Sentences about what code locations say of their code servers and runs."""
        report = self.report()
        for entry in self.values["dagster_code_locations"]:
            where: Path = (f"dagster_code_locations[{entry.get('name')}]",)
            for name in entry.get("env") or {}:
                if name in self.names:
                    report.error((*where, "env", name), environment.ours(name, self.names))
            self._networks(report, (*where, "networks"), entry.get("networks"))
            for source, _target, _read_only in containers.volumes(entry.get("volumes")):
                if source.endswith("docker.sock"):
                    message = f"found {source}, with which its code and its runs would be root of the host"
                    report.error((*where, "volumes"), message, containers.NO_SOCKET)
            self._volumes(report, (*where, "volumes"), containers.volumes(entry.get("volumes")))
            if self.cluster:  # kubernetes_checks.py
                continue
            given, others = context.parts(entry.get("container_context"))
            at: Path = (*where, "container_context", *(["docker"] if others else []))
            for key in sorted(set(others) - {*context.SYSTEMS, "env_vars"}):
                hint = f"move {key} into docker, or leave the key docker out"
                report.error((*where, "container_context", key), f"found {key} beside docker", hint)
            if not isinstance(given, Mapping):
                report.error(at, "found no mapping", "for example {container_kwargs: {mem_limit: 2g}}")
                continue
            self._variables(report, (*where, "container_context"), others.get("env_vars"))
            if self.contradictions(report, at, given):
                env = {*self.services, *self.secret}
                check_context(report, dict(given), at, self.version, env)
        return said(report)

    def contradictions(self, report: Report, at: Path, given: Any) -> bool:
        """Report what contradicts ours; whether the rest is fit for a check of its types."""
        if not isinstance(given, Mapping):
            return False
        for key in ("env_vars", "networks", "container_kwargs"):
            if key in given and given[key] is None:
                report.error((*at, key), "found null, which would take away what runs need", "leave it out")
        good = not any(value is None for value in given.values())
        if given.get("network") is not None or ("network" in given and at != LAUNCHER):
            report.error((*at, "network"), f"found {given['network']}", NETWORK)
            good = False
        if "image" in given and at != LAUNCHER:
            report.error(
                (*at, "image"), "found an image", "runs have that of their location: write image beside module"
            )
            good = False
        self._variables(report, at, given.get("env_vars"))
        self._networks(report, (*at, "networks"), given.get("networks"))
        kwargs = given.get("container_kwargs")
        if isinstance(kwargs, Mapping):
            self._arguments(report, (*at, "container_kwargs"), kwargs)
        return good

    def _variables(self, report: Report, at: Path, names: Any) -> None:
        """Variables that are ours, and those whose value the launcher would copy from the services and inspect show."""
        for index, text in enumerate(names if isinstance(names, list) else ()):
            name, equals, _value = str(text).partition("=")
            path = (*at, "env_vars", index)
            if not environment.NAME.fullmatch(name):
                report.error(path, f"found {name[:40]!r}, which is no name of a variable", "write NAME=value, or NAME")
            elif name in self.names:
                report.error(path, environment.ours(name, self.names))
            elif not equals and (name in self.secret or looks_secret(name)):
                message = f"found {name}, whose value the launcher would copy from the services"
                report.refuse("secret_in_inspect", path, message, containers.TO_A_FILE)

    def _networks(self, report: Report, at: Path, names: Any) -> None:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if name in ("host", "none", "default") or str(name).startswith("container:"):
                message = f"found {name}, in which no container can be that is in ours"
                report.error((*at, index), message, "name a network that you have made with docker network create")
            elif name == self.values[subnets.CODE[0]]:
                message = f"found {name}, the network of code servers, which runs do not reach"
                report.error((*at, index), message, "leave it out")

    def _arguments(self, report: Report, at: Path, kwargs: Mapping[str, Any]) -> None:
        for key, value in kwargs.items():
            path = (*at, key)
            if value is None and key in ("volumes", "labels", "user", "init", "stop_timeout"):
                report.error(path, "found null, which would take away what runs need", "leave it out")
            elif value is None and key in rights.kwargs():
                report.error(path, "found null, but the Docker gate takes these rights from each run", RIGHTS)
            elif key in FORBIDDEN and not (key == "user" and str(value) in ("0:0", "0", "root")):
                report.error(path, "found an argument that runs have from us", FORBIDDEN[key])
            elif key in run_rules.REFUSED and value:
                message = f"found {shown(value)}: the Docker gate starts no run with it"
                report.error(path, message, run_rules.REFUSED[key])
            elif self._typed(key, value) and (instead := run_arguments.instead(key, value, self.most_pids)):
                report.error(path, f"found {shown(value)}: the Docker gate starts no run with it", instead)
            elif key in DOUBTFUL and value:
                found, hint = DOUBTFUL[key]
                report.refuse(key, path, f"found {key}: {found}", hint)
        self._rights(report, at, kwargs)
        for name in labels(kwargs.get("labels")):
            if name.startswith(LABELS):
                message = f"found {name}, by which our containers are known"
                report.error((*at, "labels", name), message, "choose another name")
        values = kwargs.get("labels")
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if not isinstance(value, str):
                report.error(
                    (*at, "labels", name), f"found {shown(value)}; expected text", f'write "{value}" in quotes'
                )
        driver = kwargs.get("log_config")
        kind = driver.get("type", driver.get("Type")) if isinstance(driver, Mapping) else None
        if kind not in (None, "journald"):
            message = f"found the log driver {kind}: what runs say would be missing in the journal"
            report.refuse("log_driver", (*at, "log_config"), message, "dagster_docker_config.log-driver is for all")
        mounted = list(containers.volumes(kwargs.get("volumes")))
        for source, target, _read_only in mounted:
            if source.startswith((".", "~")) or not target.startswith("/"):
                message = (
                    f"found {source}:{target}; expected SOURCE:PATH[:MODE], a full path or a name, and a full path"
                )
                report.error((*at, "volumes"), message)
        self._volumes(report, (*at, "volumes"), mounted)
        self._volumes(report, (*at, "mounts"), containers.mounts(kwargs.get("mounts")))
        tmpfs = kwargs.get("tmpfs")
        self._volumes(
            report,
            (*at, "tmpfs"),
            (("", str(text).partition(":")[0], False) for text in (tmpfs if isinstance(tmpfs, (list, dict)) else ())),
        )

    @staticmethod
    def _typed(key: str, value: Any) -> bool:
        """Whether Docker's client takes the value; the check of types tells of others."""
        kinds = containers.TYPES.get(key, ())
        return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))

    def _rights(self, report: Report, at: Path, kwargs: Mapping[str, Any]) -> None:
        """What would take away the limits that the Docker gate sets."""
        for name in kwargs["cap_add"] if isinstance(kwargs.get("cap_add"), list) else ():
            if forms.capability(name) == "ALL":
                message = "found all capabilities: the Docker gate starts no run with them"
                report.error((*at, "cap_add"), message, "name those that are needed")
        for option in kwargs["security_opt"] if isinstance(kwargs.get("security_opt"), list) else ():
            if re.search("unconfined|disable|false", str(option)):
                message = f"found {option}: the Docker gate starts no run with it"
                report.error((*at, "security_opt"), message, "leave it out, or name a profile of your own")
        if str(kwargs.get("ipc_mode") or "private") not in ("private", "none"):
            message = f"found {kwargs['ipc_mode']}: the Docker gate starts no run with it"
            report.error((*at, "ipc_mode"), message, "leave it out")

    def _volumes(self, report: Report, at: Path, volumes: Iterable[tuple[str, str, bool]]) -> None:
        """Volumes that would stand before ours, or show runs what is not for them."""
        state, home = (posixpath.normpath(str(self.values[name])) for name in ("dagster_state_dir", "dagster_home"))
        for source, target, _read_only in volumes:
            if source in ENGINES:
                report.error(at, f"found {source}, where the engine of the host has its socket", ENGINE)
            if f"{source.rstrip('/')}/".startswith(f"{self.gate}/"):
                message = f"found {source}, where the Docker gate has its sockets"
                report.error(
                    at, message, f"{step_containers.OPTION} of the location mounts the one that its runs may have"
                )
            path, source = posixpath.normpath(target), posixpath.normpath(source) if source else ""
            if path in (state, f"{state}/storage", f"{state}/compute_logs") and source != path:
                message = f"found {target}, where the state of the instance is"
                report.error(at, message, "mount yours at another path, or set dagster_state_dir")
            for ours, what in (
                (CONTAINERS, "the login of runs"),
                (SECRETS, "secrets of locations"),
                (step_containers.INSIDE, "the sockets for steps"),
            ):
                if path == ours or path.startswith(f"{ours}/"):
                    report.error(at, f"found {target}, where {what} are", "mount yours at another path")
            if source.startswith("/") and source != "/" and self.shows(source, home):
                message = f"found {source}, which holds the secrets of the services"
                report.refuse("secret_folder", at, message, "mount the folder that runs need, outside of dagster_home")

    def shows(self, source: str, home: str) -> bool:
        """Whether a mounted folder or file has secrets of the services in it."""
        return f"{home}/".startswith(f"{source}/") or any(
            source == f"{home}/{name}" or source.startswith(f"{home}/{name}/") for name in self.secret_files
        )


def labels(given: Any) -> Iterator[str]:
    """The names of labels, which are a list or a mapping."""
    if isinstance(given, (list, Mapping)):
        yield from (str(name).partition("=")[0] for name in given)
