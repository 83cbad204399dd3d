# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host says of a cluster, and the ConfigMap there, with an API that answers what each test wants."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes import cluster, config_map
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.api import Api, Refused, Unreachable
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.kubeconfig import Connection
from ansible_collections.dataops.dagster.plugins.modules import config_map as module

ROOT = Path(__file__).resolve().parents[5]
WANTED = {"namespace": "runs", "config_map": "instance", "service_account": "run", "secret": "database"}
OURS = {"labels": dict(cluster.LABELS)}
Json = dict[str, Any]


class Server:
    """An API whose answers a test gives: (status, object) by method and path."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.denied: set[str] = set()
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.token = "known"
        paths = folder / "key.pem", folder / "cert.pem"
        openssl = shutil.which("openssl")
        assert openssl
        argv = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        argv += ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1,DNS:api.example.com"]
        subprocess.run([*argv, "-keyout", paths[0], "-out", paths[1]], check=True, capture_output=True)
        self.authority = paths[1].read_text(encoding="utf-8")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths[1], paths[0])
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                server.headers.append(dict(self.headers))
                status, found = server.answer(self.command, self.path, body, str(self.headers.get("Authorization")))
                text = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, body: Any, login: str) -> tuple[int, Any]:
        self.asked.append((method, path, body))
        if login != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            resource = asked["resource"] + f"/{asked['subresource']}" * bool(asked["subresource"])
            name = " ".join(filter(None, (asked["verb"], resource, asked["name"])))
            return 201, {**body, "status": {"allowed": name not in self.denied}}
        return self.answers.get(f"{method} {path}", (404, {"kind": "Status", "message": "not found"}))

    def connection(self, **other: str) -> Connection:
        given = {"server": f"https://127.0.0.1:{self.http.server_port}", "authority": self.authority, "token": "known"}
        return Connection(**{**given, **other})

    def has(self, resource: str, name: str, **more: Any) -> None:
        found = {"kind": "X", "metadata": {"name": name}, **more}
        self.answers[f"GET /api/v1/namespaces/runs/{resource}/{name}"] = (200, found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("api"))
    yield found
    found.http.shutdown()


@pytest.fixture
def server(made: Server) -> Server:
    """With all that a launch needs."""
    made.answers, made.denied, made.token = {}, set(), "known"
    made.asked.clear()
    made.headers.clear()
    made.has("serviceaccounts", "run")
    made.has("secrets", "database")
    return made


def test_nothing_is_missing(server: Server) -> None:
    assert cluster.problems(server.connection(), WANTED) == []
    assert {method for method, _path, _body in server.asked} == {"GET", "POST"}
    # Of objects only the metadata is asked for: the content of a Secret stays where it is.
    accepted = [found["Accept"] for found, asked in zip(server.headers, server.asked, strict=True) if asked[0] == "GET"]
    assert len(accepted) == 3
    assert all("as=PartialObjectMetadata" in text for text in accepted)


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("serviceaccounts/run", "namespace runs has no service account run, which run_launcher.config"),
        ("secrets/database", "namespace runs has no Secret database, which run_launcher.config"),
    ],
)
def test_what_is_not_there(server: Server, resource: str, words: str) -> None:
    place = f"GET /api/v1/namespaces/runs/{resource}"
    del server.answers[place]
    (problem,) = cluster.problems(server.connection(), WANTED)
    assert words in problem
    # Who may not look does not know.
    server.answers[place] = (403, {"kind": "Status", "message": "forbidden"})
    assert cluster.problems(server.connection(), WANTED) == []


def test_rights_that_are_missing_are_named(server: Server) -> None:
    server.denied = {"create jobs", "get jobs/status", "patch configmaps instance"}
    (problem,) = cluster.problems(server.connection(), WANTED)
    assert "may not create jobs, get jobs/status, patch configmaps instance in namespace runs" in problem
    assert "docs/kubernetes.md" in problem


def test_config_map_of_somebody_else(server: Server) -> None:
    server.has("configmaps", "instance", metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}})
    (problem,) = cluster.problems(server.connection(), WANTED)
    assert (
        "a ConfigMap instance of somebody else; name another one in run_launcher.config.instance_config_map" in problem
    )
    server.has("configmaps", "instance", metadata=OURS)
    assert cluster.problems(server.connection(), WANTED) == []


def test_login_that_has_expired(server: Server) -> None:
    (problem,) = cluster.problems(server.connection(token="hunter2"), WANTED)
    assert "does not know the login of dagster_kubeconfig (401)" in problem
    assert "hunter2" not in problem


def test_nobody_there(server: Server) -> None:
    (problem,) = cluster.problems(server.connection(server="https://127.0.0.1:9"), WANTED)
    assert problem.startswith("https://127.0.0.1:9, the server of dagster_kubeconfig, cannot be reached from ")
    assert problem.endswith(": Connection refused")


def test_certificate_of_another_authority(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path)
    try:
        (problem,) = cluster.problems(server.connection(authority=other.authority), WANTED)
    finally:
        other.http.shutdown()
    assert "has a certificate that dagster_kubeconfig does not know" in problem
    assert server.asked == [], "the login did not go there"


def test_name_of_another_host(server: Server) -> None:
    """The certificate is for an address and a name. Whatever else it is called is refused."""
    assert cluster.problems(server.connection(name="api.example.com"), WANTED) == []
    (problem,) = cluster.problems(server.connection(name="other.example.com"), WANTED)
    assert "Hostname mismatch" in problem


def test_something_else_answers(server: Server) -> None:
    for found in (b"<html>", {"message": "no Kubernetes"}):
        server.answers["GET /api/v1/namespaces/runs/configmaps/instance"] = (200, found)
        (problem,) = cluster.problems(server.connection(), WANTED)
        assert "answers, but not as Kubernetes does" in problem


def test_a_client_certificate_is_presented(server: Server, tmp_path: Path) -> None:
    pair = Server(tmp_path)
    pair.http.shutdown()
    key = (tmp_path / "key.pem").read_text(encoding="utf-8")
    with Api(server.connection(certificate=pair.authority, key=key)) as api:
        context = api._context()
    assert context.get_ca_certs()
    with pytest.raises(ssl.SSLError):
        Api(server.connection(certificate=pair.authority, key="none"))._context()


def test_path_before_that_of_the_api(server: Server) -> None:
    server.answers["GET /k8s/clusters/c-1/version"] = (200, {"kind": "x"})
    where = f"https://127.0.0.1:{server.http.server_port}/k8s/clusters/c-1/"
    with Api(server.connection(server=where)) as api:
        assert api.request("GET", "/version") == {"kind": "x"}


def test_rights_are_those_of_the_shipped_role() -> None:
    """What preflight asks for is what the page tells an administrator to grant, and no more is granted for jobs."""
    text = (ROOT / "examples/kubernetes/namespace.yml").read_text(encoding="utf-8")
    (role,) = [found for found in yaml.safe_load(text)["items"] if found["kind"] == "Role"]
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    named = {("", "serviceaccounts", "get"), ("", "secrets", "get")}
    named |= {("", "configmaps", verb) for verb in cluster.OF_OURS}
    every = {(group, resource, verb) for group, resource, verbs in cluster.RIGHTS for verb in verbs}
    assert granted == every | named
    restricted = {
        (rule["resources"][0], verb) for rule in role["rules"] for verb in rule["verbs"] if "resourceNames" in rule
    }
    assert restricted == {(resource, verb) for _group, resource, verb in named}


# The pod of a run

PODS = "GET /api/v1/namespaces/runs/pods?labelSelector=job-name%3Ddagster-run-7"
EVENTS = "GET /api/v1/namespaces/runs/events?fieldSelector=involvedObject.name%3Ddagster-run-7"


def pod(**state: Any) -> Json:
    return {"kind": "PodList", "items": [{"status": {"containerStatuses": [{"state": state}]}}]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            pod(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
            "Its pod in namespace runs: waiting ImagePullBackOff Back-off pulling image.",
        ),
        (
            pod(terminated={"reason": "OOMKilled", "exitCode": 137}),
            "Its pod in namespace runs: terminated OOMKilled (exit code 137).",
        ),
        (
            {
                "kind": "PodList",
                "items": [
                    {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}}
                ],
            },
            "Its pod in namespace runs: not scheduled: 0/3 nodes.",
        ),
    ],
)
def test_pod_of_a_run(server: Server, answer: Json, words: str) -> None:
    server.answers[PODS] = (200, answer)
    assert cluster.run_pod(server.connection(), "runs", "7") == words


def test_job_without_a_pod(server: Server) -> None:
    server.answers[PODS] = (200, {"kind": "PodList", "items": []})
    server.answers[EVENTS] = (200, {"kind": "EventList", "items": [{"type": "Warning", "message": "exceeded quota"}]})
    assert cluster.run_pod(server.connection(), "runs", "7") == (
        "Its Job dagster-run-7 in namespace runs has no pod: exceeded quota."
    )
    server.answers[EVENTS] = (200, {"kind": "EventList", "items": []})
    assert cluster.run_pod(server.connection(), "runs", "7") == ""
    server.token = "another"
    assert "What became of its Job dagster-run-7 is not known" in cluster.run_pod(server.connection(), "runs", "7")


# The ConfigMap

DATA = {"kubeconfig.yaml": "x", "HOST": "10.0.0.3"}
PLACE = "/api/v1/namespaces/runs/configmaps"


def reconciled(server: Server, check: bool = False, data: Json | None = None, keep: list[str] | None = None) -> Json:
    params = {"namespace": "runs", "name": "instance", "data": data or DATA, "keep": keep or []}
    return module.reconcile(params, server.connection(), check)


def test_config_map_is_made(server: Server) -> None:
    server.answers[f"POST {PLACE}"] = (201, {"kind": "ConfigMap"})
    assert reconciled(server, check=True)["changed"]
    assert [method for method, _path, _body in server.asked] == ["GET"], "a check changes nothing"
    found = reconciled(server)
    assert (found["changed"], found["keys"]) == (True, ["HOST", "kubeconfig.yaml"])
    body = server.asked[-1][2]
    assert body["data"] == DATA
    assert body["metadata"]["labels"] == cluster.LABELS


def test_config_map_stays(server: Server) -> None:
    server.has("configmaps", "instance", metadata=OURS, data=DATA)
    assert reconciled(server) == {"changed": False, "keys": []}
    assert [method for method, _path, _body in server.asked] == ["GET"]


def test_config_map_is_changed(server: Server) -> None:
    server.has("configmaps", "instance", metadata=OURS, data={**DATA, "HOST": "old", "GONE": "1"})
    server.answers[f"PATCH {PLACE}/instance"] = (200, {"kind": "ConfigMap"})
    assert reconciled(server)["keys"] == ["GONE", "HOST"]
    assert server.asked[-1][2] == {"data": {**DATA, "GONE": None}}
    assert server.headers[-1]["Content-Type"] == "application/merge-patch+json"


def test_what_is_to_be_kept(server: Server) -> None:
    """A play that leaves out the database's host does not know its authority."""
    server.has("configmaps", "instance", metadata=OURS, data={**DATA, "ca.pem": "authority"})
    assert reconciled(server, keep=["ca.pem"]) == {"changed": False, "keys": []}
    assert reconciled(server, check=True)["keys"] == ["ca.pem"], "the control"


def test_config_map_of_somebody_else_stays(server: Server) -> None:
    server.has("configmaps", "instance", data={"a": "1"})
    with pytest.raises(config_map.Foreign):
        reconciled(server)
    assert [method for method, _path, _body in server.asked] == ["GET"]


def test_who_may_not(server: Server) -> None:
    server.answers[f"POST {PLACE}"] = (403, {"kind": "Status", "message": "configmaps is forbidden"})
    with pytest.raises(Refused, match="configmaps is forbidden"):
        reconciled(server)
    with pytest.raises(Unreachable):
        module.reconcile(
            {"namespace": "runs", "name": "instance", "data": DATA, "keep": []},
            server.connection(server="https://127.0.0.1:9"),
            True,
        )


def test_connection_of_the_file_that_is_staged(tmp_path: Path) -> None:
    from deployments import KUBECONFIG

    path = tmp_path / "kubeconfig"
    assert module.connection(str(path)) is None
    path.write_text(json.dumps(KUBECONFIG), encoding="utf-8")
    found = module.connection(str(path))
    assert found is not None
    assert found.token == "token-of-the-launcher"
    newer = json.loads(json.dumps(KUBECONFIG).replace("token-of-the-launcher", "newer"))
    (tmp_path / ".kubeconfig.next").write_text(json.dumps(newer), encoding="utf-8")
    found = module.connection(str(path))
    assert found is not None
    assert found.token == "newer"
    path.write_text("{}", encoding="utf-8")
    (tmp_path / ".kubeconfig.next").unlink()
    with pytest.raises(ValueError, match="is no kubeconfig"):
        module.connection(str(path))
