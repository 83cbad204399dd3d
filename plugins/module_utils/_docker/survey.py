# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What there is on an engine: looked at once, in parallel, before anything is decided."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .engine import Engine, explain, sdk_errors, status_of
from .labels import CONFIG_LABEL, LOCATION_LABEL
from .location import NEXT_SUFFIX, PREVIOUS_SUFFIX, Location
from .state import name_of

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Stand:
    """What of one location is on the engine. The second and third are of a swap that did not end."""

    current: Json | None = None
    previous: Json | None = None
    next: Json | None = None


@dataclass(frozen=True)
class Survey:
    """What there is: our containers by name, the wanted images by reference (or why there is none), network IDs."""

    containers: t.Mapping[str, Json]
    images: t.Mapping[str, Json | str]
    networks: t.Mapping[str, str]

    def stand(self, location: Location) -> Stand:
        """What of this location is there."""
        names = (location.container + suffix for suffix in ("", PREVIOUS_SUFFIX, NEXT_SUFFIX))
        return Stand(*(self.containers.get(name) for name in names))

    def strays(self, locations: t.Iterable[Location]) -> list[Json]:
        """Containers of ours that belong to none of these locations."""
        suffixes = ("", NEXT_SUFFIX, PREVIOUS_SUFFIX)
        known = {location.container + suffix for location in locations for suffix in suffixes}
        return [item for name, item in sorted(self.containers.items()) if name not in known]


def survey(engine: Engine, locations: t.Sequence[Location], prefix: str, pool: ThreadPoolExecutor) -> Survey:
    """One list, then parallel inspects. Containers of another prefix belong to another instance."""
    references = sorted({location.image for location in locations})
    names = {name for location in locations for name in location.all_networks}
    networks = pool.submit(_networks, engine, names)
    images = pool.map(lambda reference: _image(engine, reference), references)
    # Both labels: an image may carry the first one, and every run container inherits the labels of its image.
    listed = engine.api.containers(all=True, filters={"label": [LOCATION_LABEL, CONFIG_LABEL]})
    inspected = pool.map(lambda container: inspect(engine, container), [item["Id"] for item in listed])
    found = {name_of(item): item for item in inspected if item and name_of(item).startswith(f"{prefix}-")}
    return Survey(found, dict(zip(references, images, strict=True)), networks.result())


def inspect(engine: Engine, container: str) -> Json | None:
    """The container as it is now; None if it is gone."""
    try:
        return t.cast(Json, engine.api.inspect_container(container))
    except sdk_errors() as error:
        if status_of(error) == 404:
            return None
        raise


def _image(engine: Engine, reference: str) -> Json | str:
    try:
        return t.cast(Json, engine.api.inspect_image(reference))
    except sdk_errors() as error:
        return explain(error)


def _networks(engine: Engine, names: set[str]) -> dict[str, str]:
    # The engine's filter matches parts of names.
    listed = engine.api.networks(names=sorted(names)) if names else []
    return {item["Name"]: item["Id"] for item in listed if item["Name"] in names}
