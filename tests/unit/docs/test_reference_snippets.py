"""The YAML snippets of the reference: each row of the table in docs/reference-notes.md is what the collection says.

reference_snippets.txt has them as they are meant. The reference document shows them without indentation.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml
from plans import VARIABLES, plan, specs

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import names, spec

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reference-notes.md"
TEXT = (Path(__file__).parent / "reference_snippets.txt").read_text(encoding="utf-8")
BOTH = "both in one listing"
PLACES = ("dagster_config", "dagster.yaml", "workspace.yaml")
FLAT = "without its indentation"


def snippets() -> dict[str, str]:
    parts = re.split(r"^=== (.*)\n", TEXT, flags=re.MULTILINE)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return {**found, BOTH: found["PostgreSQL"] + found["MySQL"]}


@functools.cache
def table() -> dict[str, dict[str, str]]:
    """The cells of each row, by the name of its snippet and the head of its column."""
    section = PAGE.read_text(encoding="utf-8").partition("## The YAML snippets, wherever")[2]
    lines = [line.strip("| ") for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r" \| |^\||\|$", line)] for line in lines]
    head = [cell.strip("`") for cell in rows[0]]
    found = {}
    for row in rows[2:]:
        name = re.sub(r"\[(.*)\]\(.*\)", r"\1", row[0])
        found[name] = dict(zip(head, [*row, *[""] * (len(head) - len(row))], strict=True))
    return found


def flat(text: str) -> str:
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)


def preflight(given: object) -> list[str]:
    """What preflight says of dagster_config, given as a dictionary or as text."""
    documented = spec.with_defaults(specs(), names.chosen(lambda _name: None))
    values, problems = spec.read(documented, ["instance", "playbooks"], {**VARIABLES, "dagster_config": given})
    return problems or plan("a", dagster_config=values["dagster_config"]).problems()


def asked(text: str, place: str) -> tuple[bool, list[str]]:
    """Whether it works there, and all that is said."""
    if place == "dagster_config":
        said = preflight(text)
        return said == [], said
    report = validator.validate(text, "workspace" if place == "workspace.yaml" else "dagster")
    findings = [*report.errors, *report.refusals, *report.warnings]
    return report.valid, [f"{finding.path}: {finding.message}; {finding.hint}" for finding in findings]


def words_of(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def agrees(text: str, place: str, cell: str) -> list[str]:
    """All that is said of a text, which is what a cell says."""
    works, said = asked(text, place)
    assert cell, "the cell is empty"
    assert works == cell.startswith("works"), said
    together = "\n".join(said)
    assert [word for word in words_of(cell) if word not in together] == [], together
    assert works or words_of(cell), "an answer has words"
    return said


def test_table_has_each_snippet() -> None:
    assert list(table()) == sorted(snippets(), key=list(table()).index)
    assert len(snippets()) == 15


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", snippets())
def test_with_its_indentation(name: str, place: str) -> None:
    agrees(snippets()[name], place, table()[name][place])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", snippets())
def test_without_its_indentation(name: str, place: str) -> None:
    row, text = table()[name], flat(snippets()[name])
    assert text != snippets()[name], "the control: it has lost something"
    meant = "workspace.yaml" if name == "code locations" else "dagster.yaml"
    if not row[FLAT] or (place != meant and (place == "workspace.yaml" or meant == "workspace.yaml")):
        said = agrees(text, place, row[place])
        assert len(said) == 1, said
        return
    said = agrees(text, place, row[FLAT])
    lost = [sentence for sentence in said if "lost the indentation: " in sentence]
    assert lost
    if place == "dagster_config":
        assert lost == said, "what else is wrong is told once the text is right"
    elif row[place].startswith("works"):
        assert [word for word in words_of(row[place]) if word not in "\n".join(said)] == []


@pytest.mark.parametrize(
    "name", [name for name in snippets() if name not in (BOTH, "network policy", "RBAC", "probes", "code locations")]
)
def test_as_a_dictionary_of_an_inventory(name: str) -> None:
    """In a file of variables, YAML has read it before anybody could look at the text."""
    agrees_too = preflight(yaml.safe_load(snippets()[name]))
    assert (agrees_too == []) == (table()[name]["dagster_config"] == "works"), agrees_too
    try:
        given = yaml.safe_load(flat(snippets()[name]))
    except yaml.YAMLError:
        return  # Ansible says where its file cannot be read
    said = preflight(given)
    assert said
    assert all("lost the indentation: module stands beside" in sentence for sentence in said), said


def test_links_lead_to_what_works() -> None:
    for link in re.findall(r"^\| \[.*?\]\((.*?)\)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert (PAGE.parent / link).is_file(), link
