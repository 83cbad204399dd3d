# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be wrong with runs in a Kubernetes cluster: what the launcher is told, the images, the way to the database.

Each is refused before anything is changed. Otherwise all services would be healthy, and each run would fail.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker import registry
from ansible_collections.dataops.dagster.plugins.module_utils._secrets import looks_secret
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import check_k8s_context
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import environment, launchers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.compute_logs import LOGIN
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes import VARIABLE, VOLUME
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import is_address
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.run_containers import LAUNCHER, said
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS, PODS

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import Report
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

Path = tuple[Any, ...]
PAGE = "docs/kubernetes.md"
# A name in the API of Kubernetes: of an object, and the shorter one of a namespace.
OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# What the services have in another way.
OURS = {
    "kubeconfig_file": "leave it out: dagster_kubeconfig has the content, and only units of services read it",
    "k8s_api_ssl_ca_cert_file": "leave it out, and write certificate-authority-data into dagster_kubeconfig",
    "job_image": "leave it out: runs have the image of their location, whatever it says",
}
# Options of a location that only its code server has then, because they name files or containers of a host.
HIDDEN = ("secrets", "secret_env", "volumes")
OF_ITS_CONTAINER = (
    *("capabilities", "cpus", "devices", "extra_hosts", "labels", "mem_limit", "networks", "read_only"),
    *("shm_size", "user"),
)
# By which a run in the cluster may have them: of the launcher, of a location, or raw.
FROM_THE_CLUSTER = ("env_secrets", "env_config_maps", "volumes", "env", "run_k8s_config")


class Checks:
    """The checks of one host's view; empty for another launcher."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cluster = plan.cluster
        self.values = plan.host.values
        self.options = self.cluster.options
        self.celery = self.cluster.launcher == launchers.CELERY

    def problems(self) -> list[str]:
        """Sentences about the deployment as a whole."""
        if not self.cluster:
            return []
        report = self.plan.report()
        self._names(report)
        self._variables(report, (*LAUNCHER, "env_vars"), self.options.get("env_vars"))
        self._volumes(report)
        self._logs(report)
        self._monitoring(report)
        if self.celery:
            self._broker(report)
        return [*said(report, "dagster_config."), *self._kubeconfig(), *self._engine(), *self._database()]

    # What the launcher is told

    def _names(self, report: Report) -> None:
        """The objects in the cluster, and what would be there twice."""
        storage = self.plan.storage
        for key, hint in OURS.items():
            # Its own constructor refuses the image.
            if self.options.get(key) is not None and not (self.celery and key == "job_image"):
                report.error((*LAUNCHER, key), f"found {key}", hint)
        if self.options.get("load_incluster_config"):
            message = "found true, but webservers and daemon run outside of the cluster"
            report.error((*LAUNCHER, "load_incluster_config"), message, "leave it out")
        names = ["instance_config_map", "job_namespace", "service_account_name"]
        for key in [*names, *([storage.secret_option] if storage.secret_option else [])]:
            found = self.options.get(key)
            pattern = NAMESPACE if key == "job_namespace" else OBJECT
            if found is not None and not (isinstance(found, str) and pattern.fullmatch(found)):
                shown = found if isinstance(found, str) else "no text"
                hint = "write the name itself: small letters, digits and '-'"
                report.error((*LAUNCHER, key), f"found {shown!r}, which is no name in Kubernetes", hint)
        if "job_namespace" not in self.options:
            message = "is missing, so Dagster would take the namespace default"
            report.error((*LAUNCHER, "job_namespace"), message, "name one for runs alone, such as dagster-runs")
        own = "storage" in self.plan.configuration.given
        if storage.secret_option and not (own or self.cluster.secret or self.celery):  # Celery's constructor says so
            message = "is missing: runs would have no password for the database"
            hint = f"name a Secret ({PAGE})"
            report.refuse("password_not_in_runs", (*LAUNCHER, storage.secret_option), message, hint)
        given = self.options.get("volume_mounts")
        mounts = given if isinstance(given, list) else []
        if not storage.secret_option and not any(mounted(entry) == PODS for entry in mounts):
            message = f"found no volume at {PODS}, and runs read the password of the database from a file there"
            hint = f"mount a Secret with the key {storage.credential} at {PODS} ({PAGE})"
            report.refuse("password_not_in_runs", (*LAUNCHER, "volume_mounts"), message, hint)

    def _variables(self, report: Report, at: Path, given: Any) -> None:
        """Variables that are ours, and values that would be copied into each Job."""
        names = {**environment.of_containers(self.plan), VARIABLE: "", **self.cluster.password}
        for index, entry in enumerate(given if isinstance(given, list) else ()):
            name, equals, _value = str(entry).partition("=")
            if name in names:
                report.error((*at, index), f"{name} is set by the collection", "remove it")
            elif not equals and (name in self.values["dagster_secret_environment"] or looks_secret(name)):
                message = f"found {name}, whose value the launcher would copy from the services into each Job"
                report.refuse(
                    "secret_in_inspect", (*at, index), message, "put it into a Secret, and name that in env_secrets"
                )

    def _volumes(self, report: Report) -> None:
        for key in ("volumes", "volume_mounts"):
            for index, entry in enumerate(
                self.options.get(key) or [] if isinstance(self.options.get(key), list) else ()
            ):
                path = mounted(entry)
                if isinstance(entry, Mapping) and key == "volumes" and entry.get("name") == VOLUME:
                    report.error(
                        (*LAUNCHER, key, index), f"found the name {VOLUME}, which ours has", "choose another name"
                    )
                if f"{path}/".startswith(f"{CONTAINERS}/"):
                    report.error(
                        (*LAUNCHER, key, index), f"found {path}, where our ConfigMap is", "choose another path"
                    )

    def _logs(self, report: Report) -> None:
        """The login of compute logs, which services and code servers have as a file or a variable."""
        if self.plan.configuration.logs.login and not any(self.options.get(key) for key in FROM_THE_CLUSTER):
            message = f"found nothing with a login of compute logs, and {LOGIN} is for services and code servers alone"
            report.refuse("secret_not_in_runs", LAUNCHER, message, f"give runs one by a Secret: env_secrets ({PAGE})")

    def _monitoring(self, report: Report) -> None:
        monitoring = self.plan.configuration.merged.get("run_monitoring")
        attempts = monitoring.get("max_resume_run_attempts") if isinstance(monitoring, Mapping) else 0
        if attempts and not self.celery:  # Celery's launcher cannot resume, which is said elsewhere
            message = f"found {attempts}: each process that opens the instance would then build the launcher, also " + (
                "read-only webservers and code servers, which have no kubeconfig"
            )
            path = ("run_monitoring", "max_resume_run_attempts")
            report.error(path, message, "leave it out, and use run_retries for runs that fail")

    def _broker(self, report: Report) -> None:
        broker = self.options.get("broker")
        if broker is None:
            message = "is missing: the pod of a run would look for a broker in itself"
            hint = "write the broker of the Celery workers in the cluster, such as redis://redis.dagster-runs:6379/0"
            report.error((*LAUNCHER, "broker"), message, hint)
        for key in ("broker", "backend"):
            found = self.options.get(key)
            if isinstance(found, str) and re.search(
                r"@?(localhost|127\.[0-9.]+|\[::1\])([:/]|$)", found.partition("://")[2]
            ):
                message = "found this host itself, which is the pod of a run there"
                report.error((*LAUNCHER, key), message, "name it as pods in the cluster reach it")

    # What else a launch needs

    def _kubeconfig(self) -> list[str]:
        if not self.values["dagster_kubeconfig"]:
            return [
                f"dagster_kubeconfig is not set, and dagster_config.run_launcher is {self.cluster.launcher}; give it "
                f"the content of a kubeconfig for the cluster, from a vault ({PAGE})"
            ]
        return self.cluster.connection[1]

    def _engine(self) -> Iterator[str]:
        if self.plan.host.chosen("dagster_docker_endpoint", ""):
            yield (
                "dagster_docker_endpoint names an engine for runs, but dagster_config.run_launcher is "
                f"{self.cluster.launcher}; leave it out"
            )

    def _database(self) -> Iterator[str]:
        storage = self.plan.storage
        address = storage.run_address
        if is_address(address) and ipaddress.ip_address(address).is_loopback:
            yield (
                f"runs in Kubernetes would look for the database at {address}, in their own pod; give "
                f"{storage.server or 'the database'} a dagster_address that the cluster reaches, or set "
                "dagster_database_run_host"
            )
        if storage.server and not storage.cluster_sources:
            yield (
                "dagster_kubernetes_sources is not set; name the addresses or networks from which runs in the cluster "
                f"reach the database on {storage.server}, such as that of its nodes: nobody else is let in"
            )
        for text in storage.cluster_sources:
            try:
                network = ipaddress.ip_network(text)
            except ValueError as error:
                yield f"dagster_kubernetes_sources: {error}; an address or a network such as 10.20.0.0/16 is expected"
                continue
            if network.prefixlen == 0:
                yield f"dagster_kubernetes_sources has {text}, which is everybody; name the networks of the cluster"

    # Locations

    def of_locations(self) -> list[str]:
        """Sentences about code locations whose runs would not be what their code servers are."""
        if not self.cluster:
            return []
        report = self.plan.report()
        images: list[str] = []
        for entry in self.values["dagster_code_locations"]:
            where = f"dagster_code_locations[{entry.get('name')}]"
            images += image_problems(where, entry)
            self._context(report, where, entry)
            self._hidden(report, where, entry)
        return [*images, *said(report)]

    def _context(self, report: Report, where: str, entry: Mapping[str, Any]) -> None:
        given = entry.get("container_context") or {}
        at: Path = (where, "container_context")
        if not isinstance(given, Mapping):
            return
        for key in given.keys() - {"k8s", "env_vars"}:
            hint = (
                "runs in Kubernetes have what is below k8s"
                if key == "docker"
                else f"write it below k8s: {{k8s: {{{key}: ...}}}}"
            )
            report.error((*at, key), f"found {key}", hint)
        own = given.get("k8s") or {}
        if self.celery and (own or given.get("env_vars")):
            message = "found settings for runs, and CeleryK8sRunLauncher reads none of a location"
            report.error(
                at, message, "write them into the tags of jobs (dagster-k8s/config), or into run_launcher.config"
            )
            return
        self._variables(report, (*at, "env_vars"), given.get("env_vars"))
        if isinstance(own, Mapping):
            self._variables(report, (*at, "k8s", "env_vars"), own.get("env_vars"))
        names = {*self.plan.instance.environment, *self.values["dagster_environment"]}
        env = {*names, *self.values["dagster_secret_environment"]}
        check_k8s_context(report, own, (*at, "k8s"), self.plan.configuration.catalogue_version, env)

    def _hidden(self, report: Report, where: str, entry: Mapping[str, Any]) -> None:
        """What runs on an engine would have, and runs in the cluster have not."""
        _given, others = context.parts(entry.get("container_context"))
        own = others.get("k8s") if isinstance(others.get("k8s"), Mapping) else {}
        supplied = any(
            part.get(key) for part in (own, self.options) if isinstance(part, Mapping) for key in FROM_THE_CLUSTER
        )
        for key in HIDDEN:
            if entry.get(key) and not supplied:
                message = f"found {key}, which are on the host of its code server: runs in Kubernetes do not have them"
                hint = (
                    "give runs the same by the cluster: container_context: {k8s: {env_secrets: [NAME]}}, or volumes "
                    "and volume_mounts there"
                )
                report.refuse("secret_not_in_runs", (where, key), message, hint)
        if self.celery and entry.get("env") and not self.options.get("env_config_maps"):
            message = "found env, which CeleryK8sRunLauncher does not give to runs: its code server alone has it"
            hint = "put what runs need into a ConfigMap, and name that in run_launcher.config.env_config_maps"
            report.refuse("env_not_in_runs", (where, "env"), message, hint)

    def warnings(self) -> list[str]:
        """Sentences about options of a location that runs do not have."""
        found = []
        for entry in self.values["dagster_code_locations"] if self.cluster else ():
            if names := [key for key in OF_ITS_CONTAINER if entry.get(key)]:
                found.append(
                    f"dagster_code_locations[{entry['name']}]: {', '.join(names)} are for its code server alone; runs "
                    "in Kubernetes have what container_context.k8s, run_launcher.config and tags of the job say"
                )
        return found


def mounted(entry: Any) -> str:
    """Where an entry of volume_mounts is mounted."""
    return str(entry.get("mount_path", entry.get("mountPath", ""))).rstrip("/") if isinstance(entry, Mapping) else ""


def image_problems(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about an image that the cluster could not pull."""
    for key in ("build", "archive"):
        if entry.get(key):
            yield (
                f"{where}.{key} makes an image that only the code hosts have, and runs start in Kubernetes; push it to "
                "a registry that the cluster reaches, and write image: REGISTRY/NAME:TAG"
            )
    image = str(entry.get("image") or "")
    if not image:
        return
    place, path, _tag = registry.parse(image)
    host = place.rpartition(":")[0] or place
    if place == registry.DEFAULT_REGISTRY and path.startswith("library/"):
        yield (
            f"{where}.image is {image}, which names no registry: Kubernetes would pull docker.io/{path}; write image: "
            "REGISTRY/NAME:TAG"
        )
    elif host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback):
        yield (
            f"{where}.image is {image}, and {place} is another registry on each node of the cluster; name it as nodes "
            "reach it"
        )
