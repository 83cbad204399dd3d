"""Addresses: which of them exclude each other, and what their readers take."""

from __future__ import annotations

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils import _addresses


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("0.0.0.0", "10.0.0.1", True),
        ("10.0.0.1", "::", True),
        ("[::]", "10.0.0.1", True),
        ("*", "10.0.0.1", True),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]", "fd00::2", False),
    ],
)
def test_listening_addresses_that_exclude_each_other(one: str, other: str, both: bool) -> None:
    assert [_addresses.overlap(*pair) for pair in ((one, other), (other, one))] == [both, both]


def test_address_with_a_port() -> None:
    assert _addresses.host_port("fd00::1", 2376) == "[fd00::1]:2376"
    assert _addresses.host_port("run.example.com", "2377") == "run.example.com:2377"
