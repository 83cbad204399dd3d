# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Text that was pasted into the wrong file: one finding says where it belongs, in place of one for each of its keys.

What a text is, is told by its first key. So it may have lost its indentation, and need not be readable.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .catalogue import Catalogue
    from .report import Report

_FIRST = re.compile(r"(?:- )?([\w.-]+)[ \t]*:(?:\s|$)")
_PROBE = ("a probe of a pod", "leave it out: the units of webservers are asked in the same way (docs/architecture.md)")
_OBJECT = ("an object of Kubernetes", "it goes into the cluster, with kubectl apply (docs/kubernetes.md)")
OF_NO_FILE = {
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _PROBE),
    "apiVersion": _OBJECT,
    "from": ("a rule for a network", "leave it out: role firewall refuses all but this (docs/security.md)"),
}
OF_THE_OTHER = {
    "dagster": ("part of workspace.yaml", "in a deployment dagster_code_locations makes workspace.yaml"),
    "workspace": ("a section of dagster.yaml", "in a deployment dagster_config makes dagster.yaml"),
}


def first(text: str) -> tuple[int, str]:
    """Line and key with which a text begins; 0 and nothing where it begins with something else."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---":
            match = _FIRST.match(line)
            return (number, match[1]) if match else (0, "")
    return 0, ""


def what(key: str, kind: str, known: Catalogue) -> tuple[str, str]:
    """What a key is that does not belong into a file of a kind, and where it does; empty for any other."""
    if key in OF_NO_FILE:
        return OF_NO_FILE[key]
    other = key == "load_from" if kind == "dagster" else key in known.top_level
    return OF_THE_OTHER[kind] if other else ("", "")


def found(report: Report, text: str, kind: str, known: Catalogue) -> bool:
    """Report a text that belongs elsewhere; whether it does."""
    line, key = first(text)
    name, hint = what(key, kind, known)
    if not name:
        return False
    report.line_of = lambda _path: line
    report.error((key,), f"found {key}, {name}", hint)
    return True
