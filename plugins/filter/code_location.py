# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that turn dagster_code_locations into what the modules of role code_location take."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms, rights
from ansible_collections.dataops.dagster.plugins.module_utils._docker.forms import text
from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import RUN_LABEL
from ansible_collections.dataops.dagster.plugins.module_utils._proxies import exceptions
from ansible_collections.dataops.dagster.plugins.plugin_utils import run_rules
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.merge import merge_contexts
from ansible_collections.dataops.dagster.plugins.plugin_utils.dotenv import dotenv
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import step_containers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.code_location import CONTAINER_PORT as PORT
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes import escaped
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS

TARGET_OPTIONS = {"module": "-m", "package": "--package-name", "file": "-f"}
OPTIONAL = {"attribute": "-a", "working_directory": "-d"}
SECRETS = "/run/secrets"
ENV_FILE = ".env"  # as Dagster's loader calls it; no secret has a name that begins with a dot
# The server would read that file only with an instance of its own, which code must not find there. So this reads it, by
# the same parser, and becomes the server. Runs have an instance, and Dagster's loader reads the file in them.
WITH_SECRET_ENV = [
    "python3",
    "-c",
    "import os, sys; from dotenv import dotenv_values; "
    f"os.environ.update(dotenv_values('{SECRETS}/{ENV_FILE}')); os.execvp(sys.argv[1], sys.argv[1:])",
]
SERVERS = {"api-grpc": ["dagster", "api", "grpc"], "code-server": ["dagster", "code-server", "start"]}
SDK_NAMES = {"capabilities": "cap_add"}
LAZY = "--lazy-load-user-code"
# Dagster's own health check is content with a server whose code is broken. Exit code 3: broken for good, 127: this
# Python is not that of Dagster.
ASKED_FOR_CODE = [
    "python3",
    "-c",
    """import sys
try:
    from dagster._api.list_repositories import sync_list_repositories_grpc
    from dagster._core.errors import DagsterUserCodeProcessError
    from dagster._grpc.client import DagsterGrpcClient
except ImportError:
    sys.exit(127)
try:
    sync_list_repositories_grpc(DagsterGrpcClient(port={container_port}))
except DagsterUserCodeProcessError:
    sys.exit(3)
""",
]


def image_sources(locations: list[dict[str, Any]], pulls: bool = True, pods: bool = False) -> list[dict[str, Any]]:
    """Name and source of each location's image, as module code_images takes them. An empty option is none.

    A host that pulls nothing need not have what no registry is asked for. Pods pull by themselves.
    """
    return [
        {
            key: {name: value for name, value in location[key].items() if value} if key == "build" else location[key]
            for key in ("name", "image", "pull", "build", "archive")
            if location.get(key) and (key != "pull" or location.get("image"))
        }
        | ({"from_registry": True} if pods and location.get("image") else {})
        for location in locations
        if pulls or location.get("pull") != "never"
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
    """Folder and files of each location's secrets, as module files takes them; locations are those that start here.

    A folder of another location stays until nothing can mount it any more (secrets_left).
    """
    found: list[dict[str, Any]] = [{"dest": folder, "state": "directory", "mode": "0711"}]
    for location in filter(_has_secrets, locations):
        attributes = dict.fromkeys(("owner", "group"), str(int(owner) + user_number(location)))
        home = f"{folder}/{location['name']}"
        texts = {name: str(text) for name, text in (location.get("secrets") or {}).items()}
        if location.get("secret_env"):
            texts[ENV_FILE] = dotenv(location["secret_env"])
        found.append({"dest": home, "state": "directory", "mode": "0500", "purge": True, **attributes})
        found += [
            {"dest": f"{home}/{name}", "content": text, "secret": True, "mode": "0400", **attributes}
            for name, text in texts.items()
        ]
    return found


def secrets_left(paths: list[str], locations: list[dict[str, Any]], home: str) -> list[str]:
    """The folders of secrets and of logins, of all paths of a host, that no location that starts here has any more."""
    wanted = {f"{home}/secrets/{location['name']}" for location in filter(_has_secrets, locations)}
    wanted |= {f"{home}/users/{number}" for number in user_numbers(locations)}
    folders = (f"{home}/secrets", f"{home}/users")
    return sorted(path for path in paths if path.rpartition("/")[0] in folders and path not in wanted)


def _has_secrets(location: dict[str, Any]) -> bool:
    return bool(location.get("secrets") or location.get("secret_env"))


def _user(location: Mapping[str, Any]) -> str:
    """Who a location's code server and runs are. Root is an unprivileged number on the host where the engine remaps."""
    return forms.user(location.get("user")) or "0:0"


def user_number(location: Mapping[str, Any]) -> int:
    """The number in the container of the user of a location, 0 for root."""
    return int(forms.user(location.get("user")).partition(":")[0] or 0)


def user_numbers(locations: list[dict[str, Any]]) -> list[int]:
    """The numbers of all users of locations but root."""
    return sorted({user_number(location) for location in locations} - {0})


def state_writers(locations: list[dict[str, Any]], owner: int) -> list[int]:
    """The numbers on the host of all who write the state; none where root of the containers does alone."""
    numbers = user_numbers(locations)
    return [int(owner) + number for number in ([0, *numbers] if numbers else [])]


def user_files(
    files: list[dict[str, Any]], locations: list[dict[str, Any]], home: str, owner: int
) -> list[dict[str, Any]]:
    """The files that containers mount from home, once more for each user of a location that is not root.

    A client reads a password file only if it is the owner. owner is the number of the containers' root on the host.
    """
    users = f"{home}/users"
    numbers = user_numbers(locations)
    found: list[dict[str, Any]] = [{"dest": users, "state": "directory", "mode": "0711"}] if numbers else []
    for number in numbers:
        owned = dict.fromkeys(("owner", "group"), str(int(owner) + number))
        found.append({"dest": f"{users}/{number}", "state": "directory", "mode": "0711"})
        found += [
            {**spec, "dest": f"{users}/{number}{spec['dest'].removeprefix(home)}", **(owned if "owner" in spec else {})}
            for spec in files
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
    no_proxy: str = "",
    run_volumes: list[str] | None = None,
    steps: str = "",
    pods: bool = False,
) -> list[dict[str, Any]]:
    """Each location's container, as module code_containers takes it.

    env and volumes are what every code server has, run_volumes what every run has (those, without it); secrets is the
    folder of secret_files; default_port is the port on the host of a location that names none; every_run is what
    dagster_config gives to the container of each run; no_proxy is what a location reaches without the proxy that its
    own environment may name; steps is the folder of the sockets of runs that start steps; pods says that runs start in
    Kubernetes.
    """
    volumes_of = (volumes, volumes if run_volumes is None else run_volumes)
    return [
        {
            **_container(
                location := beside_a_proxy(given, no_proxy),
                images[given["name"]],
                env,
                volumes_of,
                secrets,
                of_pods(location)
                if pods
                else _contexts(location, _own(location, secrets, steps), volumes_of[1], every_run or {}),
                pods,
            ),
            "publish_address": publish_address,
            "port": int(location.get("port") or default_port),
        }
        for given in locations
    ]


def beside_a_proxy(location: dict[str, Any], no_proxy: str) -> dict[str, Any]:
    """A location with the exceptions that a proxy in its own environment needs."""
    env = location.get("env") or {}
    return {**location, "env": {**env, **exceptions(env, filter(None, no_proxy.split(",")))}}


def gate_runs(
    locations: list[dict[str, Any]],
    images: dict[str, dict[str, Any]],
    before: str,
    volumes: list[str],
    secrets: str,
    every_run: Mapping[str, Any],
    launcher: Mapping[str, Any],
    steps: str = "",
) -> str:
    """What the Docker gate knows of the runs of each location, as the text of its file.

    before is the text that it has now; volumes, every_run and steps are those of code_containers; launcher is what
    dagster.yaml says of all runs.
    """
    found = []
    for location in locations:
        docker = _contexts(location, _own(location, secrets, steps), volumes, every_run)["docker"]
        image = images[location["name"]]["ref"]
        found.append(run_rules.of_location(location["name"], image, launcher, docker, *_sockets(location, steps)))
    return run_rules.written(found, before)


def _own(location: dict[str, Any], secrets: str, steps: str) -> dict[str, Any]:
    """What a location itself says of its runs."""
    sockets = _sockets(location, steps)
    own_env = {name: text(value) for name, value in (location.get("env") or {}).items()}
    secret_env = bool(location.get("secret_env"))
    shared = _shared(location)
    return {
        "env_vars": [
            *(f"{name}={value}" for name, value in own_env.items()),
            *([f"DAGSTER_PROJECT_ENV_FILE_PATHS={json.dumps({location['name']: SECRETS})}"] if secret_env else []),
            *([step_containers.DOCKER_HOST] if sockets else []),
        ],
        "networks": shared["networks"],
        "container_kwargs": {
            "volumes": _own_volumes(location, secrets) + sockets,
            "user": _user(location),
            **_run_kwargs(shared),
        },
    }


def _sockets(location: dict[str, Any], steps: str) -> list[str]:
    """The volume with the socket of runs that start steps; steps is the folder of all of them."""
    return [step_containers.bind(location, steps)] if step_containers.wanted(location) else []


def _own_volumes(location: dict[str, Any], secrets: str) -> list[str]:
    """The volumes that a location's code server and runs have by itself."""
    hidden = [f"{secrets}/{location['name']}:{SECRETS}:ro"] if _has_secrets(location) else []
    return [*(location.get("volumes") or []), *hidden]


def _container(
    location: dict[str, Any],
    image: dict[str, Any],
    env: dict[str, str],
    volumes: tuple[list[str], list[str]],  # of the code server, of runs
    secrets: str,
    contexts: Mapping[str, Any],
    pods: bool,
) -> dict[str, Any]:
    own_env = {name: text(value) for name, value in (location.get("env") or {}).items()}
    folder, secret_env = f"{secrets}/{location['name']}", bool(location.get("secret_env"))
    mounted = [*_of_its_user(volumes[0], location), *_own_volumes(location, secrets)]
    shared = _shared(location)
    ref = image["ref"]
    return {
        "name": location["name"],
        "image": ref,
        "command": [*(WITH_SECRET_ENV if secret_env else []), *_command(location)],
        "reads": [f"{folder}/{ENV_FILE}"] if secret_env else [],
        "container_port": PORT,
        "env": {
            **env,
            # Without it a run fails 0.1 s after its start: the launcher does not know which image the code lives in.
            # A cluster pulls it by itself, so there it has the name by which its registry knows that very content.
            "DAGSTER_CURRENT_IMAGE": (image.get("registry_ref") or ref) if pods else ref,
            "DAGSTER_CONTAINER_CONTEXT": json.dumps(contexts, sort_keys=True),
            **own_env,
        },
        "volumes": mounted,
        **shared,
        "mem_limit": location.get("mem_limit"),
        "cpus": location.get("cpus"),
        **{key: location[key] for key in ("start_timeout", "stop_timeout") if location.get(key)},
        **({"health_command": ASKED_FOR_CODE} if _hides_broken_code(location) else {}),
        "user": _user(location),
    }


def _contexts(
    location: dict[str, Any], own: dict[str, Any], volumes: list[str], every_run: Mapping[str, Any]
) -> dict[str, Any]:
    """What the launcher is told of the runs of a location, by system.

    Its own merge replaces a list of all runs by that of the location, so what a location names is whole here.
    """
    given, others = context.parts(location.get("container_context"))
    named = {"volumes", "labels", *own[context.KWARGS], *(given.get(context.KWARGS) or {})}
    kwargs = {name: value for name, value in (every_run.get(context.KWARGS) or {}).items() if name in named}
    # Of what each run has, a location that names some of it has it all.
    ours: dict[str, Any] = {
        "volumes": _of_its_user(volumes, location),
        **{name: value for name, value in rights.kwargs().items() if name in named},
    }
    if any("labels" in found for found in (kwargs, own[context.KWARGS], given.get(context.KWARGS) or {})):
        # Not so among those of all runs: the launcher writes each run's ID into a mapping.
        ours["labels"] = {RUN_LABEL: ""}
    docker = merge_contexts({context.KWARGS: ours}, {context.KWARGS: kwargs}, own, given)
    # The launcher joins one network after the other, and Docker refuses one that it has joined.
    joined = every_run.get("networks") or []
    docker["networks"] = [name for name in docker.get("networks") or [] if name not in joined]
    return {**others, "docker": docker}


def of_pods(location: dict[str, Any]) -> dict[str, Any]:
    """What the launcher of Kubernetes is told of the runs of a location. It replaces $(NAME) in variables."""
    given = location.get("container_context") or {}
    own = [f"{name}={escaped(text(value))}" for name, value in (location.get("env") or {}).items()]
    return {"env_vars": [*own, *(given.get("env_vars") or [])], "k8s": given.get("k8s") or {}}


def _command(location: dict[str, Any]) -> list[str]:
    """The command of the code server."""
    command = [*SERVERS[location.get("server") or "api-grpc"], "-h", "0.0.0.0", "-p", str(PORT)]
    for key, option in {**TARGET_OPTIONS, **OPTIONAL}.items():
        if location.get(key):
            command += [option, str(location[key])]
    return command + [text(word) for word in location.get("arguments") or []]


def _hides_broken_code(location: dict[str, Any]) -> bool:
    """Whether its server answers although its code cannot be imported."""
    return location.get("server") == "code-server" or LAZY in (location.get("arguments") or [])


def _shared(location: dict[str, Any]) -> dict[str, Any]:
    """What code server and runs have alike, as code_containers takes it; what is not set is left out."""
    found: dict[str, Any] = {
        "labels": forms.labels(location.get("labels")),
        "extra_hosts": forms.extra_hosts(location.get("extra_hosts")),
        "capabilities": [forms.capability(item) for item in location.get("capabilities") or []],
        "devices": [forms.device(item) for item in location.get("devices") or []],
        "shm_size": location.get("shm_size"),
        "read_only": bool(location.get("read_only")),
    }
    networks = list(dict.fromkeys(location.get("networks") or []))
    return {"networks": networks, **{key: value for key, value in found.items() if value}}


def _run_kwargs(shared: dict[str, Any]) -> dict[str, Any]:
    """What code server and runs have alike, by the names that Docker's SDK has for it."""
    found = {SDK_NAMES.get(key, key): value for key, value in shared.items() if key != "networks"}
    if "shm_size" in found:
        found["shm_size"] = forms.parse_size(found["shm_size"])
    return {**found, **rights.of_read_only(found.get("read_only"))}


def _of_its_user(volumes: list[str], location: Mapping[str, Any]) -> list[str]:
    """The volumes of all containers, with the login that the user of a location can read."""
    number = user_number(location)
    parts = (volume.split(":") for volume in volumes)
    return [
        ":".join([f"{posixpath.dirname(source)}/users/{number}/{posixpath.basename(source)}", target, *mode])
        if number and target == CONTAINERS
        else ":".join([source, target, *mode])
        for source, target, *mode in parts
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {
            "image_sources": image_sources,
            "image_ids": image_ids,
            "secret_files": secret_files,
            "secrets_left": secrets_left,
            "user_files": user_files,
            "state_writers": state_writers,
            "code_containers": code_containers,
            "gate_runs": gate_runs,
        }
