# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Stamps of files: two of one path are equal as long as nobody has written it. They tell nothing of its content."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable


def stamp(path: str) -> str:
    """When a path was written, whose it is, where it leads to. As a digest: a size says much of a password."""
    about = os.lstat(path)
    target = os.readlink(path) if os.path.islink(path) else ""
    said = (about.st_mtime_ns, about.st_size, about.st_mode, about.st_uid, about.st_gid, target)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def stamps(patterns: Iterable[str]) -> list[str]:
    """A line for each path that fits a pattern, with its stamp."""
    found = []
    for path in sorted({path for pattern in patterns for path in glob.glob(pattern)}):
        try:
            found.append(f"{path} {stamp(path)}")
        except FileNotFoundError:  # removed in this moment
            continue
    return found
