"""What the tests against a real engine have in common.

Everything made here is called `...t-code-...` and is removed again. The base image is this Python interpreter in an
otherwise empty file system.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
IMAGE, OTHER_IMAGE, BAD_IMAGE = "t-code-image:1", "t-code-image:2", "t-code-image:bad"
NETWORK, EXTRA_NETWORK = "t-code-main", "t-code-extra"
PYTHON = os.path.realpath(sys.executable)
LABEL = "dataops.dagster.location"
Json = dict[str, Any]

SERVER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("serving", flush=True)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", int(sys.argv[1])))
server.listen()
while True:
    server.accept()[0].close()
"""
BAD_SERVER = "print('cannot import pipelines')\nraise SystemExit(7)\n"
CHECK = "import socket, sys\nsocket.create_connection(('127.0.0.1', int(sys.argv[1])), 1)\n"


def engine() -> Any:
    """The API of the engine; without one there is nothing to test."""
    docker = pytest.importorskip("docker", reason="the Docker SDK for Python is what the modules use")
    try:
        api = docker.APIClient(base_url=ENDPOINT, version="auto", timeout=60)
        api.ping()
    except Exception as error:
        pytest.skip(f"no Docker engine at {ENDPOINT}: {error}")
    return api


def base_tar() -> bytes:
    """This interpreter, its standard library and the shared objects it needs."""
    binary = os.path.realpath(sys.executable)
    stdlib = sysconfig.get_path("stdlib")
    wanted = {binary}
    for item in [binary, *Path(stdlib, "lib-dynload").glob("_socket*.so"), *Path(stdlib, "lib-dynload").glob("se*.so")]:
        listing = subprocess.run(["ldd", str(item)], capture_output=True, text=True, check=True).stdout
        wanted |= {word for word in listing.split() if word.startswith("/")}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for path in sorted(wanted):
            tar.add(path)

        def lean(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
            parts = set(Path(info.name).parts)
            unwanted = {
                "test",
                "tests",
                "site-packages",
                "dist-packages",
                "__pycache__",
                "idlelib",
                "ensurepip",
                "lib2to3",
            }
            return None if parts & unwanted or Path(info.name).name.startswith("config-") else info

        tar.add(stdlib, filter=lean)
        for name, code in (("server", SERVER), ("bad", BAD_SERVER), ("check", CHECK)):
            info = tarfile.TarInfo(name)
            info.size = len(code)
            tar.addfile(info, io.BytesIO(code.encode()))
    return out.getvalue()


def clean(api: Any) -> None:
    """Remove all that is called like ours."""
    for item in api.containers(all=True):
        if any("t-code-" in name for name in item["Names"]):
            api.remove_container(item["Id"], force=True, v=True)
    for item in api.networks():
        if item["Name"] in (NETWORK, EXTRA_NETWORK):
            api.remove_network(item["Id"])
    for item in api.images():
        for tag in item["RepoTags"] or ():
            if tag.startswith(("t-code-image:", "t-code-base:itest", "dagster-code/t-code-")):
                api.remove_image(tag, force=True)


def module_environment() -> dict[str, str]:
    """That of a module which is run by hand."""
    return {**os.environ, "PYTHONPATH": str(ROOT / ".deps")}


def images(tmp_path: Path, check: bool = False, fails: bool = False, **args: Any) -> Json:
    """One task with code_images, through its action plugin, on this host."""
    task = {"dataops.dagster.code_images": {"docker_host": ENDPOINT, **args}, "register": "answer"}
    show = {"ansible.builtin.copy": {"content": "{{ answer | to_json }}", "dest": str(tmp_path / "answer.json")}}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [
        {**task, "ignore_errors": True}, {**show, "check_mode": False}]}]  # fmt: skip
    (tmp_path / "play.json").write_text(json.dumps(play))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.json")]
    command += ["--check"] if check else []
    environment = {
        **module_environment(),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".deps"),
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: Json = json.loads((tmp_path / "answer.json").read_text())
    assert bool(answer.get("failed")) is fails, answer
    return answer
