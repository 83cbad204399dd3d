"""The address that the proxies share: one that can work, and a host that can hold it."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, component, groups, options

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import vip

PROGRAM = "/usr/local/lib/dagster/edge.sh"

VIP = {"dagster_vip": "10.0.0.9/24", "dagster_nginx_listen": "0.0.0.0"}


@pytest.mark.parametrize(
    ("changes", "proxies", "words"),
    [
        ({}, "ab", ""),
        ({"dagster_vip": ""}, "a", ""),
        ({"dagster_nginx_listen": "10.0.0.9"}, "ab", ""),
        ({"dagster_nginx_listen": ["127.0.0.1", "10.0.0.9"]}, "ab", ""),
        ({"dagster_vip": "10.0.0.9"}, "ab", "dagster_vip is 10.0.0.9; it is an IPv4 address with the"),
        ({"dagster_vip": "10.0.0.9/33"}, "ab", "dagster_vip is 10.0.0.9/33; it is an IPv4 address with"),
        ({"dagster_vip": "10.0.0.0/24"}, "ab", "dagster_vip is 10.0.0.0/24; it is an IPv4 address with"),
        ({"dagster_vip": "127.0.0.9/8"}, "ab", "dagster_vip is 127.0.0.9/8; it is an IPv4 address with"),
        ({"dagster_vip": "vip.example.com/24"}, "ab", "dagster_vip is vip.example.com/24; it is an IPv4"),
        ({"dagster_vip": "fd00::9/64"}, "ab", "dagster_vip is fd00::9/64; it is an IPv4 address with"),
        ({"dagster_vip": "10.0.0.2/24"}, "ab", "dagster_vip is 10.0.0.2/24, the address of b; it is one"),
        (
            {},
            "a",
            "dagster_vip is set, but a is the only host of group dagster_proxy; an address is shared",
        ),
        (
            {},
            "ac",
            "dagster_vip needs the IPv4 address of each proxy, and c is known as c.example.com; give",
        ),
        (
            {"dagster_nginx_listen": "127.0.0.1"},
            "ab",
            "dagster_vip is 10.0.0.9/24, but dagster_nginx_listen is 127.0.0.1 and nothing would answer there; "
            "set dagster_nginx_listen to 10.0.0.9, or to 0.0.0.0",
        ),
        ({"dagster_nginx_listen": ["10.0.0.1"]}, "ab", "dagster_vip is 10.0.0.9/24, but dagster_nginx_listen is"),
        (
            {"dagster_vip_router_id": 256},
            "ab",
            "dagster_vip_router_id is 256; it is a number from 1 to 255",
        ),
    ],
)
def test_shared_address(changes: dict[str, Any], proxies: str, words: str) -> None:
    found = component("vip", "a", groups(proxy=list(proxies)), **{**VIP, **changes})
    problems = found.problems()
    assert len(problems) == bool(words), problems
    assert not words or problems[0].startswith(words)
    assert found.plan.problems() == problems


def test_shared_address_is_one() -> None:
    found = component("vip", "a", groups(proxy=["a", "b"]), {"b": {"dagster_vip": ""}}, **VIP)
    assert found.problems() == ["dagster_vip differs between the proxies (10.0.0.9/24 on a, none on b); they share one"]


def test_proxies_of_a_shared_address() -> None:
    hosts = groups(proxy=["b", "a"], code=["c"])
    found = options("b", hosts, **VIP)
    assert (found["dagster_vip_own_address"], found["dagster_vip_peers"]) == ("10.0.0.2", ["10.0.0.2", "10.0.0.1"])
    assert "dagster_vip_own_address" not in options("c", hosts, **VIP), "it is no proxy"
    each = {"a": {"dagster_vip_own_address": "10.9.9.9"}}
    assert options("b", hosts, each, **VIP)["dagster_vip_peers"] == ["10.0.0.2", "10.9.9.9"]


def test_host_for_the_shared_address() -> None:
    ours, facts = [PROGRAM, vip.CONFIG], {**FACTS, "networks": {"10.0.0.0/24": "eth0"}}
    shared = component("vip", "a", groups(proxy=["a", "b"]), **VIP)
    assert shared.host_problems({**facts, "paths": []}) == shared.host_problems({**facts, "paths": ours}) == []
    (theirs,) = shared.host_problems({**facts, "paths": ours[1:]})
    assert "somebody else" in theirs
    (lost,) = shared.host_problems({**FACTS, "paths": ours})
    assert lost.endswith("network with its address 10.0.0.1; name one in dagster_vip_interface")
    assert len(shared.host_problems({**FACTS, "paths": ours[1:]})) == 2, "neither an interface nor its own keepalived"


def test_without_a_shared_address_it_says_nothing() -> None:
    """A keepalived of somebody else is no concern of ours then."""
    found = component("vip")
    assert found.packages(FACTS) == found.ports() == found.problems() == found.known_by() == []
    assert found.host_problems({**FACTS, "paths": [vip.CONFIG]}) == []
    assert set(found.plan.questions()["paths"]) >= {PROGRAM, vip.CONFIG}, "what is left of one is removed"


def test_proxies_that_share_an_address_have_to_know_each_other() -> None:
    """An address that one of them holds and nobody takes over is not shared."""
    hosts = groups(proxy=["a", "b"])
    shared = component("vip", "a", hosts, **VIP)
    assert shared.packages(FACTS) == ["keepalived"]
    marks = [part.mark() for part in shared.plan.components.values() if part is not shared]
    assert shared.plan.limit_problems({"paths": [mark for mark in marks if mark != PROGRAM]}, ["a"]) == [
        "the play leaves out b, but a is new and they have to know it; use --limit a:b, or none"
    ]
    assert shared.plan.limit_problems({"paths": [*marks, PROGRAM]}, ["a"]) == []
