# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is written into dagster.yaml and workspace.yaml. Pure: no I/O.

Whether the content is right is the business of the validator beside it, and on the host of module_utils/_dagster, which
asks the real Dagster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import in_brackets

# Plain only where nobody can doubt it, whichever reader of YAML it is: 1e3, 0o7 and y are text to Dagster's, and not to
# others. Words like yes are quoted by PyYAML itself.
_PLAIN = re.compile(r"(?![yYnN]$)[A-Za-z/_][A-Za-z0-9_./@%+=-]*(?: [A-Za-z0-9_./@%+=-]+)*")


def workspace_data(locations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of workspace.yaml for a list of code locations."""
    entries = []
    for location in locations:
        server: dict[str, Any] = {"location_name": location["name"]}
        port, socket = location.get("port"), location.get("socket")
        if socket:
            server["socket"] = socket
        else:
            server["host"] = in_brackets(str(location.get("host") or "localhost"))
        if port is not None:
            # What is no port stays as it is, for the validator to say so.
            server["port"] = port_number(port) or port
        if location.get("ssl"):
            server["ssl"] = True
        entries.append({"grpc_server": server})
    return {"load_from": entries}


def port_number(value: Any) -> int | None:
    """A TCP port, also when it was given as text (AWX surveys do); None if it is not one."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        return None
    return value


def header(variable: str, checked_with: str) -> str:
    """The comment on top of a managed file: who writes it, what to change instead, and what it was checked with."""
    return (
        f"# Managed by the Ansible collection dataops.dagster: change {variable} in the inventory, not this file.\n"
        f"# Checked with {checked_with}.\n"
    )


class _Dumper(yaml.SafeDumper):
    """SafeDumper with the items of a list indented, and text of any kind on one line.

    A diff is masked line by line (_secrets.masked), so the second line of a secret must not be one of its own.
    """

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _represent_text(dumper: Any, value: str) -> Any:
    style = None if _PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_text)


def render(data: Any, comment: str = "") -> str:
    """YAML in block style and insertion order; the same data always gives the same text. TypeError for other values."""
    return comment + yaml.dump(
        _plain(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=float("inf")
    )


def _text(value: str) -> str:
    """Text of the plain type. str() is not enough: before ansible-core 2.19 marked text stays marked."""
    return "".join(value)


def _plain(value: Any) -> Any:
    """A copy of plain types: Ansible's text and numbers are subclasses, and what is shared would become an alias."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"cannot write a {type(value).__name__} into YAML")
