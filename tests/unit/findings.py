"""What the validator finds in a text."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.report import Finding


def findings(text: str | bytes, kind: str = "dagster", **options: Any) -> list[Finding]:
    report = subject.validate(text, kind, **options)
    return [*report.errors, *report.refusals, *report.warnings]
