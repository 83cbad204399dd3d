"""Lookup sandbox: the drop-in of every unit of ours, and how much of a host is left to what runs in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.dataops.dagster.plugins.lookup import sandbox
from ansible_collections.dataops.dagster.plugins.lookup.sandbox import LookupModule

ROOT = Path(__file__).resolve().parents[4]
EVERYTHING = {"user_namespaces": True, "own_proc": True}
# Lines of units that say something of the sandbox.
SAYS = re.compile(r"(?m)^(NoNew|Protect|Private|Restrict|SystemCall|Capability|Lock|MemoryDeny|UMask)\w+=")


def text(*exceptions: str, **host: bool) -> str:
    (found,) = LookupModule().run(list(exceptions), host=host)
    return found


def test_what_stops_a_unit_on_some_hosts_is_left_out_there() -> None:
    assert text(**EVERYTHING).splitlines()[-2:] == ["PrivateUsers=true", "ProtectProc=ptraceable"]
    assert "PrivateUsers" not in text(own_proc=True).split("[Service]")[1]
    assert "ProtectProc" not in text(user_namespaces=True).split("[Service]")[1]
    assert text() == text(user_namespaces=False, own_proc=False)
    (unread,) = LookupModule().run([])
    assert unread == text(), "a host that nobody has asked"


def test_exceptions_of_a_unit_come_last() -> None:
    """systemd takes the last word of a setting."""
    lines = text("PrivateUsers=false", "UMask=0022", **EVERYTHING).splitlines()
    assert lines[-2:] == ["PrivateUsers=false", "UMask=0022"]
    assert lines.index("PrivateUsers=true") < len(lines) - 2


def test_it_stands_in_one_place() -> None:
    """Each unit of ours that stays up has it, and no template says a line of it once more."""
    users = [path for path in ROOT.glob("roles/*/[tv]a*/*.yml") if "dataops.dagster.sandbox" in path.read_text()]
    assert sorted(str(path.relative_to(ROOT / "roles")) for path in users) == [
        "code_location/vars/main.yml",
        "docker/vars/main.yml",
        "gate/vars/main.yml",
        "instance/tasks/configure.yml",
        "proxy/tasks/run.yml",
    ]
    units = {path.name: path.read_text() for path in ROOT.glob("roles/*/templates/etc/systemd/system/**/*.j2")}
    assert len(units) > 8, "the control"
    repeated = {name for name, unit in units.items() if SAYS.search(unit)}
    # The file of HAProxy stays as it is, so that an upgrade does not restart it. The firewall is loaded before there is
    # a folder for temporary files, and ends at once.
    assert repeated == {"haproxy-dagster.service.j2", "firewall-dagster.service.j2"}
    # What it says there is no more than what the drop-in says.
    lines = {line for line in units["haproxy-dagster.service.j2"].splitlines() if SAYS.match(line)}
    own = {line for line in lines if line.startswith("CapabilityBoundingSet=CAP_CHOWN")}
    assert len(own) == 1
    assert lines - own <= {*text().splitlines()}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd to ask")
@pytest.mark.parametrize(
    ("host", "groups", "limit"),
    [
        (EVERYTHING, "", 1.5),
        ({"own_proc": True}, "SupplementaryGroups=docker\n", 2.0),
        ({}, "SupplementaryGroups=docker\n", 2.0),
    ],
    ids=["every host", "no user namespace", "unprivileged container"],
)
def test_exposure_as_systemd_sees_it(tmp_path: Path, host: dict[str, bool], groups: str, limit: float) -> None:
    def exposure(sandboxed: str) -> float:
        unit = tmp_path / "of-the-test.service"
        unit.write_text(f"[Unit]\nDescription=x\n{sandboxed}\n[Service]\nUser=daemon\n{groups}ExecStart=/bin/true\n")
        argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
        said = subprocess.run(argv, capture_output=True, text=True, check=False)
        (found,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
        return float(found)

    assert exposure(text(**host)) <= limit
    assert exposure("") > 8, "the control"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd to ask")
def test_systemd_knows_every_group_of_calls() -> None:
    named = set(re.findall(r"(?m)^SystemCallFilter=~?(.*)", text())) | {"@setuid @chown @resources"}
    for group in {word for line in named for word in line.split()}:
        argv = ["systemd-analyze", "syscall-filter", "--no-pager", group]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == 0, group
    assert sandbox.PATH.endswith("roles/instance/files/etc/systemd/system/sandbox.conf")
