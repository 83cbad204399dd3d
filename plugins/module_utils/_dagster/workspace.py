# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""workspace.yaml."""

from __future__ import annotations

import os
from typing import Any

from .no_effects import Blocked, Guard
from .problems import Report, load
from .schema import process


def check_workspace(report: Report, guard: Guard, config: Any) -> None:
    if not isinstance(config, dict):
        report.add("", f"found a {type(config).__name__}, expected a mapping")
        return
    schema = load("dagster._core.workspace.config_schema:WORKSPACE_CONFIG_SCHEMA")
    if process(report, schema, config, "") is None:
        return
    origins = load("dagster._core.workspace.load:location_origins_from_config")
    try:
        guard.call(origins, config, os.path.join(os.sep, "workspace.yaml"))
    except Blocked:
        return
