# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Environment variables that the user sets, wherever they are written: what can be wrong with one. Pure: no I/O.

dagster_environment and the env of a location show in docker inspect, dagster_secret_environment and secret_env do not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import has_secret, is_secret, literal_secrets
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import dotted
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.texts import (
    control_problems,
    file_name_problems,
    length_problems,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import kind_of

# What code servers, runs and units are given beside the environment of the services.
CONTAINER_ENVIRONMENT = {
    "DAGSTER_CURRENT_IMAGE",
    "DAGSTER_CONTAINER_CONTEXT",
    "DAGSTER_PROJECT_ENV_FILE_PATHS",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "PATH",
}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# NAME=VALUE of one variable (Linux, MAX_ARG_STRLEN, with a zero at the end).
LONGEST = 131071
ALLOW = "literal_secret:"


def allowed_names(allow: Iterable[str]) -> set[str]:
    """The names that look like secrets and are none, as the user says in dagster_config_allow."""
    return {name.removeprefix(ALLOW) for name in allow if name.startswith(ALLOW)}


def variable_problems(where: str, name: Any, value: Any) -> list[str]:
    """A sentence about a variable that cannot be set, or of which YAML has changed the spelling."""
    if not NAME.fullmatch(str(name)):
        return [f"{where}: {name!r} is no name of an environment variable; letters, digits and '_' are"]
    if value is None:
        return [f"{where}: {name} has no value; write '' for an empty one, or remove it"]
    if isinstance(value, bool | float):
        kind = f"{kind_of(value)} ({str(value).lower()})"
        return [f"{where}: {name} is {kind}, of which YAML does not keep the spelling; quote it"]
    if not isinstance(value, str | int):
        return [f"{where}: {name} is {kind_of(value)}; an environment variable is text"]
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
    plain: Mapping[str, Any], secret: Mapping[str, Any], own: Iterable[str], allow: Iterable[str] = ()
) -> list[str]:
    """Sentences about the variables of the instance that cannot be set, are ours (own), or would show a secret."""
    problems = []
    own = CONTAINER_ENVIRONMENT.union(own)
    for where, values in (("dagster_environment", plain), ("dagster_secret_environment", secret)):
        for name, value in values.items():
            if name in own:
                problems.append(f"{where}: {name} is set by the collection; remove it")
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
    where: str, entry: Mapping[str, Any], own: Iterable[str] = (), allow: Iterable[str] = ()
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
        if name in CONTAINER_ENVIRONMENT.union(own):
            problems.append(f"{where}.secret_env: {name} is set by the collection; remove it")
        elif name in env:
            problems.append(f"{where}: {name} is in env and in secret_env; keep one")
        else:
            problems += variable_problems(f"{where}.secret_env", name, value)
    problems += shown_problems(f"{where}.env", env, allowed, "secret_env, or in secrets as a file")
    problems += [
        f"{where}.container_context.{dotted(path)}: found {found}, which docker inspect of each run shows; put it in "
        f"secret_env. If it is none, add {ALLOW}NAME to dagster_config_allow"
        for path, found, _instead in literal_secrets(entry.get("container_context") or {}, allowed)
    ]
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
