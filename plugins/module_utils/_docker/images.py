# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which image a build context or an image archive makes, told from its content alone.

Runs on the controller (files are read) and needs the standard library only. The name of an image that is built or
loaded is made from the digest of what it is made of, so "is it there already?" is one question to the engine.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import stat
import tarfile
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from .forms import text

REPOSITORY = "dagster-code"
# Part of each digest: raise it when the same input has to make another image.
SCHEME = "1"
# One date for all files; not 1970, because ZIP archives (wheels) begin in 1980.
MTIME = 946684800
_CHUNK = 1 << 20

PULL = ("always", "missing", "never")

ARGUMENT_SPEC: dict[str, t.Any] = {
    "docker_host": {"type": "str", "default": "unix:///run/docker.sock"},
    "images": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "image": {"type": "str"},
            "pull": {"type": "str", "choices": list(PULL), "default": "missing"},
            "from_registry": {"type": "bool", "default": False},
            "build": {
                "type": "dict",
                "options": {
                    "context": {"type": "path", "required": True},
                    "dockerfile": {"type": "str", "default": "Dockerfile"},
                    "args": {"type": "dict", "default": {}},
                    "base_archive": {"type": "path"},
                },
            },
            "archive": {"type": "path"},
        },
        "mutually_exclusive": [["image", "build", "archive"]],
        "required_one_of": [["image", "build", "archive"]],
    },
    "registries": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "address": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
        },
    },
    "proxy": {
        "type": "dict",
        "default": {},
        "options": {
            "http": {"type": "str", "no_log": True},
            "https": {"type": "str", "no_log": True},
            "no_proxy": {"type": "str"},
        },
    },
    "verify_only": {"type": "bool", "default": False},
    "begin": {"type": "bool", "default": False},
    "keep": {"type": "dict"},
    "export": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "id": {"type": "str", "required": True},
            "ref": {"type": "str"},
            "path": {"type": "path", "required": True},
        },
    },
    "load": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "id": {"type": "str", "required": True},
            "ref": {"type": "str", "required": True},
            "path": {"type": "path"},
        },
    },
    "instance": {
        "type": "dict",
        "options": {
            "dagster_yaml": {"type": "str", "required": True},
            "dagster_version": {"type": "str", "required": True},
            "written": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
            "location_env": {"type": "dict", "default": {}},
            "steps": {
                "type": "dict",
                "options": {
                    "dagster_yaml": {"type": "str", "required": True},
                    "written": {"type": "list", "elements": "str", "default": []},
                    "locations": {"type": "list", "elements": "str", "required": True},
                },
            },
            "record": {"type": "path", "required": True},
        },
    },
    "staged": {"type": "dict"},
}


class ImageError(Exception):
    """Something on the controller is not as the inventory says; the message is for the operator."""


def where(name: str, key: str = "") -> str:
    return f"dagster_code_locations[{name}]" + (f".{key}" if key else "")


def repository(name: str) -> str:
    """A location's name as part of an image's name, which knows no capitals and no doubled separators."""
    clean = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{REPOSITORY}/{clean or 'location'}"


def split(ref: str) -> tuple[str, str]:
    """`repo:tag` and `repo@sha256:...` for the engine's two parameters; a registry's port is no tag."""
    if "@" in ref:
        name, _at, digest = ref.partition("@")
        return split(name)[0], digest  # a tag beside a digest says nothing more
    name, colon, tag = ref.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (ref, "latest")


def content_name(ref: str, image: str) -> str:
    """Our own name for an image that we have brought under the name that a registry gives it."""
    return f"{repository(split(ref)[0])}:{image.removeprefix('sha256:')[:16]}"


# --- .dockerignore ---------------------------------------------------------------------------------------------------


def _pattern(pattern: str) -> re.Pattern[str]:
    """The rules of Docker's own matcher: `*` and `?` stay inside one folder, `**` does not."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
                out += "(?:.*/)?"
            else:
                out += ".*"
            continue
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and "]" in pattern[at + 1 :]:
            end = pattern.index("]", at + 1)
            out += "[" + pattern[at + 1 : end].replace("\\", "\\\\") + "]"
            at = end
        elif char == "\\" and at + 1 < len(pattern):
            at += 1
            out += re.escape(pattern[at])
        else:
            out += re.escape(char)
        at += 1
    # What is below an ignored folder is ignored with it.
    return re.compile(out + r"(?:/.*)?\Z", re.DOTALL)


class Ignore:
    """The decision of a .dockerignore file for a path; the last rule that matches wins."""

    def __init__(self, lines: t.Iterable[str] = ()) -> None:
        self.rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in lines:
            rule = line.strip()
            if not rule or line.startswith("#"):
                continue
            keep = rule.startswith("!")
            rule = os.path.normpath(rule[keep:].strip()).strip("/")
            if rule and rule != ".":
                self.rules.append((keep, _pattern(rule)))
        self.has_exceptions = any(keep for keep, _regex in self.rules)

    def __call__(self, path: str) -> bool:
        ignored = False
        for keep, regex in self.rules:
            if ignored == keep and regex.match(path):
                ignored = not keep
        return ignored


# --- build context ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One member of a build context. Modes are reduced to what git keeps, so that a umask changes nothing."""

    path: str
    kind: str  # file, link or folder
    source: Path
    executable: bool = False
    target: str = ""

    @property
    def mode(self) -> int:
        return 0o755 if self.executable or self.kind == "folder" else 0o644


def list_context(context: Path, dockerfile: str) -> list[Entry]:
    """What of a context is sent to the engine, sorted."""
    # A .dockerignore of the Dockerfile's own comes first, as with docker build.
    candidates = [context / f"{dockerfile}.dockerignore", context / ".dockerignore"]
    found = next((item for item in candidates if item.is_file()), None)
    ignore = Ignore(found.read_text(encoding="utf-8-sig").splitlines() if found else ())
    entries: list[Entry] = []
    for folder, folders, files in os.walk(context):
        base = Path(folder).relative_to(context)
        for name in sorted(folders):
            path = (base / name).as_posix()
            source = Path(folder, name)
            # Bytecode of another machine is never wanted, and running the code here must not change its image.
            skip = name == "__pycache__" or ignore(path)
            if skip and (name == "__pycache__" or not ignore.has_exceptions):
                folders.remove(name)
            elif source.is_symlink():
                if not skip:
                    entries.append(Entry(path, "link", source, target=os.readlink(source)))
            elif not skip:
                entries.append(Entry(path, "folder", source))
        for name in files:
            path = (base / name).as_posix()
            if ignore(path) and path != dockerfile:
                continue
            source = Path(folder, name)
            mode = source.lstat().st_mode
            if stat.S_ISLNK(mode):
                entries.append(Entry(path, "link", source, target=os.readlink(source)))
            elif stat.S_ISREG(mode):
                entries.append(Entry(path, "file", source, bool(mode & stat.S_IXUSR)))
    return sorted(entries, key=lambda entry: entry.path)


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def pack_context(entries: t.Iterable[Entry], target: Path) -> None:
    """A tar.gz with the same bytes for the same content."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=5, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mtime, info.mode = MTIME, entry.mode
            if entry.kind == "folder":
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif entry.kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, entry.target
                archive.addfile(info)
            else:
                data = entry.source.read_bytes()
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


# --- image archives --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """An image archive: its digest, and the images inside where they can be read without unpacking it."""

    path: Path
    digest: str
    ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def _images_inside(path: Path) -> list[dict[str, t.Any]]:
    """manifest.json of `docker save`. Only of an uncompressed one: there, the members before it are jumped over."""
    try:
        with tarfile.open(path, mode="r:") as archive:
            for member in archive:
                if member.name == "manifest.json":
                    stream = archive.extractfile(member)
                    found = json.load(stream) if stream else []
                    return found if isinstance(found, list) else []
    except (tarfile.TarError, ValueError):
        pass  # compressed, or something that the engine has to judge
    return []


def read_archive(path: Path) -> Archive:
    """The ID of an image is a digest of its content, so reading it beats hashing the file."""
    images = _images_inside(path)
    ids = tuple("sha256:" + Path(str(item.get("Config", ""))).name.removesuffix(".json") for item in images)
    tags = tuple(tag for item in images for tag in item.get("RepoTags") or ())
    if ids and all(re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in ids):
        digest = hashlib.sha256("\n".join([SCHEME, *sorted(ids), *sorted(tags)]).encode()).hexdigest()
        return Archive(path, digest, ids, tags)
    return Archive(path, file_digest(path))


# --- what is wanted --------------------------------------------------------------------------------------------------


@dataclass
class Wanted:
    """One image, with a reference that is known before anything is built."""

    name: str
    kind: str  # image, build or archive
    ref: str
    pull: str = "missing"
    from_registry: bool = False  # pods, too, have to get it there
    entries: list[Entry] = field(default_factory=list)
    dockerfile: str = "Dockerfile"
    args: dict[str, str] = field(default_factory=dict)
    base: Archive | None = None
    archive: Archive | None = None

    def public(self) -> dict[str, t.Any]:
        """The question to the engine."""
        found = {"name": self.name, "kind": self.kind, "ref": self.ref, "pull": self.pull}
        return {**found, "from_registry": True} if self.from_registry else found


def build_digest(entries: t.Iterable[Entry], dockerfile: str, args: t.Mapping[str, str], base: Archive | None) -> str:
    digest = hashlib.sha256()
    head = {"scheme": SCHEME, "dockerfile": dockerfile, "args": dict(args), "base": base.digest if base else ""}
    digest.update(json.dumps(head, sort_keys=True).encode())
    for entry in entries:
        content = file_digest(entry.source) if entry.kind == "file" else entry.target
        digest.update(json.dumps([entry.path, entry.kind, entry.mode, content]).encode())
    return digest.hexdigest()


def _file(name: str, key: str, path: Path) -> Path:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise ImageError(
            f"{where(name, key)}: found {found} at {path} on the controller, expected an image archive made by "
            "docker save."
        )
    if not os.access(path, os.R_OK):
        raise ImageError(f"{where(name, key)}: {path} on the controller cannot be read by the user of this play.")
    return path


def want(
    item: t.Mapping[str, t.Any], resolve: t.Callable[[str], str], archives: dict[Path, Archive] | None = None
) -> Wanted:
    """One item of `images`, checked against the controller's files. `archives` is a cache, for shared bases."""
    cache = {} if archives is None else archives

    def archive(key: str, path: str) -> Archive:
        file = _file(name, key, Path(resolve(path)))
        if file not in cache:
            cache[file] = read_archive(file)
        return cache[file]

    name = str(item["name"])
    if item.get("image"):
        pull, pods = item.get("pull") or "missing", bool(item.get("from_registry"))
        return Wanted(name, "image", str(item["image"]), pull=pull, from_registry=pods)
    if item.get("archive"):
        found = archive("archive", item["archive"])
        if len(found.ids) > 1:
            raise ImageError(
                f"{where(name, 'archive')}: {found.path} holds {len(found.ids)} images ({', '.join(found.tags)}), "
                "expected one: docker save of a single image."
            )
        return Wanted(name, "archive", f"{repository(name)}:{found.digest[:16]}", archive=found)
    build = item["build"]
    context = Path(resolve(build["context"]))
    if not context.is_dir():
        raise ImageError(
            f"{where(name, 'build.context')}: found no folder {context} on the controller, expected the build context."
        )
    dockerfile = os.path.normpath(build.get("dockerfile") or "Dockerfile")
    if os.path.isabs(dockerfile) or dockerfile.startswith(".."):
        raise ImageError(
            f"{where(name, 'build.dockerfile')}: found {dockerfile!r}, expected a path inside the context {context}."
        )
    if not (context / dockerfile).is_file():
        raise ImageError(
            f"{where(name, 'build.dockerfile')}: found no file {dockerfile} in the context {context} on the controller."
        )
    args = {str(key): text(value) for key, value in (build.get("args") or {}).items()}
    base = archive("build.base_archive", build["base_archive"]) if build.get("base_archive") else None
    try:
        entries = list_context(context, dockerfile)
        digest = build_digest(entries, dockerfile, args, base)
    except OSError as error:
        raise ImageError(f"{where(name, 'build.context')}: {error} (on the controller).") from error
    return Wanted(
        name, "build", f"{repository(name)}:{digest[:16]}", entries=entries, dockerfile=dockerfile, args=args, base=base
    )


def want_all(
    items: t.Iterable[t.Mapping[str, t.Any]], resolve: t.Callable[[str], str]
) -> tuple[list[Wanted], list[str]]:
    """All images, and all that is wrong with them at once."""
    wanted: list[Wanted] = []
    errors: list[str] = []
    archives: dict[Path, Archive] = {}
    names: set[str] = set()
    for item in items:
        name = str(item["name"])
        if name in names:
            errors.append(f"dagster_code_locations names {name!r} twice; every location needs its own name.")
        names.add(name)
        try:
            wanted.append(want(item, resolve, archives))
        except ImageError as error:
            errors.append(str(error))
    return wanted, errors


def tail(log: str, lines: int) -> str:
    # The classic builder colours what came from stderr.
    found = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in found[-lines:]) or "  (no output)"
