"""Virtual environments made of parts of the lock of role instance, as install.sh makes them on hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = ROOT / ".cache" / "uv" / "bin" / "uv"
LOCKS = ROOT / "roles" / "instance" / "files" / "locks"
PROGRAM = """
import json, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([sys.argv[1]])
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import libraries
text = libraries.lock(sys.argv[2])
if sys.argv[3] == "of":
    print(json.dumps(libraries.needed(json.load(sys.stdin), [], text)))
else:
    print(libraries.requirements(text, sys.argv[4:], ""), end="")
"""


def asked(*words: str, given: str = "") -> str:
    """What the plan says."""
    argv = [sys.executable, "-c", PROGRAM, str(ROOT / ".deps"), *words]
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=True).stdout


def versions() -> list[str]:
    return sorted(match[1] for path in LOCKS.iterdir() if (match := re.fullmatch(r"dagster-(.+)\.txt", path.name)))


def uv(*argv: str) -> None:
    for _try in range(3):  # a package index that does not answer for a moment is nobody's defect
        done = subprocess.run([str(UV), *argv, "--no-config"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    assert done.returncode == 0, done.stderr


def installed(folder: Path, version: str, *names: str) -> Path:
    """The Python of a new environment with Dagster and these libraries."""
    lock, venv = folder / "lock.txt", folder / "venv"
    lock.write_text(asked(version, "part", *names), encoding="utf-8")
    uv("venv", "--quiet", "--python", sys.executable, str(venv))
    python = venv / "bin" / "python"
    uv("pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(lock))
    return python
