# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that turn dagster_code_locations into what the modules of role code_location take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import RUN_LABEL
from ansible_collections.dataops.dagster.plugins.module_utils._proxies import exceptions
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.merge import deep_merge

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
    no_proxy: str = "",
) -> list[dict[str, Any]]:
    """Each location's container, as module code_containers takes it.

    env and volumes are what every location and every run of one has; secrets is the folder of secret_files;
    default_port is the port on the host of a location that names none; no_proxy is what a location reaches without the
    proxy that its own environment may name.
    """
    return [
        {
            **_container(beside_a_proxy(location, no_proxy), images[location["name"]], env, volumes, secrets),
            "publish_address": publish_address,
            "port": int(location.get("port") or default_port),
        }
        for location in locations
    ]


def beside_a_proxy(location: dict[str, Any], no_proxy: str) -> dict[str, Any]:
    """A location with the exceptions that a proxy in its own environment needs."""
    env = location.get("env") or {}
    return {**location, "env": {**env, **exceptions(env, filter(None, no_proxy.split(",")))}}


def _container(
    location: dict[str, Any],
    image: dict[str, Any],
    env: dict[str, str],
    volumes: list[str],
    secrets: str,
) -> dict[str, Any]:
    own_env = {name: str(value) for name, value in (location.get("env") or {}).items()}
    mounted = [*volumes, *(location.get("volumes") or [])]
    if location.get("secrets"):
        mounted.append(f"{secrets}/{location['name']}:{SECRETS}:ro")
    # The launcher merges container_kwargs only one level deep: a location's list replaces the instance's, so it is
    # whole.
    context = deep_merge(
        {
            "env_vars": [f"{name}={value}" for name, value in own_env.items()],
            "networks": list(location.get("networks") or []),
            "container_kwargs": {"volumes": mounted, "user": "0:0"},
        },
        location.get("container_context") or {},
    )
    kwargs = context["container_kwargs"]
    if given := kwargs.get("labels"):  # they replace those of the instance, too
        labels = given if isinstance(given, Mapping) else dict.fromkeys(given, "")
        kwargs["labels"] = {**labels, RUN_LABEL: ""}
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
            "DAGSTER_CONTAINER_CONTEXT": json.dumps({"docker": context}, sort_keys=True),
            **own_env,
        },
        "volumes": mounted,
        "networks": list(location.get("networks") or []),
        "mem_limit": location.get("mem_limit"),
        "cpus": location.get("cpus"),
        # root of the container: an unprivileged number on the host where the engine remaps users.
        "user": "0:0",
    }


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
