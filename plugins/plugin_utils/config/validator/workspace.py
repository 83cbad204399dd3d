# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""workspace.yaml: its types, and the rules between its entries."""

from __future__ import annotations

import re

from ....module_utils._secrets import leaves
from . import variables
from .constructors import is_bare_ipv6
from .report import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path
    from .schema import Checker

KINDS = ("grpc_server", "python_file", "python_module", "python_package", "autoload_defs_module")
SERVER_KEYS = ("host", "port", "socket", "location_name", "ssl")
# The key of each kind that names what is loaded, when the entry is a mapping.
TARGETS = {
    "python_file": "relative_path",
    "python_module": "module_name",
    "python_package": "package_name",
    "autoload_defs_module": "module_name",
}


def check_workspace(checker: Checker, config: Any) -> None:
    """Report everything that is wrong with the data of a workspace.yaml."""
    report = checker.report
    if not isinstance(config, dict):
        hint = "write load_from: with a list below it"
        if isinstance(config, list):
            hint = "put load_from: above the list"
        report.error((), f"found {shown(config)}; expected a mapping with load_from", hint)
        return
    for key in SERVER_KEYS:
        checker.hints[key] = f"indent {key} below grpc_server, an entry of load_from"
    if any(key in KINDS for key in config):
        for key in config:
            if key in KINDS:
                checker.hints[key] = f"write load_from: above it, and '- {key}:' as an entry of its list"
    if not checker.check(checker.catalogue.data["workspace"], config, ()):
        return
    if "load_from" not in config:
        report.error(
            ("load_from",),
            "the required key load_from is missing",
            "write load_from: with a list below it, or load_from: []",
        )
        return
    for path, value in leaves(config, ()):
        if isinstance(value, str) and "$" in value:
            variables.text(checker, path, value, checker.catalogue.scalar(checker.catalogue.data["workspace"], path))
    names: dict[str, Path] = {}
    addresses: dict[str, Path] = {}
    for index, entry in enumerate(config["load_from"]):
        path = ("load_from", index)
        ((kind, options),) = entry.items() if entry else (("", None),)
        if kind == "grpc_server":
            name = _server(checker, options or {}, (*path, kind), addresses)
        else:
            name = _target(checker, kind, options, (*path, kind))
        if name is None:
            continue
        if name in names:
            first = report.line_of(names[name])
            other = f" (the first is in line {first})" if first else ""
            message = f"found a second location named {name[:60]}{other}; expected a name of its own"
            report.error((*path, kind), message, "set location_name")
        names.setdefault(name, (*path, kind))


def _text(value: Any) -> str:
    """A value for a name; one from the environment is the same as another of the same variable."""
    return f"$({value.get('env')})" if isinstance(value, dict) else str(value)


def _known(value: Any) -> Any:
    return None if isinstance(value, dict) else value


def _server(checker: Checker, options: dict[str, Any], path: Path, addresses: dict[str, Path]) -> str | None:
    """The name of a location that a server of its own serves; None if it cannot be one."""
    report = checker.report
    # Dagster looks at the values: 0 and empty text count as missing, a variable as given.
    given = [key for key in ("port", "socket") if options.get(key)]
    if len(given) != 1:
        found = " and ".join(given) or "neither port nor socket"
        report.error(
            path,
            f"found {found}; expected exactly one of port and socket",
            "add port: 4000" if not given else "remove one",
        )
        return None
    host, port, socket = _known(options.get("host")), _known(options.get("port")), _known(options.get("socket"))
    if isinstance(port, int) and not 1 <= port <= 65535:
        report.refuse("port", (*path, "port"), f"found {shown(port)}; ports are from 1 to 65535")
    if isinstance(host, str) and is_bare_ipv6(host):
        message = f"found the IPv6 address {host[:60]} without brackets, which gRPC cannot resolve with a port"
        report.refuse("host", (*path, "host"), message, f'write "[{host[:60]}]", in brackets and quotes')
    elif isinstance(host, str) and "$" not in host and not _is_host(host):
        message = f"found {host[:60]!r}; expected a host name or an address alone"
        report.refuse("host", (*path, "host"), message, "without scheme, port and path")
    if isinstance(socket, str) and not socket.startswith(("/", "$")):
        report.refuse("relative_path", (*path, "socket"), f"found {socket[:60]!r}; expected an absolute path")
    if host and socket:
        report.warn("no_effect", (*path, "host"), "found a host beside a socket, where it does nothing", "remove it")
    if options.get("location_name") == "":
        report.refuse("empty_name", (*path, "location_name"), "found empty text; expected the name of the location")
    address = (
        f"{_canonical(options.get('host'))}:{_text(options[given[0]])}"
        if given == ["port"]
        else _text(options["socket"])
    )
    if address in addresses:
        message = f"found the address {address} again; another entry has it"
        if report.line_of(path):
            message += f" in line {report.line_of(addresses[address])}"
        report.refuse("same_address", path, message, "two servers on one port both start, and the locations flap")
    addresses.setdefault(address, path)
    if options.get("location_name"):
        return _text(options["location_name"])
    return f"grpc:{_text(options.get('host') or 'localhost')}:{_text(options[given[0]])}"


def _is_host(host: str) -> bool:
    if host[:1] == "[" and host[-1:] == "]":
        return is_bare_ipv6(host[1:-1])
    return host == "" or bool(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", host))


def _canonical(host: Any) -> str:
    """A host as it is the same as another: localhost has several names."""
    name = _text(host or "localhost").lower().rstrip(".")
    return "localhost" if name in ("127.0.0.1", "[::1]") else name


def _target(checker: Checker, kind: str, options: Any, path: Path) -> str | None:
    """The name of a location that Dagster loads itself; None if nothing is loaded."""
    if not options:
        checker.report.error(path, f"found {shown(options)}; expected what to load", "")
        return None
    target = options if isinstance(options, str) else options.get(TARGETS[kind])
    attribute = None if isinstance(options, str) or kind == "autoload_defs_module" else options.get("attribute")
    name = None if isinstance(options, str) else options.get("location_name")
    if name:
        return _text(name)
    if target == "" and kind != "python_file":
        checker.report.error((*path, TARGETS[kind]), "found empty text; expected what to load", "")
        return None
    if kind == "python_file" and isinstance(target, str):
        target = target.rsplit("/", 1)[-1]
    return f"{_text(target)}:{_text(attribute)}" if attribute else _text(target)
