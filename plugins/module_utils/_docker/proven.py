# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the record of a host says of its images: which have been shown to open which instance. Pure: no I/O."""

from __future__ import annotations

import hashlib
import json
import typing as t

from .._dagster.program import program

Json = dict[str, t.Any]

# What decides where Python finds packages.
PYTHON = {"LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}


def of_location(instance: Json, name: str) -> Json:
    """What the runs of a location read; those that start their steps ask the launcher too."""
    steps = instance.get("steps") or {}
    return {**instance, **steps} if name in (steps.get("locations") or ()) else instance


def digest(instance: Json, env: Json) -> str:
    """What a proof depends on beside the image."""
    asked = [instance["dagster_yaml"], instance["dagster_version"], env, program()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def environment(instance: Json, location: str) -> dict[str, str]:
    """What of the environment of a location's runs the instance depends on."""
    every = {**(instance.get("env") or {}), **((instance.get("location_env") or {}).get(location) or {})}
    named = instance["dagster_yaml"]
    return {str(name): str(value) for name, value in every.items() if name in PYTHON or str(name) in named}


def recorded(text: str) -> Json:
    """The record: versions of Dagster by proof, by the ID of an image."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def versions(record: Json, instance: Json, images: t.Mapping[str, str]) -> dict[str, str] | None:
    """The version of Dagster in the image of each location; None when an image is yet to be asked."""
    found = {}
    for name, image in images.items():
        read = of_location(instance, name)
        found[name] = (record.get(image) or {}).get(digest(read, environment(read, name)))
    return None if None in found.values() else t.cast("dict[str, str]", found)
