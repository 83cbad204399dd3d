"""Filter derived_password: passwords of logins that nobody types."""

from __future__ import annotations

from ansible_collections.dataops.dagster.plugins.filter.derived_password import FilterModule, derived_password


def test_one_for_each_login_and_secret() -> None:
    found = {derived_password(secret, user) for secret in ("one", "two") for user in ("a", "b")}
    assert len(found) == 4
    assert all(len(password) == 64 and "one" not in password for password in found)


def test_it_stays() -> None:
    """Another value after an update of the collection would cut every daemon off until the play is through."""
    password = FilterModule().filters()["derived_password"]("secret", "dagster_daemon_a")
    assert password.startswith("aeec7b6ba2b96d6d")
