# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forms of what an entry of dagster_code_locations says: images, code, volumes, limits and the rest. Pure: no I/O.

All problems of all entries are told at once, each with the option that was written and the nearest form that works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms, reference
from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import server_options, subnets
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.entries import label

DOTTED = re.compile(r"[^\W\d][\w-]*(\.[^\W\d][\w-]*)*")
IDENTIFIER = re.compile(r"[^\W\d]\w*")
MOST_CPUS = 4096
NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Networks of Docker's own that cannot be joined beside another one.
OWN_LABELS = ("dataops.dagster", "dagster/")


def problems(values: Mapping[str, Any]) -> list[str]:
    """Sentences about all entries."""
    return [
        f"dagster_code_locations[{label(entry, number)}]{sentence}"
        for number, entry in enumerate(values["dagster_code_locations"])
        for sentence in (
            *(found for check in CHECKS for found in check(entry)),
            *_mounts(entry),
            *_networks(entry, values),
        )
    ]


def _image(entry: Mapping[str, Any]) -> Iterator[str]:
    if (image := entry.get("image")) and (problem := reference.problem(str(image))):
        yield f".image: {problem}"
    if entry.get("pull") and not image:
        yield ".pull says when a registry is asked for image, and the location has none; remove pull"


def _code(entry: Mapping[str, Any]) -> Iterator[str]:
    for key in ("module", "package"):
        text = str(entry.get(key) or "")
        if text and (not DOTTED.fullmatch(text) or text.endswith(".py")):
            yield f".{key} is {text!r}; expected a dotted name such as analytics.definitions{_near_code(key, text)}"
    file = str(entry.get("file") or "")
    if file and (not file.endswith(".py") or re.search(r"[~$:\s]", file)):
        dotted = DOTTED.fullmatch(file) and "." in file and not file.endswith(".py")
        hint = f"; did you mean module: {file}?" if dotted else ""
        yield f".file is {file!r}; expected the path of a .py file in the image, such as /opt/etl/definitions.py{hint}"
    attribute = str(entry.get("attribute") or "")
    if attribute and not IDENTIFIER.fullmatch(attribute):
        near = attribute.removesuffix("()").rpartition(":")[2].rpartition(".")[2]
        hint = f"; did you mean {near}?" if IDENTIFIER.fullmatch(near) else ""
        yield f".attribute is {attribute!r}; expected the name of a variable in the code, such as defs{hint}"
    folder = str(entry.get("working_directory") or "")
    if re.match(r"\s|~", folder) or "$" in folder or folder.endswith(".py"):
        yield f".working_directory is {folder!r}; expected a folder of the image, such as /opt/code"


def _near_code(key: str, text: str) -> str:
    """What was meant by a path, or by module:attribute."""
    name, colon, attribute = text.partition(":")
    if colon and DOTTED.fullmatch(name) and IDENTIFIER.fullmatch(attribute):
        return f"; did you mean {key}: {name} and attribute: {attribute}?"
    if key == "module" and text.endswith(".py") and "/" in text:
        dotted = text.removesuffix(".py").removeprefix("./").removeprefix("src/").strip("/").replace("/", ".")
        return f"; did you mean file: {text}, or module: {dotted}?"
    dotted = text.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")
    return f"; did you mean {key}: {dotted}?" if DOTTED.fullmatch(dotted) else ""


def _sizes(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from _read(entry, "mem_limit", forms.memory)
    yield from _read(entry, "shm_size", forms.parse_size)
    cpus = entry.get("cpus")
    if cpus is not None and cpus != "" and not 0.01 <= float(cpus) <= MOST_CPUS:
        yield f".cpus is {cpus}; expected a number of processors from 0.01 to {MOST_CPUS}"
    for key, least in (("start_timeout", 1), ("stop_timeout", 1)):
        if entry.get(key) is not None and int(entry[key]) < least:
            yield f".{key} is {entry[key]}; expected seconds from {least} on"


def _mounts(entry: Mapping[str, Any]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for written in entry.get("volumes") or []:
        try:
            volume = forms.volume(written)
        except ValueError as error:
            yield f".volumes: {error}"
            continue
        if volume.path in seen:
            yield f".volumes has {seen[volume.path]!r} and {written!r} at one path in the container; keep one"
        seen[volume.path] = written


def _networks(entry: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    for network in entry.get("networks") or []:
        ours = [name for name, _subnet in (subnets.RUNS, subnets.CODE) if network == values[name]]
        if ours:
            yield f".networks has {network}, the network of every code server or run ({ours[0]}); remove it"
        elif not NETWORK.fullmatch(str(network)) and ":" not in str(network):
            yield f".networks has {network!r}; expected the name of a network on the engine (docker network ls)"


def _rights(entry: Mapping[str, Any]) -> Iterator[str]:
    for item in entry.get("capabilities") or []:
        name = forms.capability(item)
        if name not in forms.CAPABILITIES:
            yield f".capabilities has {item!r}, which is none of Linux{did_you_mean(name, forms.CAPABILITIES, '; ')}"
        elif name == "ALL":
            yield f".capabilities has {item!r}, with which it is nearly root of the host; name those that it needs"
    for item in entry.get("devices") or []:
        yield from _read({"devices": item}, "devices", forms.device)
    yield from _read(entry, "user", forms.user)
    yield from _read(entry, "extra_hosts", forms.extra_hosts)
    found = list(_read(entry, "labels", forms.labels))
    yield from found
    for name in [] if found else forms.labels(entry.get("labels")):
        if name.startswith(OWN_LABELS):
            yield f".labels: {name} is set by the collection; choose another name"


def _read(entry: Mapping[str, Any], key: str, form: Callable[[Any], Any]) -> Iterator[str]:
    try:
        form(entry.get(key))
    except ValueError as error:
        yield f".{key}: {error}"


Check = Callable[[Mapping[str, Any]], Iterable[str]]
CHECKS: tuple[Check, ...] = (_image, _code, _sizes, _rights, server_options.problems)


def devices(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The devices of these locations by their path on the host, each with what names it; a wrong one is told before."""
    found = {}
    for entry in values["dagster_code_locations"]:
        for item in entry.get("devices") or [] if entry.get("name") in names else []:
            found[str(item).partition(":")[0]] = f"dagster_code_locations[{entry['name']}].devices"
    return found


def warnings(values: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Sentences about what works, and gives the code of these locations more than a team may want."""
    home = str(values["dagster_home"])
    found = []
    for entry in values["dagster_code_locations"]:
        for written in entry.get("volumes") or [] if entry.get("name") in names else []:
            volume = forms.volume(written)
            where = f"dagster_code_locations[{entry['name']}].volumes: {written!r}"
            if volume.is_bind and f"{home}/".startswith(f"{volume.source.rstrip('/')}/"):
                found.append(f"{where} shows its code {home}, and so the passwords there; mount what it needs alone")
    return found
