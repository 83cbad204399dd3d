# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""States and their differences for an operator's eyes: short, and without secrets."""

from __future__ import annotations

import json
import re
import typing as t

from .._secrets import looks_secret
from .forms import UNITS

_MASKED_NAME = re.compile(r"(pass|pwd|key|dsn|private)(?!.*(file|path|dir|folder|name|id)$)", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)([^@/\s]+)(@)")
_HIDDEN = "********"


def format_size(value: int) -> str:
    if not value:
        return "unlimited"
    for unit in ("t", "g", "m", "k"):
        if value % UNITS[unit] == 0:
            return f"{value // UNITS[unit]}{unit}"
    return str(value)


def masks(name: str) -> bool:
    """Whether the value of a variable is not shown: wider than what is refused, since a mask too many harms nobody."""
    return looks_secret(name) or bool(_MASKED_NAME.search(name))


def secret_values(env: t.Mapping[str, str]) -> set[str]:
    """The values that must not show up in any output. Very short ones would black out unrelated text."""
    found = {value for name, value in env.items() if masks(name)}
    found.update(match.group(2) for value in env.values() for match in _URL_PASSWORD.finditer(value))
    return {value for value in found if len(value) >= 4}


def mask(name: str, value: str) -> str:
    if masks(name):
        return _HIDDEN
    return _URL_PASSWORD.sub(rf"\g<1>{_HIDDEN}\g<3>", value)


def show(name: str, value: t.Any) -> str:
    """A value for an operator's eyes; secrets are never shown."""
    if value is None:
        return "absent"
    if name.startswith("env."):
        return json.dumps(mask(name[4:], value))
    if name in ("memory", "shm_size"):
        return format_size(value)
    if name == "nano_cpus":
        return f"{value / 1_000_000_000:g}" if value else "unlimited"
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return str(value)


def readable(state: t.Mapping[str, t.Any], only: t.Collection[str] | None = None) -> dict[str, t.Any]:
    """The part of a state that a diff shows: strings, lists and maps of strings, secrets masked."""
    out: dict[str, t.Any] = {}
    for name, value in state.items():
        if only is not None and name not in only:
            continue
        if name == "env":
            out[name] = {key: mask(key, item) for key, item in sorted(value.items())}
        elif isinstance(value, (list, dict)):
            out[name] = value
        else:
            out[name] = show(name, value)
    return out


def to_text(data: t.Mapping[str, t.Any], indent: int = 0) -> str:
    """YAML-like text; PyYAML is not to be expected on a managed host."""
    lines: list[str] = []
    pad = "  " * indent
    for key, value in data.items():
        if isinstance(value, dict):
            lines.append(f"{pad}{key}:" + ("" if value else " {}"))
            if value:
                lines.append(to_text(value, indent + 1).rstrip("\n"))
        elif isinstance(value, (list, tuple)):
            lines.append(f"{pad}{key}:" + ("" if value else " []"))
            lines += [f"{pad}  - {item}" for item in value]
        else:
            lines.append(f"{pad}{key}: {value}")
    return "\n".join(lines) + "\n" if lines else ""
