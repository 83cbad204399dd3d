"""Names of environment variables that hold secrets, and names that only look like them."""

from __future__ import annotations

import pytest
from plans import LOCATION

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import location_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.secret_names import holds_a_secret


@pytest.mark.parametrize(
    "name",
    [
        "API_TOKEN",
        "PGPASSWORD",
        "db_password",
        "DB_PASSWORD_OLD",
        "AWS_SECRET_ACCESS_KEY",
        "OPENAI_API_KEY",
        "APIKEY",
        "CLIENT_SECRETS",
        "SECRET_KEY",
        "SSH_PRIVATE_KEY",
    ],
)
def test_name_of_a_secret(name: str) -> None:
    assert holds_a_secret(name)
    problems = location_problems([{**LOCATION, "env": {name: "x"}}], ["a"])
    assert problems == [
        f"dagster_code_locations[etl]: env {name} would show in docker inspect; put it in secrets, it is then the file "
        f"/run/secrets/{name}"
    ]


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "DB_PASSWORD_FILE", "SECRET_NAME", "AWS_ACCESS_KEY_ID", "MONKEY", "KEYSPACE"]
)
def test_name_of_no_secret(name: str) -> None:
    assert not holds_a_secret(name)
