"""Filter certificate_due: when a certificate is renewed, and why."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.filter import certificate_due

DAY = 86400
NOW = 1_795_000_000
GOOD: dict[str, Any] = {
    "not_after": NOW + 300 * DAY,
    "names": ["10.0.0.6"],
    "key_id": "aa",
    "authority_key_id": "ca",
    "key_matches": True,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"not_after": NOW + 60 * DAY}, ""),
        ({"not_after": NOW + 60 * DAY - 1}, "it ends in 59 days"),
        ({"not_after": NOW - 1}, "it has ended"),
        ({"key_matches": False}, "its key is another one"),
        ({"names": ["10.0.0.7"]}, "it is not for 10.0.0.6"),
        ({"names": ["10.0.0.6", "10.0.0.7"]}, ""),
        ({"authority_key_id": "cb"}, "another authority has signed it"),
    ],
)
def test_reasons(changes: dict[str, Any], reason: str) -> None:
    due = certificate_due.FilterModule().filters()["certificate_due"]
    assert due({**GOOD, **changes}, "60", addresses=["10.0.0.6"], authority={"key_id": "ca"}, now=NOW) == reason


def test_what_was_not_read_is_not_there() -> None:
    assert certificate_due.certificate_due({}, 60) == "there is none"


@pytest.mark.parametrize(
    ("certificate", "beside", "current", "reason"),
    [
        (GOOD, {"key_id": "ca", "pem": "A"}, {"key_id": "ca", "pem": "A"}, ""),
        (GOOD, {"key_id": "ca", "pem": "A"}, {"key_id": "ca", "pem": "B"}, "the authority has a new certificate"),
        (GOOD, {}, {"key_id": "ca", "pem": "B"}, "the authority has a new certificate"),
        (GOOD, {"key_id": "cb", "pem": "A"}, {}, "another authority has signed it"),
        (GOOD, {}, {}, ""),
        ({}, {}, {}, "there is none"),
    ],
)
def test_authority_beside_it_and_where_it_is(
    certificate: dict[str, Any], beside: dict[str, Any], current: dict[str, Any], reason: str
) -> None:
    """Of an authority whose host a play leaves out nothing is known: what stands beside the certificate is trusted."""
    due = certificate_due.certificate_due
    assert due(certificate, 60, authority=beside, current_authority=current, now=NOW) == reason


def test_every_address_has_to_be_in_it() -> None:
    due = certificate_due.certificate_due
    assert due(GOOD, 60, addresses=["10.0.0.6", "a", "b"], now=NOW) == "it is not for a, b"


def test_without_address_and_authority_only_time_and_key_count() -> None:
    assert certificate_due.certificate_due({**GOOD, "names": []}, 60, authority={}, now=NOW) == ""
