# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documented variables: read from the argument specs of roles and playbooks, and what is wrong with given ones."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import entries, pasted, structure
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.canary import off
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.renamed import renamed
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.texts import control_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import kind_of

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
# What our plays hand on under the prefix of variables, and what 0.1.0 has left in fact caches.
OWN_NAMES = {"dagster_host", "dagster_plan", "dagster_daemon_units", "dagster_topology"}
TEMPLATE = re.compile(r"\{\{|\{%")
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


def taken_name_problems(variables: Mapping[str, Any]) -> list[str]:
    """A sentence when a variable has the name under which the roles read their options; the plan comes with ours."""
    if "dagster_plan" in variables:
        return []
    # What 0.1.0 has left in a fact cache is a dictionary.
    taken = [name for name in ("dagster", "dagster_host") if name in variables]
    taken = [name for name in taken if name == "dagster" or not isinstance(variables[name], Mapping)]
    return [
        f"the variable {name} is one in which the roles read what preflight hands on; give yours another name"
        for name in taken
    ]


def unknown_names(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence for each dagster_* variable that no role knows, or knows by a new name."""
    known = set(known) | OWN_NAMES
    return [
        renamed(name) or f"{name} is no variable of this collection{did_you_mean(name, known, '; ')}"
        for name in sorted(names)
        if name.startswith("dagster_") and name not in known
    ]


def blank(value: Any, option: Mapping[str, Any]) -> bool:
    """Whether a variable is set to nothing, which means its default. AWX sends "" for a question without an answer.

    ansible-core makes null of that text, since 2.19. Spaces are nothing as well, except in a secret.
    """
    if isinstance(value, str):
        return value == "" if option.get("no_log") and option["type"] == "str" else not value.strip()
    return value is None


def quoted(value: str, option: Mapping[str, Any]) -> str:
    """What was typed, shortened for a sentence; what may hold a secret is not shown."""
    if option.get("no_log"):
        return "text"
    return f"'{value[:60]}{'...' if len(value) > 60 else ''}'"


def structured(name: str, value: Any, option: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A list or dictionary that was given as text, and what is wrong with the text; any other value as it is."""
    expected = {"list": "a list, such as [a, b]", "dict": "a dictionary, such as {name: value}"}.get(option["type"])
    if expected is None or not isinstance(value, str):
        return value, []
    found, problems = structure.read_text(name, value)
    if not problems and isinstance(found, (str, int, float)):
        problems = [f"{name} is {quoted(value, option)}; expected {expected}. As text it is written in YAML or JSON"]
    return found, problems


def text_again(name: str, value: Any, option: Mapping[str, Any]) -> Any:
    """JSON of a login as text, of which ansible-core before 2.19 makes a dictionary; any other value as it is."""
    login = option.get("no_log") and option["type"] == "str" and not name.endswith("_password")
    return json.dumps(value) if login and isinstance(value, Mapping) else value


def spelling_problems(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """A sentence for a value that is not what was meant: YAML has made another one of it, or it is still a template."""
    kind = option.get("type", "str")
    if name.endswith(("_password", ".password")) and not isinstance(value, str):
        return [
            f"{name} was read as {kind_of(value)}, which may not be what you wrote; quote it in YAML, and in "
            "AWX choose one with letters in it"
        ]
    if name.endswith("_password"):
        return control_problems(name, value)
    if isinstance(value, bool) and kind in ("str", "path", "int", "float"):
        return [
            f"{name} was read as true or false, as YAML reads yes, no, on and off; expected "
            f"{'a number' if kind in ('int', 'float') else 'text, so quote it'}"
        ]
    if isinstance(value, str) and kind in ("str", "path") and not option.get("no_log") and TEMPLATE.search(value):
        return [
            f"{name} is {quoted(value, option)}; a template that is typed into a survey or into launch variables stays "
            "text. Write the value itself, or set the variable in the inventory"
        ]
    return []


def problems_of(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """A sentence for each part of a value that is of another kind, or spelled in a way that hides what was meant.

    Ansible's own check would make a list or dictionary of text in its own way.
    """
    if value is None:
        return []
    kinds: dict[str, tuple[Any, str]] = {"list": (list, "list"), "dict": (dict, "dictionary")}
    kind, expected = kinds.get(str(option.get("type")), (object, ""))
    if not isinstance(value, kind):
        return [f"{name} is {kind_of(value)}; expected a {expected}"]
    problems = spelling_problems(name, value, option)
    options = option.get("options") or {}
    if kind is dict:
        for key in sorted(options.keys() & value.keys()):
            problems += problems_of(f"{name}.{key}", value[key], options[key])
    elif kind is list and "elements" in option:
        for number, entry in enumerate(value):
            problems += problems_of(
                f"{name}[{entries.label(entry, number)}]", entry, {"type": option["elements"], "options": options}
            )
    return problems


def missing_problems(options: Options, given: Mapping[str, Any]) -> list[str]:
    """A sentence for each variable that has to be set and is not."""
    return [
        f"{name} is not set: {summary(option['description'])}"
        for name, option in options.items()
        if option.get("required") and blank(given.get(name), option)
    ]


def as_written(option: Mapping[str, Any]) -> dict[str, Any]:
    """An option for Ansible's check, without what would change more than a type: ~ and $HOME are the controller's."""
    found = dict(option)
    for key in ("type", "elements"):
        if found.get(key) == "path":
            found[key] = "str"
    if "options" in found:
        found["options"] = {name: as_written(inner) for name, inner in found["options"].items()}
    return found


def without_unset(value: Any, given: Any) -> Any:
    """A typed value without the keys that only its spec has."""
    if isinstance(value, dict) and isinstance(given, Mapping):
        return {
            key: without_unset(item, given.get(key)) for key, item in value.items() if key in given or item is not None
        }
    if isinstance(value, list) and isinstance(given, list) and len(value) == len(given):
        return [without_unset(item, inner) for item, inner in zip(value, given, strict=True)]
    return value


def typed(name: str, value: Any, option: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A value with the type of its spec, and what the spec refuses about it."""
    spec = {name: {key: part for key, part in as_written(option).items() if key not in ("required", "no_log")}}
    validated = ArgumentSpecValidator(spec).validate({name: value})
    refused = [str(message) for message in validated.error_messages]
    if refused:
        refused = entries.problems_of(name, value, option) or refused
    return without_unset(validated.validated_parameters[name], value), refused


def read(
    known: Mapping[str, Options], needed: Iterable[str], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The value of each documented variable for a host, and what is wrong with those that it was given.

    The spec of a role that the host does not get (needed) types its variables, but refuses none. A variable that
    cannot be typed is left out, so that one sentence about it is enough. A blank one is not given.
    """
    options = {name: option for spec in known.values() for name, option in spec.items()}
    own = {name for role in needed for name in known[role]}
    values = {name: option.get("default") for name, option in options.items()}
    problems: list[str] = []
    for name in sorted(options.keys() & given.keys()):
        option, value = options[name], {} if off(name, given[name]) else given[name]
        if blank(value, option):
            continue
        as_a_whole = pasted.of_text(value) if name == pasted.VARIABLE and isinstance(value, str) else []
        value, found = structured(name, text_again(name, value, option), option)
        found = as_a_whole or found
        found = found or problems_of(name, value, option)
        if not found and value is not None:
            value, refused = typed(name, value, option)
            found = refused if name in own else []
            values[name] = values[name] if refused else value
        problems += found
    problems += missing_problems({name: options[name] for name in options if name in own}, given)
    return values, problems


def handed_on(known: Mapping[str, Options], needed: Iterable[str], chosen: Callable[[str], Any]) -> dict[str, Any]:
    """What roles and playbooks read as dagster.NAME: the options of these roles, typed. A secret is in no fact."""
    names = {name for role in needed for name, option in known[role].items() if not option.get("no_log")}
    return {name.removeprefix("dagster_"): chosen(name) for name in sorted(names)}


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
