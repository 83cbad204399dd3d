"""The address that the proxies share: one that can work, and a host that can hold it."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, component, groups

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import vip

VIP = {"dagster_nginx_vip": "10.0.0.9/24", "dagster_nginx_listen": "0.0.0.0"}


@pytest.mark.parametrize(
    ("changes", "proxies", "words"),
    [
        ({}, "ab", ""),
        ({"dagster_nginx_vip": ""}, "a", ""),
        ({"dagster_nginx_listen": "10.0.0.9"}, "ab", ""),
        ({"dagster_nginx_listen": ["127.0.0.1", "10.0.0.9"]}, "ab", ""),
        ({"dagster_nginx_vip": "10.0.0.9"}, "ab", "dagster_nginx_vip is 10.0.0.9; it is an IPv4 address with the"),
        ({"dagster_nginx_vip": "10.0.0.9/33"}, "ab", "dagster_nginx_vip is 10.0.0.9/33; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "10.0.0.0/24"}, "ab", "dagster_nginx_vip is 10.0.0.0/24; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "127.0.0.9/8"}, "ab", "dagster_nginx_vip is 127.0.0.9/8; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "vip.example.com/24"}, "ab", "dagster_nginx_vip is vip.example.com/24; it is an IPv4"),
        ({"dagster_nginx_vip": "fd00::9/64"}, "ab", "dagster_nginx_vip is fd00::9/64; it is an IPv4 address with"),
        ({"dagster_nginx_vip": "10.0.0.2/24"}, "ab", "dagster_nginx_vip is 10.0.0.2/24, the address of b; it is one"),
        (
            {},
            "a",
            "dagster_nginx_vip is set, but a is the only host of group dagster_proxy; an address is shared",
        ),
        (
            {},
            "ac",
            "dagster_nginx_vip needs the IPv4 address of each proxy, and c is known as c.example.com; give",
        ),
        (
            {"dagster_nginx_listen": "127.0.0.1"},
            "ab",
            "dagster_nginx_vip is 10.0.0.9/24, but dagster_nginx_listen is 127.0.0.1 and nothing would answer there; "
            "set dagster_nginx_listen to 10.0.0.9, or to 0.0.0.0",
        ),
        ({"dagster_nginx_listen": ["10.0.0.1"]}, "ab", "dagster_nginx_vip is 10.0.0.9/24, but dagster_nginx_listen is"),
        (
            {"dagster_nginx_vip_router_id": 256},
            "ab",
            "dagster_nginx_vip_router_id is 256; it is a number from 1 to 255",
        ),
    ],
)
def test_shared_address(changes: dict[str, Any], proxies: str, words: str) -> None:
    found = component("nginx", "a", groups(proxy=list(proxies)), **{**VIP, **changes})
    problems = found.problems()
    assert len(problems) == bool(words), problems
    assert not words or problems[0].startswith(words)
    assert found.plan.problems() == problems


def test_shared_address_is_one() -> None:
    found = component("nginx", "a", groups(proxy=["a", "b"]), {"b": {"dagster_nginx_vip": ""}}, **VIP)
    assert found.problems() == [
        "dagster_nginx_vip differs between the proxies (10.0.0.9/24 on a, none on b); they share one"
    ]


def test_host_for_the_shared_address() -> None:
    ours = [vip.PROGRAM, vip.CONFIG]
    assert vip.host_problems("10.0.0.1", "eth0", []) == vip.host_problems("10.0.0.1", "eth0", ours) == []
    assert "somebody else" in vip.host_problems("10.0.0.1", "eth0", ours[1:])[0]
    lost = vip.host_problems("10.0.0.1", "", [])
    assert lost[0].endswith("network with its address 10.0.0.1; name one in dagster_nginx_vip_interface")
    theirs = component("nginx").host_problems({**FACTS, "paths": ours[1:]})
    assert theirs == [], "theirs is no concern of ours without the option"
    shared = component("nginx", "a", groups(proxy=["a", "b"]), **VIP)
    assert len(shared.host_problems({**FACTS, "paths": ours[1:]})) == 2, "neither an interface nor its own keepalived"
    assert shared.host_problems({**FACTS, "paths": ours, "networks": {"10.0.0.0/24": "eth0"}}) == []
