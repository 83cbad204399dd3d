"""Role vip: an upgrade from 0.1.0 leaves keepalived alone."""

from __future__ import annotations

import pytest
from deployments import DEPLOYMENTS
from dry_play import Players


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """The files of a proxy that shares an address."""
    return Players(DEPLOYMENTS["shared_address"]).hosts["edge1"].written


@pytest.mark.parametrize(
    "path",
    [
        "/etc/keepalived/keepalived.conf",
        "/etc/systemd/system/keepalived.service.d/10-dagster.conf",
        "/etc/sysctl.d/60-dagster-nginx.conf",
    ],
)
def test_first_line_is_as_before(written: dict[str, str], path: str) -> None:
    """A remark above it in the template is not written."""
    assert written[path].startswith("# Managed by dataops.dagster (role nginx). ")
