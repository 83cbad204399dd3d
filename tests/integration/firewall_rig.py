"""A host with containers and neighbours, made of network namespaces: what the kernel does with the rules of a host.

Nothing of the machine is touched: all namespaces belong to one of an unprivileged user, and end with their processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).resolve().parents[2]
NFT = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin") or ""
TEMPLATE = ROOT / "roles/firewall/templates/etc/firewall-dagster.nft.j2"
TIMEOUT = 3  # seconds until a connection counts as refused: far more than a busy machine needs
LAN = ("10.0.0.2", "10.0.0.3", "10.0.0.99", "fd00::2", "fd00::3", "fd00::99")
OTHER = "10.0.0.7"  # a second address of the host, of which the inventory knows nothing
RUN, CODE, METADATA = "172.30.0.2", "172.30.1.2", "169.254.169.254"
# Every neighbour, container and the host listen on all of these.
PORTS = (22, 53, 80, 2378, 3000, 4000, 5432, 9999, 13000)

SERVER = r"""
import json, selectors, socket, sys
ready = selectors.DefaultSelector()
for port in json.loads(sys.argv[1]):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    ready.register(server, selectors.EVENT_READ, True)
print("ready", flush=True)
while True:
    for key, _event in ready.select():
        if key.data:
            connection, _peer = key.fileobj.accept()
            connection.sendall(b"hello\n")
            ready.register(connection, selectors.EVENT_READ, False)
            continue
        try:
            text = key.fileobj.recv(100)
        except OSError:
            text = b""
        if text:
            key.fileobj.sendall(text)
        else:
            ready.unregister(key.fileobj)
            key.fileobj.close()
"""
# All at once: a packet that is dropped costs the whole timeout.
CLIENT = r"""
import concurrent.futures, json, socket, sys
wanted, timeout = json.loads(sys.argv[1]), float(sys.argv[2])
def reached(source, address, port):
    try:
        with socket.create_connection((address, port), timeout, (source, 0) if source else None) as connection:
            connection.settimeout(timeout)
            return connection.recv(6) == b"hello\n"
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(lambda one: reached(*one), wanted))))
"""
# One connection: a line in, the same line out.
TALKER = r"""
import socket, sys
connection = socket.create_connection((sys.argv[2], int(sys.argv[3])), 5, (sys.argv[1], 0))
connection.settimeout(3)
connection.recv(6)
print("open", flush=True)
for line in sys.stdin:
    try:
        connection.sendall(line.encode())
        print(connection.recv(100).decode().strip() or "closed", flush=True)
    except OSError as error:
        print(f"broken: {error}", flush=True)
"""
# The beginning of a connection in two fragments of IPv6, and whether it is answered. Kernels since 5.11 refuse a first
# one that is too short for the flags; before, rules without state could not judge it.
FRAGMENTS = r"""
import socket, struct, sys
source, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
packed = [socket.inet_pton(socket.AF_INET6, text) for text in (source, address)]
segment = struct.pack("!HHIIBBHHH", 40000 + port % 1000, port, 7, 0, 10 << 4, 2, 64000, 0, 0) + b"\x01" * 20
padded = b"".join(packed) + struct.pack("!IHBB", len(segment), 0, 0, 6) + segment
total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
total = (total & 0xFFFF) + (total >> 16)
total = (total & 0xFFFF) + (total >> 16)
segment = segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]
answers = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)
answers.settimeout(3)
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
for offset, part in ((1, segment[:24]), (24, segment[24:])):  # the last bit says that more come
    body = struct.pack("!BBHI", 6, 0, offset, 4711 + port) + part
    raw.sendto(struct.pack("!IHBB", 6 << 28, len(body), 44, 64) + b"".join(packed) + body, (address, 0))
try:
    while struct.unpack("!HH", answers.recv(100)[:4]) != (port, 40000 + port % 1000):
        pass
    print("answered")
except OSError:
    print("silence")
"""
# As an engine of Docker hands a published port on, and lets containers out.
ENGINE = """
table ip engine
delete table ip engine
table ip engine {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local tcp dport 4000 dnat to 172.30.1.2:4000
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local tcp dport 4000 dnat to 172.30.1.2:4000
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.30.0.0/24 oifname != "runs" masquerade
        ip saddr 172.30.1.0/24 oifname != "code" masquerade
        ip saddr 172.30.1.2 ip daddr 172.30.1.2 tcp dport 4000 masquerade
    }
}
"""


def rules(plan: Any, facts: dict[str, Any], *, metadata: bool = False) -> str:
    """The file that role firewall writes on the host of a plan."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)  # noqa: S701 - no HTML
    environment.filters["bool"] = bool
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    handed = {"firewall": plan.known["firewall"].handed(facts), "names": plan.names.fixed}
    own = {"__dagster_firewall_closed": False, "__dagster_firewall_runs": not handed["firewall"]["runs_wait"]}
    return template.render(dagster_plan=handed, dagster={"firewall_run_metadata": metadata}, **own)


class Namespace:
    """A network of its own, as long as its process."""

    def __init__(self, host: Namespace | None = None) -> None:
        argv = [*(host.enter if host else []), "unshare", *([] if host else ["--map-root-user"]), "--net"]
        self.process = subprocess.Popen([*argv, "sleep", "infinity"])
        self.children: list[subprocess.Popen[str]] = []
        own = os.readlink(f"/proc/{host.process.pid if host else 'self'}/ns/net")
        for _try in range(200):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{self.process.pid}/ns/net") not in (own, os.readlink("/proc/self/ns/net")):
                    break
            assert self.process.poll() is None, "no network namespace can be made here (unshare --map-root-user --net)"
            time.sleep(0.05)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def enter(self) -> list[str]:
        """What comes before a command that runs in it."""
        return ["nsenter", "--target", str(self.process.pid), "--user", "--net", "--preserve-credentials"]

    def run(self, *argv: str, text: str | None = None, env: dict[str, str] | None = None) -> str:
        """The output of a command that has to succeed."""
        done = subprocess.run(
            [*self.enter, *argv], input=text, capture_output=True, text=True, check=False, timeout=60, env=env
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def nft(self, text: str) -> None:
        """Loads rules."""
        self.run(NFT, "-f", "-", text=text)

    def listing(self, *table: str) -> str:
        """What the kernel has, without the counters."""
        return self.run(NFT, "-s", "list", *(["table", *table] if table else ["ruleset"]))

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts a program, and waits for its first line."""
        argv = [*self.enter, "python3", "-c", program, *arguments]
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        self.children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline().strip() in ("ready", "open")
        return child

    def reached(self, *wanted: tuple[str, str, int]) -> dict[tuple[str, str, int], bool]:
        """Whether each connection (source, or empty for any; address; port) gets an answer."""
        found = json.loads(self.run("python3", "-c", CLIENT, json.dumps(wanted), str(TIMEOUT)))
        return dict(zip(wanted, found, strict=True))

    def end(self) -> None:
        """Ends it with all its programs."""
        for child in self.children:
            child.kill()
            child.wait()
        self.process.kill()
        self.process.wait()


class World:
    """The host, the hosts beside it (all addresses in one namespace), a run and a code server."""

    def __init__(self) -> None:
        self.host = Namespace()
        self.lan, self.run, self.code = (Namespace(self.host) for _each in range(3))
        self.every = (self.lan, self.run, self.code, self.host)
        for name, space, own in (
            ("lan", self.lan, "10.0.0.1/24"),
            ("runs", self.run, "172.30.0.1/24"),
            ("code", self.code, "172.30.1.1/24"),
        ):
            peer = str(space.process.pid)
            self.host.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", peer)
            self.host.run("ip", "address", "add", own, "dev", name)
            self.host.run("ip", "link", "set", name, "up")
            space.run("ip", "link", "set", "eth0", "up")
        self.host.run("ip", "address", "add", f"{OTHER}/24", "dev", "lan")
        self.host.run("ip", "-6", "address", "add", "fd00::1/64", "dev", "lan", "nodad")
        for address in LAN:
            flags = ["nodad"] if ":" in address else []
            prefix = 64 if ":" in address else 24
            self.lan.run("ip", "address", "add", f"{address}/{prefix}", "dev", "eth0", *flags)
        self.lan.run("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
        # A neighbour that knows the way to containers.
        self.lan.run("ip", "route", "add", "172.30.0.0/16", "via", "10.0.0.1")
        for space, address in ((self.run, RUN), (self.code, CODE)):
            space.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            space.run("ip", "route", "add", "default", "via", f"{address[:-1]}1")
        self.host.run("ip", "route", "add", f"{METADATA}/32", "via", "10.0.0.99")
        self.host.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        self.host.nft(ENGINE)
        for space in self.every:
            space.start(SERVER, json.dumps(PORTS))

    def end(self) -> None:
        """Ends all of it."""
        for space in self.every:
            space.end()


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A world for some tests."""
    made = World()
    try:
        yield made
    finally:
        made.end()
