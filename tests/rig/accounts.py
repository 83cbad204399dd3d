# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""CPU time of the rig's hosts, from the kernel's accounts of their control groups."""

from __future__ import annotations

import re
from pathlib import Path


def account(container: str) -> Path:
    """The file of a container's control group that counts CPU time, whoever manages the groups, in either version.

    Raises LookupError for a container that does not run.
    """
    root = Path("/sys/fs/cgroup")
    for group in (f"docker/{container}", f"system.slice/docker-{container}.scope"):
        for path in (root / "cpuacct" / group / "cpuacct.usage", root / group / "cpu.stat"):
            if path.exists():
                return path
    raise LookupError(f"no control group of container {container} below {root}")


def cpu_seconds(text: str) -> float:
    """CPU seconds that the kernel's account of a control group says, of either version."""
    found = re.search(r"usage_usec (\d+)", text)
    return int(found.group(1)) / 1e6 if found else int(text) / 1e9


def used(path: Path) -> float:
    """CPU seconds of the control group with this account."""
    return cpu_seconds(path.read_text(encoding="utf-8"))
