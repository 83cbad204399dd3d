# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Users and groups of a host, as its password database has them."""

from __future__ import annotations

import grp
import pwd
from typing import Any


def members(group: str) -> list[str]:
    """The users that are in a group, for some of them it is the primary one."""
    entry = grp.getgrnam(group)
    return sorted({*entry.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == entry.gr_gid)})


def accounts(shells: list[str] | None, groups: list[str] | None) -> dict[str, Any]:
    """Shells of users, and members of groups, of those that there are."""
    found: dict[str, Any] = {}
    if shells is not None:
        found["shells"] = {user.pw_name: user.pw_shell for user in pwd.getpwall() if user.pw_name in shells}
    if groups is not None:
        known = {entry.gr_name for entry in grp.getgrall()}
        found["members"] = {group: members(group) for group in groups if group in known}
    return found
