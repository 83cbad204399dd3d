"""Which ports are reached from where, asked by real connections."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

Pair = tuple[str, int]
UNIT, TABLE = "firewall-dagster", "inet dagster_firewall"
# All at once: what is dropped costs the whole timeout.
PROGRAM = r"""
import concurrent.futures, json, socket, sys
def reached(pair):
    try:
        socket.create_connection(pair, 3).close()
    except OSError:
        return False
    return True
pairs = [tuple(pair) for pair in json.loads(sys.argv[1])]
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(reached, pairs))))
"""
CODE = "docker exec dagster-code-pipeline python"


def in_run_network(host: Any) -> str:
    """What runs a program as a run would: in a container of its image and network."""
    image = host.check_output("docker inspect -f '{{.Config.Image}}' dagster-code-pipeline")
    return f"docker run --rm --network dagster {image} python"


def reached(host: Any, pairs: Iterable[Pair], python: str = "python3") -> dict[Pair, bool]:
    """Whether each address and port answers from a host, or from what is run there."""
    wanted = list(pairs)
    found = json.loads(host.check_output(f"{python} -c {shlex.quote(PROGRAM)} {shlex.quote(json.dumps(wanted))}"))
    return dict(zip(wanted, found, strict=True))


def table(host: Any) -> str:
    """The rules of ours that a host has, without their order: the kernel has one of its own in each set."""
    listed: str = host.run(f"nft -s list table {TABLE}").stdout
    return " ".join(sorted(listed.replace(",", " ").split()))


def without(host: Any) -> None:
    """Takes the table away, for the control. A restart of the unit brings it back."""
    host.check_output(f"nft delete table {TABLE}")


def again(host: Any) -> None:
    """Brings it back."""
    host.check_output(f"systemctl restart {UNIT}")
