"""What a service of the deployment can do to its host, asked from inside of its sandbox and without one."""

from __future__ import annotations

import json
import re
from typing import Any

from deployment import until
from processes import one_process

# A few calls of each kind that the filter is about. systemd lists several hundred.
CALLS = {"read", "connect", "chown", "chroot", "mount", "ptrace", "reboot", "sched_setaffinity", "setgroups", "setuid"}
# What the drop-in of all our units says, and what systemd makes of it.
PROPERTIES = {
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateIPC": "yes",
    "PrivateMounts": "yes",
    "PrivateUsers": "yes",
    "ProtectProc": "ptraceable",
    "ProtectHostname": "yes",
    "ProtectClock": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "SystemCallArchitectures": "native",
    # Of the calls in CALLS, those that are let through.
    "SystemCallFilter": "connect read",
    "RestrictSUIDSGID": "yes",
    "RestrictRealtime": "yes",
    "LockPersonality": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "UMask": "0027",
    # Not asked for, and no merge may bring them either.
    "BindPaths": "",
    "PAMName": "",
    "RootDirectory": "",
    "PermissionsStartOnly": "",
    "SecureBits": "0",
}

# HAProxy begins as root, and its workers become another user.
HAPROXY = {
    **PROPERTIES,
    "PrivateUsers": "no",
    "MemoryDenyWriteExecute": "no",
    "SystemCallFilter": "chown chroot connect read sched_setaffinity setgroups setuid",
    "CapabilityBoundingSet": "cap_chown cap_fowner cap_kill cap_setgid cap_setuid cap_sys_chroot cap_sys_resource",
    "UMask": "0022",
}

# The gate sees which user asks, and gives its sockets to groups.
GATE = {**PROPERTIES, "PrivateUsers": "no", "SystemCallFilter": "chown connect read"}

# Each line is one process of a unit: program, user and what /proc/PID/status says of its rights.
PROCESSES = r"""
import json, os, pwd, sys
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        cgroup = open(f"/proc/{pid}/cgroup").read()
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
    except OSError:
        continue
    unit = next((part for part in cgroup.replace("\n", "/").split("/") if part.startswith("dagster-")), "")
    if unit:
        caps = {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        users = {pwd.getpwuid(int(number)).pw_name for number in status["Uid"].split()}
        found.append([unit, status["Name"], sorted(users), sorted(caps), status["NoNewPrivs"], status["Seccomp"]])
print(json.dumps(sorted(found)))
"""

# What a program of root can do. Each attempt that succeeds is undone.
ATTEMPTS = r"""
import ctypes, json, os, socket, stat, sys

libc = ctypes.CDLL(None, use_errno=True)

def call(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")

def write(folder):
    path = f"{folder}/of-the-sandbox-test"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(path)

def tunable(path):
    os.close(os.open(path, os.O_WRONLY))

def node():
    os.mknod("/tmp/of-the-sandbox-test", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.unlink("/tmp/of-the-sandbox-test")

def setuid_bit():
    path = f"{sys.argv[1]}/of-the-sandbox-test"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)

def realtime():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

def other_user():
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(0, 0, 0)
            os.setresuid(65534, 65534, 65534)
            os._exit(0)
        except OSError:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise OSError("refused")

folders = ("/", "/usr", "/etc", "/home", "/root", "/boot", "/opt", "/var/lib")
attempts = {f"write {folder}": (write, folder) for folder in folders}
attempts |= {
    "set a kernel tunable": (tunable, "/proc/sys/kernel/hostname"),
    "see /tmp of the host": (os.stat, "/tmp/of-the-host"),
    "see a home": (os.stat, "/home/admin/.ssh"),
    "make a block device": (node,),
    "give a file the setuid bit": (setuid_bit,),
    "schedule in real time": (realtime,),
    "open a packet socket": (lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close(),),
    "open a netlink socket": (lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),),
    "change its personality": (lambda: call(libc.personality(0x0008)) or call(libc.personality(0)),),
    "become another user": (other_user,),
    "gain by exec": (lambda: call(-libc.prctl(39, 0, 0, 0, 0)),),
}
can = []
for name, (attempt, *arguments) in attempts.items():
    try:
        attempt(*arguments)
        can.append(name)
    except OSError:
        pass
raw = [name for name in os.listdir("/dev") if stat.S_ISBLK(os.lstat(f"/dev/{name}").st_mode)]
print(json.dumps({"can": sorted(can), "devices": sorted(os.listdir("/dev")), "block": raw}))
"""
# What PrivateDevices= leaves.
DEVICES = {
    "core",
    "fd",
    "full",
    "hugepages",
    "log",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
}
DEVICES |= {"stdout", "tty", "urandom", "zero", "console", "char", "initctl"}


def units(host: Any) -> list[str]:
    """The services of the deployment that run on a host."""
    listed = host.check_output("systemctl list-units --type=service --state=active --plain --no-legend 'dagster-*'")
    return sorted(line.split()[0] for line in listed.splitlines())


def properties(host: Any, unit: str) -> dict[str, str]:
    """The sandbox of a unit as systemd has it."""
    shown = host.check_output(f"systemctl show -p {','.join(PROPERTIES)} %s", unit)
    found = dict(line.split("=", 1) for line in shown.splitlines())
    families, calls = (found.get(name, "").split() for name in ("RestrictAddressFamilies", "SystemCallFilter"))
    return {name: found.get(name, "") for name in PROPERTIES} | {
        "RestrictAddressFamilies": " ".join(sorted(families)),
        "SystemCallFilter": " ".join(sorted(CALLS.intersection(calls))),
    }


def exposure(host: Any, unit: str) -> float:
    """How much of the host is left to a unit, from 0 to 10, as systemd counts it."""
    said = host.run("systemd-analyze security --no-pager %s", unit).stdout
    (found,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    return float(found)


def processes(host: Any) -> list[tuple[str, str, str, str, str, str]]:
    """Unit, program, users, capabilities, NoNewPrivs and Seccomp of each process of the deployment's services."""
    return [
        (unit, program, " ".join(users), " ".join(caps), new, filters)
        for unit, program, users, caps, new, filters in json.loads(host.check_output("python3 -c %s", PROCESSES))
    ]


def attempts(host: Any, *before: str) -> dict[str, list[str]]:
    """What a program of root can do; `before` puts it somewhere, such as nsenter."""
    answer: dict[str, list[str]] = json.loads(
        host.check_output(f"timeout 60 {' '.join(before)} python3 -c %s /var/tmp", ATTEMPTS)
    )
    return answer


def attempts_as_a_unit(host: Any, state: str) -> dict[str, list[str]]:
    """What a program can do that systemd starts as the services: a unit called dagster-* has their drop-in."""
    shown, program = "/run/of-the-sandbox-test.json", "/run/of-the-sandbox-test.py"
    host.check_output("printf %%s %s >%s; rm -f %s", ATTEMPTS, program, shown)
    # It stays for a moment after its answer, because the drop-in would have it started again.
    host.check_output(
        "systemd-run -q --collect --unit=dagster-of-the-test -p StandardOutput=file:%s"
        " sh -c 'python3 %s %s; exec sleep 60'",
        *(shown, program, state),
    )
    try:
        answer: dict[str, list[str]] = until(
            # Only a whole line is an answer. The sandbox lets nobody rename the file.
            lambda: json.loads(host.check_output("grep -x '{.*}' %s", shown)),
            50,
            "the program has answered",
        )
        return answer
    finally:
        host.check_output("systemctl stop dagster-of-the-test; rm -f %s %s", shown, program)


def main_pid(host: Any, unit: str) -> str:
    """The main process of a unit that runs."""
    return one_process(host.check_output("systemctl show -p MainPID --value %s", unit), unit)
