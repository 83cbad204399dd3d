"""Compute logs in an object store: where the login goes, by the class of dagster.yaml, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from plans import fact, plan

S3 = {"module": "dagster_aws.s3", "class": "S3ComputeLogManager", "config": {"bucket": "logs"}}
GCS = {"module": "dagster_gcp.gcs", "class": "GCSComputeLogManager", "config": {"bucket": "logs"}}
AZURE: dict[str, Any] = {
    "module": "dagster_azure.blob",
    "class": "AzureBlobComputeLogManager",
    "config": {"storage_account": "account", "container": "logs"},
}
PRINCIPAL: dict[str, Any] = {**AZURE, "config": {**AZURE["config"], "default_azure_credential": {}}}
WHO = {"AZURE_CLIENT_ID": "1", "AZURE_TENANT_ID": "2"}
NOOP = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
CREDENTIALS = "[default]\naws_access_key_id = not-a-real-id\naws_secret_access_key = not-a-real-key-5a\n"
ACCOUNT = json.dumps({"type": "service_account", "private_key": "not-a-real-key-5a"})
KEY = base64.b64encode(b"not-a-real-key-5a").decode()
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nnot-a-real-key-5a\n"


def given(section: dict[str, Any], login: str, **variables: Any) -> dict[str, Any]:
    return {"dagster_config": {"compute_logs": section}, "dagster_compute_logs_login": login, **variables}


@pytest.mark.parametrize(
    ("section", "login", "variable"),
    [
        (S3, CREDENTIALS, "AWS_SHARED_CREDENTIALS_FILE"),
        (GCS, ACCOUNT, "GOOGLE_APPLICATION_CREDENTIALS"),
        (PRINCIPAL, PEM, "AZURE_CLIENT_CERTIFICATE_PATH"),
    ],
)
def test_login_is_a_file_that_a_variable_names(section: dict[str, Any], login: str, variable: str) -> None:
    variables = given(section, login, dagster_environment=WHO)
    found = fact(**variables)
    assert found["compute_logs"]["file"] == "compute_logs.login"
    assert found["compute_logs"]["file_variable"] == variable
    assert found["compute_logs"]["key"] == ""
    assert "/etc/dagster/compute_logs.login" in found["staged"]
    files, drop_in = "/etc/dagster/compute_logs.login", "/etc/systemd/system/dagster-.service.d/10-instance.conf"
    assert found["staged"].index(files) < found["staged"].index(drop_in), "a unit that names it finds it"
    launcher = found["instance"]["config"]["run_launcher"]["config"]
    assert f"{variable}=/run/dagster/compute_logs.login" in launcher["env_vars"]
    assert plan(**variables).problems() == []
    assert "not-a-real" not in json.dumps(found)


def test_json_of_which_an_older_ansible_has_made_a_dictionary_is_text_again() -> None:
    variables = {**given(GCS, ""), "dagster_compute_logs_login": json.loads(ACCOUNT)}
    assert plan(**variables).problems() == []


def test_key_of_azure_is_a_variable_that_nobody_is_shown() -> None:
    login = KEY
    variables = given(AZURE, login)
    found = fact(**variables)
    assert plan(**variables).problems() == []
    assert found["compute_logs"]["key"] == "DAGSTER_COMPUTE_LOGS_LOGIN"
    assert found["compute_logs"]["file"] == ""
    section = found["compute_logs"]["section"]["config"]
    assert section["access_key_or_sas_token"] == {"env": "DAGSTER_COMPUTE_LOGS_LOGIN"}
    assert login not in json.dumps(found)
    assert "DAGSTER_COMPUTE_LOGS_LOGIN" not in str(found["instance"]["config"]["run_launcher"])


@pytest.mark.parametrize("section", [S3, GCS, AZURE])
def test_logs_wait_in_the_state_until_the_store_has_them(section: dict[str, Any]) -> None:
    """Not in /tmp of a container, with which they would go. What the user says comes first."""
    found = fact(**given(section, ""))["compute_logs"]["section"]["config"]
    assert found["local_dir"] == "/var/lib/dagster/compute_logs"
    own = {**section, "config": {**section["config"], "local_dir": "/srv/logs"}}
    assert fact(**given(own, ""))["compute_logs"]["section"]["config"]["local_dir"] == "/srv/logs"


def test_no_store_is_not_tried() -> None:
    for section in ({}, NOOP, {"config": {"base_dir": "/var/lib/dagster/logs"}}):
        found = fact(dagster_config={"compute_logs": section} if section else {})["compute_logs"]
        assert (found["stored"], found["file"], found["key"], found["section"]) == (False, "", "", {})
    ours = {"module": "our_logs", "class": "OurLogs", "config": {"bucket": "b"}}
    allowed = {"dagster_config_allow": ["custom_module:our_logs"]}
    found = fact(dagster_config={"compute_logs": ours}, **allowed)["compute_logs"]
    assert (found["stored"], found["section"]) == (True, ours), "a class of others is tried as it is"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (given({}, CREDENTIALS), "names nothing, so they are files of the host"),
        (
            given(NOOP, CREDENTIALS),
            "dagster_config.compute_logs names NoOpComputeLogManager; only S3ComputeLogManager,",
        ),
        (given(S3, ACCOUNT), "is not what S3ComputeLogManager reads; expected a credentials file of AWS"),
        (given(S3, "not-a-real-id:not-a-real-key-5a"), "is not what S3ComputeLogManager reads"),
        (given(GCS, CREDENTIALS), "is not what GCSComputeLogManager reads; expected the JSON key of a service account"),
        (given(AZURE, "sv=2026-10-06&sig=abc%3D&se=2027"), "of a service principal; no SAS token"),
        (given(AZURE, ACCOUNT), "is not what AzureBlobComputeLogManager reads; expected an access key"),
        (given(PRINCIPAL, KEY, dagster_environment=WHO), "certificate and key (PEM) of a service principal"),
        (given(PRINCIPAL, PEM), "set dagster_environment.AZURE_CLIENT_ID too"),
        (
            given({**AZURE, "config": {**AZURE["config"], "access_key_or_sas_token": {"env": "MINE"}}}, KEY),
            "dagster_config.compute_logs.config has access_key_or_sas_token, and dagster_compute_logs_login is set",
        ),
        (
            given(S3, CREDENTIALS, dagster_secret_environment={"AWS_ACCESS_KEY_ID": "x"}),
            "dagster_secret_environment.AWS_ACCESS_KEY_ID comes before dagster_compute_logs_login for the library",
        ),
        (
            {
                **given(AZURE, KEY),
                "dagster_config": {"compute_logs": AZURE, "secrets": {"custom": {"module": "m", "class": "c"}}},
            },
            "dagster_config.secrets names a loader of your own, so runs would not get dagster_compute_logs_login",
        ),
        (
            given(AZURE, KEY, dagster_environment={"DAGSTER_COMPUTE_LOGS_LOGIN": "x"}),
            "DAGSTER_COMPUTE_LOGS_LOGIN is set by the collection; remove it, dagster_compute_logs_login decides it",
        ),
    ],
)
def test_what_is_refused(variables: dict[str, Any], words: str) -> None:
    found = [problem for problem in plan(**variables).problems() if words in problem]
    assert len(found) == 1, plan(**variables).problems()
    assert "not-a-real-key" not in found[0]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({**S3, "class": "S3ComputeLogManger"}, "S3ComputeLogManager"),
        ({"module": "dagster_aws_s3", "class": "S3ComputeLogManager"}, "dagster_aws"),
        ({**GCS, "config": {"buket": "logs"}}, "bucket"),
    ],
)
def test_misspelt_class_and_missing_library_are_one_sentence(section: dict[str, Any], words: str) -> None:
    found = [text for text in plan(dagster_config={"compute_logs": section}).problems() if "compute_logs" in text]
    assert any(words in text for text in found), found
