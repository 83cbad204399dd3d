# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which packages of a host are ours: it keeps a record of them, a folder with one small file each.

Whose a package is, is decided at first contact. What is there before us belongs to somebody else, and stays so. What is
missing is ours: the record says so before the package is installed. Nothing is ever taken out of it. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts


def entry(folder: str, package: str) -> str:
    """The file that says that a package is ours."""
    return f"{folder}/{package}"


def recorded(folder: str, components: Iterable[Component], facts: Facts) -> set[str]:
    """The packages on a host that are ours.

    A host without a record is new to us, or it was set up before there was one. Then each role that has been there has
    left its mark, and what it needs on a bare host was brought by it.
    """
    there, paths = set(facts["packages"]), facts.get("paths") or []
    if folder in paths:
        return {package for package in there if entry(folder, package) in paths}
    bare = {**facts, "packages": {}}
    marked = [component for component in components if component.mark() in paths]
    return there & {package for component in marked for package in component.packages(bare)}


def ours(folder: str, components: Iterable[Component], facts: Facts) -> list[str]:
    """The packages that are ours, with those that these components will bring."""
    components = list(components)
    wanted = {package for component in components for package in component.packages(facts)}
    return sorted(recorded(folder, components, facts) | wanted.difference(facts["packages"]))
