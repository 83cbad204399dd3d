"""The probe of compute logs against stores: what it finds wrong, and what the operator is told to change.

The same call with a right login and the right name is the control of each.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from log_site_rig import probed
from stores_rig import Store, free_port

from ansible_collections.dataops.dagster.plugins.modules import compute_logs

STORES = ["s3", "gcs", "azure"]
BUCKETS = {"s3": "bucket", "gcs": "bucket", "azure": "container"}


def address(kind: str, store: Store, where: str) -> dict[str, Any]:
    """The arguments of probed with the store at another address (scheme, host and port)."""
    if kind == "gcs":
        return {"section": store.section(), "API_ENDPOINT_OVERRIDE": where}
    if kind == "s3":
        return {"section": store.section(endpoint_url=where)}
    host, _colon, port = where.rpartition("//")[2].partition(":")
    # Azure's client makes its address of the account's name: here without the proxy that knows it.
    return {"section": store.section(endpoint_suffix=f"{host}:{port}"), "HTTPS_PROXY": None}


@pytest.mark.parametrize("kind", STORES)
def test_all_is_well(kind: str, world: dict[str, Store], python: Path) -> None:
    store = world[kind]
    answer, sentence = probed(python, store, store.login, store.section())
    assert answer == {"problem": "", "phase": "", "said": "", "address": "", "left": False}
    assert sentence == ""


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    ("fault", "problem", "words"),
    [
        ("unknown", "login", "correct dagster_compute_logs_login"),
        ("powerless", "rights", "give the login that right"),
        ("bucket", "bucket", "finds no {bucket} not-there at "),
    ],
)
def test_login_and_bucket(
    kind: str, fault: str, problem: str, words: str, world: dict[str, Store], python: Path
) -> None:
    store = world[kind]
    login = {"unknown": store.unknown, "powerless": store.powerless}.get(fault, store.login)
    section = store.section(**({BUCKETS[kind]: "not-there"} if fault == "bucket" else {}))
    answer, sentence = probed(python, store, login, section)
    assert answer["problem"] == problem, answer
    assert words.format(bucket=BUCKETS[kind]) in sentence
    assert "\n" not in sentence
    for word in login.replace("=", " ").replace('"', " ").split():
        assert len(word) < 24 or word in str(section) or word not in str(answer), "no part of a login is shown"


@pytest.mark.parametrize("kind", STORES)
def test_name_and_route(kind: str, world: dict[str, Store], python: Path) -> None:
    store = world[kind]
    answer, sentence = probed(python, store, store.login, **address(kind, store, "http://core.invalid:9000"))
    assert answer["problem"] == "name", answer
    assert "core.invalid:9000" in answer["address"]
    assert "cannot resolve" in sentence
    if kind != "azure":  # its address is made of a name
        answer, sentence = probed(python, store, store.login, **address(kind, store, f"http://127.0.0.1:{free_port()}"))
        assert answer["problem"] == "route", answer
        assert "cannot reach 127.0.0.1:" in sentence


def test_store_that_does_not_answer(world: dict[str, Store], python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts a connection and says nothing, as behind a firewall that forgets."""
    store, text, done = world["s3"], compute_logs.program(), "connection.settimeout(before)\n"
    assert text.count(done) == 1
    # Its time is over a second after it was heard.
    monkeypatch.setattr(compute_logs, "program", lambda: text.replace(done, "signal.alarm(1)\n"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        changed = address("s3", store, f"http://127.0.0.1:{silent.getsockname()[1]}")
        answer, sentence = probed(python, store, store.login, **changed)
    assert (answer["problem"], answer["said"]) == ("store", "it did not answer within 120 seconds"), answer
    assert "127.0.0.1:" in sentence


def test_certificate(world: dict[str, Store], python: Path) -> None:
    store = world["azure"]
    answer, sentence = probed(python, store, store.login, store.section(), REQUESTS_CA_BUNDLE=None)
    assert answer["problem"] == "certificate", answer
    assert "does not trust the certificate of logs.blob.core.test (self-signed certificate)" in sentence
    assert "dagster_environment.REQUESTS_CA_BUNDLE" in sentence


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_store_without_tls(kind: str, world: dict[str, Store], python: Path) -> None:
    store = world[kind]
    url = f"https://127.0.0.1:{store.server.port}"
    answer, sentence = probed(python, store, store.login, **address(kind, store, url))
    assert answer["problem"] == "no tls", answer
    assert "gets no TLS from" in sentence


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_no_login_at_all(kind: str, world: dict[str, Store], python: Path) -> None:
    store = world[kind]
    answer, sentence = probed(python, store, None, store.section(), NO_GCE_CHECK="true")
    assert answer["problem"] == "no login", answer
    assert "set dagster_compute_logs_login" in sentence


def test_role_of_the_host(open_store: Store, python: Path) -> None:
    """S3 without a login: the library asks the metadata of the machine, here moto's, which knows no rights."""
    url = f"http://127.0.0.1:{open_store.server.port}"
    patient = {"AWS_METADATA_SERVICE_TIMEOUT": "20", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "5"}
    role = {"AWS_EC2_METADATA_DISABLED": None, "AWS_EC2_METADATA_SERVICE_ENDPOINT": url, **patient}
    answer, _sentence = probed(python, open_store, None, open_store.section(), **role)
    assert answer["problem"] == "", answer
    dead = {**role, "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    answer, sentence = probed(python, open_store, None, open_store.section(), **dead)
    assert answer["problem"] == "no login", f"the control: {answer}"
    assert "set dagster_compute_logs_login" in sentence
