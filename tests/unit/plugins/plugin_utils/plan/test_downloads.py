"""The proxy of a site: downloads go through it, and nothing of the deployment does."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, groups, plan

from ansible_collections.dataops.dagster.plugins.filter.code_location import code_containers
from ansible_collections.dataops.dagster.plugins.filter.proxy_variables import proxy_variables

PROXY = "http://user:s3cret@proxy.example.com:3128"
IMAGES = {"etl": {"ref": "etl:1", "id": "sha256:a"}}


def test_what_never_goes_through_a_proxy() -> None:
    each = {"b": {"ansible_host": "fd00::2"}}
    found = plan("a", groups(proxy=["b"]), each, dagster_proxy={"http": PROXY, "no_proxy": [".example.com"]})
    said = found.as_fact(FACTS)["no_proxy"].split(",")
    assert {"localhost", "127.0.0.1", "::1", "a", "10.0.0.1", "b", "fd00::2"} <= set(said)
    assert {"172.30.0.0/24", "172.30.0.1", "dagster-code-etl", ".example.com"} <= set(said)
    assert "s3cret" not in str(found.as_fact(FACTS)), "facts are shown"


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy"])
def test_a_proxy_in_the_environment_has_its_exceptions_beside_it(name: str) -> None:
    deployment = plan(dagster_environment={name: "http://proxy:3128", "NO_PROXY": "internal.example.com"})
    fact = deployment.as_fact(FACTS)
    runs = dict(text.split("=", 1) for text in fact["instance"]["config"]["run_launcher"]["config"]["env_vars"])
    for environment in (fact["instance"]["no_proxy"], fact["code_location"]["no_proxy"], runs):
        for variable in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            entries = environment[variable].split(",")
            assert entries[0] == "internal.example.com"
            assert "127.0.0.1" in entries


def test_without_a_proxy_nothing_is_added() -> None:
    fact = plan().as_fact(FACTS)
    assert fact["instance"]["no_proxy"] == fact["code_location"]["no_proxy"] == {}
    assert not [text for text in fact["instance"]["config"]["run_launcher"]["config"]["env_vars"] if "proxy" in text]


def test_a_proxy_that_only_a_location_has() -> None:
    location = {"name": "etl", "module": "m", "image": "etl:1", "env": {"https_proxy": "http://proxy:3128"}}
    (found,) = code_containers([location], IMAGES, {}, [], "/s", "127.0.0.1", 4000, no_proxy="localhost,10.0.0.1")
    assert found["env"]["no_grpc_proxy"] == "localhost,10.0.0.1"
    assert "no_proxy=localhost,10.0.0.1" in found["env"]["DAGSTER_CONTAINER_CONTEXT"]


def test_variables_of_downloads() -> None:
    assert proxy_variables({}, "localhost") == {}
    found = proxy_variables({"http": PROXY}, "localhost")
    assert found["https_proxy"] == found["HTTPS_PROXY"] == found["http_proxy"] == PROXY
    assert found["NO_PROXY"] == "localhost"


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ({"http": PROXY}, ""),
        ({"https": "https://proxy.example.com"}, ""),
        ({"http": "http://[fd00::1]:3128"}, ""),
        ({"http": "proxy.example.com:3128"}, "dagster_proxy.http is no URL of a proxy"),
        ({"http": "socks5://proxy:1080"}, "dagster_proxy.http is no URL of a proxy"),
        ({"https": 'http://user:s3cret"x@proxy:1'}, "dagster_proxy.https is no URL of a proxy"),
        ({"http": "http://proxy:99999"}, "dagster_proxy.http is no URL of a proxy"),
        ({"http": PROXY, "no_proxy": ["a b"]}, "dagster_proxy.no_proxy: 'a b' is no name"),
        ({"no_proxy": ["a"]}, "but neither http nor https"),
    ],
)
def test_a_proxy_that_is_none(proxy: dict[str, Any], said: str) -> None:
    found = plan(dagster_proxy=proxy).problems()
    assert len(found) == bool(said), found
    assert not said or said in found[0]
    assert "s3cret" not in str(found)
