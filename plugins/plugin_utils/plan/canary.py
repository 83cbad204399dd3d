# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The canary: the run that the health gate launches to prove that runs work. Which job it is, what it proves. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component

VARIABLE = "dagster_canary"
# A code location offers a run to the gate by a job of this name. Its tags would have to be asked for job by job, and a
# common name such as `canary` may already mean something else.
JOB = "dagster_canary"
SECONDS = 120


def off(name: str, value: Any) -> bool:
    """Whether the value of a variable is one that switches the canary off; extra variables may give it as text."""
    return name == VARIABLE and (value is False or str(value).strip().lower() in ("false", "no", "off"))


def canary(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The job to launch; empty when none is wanted. Without a location, the first one that offers the job has it."""
    said = {} if given is None else {key: value for key, value in given.items() if value is not None}
    if given is not None and not said:
        return {}
    return {
        "location": said.get("location", ""),
        "job": said.get("job", JOB),
        "run_config": said.get("run_config", {}),
        "timeout": said.get("timeout", SECONDS),
    }


def location_problems(values: Mapping[str, Any]) -> list[str]:
    """A sentence about a location that is none; for hosts that have the code locations."""
    named = str((values[VARIABLE] or {}).get("location") or "")
    known = [str(entry.get("name")) for entry in values["dagster_code_locations"]] if named else []
    if named in ("", *known):
        return []
    return [
        f"{VARIABLE}.location is {named!r}, and dagster_code_locations has {', '.join(known) or 'none'}"
        f"{did_you_mean(named, known, '; ')}"
    ]


def problems(given: Mapping[str, Any] | None) -> list[str]:
    """A sentence about a job that could be in any code location."""
    if not given or not given.get("job") or given.get("location"):
        return []
    return [
        f"{VARIABLE}.job is {given['job']}, and no location is named; add {VARIABLE}.location, or remove the job: then "
        f"the canary is the job {JOB} of the first code location that has one"
    ]


def proves(components: Iterable[Component]) -> dict[str, Any]:
    """What the state of a host is compared with after its last good canary: the options of module host_facts."""
    components = list(components)
    return {
        "stamps": list(dict.fromkeys(path for component in components for path in component.run_needs())),
        "engine": next(filter(None, (component.engine() for component in components)), ""),
    }
