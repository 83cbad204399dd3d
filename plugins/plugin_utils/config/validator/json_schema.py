# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The catalogue as JSON Schema, for the completion of editors.

It says less than the validator: no rule between sections, none of a constructor, and of a class only by its own module
and name.
"""

from __future__ import annotations

from .sections import PLAIN, STORAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .catalogue import Catalogue

SCALARS = {"int": "integer", "str": "string", "bool": "boolean", "float": "number"}


def json_schema(catalogue: Catalogue, kind: str) -> dict[str, Any]:
    """The schema of dagster.yaml or workspace.yaml."""
    root = catalogue.data["instance" if kind == "dagster" else "workspace"]
    types = {f"type{number}": _composite(entry) for number, entry in enumerate(catalogue.types)}
    schema: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"{kind}.yaml of Dagster {catalogue.version}",
        **_composite(catalogue.types[root]),
        "definitions": {"env": _env(), **types},
    }
    if kind == "dagster":
        for section in PLAIN:
            if section in schema["properties"]:
                schema["properties"][section] = _section(catalogue, section)
        storage = schema["properties"]["storage"] = _composite(catalogue.types[catalogue.top_level["storage"][0]])
        storage["properties"]["custom"] = _section(catalogue, "storage")
        for name, (module, class_name) in STORAGE.items():
            identity = catalogue.modules[module][class_name]
            storage["properties"][name] = _type(catalogue.classes[identity]["config"])
    return schema


def _env() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"env": {"type": "string", "description": "Name of an environment variable."}},
        "required": ["env"],
        "additionalProperties": False,
    }


def _type(kind: str | int) -> dict[str, Any]:
    if not isinstance(kind, str):
        return {"$ref": f"#/definitions/type{kind}"}
    if kind == "any":
        return {}
    base, _mark, source = kind.partition("_")
    scalar = {"type": SCALARS[base]}
    return {"anyOf": [scalar, {"$ref": "#/definitions/env"}]} if source else scalar


def _fields(fields: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for name, field in fields.items():
        properties[name] = _type(field[0])
        # Beside a $ref nothing else counts.
        if len(field) > 2 and "$ref" not in properties[name]:
            properties[name]["default"] = field[2]
    return properties


def _composite(entry: dict[str, Any]) -> dict[str, Any]:
    ((word, inner),) = entry.items()
    if word == "array":
        return {"type": "array", "items": _type(inner)}
    if word == "noneable":
        return {"anyOf": [_type(inner), {"type": "null"}]}
    if word == "union":
        return {"anyOf": [_type(inner[0]), _type(inner[1])]}
    if word == "map":
        return {"type": "object", "additionalProperties": _type(inner[1])}
    if word == "enum":
        return {"enum": inner}
    schema: dict[str, Any] = {"type": "object", "properties": _fields(inner)}
    if word == "selector":
        schema.update(additionalProperties=False, minProperties=1, maxProperties=1)
        return schema
    required = [name for name, field in inner.items() if field[1]]
    if required:
        schema["required"] = required
    if word == "shape":
        schema["additionalProperties"] = False
    return schema


def _section(catalogue: Catalogue, section: str) -> dict[str, Any]:
    """A section that names a class: its module and name decide what its config is."""
    offers = list(catalogue.offers(section))
    choices = []
    for module, name, identity in offers:
        entry = catalogue.classes[identity]
        if "config" in entry:
            when = {
                "properties": {"module": {"const": module}, "class": {"const": name}},
                "required": ["module", "class"],
            }
            choices.append({"if": when, "then": {"properties": {"config": _type(entry["config"])}}})
    return {
        "type": "object",
        "properties": {
            "module": {"type": "string", "examples": sorted({module for module, _name, _identity in offers})},
            "class": {"type": "string", "examples": sorted({name for _module, name, _identity in offers})},
            "config": {"type": "object"},
        },
        "required": ["module", "class"],
        "additionalProperties": False,
        **({"allOf": choices} if choices else {}),
    }
