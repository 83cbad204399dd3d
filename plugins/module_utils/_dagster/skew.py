# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether code of one Dagster version can serve and run under services of another. Pure.

Dagster's own rule: the services are at least as new as every code location, and are upgraded first. APIs hold within a
major version. Code of a newer minor may need tables that the services have not made, and sends what they cannot read. A
newer patch of the same minor has the same tables.
"""

from __future__ import annotations

import re


def parts(version: str) -> tuple[int, int, int] | None:
    """Major, minor and patch; None for what is no release."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def library(version: str) -> str:
    """The version of the libraries that belongs to a version of Dagster."""
    found = parts(version)
    return f"0.{found[1] + 16}.{found[2]}" if found and found[0] == 1 else ""


def skew(code: str, services: str) -> tuple[bool, str]:
    """Whether that is refused, and a sentence about two versions; without one they are the same."""
    if code == services:
        return False, ""
    theirs, ours = parts(code), parts(services)
    said = f"has Dagster {code}, and the services have {services} (dagster_version)"
    if theirs is None or ours is None:
        return False, f"{said}; whether they fit together is not known"
    if theirs[0] != ours[0]:
        return True, f"{said}; Dagster supports one major version in a deployment. Install dagster=={services} in it"
    if theirs[1] > ours[1]:
        return True, (
            f"{said}; Dagster supports code as new as the services or older. Set dagster_version to {theirs[0]}."
            f"{theirs[1]} or newer first, or install dagster=={services} in the image"
        )
    if theirs > ours:
        return False, f"{said}; Dagster wants services that are as new as the code: upgrade dagster_version first"
    return False, f"{said}; older code works, build it anew when you can"
