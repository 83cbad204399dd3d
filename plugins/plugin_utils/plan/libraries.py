# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What webservers and daemon install: what of the lock their dagster.yaml needs, and packages of the user's own.

The lock of a Dagster version holds all libraries with a class for dagster.yaml, so any of them fit together. It says of
each package what needs it (`# via`). So the part is worked out here, and no host resolves anything.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.instance import class_sections
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION

LOCKS = os.path.join(COLLECTION, "roles", "instance", "files", "locks")
# The input of a lock whose packages every host gets.
ALWAYS = "-r dagster.in"
# What the token providers of a storage import, which its library does not bring.
PROVIDERS = {"aws_wif": "boto3", "azure_wif": "azure-identity", "gcp_wif": "google-auth"}
OWN = "dagster_requirements"
REMEDY = f"set {OWN} to a file of the controller with its package and all that this needs, pinned with hashes"


def normal(name: str) -> str:
    """The name of a distribution as a lock writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Package:
    """A requirement of a lock: its text, and what needs it (packages, or an input of the lock)."""

    name: str
    version: str
    text: str
    needed_by: frozenset[str]


def packages(text: str) -> Iterator[Package]:
    """The pinned packages of a lock of ours."""
    for match in re.finditer(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+).*\n(?:[ \t]+.*\n?)*", text, re.MULTILINE):
        lines = (line.strip() for line in match[0].splitlines())
        needed_by = (line.lstrip("# ").removeprefix("via").strip() for line in lines if line.startswith("#"))
        yield Package(match[1], match[2], match[0].rstrip("\n") + "\n", frozenset(filter(None, needed_by)))


def part(text: str, names: Iterable[str]) -> list[Package]:
    """What of a lock has to be installed: what every host gets, and these packages, with all that they need."""
    wanted = set(names)
    left = list(packages(text))
    found: set[str] = set()
    while more := {
        known.name
        for known in left
        if known.name not in found
        and (known.name in wanted or ALWAYS in known.needed_by or not known.needed_by.isdisjoint(found))
    }:
        found |= more
    return [known for known in left if known.name in found]


@functools.cache
def lock(version: str) -> str:
    """The lock of a Dagster version; empty when there is none, which another problem says."""
    try:
        with open(os.path.join(LOCKS, f"dagster-{version}.txt"), encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


# What dagster.yaml names


def named_modules(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each place of a merged dagster.yaml that names a module, and the module."""
    found = [(path.removesuffix(".config"), data.get("module")) for _section, path, data in class_sections(config)]
    if isinstance(config.get("instance_class"), Mapping):
        found.append(("instance_class", config["instance_class"].get("module")))
    handlers = inside(config, "python_logs", "dagster_handler_config", "handlers")
    for name, handler in handlers.items():
        pointer = handler.get("class") if isinstance(handler, Mapping) else None
        found.append((f"python_logs.dagster_handler_config.handlers.{name}", pointer))
    return [(path, module) for path, module in found if isinstance(module, str) and module]


def inside(data: Any, *path: str) -> Mapping[str, Any]:
    """A mapping inside of mappings; empty when there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def distribution(module: str) -> str:
    """The distribution that a module of Dagster's libraries comes from, by their rule."""
    return normal(module.split(".", 1)[0])


def needed(config: Mapping[str, Any], libraries: Iterable[str], text: str) -> list[str]:
    """The packages of a lock that a merged dagster.yaml names, and the libraries that the user has added."""
    names = {distribution(module) for _path, module in named_modules(config)}
    names |= {f"dagster-{name}" for name in libraries}
    providers = [inside(config, "storage", kind, "auth_provider") for kind in inside(config, "storage")]
    names |= {package for name, package in PROVIDERS.items() if any(name in given for given in providers)}
    optional = {known.name for known in packages(text) if ALWAYS not in known.needed_by}
    return sorted(names & optional)


def module_problems(config: Mapping[str, Any], text: str, own: str, python_path: Any) -> list[str]:
    """Sentences about modules that no package of the hosts has; whoever has packages or folders of their own may."""
    if own or python_path:
        return []
    known = {package.name for package in packages(text)} if text else set()
    return [
        f"dagster_config.{path} names {module}, which no package of webservers and daemon has; {REMEDY}"
        for path, module in named_modules(config)
        if known and distribution(module) not in known and module.split(".", 1)[0] not in sys.stdlib_module_names
    ]


# Packages of the user's own


def own_text(path: str) -> str:
    """The user's file; empty when there is none, or none that can be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, ValueError):
        return ""


def own_lines(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a requirements file with the number of their first line, without comments."""
    number, line = 0, ""
    for count, raw in enumerate(text.splitlines(), 1):
        stripped = re.sub(r"(^|\s)#.*$", "", raw).strip()
        number = number if line else count
        line += f" {stripped.removesuffix(chr(92)).strip()}"
        if not stripped.endswith("\\"):
            if line.strip():
                yield number, line.strip()
            line = ""
    if line.strip():
        yield number, line.strip()


def pinned(line: str) -> tuple[str, str]:
    """Name and version (empty for a URL) of a requirement; both empty when it is none."""
    match = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:===?\s*([^\s;*]+)(?=\s|;|$)|@\s*\S+)", line)
    return (normal(match[1]), match[2] or "") if match else ("", "")


def own_problems(path: str, ours: Iterable[Package]) -> list[str]:
    """Sentences about a user's file that hosts could not install beside the part of our lock."""
    if not path:
        return []
    if not os.path.isabs(path):
        return [
            f'{OWN}: {path} is a relative path; name the file from the inventory, as "{{{{ inventory_dir }}}}/{path}"'
        ]
    text = own_text(path)
    if not os.path.isfile(path) or not text.strip():
        what = "has no text" if os.path.isfile(path) else "does not exist"
        return [f"{OWN}: {path} {what} on the controller; expected requirements with hashes"]
    problems = []
    versions: dict[str, set[str]] = {}
    for number, line in own_lines(text):
        where = f"{OWN}: line {number} of {path}"
        name, version = pinned(line)
        if line.startswith("-"):
            if not re.match(r"--?(index-url|extra-index-url|find-links|only-binary|no-binary|i|f)\b", line):
                problems.append(f"{where} is {line.split()[0]}; hosts get this one file, so write out what it names")
            elif re.search(r"://[^/\s]*@", line):
                problems.append(f"{where} holds the login of an index, which a host would show; use dagster_wheelhouse")
        elif not name or "--hash=" not in line:
            problems.append(
                f"{where} is {line.split()[0]!r} without {'hash' if name else 'version (==) and hash'}; make the file "
                "with uv pip compile --generate-hashes"
            )
        else:
            versions.setdefault(name, set()).add(version)
    for known in ours:
        others = versions.get(known.name, {known.version})
        if known.version not in others:
            problems.append(
                f"{OWN}: {path} has {known.name} {', '.join(sorted(others)) or 'from a URL'}, the lock of Dagster has "
                f"{known.version}; make the file with that lock as constraints (uv pip compile --constraints)"
            )
    return problems


def own_name(path: str) -> str:
    """By what an installation of the user's file is known; empty without one."""
    return hashlib.sha256(own_text(path).encode()).hexdigest()[:12] if path else ""


# What hosts get


def installation(values: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What the venv of a host gets: packages beside Dagster, the name of their lock, the marks of what is installed.

    values are the host's variables, config its dagster.yaml. A mark is set once and stays, as its packages do.
    """
    version = str(values["dagster_version"])
    names = needed(config, values["dagster_libraries"], lock(version))
    own = own_name(str(values[OWN]))
    more = [*(name.removeprefix("dagster-") for name in names), *([own] if own else [])]
    venv = f"{values['dagster_install_dir']}/{version}"
    return {
        "libraries": names,
        "own": own,
        "lock": "+".join([f"dagster-{version}", *more]),
        "marks": [f"{venv}/.complete", *(f"{venv}/.complete-{name}" for name in more)],
    }


def problems(values: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Sentences about packages that hosts would miss, or could not install together."""
    text, own = lock(str(values["dagster_version"])), str(values[OWN])
    names = needed(config, values["dagster_libraries"], text)
    return [
        *module_problems(config, text, own, values["dagster_environment"].get("PYTHONPATH")),
        *own_problems(own, part(text, names)),
    ]


def requirements(text: str, names: Iterable[str], own: str) -> str:
    """The lock of a host: a part of ours, and of the user's text what ours has not."""
    ours = part(text, names)
    there = {known.name for known in ours}
    more = [line for _number, line in own_lines(own) if line.startswith("-") or pinned(line)[0] not in there]
    return "".join([*(known.text for known in ours), *(f"{line}\n" for line in more)])
