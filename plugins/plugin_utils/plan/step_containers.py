# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Code locations whose runs start a container for each step (docker_executor): what they have, and what cannot be.

Their runs ask the Docker gate at a socket of the location, which only their containers mount. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.texts import LONGEST_SOCKET

OPTION = "step_containers"
# Where a run has the folder of the socket. A folder: a gate that starts anew makes its socket anew.
INSIDE = "/run/docker-gate"
SOCKET = "docker.sock"
DOCKER_HOST = f"DOCKER_HOST=unix://{INSIDE}/{SOCKET}"
# What Docker's client reads, and would ask elsewhere for.
NAMES = ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
# What all other runs have. Docker's client says which address it cannot use, and this is what an operator reads then.
# Without it, it would miss a file that it does not name.
NO_ENGINE = f"DOCKER_HOST=none://set-{OPTION}-of-its-code-location-or-DOCKER_HOST-in-its-env"


def wanted(location: Mapping[str, Any]) -> bool:
    """Whether the runs of a location may start steps; a survey gives false as text."""
    return bool(boolean(location.get(OPTION) or False, strict=False))


def bind(location: Mapping[str, Any], folder: str) -> str:
    """The volume with the socket, in the folder of the gate for those of all locations."""
    return f"{folder}/{location['name']}:{INSIDE}:ro"


def problems(values: Mapping[str, Any], launcher: Any, endpoint: str, folder: str) -> list[str]:
    """Sentences about locations with the option.

    launcher is the class in dagster.yaml, endpoint an engine without a gate that the user has named, empty for none.
    """
    return [
        f"dagster_code_locations[{entry.get('name')}]{sentence}"
        for entry in values["dagster_code_locations"]
        if wanted(entry)
        for sentence in (*_deployment(launcher, endpoint), *_variables(entry), *_path(entry, folder))
    ]


def _deployment(launcher: Any, endpoint: str) -> Iterator[str]:
    if endpoint:
        yield (
            f".{OPTION}: its runs would start steps through the Docker gate, and dagster_docker_endpoint is "
            f"{endpoint}, an engine without one. Remove {OPTION}, or dagster_docker_endpoint"
        )
    if launcher != "DockerRunLauncher":
        yield (
            f".{OPTION}: docker_executor starts steps beside runs of DockerRunLauncher, and "
            f"dagster_config.run_launcher is {launcher}. Remove {OPTION}, or run_launcher"
        )


def _variables(entry: Mapping[str, Any]) -> Iterator[str]:
    given, others = context.parts(entry.get("container_context"))
    lists = (part.get("env_vars") for part in (others, given) if isinstance(part, Mapping))
    named = {str(text).partition("=")[0] for texts in lists if isinstance(texts, list) for text in texts}
    places = {"env": entry.get("env") or {}, "secret_env": entry.get("secret_env") or {}, "container_context": named}
    for place, names in places.items():
        for name in sorted({*NAMES} & {*names}):
            yield f".{place}: {name} names another engine than the Docker gate; remove it, or {OPTION}"


def _path(entry: Mapping[str, Any], folder: str) -> Iterator[str]:
    room = LONGEST_SOCKET - len(f"{folder}//{SOCKET}")
    length = len(str(entry.get("name")))
    if length > room:
        yield f".name has {length} characters; with {OPTION} at most {room}, because its socket has that name"
