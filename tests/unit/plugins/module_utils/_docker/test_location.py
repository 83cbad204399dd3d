# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Code locations as options of the module: what they mean, and what is wrong with them."""

from __future__ import annotations

import pytest
from wishes import Json, wish

from ansible_collections.dataops.dagster.plugins.module_utils._docker import location


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mem_limit": "lots"}, "mem_limit"),
        ({"name": "a b"}, "container name"),
        ({"name": "a-previous"}, "reserved"),
        ({"port": 70000}, "70000"),
        ({"port": 1, "container_port": 0}, "container_port"),
        ({"publish_address": "localhost"}, "publish_address"),
        ({"restart_policy": "sometimes"}, "restart_policy"),
        ({"restart_policy": "always:3"}, "restart_policy"),
        ({"volumes": ["/only"]}, "volumes"),
        ({"shm_size": "much"}, "shm_size"),
        ({"devices": ["fuse"]}, "devices"),
        ({"extra_hosts": {"db": "here"}}, "extra_hosts"),
        ({"labels": {"a b": "c"}}, "labels"),
    ],
)
def test_bad_values_name_the_variable(change: Json, words: str) -> None:
    with pytest.raises(ValueError, match="dagster_code_locations") as caught:
        wish(**change)
    assert words in str(caught.value)


def test_clashes_of_names_and_ports() -> None:
    assert (
        location.clashes([wish(), wish(name="b", port=4001), wish(name="c", port=None), wish(name="d", port=0)]) == []
    )
    assert location.clashes([wish(), wish(name="b", publish_address="10.0.0.9")]) == []
    assert "both publish port 4000" in location.clashes([wish(), wish(name="b")])[0]
    assert "both publish port 4000" in location.clashes([wish(), wish(name="b", publish_address="0.0.0.0")])[0]
    assert "twice" in location.clashes([wish(), wish(port=4001)])[0]
