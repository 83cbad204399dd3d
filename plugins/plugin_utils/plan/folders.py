# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The folders of an instance: they stand in units, in volumes of containers and in command lines. Pure: no I/O."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

FOLDERS = ("dagster_home", "dagster_install_dir", "dagster_state_dir")
# What units, volumes and shells read alike. A ':' would end the path in a volume, a '%' is systemd's own.
PATH = re.compile(r"(/[A-Za-z0-9._+@,-]+)+")
# The services see none of these, or an empty one (ProtectHome, PrivateTmp), or a reboot empties it.
UNSEEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys")  # noqa: S108 - refused, not used
# Folders of the system, whose owner and mode are not ours.
SYSTEM = re.compile(
    r"/[^/]+|/usr/(local|share|lib|bin|sbin|local/lib|local/bin)|/var/(lib|log|cache|opt)"
    r"|/etc/(apt|docker|haproxy|nginx|ssh|ssl|systemd)"
    r"|/var/lib/(apt|containerd|docker|dpkg|haproxy|nginx|systemd)"
)


def problems(values: Mapping[str, Any], given: Iterable[str]) -> list[str]:
    """Sentences about folders that a reader would take for something else, or that are not ours alone."""
    found = []
    for name in sorted(set(FOLDERS).intersection(given)):  # the others follow from the name of the instance
        path = str(values[name])
        parts = path.split("/")
        unseen = next((place for place in UNSEEN if path == place or path.startswith(f"{place}/")), "")
        if not PATH.fullmatch(path) or ".." in parts or "." in parts:
            found.append(
                f"{name} is {path!r}; it is an absolute path of letters, digits and . _ + @ , - between slashes, "
                "because units and volumes of containers name it. For example /srv/dagster/state"
            )
        elif unseen:
            found.append(
                f"{name} is {path}; the services see nothing of {unseen}. Choose a folder below /srv or /var/lib"
            )
        elif SYSTEM.fullmatch(path):
            found.append(
                f"{name} is {path}, a folder of the system, and would get our owner; add a folder: {path}/dagster"
            )
    paths = {name: str(values[name]).rstrip("/") for name in FOLDERS}
    found += [
        f"{inner} is {paths[inner]}, inside of {outer} ({paths[outer]}); containers mount the state, and nobody but "
        "root may read all of the others. Choose a folder beside it"
        for inner, outer in itertools.permutations(FOLDERS, 2)
        if paths[inner].startswith(f"{paths[outer]}/")
    ]
    if len({str(values[name]).rstrip("/") for name in FOLDERS}) < len(FOLDERS):
        found.append(f"{', '.join(FOLDERS)} are different folders, and two of them are the same")
    return found
