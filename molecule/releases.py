"""The last release: its own checkout deploys it, and what it has written on a host this version keeps or removes.

The release is named by its commit, because a clone may come without tags.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from deployment import RIG, ROOT, Play, ended, environment
from restarts import invocations_by_host

VERSION, COMMIT = next(reversed(yaml.safe_load((ROOT / "changelogs/releases.yml").read_text()).items()))
# So that a play shows the arguments of its modules, which `written` reads.
SHOWN = ("-vvv",)
AS_JSON = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
# A module of its own writes these.
CONFIGURATION = {"/etc/dagster/dagster.yaml", "/etc/dagster/workspace.yaml"}


def checkout() -> Path:
    """The checkout of the release, as an operator has it beside this one."""
    folder = RIG.parent / "release"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def deploy(release: Path, *inventories: str, seconds: float) -> Play:
    """Deploys the release with inventories of its own checkout, and asserts that it worked."""
    argv = ["ansible-playbook", "playbooks/site.yml", *SHOWN]
    for source in (*inventories, str(RIG)):
        argv += ["-i", source]
    found = ended(argv, {**environment(), **AS_JSON, "ANSIBLE_CONFIG": str(release / "ansible.cfg")}, seconds, release)
    assert found.rc == 0, found.output[-6000:]
    return found


def written_by_host(play: Play) -> dict[str, set[str]]:
    """The files that a play keeps on each host, by the arguments of its modules."""
    found = {}
    for host, calls in invocations_by_host(play.output, "files").items():
        entries = [entry for arguments in calls for entry in arguments["files"]]
        found[host] = {entry["dest"] for entry in entries if entry.get("state") in (None, "file", "link")}
    return found


def written(play: Play) -> set[str]:
    """The same of all hosts, with Dagster's own configuration."""
    return CONFIGURATION.union(*written_by_host(play).values())


def left_over(host: Any, theirs: set[str], mine: set[str]) -> list[str]:
    """What the release has written on a host and this version neither writes, uses nor has removed."""
    # The locks of a version stay as long as its virtual environment: they are written with it.
    gone = sorted(path for path in theirs - mine if not path.startswith("/opt/dagster/locks/"))
    return [path for path in gone if host.run("test -e %s", path).rc == 0 and not kept_certificate(host, path, mine)]


def kept_certificate(host: Any, path: str, mine: set[str]) -> bool:
    """Whether a file is a certificate that no play writes, because it is not due, in a folder that our files name."""
    folder = path.rpartition("/")[0]
    grep = f"grep -qsF -e %s -- {' '.join(['%s'] * len(mine))}"
    return path.endswith(".pem") and host.run(grep, folder, *sorted(mine)).rc == 0


def unknown_units(host: Any, mine: set[str]) -> list[str]:
    """Units of ours on a host that this version does not write, and links to units that are gone."""
    find = "find /etc/systemd/system -name '*dagster*'"
    units, dangling = (host.check_output(f"{find} {kind}").split() for kind in ("-type f", "-xtype l"))
    return sorted({*units} - mine) + sorted(dangling)


def failed_units(host: Any) -> str:
    """The failed units of a deployment; others may fail because the host is a container."""
    names = "'*dagster*' nginx haproxy keepalived docker 'postgresql@*'"
    found: str = host.check_output(f"systemctl list-units --no-legend --state=failed {names}")
    return found
