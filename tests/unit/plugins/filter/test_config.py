"""The filters, through Ansible's own templating, whose values are not plain Python objects."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


def template(text: str, **variables: Any) -> Any:
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def test_deep_merge() -> None:
    base = {"run_monitoring": {"enabled": True}, "telemetry": {"enabled": False}}
    extra = {"run_monitoring": {"poll_interval_seconds": 30}, "telemetry": None}
    assert template("{{ base | dataops.dagster.deep_merge(extra) }}", base=base, extra=extra) == {
        "run_monitoring": {"enabled": True, "poll_interval_seconds": 30}
    }


def test_deep_merge_of_templated_values() -> None:
    base = {"run_queue": {"max_concurrent_runs": trust_as_template("{{ limit | int }}")}}
    merged = template("{{ base | dataops.dagster.deep_merge({'nux': {'enabled': false}}) }}", base=base, limit="5")
    assert merged == {"run_queue": {"max_concurrent_runs": 5}, "nux": {"enabled": False}}


def test_deep_merge_says_which_side_is_wrong() -> None:
    with pytest.raises(AnsibleError, match=r"dagster_config.*expected a mapping"):
        template("{{ {} | dataops.dagster.deep_merge('a: b') }}")


def workspace(locations: Any, version: str = "1.13.27") -> Any:
    text = "{{ locations | dataops.dagster.to_workspace_yaml(version) }}"
    return template(text, locations=locations, version=version)


def test_workspace() -> None:
    text = workspace(
        [{"name": "a", "host": "code1", "port": "4000"}, {"name": "b", "socket": "/run/b.sock", "ssl": True}]
    )
    assert text.startswith("# Managed by the Ansible collection dataops.dagster: change dagster_code_locations")
    assert "# Checked with the catalogue of Dagster 1.13.27.\n" in text
    assert yaml.safe_load(text) == {
        "load_from": [
            {"grpc_server": {"location_name": "a", "host": "code1", "port": 4000}},
            {"grpc_server": {"location_name": "b", "socket": "/run/b.sock", "ssl": True}},
        ]
    }
    assert yaml.safe_load(workspace([])) == {"load_from": []}


def location(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "host": "code1", "port": 4000, **changes}


@pytest.mark.parametrize(
    "locations",
    [
        [location(), location(name="b", port="4001")],
        [location(), location(name="b", host="code2")],
        [{"name": "a", "socket": "/run/a.sock"}, {"name": "b", "socket": "/run/b.sock", "port": None}],
        [location(host="fd00::1"), location(name="b", host="10.0.0.1", port=65535)],
    ],
)
def test_good_locations(locations: Any) -> None:
    assert workspace(locations)


@pytest.mark.parametrize(
    ("locations", "place"),
    [
        ([location(), location(port=4001)], "locations[1]"),
        ([location(), location(name="b")], "locations[1]"),
        ([location(), location(name="b", port="4000")], "locations[1]"),
        ([location(host="127.0.0.1"), location(name="b", host="localhost")], "locations[1]"),
        ([location(host=None), location(name="b", host="LOCALHOST")], "locations[1]"),
        ([{"name": "a", "socket": "/x"}, {"name": "b", "socket": "/x"}], "locations[1]"),
        ([location(port=0)], "locations[0]"),
        ([location(port=65536)], "locations[0].port"),
        ([location(host="http://code1")], "locations[0].host"),
        ([location(host="code1:4000")], "locations[0].host"),
        ([location(socket="/x", host=None)], "locations[0]"),
        ([{"name": "a", "host": "h"}], "locations[0]"),
        ([{"name": "a", "socket": "x.sock"}], "locations[0].socket"),
        ([location(name="")], "locations[0].name"),
    ],
)
def test_bad_locations(locations: Any, place: str) -> None:
    with pytest.raises(AnsibleError) as refused:
        workspace(locations)
    said = str(refused.value)
    assert "workspace.yaml was not written, 1 problem;" in said
    assert f"change dagster_code_locations in the inventory:\n{place}: " in said


@pytest.mark.parametrize(
    ("locations", "version", "message"),
    [
        (["a"], "1.13.27", "expected a list of dictionaries"),
        ([], "1.9.0", r"1\.9\.0 has no catalogue; there are ones for 1\.13"),
    ],
)
def test_wrong_arguments_of_workspace(locations: Any, version: str, message: str) -> None:
    with pytest.raises(AnsibleError, match=message):
        workspace(locations, version)
