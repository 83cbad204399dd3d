# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A value against Dagster's config types."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from .._words import did_you_mean
from .problems import SECRET, Report, join, load

# Dagster's kinds of types that have no name of their own, in words.
KINDS = {
    "STRICT_SHAPE": "a mapping",
    "PERMISSIVE_SHAPE": "a mapping",
    "SELECTOR": "a mapping with exactly one key",
    "MAP": "a mapping",
    "ARRAY": "a list",
}

NULL = "found null, expected {wanted}: give a value or leave the key out"


def stack_path(stack: Any) -> str:
    """Dagster's evaluation stack as a dotted path."""
    path = ""
    for entry in stack.entries:
        if hasattr(entry, "field_name"):
            path = join(path, str(entry.field_name))
        elif hasattr(entry, "list_index"):
            path += f"[{entry.list_index}]"
        elif hasattr(entry, "map_key"):
            path = join(path, str(entry.map_key))
    return path


def type_at(config_type: Any, stack: Any) -> Any:
    """The config type that an evaluation stack points at; None if it cannot be followed."""
    for entry in [*stack.entries, None]:
        while config_type is not None and config_type.kind.name in ("NONEABLE", "SCALAR_UNION"):
            if entry is None and config_type.kind.name == "SCALAR_UNION":
                return config_type
            config_type = getattr(config_type, "inner_type", None) or getattr(config_type, "non_scalar_type", None)
        if entry is None or config_type is None:
            break
        if hasattr(entry, "field_name"):
            field = (getattr(config_type, "fields", None) or {}).get(entry.field_name)
            config_type = field.config_type if field else None
        else:
            config_type = getattr(config_type, "inner_type", None)
    return config_type


def schema_errors(config_type: Any, errors: Any) -> Iterator[tuple[str, str]]:
    """(relative path, message) for the errors of Dagster's config system; a list of keys is one error per key."""
    for error in errors:
        path, data, reason = stack_path(error.stack), error.error_data, error.reason.name
        message = " ".join(re.sub(r" (at path root[^ ]*?|at the root)(?=[ .]|$)", "", error.message).split())
        names = getattr(data, "field_names", None) or ([data.field_name] if hasattr(data, "field_name") else [])
        if reason.startswith(("FIELD_NOT", "FIELDS_NOT")):
            known = sorted(getattr(type_at(config_type, error.stack), "fields", None) or {})
            for name in names:
                allowed = f"expected one of: {', '.join(known)}" if known else "no key is known here"
                hint = f"{did_you_mean(name, known)} ".lstrip()
                yield join(path, name), f"unknown key; {hint}{allowed}"
        elif reason.startswith("MISSING_REQUIRED"):
            for name in names:
                yield join(path, name), "required key is missing"
        elif reason == "RUNTIME_TYPE_MISMATCH":
            yield path, type_message(path, data, message)
        elif reason == "FAILED_POST_PROCESSING":
            yield path, " ".join(re.sub(r"^[\w.]+: ", "", data.message).split())  # without the stack trace
        else:
            yield path, message


def type_message(path: str, data: Any, message: str) -> str:
    """A wrong type, with the usual cause: a number or a boolean that arrived as text."""
    snap = data.config_type_snap
    wanted = str(snap.given_name or KINDS.get(snap.kind.name) or snap.key)
    found = str(data.value_rep)
    if SECRET.search(path.rsplit(".", 1)[-1]):
        # A value of the wrong type can still be a secret.
        return f"wrong type; expected {wanted}"
    if wanted in ("Int", "IntSourceType") and re.fullmatch(r"'[+-]?\d+'", found):
        return f"found the text {found}, expected a number: write it without quotes, in a template {{{{ x | int }}}}"
    if wanted in ("Float",) and re.fullmatch(r"'[+-]?[\d.]+'", found):
        return f"found the text {found}, expected a number: write it without quotes, in a template {{{{ x | float }}}}"
    if wanted in ("Bool", "BoolSourceType") and re.fullmatch(r"'(true|false|yes|no|on|off)'", found, re.IGNORECASE):
        return f"found the text {found}, expected a boolean: write it without quotes, in a template {{{{ x | bool }}}}"
    if found == "None":
        return NULL.format(wanted=wanted)
    if snap.given_name or snap.kind.name in KINDS:
        return f"found {found[:200]}, expected {wanted}"
    return f"found {found[:200]}: {message}"


def unset_env(config_type: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, NAME) of each {env: NAME} that Dagster would resolve there and that is not set.

    By type, not by shape: inside free-form parts {env: ...} is ordinary data.
    """
    kind = config_type.kind.name
    if kind == "SCALAR_UNION":
        if getattr(config_type, "key", "").endswith("SourceType"):
            name = value.get("env") if isinstance(value, dict) and set(value) == {"env"} else None
            if isinstance(name, str) and name not in os.environ:
                yield path, name
        elif isinstance(value, (dict, list)):
            yield from unset_env(config_type.non_scalar_type, value, path)
    elif kind == "NONEABLE" and value is not None:
        yield from unset_env(config_type.inner_type, value, path)
    elif kind == "ARRAY" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from unset_env(config_type.inner_type, item, f"{path}[{index}]")
    elif kind == "MAP" and isinstance(value, dict):
        for key, item in value.items():
            yield from unset_env(config_type.inner_type, item, join(path, str(key)))
    elif isinstance(value, dict):
        fields = getattr(config_type, "fields", None) or {}
        for key, item in value.items():
            if key in fields:
                yield from unset_env(fields[key].config_type, item, join(path, str(key)))


def validate(report: Report, schema: Any, value: Any, path: str) -> bool:
    """Whether a value is of a type; the reasons are reported if it is not."""
    config_type = load("dagster._config:resolve_to_config_type")(schema)
    validated = load("dagster._config:validate_config")(config_type, value)
    for where, message in schema_errors(config_type, validated.errors or []):
        report.add(join(path, where), message)
    return bool(validated.success)


def process(report: Report, schema: Any, value: Any, path: str) -> Any:
    """Validate a value and resolve it as Dagster does; None, and the reasons reported, if it does not fit."""
    config_type = load("dagster._config:resolve_to_config_type")(schema)
    valid = validate(report, schema, value, path)
    unset = list(unset_env(config_type, value, path))
    for where, name in unset:
        report.add(where, f"the environment variable {name} is not set for the services")
    if unset or not valid:
        return None
    processed = load("dagster._config:process_config")(config_type, value)
    for where, message in schema_errors(config_type, processed.errors or []):
        report.add(join(path, where), message)
    return processed.value if processed.success else None
