"""A database of the user's own: what services and runs would not both have is refused."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, groups, plan

EXTERNAL = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}


def params(**given: Any) -> dict[str, Any]:
    return {"dagster_config": {"storage": {"postgres": {"postgres_db": {"params": given}}}}}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ""),
        (params(options="-csearch_path=orchestration", sslmode="require"), ""),
        (params(sslmode="verify-full", sslrootcert="/var/lib/dagster/db-ca.pem"), ""),
        (params(sslrootcert="system"), ""),
        (params(sslrootcert="/etc/ssl/certs/db.pem"), "params.sslrootcert"),
        ({"dagster_environment": {"PGSSLROOTCERT": "/etc/x.pem"}}, "dagster_environment: PGSSLROOTCERT is /etc/x.pem"),
        (
            {"dagster_database_password": "db.example.com:5432/?Action=connect&X-Amz-Signature=abc"},
            "dagster_database_password is a token that ends within the hour",
        ),
    ],
)
def test_what_services_and_runs_would_not_both_have(variables: dict[str, Any], said: str) -> None:
    found = plan(hosts=groups(database=[]), **{**EXTERNAL, **variables}).problems()
    assert len(found) == bool(said), found
    assert not said or said in found[0]
    assert "Signature" not in str(found)


def test_plays_and_guard_connect_as_dagster_does() -> None:
    found = plan(hosts=groups(database=[]), **EXTERNAL, **params(options="-csearch_path=x", sslmode="require"))
    assert found.as_fact(FACTS)["storage"]["parameters"] == {"options": "-csearch_path=x", "sslmode": "require"}
    assert plan().as_fact(FACTS)["storage"]["parameters"] == {}


def test_a_host_needs_only_the_passwords_that_it_uses() -> None:
    """Webservers and daemon know nothing of the runs' login but its name."""
    from plans import specs

    needed = {
        role: [name for name, option in options.items() if option.get("required")] for role, options in specs().items()
    }
    assert "dagster_database_run_password" not in needed["instance"]
    assert "dagster_database_run_password" in needed["code_location"]
