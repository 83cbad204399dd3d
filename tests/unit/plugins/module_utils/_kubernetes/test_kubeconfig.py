# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A kubeconfig as hosts get it: where the API is, and one sentence for whatever a host could not use."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from deployments import KUBECONFIG

from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes import kubeconfig

PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
KEY = base64.b64encode(b"-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----\n").decode()
Json = dict[str, Any]


def changed(cluster: Json | None = None, user: Json | None = None, **top: Any) -> Json:
    """The kubeconfig of a token, with other parts. None takes a key away."""
    found = copy.deepcopy(KUBECONFIG)
    for part, more in ((found["clusters"][0]["cluster"], cluster), (found["users"][0]["user"], user), (found, top)):
        for key, value in (more or {}).items():
            part.update({key: value})
            if value is None:
                del part[key]
    return found


def test_token() -> None:
    found, problems = kubeconfig.read(changed({"certificate-authority-data": PEM, "tls-server-name": "api"}))
    assert problems == []
    assert found is not None
    assert (found.host, found.port, found.path, found.name) == ("10.20.0.1", 6443, "", "api")
    assert found.public()["authority"].startswith("-----BEGIN CERTIFICATE-----")
    assert found.login() == {"token": "token-of-the-launcher"}
    assert "token-of-the-launcher" not in str(found.public())


@pytest.mark.parametrize(
    ("server", "where"),
    [
        ("https://k8s.example.com", ("k8s.example.com", 443, "")),
        ("https://[fd00::5]:6443", ("fd00::5", 6443, "")),
        ("https://rancher.example.com/k8s/clusters/c-1/", ("rancher.example.com", 443, "/k8s/clusters/c-1")),
    ],
)
def test_forms_of_a_server(server: str, where: tuple[str, int, str]) -> None:
    found, problems = kubeconfig.read(changed({"server": server}))
    assert problems == []
    assert found is not None
    assert (found.host, found.port, found.path) == where


def test_client_certificate() -> None:
    found, problems = kubeconfig.read(
        changed(user={"token": None, "client-certificate-data": PEM, "client-key-data": KEY})
    )
    assert problems == []
    assert found is not None
    assert list(found.login()) == ["key"]
    assert found.public()["certificate"].startswith("-----BEGIN CERTIFICATE-----")


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "is no kubeconfig: it has none of clusters, users, contexts"),
    "something else": ({"dagster_kubeconfig": {}}, "is no kubeconfig"),
    "list": ([], "is no kubeconfig"),
    "half": (changed(users=None), "has no list users"),
    "no context": (changed(None, None, **{"current-context": ""}), "has no current-context; name one of runs"),
    "mistyped context": (
        changed(None, None, **{"current-context": "run"}),
        "no context of that name; did you mean runs?",
    ),
    "cluster that is not there": (
        changed(contexts=[{"name": "runs", "context": {"cluster": "rums", "user": "dagster"}}]),
        "has no cluster rums, which its context runs names; did you mean runs?",
    ),
    "server that is none": (changed({"server": "10.20.0.1:6443"}), "is no URL (10.20.0.1:6443); for example https://"),
    "password in a server": (changed({"server": "https://u:hunter2@x"}), "is no URL; for example"),
    "plain text": (changed({"server": "http://10.20.0.1:8080"}), "it has to be https"),
    "file of another machine": (
        changed({"certificate-authority": "/home/me/ca.crt"}),
        "names a file of another machine (certificate-authority); write certificate-authority-data instead",
    ),
    "file with the token": (changed(user={"token": None, "tokenFile": "/x"}), "(tokenFile); write token instead"),
    "not verified": (changed({"insecure-skip-tls-verify": True}), "the login would go to whoever answers"),
    "proxy": (changed({"proxy-url": "http://p:3128"}), "has proxy-url; hosts reach the API directly"),
    "program": (
        changed(user={"token": None, "exec": {"command": "aws"}}),
        "logs in with exec (aws), a program that hosts do not have; use the token of a service account",
    ),
    "no login": (changed(user={"token": None}), "has no login: neither a token nor a client certificate"),
    "half of a certificate": (
        changed(user={"token": None, "client-certificate-data": PEM}),
        "has one of client-certificate-data and client-key-data; it needs both",
    ),
    "no base64": (changed({"certificate-authority-data": "hunter2!"}), "certificate-authority-data is no certificate"),
    "no certificate": (
        changed({"certificate-authority-data": base64.b64encode(b"hunter2").decode()}),
        "certificate-authority-data is no certificate (PEM) in base64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_sentence_without_a_secret(name: str) -> None:
    given, words = WRONG[name]
    found, problems = kubeconfig.read(given)
    assert found is None
    (problem,) = problems
    assert problem.startswith("dagster_kubeconfig")
    assert words in problem
    assert "hunter2" not in problem
    assert "token-of-the-launcher" not in problem
