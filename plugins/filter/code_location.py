# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that turn dagster_code_locations into what the modules of role code_location take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import RUN_LABEL
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.merge import merge_contexts

PORT = 4000  # inside the container; the port on the host is the location's
TARGET_OPTIONS = {"module": "-m", "package": "--package-name", "file": "-f"}
OPTIONAL = {"attribute": "-a", "working_directory": "-d"}
SECRETS = "/run/secrets"


def image_sources(locations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name and source of each location's image, as module code_images takes them. An empty option is none."""
    return [
        {
            key: {name: value for name, value in location[key].items() if value} if key == "build" else location[key]
            for key in ("name", "image", "build", "archive")
            if location.get(key)
        }
        for location in locations
    ]


def image_ids(images: dict[str, dict[str, Any]], names: list[str] | None = None) -> list[dict[str, Any]]:
    """ID and reference of the images that module code_images returned for these locations (all without names).

    Check mode only promises an image; one that is not there yet has no ID and is left out.
    """
    return [
        {"id": image["id"], "ref": image["ref"]}
        for name, image in images.items()
        if image["id"] and (names is None or name in names)
    ]


def secret_files(locations: list[dict[str, Any]], folder: str, owner: int) -> list[dict[str, Any]]:
    """Folder and files of each location's secrets, as module files takes them. Nothing else stays in the folder."""
    attributes = {"owner": str(owner), "group": str(owner)}
    found: list[dict[str, Any]] = [{"dest": folder, "state": "directory", "mode": "0711", "purge": True}]
    for location in locations:
        if not location.get("secrets"):
            continue
        home = f"{folder}/{location['name']}"
        found.append({"dest": home, "state": "directory", "mode": "0500", "purge": True, **attributes})
        found += [
            {"dest": f"{home}/{name}", "content": str(text), "secret": True, "mode": "0400", **attributes}
            for name, text in location["secrets"].items()
        ]
    return found


def code_containers(
    locations: list[dict[str, Any]],
    images: dict[str, dict[str, Any]],
    env: dict[str, str],
    volumes: list[str],
    secrets: str,
    publish_address: str,
    default_port: int = PORT,
    every_run: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Each location's container, as module code_containers takes it.

    env and volumes are what every location and every run of one has; secrets is the folder of secret_files;
    default_port is the port on the host of a location that names none; every_run is what dagster_config gives to the
    container of each run.
    """
    return [
        {
            **_container(location, images[location["name"]], env, volumes, secrets, every_run or {}),
            "publish_address": publish_address,
            "port": int(location.get("port") or default_port),
        }
        for location in locations
    ]


def _container(
    location: dict[str, Any],
    image: dict[str, Any],
    env: dict[str, str],
    volumes: list[str],
    secrets: str,
    every_run: Mapping[str, Any],
) -> dict[str, Any]:
    own_env = {name: str(value) for name, value in (location.get("env") or {}).items()}
    own_volumes = list(location.get("volumes") or [])
    if location.get("secrets"):
        own_volumes.append(f"{secrets}/{location['name']}:{SECRETS}:ro")
    mounted = [*volumes, *own_volumes]
    own = {
        "env_vars": [f"{name}={value}" for name, value in own_env.items()],
        "networks": list(location.get("networks") or []),
        "container_kwargs": {"volumes": own_volumes, "user": "0:0"},
    }
    contexts = _contexts(location, own, volumes, every_run)
    ref = image["ref"]
    command = ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", str(PORT)]
    for key, option in {**TARGET_OPTIONS, **OPTIONAL}.items():
        if location.get(key):
            command += [option, str(location[key])]
    return {
        "name": location["name"],
        "image": ref,
        "command": command,
        "container_port": PORT,
        "env": {
            **env,
            # Without it a run fails 0.1 s after its start: the launcher does not know which image the code lives in.
            "DAGSTER_CURRENT_IMAGE": ref,
            "DAGSTER_CONTAINER_CONTEXT": json.dumps(contexts, sort_keys=True),
            **own_env,
        },
        "volumes": mounted,
        "networks": list(location.get("networks") or []),
        "mem_limit": location.get("mem_limit"),
        "cpus": location.get("cpus"),
        # root of the container: an unprivileged number on the host where the engine remaps users.
        "user": "0:0",
    }


def _contexts(
    location: dict[str, Any], own: dict[str, Any], volumes: list[str], every_run: Mapping[str, Any]
) -> dict[str, Any]:
    """What the launcher is told of the runs of a location, by system.

    Its own merge replaces a list of all runs by that of the location, so what a location names is whole here.
    """
    given, others = context.parts(location.get("container_context"))
    named = {"volumes", "labels", *(given.get(context.KWARGS) or {})}
    kwargs = {name: value for name, value in (every_run.get(context.KWARGS) or {}).items() if name in named}
    ours: dict[str, Any] = {"volumes": volumes}
    if "labels" in kwargs or "labels" in (given.get(context.KWARGS) or {}):
        # Not so among those of all runs: the launcher writes each run's ID into a mapping.
        ours["labels"] = {RUN_LABEL: ""}
    docker = merge_contexts({context.KWARGS: ours}, {context.KWARGS: kwargs}, own, given)
    # The launcher joins one network after the other, and Docker refuses one that it has joined.
    joined = every_run.get("networks") or []
    docker["networks"] = [name for name in docker.get("networks") or [] if name not in joined]
    return {**others, "docker": docker}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {
            "image_sources": image_sources,
            "image_ids": image_ids,
            "secret_files": secret_files,
            "code_containers": code_containers,
        }
