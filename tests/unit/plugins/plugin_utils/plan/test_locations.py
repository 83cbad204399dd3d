"""Entries of dagster_code_locations that can work, and those that cannot."""

from __future__ import annotations

from typing import Any

import pytest
from plans import LOCATION, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import checks
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import location_problems


def test_port_that_the_spec_filled_in_as_none() -> None:
    """Ansible gives each suboption that is not set as None."""
    location = {**LOCATION, "port": None, "host": None, "env": None}
    assert options(dagster_code_locations=[location])["dagster_code_endpoints"][0]["port"] == 4000
    found = plan(dagster_code_locations=[location])
    assert checks.port_problems(found.ports()) == []
    assert found.problems() == []
    assert location_problems([location], ["a"], {}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"image": "", "build": {"context": "/x"}, "module": None, "file": "a.py"}, []),
        ({"host": "code1"}, []),
        ({"env": {"LEVEL": "info", "DB_PASSWORD_FILE": "/run/secrets/db", "TOKENIZERS_PARALLELISM": "false"}}, []),
        ({"name": "a b"}, ["name is 'a b'; letters, digits"]),
        ({"name": "-a"}, ["name is '-a'"]),
        ({"image": ""}, ["has none of image, build, archive; exactly one is needed"]),
        ({"archive": "/x"}, ["has image and archive of image, build, archive"]),
        ({"module": ""}, ["has none of module, package, file"]),
        ({"package": "p", "file": "f"}, ["has module and package and file of"]),
        ({"host": "code2"}, ["host code2 is not in group dagster_code; did you mean code1?"]),
    ],
)
def test_location(changes: dict[str, Any], words: list[str]) -> None:
    problems = location_problems([{**LOCATION, **changes}], ["code1"], {})
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems
    assert all(problem.startswith("dagster_code_locations[") for problem in problems)


def test_location_without_a_name_is_told_by_its_number() -> None:
    nameless = {key: value for key, value in LOCATION.items() if key != "name"}
    assert location_problems([LOCATION, nameless], ["a"], {})[0].startswith("dagster_code_locations[1]: name is None")


def test_locations_together() -> None:
    assert location_problems([], [], {}) == []
    assert location_problems([LOCATION, {**LOCATION, "name": "b"}], ["a"], {}) == []
    assert location_problems([LOCATION, LOCATION], ["a"], {}) == [
        "dagster_code_locations has 2 locations named etl; each name must be unique"
    ]
    assert location_problems([LOCATION], [], {}) == [
        "dagster_code_locations is set, but group dagster_code has no host"
    ]
