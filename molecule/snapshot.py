"""What a host does for somebody else, as one table that can be taken twice and compared.

Each row has a name that an operator understands ("file /etc/haproxy/haproxy.cfg") and a text. A row of a process says
which process it is: after a reboot it is another one.
"""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from listeners import listeners

Snapshot = dict[str, str]

OURS = "dagster"  # each name that we give has the instance's in it
# Of these kinds a host gets new ones of ours, which can be told apart by their names.
NAMED = ("file ", "passwd ", "group ", "subuid ", "subgid ", "table ", "container ", "network ", "volume ")
PROCESS = "process "


@dataclass(frozen=True)
class Foreign:
    """Where to look: what an operator knows of the services of a host that are not ours.

    files: files and folders, with all that is in them.
    units: systemd units whose processes have to live on.
    tables: tables of nftables.
    kernel: parameters of the kernel.
    port: the port of the database server.
    login: host, port, user and database of a client with a password, whose file is `pgpass`.
    query: what the client asks.
    urls: what is asked over HTTP on the host itself.
    outside: the same from another host.
    """

    files: tuple[str, ...]
    units: tuple[str, ...]
    tables: tuple[str, ...]
    kernel: tuple[str, ...]
    port: int
    login: str
    pgpass: str
    query: str
    urls: tuple[str, ...]
    outside: tuple[str, ...]


STATE = r"""
import hashlib, json, os, subprocess, sys

asked = json.loads(sys.argv[1])
found = {}

def said(*argv, **env):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr.strip()}"

def look(path):
    about = os.lstat(path)
    if os.path.islink(path):
        what = "-> " + os.readlink(path)
    elif os.path.isdir(path):
        what = "folder"  # its time changes with what is beside the things that are compared
    else:
        with open(path, "rb") as stream:
            what = f"{hashlib.sha256(stream.read()).hexdigest()[:16]} written {about.st_mtime_ns}"
    found[f"file {path}"] = f"{what} {about.st_uid}:{about.st_gid} {about.st_mode & 0o7777:o}"

for root in asked["files"]:
    if os.path.lexists(root):
        look(root)
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            look(os.path.join(folder, name))

for table in ("passwd", "shadow", "group", "subuid", "subgid"):
    with open(f"/etc/{table}") as stream:
        for line in stream.read().splitlines():
            text = hashlib.sha256(line.encode()).hexdigest()[:16] if table == "shadow" else line
            found[f"{table} {line.partition(':')[0]}"] = text

for line in said("systemctl", "list-unit-files", "--no-legend", "--plain").splitlines():
    name, state, *_preset = line.split()
    # A template is "indirect" once an instance is enabled, which may be ours. Links are compared as files.
    if state not in ("transient", "generated") and "@." not in name:
        found[f"unit file {name}"] = state
for unit in asked["units"]:
    found[f"unit {unit}"] = said("systemctl", "show", "-p", "ActiveState,SubState", unit)
    process = "MainPID,NRestarts,ActiveEnterTimestampMonotonic"
    found[f"process of {unit}"] = said("systemctl", "show", "-p", process, unit)

engine = json.loads(said("docker", "info", "--format", "{{json .}}"))
SETTINGS = "DockerRootDir Driver LoggingDriver LiveRestoreEnabled SecurityOptions Labels DefaultAddressPools"
for key in SETTINGS.split():
    found[f"engine {key}"] = json.dumps(engine.get(key), sort_keys=True)

def inspected(kind, *ids):
    return json.loads(said("docker", kind, "inspect", *ids)) if ids else []

for one in inspected("container", *said("docker", "ps", "-aq", "--no-trunc").split()):
    labels = one["Config"]["Labels"]
    # The engine gives a name of its own to a container of a run.
    name = one["Name"].lstrip("/") + (" dagster run" if "dagster/run_id" in labels else "")
    host, state = one["HostConfig"], one["State"]
    mounts = sorted(f"{mount.get('Source')}:{mount['Destination']}" for mount in one["Mounts"])
    found[f"container {name}"] = json.dumps(
        [one["Id"], one["Image"], state["Status"], host["RestartPolicy"]["Name"], host["LogConfig"]["Type"], mounts,
         sorted(one["NetworkSettings"]["Networks"])]
    )
    found[f"process of container {name}"] = f"{state['Pid']} since {state['StartedAt']}, restarts {one['RestartCount']}"
for line in said("docker", "image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines():
    name, _space, image = line.partition(" ")
    found[f"image {name}"] = image
for one in inspected("network", *said("docker", "network", "ls", "-q", "--no-trunc").split()):
    # An engine makes its own bridge anew at each start.
    identity = "" if one["Name"] in ("bridge", "host", "none") else one["Id"]
    # An engine that starts again adds the gateway, which it has worked out itself.
    subnets = [each.get("Subnet") for each in one["IPAM"]["Config"]]
    found[f"network {one['Name']}"] = json.dumps([identity, one["Driver"], subnets])
for one in inspected("volume", *said("docker", "volume", "ls", "-q").split()):
    found[f"volume {one['Name']}"] = one["Mountpoint"]

QUERIES = {
    "database databases": "SELECT datname, pg_get_userbyid(datdba), datacl FROM pg_database ORDER BY 1",
    "database roles": "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolconnlimit,"
    " md5(rolpassword) FROM pg_authid ORDER BY 1",
    "database settings": "SELECT name, setting, sourcefile FROM pg_settings"
    " WHERE source = 'configuration file' ORDER BY 1",
    "database rules": "SELECT line_number, type, database, user_name, address, auth_method, error"
    " FROM pg_hba_file_rules ORDER BY 1",
    "process of the database": "SELECT pg_postmaster_start_time(), pg_conf_load_time()",
    "process of the database's client": "SELECT usename, pid, backend_start FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY 3",
}
server = ["sudo", "-u", "postgres", "psql", "-XAt", "-p", str(asked["port"]), "-d", "postgres"]
for name, query in QUERIES.items():
    found[name] = said(*server, "-c", query)
client = ["psql", "-XAtw", "-d", asked["login"]]
found["answer of the database"] = said(*client, "-c", asked["query"], PGPASSFILE=asked["pgpass"])

for line in said("nft", "list", "tables").splitlines():
    _table, family, name = line.split()
    if f"{family} {name}" in asked["tables"] or name not in ("filter", "nat", "mangle", "raw", "security"):
        found[f"table {family} {name}"] = said("nft", "list", "table", family, name)
for name in asked["kernel"]:
    with open("/proc/sys/" + name.replace(".", "/")) as stream:
        found[f"kernel {name}"] = stream.read().strip()

print(json.dumps(found))
"""

# A proxy of the environment has nothing to say here.
ANSWERS = r"""
import gzip, hashlib, json, sys, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
found = {}
for url in sys.argv[1:]:
    try:
        request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
        with opener.open(request, timeout=20) as answer:
            body, coding = answer.read(), answer.headers.get("Content-Encoding", "plain")
            body = gzip.decompress(body) if coding == "gzip" else body
            found[url] = f"{answer.status} {coding}, {hashlib.sha256(body).hexdigest()[:16]}"
    except OSError as error:
        found[url] = f"failed: {error}"
print(json.dumps(found))
"""


def taken(host: Any, foreign: Foreign) -> Snapshot:
    """What the host does for somebody else at this moment."""
    found: Snapshot = json.loads(host.check_output("python3 -c %s %s", STATE, json.dumps(asdict(foreign))))
    found |= {f"listener {line}": "there" for line in listeners(host)}
    inside = host.check_output("python3 -c %s" + " %s" * len(foreign.urls), ANSWERS, *foreign.urls)
    argv = [sys.executable, "-c", ANSWERS, *foreign.outside]
    outside = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
    found |= {f"answer on the host of {url}": text for url, text in json.loads(inside).items()}
    found |= {f"answer from outside of {url}": text for url, text in json.loads(outside).items()}
    return found


def failures(snapshot: Mapping[str, str]) -> list[str]:
    """What does not work: rows that could not be read, and units that are not active."""
    return sorted(
        f"{name}: {text}"
        for name, text in snapshot.items()
        if text.startswith("failed: ")
        or (name.startswith("unit ") and not name.startswith("unit file ") and "ActiveState=active" not in text)
    )


def changed(name: str, was: str, now: str) -> str:
    """How a row differs. Of a long one only the lines that do."""
    if "\n" not in was + now:
        return f"{name} was {was}, is {now}"
    lines = difflib.unified_diff(was.splitlines(), now.splitlines(), n=0, lineterm="")
    return f"{name} differs: " + "; ".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def differences(before: Mapping[str, str], after: Mapping[str, str], *, rebooted: bool = False) -> list[str]:
    """What somebody else would notice between two snapshots, each as a sentence.

    What is new may be there when it can be told apart by our name, or is a folder that was made for something with our
    name: systemd looks for drop-ins below the name of the unit. After a reboot each process is another one.
    """
    found = []
    for name, was in sorted(before.items()):
        if rebooted and name.startswith(PROCESS):
            continue
        if name not in after:
            found.append(f"{name} is gone; it was {was}")
        elif after[name] != was:
            found.append(changed(name, was, after[name]))
    new = [name for name in sorted(after.keys() - before.keys()) if name.startswith(NAMED)]
    ours = [name for name in after if OURS in name]
    needed = {folder for folder in new if any(name.startswith(f"{folder}/") for name in ours)}
    strange = (name for name in new if OURS not in name and name not in needed)
    return found + [f"{name} is new and does not have our name" for name in strange]
