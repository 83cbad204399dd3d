# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where runs start, as dagster_config says it: in a Kubernetes cluster, or on a Docker engine. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROCESSES = "DefaultRunLauncher"  # Dagster's own default
KUBERNETES, CELERY = "K8sRunLauncher", "CeleryK8sRunLauncher"
# The launchers that start runs in a cluster, each with its module.
MODULES = {KUBERNETES: "dagster_k8s", CELERY: "dagster_celery_k8s"}


def section_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user says of the launcher."""
    found = (values["dagster_config"] or {}).get("run_launcher")
    return found if isinstance(found, Mapping) else {}


def in_cluster(values: Mapping[str, Any]) -> str:
    """The class of the launcher that starts runs in a cluster, empty for any other."""
    name = section_of(values).get("class")
    return name if isinstance(name, str) and name in MODULES else ""


def options_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user says to the launcher."""
    found = section_of(values).get("config")
    return found if isinstance(found, Mapping) else {}


def problems(values: Mapping[str, Any], *, logins: bool) -> list[str]:
    """A sentence about runs that could not write; logins: whether code servers have a login of their own there."""
    if not logins or section_of(values).get("class") != PROCESSES:
        return []
    return [
        f"dagster_config.run_launcher is {PROCESSES}: a run would be a process of its code server, whose login of the "
        "database may not write runs; remove run_launcher (runs are containers then, DockerRunLauncher), or set it to "
        f"{' or '.join(MODULES)}"
    ]
