"""A plant: what it breaks, the test that must notice, and a copy of this checkout in which it is applied."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLANTS = ROOT / "tests" / "plants"
COPIES = (ROOT / ".cache").resolve() / "plants"
FIELDS = ("Promise", "Test", "Host", "Apply", "Limit")


class BadPlant(ValueError):
    """A plant that says too little or something unknown."""


@dataclass(frozen=True)
class Plant:
    """One breakage: what it breaks, the test that must go red, and on which scenario's hosts."""

    name: str  # KIND/NAME
    path: Path
    promise: str
    test: str
    host: str = ""
    apply: str = "site.yml"  # a playbook, or none
    limit: int = 0

    @property
    def kind(self) -> str:
        """Its folder."""
        return self.name.split("/")[0]

    @property
    def server(self) -> bool:
        """Whether its test starts a server, such as a database or a kernel's rules in a namespace."""
        return self.test.startswith("tests/integration/")

    @property
    def python(self) -> bool:
        """Whether it breaks a program or a module, not only what roles and templates say."""
        return any(name.endswith(".py") for name in self.files())

    def files(self) -> list[str]:
        """The paths that it touches."""
        text = self.path.read_text(encoding="utf-8")
        return sorted(set(re.findall(r"^(?:---|\+\+\+) [ab]/(.+)$", text, re.M)))


def read(path: Path) -> Plant:
    """The plant of a file."""
    name = f"{path.parent.name}/{path.stem}"
    head = path.read_text(encoding="utf-8").partition("\ndiff --git ")[0]
    said: dict[str, str] = {}
    for line in head.splitlines():
        key, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or key not in FIELDS or key in said or not value.strip():
            raise BadPlant(f"{name}: found the line {line!r}; expected each of {', '.join(FIELDS)} once at most")
        said[key] = value.strip()
    for key in ("Promise", "Test"):
        if key not in said:
            raise BadPlant(f"{name}: has no line {key}")
    return Plant(
        name,
        path,
        said["Promise"],
        said["Test"],
        said.get("Host", ""),
        said.get("Apply", "site.yml"),
        int(said.get("Limit", 0)),
    )


def every(folder: Path = PLANTS) -> list[Plant]:
    """All plants, by name."""
    return [read(path) for path in sorted(folder.glob("*/*.patch"))]


def git_environment(folder: Path) -> dict[str, str]:
    """With it git takes a folder for itself, not for a part of the checkout above it."""
    return {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}


def apply_problem(plant: Plant, folder: Path, check: bool = False) -> str:
    """Apply a plant, or only check that it applies; returns a sentence if it does not."""
    command = ["git", "apply", *(["--check"] if check else []), str(plant.path)]
    done = subprocess.run(
        command, cwd=folder, env=git_environment(folder), check=False, capture_output=True, text=True, timeout=60
    )
    return "" if done.returncode == 0 else f"does not apply any more: {done.stderr.strip().splitlines()[0]}"


class Copy:
    """A copy of the checkout in which one plant at a time is applied."""

    def __init__(self, number: int) -> None:
        self.folder = COPIES / str(number)
        self.folder.mkdir(parents=True, exist_ok=True)
        cache = self.folder / ".cache"
        if not cache.is_symlink():
            cache.symlink_to((ROOT / ".cache").resolve())
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
        wanted = {name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)} - {".cache"}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name != "__pycache__" and not (Path(folder) / name).is_symlink()]
            for path in (Path(folder) / name for name in names):
                if str(path.relative_to(self.folder)) not in wanted:
                    path.unlink()
        for name in wanted:
            self._copy(ROOT / name, self.folder / name)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        def state(path: Path) -> tuple[int, int, int]:
            found = path.lstat()
            return found.st_mtime_ns, found.st_size, found.st_mode

        if os.path.lexists(target):
            if state(source) == state(target):
                return
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)

    @contextlib.contextmanager
    def planted(self, plant: Plant) -> Iterator[str]:
        """Has the plant inside of it; gives a sentence if it does not apply."""
        paths = [self.folder / name for name in plant.files()]
        kept = {path: (path.read_bytes(), path.stat()) for path in paths if path.exists()}
        try:
            problem = apply_problem(plant, self.folder)
            for path in paths:
                if path.exists() and not problem:  # compiled files are told apart by their second
                    os.utime(path, (time.time() + 10, time.time() + 10))
            yield problem
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
                if path in kept:
                    content, status = kept[path]
                    path.write_bytes(content)
                    path.chmod(status.st_mode)
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
