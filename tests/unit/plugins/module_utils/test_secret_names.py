"""Names of environment variables that hold secrets, and names that only look like them.

One function knows them, for what is refused in an inventory and in dagster.yaml and for what is masked in output.
"""

from __future__ import annotations

import pytest
from plans import LOCATION

from ansible_collections.dataops.dagster.plugins.module_utils._docker.shown import mask
from ansible_collections.dataops.dagster.plugins.module_utils._secrets import looks_secret
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import location_problems


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
        "SIGNING_KEY",
        "VAULT_SECRET_ID",
        "AZURE_CREDENTIALS",
        "AZURE_STORAGE_KEY",
        "DB_PASS",
        "GITHUB_PAT",
        "MYSQL_PW",
        "SNOWFLAKE_PWD",
    ],
)
def test_name_of_a_secret(name: str) -> None:
    assert looks_secret(name)
    assert "x-value" not in mask(name, "x-value")
    problems = location_problems([{**LOCATION, "env": {name: "x"}}], ["a"], {})
    assert problems == [
        f"dagster_code_locations[etl].env: {name} looks like a secret, and would show in docker inspect; put it in "
        f"secret_env, or in secrets as a file. If it is none, add literal_secret:{name} to dagster_config_allow"
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("TOKENIZERS_PARALLELISM", "DB_PASSWORD_FILE", "SECRET_NAME", "AWS_ACCESS_KEY_ID", "MONKEY", "KEYSPACE"),
        # The last word tells that it is only about a secret.
        *("LLM_MAX_TOKENS", "OAUTH_TOKEN_URL", "PASSWORD_MIN_LENGTH", "AWS_SECRETS_REGION", "TOKEN_TTL_SECONDS"),
        *("ACCESS_TOKEN_EXPIRE_MINUTES", "TOKENS_PER_MINUTE", "MODAL_TOKEN_ID", "SECRETS_BACKEND", "max_new_tokens"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "PWD", "OLDPWD"),
    ],
)
def test_name_of_no_secret(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("TOKENIZERS_PARALLELISM", True),
        ("DB_PASSWORD_FILE", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("SENTRY_DSN", False),
        ("PGPASS", False),
        ("FERNET_KEY", False),
    ],
)
def test_mask_is_wider_than_what_is_refused(name: str, shown: bool) -> None:
    assert not looks_secret(name)
    assert (mask(name, "x-value") == "x-value") is shown
