# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Dagster's config types: whether a value is of a type, exactly as Dagster sees it, and what to write if it is not."""

from __future__ import annotations

import re

from ....module_utils._secrets import looks_secret
from ....module_utils._words import did_you_mean
from .report import listed, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from .catalogue import Catalogue
    from .places import Location
    from .report import Path, Report

SCALARS = {
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "float": "a number",
    "any": "anything",
    "int_source": "a whole number or {env: NAME}",
    "str_source": "text or {env: NAME}",
    "bool_source": "true or false, or {env: NAME}",
}
_WORDS = ("true", "false", "yes", "no", "on", "off")


def is_scalar(kind: str, value: object) -> bool:
    """Whether a value is of one of Dagster's four scalars. No number is a boolean and no boolean a whole number."""
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    return isinstance(value, (int, float))


def is_variable(name: str) -> bool:
    """Whether a process can have a variable of that name."""
    return bool(name) and "=" not in name and "\0" not in name


class Checker:
    """Holds a value against a type, and reports what does not fit."""

    def __init__(
        self,
        catalogue: Catalogue,
        report: Report,
        env: Collection[str] | None = None,
        written: Callable[[Path], str] = lambda _path: "",
        locations: Collection[Location] | None = None,
    ) -> None:
        self.catalogue, self.report = catalogue, report
        self.env = env  # names of the process that reads the file; None if nobody knows them
        self.written = written
        self.locations = locations  # of the deployment; None for a file
        self.hints: dict[str, str] = {}  # for unknown keys, by dotted path or key: what replaced them

    def check(self, kind: str | int, value: Any, path: Path, processed: bool = True) -> bool:
        """Report what is wrong with a value; True if nothing is.

        processed: Dagster also resolves the value (a class's configuration), which looks at the environment and at keys
        of free-form parts; what is only validated (most of the file) skips both.
        """
        if isinstance(kind, str):
            return self._scalar(kind, value, path, processed)
        entry = self.catalogue.types[kind]
        ((word, inner),) = entry.items()
        return getattr(self, f"_{word}")(inner, value, path, processed)

    def check_fields(self, fields: dict[str, Any], value: Any, path: Path) -> bool:
        """The same for a mapping of these fields, each with its type and whether it is needed."""
        return self._shape(fields, value, path, processed=True)

    # --- one type each ---

    def _scalar(self, kind: str, value: Any, path: Path, processed: bool) -> bool:
        if kind == "any":
            return True
        base, _mark, source = kind.partition("_")
        if source and isinstance(value, (dict, list)):
            return self._source(kind, value, path, processed)
        if value is not None and is_scalar(base, value):
            return True
        return self._mismatch(kind, value, path)

    def _source(self, kind: str, value: Any, path: Path, processed: bool) -> bool:
        if not isinstance(value, dict) or len(value) != 1:
            hint = "env stands alone: Dagster knows no default beside it" if isinstance(value, dict) else ""
            return self._mismatch(kind, value, path, hint)
        ((key, name),) = value.items()
        if key != "env":
            self.report.error(
                (*path, key), f"found the key {key!r}; expected {SCALARS[kind]}", did_you_mean(key, ["env"])
            )
            return False
        if not isinstance(name, str):
            return self._mismatch("str", name, (*path, "env"))
        if not processed:
            return True
        if not is_variable(name):
            self.report.error((*path, "env"), f"found {shown(name)}; expected the name of an environment variable")
            return False
        if self.env is not None and name not in self.env:
            hint = did_you_mean(name, self.env) or "add it to the environment of the services"
            self.report.error((*path, "env"), f"the services have no environment variable {name}", hint)
            return False
        return True

    def _shape(self, fields: dict[str, Any], value: Any, path: Path, processed: bool, strict: bool = True) -> bool:
        if not isinstance(value, dict):
            known = self.hint_for(path) if value is not None else ""
            return self._mismatch("a mapping", value, path, known or self._shape_hint(fields, value))
        good = True
        for key in value:
            if not isinstance(key, str) and (strict or processed):
                good = self._key(key, path)
            elif strict and key not in fields:
                good = self._unknown(key, fields, value, path)
        for name, field in fields.items():
            if name in value:
                good = self.check(field[0], value[name], (*path, name), processed) and good
            elif field[1]:
                good = False
                self.report.error(
                    (*path, name), f"the required key {name} is missing", self._needed(field[0], (*path, name))
                )
        return good

    def _permissive(self, fields: dict[str, Any], value: Any, path: Path, processed: bool) -> bool:
        return self._shape(fields, value, path, processed, strict=False)

    def _selector(self, fields: dict[str, Any], value: Any, path: Path, processed: bool) -> bool:
        if value == {} and isinstance(value, dict) and len(fields) == 1 and not next(iter(fields.values()))[1]:
            return True
        if not isinstance(value, dict):
            return self._mismatch("a mapping", value, path, f"one of: {listed(fields)}")
        if len(value) != 1:
            found = listed(map(str, value)) or "an empty mapping"
            self.report.error(path, f"found {found}; expected exactly one of: {listed(fields)}", self.hint_for(path))
            return False
        ((key, inner),) = value.items()
        if key not in fields:
            return self._unknown(key, fields, value, path) if isinstance(key, str) else self._key(key, path)
        kind = fields[key][0]
        if inner is None and not isinstance(kind, str) and self.catalogue.has_fields(kind):
            inner = {}  # as Dagster does: the key alone selects it
        return self.check(kind, inner, (*path, key), processed)

    def _array(self, inner: str | int, value: Any, path: Path, processed: bool) -> bool:
        if not isinstance(value, list):
            hint = f"write [{value}]" if isinstance(value, str) and len(value) < 40 and not self._secret(path) else ""
            return self._mismatch("a list", value, path, hint)
        results = [self.check(inner, item, (*path, index), processed) for index, item in enumerate(value)]
        return all(results)

    def _noneable(self, inner: str | int, value: Any, path: Path, processed: bool) -> bool:
        return value is None or self.check(inner, value, path, processed)

    def _map(self, inner: list[Any], value: Any, path: Path, processed: bool) -> bool:
        if not isinstance(value, dict):
            return self._mismatch("a mapping", value, path)
        good = True
        for key, item in value.items():
            good = self.check(inner[0], key, (*path, key), processed) and good
            good = self.check(inner[1], item, (*path, key), processed) and good
        return good

    def _union(self, inner: list[Any], value: Any, path: Path, processed: bool) -> bool:
        if value is None:
            return self._mismatch(self.described(inner[0]), value, path)
        return self.check(inner[1] if isinstance(value, (dict, list)) else inner[0], value, path, processed)

    def _enum(self, allowed: list[str], value: Any, path: Path, _processed: bool) -> bool:
        if value in allowed:
            return True
        self.report.error(
            path, f"found {shown(value)}; expected one of: {listed(allowed)}", did_you_mean(value, allowed)
        )
        return False

    # --- saying it ---

    def described(self, kind: str | int) -> str:
        """A type in an operator's words."""
        if isinstance(kind, str):
            return SCALARS[kind]
        ((word, inner),) = self.catalogue.types[kind].items()
        if word == "noneable":
            return f"{self.described(inner)}, or null"
        if word == "array":
            return f"a list, each entry {self.described(inner)}"
        if word == "union":
            return f"{self.described(inner[0])}, or {self.described(inner[1])}"
        if word == "selector":
            return f"a mapping with one of: {listed(inner)}"
        if word == "shape" and inner:
            return f"a mapping of: {listed(inner)}"
        return "a mapping"

    def hint_for(self, path: Path) -> str:
        """What is known to have replaced something."""
        from .report import dotted

        return self.hints.get(dotted(path), "")

    @staticmethod
    def _secret(path: Path) -> bool:
        names = [part for part in path if isinstance(part, str)]
        return bool(names) and looks_secret(names[-1])

    def _mismatch(self, kind: str, value: Any, path: Path, hint: str = "") -> bool:
        wanted = SCALARS.get(kind, kind)
        # A value of the wrong type can still be a secret.
        found = "a value of another type" if self._secret(path) and value is not None else shown(value)
        written = self.written(path)
        if written and not self._secret(path) and written.lower() not in (str(value).lower(), "null", ""):
            found += f" (written {written})"
        self.report.error(
            path, f"found {found}; expected {wanted}", hint or self.hint_for(path) or advice(wanted, value, written)
        )
        return False

    def _unknown(self, key: str, fields: dict[str, Any], value: Any, path: Path) -> bool:
        place = f" in {path[-1]}" if path and isinstance(path[-1], str) else ""
        free = [name for name in fields if name not in value]
        message = f"found the key {key}, which does not exist{place}; " + (
            f"expected one of: {listed(fields)}" if fields else "no key is known here"
        )
        hint = self.hint_for((*path, key)) or did_you_mean(key, free or fields) or self.hint_for((*path, "*"))
        self.report.error((*path, key), message, hint)
        return False

    def _key(self, key: Any, path: Path) -> bool:
        self.report.error(
            (*path, key), f"found the key {key!r}; expected text", "quote the key: YAML reads on, yes and 1 otherwise"
        )
        return False

    def _needed(self, kind: str | int, path: Path) -> str:
        return self.hint_for(path) or f"add {path[-1]}: {self.described(kind)}"

    @staticmethod
    def _shape_hint(fields: dict[str, Any], value: Any) -> str:
        if value is None:
            return "give it a value or leave the key out: everything below it is commented out or indented wrongly"
        return f"keys: {listed(fields)}" if fields else ""


def advice(wanted: str, value: Any, written: str) -> str:
    """The usual reason for a wrong type."""
    if isinstance(value, str):
        if "whole number" in wanted and re.fullmatch(r"[+-]?\d+", value):
            return f"write {value} without quotes (in a template: {{{{ x | int }}}})"
        if wanted.startswith("a number") and re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
            return f"write {value} without quotes (in a template: {{{{ x | float }}}})"
        if "true or false" in wanted and value.lower() in _WORDS:
            return f"write {value.lower()} without quotes (in a template: {{{{ x | bool }}}})"
        if "${" in value:
            return f"Dagster replaces no ${{NAME}}; write {'{env: NAME}' if '{env' in wanted else 'the value'}"
    if isinstance(value, dict) and set(value) == {"env"}:
        return "Dagster takes no variable here; write the value"
    if "text" in wanted and isinstance(value, (int, float)):
        return f'write "{written or value}" in quotes'
    if "whole number" in wanted and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if value is None:
        return "give it a value or leave the key out"
    return ""


def env_names(checker: Checker, kind: str | int, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """(path, NAME) of each {env: NAME} that Dagster resolves; in free-form parts {env: ...} is ordinary data."""
    if isinstance(kind, str):
        if kind.endswith("_source") and isinstance(value, dict) and isinstance(value.get("env"), str):
            yield path, value["env"]
        return
    ((word, inner),) = checker.catalogue.types[kind].items()
    if word in ("shape", "permissive", "selector") and isinstance(value, dict):
        for key in inner.keys() & value.keys():
            yield from env_names(checker, inner[key][0], value[key], (*path, key))
    elif word == "array" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from env_names(checker, inner, item, (*path, index))
    elif word == "noneable":
        yield from env_names(checker, inner, value, path)
    elif word == "union" and isinstance(value, (dict, list)):
        yield from env_names(checker, inner[1], value, path)
