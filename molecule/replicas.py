"""The webserver replicas of the cluster as the hosts see them: their units, and their place in each edge's HAProxy."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from typing import Any

import processes
from deployment import machine, until

ADMIN = "/run/haproxy-dagster/admin.sock"
BACKEND = "dagster_webserver"
ROTATION = 60.0  # seconds in which a replica that was told to drain or to come back has done so in every HAProxy
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect(sys.argv[1])
    admin.sendall(sys.argv[2].encode() + b"\\n")
    while part := admin.recv(65536):
        sys.stdout.buffer.write(part)
"""


@dataclass(frozen=True)
class Server:
    """A replica in one HAProxy: its state there, and how many requests it had from there."""

    state: str
    requests: int

    @property
    def serves(self) -> bool:
        """Whether new requests go to it. "UP 1/2" is on its way down and does; DRAIN, NOLB, DOWN and MAINT do not."""
        return self.state.startswith("UP")


class Edge:
    """A host with nginx, HAProxy and replicas."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.host: Any = machine(name)

    def __call__(self, command: str, *words: str) -> str:
        answer: str = self.host.check_output(command, *words)
        return answer

    def servers(self) -> dict[str, Server]:
        """The servers of HAProxy's backend by address:port. An edge may reach its own replicas on loopback."""
        state = self("python3 -c %s %s %s", ASK, ADMIN, f"show servers state {BACKEND}").splitlines()
        head = next(line for line in state if line.startswith("# "))[2:].split()
        known = {}
        for line in state:
            row = dict(zip(head, line.split(), strict=False))
            if row.get("be_name") == BACKEND:
                address = self.address if row["srv_addr"].startswith("127.") else row["srv_addr"]
                known[row["srv_name"]] = f"{address}:{row['srv_port']}"
        stat = self("python3 -c %s %s %s", ASK, ADMIN, "show stat").removeprefix("# ")
        return {
            known[row["svname"]]: Server(row["status"], int(row["stot"]))
            for row in csv.DictReader(stat.splitlines())
            if row["pxname"] == BACKEND and row["svname"] in known
        }

    def replicas(self) -> list[Replica]:
        """One for each unit that runs."""
        listed = self("systemctl list-units --state=active --plain --no-legend 'dagster-webserver@*' | cut -d' ' -f1")
        return [Replica(self, int(unit.split("@")[1].removesuffix(".service"))) for unit in listed.split()]


@dataclass(frozen=True)
class Replica:
    """One unit dagster-webserver@PORT."""

    edge: Edge
    port: int

    def __str__(self) -> str:
        return f"{self.edge.name}:{self.port}"

    @property
    def unit(self) -> str:
        return f"dagster-webserver@{self.port}"

    @property
    def address(self) -> str:
        return f"{self.edge.address}:{self.port}"

    @property
    def pid(self) -> str:
        return self.edge(f"systemctl show -p MainPID --value {self.unit}").strip()

    @property
    def ready(self) -> bool:
        """Whether its first answer came: the unit is Type=notify."""
        return self.edge.host.run(f"systemctl is-active {self.unit}").stdout.strip() == "active"

    @property
    def cpu(self) -> float:
        """CPU seconds of its control group, or of its process where systemd keeps no accounts."""
        shown = self.edge(f"systemctl show -p CPUUsageNSec --value {self.unit}").strip()
        if shown.isdigit() and int(shown) < 2**64 - 1:
            return int(shown) / 1e9
        return processes.cpu(self.edge, self.pid)

    def systemctl(self, verb: str) -> None:
        self.edge(f"systemctl {verb} {self.unit}")

    def drain(self, drained: bool) -> None:
        """Leaves the rotation, or comes back, without a restart: what its unit does before it stops."""
        folder = self.edge(f"systemctl show -p RuntimeDirectory --value {self.unit}").strip()
        assert folder, f"{self.unit} has no RuntimeDirectory, so nothing tells it to drain"
        path = f"/run/{folder}/draining"
        self.edge(f"touch {path}" if drained else f"rm -f {path}")


def in_rotation(edges: list[Edge], replica: Replica) -> list[bool]:
    """Whether the HAProxy of each edge sends requests to a replica."""
    return [edge.servers()[replica.address].serves for edge in edges]


def requests(edges: list[Edge]) -> dict[str, int]:
    """Requests of each replica since HAProxy's start, all edges together."""
    total: dict[str, int] = {}
    for edge in edges:
        for address, server in edge.servers().items():
            total[address] = total.get(address, 0) + server.requests
    return total


def leaves(edges: list[Edge], replica: Replica, seconds: float = ROTATION) -> float:
    """Seconds until no edge sends requests to a replica."""
    since = time.monotonic()
    until(lambda: not any(in_rotation(edges, replica)), seconds, f"{replica} is out of rotation", every=0.2)
    return time.monotonic() - since


def returns(edges: list[Edge], replicas: list[Replica], seconds: float = ROTATION) -> float:
    """Seconds until every edge sends requests to every replica."""
    since = time.monotonic()

    def serve() -> bool:
        return all(all(in_rotation(edges, replica)) for replica in replicas)

    until(serve, seconds, f"{', '.join(map(str, replicas))} are in rotation", every=0.2)
    return time.monotonic() - since
