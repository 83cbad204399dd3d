# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What looks like an environment variable and is none: Dagster hands it on as it stands."""

from __future__ import annotations

import re

from ....module_utils._secrets import at, leaves, looks_secret
from .sections import known_class, named_classes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .report import Path
    from .schema import Checker

# ${NAME}, or $NAME where a path begins.
_SHELL = re.compile(r"\$\{(\w+)[^}]*\}|^\$([A-Za-z_]\w*)(?=/|$)")
# What is text for a shell or for Python's logging, which do replace it.
_REPLACED_LATER = frozenset(("command", "args", "entrypoint", "healthcheck", "formatters"))
# Mappings of free names: {env: prod} is one of them.
_FREE_NAMES = frozenset(
    (
        *("labels", "annotations", "tags", "metadata", "match_labels", "matchLabels", "node_selector", "nodeSelector"),
        *("extra_hosts", "run_tags", "storage_opt", "sysctls"),
    )
)


def check(checker: Checker, config: dict[Any, Any]) -> None:
    """Report variables of a dagster.yaml that nothing looks up."""
    _not_looked_up(checker, config)
    for path, value in leaves(config, ()):
        if not isinstance(value, str):
            continue
        if "$" in value:
            text(checker, path, value, _kind(checker, config, path))
        elif path[-1] == "env" and len(path) > 2:
            _in_free_form(checker, config, path[:-1], value)


def text(checker: Checker, path: Path, value: str, kind: str | None) -> None:
    """Report a variable of a shell in a text. kind: the scalar type there, None if nobody knows it."""
    match = _SHELL.search(value)
    if not match or (match[2] and looks_secret(str(path[-1]))) or not _REPLACED_LATER.isdisjoint(map(str, path)):
        return
    if (kind or "str").partition("_")[0] not in ("str", "any", ""):
        return  # text is an error there, and has said it
    name = match[1] or match[2]
    message = f"found {f'${{{name}}}' if match[1] else f'${name}'}, which Dagster does not replace: it stays text"
    if "env_vars" in path:
        variable = value.partition("=")[0] if "=" in value else name
        hint = f"write {variable}, the name alone: the launcher copies its value from the environment of the services"
    elif not (kind or "").endswith("_source"):
        hint = "write the value: Dagster looks up no variable here"
    elif match[0] == value:
        hint = f"write {{env: {name}}}" + (", which has no default" if value != f"${{{name}}}" and match[1] else "")
    else:
        hint = "a variable stands alone: write {env: NAME}, and let NAME hold the whole text"
    checker.report.harm("shell_variable", path, message, hint)


def _not_looked_up(checker: Checker, config: dict[Any, Any]) -> None:
    """The schema takes a variable there, and nothing ever looks it up."""
    options = config.get("auto_materialize")
    for key, value in options.items() if isinstance(options, dict) else ():
        if isinstance(value, dict) and set(value) == {"env"} and key not in _FREE_NAMES:
            message = f"found {{env: {value['env']}}}, which Dagster takes here and never looks up"
            checker.report.warn("env_not_resolved", ("auto_materialize", key), message, "write the value")


def _in_free_form(checker: Checker, config: dict[Any, Any], path: Path, name: str) -> None:
    """{env: NAME} where a class takes whatever there is."""
    if len(at(config, path)) > 1 or path[-1] in _FREE_NAMES or _kind(checker, config, path) != "":
        return
    found = f"found {{env: {name[:60]}}}, which is a mapping here and no variable"
    if "container_kwargs" in path:
        hint = "write the value: all of container_kwargs goes to Docker as it stands"
        checker.report.refuse("env_not_resolved", path, f"{found}: each run fails with a TypeError", hint)
    else:
        checker.report.harm("env_not_resolved", path, f"{found}: it is handed on as it stands", "write the value")


def _kind(checker: Checker, config: dict[Any, Any], path: Path) -> str | None:
    """The scalar type at a path, empty where anything may stand; None in the configuration of a class of the user's."""
    catalogue = checker.catalogue
    for section in named_classes(config):
        start = len(section.config_path)
        if path[:start] == section.config_path:
            kind = known_class(checker, section).get("config")
            return None if kind is None else catalogue.scalar(kind, path[start:])
    # Outside of classes the types take variables that nothing looks up.
    return catalogue.scalar(catalogue.data["instance"], path).removesuffix("_source")
