# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Code locations with a read-only root: what their containers have to write all the same. Pure: no I/O."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.rights import TEMPORARY
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import containers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.configuration import at
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.run_containers import LAUNCHER

# Folders of dagster.yaml into which each run writes.
WRITTEN = (
    ("compute_logs", "config", "base_dir"),
    ("compute_logs", "config", "local_dir"),
    ("local_artifact_storage", "config", "base_dir"),
)


def problems(values: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Sentences about folders that a run writes and cannot; config is dagster.yaml."""
    return [
        f"dagster_code_locations[{entry.get('name')}].read_only: its runs write to {folder} ({where}), which is "
        f"read-only in their containers; name a folder below {values['dagster_state_dir']} or /tmp there, mount one "
        "with volumes, or remove read_only"
        for entry in values["dagster_code_locations"]
        if entry.get("read_only")
        for where, folder in needed(entry, values, config)
        if not any(f"{folder}/".startswith(f"{place}/") for place in writable(entry, values, config))
    ]


def needed(entry: Mapping[str, Any], values: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What names a folder that runs of a location write, and the folder."""
    environment = {**values["dagster_environment"], **(entry.get("env") or {})}
    for path in WRITTEN:
        found = at(config, path)
        if isinstance(found, Mapping):
            found = environment.get(str(found.get("env")))
        if isinstance(found, str) and found.startswith("/"):
            yield f"dagster_config.{'.'.join(path)}", posixpath.normpath(found)
    folder = environment.get("TMPDIR")
    if isinstance(folder, str) and folder.startswith("/"):
        named = (
            f"dagster_code_locations[{entry.get('name')}].env"
            if "TMPDIR" in (entry.get("env") or {})
            else "dagster_environment"
        )
        yield f"{named}.TMPDIR", posixpath.normpath(folder)


def writable(entry: Mapping[str, Any], values: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The folders that its containers can write."""
    given, _others = context.parts(entry.get("container_context"))
    arguments = [
        at(config, (*LAUNCHER, context.KWARGS)),
        given.get(context.KWARGS) if isinstance(given, Mapping) else None,
    ]
    kwargs = [found for found in arguments if isinstance(found, Mapping)]
    mounts = [
        mount
        for found in (entry.get("volumes"), *(found.get("volumes") for found in kwargs))
        for mount in containers.volumes(found)
    ]
    temporary = [str(text).partition(":")[0] for found in kwargs for text in found.get("tmpfs") or ()]
    folders = [target for _source, target, read_only in mounts if not read_only]
    return [
        posixpath.normpath(folder) for folder in (str(values["dagster_state_dir"]), *TEMPORARY, *folders, *temporary)
    ]
