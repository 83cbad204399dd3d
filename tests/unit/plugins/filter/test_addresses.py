"""Filters for addresses: the address that Docker gives the host in a network, and an address with a port."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.filter import addresses

FILTERS = addresses.FilterModule().filters()


@pytest.mark.parametrize(
    ("subnet", "address"),
    [("172.30.0.0/24", "172.30.0.1"), ("10.0.0.64/26", "10.0.0.65"), ("fd00:1::/64", "fd00:1::1")],
)
def test_first_address(subnet: str, address: str) -> None:
    assert FILTERS["gateway"](subnet) == address


@pytest.mark.parametrize("subnet", ["172.30.0.1/24", "172.30.0.0/32", "docker0", "", None])
def test_no_subnet(subnet: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"is not a subnet with host addresses, such as 172\.30\.0\.0/24"):
        FILTERS["gateway"](subnet)


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [
        ("10.0.0.1", 3000, "10.0.0.1:3000"),
        ("fd00::1", "%i", "[fd00::1]:%i"),
        ("[fd00::1]", 1, "[fd00::1]:1"),
        ("web.example", "80", "web.example:80"),
    ],
)
def test_address_with_a_port(address: str, port: object, text: str) -> None:
    assert FILTERS["host_port"](address, port) == text
