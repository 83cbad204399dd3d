# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The environment variables that are ours, wherever a user may set one: services, code servers and runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMAGE = "dagster_code_locations[].image, build or archive"
COMMAND = "the options of the location in dagster_code_locations"
# Each with what to set instead.
FIXED = {
    "DAGSTER_HOME": "dagster_home",
    "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE": "dagster_heartbeat_tolerance",
    "DAGSTER_CURRENT_IMAGE": IMAGE,
    "DAGSTER_CONTAINER_IMAGE": IMAGE,
    "DAGSTER_CONTAINER_CONTEXT": "dagster_code_locations[].container_context",
    "DAGSTER_GRPC_HOST": COMMAND,
    "DAGSTER_GRPC_PORT": COMMAND,
    "DAGSTER_GRPC_SOCKET": COMMAND,
}
# In a container they are the image's, or the user's: a job may have an engine of its own.
OF_SERVICES = {
    "DOCKER_HOST": "dagster_docker_endpoint",
    "DOCKER_CERT_PATH": "dagster_docker_tls_client_cert",
    "DOCKER_TLS_VERIFY": "dagster_docker_endpoint",
    "PATH": "",
}


def of_containers(plan: Plan) -> dict[str, str]:
    """The names that are ours in code servers and runs, each with the variable that sets it."""
    database = {"host": "dagster_database_run_host", "user": "dagster_database_run_user"}
    database["credential"] = "dagster_database_run_password"
    return {**FIXED, **{name: database.get(what, "") for what, name in plan.storage.variables.items()}}


def of_all(plan: Plan) -> dict[str, str]:
    """Those in services, code servers and runs alike."""
    given = dict.fromkeys(plan.instance.environment, "")
    return {**given, **of_containers(plan), **OF_SERVICES}


def ours(name: str, names: dict[str, str]) -> str:
    """What to say of a name that is ours."""
    instead = f", {names[name]} decides it" if names[name] else ""
    return f"{name} is set by the collection; remove it{instead}"
