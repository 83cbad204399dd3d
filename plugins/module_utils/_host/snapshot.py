# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads in one go what roles compare on a host: files, and units with the files that they read.

plugin_utils/snapshot.py compares it on the controller. No text of a file is in it, only a mark of each.
"""

from __future__ import annotations

import contextlib
import glob
import grp
import hashlib
import hmac
import os
import pwd
import re
import stat
from collections.abc import Iterable
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host import firewall
from ansible_collections.dataops.dagster.plugins.module_utils._host.here import HERE
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import next_of, previous_of
from ansible_collections.dataops.dagster.plugins.module_utils._host.units import Failed, Unit, shown, times, unit_files

LARGEST = 1 << 20  # bytes of a file that gets a mark
# Of module host_facts.
OPTIONS: dict[str, Any] = {
    "places": {"type": "list", "elements": "path", "default": []},
    "units": {"type": "list", "elements": "str", "default": []},
    "table": {"type": "dict"},
}
ATTRIBUTES = ("st_mode", "st_uid", "st_gid", "st_mtime")


def mark(key: str, path: str, text: bytes) -> str:
    """What a file has, for whoever has the key and a text to compare. A short password cannot be guessed from it.

    Two files with the same text have different marks.
    """
    return hmac.new(key.encode(), path.encode() + b"\0" + text, hashlib.sha256).hexdigest()


def with_versions(places: Iterable[str]) -> list[str]:
    """The places, and those where a killed call has left the next or the previous version of what is there."""
    found = dict.fromkeys(places)
    hidden = [version(place) for place in found if not place.endswith("/*") for version in (next_of, previous_of)]
    return list(dict.fromkeys([*found, *hidden]))


def expression(places: Iterable[str]) -> re.Pattern[str]:
    """What fits one of these places. In a place, `*` stands for a part of one name, also of a hidden one."""
    return re.compile("|".join(re.escape(place).replace(re.escape("*"), "[^/]*") for place in places) or "(?!)")


def pattern(place: str) -> str:
    """The same for glob, in which `*` alone is special here."""
    return glob.escape(place).replace("[*]", "*")


def about(state: Any) -> dict[str, Any]:
    """What is compared of a path."""
    return {name: getattr(state, name) for name in ATTRIBUTES}


def entry(path: str, key: str) -> dict[str, Any]:
    """What is at a path that is there."""
    state = os.lstat(path)
    found = about(state)
    if stat.S_ISLNK(state.st_mode):
        found["target"] = os.readlink(path)
        folder = HERE.folder(path)
        found.update({"folder": about(folder)} if folder else {})
    elif stat.S_ISREG(state.st_mode) and state.st_size <= LARGEST:
        found["mark"] = mark(key, path, HERE.content(path) or b"")
    return found


def entries(places: Iterable[str], key: str) -> dict[str, dict[str, Any]]:
    """What is at the places."""
    found: dict[str, dict[str, Any]] = {}
    for place in places:
        for path in glob.glob(pattern(place), include_hidden=True) if "*" in place else [place]:
            try:
                found[path] = entry(path, key)
            except (FileNotFoundError, NotADirectoryError):  # or not any more, or a part of the path is no folder
                continue
            except OSError:  # as on a network's file system that has gone
                found[path] = {"unread": True}
    return found


def owners(found: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """The names of the users and groups to whom something belongs, with their numbers."""
    every = [each for one in found for each in (one, one.get("folder")) if each and "st_uid" in each]
    names: dict[str, dict[str, int]] = {"user": {}, "group": {}}
    for number in {each["st_uid"] for each in every}:
        with contextlib.suppress(KeyError):  # root of a container has no name here
            names["user"][pwd.getpwuid(number).pw_name] = number
    for number in {each["st_gid"] for each in every}:
        with contextlib.suppress(KeyError):
            names["group"][grp.getgrgid(number).gr_name] = number
    return names


def units_of(patterns: list[str]) -> dict[str, Unit]:
    """The units by name, with the times of their processes. Without systemd there are none."""
    try:
        found = shown(patterns) if patterns else []
    except (Failed, OSError):
        return {}
    return {now["Id"]: {**now, "times": times(now)} for now in found if now.get("Id")}


def take(places: Iterable[str], units: list[str], table: dict[str, str] | None, key: str) -> dict[str, Any]:
    """All of it. table is a file with rules of nftables, and the table that they make."""
    known = units_of(units)
    read = {path for now in known.values() for path in unit_files(now)}
    inside = [f"{path}/*" for path in read if os.path.isdir(path)]
    every = with_versions([*places, *sorted(read), *sorted(inside)])
    found = entries(every, key)
    return {
        "places": every,
        "entries": found,
        "owners": owners(found.values()),
        "units": known,
        "in_force": bool(table) and firewall.in_force(**(table or {})),
    }
