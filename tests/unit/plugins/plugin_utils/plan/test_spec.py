"""The documented variables: where they are read from, and what is wrong with given ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from plans import ROOT, VARIABLES, specs

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import names, spec
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.renamed import RENAMED, tag_problems


def test_specs_are_those_of_the_roles() -> None:
    found = spec.specs()
    roles = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    assert set(found) == roles - {"certificates"} | {"playbooks"}
    proxy = yaml.safe_load((ROOT / "roles/proxy/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert found["proxy"] == proxy["argument_specs"]["main"]["options"]


def test_parameters_of_a_role_that_others_call_are_no_variables() -> None:
    entries = yaml.safe_load((ROOT / "roles/certificates/meta/argument_specs.yml").read_text(encoding="utf-8"))
    parameters = {name for entry in entries["argument_specs"].values() for name in entry["options"]}
    known = {name for options in spec.specs().values() for name in options}
    assert "main" not in entries["argument_specs"]
    assert len(spec.unknown_names(parameters, known)) == len(parameters) > 0


@pytest.mark.parametrize(
    ("description", "sentence"),
    [("One.", "One"), (["Login (O(dagster_user)).", "More."], "Login (dagster_user)"), ("V(0) is none.", "0 is none")],
)
def test_summary(description: Any, sentence: str) -> None:
    assert spec.summary(description) == sentence


def test_unknown_names() -> None:
    known = ["dagster_version", "dagster_nginx_port"]
    given = ["dagster_version", "dagster_host", "dagster_plan", "ansible_host", "my_dagster_x", "__dagster_private"]
    assert spec.unknown_names(given, known) == []
    assert spec.unknown_names(["dagster_ngnix_port", "dagster_zzz_qqq"], known) == [
        "dagster_ngnix_port is no variable of this collection; did you mean dagster_nginx_port?",
        "dagster_zzz_qqq is no variable of this collection",
    ]


def test_renamed_variable_names_its_new_name() -> None:
    documented = {name for options in specs().values() for name in options}
    assert spec.unknown_names(["dagster_nginx_vip"], documented) == [
        "dagster_nginx_vip is now called dagster_vip; rename it in the inventory"
    ]
    assert RENAMED.keys() & documented == set(), "an old name means nothing"
    assert set(RENAMED.values()) <= documented, "a new one is documented"
    assert len(set(RENAMED.values())) == len(RENAMED)


def test_old_tag_names_the_new_one() -> None:
    """Otherwise a job with the tag nginx would do nothing, and end well."""
    assert tag_problems(["all"]) == tag_problems(["proxy", "always"]) == []
    assert tag_problems(["nginx", "docker"]) == ["tag nginx is gone; use proxy, and vip for the shared address"]


def test_values_have_the_types_of_the_spec() -> None:
    """AWX gives a survey's answers as text."""
    given = {
        **VARIABLES,
        "dagster_webserver_ports": ["3000", "3001"],
        "dagster_nginx_port": "8081",
        "dagster_compute_logs_shared": "yes",
    }
    values, problems = spec.read(specs(), ["webserver", "playbooks"], given)
    assert problems == []
    assert values["dagster_webserver_ports"] == [3000, 3001]
    assert (values["dagster_nginx_port"], values["dagster_compute_logs_shared"]) == (8081, True)
    assert values["dagster_heartbeat_tolerance"] == 120, "a default"
    assert values["dagster_webserver_bind"] is None, "a derived one has none"


def test_spec_of_a_role_that_the_host_does_not_get_refuses_nothing() -> None:
    given = {**VARIABLES, "dagster_nginx_port": "eighty", "dagster_database_password": ""}
    documented = spec.with_defaults(specs(), names.defaults())
    values, problems = spec.read(documented, ["code_location"], given)
    assert problems == []
    assert values["dagster_nginx_port"] == 8080, "what cannot be typed is left out"
    _values, problems = spec.read(documented, ["proxy", "instance"], given)
    assert len(problems) == 2
    assert "dagster_nginx_port" in problems[0]
    assert problems[1].startswith("dagster_database_password is not set: ")
