"""What an engine says of itself, and what is made of it; asked over a socket by HTTP alone."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plans import ENGINE

from ansible_collections.dataops.dagster.plugins.module_utils._docker import info
from ansible_collections.dataops.dagster.plugins.module_utils._host.proc import Owner

Json = dict[str, Any]
VERSION: Json = {"Version": "20.10.24+dfsg1", "ApiVersion": "1.41", "Components": [{"Name": "Engine"}]}
INFO: Json = {
    "DockerRootDir": "/var/lib/docker",
    "LiveRestoreEnabled": False,
    "LoggingDriver": "json-file",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
}
NETWORKS: list[Json] = [
    {"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}, "Labels": {}},
    {
        "Name": "dagster",
        "Id": "n1",
        "IPAM": {"Config": [{"Subnet": "172.30.0.0/24"}]},
        "Labels": {"dataops.dagster": "network"},
    },
    {"Name": "host", "IPAM": {"Config": None}, "Labels": None},
]
CONTAINERS: list[Json] = [
    {
        "Names": ["/shop"],
        "Labels": {"dagster/job_name": "x"},
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
        ],
    },
    {
        "Names": ["/dagster-code-etl"],
        "ImageID": "sha256:7",
        "Labels": {"dataops.dagster.config": "1", "dataops.dagster.location": "etl"},
        "Ports": [],
    },
    {"Names": ["/run"], "Labels": {"dagster/run_id": "1"}, "Ports": []},
]
ANSWERS: Json = {"/version": VERSION, "/info": INFO, "/networks": NETWORKS, "/containers/json?all=1": CONTAINERS}


def described(**changes: Any) -> Json:
    return info.described(VERSION, {**INFO, **changes}, NETWORKS, CONTAINERS)


def test_engine_is_described_by_what_decides() -> None:
    assert {**described(), "group": "docker"} == {
        **ENGINE,  # of the rest, whose the socket is says the socket
        "networks": [
            {"name": "bridge", "subnets": ["172.17.0.0/16"], "ours": False},
            {"name": "dagster", "subnets": ["172.30.0.0/24"], "ours": True},
            {"name": "host", "subnets": [], "ours": False},
        ],
        "containers": [
            {"name": "shop", "published": [{"address": "0.0.0.0", "port": 8080}, {"address": "::", "port": 8080}]}
        ],
        "stamps": ["location etl sha256:7 1", "network dagster n1"],
        "run_mounts": [],
        "code_networks": [],
    }


@pytest.mark.parametrize("state", ["created", "running", "paused", "restarting", "exited", "dead"])
def test_what_runs_in_progress_mount(state: str) -> None:
    """A run of which nobody knows the state may be in progress. Code servers and containers of others are no runs."""
    mounts = [{"Type": "bind", "Source": "/etc/dagster/secrets/a"}, {"Type": "tmpfs", "Source": ""}, {"Type": "tmpfs"}]
    run = {"Names": ["/run"], "Labels": {"dagster/run_id": "1"}, "State": state, "Mounts": mounts}
    server = {**run, "Labels": {"dataops.dagster.config": "1"}, "Mounts": [{"Source": "/etc/dagster/secrets/b"}]}
    found = info.described(VERSION, INFO, NETWORKS, [run, run, server, {**server, "Labels": None}])["run_mounts"]
    assert found == ([] if state in ("exited", "dead") else ["/etc/dagster/secrets/a"])
    assert info.described(VERSION, INFO, NETWORKS, [{**run, "State": None}])["run_mounts"] == ["/etc/dagster/secrets/a"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"Status": "created", "ExitCode": 128, "Error": "network gone not found"}, "created: network gone not found."),
        (
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True},
            "exited with code 137, because it was out of memory.",
        ),
        ({"Status": "running", "ExitCode": 0, "Error": ""}, "running."),
    ],
)
def test_end_of_a_container_is_told(state: Json, said: str) -> None:
    """As an engine has answered it."""
    assert info._end(state) == f"Its container is {said}"


def test_nobody_to_ask_of_a_container(tmp_path: Path) -> None:
    assert info.run_container(f"unix://{tmp_path}/none.sock", "r") == ""


def test_container_of_a_run_is_none_of_its_steps(tmp_path: Path) -> None:
    """An engine lists the newest first; the steps have the label of their run."""
    wanted = urllib.parse.quote(json.dumps({"label": ["dagster/run_id=r"]}))
    labels = {"dagster/run_id": "r"}
    listed = [{"Id": "2", "Labels": {**labels, "dataops.dagster.step": "load"}}, {"Id": "1", "Labels": labels}]
    answers = {
        f"/containers/json?all=1&filters={wanted}": listed,
        "/containers/1/json": {"State": {"Status": "exited", "ExitCode": 1}},
        "/containers/2/json": {"State": {"Status": "running"}},
    }
    with engine(tmp_path / "docker.sock", answers):
        assert info.run_container(f"unix://{tmp_path}/docker.sock", "r") == "Its container is exited with code 1."


@pytest.mark.parametrize(
    ("folder", "options", "root"),
    [
        ("/var/lib/docker/165536.165536", ["name=userns"], 165536),
        ("/srv/docker/231072.231072", ["name=seccomp,profile=default", "name=userns"], 231072),
        ("/var/lib/docker", ["name=userns"], 0),
        ("/var/lib/165536.165536", [], 0),
    ],
)
def test_root_of_a_container(folder: str, options: list[str], root: int) -> None:
    assert described(DockerRootDir=folder, SecurityOptions=options)["root"] == root


def test_engines_of_other_kinds() -> None:
    assert described(SecurityOptions=["name=rootless"])["rootless"] is True
    podman = {**VERSION, "Components": [{"Name": "Podman Engine"}]}
    assert info.described(podman, {}, [], [])["product"] == "Podman"


@contextmanager
def engine(path: Path, answers: Json) -> Iterator[str]:
    """Something that speaks HTTP at a socket; what it does not know it answers with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = self.path in answers
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "local"

        def log_message(self, *_words: Any) -> None:
            pass

    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join(timeout=10)


def test_engine_is_asked_at_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with engine(path, ANSWERS) as endpoint:
        assert info.ask(endpoint) == {**described(), "group": path.group()}


def test_names_of_images(tmp_path: Path) -> None:
    listed = [{"Id": "sha256:1", "RepoTags": ["etl:1", "etl:2"]}, {"Id": "sha256:2", "RepoTags": None}]
    with engine(tmp_path / "docker.sock", {"/images/json": listed}) as endpoint:
        assert info.images(endpoint) == {"etl:1": "sha256:1", "etl:2": "sha256:1"}
    with engine(tmp_path / "other.sock", {}) as endpoint:
        assert info.images(endpoint) == {}
    for nobody in (f"unix://{tmp_path}/none.sock", "tcp://10.0.0.1:2376", ""):
        assert info.images(nobody) == {}


def test_nobody_answers_as_an_engine(tmp_path: Path) -> None:
    assert info.ask(f"unix://{tmp_path}/none.sock") == {}
    with engine(tmp_path / "other.sock", {"/version": VERSION}) as endpoint:
        assert info.ask(endpoint) == {}


@pytest.mark.parametrize(
    ("processes", "asked"), [(["systemd"], False), (["systemd", "dockerd"], True), (["dockerd"], True), ([], True)]
)
def test_engine_that_a_question_would_start_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: list[str], asked: bool
) -> None:
    """docker.socket listens while docker.service is stopped, and preflight changes nothing."""
    seen: list[set[str]] = []

    def holders(inodes: set[str]) -> list[tuple[str, Owner]]:
        seen.append(inodes)
        return [(inode, Owner("1", process, "")) for process in processes for inode in inodes]

    monkeypatch.setattr(info, "holders", holders)
    (tmp_path / "link").symlink_to(tmp_path)
    with engine(tmp_path / "docker.sock", ANSWERS):
        assert bool(info.ask(f"unix://{tmp_path}/link/docker.sock")) is asked
    assert [len(inodes) for inodes in seen] == [1], "the one that listens, by whatever path"


def test_engine_on_another_host_is_not_looked_for_here() -> None:
    assert not info.sleeps("tcp://10.0.0.9:2376")
    assert not info.sleeps("unix:///nonexistent.sock"), "nobody listens, nothing starts"
