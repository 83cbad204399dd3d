"""Filter gateway: the address that Docker gives the host in a network."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.dataops.dagster.plugins.filter import gateway


@pytest.mark.parametrize(
    ("subnet", "address"),
    [("172.30.0.0/24", "172.30.0.1"), ("10.0.0.64/26", "10.0.0.65"), ("fd00:1::/64", "fd00:1::1")],
)
def test_first_address(subnet: str, address: str) -> None:
    assert gateway.FilterModule().filters()["gateway"](subnet) == address


@pytest.mark.parametrize("subnet", ["172.30.0.1/24", "172.30.0.0/32", "docker0", "", None])
def test_no_subnet(subnet: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"is not a subnet with host addresses, such as 172\.30\.0\.0/24"):
        gateway.gateway(subnet)
