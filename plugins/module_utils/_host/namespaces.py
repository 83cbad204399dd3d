# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a unit's sandbox works on this host. In a container, or with a strict kernel, it may stop the unit."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os

from ansible_collections.dataops.dagster.plugins.module_utils._host.proc import read

CLONE_NEWUSER = 0x10000000  # linux/sched.h
WHOLE = ["0", "0", "4294967295"]  # the users of a process that is in no user namespace but the first
MAP = "0 0 1\n65534 65534 1\n"  # root and another user, each as itself


def user_namespaces() -> bool:
    """Whether root can make a user namespace with two users in it, as systemd does for a unit with PrivateUsers=."""
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            refused = ctypes.CDLL(None).unshare(CLONE_NEWUSER)
            os.write(ready[1], b"n" if refused else b"y")
            os.read(mapped[0], 1)  # the namespace ends with this process
        finally:
            os._exit(0)
    try:
        if os.read(ready[0], 1) != b"y":
            return False
        for name, text in (("setgroups", "allow"), ("uid_map", MAP), ("gid_map", MAP)):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as stream:
                stream.write(text)
    except OSError:
        return False
    else:
        return True
    finally:
        with contextlib.suppress(OSError):
            os.write(mapped[1], b"e")
        os.waitpid(child, 0)
        for number in (*ready, *mapped):
            os.close(number)


def own_proc(users: str) -> bool:
    """Whether a unit gets a /proc of its own: in a user namespace the kernel may refuse one. users is a uid_map."""
    return users.split() in ([], WHOLE)


def facts() -> dict[str, bool]:
    """Both, by the names that lookup sandbox knows."""
    return {"user_namespaces": user_namespaces(), "own_proc": own_proc(read("/proc/self/uid_map"))}


def container_root(daemon_json: str, subuid: str) -> int:
    """User number on the host of root in a container, from the engine's settings and /etc/subuid."""
    try:
        remap = str(json.loads(daemon_json or "{}").get("userns-remap", ""))
    except (ValueError, AttributeError):  # the engine itself would refuse such a file
        return 0
    user = "dockremap" if remap == "default" else remap.partition(":")[0]
    for line in subuid.splitlines():
        if user and line.startswith(f"{user}:"):
            return int(line.split(":")[1])
    return 0
