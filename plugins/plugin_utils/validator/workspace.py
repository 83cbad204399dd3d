# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""workspace.yaml: its types, and the rules between its entries."""

from __future__ import annotations

import re

from .report import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path
    from .schema import Checker

KINDS = ("grpc_server", "python_file", "python_module", "python_package", "autoload_defs_module")
# The key of each kind that names what is loaded, when the entry is a mapping.
TARGETS = {"python_file": "relative_path", "python_module": "module_name", "python_package": "package_name", "autoload_defs_module": "module_name"}


def check_workspace(checker: Checker, config: Any) -> None:
    """Report everything that is wrong with the data of a workspace.yaml."""
    report = checker.report
    if not isinstance(config, dict):
        hint = "write load_from: with a list below it"
        if isinstance(config, list):
            hint = "put load_from: above the list"
        report.error((), f"found {shown(config)}; expected a mapping with load_from", hint)
        return
    if any(key in KINDS for key in config):
        for key in config:
            if key in KINDS:
                checker.hints[key] = f"write load_from: above it, and '- {key}:' as an entry of its list"
    if not checker.check(checker.catalogue.data["workspace"], config, ()):
        _flat_entries(checker, config)
        return
    if "load_from" not in config:
        report.error(("load_from",), "the required key load_from is missing", "write load_from: with a list below it, or load_from: []")
        return
    names: dict[str, Path] = {}
    addresses: dict[tuple[Any, ...], Path] = {}
    for index, entry in enumerate(config["load_from"]):
        path: Path = ("load_from", index)
        ((kind, options),) = entry.items() if entry else (("", None),)
        if kind == "grpc_server":
            name = _server(checker, options or {}, (*path, kind), addresses)
        else:
            name = _target(checker, kind, options, (*path, kind))
        if name is None:
            continue
        if name in names:
            first = report.line_of(names[name])
            message = f"found a second location named {name} (the first is in line {first}); expected a name of its own"
            report.error((*path, kind), message, "set location_name")
        names.setdefault(name, (*path, kind))


def _flat_entries(checker: Checker, config: dict[Any, Any]) -> None:
    """The usual slip: the keys of an entry stand beside it instead of below it."""
    entries = config.get("load_from")
    if not isinstance(entries, list):
        return
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and len(entry) > 1 and any(key in KINDS for key in entry):
            kind = next(key for key in entry if key in KINDS)
            if entry[kind] is None:
                checker.report.error(
                    ("load_from", index, kind),
                    "found nothing below it, and its keys beside it",
                    f"indent the keys further than {kind}",
                )


def _known(value: Any) -> Any:
    return None if isinstance(value, dict) else value


def _server(checker: Checker, options: dict[str, Any], path: Path, addresses: dict[tuple[Any, ...], Path]) -> str | None:
    """The name of a location that a server of its own serves; None if nobody knows it, or it has none."""
    report = checker.report
    # Dagster looks at the values: 0 and empty text count as missing, a variable as given.
    given = [key for key in ("port", "socket") if options.get(key)]
    if len(given) != 1:
        found = " and ".join(given) or "neither port nor socket"
        report.error(path, f"found {found}; expected exactly one of port and socket", "add port: 4000" if not given else "remove one")
        return None
    host, port = _known(options.get("host")) or "localhost", _known(options.get("port"))
    if port is not None and port and not 1 <= port <= 65535:
        report.warn("port", (*path, "port"), f"found {port}; ports are from 1 to 65535", "")
    if isinstance(host, str) and (re.search(r"[/\s]", host) or re.fullmatch(r"[^:]+:\d+", host)):
        report.warn("host", (*path, "host"), f"found {host[:60]!r}; expected a host name or an address alone", "no scheme, port or path")
    address = (host, port) if port else ("", options.get("socket"))
    if "env" not in str(options.get("host")) and _hashable(address) and None not in address:
        if address in addresses:
            message = f"found the address of the entry in line {report.line_of(addresses[address])} again"
            report.warn("same_address", path, message, "two servers on one port both start, and the locations flap")
        addresses.setdefault(address, path)
    name = options.get("location_name")
    if name:
        return name if isinstance(name, str) else None
    if isinstance(options.get("host"), dict) or isinstance(options.get(given[0]), dict):
        return None
    return f"grpc:{host}:{options[given[0]]}"


def _hashable(value: tuple[Any, ...]) -> bool:
    return not any(isinstance(part, (dict, list)) for part in value)


def _target(checker: Checker, kind: str, options: Any, path: Path) -> str | None:
    """The name of a location that Dagster loads itself; None if nobody knows it, or nothing is loaded."""
    if not options:
        checker.report.error(path, f"found {shown(options)}; expected what to load", "")
        return None
    target = options if isinstance(options, str) else options.get(TARGETS[kind])
    if target == "" and kind != "python_file":
        checker.report.error((*path, TARGETS[kind]), "found empty text; expected what to load", "")
        return None
    attribute = None if isinstance(options, str) or kind == "autoload_defs_module" else options.get("attribute")
    name = None if isinstance(options, str) else options.get("location_name")
    if name:
        return name if isinstance(name, str) else None
    if not isinstance(target, str) or isinstance(attribute, dict):
        return None
    if kind == "python_file":
        target = target.rsplit("/", 1)[-1]
    return f"{target}:{attribute}" if attribute else target
