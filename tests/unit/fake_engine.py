"""A Docker engine in memory, as far as code_containers asks one: containers with a state, and calls that can fail.

A container is healthy, ends at once or never answers by the word after its program: `serve`, `bad`, `deaf`.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from docker.errors import APIError
from requests import Response

Json = dict[str, Any]


def refusal(status: int, words: str) -> APIError:
    """What the SDK raises when the engine answers so."""
    answer = Response()
    answer.status_code = status
    return APIError("", response=answer, explanation=words)


def _device(text: str) -> Json:
    return dict(zip(("PathOnHost", "PathInContainer", "CgroupPermissions"), text.split(":"), strict=True))


class Api:
    """Stands for docker.APIClient. Each call that changes something is noted, and can be made to fail once."""

    def __init__(self) -> None:
        self.held: dict[str, Json] = {}
        self.images = {f"code:{number}": {"Id": f"sha256:{number}", "Config": {}} for number in (1, 2)}
        self.networks_held = {"dagster": "n1", "extra": "n2"}
        self.calls: list[str] = []
        # How many more calls of this kind are let through before one fails.
        self.failing: dict[str, int] = {}
        self.names = (f"c{number}" for number in itertools.count())

    def _note(self, call: str, *words: object) -> None:
        self.calls.append(" ".join([call, *map(str, words)]))
        if call in self.failing:
            self.failing[call] -= 1
            if self.failing[call] < 0:
                del self.failing[call]
                raise refusal(500, f"no {call} today")

    def _one(self, container: str) -> Json:
        for item in self.held.values():
            if container in (item["Id"], item["Name"].lstrip("/")):
                return item
        raise refusal(404, f"No such container: {container}")

    # --- looking

    def containers(self, all: bool = False, filters: Json | None = None) -> list[Json]:
        labels, published = set((filters or {}).get("label", ())), (filters or {}).get("publish")
        return [
            {"Id": item["Id"], "Names": [item["Name"]], "Image": item["Config"]["Image"]}
            for item in self.held.values()
            if (all or item["State"]["Running"])
            and labels <= set(item["Config"]["Labels"])
            and published in {None, *(port[0]["HostPort"] for port in item["HostConfig"]["PortBindings"].values())}
        ]

    def inspect_container(self, container: str) -> Json:
        return copy.deepcopy(self._one(container))

    def inspect_image(self, reference: str) -> Json:
        if reference not in self.images:
            raise refusal(404, f"No such image: {reference}")
        return self.images[reference]

    def networks(self, names: list[str]) -> list[Json]:
        return [{"Name": name, "Id": number} for name, number in self.networks_held.items() if name in names]

    def logs(self, container: str, **_how: Any) -> bytes:
        return f"log of {container}\n".encode()

    # --- making

    create_host_config = create_networking_config = create_endpoint_config = staticmethod(
        lambda *given, **named: given[0] if given else named
    )

    def create_container(self, image: str, command: list[str], **given: Any) -> Json:
        self._note("create", given["name"])
        if any(item["Name"] == f"/{given['name']}" for item in self.held.values()):
            raise refusal(409, "name in use")
        host, number = given["host_config"], next(self.names)
        self.held[number] = {
            "Id": number,
            "Name": f"/{given['name']}",
            "Image": self.images[image]["Id"],
            "RestartCount": 0,
            "State": {"Status": "created", "Running": False},
            "Config": {
                "Image": image,
                "Cmd": command,
                "User": given["user"] or "",
                "Env": [f"{name}={value}" for name, value in given["environment"].items()],
                "Labels": given["labels"],
                "StopTimeout": given["stop_timeout"],
            },
            "HostConfig": {
                "Binds": host["binds"],
                "PortBindings": {
                    f"{inner}/tcp": [{"HostIp": outer[0], "HostPort": str(outer[1])}]
                    for inner, outer in (host["port_bindings"] or {}).items()
                },
                "Memory": host["mem_limit"] or 0,
                "NanoCpus": host["nano_cpus"] or 0,
                "NetworkMode": host["network_mode"],
                "RestartPolicy": host["restart_policy"],
                "ExtraHosts": [f"{name}:{address}" for name, address in (host["extra_hosts"] or {}).items()],
                "CapAdd": host.get("cap_add"),
                "CapDrop": host.get("cap_drop"),
                "SecurityOpt": host.get("security_opt"),
                "ReadonlyRootfs": host.get("read_only", False),
                "Tmpfs": host.get("tmpfs"),
                "Devices": [_device(item) for item in host.get("devices", ())],
                "ShmSize": host.get("shm_size") or 64 * 2**20,
                "LogConfig": host.get("log_config") or {"Type": "json-file", "Config": {}},
            },
            "NetworkSettings": {"Networks": {host["network_mode"]: {"NetworkID": "n1"}}},
        }
        return {"Id": number}

    def connect_container_to_network(self, container: str, network: str) -> None:
        self._note("connect", container, network)
        networks = self._one(container)["NetworkSettings"]["Networks"]
        networks[network] = {"NetworkID": self.networks_held[network]}

    def disconnect_container_from_network(self, container: str, network: str) -> None:
        self._note("disconnect", container, network)
        del self._one(container)["NetworkSettings"]["Networks"][network]

    # --- changing

    def start(self, container: str) -> None:
        self._note("start", container)
        item = self._one(container)
        item["State"] = {"Status": "running", "Running": True}
        if item["Config"]["Cmd"][-1] == "bad":
            item["State"] = {"Status": "exited", "Running": False, "ExitCode": 7}

    def unpause(self, container: str) -> None:
        self._note("unpause", container)
        self._one(container)["State"] = {"Status": "running", "Running": True}

    def stop(self, container: str, timeout: int) -> None:
        self._note("stop", container, timeout)
        self._one(container)["State"] = {"Status": "exited", "Running": False, "ExitCode": 0}

    def rename(self, container: str, name: str) -> None:
        self._note("rename", container, name)
        self._one(container)["Name"] = f"/{name}"

    def remove_container(self, container: str, **how: bool) -> None:
        self._note("remove", container, *sorted(how))
        del self.held[self._one(container)["Id"]]

    def _url(self, path: str, container: str) -> str:
        return path.format(container)

    def _post_json(self, url: str, data: Json) -> tuple[str, Json]:
        return url, data

    def _result(self, asked: tuple[str, Json], _json: bool) -> None:
        container = asked[0].split("/")[2]
        self._note("update", container, sorted(asked[1].items()))
        self._one(container)["HostConfig"].update(asked[1])

    # --- health

    def exec_create(self, container: str, _command: list[str]) -> Json:
        self._note("exec", container)
        return {"Id": container}

    def exec_start(self, _number: str, detach: bool) -> None:
        assert detach

    def exec_inspect(self, number: str) -> Json:
        return {"Running": False, "ExitCode": 1 if self._one(number)["Config"]["Cmd"][-1] == "deaf" else 0}


class Engine:
    """Stands for the Engine of module_utils/_docker; not local, so ports are those of another machine."""

    endpoint = "tcp://engine:2376"
    local = False

    def __init__(self) -> None:
        self.api = Api()
