# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Environment variables, wherever the user writes one: which names are ours, and what can be wrong. Pure: no I/O.

dagster_environment and the env of a location show in docker inspect, dagster_secret_environment and secret_env do not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import has_secret, is_secret
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.texts import (
    control_problems,
    file_name_problems,
    length_problems,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import changed_by_yaml, kind_of

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
    "DAGSTER_PROJECT_ENV_FILE_PATHS": "dagster_code_locations[].secret_env",
    "DAGSTER_COMPUTE_LOGS_LOGIN": "dagster_compute_logs_login",
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
# NAME=VALUE of one variable (Linux, MAX_ARG_STRLEN, with a zero at the end).
LONGEST = 131071
ALLOW = "literal_secret:"


def of_containers(plan: Plan) -> dict[str, str]:
    """The names that are ours in code servers and runs, each with the variable that sets it."""
    database = {"host": "dagster_database_run_host", "user": "dagster_database_run_user"}
    database["credential"] = "dagster_database_run_password"
    return {**FIXED, **{name: database.get(what, "") for what, name in plan.storage.variables.items()}}


def of_all(plan: Plan) -> dict[str, str]:
    """Those in services, code servers and runs alike."""
    given = dict.fromkeys(plan.instance.environment, "")
    return {**given, **of_containers(plan), **OF_SERVICES}


def ours(name: str, names: Mapping[str, str]) -> str:
    """What to say of a name that is ours."""
    instead = f", {names[name]} decides it" if names[name] else ""
    return f"{name} is set by the collection; remove it{instead}"


def allowed_names(allow: Iterable[str]) -> set[str]:
    """The names that look like secrets and are none, as the user says in dagster_config_allow."""
    return {name.removeprefix(ALLOW) for name in allow if name.startswith(ALLOW)}


def variable_problems(where: str, name: Any, value: Any) -> list[str]:
    """A sentence about a variable that cannot be set, or of which YAML has changed the spelling."""
    if not NAME.fullmatch(str(name)):
        return [f"{where}: {name!r} is no name of an environment variable; letters, digits and '_' are"]
    if problem := changed_by_yaml(value):
        return [f"{where}: {name} {problem}"]
    return control_problems(f"{where}: {name}", str(value), lines=True) or length_problems(
        f"{where}: {name}", f"{name}={value}", LONGEST, "an environment variable"
    )


def shown_problems(where: str, values: Mapping[str, Any], allowed: Collection[str], instead: str) -> list[str]:
    """A sentence for each secret among variables that docker inspect shows; instead says where it can be."""
    problems = []
    for name, value in values.items():
        if name in allowed or not is_secret(str(name), value):
            continue
        what = "has a password or a key in its text, which" if has_secret(value) else "looks like a secret, and"
        problems.append(
            f"{where}: {name} {what} would show in docker inspect; put it in {instead}. If it is none, add "
            f"{ALLOW}{name} to dagster_config_allow"
        )
    return problems


def instance_problems(
    plain: Mapping[str, Any], secret: Mapping[str, Any], own: Mapping[str, str], allow: Iterable[str] = ()
) -> list[str]:
    """Sentences about the variables of the instance that cannot be set, are ours (own), or would show a secret."""
    problems = []
    for where, values in (("dagster_environment", plain), ("dagster_secret_environment", secret)):
        for name, value in values.items():
            if name in own:
                problems.append(f"{where}: {ours(name, own)}")
            else:
                problems += variable_problems(where, name, value)
    problems += shown_problems(
        "dagster_environment",
        plain,
        allowed_names(allow),
        "dagster_secret_environment, if services alone read it, or in secret_env of the code locations that do",
    )
    both = sorted(set(plain) & set(secret))
    problems += [f"{name} is in dagster_environment and in dagster_secret_environment; keep one" for name in both]
    return problems


def location_problems(
    where: str, entry: Mapping[str, Any], own: Mapping[str, str], allow: Iterable[str] = ()
) -> list[str]:
    """Sentences about the variables and secrets of one entry of dagster_code_locations."""
    env, secret, files = (entry.get(key) or {} for key in ("env", "secret_env", "secrets"))
    allowed = allowed_names(allow)
    problems = [problem for name in files for problem in file_name_problems(f"{where}.secrets", str(name))]
    problems += [
        f"{where}.secrets: {name} is {kind_of(text)}; a secret is text, so quote it"
        for name, text in files.items()
        if not isinstance(text, str | int) or isinstance(text, bool)
    ]
    for name, value in env.items():
        problems += variable_problems(f"{where}.env", name, value)
    for name, value in secret.items():
        if name in own or name == "PATH":
            problems.append(f"{where}.secret_env: {ours(name, {'PATH': '', **own})}")
        elif name in env:
            problems.append(f"{where}: {name} is in env and in secret_env; keep one")
        else:
            problems += variable_problems(f"{where}.secret_env", name, value)
    problems += shown_problems(f"{where}.env", env, allowed, "secret_env, or in secrets as a file")
    return problems


def loader_problems(entries: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> list[str]:
    """A sentence when runs would not read secret_env, because dagster.yaml names another loader than Dagster's own."""
    names = [str(entry.get("name")) for entry in entries if entry.get("secret_env")]
    if not names or not config.get("secrets"):
        return []
    return [
        f"dagster_config.secrets names a loader of your own, so runs would not get secret_env of {', '.join(names)}; "
        "remove one of the two"
    ]
