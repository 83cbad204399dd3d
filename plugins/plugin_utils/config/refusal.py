# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is said of a configuration that is refused: each finding with its place in the variable of the inventory."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import Report
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.report import Finding


def sentence(finding: Finding) -> str:
    """A finding as a line for an operator, without its place."""
    return f"{finding.message}; {finding.hint}" if finding.hint else finding.message


def refused(report: Report) -> list[Finding]:
    """What is wrong, and what harms and is not allowed."""
    return [*report.errors, *report.refusals]


def refusal(path: str, variable: str, report: Report, place: Callable[[str], str] = str) -> str:
    """Why a file is not written; place turns the path of a finding into that in the variable."""
    findings = refused(report)
    lines = [
        f"{place(finding.path) or '(whole file)'}: {sentence(finding)}"
        + (f" (allow: {finding.name})" if finding.name != "error" else "")
        for finding in findings
    ]
    count = f"{len(findings)} problem{'s' if len(findings) > 1 else ''}"
    return f"{path} was not written, {count}; change {variable} in the inventory:\n" + "\n".join(lines)
