"""Compile the locks of this repository: the tools of a checkout, Dagster on the hosts, uv on the hosts, the store of a
scenario, the cluster of another, and every Dagster that the validator is made from and measured against.

A lock keeps the versions it has until it is asked to move:

    lock.py                 after an edit of an input file, or to add a Dagster version: the rest stays
    lock.py --upgrade       newest versions that the inputs allow
    lock.py --check         writes nothing; exit 1 and a diff if a lock does not follow from its input

Each lock is universal (environment markers instead of one platform), holds hashes, and names no index, so that the
same file serves the public index, a company mirror and an offline wheelhouse.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INPUTS = Path("tests/requirements")
EXAMPLE = Path("examples/pipeline")
HOST_LOCKS = Path("roles/instance/files/locks")

# Every version a user may ask for. A version is added here, locked, and tested before it is called supported.
DAGSTER_VERSIONS = ("1.13.26", "1.13.27")

# What the example's image installs more when asked (REQUIREMENTS): locks that hold all of the plain one, in the same
# versions.
EXAMPLE_LIBRARIES = ("aws", "gcp", "mysql")

# One release of each Dagster minor whose dagster.yaml the validator knows. Changing one changes its catalogue too:
# `make catalogue` after `make locks`.
CATALOGUE_VERSIONS = (DAGSTER_VERSIONS[-1], "1.12.22", "1.11.16")

# The oldest Python we meet: Debian 12 has 3.11, Debian 13 has 3.13. A universal lock covers everything from here up.
PYTHON_VERSION = "3.11"


class LockError(Exception):
    """What went wrong, in one sentence for the person who ran this."""


@dataclass(frozen=True)
class Lock:
    """One lock: its input text and where both live, relative to the root of the repository.

    Of a lock with optional packages (a second input), hosts install a part. Such a lock says of each package what needs
    it, and which input names it. One that extends another (an earlier one) has its packages in the same versions.
    """

    source: Path
    text: str
    target: Path
    optional: tuple[Path, str] | None = None
    extends: Path | None = None


def library_version(version: str) -> str:
    """Return the version of dagster-postgres and its like released with a Dagster version: 1.X.Y, 0.(X+16).Y."""
    match = re.fullmatch(r"1\.(\d+)\.(\d+)", version)
    if match is None:
        raise LockError(f"Dagster version {version!r} is not of the form 1.X.Y; correct DAGSTER_VERSIONS in lock.py.")
    return f"0.{int(match[1]) + 16}.{match[2]}"


def minor(version: str) -> str:
    """Return 1.X of 1.X.Y."""
    return version.rpartition(".")[0]


def locks() -> Iterator[Lock]:
    """Yield every lock of the repository."""

    def plain(source: Path, target: Path) -> Lock:
        return Lock(source, (ROOT / source).read_text(encoding="utf-8"), target)

    yield plain(INPUTS / "tools.in", INPUTS / "tools.lock")
    yield plain(INPUTS / "oldest.in", INPUTS / "oldest.lock")
    yield plain(INPUTS / "s3.in", INPUTS / "s3.lock")
    yield plain(INPUTS / "gcs.in", INPUTS / "gcs.lock")
    yield plain(INPUTS / "kubernetes.in", INPUTS / "kubernetes.lock")
    yield plain(INPUTS / "uv.in", HOST_LOCKS / "uv.txt")
    for name in ("requirements", "build-requirements"):
        yield plain(EXAMPLE / f"{name}.in", EXAMPLE / f"{name}.lock")
    example = plain(EXAMPLE / "requirements.in", EXAMPLE / "requirements.lock")
    for name in EXAMPLE_LIBRARIES:
        more = f"{example.text}\ndagster-{name}=={library_version(DAGSTER_VERSIONS[-1])}\n"
        yield Lock(example.source, more, EXAMPLE / f"requirements-{name}.lock", extends=example.target)
    template = plain(INPUTS / "dagster.in", HOST_LOCKS)
    libraries = plain(INPUTS / "libraries.in", HOST_LOCKS)
    for version in DAGSTER_VERSIONS:
        text = template.text.replace("{version}", version).replace("{library}", library_version(version))
        more = libraries.text.replace("{library}", library_version(version))
        yield Lock(template.source, text, HOST_LOCKS / f"dagster-{version}.txt", (libraries.source, more))
    # What the newest one has, the library of the other database, and libraries whose classes people configure beside
    # ours: the tests ask all of them. moto stands in for AWS, kmock for the API of Kubernetes.
    names = ("aws", "celery-k8s", "k8s", "mysql")
    more = "".join(f"dagster-{name}=={library_version(version)}\n" for name in names)
    text += f"\n{more}moto\nflask\nflask-cors\nkmock\n"
    yield Lock(template.source, text, INPUTS / "dagster.lock")
    oracle = plain(INPUTS / "oracle.in", INPUTS)
    for version in CATALOGUE_VERSIONS:
        text = oracle.text.replace("{version}", version).replace("{library}", library_version(version))
        yield Lock(oracle.source, text, INPUTS / f"oracle-{minor(version)}.lock")


def find_uv() -> str:
    """Return the uv to run: the one of the environment this script runs in, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = os.environ.get("UV") or (str(beside) if beside.exists() else shutil.which("uv"))
    if not found:
        raise LockError("No uv found beside this Python or on PATH; install it (pip install uv) or set UV=/path/to/uv.")
    return found


def compile_lock(uv: str, lock: Lock, *, upgrade: bool, made: Mapping[Path, str]) -> str:
    """Return the text the lock should have; made has those of the locks before it."""
    sources = [(lock.source, lock.text), *([lock.optional] if lock.optional else [])]
    names = " and ".join(str(source) for source, _text in sources)
    that = "them" if lock.optional else "that file"
    header = (
        f"# Made by tests/requirements/lock.py from {names}: change {that} and run `make locks`.\n"
        f"# Python {PYTHON_VERSION} and newer. Install with --require-hashes.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, lock.target.name)
        for source, text in sources:
            Path(folder, source.name).write_text(text, encoding="utf-8")
        current = ROOT / lock.target
        if current.exists() and not upgrade:
            # uv prefers the versions it finds in its output file.
            shutil.copyfile(current, output)
        argv = [uv, "pip", "compile", *(source.name for source, _text in sources), "--output-file", output.name]
        argv += ["--universal", "--python-version", PYTHON_VERSION, "--generate-hashes"]
        argv += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
        argv += [] if lock.optional else ["--no-annotate"]
        if lock.extends:
            Path(folder, "extended.txt").write_text(made[lock.extends], encoding="utf-8")
            argv += ["--constraints", "extended.txt"]
        # A uv.toml or pyproject.toml of the user's must not change what is locked; index settings stay in the
        # environment, where a company mirror belongs.
        done = subprocess.run([*argv, "--no-config"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LockError(f"uv could not resolve {lock.target} from {names}:\n{done.stderr.strip()}")
        return header + output.read_text(encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--upgrade", action="store_true", help="take the newest versions that the inputs allow")
    mode.add_argument("--check", action="store_true", help="write nothing, fail if a lock does not follow its input")
    options = parser.parse_args(arguments)

    stale = 0
    try:
        uv = find_uv()
        wanted: dict[Path, str] = {}
        for lock in locks():
            wanted[lock.target] = compile_lock(uv, lock, upgrade=options.upgrade, made=wanted)
    except LockError as error:
        print(f"lock.py: {error}", file=sys.stderr)
        return 2
    for target, text in wanted.items():
        path = ROOT / target
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        stale += 1
        if options.check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    old.splitlines(keepends=True), text.splitlines(keepends=True), str(target), "from its input"
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {target}")
    # A lock nobody makes any more would still be offered to users as a supported version.
    for path in sorted((ROOT / HOST_LOCKS).glob("dagster-*.txt")):
        if path.relative_to(ROOT) not in wanted:
            stale += 1
            print(f"{path.relative_to(ROOT)}: not in DAGSTER_VERSIONS of lock.py; remove the file or add the version")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
