# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a host is ours: packages by a record that the host keeps, files by their first line. Pure: no I/O.

Whose a package is, is decided at first contact. What is there before us belongs to somebody else, and stays so. What is
missing is ours: the record, a folder with one small file each, says so before the package is installed. Only a whole
record decides: a play that is killed while it writes the first one has said nothing yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts

# The beginning of the files that we write, but for programs. As a pattern for Component.lines.
HEADER = r"(Managed by dataops\.dagster)"


# What module apt writes while it installs, as a whole. It takes it away again, unless it is killed.
POLICY = "/usr/sbin/policy-rc.d"
POLICY_TEXT = r"\A#!/bin/sh\nexit (101)\n\Z"


def entry(folder: str, package: str) -> str:
    """The file that says that a package is ours."""
    return f"{folder}/{package}"


def whole(folder: str) -> str:
    """The file that says that the record has been written to its end. Hidden, so that it is no package."""
    return entry(folder, ".complete")


def installing(folder: str) -> str:
    """The file that is there while apt installs for us. It says that what apt writes for that time is ours."""
    return entry(folder, ".installing")


def recorded(folder: str, components: Iterable[Component], facts: Facts) -> set[str]:
    """The packages on a host that are ours.

    A host without a whole record is new to us, or it was set up before there was one. Then each role that has been
    there has left its mark, and what it needs on a bare host was brought by it.
    """
    there, paths = set(facts["packages"]), facts.get("paths") or []
    if whole(folder) in paths:
        return {package for package in there if entry(folder, package) in paths}
    bare = {**facts, "packages": {}}
    marked = [component for component in components if component.mark() in paths]
    return there & {package for component in marked for package in component.packages(bare)}


def ours(folder: str, components: Iterable[Component], facts: Facts) -> list[str]:
    """The packages that are ours, with those that these components will bring."""
    components = list(components)
    wanted = {package for component in components for package in component.packages(facts)}
    return sorted(recorded(folder, components, facts) | wanted.difference(facts["packages"]))


def headed(components: Iterable[Component]) -> list[str]:
    """The files of components that have our header."""
    return [path for component in components for path in component.headed()]


def is_foreign(path: str, facts: Facts) -> bool:
    """Whether a file is there without our header."""
    lines = facts.get("lines") or {}
    return path in lines and not any(re.fullmatch(HEADER, line) for line in lines[path])


def file_problems(components: Iterable[Component], facts: Facts) -> list[str]:
    """Sentences about files of others that have the names of ours. They would be replaced, and be taken for a mark."""
    return [
        f'the host has a {path} of somebody else (nothing in it says "Managed by dataops.dagster"); move it away, or '
        "give this instance a dagster_instance_name of its own"
        for path in headed(components)
        if is_foreign(path, facts)
    ]


def has_policy(facts: Facts) -> bool:
    """Whether the host has the file with which module apt keeps services off, with its very text."""
    return bool((facts.get("lines") or {}).get(POLICY))


def left_behind(names: Mapping[str, str], facts: Facts) -> list[str]:
    """What an installation of ours that was killed has left: to be removed before anything else is installed."""
    paths, mark = facts.get("paths") or [], installing(names["record"])
    found = [names["apt_proxy"]] if names["apt_proxy"] in paths else []
    if mark not in paths:
        return found
    return [*found, *([POLICY] if has_policy(facts) else []), mark]


def policy_warnings(names: Mapping[str, str], facts: Facts) -> list[str]:
    """A sentence about what a killed installation leaves, where nothing says that it was ours."""
    paths = facts.get("paths") or []
    if not has_policy(facts) or whole(names["record"]) not in paths or installing(names["record"]) in paths:
        return []
    return [
        f"{POLICY} ends with 101, so no service of this host starts with its package, or again after its upgrade. A "
        "play that was killed while it installed packages leaves that. Remove it, if it is nobody's"
    ]
