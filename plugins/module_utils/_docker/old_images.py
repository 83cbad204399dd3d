# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The images of code that is not used any more: of each location stay the current one and the one before it.

The engine itself keeps the record of these: a name of ours for each, `dagster-code-current:LOCATION` and
`dagster-code-previous:LOCATION`. Of a location that is gone stays the image that it had last. An image goes only when
it has a name that we gave it (built, loaded or pulled by us), and no container, whosever it is.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .engine import Engine, sdk_errors, status_of
from .images import REPOSITORY, content_name, repository, split

CURRENT, PREVIOUS = f"{REPOSITORY}-current", f"{REPOSITORY}-previous"
# What is made of an image's content: that of an image which we have brought.
BROUGHT = re.compile(rf"{REPOSITORY}/[a-z0-9-]+:[0-9a-f]{{16}}")


@dataclass(frozen=True)
class Change:
    """What is to be done to the names of images, so that what has none goes."""

    named: tuple[tuple[str, str], ...] = ()  # image and the new name
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.named or self.removed)


def change(names: t.Mapping[str, str], wanted: t.Mapping[str, str], used: t.Callable[[], set[str]]) -> Change:
    """Pure: names gives the image of each name of ours, wanted that of each location here, used those of containers.

    The newest image has the first name.
    """
    kept = {name: image for name, image in names.items() if split(name)[0] in (CURRENT, PREVIOUS)}
    for location, image in wanted.items():
        before = kept.get(f"{CURRENT}:{location}") or _before_the_record(names, location, image)
        if before and before != image:
            kept[f"{PREVIOUS}:{location}"] = before
        kept[f"{CURRENT}:{location}"] = image
    gone = [name for name in kept if split(name)[0] == PREVIOUS and split(name)[1] not in wanted]
    for name in gone:
        del kept[name]
    named = tuple((image, name) for name, image in kept.items() if names.get(name) != image)
    old = [name for name, image in names.items() if BROUGHT.fullmatch(name) and image not in kept.values()]
    taken = used() if old else set()
    return Change(named, (*gone, *(name for name in old if names[name] not in taken)))


def _before_the_record(names: t.Mapping[str, str], location: str, image: str) -> str:
    """What a location had before its current image, when nobody has kept a record yet."""
    ours = ((split(name)[0], other) for name, other in names.items() if BROUGHT.fullmatch(name))
    return next((other for of, other in ours if of == repository(location) and other != image), "")


class OldImages:
    """Those of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def change(self, wanted: t.Mapping[str, str]) -> Change:
        """What has to be done for these locations, each with the reference of its image."""
        names = self._names()
        images = {location: names.get(ref) or self._image(ref) for location, ref in wanted.items()}
        here = {location: image for location, image in images.items() if image}
        return change(names, here, self._used)

    def make(self, wish: Change) -> list[str]:
        """Do it; the names that are gone."""
        for image, name in wish.named:
            repository, tag = split(name)
            self.engine.api.tag(image, repository, tag=tag, force=True)
        return [name for removed in wish.removed for name in self._remove(removed)]

    def _names(self) -> dict[str, str]:
        listed = self.engine.api.images(filters={"reference": [f"{REPOSITORY}/*", CURRENT, PREVIOUS]})
        # The engine has no order of its own for images of one second.
        newest_first = sorted(listed, key=lambda item: (int(item.get("Created") or 0), str(item["Id"])), reverse=True)
        return {name: str(item["Id"]) for item in newest_first for name in item.get("RepoTags") or ()}

    def _image(self, ref: str) -> str:
        found = self._inspect(ref)
        return str(found["Id"]) if found else ""

    def _inspect(self, ref: str) -> dict[str, t.Any] | None:
        try:
            return t.cast("dict[str, t.Any]", self.engine.api.inspect_image(ref))
        except sdk_errors() as error:
            if status_of(error) == 404:
                return None
            raise

    def _used(self) -> set[str]:
        return {str(container["ImageID"]) for container in self.engine.api.containers(all=True)}

    def _remove(self, name: str) -> list[str]:
        """Take a name away, and that with which the image was pulled; an image without names is gone."""
        found = self._inspect(name)
        if found is None:
            return []
        others = [*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())]
        pulled = [other for other in others if content_name(other, found["Id"]) == name]
        removed = []
        for each in [*pulled, name]:
            try:
                self.engine.api.remove_image(each)
            except sdk_errors() as error:
                if status_of(error) not in (404, 409):  # gone, or a container has been made of it meanwhile
                    raise
            else:
                removed.append(each)
        return removed
