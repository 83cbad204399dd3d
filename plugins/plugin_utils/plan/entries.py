# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the spec of a list refuses about its entries, said of each entry by its name. Pure: no I/O.

Ansible's own message names the list and the type, but neither the entry nor its value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean

# What of an option says which values it takes.
OF_VALUES = ("type", "elements", "choices")
EXPECTED = {
    "int": "a whole number",
    "float": "a number such as 0.5",
    "bool": "true or false",
    "list": "a list",
    "dict": "a dictionary",
}


def label(entry: Any, number: int) -> Any:
    """By what an operator finds an entry: its name, or its number where it has none."""
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) and name else number


def problems_of(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """The same about a value of any type. What is a secret as a whole is not shown."""
    options = option.get("options")
    if option.get("type") == "list" and options:
        return problems(name, value, options)
    if option.get("type") == "dict" and options and isinstance(value, Mapping):
        known = {key: {"type": "raw"} for key in options} if option.get("no_log") else options
        return [f"{name}.{sentence}" for sentence in _sentences(value, known)]
    if option.get("no_log"):
        return []
    if option.get("type") == "list" and isinstance(value, list):
        inner = {key: option[key] for key in ("choices",) if key in option}
        entry = {"type": option.get("elements", "str"), **inner}
        return [
            sentence
            for number, item in enumerate(value)
            for sentence in _sentences({f"{name}[{number}]": item}, {f"{name}[{number}]": entry})
        ]
    return list(_sentences({name: value}, {name: {key: option[key] for key in OF_VALUES if key in option}}))


def problems(name: str, entries: Any, options: Mapping[str, Any]) -> list[str]:
    """Sentences about values of entries that have not the type or none of the choices of their option."""
    if not isinstance(entries, list):
        return []
    return [
        f"{name}[{label(entry, number)}].{sentence}"
        for number, entry in enumerate(entries)
        if isinstance(entry, Mapping)
        for sentence in _sentences(entry, options)
    ]


def _sentences(entry: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in entry.items():
        if key not in options:
            yield f"{key} is no option{did_you_mean(str(key), options, '; ')}"
            continue
        option = {part: given for part, given in options[key].items() if part in OF_VALUES}
        if value is None or not ArgumentSpecValidator({key: option}).validate({key: value}).error_messages:
            continue
        found = "is not" if key == "password" else f"is {value!r}; expected"
        if choices := option.get("choices"):
            yield f"{key} {found} one of {', '.join(choices)}{did_you_mean(str(value), choices, '; ')}"
        else:
            number = str(value).replace(",", ".")
            near = option.get("type") == "float" and number != str(value) and number.replace(".", "", 1).isdigit()
            hint = f"; did you mean {number}?" if near else ""
            yield f"{key} {found} {EXPECTED.get(str(option.get('type')), 'text')}{hint}"
    for key, option in options.items():
        if option.get("required") and entry.get(key) in (None, ""):
            yield f"{key} is missing"
        inner, value = option.get("options"), entry.get(key)
        if inner and option.get("type") == "dict" and isinstance(value, Mapping):
            yield from (f"{key}.{sentence}" for sentence in _sentences(value, inner))
