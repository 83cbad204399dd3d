"""The filters, through Ansible's own templating, whose values are not plain Python objects."""

from __future__ import annotations

from typing import Any

import pytest
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
