"""Addresses and ports in the forms of those who read them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import network


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (1, 1),
        ("8080", 8080),
        (65535, 65535),
        (0, 0),
        ("0", 0),
        (65536, 0),
        (-1, 0),
        ("80a", 0),
        ("", 0),
        (None, 0),
        (True, 0),
        ("\N{SUPERSCRIPT TWO}", 0),
        ("\N{ARABIC-INDIC DIGIT THREE}", 0),
    ],
)
def test_port(value: Any, port: int) -> None:
    assert network.port_of(value) == port


@pytest.mark.parametrize(
    ("address", "interface"), [("10.0.0.1", "eth0"), ("10.0.1.1", "eth1"), ("10.1.0.1", ""), ("a.example.com", "")]
)
def test_interface_of_an_address(address: str, interface: str) -> None:
    assert network.interface_of(address, {"10.0.0.0/16": "eth0", "10.0.1.0/24": "eth1"}) == interface


@pytest.mark.parametrize(
    ("subnet", "gateway"), [("172.30.0.0/24", "172.30.0.1"), ("172.30.0.1/24", ""), ("docker0", ""), ("10.0.0.1", "")]
)
def test_gateway(subnet: str, gateway: str) -> None:
    """What is no subnet is told by a sentence of its own."""
    assert network.first_address(subnet) == gateway
