# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the containers of code servers and runs may not do. Both have it from here."""

from __future__ import annotations

import typing as t

# By the names that Docker's SDK has. A location adds capabilities to none.
DROPPED = ("ALL",)
SECURITY = ("no-new-privileges:true",)
# What a container with a read-only root can still write, beside its volumes.
TEMPORARY = {"/tmp": "mode=1777"}  # noqa: S108 - a folder of the container's own


def kwargs() -> dict[str, list[str]]:
    """The arguments with which each container is made."""
    return {"cap_drop": list(DROPPED), "security_opt": list(SECURITY)}


def of_read_only(read_only: t.Any) -> dict[str, t.Any]:
    """The arguments of a container whose root is read-only, none of another one."""
    return {"read_only": True, "tmpfs": dict(TEMPORARY)} if read_only else {}
