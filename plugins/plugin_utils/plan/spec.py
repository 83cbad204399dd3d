# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documented variables: read from the argument specs of roles and playbooks, and what is wrong with given ones."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import entries
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.canary import off
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.renamed import renamed
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.texts import control_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import kind_of

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
# What our plays hand on under the prefix of variables, and what 0.1.0 has left in fact caches.
OWN_NAMES = {"dagster_host", "dagster_plan", "dagster_daemon_units", "dagster_topology"}
Options = dict[str, dict[str, Any]]


def specs(collection: str = COLLECTION) -> dict[str, Options]:
    """The options of each role, and of the playbooks, by name.

    A role without the entry point main is called by other roles: its parameters are theirs to give, and no variables.
    """
    roles = os.path.join(collection, "roles")
    paths = {role: os.path.join(roles, role, "meta", "argument_specs.yml") for role in sorted(os.listdir(roles))}
    paths["playbooks"] = os.path.join(collection, "playbooks", "argument_specs.yml")
    found = {}
    # A checkout that was updated may keep the folder of a role that is gone.
    for name, path in ((name, path) for name, path in paths.items() if os.path.exists(path)):
        with open(path, encoding="utf-8") as stream:
            entries = yaml_load(stream)["argument_specs"]
        if "main" in entries:
            found[name] = entries["main"]["options"]
    return found


def with_defaults(known: Mapping[str, Options], defaults: Mapping[str, Any]) -> dict[str, Options]:
    """The specs, with these defaults in options that have none of their own: those that an instance's name decides."""
    return {
        role: {
            name: {**option, "default": defaults[name]} if name in defaults else option
            for name, option in options.items()
        }
        for role, options in known.items()
    }


def summary(description: str | list[str]) -> str:
    """The first sentence of an option's description, without markup."""
    first = description if isinstance(description, str) else description[0]
    return re.sub(r"\b[A-Z]\(([^)]*)\)", r"\1", first).rstrip(".")


def unknown_names(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence for each dagster_* variable that no role knows, or knows by a new name."""
    known = set(known) | OWN_NAMES
    return [
        renamed(name) or f"{name} is no variable of this collection{did_you_mean(name, known, '; ')}"
        for name in sorted(names)
        if name.startswith("dagster_") and name not in known
    ]


def blank(value: Any) -> bool:
    """Whether a variable is set to nothing. ansible-core makes null of a text that AWX gives, since 2.19."""
    return value is None or value == ""


def empty_problems(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """A sentence for a variable of a role that is set to nothing: the role would get that instead of its default.

    Nothing comes before an extra variable, which an answer to a survey is, so nothing can put the default in its place.
    What is required has a sentence of its own.
    """
    default = option.get("default")
    if option.get("required") or not blank(value) or (value == "" and default == ""):
        return []
    instead = f" to get its default {default!r}" if default not in (None, "") else ""
    return [
        f"{name} is empty; leave it out{instead} (AWX sends a question of a survey without an answer as empty text: "
        "give it a default answer, or remove it)"
    ]


def text_problems(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """A sentence for each list, dictionary or password that is something else.

    Ansible's own check turns text into a list or dictionary for itself alone; the roles would then get the text. A
    password that YAML took for a number has lost its leading zeros or its spelling, quotes in AWX's form do not help.
    """
    if value is None:
        return []
    if name.endswith(("_password", ".password")) and not isinstance(value, str):
        return [
            f"{name} was read as {kind_of(value)}, which may not be what you wrote; quote it in YAML, and in "
            "AWX choose one with letters in it"
        ]
    if name.endswith("_password"):
        return control_problems(name, value)
    kinds: dict[str, tuple[Any, str]] = {"list": (list, "list"), "dict": (dict, "dictionary")}
    kind, expected = kinds.get(str(option.get("type")), (object, ""))
    if not isinstance(value, kind):
        return [
            f"{name} is {kind_of(value)}; expected a {expected}. Give it as JSON or YAML (in AWX among the extra "
            "variables, on a command line -e '{...}'), because surveys and key=value can only give text"
        ]
    options = option.get("options") or {}
    problems: list[str] = []
    if kind is dict:
        for key in sorted(options.keys() & value.keys()):
            problems += text_problems(f"{name}.{key}", value[key], options[key])
    elif kind is list and options:
        for number, entry in enumerate(value):
            problems += text_problems(
                f"{name}[{entries.label(entry, number)}]", entry, {"type": "dict", "options": options}
            )
    return problems


def missing_problems(options: Options, given: Mapping[str, Any]) -> list[str]:
    """A sentence for each variable that has to be set and is not."""
    return [
        f"{name} is not set: {summary(option['description'])}"
        for name, option in options.items()
        if option.get("required") and blank(given.get(name))
    ]


def typed(name: str, value: Any, option: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A value with the type of its spec, and what the spec refuses about it."""
    spec = {name: {key: part for key, part in option.items() if key != "required"}}
    validated = ArgumentSpecValidator(spec).validate({name: value})
    found = [str(message) for message in validated.error_messages]
    if found and option.get("type") == "list" and option.get("options"):
        found = entries.problems(name, value, option["options"]) or found
    return validated.validated_parameters[name], found


def read(
    known: Mapping[str, Options], needed: Iterable[str], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The value of each documented variable for a host, and what is wrong with those that it was given.

    The spec of a role that the host does not get (needed) types its variables, but refuses none. A variable that
    cannot be typed is left out, so that one sentence about it is enough. An empty one is not given, where no role
    reads it.
    """
    options = {name: option for spec in known.values() for name, option in spec.items()}
    own = {name for role in needed for name in known[role]}
    of_roles = {name for role, spec in known.items() if role != "playbooks" for name in spec}
    values = {name: option.get("default") for name, option in options.items()}
    problems: list[str] = []
    for name in sorted(options.keys() & given.keys()):
        option, value = options[name], {} if off(name, given[name]) else given[name]
        if blank(value) and name not in of_roles:
            continue
        found = empty_problems(name, value, option) or text_problems(name, value, option)
        if not found and value is not None:
            value, refused = typed(name, value, option)
            found = refused if name in own else []
            values[name] = values[name] if refused else value
        problems += found
    problems += missing_problems({name: options[name] for name in options if name in own}, given)
    return values, problems


class Asked(Mapping[str, Any]):
    """The documented variables of another host, each read when somebody asks for it.

    A value may come from a vault far away, so what nobody needs is not read. What is wrong with one is told on its own
    host; here its default stands for it.
    """

    def __init__(self, known: Mapping[str, Options], given: Iterable[str], read_one: Callable[[str], Any]) -> None:
        self.options = {name: option for spec in known.values() for name, option in spec.items()}
        self.given = frozenset(given)
        self.read_one = read_one
        self.values_read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.values_read:
            found = {name: self.read_one(name)} if name in self.given else {}
            self.values_read[name] = read({"": {name: self.options[name]}}, [], found)[0][name]
        return self.values_read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.options)

    def __len__(self) -> int:
        return len(self.options)
