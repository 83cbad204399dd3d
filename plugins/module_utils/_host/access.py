# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Access lists of folders (POSIX ACL): users who may write beside owner and group. Nothing in here needs a package."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable

# linux/posix_acl_xattr.h: a version, and entries of tag, permissions and number.
HEAD, ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
VERSION = 2
OWNER, USER, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
NOBODY = 0xFFFFFFFF  # the number of an entry that is for no named user
ALL = 7
# Who may use the folder itself, and what is made in it later.
NAMES = ("system.posix_acl_access", "system.posix_acl_default")

Entries = dict[tuple[int, int], int]  # permissions by tag and number


def read(path: str, name: str) -> Entries:
    """The entries of a folder, none where it has no list."""
    try:
        data = os.getxattr(path, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return {}
        raise
    return {(tag, number): allowed for tag, allowed, number in ENTRY.iter_unpack(data[HEAD.size :])}


def wanted(now: Entries, mode: int, writers: Iterable[int]) -> Entries:
    """What there is, and that writers may write; mode is that of the folder."""
    base = {(OWNER, NOBODY): mode >> 6 & ALL, (GROUP, NOBODY): mode >> 3 & ALL, (OTHER, NOBODY): mode & ALL}
    return {**base, **now, **{(USER, number): ALL for number in writers}, (MASK, NOBODY): ALL}


def packed(entries: Entries) -> bytes:
    """The list as the kernel takes it."""
    ordered = sorted(entries.items())
    return HEAD.pack(VERSION) + b"".join(ENTRY.pack(tag, allowed, number) for (tag, number), allowed in ordered)


def lacking(path: str, writers: Iterable[int]) -> dict[str, Entries]:
    """The lists of a folder that have to change for writers, by their name."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    lists = {name: (read(path, name), writers) for name in NAMES}
    found = {name: (now, wanted(now, mode, numbers)) for name, (now, numbers) in lists.items()}
    return {name: after for name, (now, after) in found.items() if now != after}


def write(path: str, lists: dict[str, Entries]) -> None:
    """Put them in place."""
    for name, entries in lists.items():
        os.setxattr(path, name, packed(entries))
