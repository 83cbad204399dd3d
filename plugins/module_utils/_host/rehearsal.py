# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A program judges new files before any of them is in place.

HAProxy is given the path of a copy. nginx finds its files by itself, so it is asked with the very command that reads
the real paths. It sees the new files there, because it runs in a mount namespace of its own, in which copies of the
folders lie over the real ones. Nobody else sees the copies, and they go with the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host.files import Entry, Refused, leftovers

# Arguments: copy and folder in pairs, then -- and the command. A shell says 126 of what it cannot run.
INSIDE = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 126; shift 2; done; shift; exec "$@"'
MEMORY = "/run"  # copies may hold secrets, so they are on no disk


def differing(specs: list[dict[str, Any]], secrets: dict[str, str]) -> list[dict[str, Any]]:
    """The files and links that are not as wanted."""
    candidates = (spec for spec in specs + leftovers(specs) if spec["state"] != "directory")
    return [spec for spec in candidates if Entry(True, spec, secrets).reconcile() is not None]


def copies(
    specs: list[dict[str, Any]], secrets: dict[str, str], stage: str, folders: dict[str, dict[str, Any]]
) -> list[str]:
    """Makes a copy of each folder as it would be; copy and folder in turn, an outer folder before an inner one.

    folders: the specs of folders, by path. A check may run as a user who has to be let into a folder that is new.
    """
    pairs = []
    for number, folder in enumerate(sorted({os.path.dirname(spec["dest"]) for spec in specs})):
        copy = os.path.join(stage, str(number))
        if os.path.isdir(folder):
            shutil.copytree(folder, copy, symlinks=True)
        else:
            os.mkdir(copy)
            os.chmod(copy, 0o755)  # noqa: S103 - as folders are in
        if folder in folders:
            Entry(False, {**folders[folder], "dest": copy}, {}).reconcile()
        for spec in specs:
            if os.path.dirname(spec["dest"]) == folder:
                there = os.path.join(copy, os.path.basename(spec["dest"]))
                Entry(False, {**spec, "dest": there}, {there: secrets.get(spec["dest"], "")}).reconcile()
        pairs += [copy, folder]
    return pairs


def ask(command: list[str], pairs: list[str]) -> str:
    """What the command says against the files, empty when it takes them or when this host allows no such look."""
    made = [folder for folder in pairs[1::2] if not os.path.isdir(folder)]
    for folder in made:
        os.makedirs(folder)
    try:
        argv = ["unshare", "--mount", "sh", "-c", INSIDE, "sh", *pairs, "--", *command] if pairs else command
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    finally:
        for folder in made:
            os.rmdir(folder)
    if done.returncode in (0, 126) or done.stderr.startswith("unshare:"):
        return ""
    return f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}"


def judged(
    check: list[str], specs: list[dict[str, Any]], secrets: dict[str, str], folders: dict[str, dict[str, Any]]
) -> str:
    """What a check says against the files of specs. A path that the command names is replaced by that of a copy."""
    with tempfile.TemporaryDirectory(prefix="dagster-check-", dir=MEMORY) as stage:
        named = {spec["dest"]: os.path.join(stage, f"named{number}") for number, spec in enumerate(specs)}
        named = {path: there for path, there in named.items() if path in check}
        for spec in specs:
            there = named.get(spec["dest"])
            if there:
                Entry(False, {**spec, "dest": there}, {there: secrets.get(spec["dest"], "")}).reconcile()
        pairs = copies([spec for spec in specs if spec["dest"] not in named], secrets, stage, folders)
        refused = ask([named.get(word, word) for word in check], pairs)
    for path, there in named.items():
        refused = refused.replace(there, path)
    return refused


def rehearse(specs: list[dict[str, Any]], secrets: dict[str, str], units: Iterable[dict[str, Any]]) -> None:
    """Has each unit's check judge the new files that the unit reads. Raises Refused.

    A host without mount namespaces, or with a folder that cannot be copied, is no reason to fail: the same command is
    asked again before the unit takes the files.
    """
    checked = [unit for unit in units if unit["check"] and unit["state"] == "started"]
    changed = differing(specs, secrets) if checked else []
    folders = {spec["dest"]: spec for spec in specs if spec["state"] == "directory"}
    for unit in checked:
        own = [spec for spec in changed if {spec["dest"], os.path.dirname(spec["dest"])} & set(unit["files"])]
        try:
            refused = judged(unit["check"], own, secrets, folders) if own else ""
        except OSError:
            continue
        if refused:
            paths = ", ".join(spec["dest"] for spec in own)
            raise Refused(f"{refused}\nNothing was changed. {unit['name']} would have read {paths}.")
