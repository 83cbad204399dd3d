"""Who listens on a host: all of it in one answer, to be compared with what is meant to listen there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

PROGRAM = r"""
import grp, json, os, pwd, re, subprocess

def lines(options):
    done = subprocess.run(["ss", options], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.splitlines()

def unit(pid):
    for line in open(f"/proc/{pid}/cgroup"):
        for part in reversed(line.strip().split(":", 2)[2].split("/")):
            if part.endswith((".service", ".scope", ".socket")):
                return part
    return "init"

def holders(text):
    pids = sorted({int(pid) for pid in re.findall(r"pid=(\d+)", text)} - {1}) or [1] * ("pid=1," in text)
    names = set()
    for pid in pids:
        try:
            names.add((open(f"/proc/{pid}/comm").read().strip(), unit(pid)))
        except OSError:
            pass
    return " ".join(sorted(f"{comm} {name}" for comm, name in names)) or "nobody of this host"

found = set()
for line in lines("-Hltnup"):
    kind, _state, _received, _sent, address, *_rest = line.split()
    found.add(f"{kind} {address} {holders(line)}")
for line in lines("-Hlxp"):
    kind, _state, _received, _sent, path, *_rest = line.split()
    # HAProxy binds under a name of its own and renames the file.
    path = re.sub(r"\.\d+\.tmp$", "", re.sub("^/var/run/", "/run/", path))
    if kind == "u_dgr" or not path.startswith("/run/"):
        continue
    try:
        about = os.stat(path)
    except OSError:  # removed after a server was started anew: nobody can connect to it
        continue
    owner, group = pwd.getpwuid(about.st_uid).pw_name, grp.getgrgid(about.st_gid).gr_name
    found.add(f"unix {path} {owner}:{group} {about.st_mode & 0o7777:o} {holders(line)}")
print(json.dumps(sorted(found)))
"""

# What a host has before a role comes: Debian's own, and the name server that Docker puts into each host of the rig.
BASE = """
tcp 0.0.0.0:22 sshd ssh.service
tcp [::]:22 sshd ssh.service
tcp 127.0.0.11:* nobody of this host
udp 127.0.0.11:* nobody of this host
"""
# The engine of Debian beside its containers. containerd takes any free port of loopback.
ENGINE = """
tcp 127.0.0.1:* containerd containerd.service
unix /run/docker.sock root:docker 660 dockerd docker.service
"""
# Sockets of systemd, of D-Bus, and between the parts of the engine.
OTHERS = ("/run/systemd/", "/run/dbus/", "/run/containerd/", "/run/docker/")


def table(*texts: str, **values: str) -> set[str]:
    """The lines of texts, with $name replaced by its value."""
    found = set()
    for text in texts:
        for name, value in values.items():
            text = text.replace(f"${name}", value)
        found |= {line.strip() for line in text.splitlines() if line.strip()}
    return found


def known(lines: Iterable[str]) -> set[str]:
    """The lines as a table has them: a port that any start may change is *, and sockets of OTHERS are left out."""
    found = set()
    for line in lines:
        kind, address, *rest = line.split(" ")
        if kind == "unix" and address.startswith(OTHERS):
            continue
        if address.startswith("127.0.0.11:") or (rest[0] == "containerd" and address.startswith("127.0.0.1:")):
            address = address.rpartition(":")[0] + ":*"
        found.add(" ".join([kind, address, *rest]))
    return found


def listeners(host: Any) -> set[str]:
    """Every listener of a host: "tcp ADDRESS:PORT PROGRAM UNIT" and "unix PATH OWNER:GROUP MODE PROGRAM UNIT"."""
    return known(json.loads(host.check_output("python3 -c %s", PROGRAM)))


def assert_only(host: Any, meant: set[str]) -> None:
    """Exactly what is meant to listen does."""
    found = listeners(host)
    assert found == meant, f"listens unasked: {sorted(found - meant)}; does not listen: {sorted(meant - found)}"
