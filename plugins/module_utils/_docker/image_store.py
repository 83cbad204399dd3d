# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `code_images` asks of an engine and does to it."""

from __future__ import annotations

import os
import typing as t

from . import info, registry
from .engine import Engine, explain, sdk_errors, status_of
from .images import REPOSITORY, content_name, split, tail, where
from .labels import IMAGE_LABEL
from .old_images import OldImages

Json = dict[str, t.Any]

BUILD_LOG_LINES = 40
_CHUNK = 4 << 20
# The engine's and the registries' words for "there is no such image, or not for you".
_UNKNOWN = (
    "manifest unknown",
    "not found",
    "repository does not exist",
    "access denied",
    "requested access",
    "denied:",
    "unauthorized",
    " has no ",
)


def _no_image(item: Json, reason: str) -> str:
    """The sentence for an image that cannot be had."""
    if not any(word in reason.lower() for word in _UNKNOWN):
        return (
            f"{where(item['name'], 'image')}: {item['ref']!r} could not be had from its registry: {reason}. "
            "Expected the registry to answer; check its name, the host's route and the engine's CA certificates."
        )
    return (
        f"{where(item['name'], 'image')}: the registry does not give {item['ref']!r} to this host ({reason}). "
        "Expected an image that exists; check the spelling of name and tag, and the login in dagster_registries."
    )


def _never(item: Json, engine: str) -> str:
    """The sentence for an image that nobody is asked for."""
    return (
        f"{where(item['name'], 'image')}: {engine} has no {item['ref']!r}, and pull is never. Load it into that engine "
        "(docker load), or set pull to missing."
    )


def _of_no_registry(item: Json, engine: str) -> str:
    """The sentence for an image that pods could not pull."""
    return (
        f"{where(item['name'], 'image')}: {engine} has {item['ref']!r}, but not from its registry, and pods get it "
        "nowhere else. Push it there and set pull to always, or name one that the registry has."
    )


def registry_problems(images: list[Json], registries: list[Json], docker_host: str) -> list[str]:
    """A sentence for each image that cannot be had, asked by the host itself: it has no engine yet, or no SDK."""
    found = []
    for item in images:
        if item["pull"] == "never":
            found += [] if info.has_image(docker_host, item["ref"]) else [_never(item, f"the engine at {docker_host}")]
        elif reason := registry.problem(item["ref"], registries):
            found.append(_no_image(item, reason))
    return found


class StoreError(Exception):
    """One image could not be had; the message is for the operator."""


def on_bare_host(staged: Json) -> Json:
    """What a check says where no engine is installed yet: every image would be made."""
    verbs = {"image": "pulled", "build": "built", "archive": "loaded"}
    images = staged.get("images") or ()
    out: Json = {
        "images": {item["name"]: {"ref": item["ref"], "id": None, "action": verbs[item["kind"]]} for item in images}
    }
    if staged.get("load"):
        out.update(missing=[item["ref"] for item in staged["load"]], loaded=[])
    if staged.get("export"):
        out["exported"] = []
    if staged.get("keep") is not None:
        out["removed_images"] = []
    return out


class Store:
    def __init__(self, engine: Engine, *, check_mode: bool, build_environment: Json | None = None) -> None:
        self.engine = engine
        self.build_environment = build_environment or {}
        self.check_mode = check_mode
        self.changed = False
        self.borrowed: dict[str, str | None] = {}  # names that bases have for our builds, and what they led to before

    def image_id(self, ref: str) -> str | None:
        try:
            return str(self.engine.api.inspect_image(ref)["Id"])
        except sdk_errors() as error:
            if status_of(error) == 404:
                return None
            raise

    # --- verify -----------------------------------------------------------------------------------------------------

    def verify(self, images: list[Json]) -> Json:
        """Can each reference be had? Nothing is changed."""
        errors: list[str] = []
        for item in images:
            if item["kind"] != "image":
                continue
            try:
                if item["pull"] != "always" and self.image_id(item["ref"]):
                    self._registry_ref(item)
                    continue
                if item["pull"] == "never":
                    raise StoreError(_never(item, f"the engine at {self.engine.endpoint}"))
                self._digest(item)
            except StoreError as error:
                errors.append(str(error))
        return {"unverified": {}, "errors": errors}

    def _digest(self, item: Json) -> str:
        """The digest that the registry has for a reference."""
        try:
            return str(self.engine.api.inspect_distribution(item["ref"])["Descriptor"]["digest"])
        except sdk_errors() as error:
            raise StoreError(_no_image(item, explain(error))) from error

    # --- ensure -----------------------------------------------------------------------------------------------------

    def ensure(self, staged: Json) -> Json:
        """Have all images. `files` of an item says what was transferred for it; without them it is only a question."""
        images: dict[str, Json] = {}
        needs: list[str] = []
        errors: list[str] = []
        try:
            for item in staged.get("images") or ():
                found = self.image_id(item["ref"])
                images[item["name"]] = result = {"ref": item["ref"], "id": found, "action": "none"}
                try:
                    if self._ensure(item, result):
                        needs.append(item["name"])
                except StoreError as error:
                    errors.append(str(error))
                    result["action"] = "none"
        finally:
            # Only now: later builds may have the same base. A name that was free stays, so the base is not sent again.
            self._give_back({name: image for name, image in self.borrowed.items() if image})
        out: Json = {"images": images, "errors": errors, "needs": needs}
        bases = (staged.get("bases") or ()) if needs else ()
        out["needs_bases"] = [item["digest"] for item in bases if not self._has(item["ids"], item["tags"])]
        if staged.get("load"):
            out.update(self._load_all(staged["load"], needs, errors))
        if staged.get("export"):
            out["exported"] = self._export_all(staged["export"], errors)
        if staged.get("keep") is not None:
            out["removed_images"] = self._let_go(staged["keep"])
        return out

    def _ensure(self, item: Json, result: Json) -> bool:
        """Have one image; whether its files have to be transferred first."""
        if item["kind"] == "image":
            self._pull(item, result)
        elif result["id"] is None:
            result["action"] = "built" if item["kind"] == "build" else "loaded"
            if self.check_mode:
                self.changed = True
            elif not item.get("files"):
                return True
            else:
                result["id"] = self._build(item) if item["kind"] == "build" else self._load(item)
        return False

    def _let_go(self, images: t.Mapping[str, str]) -> list[str]:
        """Remove the images that no location needs any more; their names."""
        old = OldImages(self.engine)
        change = old.change(images)
        self.changed = bool(change)
        return list(change.removed) if self.check_mode else old.make(change)

    def _has(self, ids: list[str], tags: list[str]) -> bool:
        """Is everything of an archive here, under its names? An archive that could not be read counts as absent."""
        return bool(ids) and all(self.image_id(item) for item in ids) and all(self.image_id(tag) in ids for tag in tags)

    def _pull(self, item: Json, result: Json) -> None:
        ref, before = item["ref"], result["id"]
        if item["pull"] == "never" and before is None:
            raise StoreError(_never(item, f"the engine at {self.engine.endpoint}"))
        if item["pull"] == "always":
            result["digest"] = self._digest(item)
        if before is None or ("digest" in result and not self._has_digest(ref, result["digest"])):
            if self.check_mode:
                newest = f"{split(ref)[0]}@{result['digest']}" if "digest" in result else ref
                result.update(ref=newest, id=None, action="pulled")
                self.changed = True
                return
            result["id"] = self._pulled(item)
            if result["id"] != before:
                result["action"] = "pulled"
                self.changed = True
                self._mark_as_ours(ref, result["id"])
        if known := self._registry_ref(item):
            result["registry_ref"] = known
        if item["pull"] == "always" or "@" in ref:
            result["ref"] = self._fixed(ref, result["id"])

    def _pulled(self, item: Json) -> str | None:
        """The ID of an image that the registry has given."""
        name, tag = split(item["ref"])
        try:
            for line in self.engine.api.pull(name, tag=tag, stream=True, decode=True):
                if line.get("error"):
                    raise StoreError(_no_image(item, line["error"]))
        except sdk_errors() as error:
            raise StoreError(_no_image(item, explain(error))) from error
        return self.image_id(item["ref"])

    def _registry_ref(self, item: Json) -> str:
        """The image by the digest that its registry has for it; empty for one that did not come from there.

        Another engine, or a cluster, gets the same content by it, wherever the tag leads by now.
        """
        ref = item["ref"]
        name = registry.parse(ref)[:2]
        known = self.engine.api.inspect_image(ref).get("RepoDigests") or []
        for found in known:
            if registry.parse(found)[:2] == name:
                return f"{split(ref)[0]}@{found.partition('@')[2]}"
        if item.get("from_registry"):
            raise StoreError(_of_no_registry(item, f"the engine at {self.engine.endpoint}"))
        return ""

    def _has_digest(self, ref: str, digest: str) -> bool:
        known = self.engine.api.inspect_image(ref).get("RepoDigests") or []
        return any(item.endswith(f"@{digest}") for item in known)

    def _fixed(self, ref: str, image: str) -> str:
        """Our name for the content of an image: a tag moves, and no other engine can have an image by its digest.

        The runs of a code server that has not been replaced yet start with its own image.
        """
        name = content_name(ref, image)
        if self.image_id(name) != image:
            if self.check_mode:
                self.changed = True
            else:
                self._tag(image, name)
        return name

    def _build(self, item: Json) -> str:
        files = item["files"]
        if files.get("base"):
            self.borrowed = {**{name: self.image_id(name) for name in item["base_tags"]}, **self.borrowed}
            self._load_archive(files["base"], where(item["name"], "build.base_archive"))
        log: list[str] = []
        with open(files["context"], "rb") as context:
            try:
                stream = self.engine.api.build(
                    fileobj=context,
                    custom_context=True,
                    encoding="gzip",
                    dockerfile=item["dockerfile"],
                    # Docker knows these arguments by itself: no Dockerfile names them, and no image keeps them.
                    buildargs={**self.build_environment, **item["args"]},
                    labels={IMAGE_LABEL: item["name"]},
                    tag=item["ref"],
                    rm=True,
                    forcerm=True,
                    decode=True,
                )
                for line in stream:
                    log.append(str(line.get("stream") or ""))
                    if line.get("error"):
                        raise StoreError(self._build_failed(item, line["error"], log))
            except sdk_errors() as error:
                raise StoreError(self._build_failed(item, explain(error), log)) from error
        found = self.image_id(item["ref"])
        if found is None:
            raise StoreError(self._build_failed(item, "the engine ended the build without an image", log))
        self.changed = True
        return found

    @staticmethod
    def _build_failed(item: Json, reason: str, log: list[str]) -> str:
        return (
            f"{where(item['name'], 'build')}: the image could not be built: {reason.strip()}\n"
            f"The last lines of the build:\n{tail(''.join(log), BUILD_LOG_LINES)}"
        )

    def _load_archive(self, path: str, variable: str) -> list[str]:
        """Load an archive and give the IDs or names that the engine took from it."""
        loaded: list[str] = []
        try:
            with open(path, "rb") as stream:
                for line in self.engine.api.load_image(stream):
                    if line.get("error"):
                        raise StoreError(f"{variable}: the engine refused the archive: {line['error'].strip()}")
                    said = str(line.get("stream") or "").strip()
                    for prefix in ("Loaded image ID: ", "Loaded image: "):
                        if said.startswith(prefix):
                            loaded.append(said.removeprefix(prefix))
        except sdk_errors() as error:
            raise StoreError(f"{variable}: the engine refused the archive: {explain(error)}") from error
        self.changed = True
        return loaded

    def _load(self, item: Json) -> str:
        variable, wanted = where(item["name"], "archive"), item.get("id")
        before = {name: self.image_id(name) for name in item.get("tags") or ()}
        loaded = self._load_archive(item["files"]["archive"], variable)
        found = wanted if wanted and self.image_id(wanted) else None
        if found is None and len(loaded) != 1:
            raise StoreError(
                f"{variable}: found {len(loaded)} images in the archive ({', '.join(loaded)}), expected one: "
                "docker save of a single image."
            )
        found = found or self.image_id(loaded[0])
        self._tag(str(found), item["ref"])
        self._give_back(before)
        return str(found)

    def _give_back(self, before: t.Mapping[str, str | None]) -> None:
        """The names inside an archive are not ours: they go, or lead to what they led to before."""
        for name, image in before.items():
            if image is None:
                self.engine.api.remove_image(name, noprune=True)
            elif self.image_id(name) != image:
                self._tag(image, name)

    def _mark_as_ours(self, ref: str, image: str | None) -> None:
        """A second name for an image that was not here before, by which we know later that it may go."""
        if image and not ref.startswith(f"{REPOSITORY}/"):
            self._tag(image, content_name(ref, image))

    def _tag(self, image: str, ref: str) -> None:
        name, tag = split(ref)
        self.engine.api.tag(image, name, tag=tag)
        self.changed = True

    # --- copies between engines -------------------------------------------------------------------------------------

    def _load_all(self, items: list[Json], needs: list[str], errors: list[str]) -> Json:
        missing: list[str] = []
        loaded: list[str] = []
        for item in items:
            try:
                if self.image_id(item["ref"]) == item["id"]:
                    continue
                if self.image_id(item["id"]) is None:
                    if not item.get("path") and not item.get("file"):
                        missing.append(item["ref"])
                        continue
                    if self.check_mode:
                        self.changed = True
                        loaded.append(item["ref"])
                        continue
                    if not item.get("file"):
                        needs.append(item["ref"])
                        continue
                    self._load_archive(item["file"], f"load of {item['ref']}")
                    if self.image_id(item["id"]) is None:
                        raise StoreError(
                            f"load of {item['ref']}: the archive {item['path']} does not hold the image {item['id']}."
                        )
                    self._mark_as_ours(item["ref"], item["id"])
                if self.check_mode:
                    self.changed = True
                elif self.image_id(item["ref"]) != item["id"]:
                    self._tag(item["id"], item["ref"])
                loaded.append(item["ref"])
            except StoreError as error:
                errors.append(str(error))
        return {"missing": missing, "loaded": loaded}

    def _export_all(self, items: list[Json], errors: list[str]) -> list[str]:
        done: list[str] = []
        for item in items:
            ref = item.get("ref")
            found = self.image_id(item["id"])
            if found is None:
                errors.append(f"export: the engine has no image {item['id']} ({ref or 'no reference given'}).")
                continue
            if not self.check_mode:
                # By its name where that is still this image: the archive then carries the name as well.
                source = ref if ref and self.image_id(ref) == found else found
                with open(item["file"], "wb") as target:
                    for chunk in self.engine.api.get_image(source, chunk_size=_CHUNK):
                        target.write(chunk)
                # It is fetched by the connection's user, who owns the folder around it.
                os.chmod(item["file"], 0o644)
            done.append(item["path"])
        return done
