# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is written into dagster.yaml and workspace.yaml: merging, rendering. Pure functions, standard library only.

Whether the content is right is the business of plugin_utils/validator on the controller, and of _dagster_check on the
host, which asks the real Dagster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._secrets import copied

# --- building ---------------------------------------------------------------------------------------------------


def deep_merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merge extra into a copy of base: mappings key by key, everything else (lists too) replaced.

    - null in extra removes the key, so that a default of the collection can be taken back;
    - a section that names another class replaces the whole section: the options of one launcher make no sense
      for another one;
    - `storage` holds exactly one backend, so another backend replaces ours.

    Layers can be put together in any order, (a + b) + c or a + (b + c), as long as none of them takes something back,
    names another class or backend, or has a plain value where another one has a mapping.
    """
    return _merge(base, extra, ())


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    merged = {key: copied(value) for key, value in base.items()}
    for key, value in extra.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(old, Mapping) and not _replaces((*path, key), old, value):
            merged[key] = _merge(old, value, (*path, key))
        else:
            # Merging into nothing drops the nulls of a new section as well.
            merged[key] = _merge({}, value, (*path, key)) if isinstance(value, Mapping) else copied(value)
    return merged


def _replaces(path: tuple[Any, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if path == ("storage",):
        return bool(new) and not set(old) & set(new)
    return "class" in old and "class" in new and old["class"] != new["class"]


def workspace_data(locations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of workspace.yaml for a list of code locations."""
    entries = []
    for location in locations:
        server: dict[str, Any] = {"location_name": location["name"]}
        port, socket = location.get("port"), location.get("socket")
        if socket:
            server["socket"] = socket
        else:
            server["host"] = location.get("host") or "localhost"
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


# --- rendering --------------------------------------------------------------------------------------------------

# Words that YAML 1.1 (PyYAML, so Dagster) reads as something else than text.
_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "~", "=", "<<"])
# Plain only where nobody can doubt it: starts with a letter or a slash, and holds no YAML indicator.
_YAML_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./@%+=-]*(?: [A-Za-z0-9_./@%+=-]+)*")
_YAML_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def render(data: Any, comment: str = "") -> str:
    """YAML in block style and insertion order; the same data always gives the same text.

    The managed host has no PyYAML outside the virtual environment, hence an emitter of our own.
    """
    if isinstance(data, (Mapping, list, tuple)) and data:
        return comment + "\n".join(_block(data, "")) + "\n"
    return comment + _scalar(data) + "\n"


def _block(data: Any, indent: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
            yield from _entry(f"{indent}{_text(key)}:", value, indent + "  ")
    else:
        for value in data:
            if isinstance(value, (Mapping, list, tuple)) and value:
                first, *rest = _block(value, indent + "  ")
                yield f"{indent}- {first.lstrip(' ')}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(value)}"


def _entry(prefix: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, (Mapping, list, tuple)) and value:
        yield prefix
        yield from _block(value, indent)
    else:
        yield f"{prefix} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    raise TypeError(f"cannot write a {type(value).__name__} into YAML")


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(float(value))
    # YAML 1.1 reads 1e+16 as text: it wants the dot.
    return text if "." in text or "e" not in text else text.replace("e", ".0e", 1)


def _text(value: str) -> str:
    if _YAML_PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return str(value)
    return '"' + "".join(_escape(char) for char in value) + '"'


def _escape(char: str) -> str:
    if char in _YAML_ESCAPES:
        return _YAML_ESCAPES[char]
    code = ord(char)
    if char.isprintable() and code not in (0xFFFE, 0xFFFF):
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
