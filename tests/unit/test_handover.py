"""What the plays hand on: all that preflight works out reaches the roles that need it, and what is set wins over it."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nodes
import pytest
import yaml
from ansible.errors import AnsibleUndefinedVariable
from ansible.template import Templar, trust_as_template
from deployments import DEPLOYMENTS, Deployment
from dry_play import Players, roles_of
from plans import ROLES as GROUPS
from plans import specs

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import handed_on

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path for path in (ROOT / "playbooks").rglob("*.yml") if path.name != "argument_specs.yml")
# Those of groups. The others are called by these, are given all in the call, and have no part in the plan.
ROLES = sorted({role for roles in GROUPS.values() for role in roles})
CALLED = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()} - set(ROLES)
DOCUMENTED = {name: option for options in specs().values() for name, option in options.items()}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def plays() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in PLAYBOOKS:
        for play in load(path):
            if "hosts" in play:
                yield f"{path.stem}: {play['name']}", play


def test_imported_playbooks_are_in_the_folder_of_the_others() -> None:
    """In an imported playbook, playbook_dir is its own folder. Variables of the user count on that of site.yml."""
    imported = [
        play["ansible.builtin.import_playbook"] for path in PLAYBOOKS for play in load(path) if "hosts" not in play
    ]
    assert len(imported) > 5
    assert [name for name in imported if "/" in name] == []


# What is worked out


@functools.cache
def played(name: str) -> dict[str, dict[str, Any]]:
    """The facts of each host of a deployment, as preflight hands them on."""
    players = Players(dataclasses.replace(DEPLOYMENTS[name], playbooks=("preflight.yml",)))
    return {host.name: host.facts for host in players.hosts.values()}


def planned(name: str) -> dict[str, dict[str, Any]]:
    """The plan of each host of a deployment."""
    return {host: facts["dagster_plan"] for host, facts in played(name).items()}


def handed(role: str) -> dict[str, dict[str, Any]]:
    """The options that a role reads as dagster.NAME: all but those that may hold secrets."""
    return {name: option for name, option in specs()[role].items() if not option.get("no_log")}


def derived(role: str) -> set[str]:
    """The options of a role that the plan works out: only it has a value where the inventory sets none."""
    return {name for name, option in handed(role).items() if not option.get("required") and "default" not in option}


def source(role: str) -> str:
    """All that a role says beside its documentation."""
    parts = ("tasks", "vars", "defaults", "templates", "handlers")
    paths = [path for part in parts for path in sorted((ROOT / "roles" / role / part).rglob("*")) if path.is_file()]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def read_of_the_plan(text: str) -> set[str]:
    """What a text reads of the plan: KEY, or PART.KEY of the part of a role."""
    assert "dagster_plan[" not in text, "written in a way that is not seen here"
    found = re.findall(r"\bdagster_plan\.(\w+)(?:\.(\w+))?", text)
    return {f"{key}.{inner}" if key in ROLES else key for key, inner in found}


def worked_out_for(plan: dict[str, Any]) -> set[str]:
    """What a plan has, named like what is read of it."""
    return {key for key in plan if key not in ROLES} | {f"{role}.{key}" for role in ROLES for key in plan.get(role, {})}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_host_gets_the_options_of_its_roles_and_no_others(name: str) -> None:
    for host, facts in played(name).items():
        found = {f"dagster_{option}": value for option, value in facts["dagster"].items()}
        roles = list(facts["dagster_plan"]["packages"])
        assert found.keys() == {option for role in [*roles, "playbooks"] for option in handed(role)}, host
        worked_out = {option for role in roles for option in derived(role)}
        assert [option for option in worked_out if found[option] is None] == [], host


def test_all_roles_are_planned_somewhere() -> None:
    assert {role for name in DEPLOYMENTS for plan in planned(name).values() for role in plan["packages"]} == set(ROLES)
    assert [role for role in ROLES if not derived(role)] == ["firewall"], "that one reads what the plan hands it"


@pytest.mark.parametrize("role", sorted(CALLED))
def test_a_role_without_a_group_needs_no_plan(role: str) -> None:
    assert read_of_the_plan(source(role)) == set()
    assert role not in specs(), "its parameters are given by roles, not by an inventory"


def test_which_roles_have_no_group() -> None:
    assert sorted(CALLED) == ["certificates"]


def test_all_that_is_worked_out_is_used() -> None:
    """And all that is read, in plays as in roles, is worked out."""
    sources = [path.read_text(encoding="utf-8") for path in PLAYBOOKS] + [source(role) for role in ROLES]
    worked_out = set().union(*(worked_out_for(plan) for name in DEPLOYMENTS for plan in planned(name).values()))
    assert read_of_the_plan("\n".join(sources)) == worked_out


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_a_role_reads_is_worked_out_for_its_host(name: str) -> None:
    for host, plan in planned(name).items():
        for role in plan["packages"]:
            assert read_of_the_plan(source(role)) <= worked_out_for(plan), f"{role} on {host}"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_its_own_part_of_the_plan_and_installs_its_own_packages(role: str) -> None:
    text = source(role)
    parts = {key.partition(".")[0] for key in read_of_the_plan(text)} & set(ROLES)
    assert parts <= {role}
    installed = set(re.findall(r"dagster_plan\.packages\.(\w+)", text))
    needed = any(plan["packages"].get(role) for name in DEPLOYMENTS for plan in planned(name).values())
    assert installed == ({role} if needed else set())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("read", ["dagster.home", "dagster_plan.names"])
def test_a_role_without_the_plan_says_what_it_needs(role: str, read: str) -> None:
    defaults = shipped().scope(role, {}, []).low
    with pytest.raises(AnsibleUndefinedVariable, match=r"import dataops\.dagster\.preflight in the play before"):
        Templar(loader=shipped().loader, variables=defaults).template(trust_as_template(f"{{{{ {read} }}}}"))


# What roles and plays read

CONDITIONS = {"when", "changed_when", "failed_when", "until", "that"}
SECRET = {name for name, option in DOCUMENTED.items() if option.get("no_log")}


def templates(node: Any, condition: bool = False) -> Iterator[str]:
    """The texts of a file of YAML that may be templates; a condition is one without its braces."""
    if isinstance(node, str):
        yield f"{{{{ {node} }}}}" if condition else node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from templates(value, key in CONDITIONS)
    elif isinstance(node, list):
        for entry in node:
            yield from templates(entry, condition)


def parsed(folder: Path) -> Iterator[tuple[str, jinja2.nodes.Template]]:
    """Each template in a folder of a role or of playbooks, and the file that it stands in."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        texts = [path.read_text(encoding="utf-8")] if path.suffix == ".j2" else templates(load(path))
        for text in texts:
            yield str(path.relative_to(ROOT)), jinja2.Environment(autoescape=True).parse(text)


def folders(role: str) -> list[Path]:
    return [path for part in ("tasks", "vars", "templates") if (path := ROOT / "roles" / role / part).exists()]


def everything() -> Iterator[tuple[str, jinja2.nodes.Template]]:
    for folder in [ROOT / "playbooks", *(folder for role in ROLES for folder in folders(role))]:
        yield from parsed(folder)


def test_nobody_reads_a_variable_that_a_survey_may_leave_blank() -> None:
    """An extra variable comes before all that a play can set, so a role would get "" and not the default."""
    seen, wrong = set(), []
    for path, tree in everything():
        names = {node.name for node in tree.find_all(jinja2.nodes.Name)}
        seen |= {name for name in names if name.startswith("dagster")}
        if path not in ("playbooks/validate.yml", "playbooks/argument_specs.yml"):  # without a plan
            wrong += [f"{path}: {name}" for name in names & (DOCUMENTED.keys() - SECRET)]
    assert {"dagster", "dagster_plan", "dagster_host", "dagster_code_locations"} <= seen, "what is read is seen"
    assert wrong == [], "write dagster.NAME"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_options_that_it_documents(role: str) -> None:
    found = {
        node.attr
        for folder in folders(role)
        for _path, tree in parsed(folder)
        for node in tree.find_all(jinja2.nodes.Getattr)
        if isinstance(node.node, jinja2.nodes.Name) and node.node.name == "dagster"
    }
    assert found
    assert {f"dagster_{name}" for name in found} - handed(role).keys() == set()


def test_no_option_has_the_name_of_a_method() -> None:
    """dagster.keys would be the method of a dictionary."""
    assert {name.removeprefix("dagster_") for name in DOCUMENTED} & set(dir(dict)) == set()


def test_a_structured_variable_that_is_in_no_fact_is_read_as_preflight_reads_it() -> None:
    """It may be blank, or text. What a password has is text, and the default of an optional one is none."""
    kept = {name for name in SECRET if DOCUMENTED[name]["type"] != "str"}
    optional = {name for name in SECRET - kept if "default" in DOCUMENTED[name]}
    reads = [
        (path, node.name, list(filters_of(tree, node)))
        for path, tree in everything()
        for node in tree.find_all(jinja2.nodes.Name)
        if node.name in kept | optional
    ]
    assert {name for _path, name, _filters in reads} == kept | optional
    for path, name, filters in reads:
        assert ("dataops.dagster.structured" if name in kept else "default") in filters, f"{path}: {name}"


def filters_of(tree: jinja2.nodes.Template, name: jinja2.nodes.Name) -> Iterator[str]:
    """The filters that a name goes through, from the inside."""
    inner: jinja2.nodes.Node = name
    while outer := [node for node in tree.find_all(jinja2.nodes.Filter) if node.node is inner]:
        inner = outer[0]
        yield outer[0].name


# What the user sets


@functools.cache
def shipped() -> Players:
    """The host of the shipped inventory, with no play."""
    return Players(Deployment(("inventories/single_host",), playbooks=()))


def distinct(name: str, option: dict[str, Any], number: int) -> Any:
    """A value of an option's type that nothing else has: where there are few, one that is not the default."""
    default = option.get("default")
    if option.get("choices"):
        return next(choice for choice in option["choices"] if choice != default)
    kinds: dict[str, Any] = {
        "bool": not default,
        "dict": {name: number},
        "float": number + 0.5,
        "int": 100_000 + number,
        "list": [name, number],
        "path": f"/of/{name}",
        "raw": f"text of {name}",
        "str": f"text of {name}",
    }
    return kinds[option["type"]]


SET = {name: distinct(name, DOCUMENTED[name], number) for number, name in enumerate(sorted(DOCUMENTED))}
USES = [(name, play, role) for name, play in plays() for role in roles_of(play)]


@functools.cache
def seen(index: int) -> dict[str, Any]:
    """What the tasks of a role see on a host whose inventory sets every documented variable."""
    _name, play, role = USES[index]
    known = Host("dagster1", "", SET, frozenset(SET))
    facts = {"dagster": handed_on(specs(), [role], lambda name: known.chosen(name, "derived"))}
    host = dataclasses.replace(shipped().hosts["dagster1"], variables={**SET, "dagster_host": {}}, facts=facts)
    return shipped().variables(host, shipped().scope(role, play.get("vars") or {}, [host.name]), {})


@pytest.mark.parametrize(
    ("index", "name"),
    [(index, name) for index, (_play, _found, role) in enumerate(USES) for name in sorted(specs()[role])],
    ids=lambda value: USES[value][2] if isinstance(value, int) else value,
)
def test_what_the_user_sets_arrives_in_the_role(index: int, name: str) -> None:
    templar = Templar(loader=shipped().loader, variables=seen(index))
    read = name if name in SECRET else name.replace("dagster_", "dagster.", 1)
    found = templar.template(trust_as_template(f"{{{{ {read} }}}}"))
    assert (type(found), found) == (type(SET[name]), SET[name])
    assert found != specs()[USES[index][2]][name].get("default")


def test_every_role_and_every_option_is_gone_through() -> None:
    assert {role for _name, _play, role in USES} == set(ROLES)
    free = [name for name, option in DOCUMENTED.items() if option["type"] != "bool" and not option.get("choices")]
    assert len({repr(SET[name]) for name in free}) == len(free), "told apart by their names"


def names_set(node: Any) -> Iterator[str]:
    """The variables that a play or a task sets, at whatever depth: vars, facts and registered results."""
    for entry in node if isinstance(node, list) else [node]:
        if not isinstance(entry, dict):
            continue
        for key, value in entry.items():
            if key in ("vars", "ansible.builtin.set_fact"):
                yield from value
            elif key == "register":
                yield value
            elif key == "ansible.builtin.include_vars":
                pytest.fail("whose variables are not seen here")
            yield from names_set(value)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_no_play_sets_a_documented_variable(path: Path) -> None:
    """It would come before what the user sets."""
    assert DOCUMENTED.keys() & set(names_set(load(path))) == set()
    for play in load(path):
        assert all(set(entry) <= {"role", "tags"} for entry in play.get("roles") or []), (
            "a parameter of a role does the same"
        )


@pytest.mark.parametrize("role", [*ROLES, *sorted(CALLED)])
def test_no_role_sets_a_documented_variable(role: str) -> None:
    for path in sorted((ROOT / "roles" / role / "tasks").rglob("*.yml")):
        assert DOCUMENTED.keys() & set(names_set(load(path))) == set(), path.name
    private = ROOT / "roles" / role / "vars/main.yml"
    assert not private.exists() or DOCUMENTED.keys() & load(private).keys() == set()


# The order of the plays


@pytest.mark.parametrize(("name", "play"), list(plays()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_play_stops_on_all_hosts_when_one_fails(name: str, play: dict[str, Any]) -> None:
    if name.startswith("validate"):  # on the controller, one file after the other
        return
    assert play.get("any_errors_fatal") is True


def test_hosts_of_a_live_deployment_are_changed_one_after_the_other() -> None:
    """What restarts a service; role instance restarts none, and the database is one host."""
    played = [play for name, play in plays() if name.startswith(("site", "part_database", "part_engine"))]
    serial = {role: play.get("serial") for play in played for role in roles_of(play)}
    one = "{{ 1 if 'dagster_live' in groups else '100%' }}"
    assert {role for role, value in serial.items() if value == one} == {
        "docker",
        "webserver",
        "proxy",
        "vip",
        "daemon",
    }
    at_once = {"postgres", "mysql", "instance", "gate", "code_location"}
    assert {role for role, value in serial.items() if value is None} == at_once
