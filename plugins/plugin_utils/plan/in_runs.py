# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs read of dagster.yaml. A run opens the instance in its location's image, with its libraries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import redacted
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import render
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.compute_logs import STANDS_FOR_A_KEY
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.configuration import Configuration
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.libraries import inside
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.step_containers import wanted

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

SECTIONS = (
    *("storage", "run_storage", "event_log_storage", "schedule_storage"),
    *("compute_logs", "local_artifact_storage", "secrets", "instance_class"),
)
# What a run reads too when runs are resumed: it asks the launcher whether that can do it.
RESUMED = ("run_launcher", "run_monitoring")
# And where it starts steps: docker_executor gives them what the launcher gives to runs.
STARTS_STEPS = ("run_launcher",)


def sections(config: Mapping[str, Any], more: Iterable[str] = ()) -> dict[str, Any]:
    """What of a merged dagster.yaml a run builds. The rest is for the services, and may need libraries of theirs."""
    monitoring = inside(config, "run_monitoring")
    resumed = monitoring.get("enabled") and monitoring.get("max_resume_run_attempts")
    names = (*SECTIONS, *(RESUMED if resumed else ()), *more)
    return {name: config[name] for name in names if name in config}


def handed(plan: Plan) -> dict[str, Any]:
    """What is shown in the image of each location, as module code_images takes it: that of the services."""
    services = Configuration(plan.services.host, plan)
    start_steps = [str(entry.get("name")) for entry in services.values["dagster_code_locations"] if wanted(entry)]

    def read(found: Mapping[str, Any]) -> dict[str, Any]:
        return {"dagster_yaml": render(redacted(found)), "written": [name for name in found if name in services.given]}

    return {
        **read(sections(services.merged)),
        **(
            {"steps": {**read(sections(services.merged, STARTS_STEPS)), "locations": start_steps}}
            if start_steps
            else {}
        ),
        "dagster_version": str(services.values["dagster_version"]),
        "env": {
            **dict.fromkeys(services.logs.secret_variables, STANDS_FOR_A_KEY),
            **{name: str(value) for name, value in services.run_environment.items()},
        },
        "record": plan.names["proven_images"],
    }
