# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a comparison asks of a host. plugin_utils/snapshot.py answers the same from what was read of one before."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host import access


class Here:
    """This host, as it is now."""

    def state(self, path: str) -> Any:
        """Mode, owner and times of a path itself; None where there is none."""
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def folder(self, path: str) -> Any:
        """The same of a folder, or of the one that a link leads to; None where there is no folder."""
        return os.stat(path) if os.path.isdir(path) else None

    def names(self, path: str) -> list[str]:
        """What is in a folder."""
        return sorted(os.listdir(path))

    def target(self, path: str) -> str:
        """Where a link leads to, empty for what is none."""
        return os.readlink(path) if os.path.islink(path) else ""

    def content(self, path: str) -> bytes | None:
        """What is in a file, None where there is none."""
        try:
            with open(path, "rb") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def holds(self, path: str, text: bytes) -> bool:
        """Whether a file has this text."""
        return self.content(path) == text

    def lacking(self, path: str, writers: Iterable[int]) -> dict[str, access.Entries]:
        """The access lists of a folder that have to change for writers, by their name."""
        return access.lacking(path, writers)

    def number_of(self, name: str | None, kind: str) -> int:
        """The number of a user or group name, -1 for none. Raises LookupError for a name that does not exist."""
        if name is None:
            return -1
        if name.isdigit():
            return int(name)
        try:
            return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
        except KeyError as error:
            raise LookupError(f"there is no {kind} {name} on this host") from error


HERE = Here()
