# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs in a Kubernetes cluster that is there: what its launcher is told, and what webservers and daemons need for it.

Such a deployment has no host in group dagster_run, and no gate. Its code servers stay in containers of the code hosts.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.forms import text
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes import kubeconfig
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import render
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import launchers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import AUTHORITY, CONTAINERS

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

# The variable that every client of Kubernetes reads, and the name of our file.
VARIABLE, CREDENTIAL = "KUBECONFIG", "kubeconfig"
# The volume of our ConfigMap in each run, and the label of each Job.
VOLUME, LABEL = "dagster-instance", "dataops.dagster/instance"
# Dagster's own variable with the password of the database, which its launchers make of a Secret.
PASSWORD = "DAGSTER_PG_PASSWORD"  # noqa: S105 - a name
# A kubeconfig of the pod itself. An executor whose steps are pods builds the launcher in the pod of its run.
OF_A_POD = "kubeconfig.yaml"
TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"


def escaped(value: str) -> str:
    """A value as Kubernetes takes it for a variable: it would replace $(NAME)."""
    return value.replace("$", "$$")


class Cluster:
    """The cluster of the runs, as one host sees it. Nothing of it concerns a deployment with another launcher."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.values = plan.host.values
        self.launcher = launchers.in_cluster(self.values)
        self.options = launchers.options_of(self.values)

    def __bool__(self) -> bool:
        return bool(self.launcher)

    def name(self, key: str) -> str:
        """A name of an object in the cluster; empty for what is none, which another problem says."""
        found = self.options.get(key)
        return found if isinstance(found, str) else ""

    @functools.cached_property
    def connection(self) -> tuple[kubeconfig.Connection | None, list[str]]:
        """How the API is reached, and what is wrong with that."""
        return kubeconfig.read(self.values["dagster_kubeconfig"])

    @property
    def host(self) -> str:
        """The host of the API, which is reached without a proxy."""
        found = self.connection[0] if self else None
        return found.host if found else ""

    # What runs get

    @property
    def password(self) -> dict[str, str]:
        """The variable in which the database's client reads the password, by that of the Secret."""
        return {self.plan.storage.secret_variable: f"$({PASSWORD})"} if self.secret else {}

    @property
    def secret(self) -> str:
        """The Secret with the password of the database; empty where the launcher is told none."""
        option = self.plan.storage.secret_option
        return self.name(option) if option else ""

    def environment(self) -> dict[str, str]:
        """The environment of runs, beside the password."""
        return {name: text(value) for name, value in self.plan.configuration.run_environment.items()}

    def section(self) -> dict[str, Any]:
        """Our part of run_launcher in dagster.yaml."""
        names = self.plan.names
        mount = {"name": VOLUME, "mount_path": CONTAINERS, "read_only": True}
        config: dict[str, Any] = {
            "load_incluster_config": False,  # the services are outside, and their units name the kubeconfig
            "labels": {LABEL: names.name},
            "volumes": [{"name": VOLUME, "config_map": {"name": self.name("instance_config_map")}}],
            "volume_mounts": [mount],
        }
        if self.launcher == launchers.CELERY:
            # It gives runs no variables of its own. The Secret has one with the name that the client reads.
            config["env_config_maps"] = [self.name("instance_config_map")]
            config["env_secrets"] = [self.secret] if self.secret else []
        else:
            given = sorted(self.environment().items(), key=lambda item: item[0].lower())
            config["env_vars"] = [
                *(f"{name}={escaped(value)}" for name, value in given),
                *(f"{name}={value}" for name, value in self.password.items()),
            ]
        return {"module": launchers.MODULES[self.launcher], "class": self.launcher, "config": config}

    def data(self) -> dict[str, str]:
        """What our ConfigMap holds, beside the authority of the database."""
        variables = self.environment() if self.launcher == launchers.CELERY else {}
        return {**variables, OF_A_POD: render(of_a_pod())}

    # What the host is given and asked

    def handed(self) -> dict[str, Any]:
        """What roles are given as dagster_plan.kubernetes; empty where runs start elsewhere."""
        if not self:
            return {}
        return {
            "kubeconfig": f"{self.values['dagster_home']}/{CREDENTIAL}",
            "credential": CREDENTIAL,
            "variable": VARIABLE,
            "namespace": self.name("job_namespace"),
            "config_map": self.name("instance_config_map"),
            "data": self.data(),
            "authority": AUTHORITY if self.plan.storage.runs.authority else "",
        }

    def questions(self) -> dict[str, Any]:
        """What the host of a service is asked of the cluster, as options of module host_facts."""
        connection = self.connection[0] if self else None
        if connection is None or self.plan.host.name not in self.plan.inventory.services:
            return {}
        wanted = {
            "namespace": self.name("job_namespace"),
            "config_map": self.name("instance_config_map"),
            "service_account": self.name("service_account_name"),
            "secret": self.secret,
        }
        asked = {name: text for name, text in {**wanted, **connection.public()}.items() if text}
        return {"kubernetes": asked, "kubernetes_login": connection.login()}


def of_a_pod() -> dict[str, Any]:
    """The kubeconfig with which a pod asks the API of its own cluster, with the token of its service account."""
    cluster = {"server": "https://kubernetes.default.svc", "certificate-authority": f"{TOKENS}/ca.crt"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "own", "cluster": cluster}],
        "users": [{"name": "own", "user": {"tokenFile": f"{TOKENS}/token"}}],
        "contexts": [{"name": "own", "context": {"cluster": "own", "user": "own"}}],
        "current-context": "own",
    }
