# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an engine says of itself, asked over its socket without the SDK: preflight comes before any package."""

from __future__ import annotations

import functools
import grp
import http.client
import json
import os
import typing as t
import urllib.parse

from .._host.proc import holders, listening_at
from .._socket import LocalConnection
from .labels import CONFIG_LABEL, LOCATION_LABEL, NETWORK, NETWORK_LABEL, RUN_ID_LABEL, STEP_LABEL

Json = dict[str, t.Any]
SCHEME = "unix://"
TIMEOUT = 10  # seconds for each answer


def sleeps(endpoint: str) -> bool:
    """Whether only systemd listens at a local socket: whoever asks there starts the engine, and its containers."""
    if not endpoint.startswith(SCHEME):
        return False
    inodes = listening_at(endpoint.removeprefix(SCHEME))
    return {owner.process for _inode, owner in holders(inodes)} == {"systemd"} if inodes else False


def has_image(endpoint: str, ref: str) -> bool:
    """Whether the engine at a local socket has an image; without an engine there is none."""
    if not endpoint.startswith(SCHEME) or sleeps(endpoint):
        return False
    connection = LocalConnection(endpoint.removeprefix(SCHEME), TIMEOUT)
    try:
        connection.request("GET", f"/images/{ref}/json")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def images(endpoint: str) -> dict[str, str]:
    """The ID of the image behind each name on the engine at a local socket; without an engine there is none."""
    if not endpoint.startswith(SCHEME) or sleeps(endpoint):
        return {}
    connection = LocalConnection(endpoint.removeprefix(SCHEME), TIMEOUT)
    try:
        listed = _get(connection, "/images/json")
        return {str(name): str(image["Id"]) for image in listed for name in image.get("RepoTags") or ()}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()


def ask(endpoint: str) -> Json:
    """What the engine at a local socket says; empty when none answers there, or only after being started."""
    path = endpoint.removeprefix(SCHEME)
    if sleeps(endpoint):
        return {}
    connection = LocalConnection(path, TIMEOUT)
    get = functools.partial(_get, connection)
    try:
        found = described(get("/version"), get("/info"), get("/networks"), get("/containers/json?all=1"))
        return {**found, "group": _group(path)}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()


def _get(connection: http.client.HTTPConnection, what: str) -> t.Any:
    connection.request("GET", what)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{what}: {answer.status}")
    return json.loads(body)


def run_container(endpoint: str, run_id: str) -> str:
    """What became of the container of a run, as a sentence; empty when there is none, or nobody to ask."""
    connection = LocalConnection(endpoint.removeprefix(SCHEME), TIMEOUT)
    wanted = urllib.parse.quote(json.dumps({"label": [f"{RUN_ID_LABEL}={run_id}"]}))
    try:
        every = _get(connection, f"/containers/json?all=1&filters={wanted}")
        found = [item for item in every if not (item.get("Labels") or {}).get(STEP_LABEL)]
        return _end(_get(connection, f"/containers/{found[0]['Id']}/json")["State"]) if found else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()


def _end(state: Json) -> str:
    """The state of a container as a sentence."""
    status, code = str(state.get("Status")), state.get("ExitCode")
    said = f"Its container is {status}"
    said += f" with code {code}" if status == "exited" else ""
    said += ", because it was out of memory" if state.get("OOMKilled") else ""
    return f"{said}: {state['Error']}." if state.get("Error") else f"{said}."


def described(version: Json, info: Json, networks: list[Json], containers: list[Json]) -> Json:
    """The engine's answers, reduced to what decides how it can be used."""
    options = {option.split(",")[0] for option in info.get("SecurityOptions") or ()}
    folder = str(info.get("DockerRootDir") or "")
    products = [str(part.get("Name")) for part in version.get("Components") or ()]
    return {
        "product": "Podman" if any("podman" in name.lower() for name in products) else "Docker",
        "version": str(version.get("Version") or ""),
        "api": str(version.get("ApiVersion") or "0.0"),
        "folder": folder,
        "rootless": "name=rootless" in options,
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "log_driver": str(info.get("LoggingDriver") or ""),
        "root": _root(folder) if "name=userns" in options else 0,
        "networks": [_network(network) for network in networks],
        "containers": [_container(item) for item in containers if not _is_ours(item)],
        "code_networks": _code_networks(containers),
        "stamps": _stamps(networks, containers),
        "run_mounts": _run_mounts(containers),
    }


def _run_mounts(containers: list[Json]) -> list[str]:
    """The paths of the host that runs mount that have not ended."""
    runs = [item for item in containers if RUN_ID_LABEL in (item.get("Labels") or {})]
    live = [item for item in runs if item.get("State") not in ("exited", "dead", "removing")]
    return sorted({str(mount["Source"]) for item in live for mount in item.get("Mounts") or () if mount.get("Source")})


def _code_networks(containers: list[Json]) -> list[str]:
    """The networks in which code servers are."""
    servers = [item for item in containers if CONFIG_LABEL in (item.get("Labels") or {})]
    return sorted({name for item in servers for name in (item.get("NetworkSettings") or {}).get("Networks") or {}})


def _stamps(networks: list[Json], containers: list[Json]) -> list[str]:
    """A line for each network of ours and each code server; it changes with what a run gets of them."""
    found = {f"network {item.get('Name')} {item.get('Id')}" for item in networks if _network(item)["ours"]}
    for item in containers:
        labels = item.get("Labels") or {}
        if CONFIG_LABEL in labels:
            found.add(f"location {labels.get(LOCATION_LABEL)} {item.get('ImageID')} {labels[CONFIG_LABEL]}")
    return sorted(found)


def _root(folder: str) -> int:
    """User number of root in a container: an engine that remaps users keeps its data in a folder of that name."""
    number = os.path.basename(folder).partition(".")[0]
    return int(number) if number.isdigit() else 0


def _network(network: Json) -> Json:
    configs = (network.get("IPAM") or {}).get("Config") or ()
    return {
        "name": str(network.get("Name")),
        "subnets": [str(config["Subnet"]) for config in configs if config.get("Subnet")],
        "ours": (network.get("Labels") or {}).get(NETWORK_LABEL) == NETWORK,
    }


def _is_ours(container: Json) -> bool:
    # Runs are many, have no fixed name and publish no port.
    return not {CONFIG_LABEL, RUN_ID_LABEL}.isdisjoint(container.get("Labels") or ())


def _container(container: Json) -> Json:
    """A container of somebody else: its name, and the ports of the host that it holds."""
    published = {
        (str(port.get("IP") or "0.0.0.0"), int(port["PublicPort"]))
        for port in container.get("Ports") or ()
        if port.get("PublicPort") and port.get("Type") == "tcp"
    }
    names = container.get("Names") or ["/?"]
    return {
        "name": str(names[0]).lstrip("/"),
        "published": [{"address": address, "port": port} for address, port in sorted(published)],
    }


def _group(path: str) -> str:
    """The group that may use the socket."""
    number = os.stat(path).st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
