"""What the program of a unit can reach of the host and of other units, tried in a copy of that unit.

The copy has the unit's own file and drop-ins: user, paths, credentials and sandbox are those of the unit. Only its
command is another one. The control is the same program in a unit without any of that, as the same user.
"""

from __future__ import annotations

import json
from typing import Any

from deployment import until
from processes import one_process

NAME = "of-the-attempts"
SETUID, OUTSIDE = f"/usr/local/bin/id-{NAME}", f"/srv/{NAME}"
PROGRAM, SHOWN = f"/run/{NAME}.py", f"/run/{NAME}.json"
SECRET = "not-a-real-secret-of-a-victim"
# The program's arguments: the state folder, the folder of compute logs, a process of the same user that has SECRET in
# its environment, the credential of another unit. Each attempt that succeeds is undone.
ATTEMPTS = r"""
import ctypes, json, mmap, os, socket, subprocess, sys

state, logs, victim, credential, outside, setuid, secret = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def call(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")

def write(folder):
    path = f"{folder}/of-the-attempts-{os.getpid()}"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(path)

def expect(right):
    if not right:
        raise OSError("not so")

def read(path, part=b""):
    with open(path, "rb") as stream:
        expect(part in stream.read())

def trace():
    child = os.fork()
    if child == 0:
        os.read(hold[0], 1)
        os._exit(0)
    try:
        call(libc.ptrace(0x4206, child, 0, 0))  # PTRACE_SEIZE
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)

def in_a_child(attempt):
    child = os.fork()
    if child == 0:
        try:
            attempt()
            os._exit(0)
        except BaseException:
            os._exit(1)
    expect(os.waitpid(child, 0)[1] == 0)

hold = os.pipe()
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
attempts = {
    "write its state": lambda: write(state),
    "write compute logs": lambda: write(logs),
    "write outside of its state": lambda: write(outside),
    "read the credential of another unit": lambda: read(credential, b":"),
    "read the environment of another process": lambda: read(f"/proc/{victim}/environ", secret.encode()),
    "see another process": lambda: os.stat(f"/proc/{victim}"),
    "read the files of another process": lambda: os.stat(f"/proc/{victim}/root/usr"),
    "trace its own child": trace,
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "become root by a setuid program": lambda: expect(subprocess.check_output([setuid, "-u"]) == b"0\n"),
    "make a user namespace": lambda: in_a_child(lambda: call(libc.unshare(0x10000000))),
    "write and execute memory": lambda: mmap.mmap(-1, 4096, prot=7).close(),
}
can = []
for name, attempt in attempts.items():
    try:
        attempt()
        can.append(name)
    except (OSError, subprocess.SubprocessError):
        pass
print(json.dumps(sorted(can)), flush=True)
"""
ALL = {
    "write its state",
    "write compute logs",
    "write outside of its state",
    "read the credential of another unit",
    "read the environment of another process",
    "see another process",
    "read the files of another process",
    "trace its own child",
    "open a raw socket",
    "become root by a setuid program",
    "make a user namespace",
    "write and execute memory",
}


class Attempts:
    """On one host. Use it as a context: it takes away what it has made."""

    def __init__(self, host: Any, user: str, state: str) -> None:
        self.host, self.user, self.state = host, user, state
        self.victim = ""

    def __enter__(self) -> Attempts:
        check = self.host.check_output
        check("printf %%s %s >%s", ATTEMPTS, PROGRAM)
        check("mkdir -p %s && chmod 1777 %s && cp /usr/bin/id %s && chmod 4755 %s", OUTSIDE, OUTSIDE, SETUID, SETUID)
        check(
            "systemd-run -q --collect --unit=victim-%s -p User=%s -E SECRET=%s sleep 900",
            *(NAME, self.user, SECRET),
        )
        shown = check("systemctl show -p MainPID --value victim-%s", NAME)
        self.victim = one_process(shown, "the victim")
        until(lambda: "sleep" in check("cat /proc/%s/comm", self.victim), 20, "the victim has begun")
        return self

    def __exit__(self, *_error: object) -> None:
        self.host.run("systemctl stop victim-%s", NAME)
        self.host.check_output("rm -rf %s %s %s %s", PROGRAM, SHOWN, OUTSIDE, SETUID)

    def command(self, other: str, logs: str = "") -> str:
        """The program with its arguments; other is a unit whose credential it tries to read."""
        credential = f"/run/credentials/{other}/pgpass"
        words = (self.state, logs or f"{self.state}/compute_logs", self.victim, credential, OUTSIDE, SETUID, SECRET)
        return f"/usr/bin/python3 {PROGRAM} {' '.join(words)}"

    def without_a_sandbox(self, other: str) -> set[str]:
        """The control: what the same user can do."""
        said = self.host.check_output(
            f"systemd-run -q --wait --pipe --collect --unit=control-{NAME} -p User={self.user}"
            f" -p AmbientCapabilities=CAP_NET_RAW {self.command(other)}"
        )
        return set(json.loads(said))

    def inside(self, unit: str, other: str) -> set[str]:
        """What a program can do that systemd starts as it starts a unit."""
        check = self.host.check_output
        # Its name begins as that of the unit does, so it has the drop-ins of the unit.
        prefix = unit.partition("-")[0]
        template, copy = (f"{prefix}-{NAME}@.service", f"{prefix}-{NAME}@3999.service") if "@" in unit else ("", "")
        template, copy = template or f"{prefix}-{NAME}.service", copy or f"{prefix}-{NAME}.service"
        folder = "/run/systemd/system"
        fragment = check("systemctl show -p FragmentPath --value %s", unit)
        lines = (
            "[Service]",
            "Type=exec",
            "WatchdogSec=0",
            "Restart=no",
            "RuntimeDirectoryPreserve=yes",  # it is the unit's own
            "ExecStop=",
            "ExecStart=",
            f"ExecStart={self.command(other)}",
            f"StandardOutput=truncate:{SHOWN}",
        )
        check("mkdir -p %s/%s.d && cp %s %s/%s", folder, copy, fragment, folder, template)
        # haproxy-NAME has its sandbox in a folder of its own name.
        check("if [ -d %s.d ]; then cp %s.d/*.conf %s/%s.d/; fi", fragment, fragment, folder, copy)
        check("printf '%%s\n' %s >%s/%s.d/zz.conf", "\n".join(lines), folder, copy)
        try:
            check("rm -f %s; systemctl daemon-reload; systemctl start %s", SHOWN, copy)
            found: set[str] = until(
                # Only a whole line is an answer.
                lambda: set(json.loads(check("grep -x '[[].*[]]' %s", SHOWN))),
                60,
                f"the copy of {unit} has answered",
            )
            return found
        finally:
            self.host.run("systemctl stop %s; systemctl reset-failed %s", copy, copy)
            check("rm -rf %s/%s.d %s/%s; systemctl daemon-reload", folder, copy, folder, template)
