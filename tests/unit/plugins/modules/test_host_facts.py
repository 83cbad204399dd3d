"""Module host_facts: what it makes of the host's own files, and of servers that answer one way or another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import info
from ansible_collections.dataops.dagster.plugins.module_utils._host import namespaces, netfilter, networks
from ansible_collections.dataops.dagster.plugins.module_utils._host.accounts import accounts
from ansible_collections.dataops.dagster.plugins.modules import host_facts

DEBIAN = """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
VERSION_ID="12"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL='https://www.debian.org/'

"""
STATUS = """Package: nginx
Status: install ok installed
Priority: optional
Version: 1.22.1-9
Description: small
 Version: 9.9 is not this package's version
 .
Conffiles:
 /etc/nginx/nginx.conf 0123

Package: docker.io
Status: deinstall ok config-files
Version: 20.10

Package: half
Status: install ok half-installed
Version: 1

Package: held
Status: hold ok installed
Version: 2:3.4+dfsg-1
"""


def test_os_release() -> None:
    found = host_facts.os_release(DEBIAN)
    assert (found["ID"], found["VERSION_CODENAME"]) == ("debian", "bookworm")
    assert found["VERSION_ID"] == "12"
    assert found["HOME_URL"] == "https://www.debian.org/"


def test_packages_that_are_installed() -> None:
    assert host_facts.installed_packages(STATUS) == {"nginx": "1.22.1-9", "held": "2:3.4+dfsg-1"}
    assert host_facts.installed_packages("") == {}


def test_memory_in_mib() -> None:
    text = "MemTotal:        8142104 kB\nMemAvailable:    7118888 kB\nHugePages_Total:       0\n"
    assert host_facts.memory(text) == {"MemTotal": 7951, "MemAvailable": 6952, "HugePages_Total": 0}


def test_a_real_listener_and_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = [entry for entry in host_facts.facts()["listeners"] if entry["port"] == port]
    with open("/proc/self/comm", encoding="utf-8") as stream:
        name = stream.read().strip()
    assert [(entry["address"], entry["process"]) for entry in found] == [("127.0.0.1", name)]


SUBUID = "user:100000:65536\ndockremap:165536:65536\nbuilder:231072:65536\n"


@pytest.mark.parametrize(
    ("daemon_json", "subuid", "root"),
    [
        ('{"userns-remap": "default"}', SUBUID, 165536),
        ('{"userns-remap": "builder:builder"}', SUBUID, 231072),
        ('{"userns-remap": "builder"}', SUBUID, 231072),
        ('{"userns-remap": "default"}', "", 0),  # the engine makes the entry when it starts for the first time
        ('{"userns-remap": ""}', SUBUID, 0),
        ('{"live-restore": true}', SUBUID, 0),
        ("", SUBUID, 0),
        ("{broken", SUBUID, 0),
        ("[]", SUBUID, 0),
    ],
)
def test_root_of_a_container(daemon_json: str, subuid: str, root: int) -> None:
    assert namespaces.container_root(daemon_json, subuid) == root


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection; the port it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.mark.parametrize("letter", [b"S", b"N"])
def test_postgres_answers(letter: bytes) -> None:
    asked = []

    def postgres(connection: socket.socket) -> None:
        asked.append(connection.recv(16))
        connection.sendall(letter)

    with server(postgres) as port:
        assert host_facts.connect_error("127.0.0.1", port, "postgres") == ""
    # SSLRequest of the protocol's message formats: length 8, code 1234 5679
    assert asked == [bytes([0, 0, 0, 8]) + (1234).to_bytes(2, "big") + (5679).to_bytes(2, "big")]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.0 400 Bad Request\r\n", b"E", b""])
def test_something_else_answers(answer: bytes) -> None:
    def other(connection: socket.socket) -> None:
        connection.recv(16)
        connection.sendall(answer)

    with server(other) as port:
        error = host_facts.connect_error("127.0.0.1", port, "postgres")
    assert error == f"127.0.0.1:{port} answers, but not as a PostgreSQL server"


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = host_facts.connect_error("127.0.0.1", port, "postgres")
    assert error == f"127.0.0.1:{port} cannot be reached from {socket.gethostname()}: {os.strerror(111)}"


def test_name_that_does_not_exist() -> None:
    error = host_facts.connect_error("no-such-host.invalid", 5432, "postgres")
    assert "no-such-host.invalid:5432 cannot be reached from" in error


# What is in the result only when it was asked for.
ANSWERS = {"paths", "texts", "lines", "certificates", "unresolved", "resolved", "connect_errors"}


def asked(**options: Any) -> dict[str, Any]:
    """The answers to these options; the others were not given."""
    return host_facts.asked(
        **{"connect": None, "paths": None, "texts": None, "certificates": None, "resolve": None, **options}
    )


def test_facts_of_this_host() -> None:
    found = host_facts.facts()
    assert found["memory_mb"] > 0
    assert "root" in found["users"]
    assert "root" in found["groups"]
    assert not ANSWERS & found.keys()


def test_server_that_does_not_answer_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert len(asked(connect=[{"host": "127.0.0.1", "port": port, "dialect": "postgres"}])["connect_errors"]) == 1


def test_only_what_was_asked_for_is_answered() -> None:
    """A later read is merged into the first: it must not empty what it does not ask for."""
    assert asked() == {}
    nothing = asked(connect=[], paths=[], texts=[], lines={}, certificates={}, resolve=[])
    assert nothing == {
        "connect_errors": [],
        "paths": [],
        "texts": {},
        "lines": {},
        "certificates": {},
        "unresolved": [],
        "resolved": {},
    }
    assert nothing.keys() == ANSWERS


def test_names_without_an_address() -> None:
    assert asked(peers=["127.0.0.1", "no.such.host.invalid"])["sources"] == {"127.0.0.1": "127.0.0.1"}
    found = asked(resolve=["localhost", "no.such.host.invalid"])
    assert found["unresolved"] == ["no.such.host.invalid"]
    assert found["resolved"].keys() == {"localhost"}
    assert "127.0.0.1" in found["resolved"]["localhost"]


def test_local_addresses_are_the_hosts_own() -> None:
    text = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 172.30.0.1
        /32 host LOCAL
     |-- 172.30.0.255
        /32 link BROADCAST
"""
    assert networks.local_addresses(text) == ["127.0.0.1", "172.30.0.1"]


def test_addresses_of_ipv6() -> None:
    text = (
        "fd00000000000000000000000000000a 02 40 00 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
    )
    assert networks.local_addresses6(text) == ["::1", "fd00::a"]
    assert networks.local_addresses6("") == [], "a kernel without IPv6 has no such file"


def test_interface_of_each_network() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000D50A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "docker0\t00001DAC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "eth0\t0000010A\t0100D50A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    if sys.byteorder == "little":  # the kernel writes them in its own order
        assert networks.networks(text) == {"10.213.0.0/16": "eth0", "172.29.0.0/24": "docker0"}
        assert networks.routed(text) == ["10.1.0.0/24"], "through a gateway, but not the default route"
    assert networks.networks("") == {}
    assert networks.routed("") == []


def test_paths_that_exist_are_named(tmp_path: Path) -> None:
    assert asked(paths=[str(tmp_path), str(tmp_path / "none")]) == {"paths": [str(tmp_path)]}


def test_texts_of_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("line\n", encoding="utf-8")
    found = asked(texts=[str(tmp_path / "one"), str(tmp_path / "none"), str(tmp_path)])
    assert found == {"texts": {str(tmp_path / "one"): "line\n"}}


def test_only_the_wanted_part_of_a_file_is_read(tmp_path: Path) -> None:
    """The file may be somebody else's, and hold a password."""
    (tmp_path / "one").write_text("user nginx;\n  user  www;\npassword secret;\n", encoding="utf-8")
    wanted = {str(tmp_path / name): r"^\s*user\s+(\w+)" for name in ("one", "none")}
    assert asked(lines=wanted) == {"lines": {str(tmp_path / "one"): ["nginx", "www"]}}
    (tmp_path / "two").write_text("nothing\n", encoding="utf-8")
    found = asked(lines={str(tmp_path / "*"): r"^user\s+(\w+)"})["lines"]
    assert found == {str(tmp_path / "one"): ["nginx"], str(tmp_path / "two"): []}, "a file without one is there too"


def test_pattern_of_paths(tmp_path: Path) -> None:
    for name, text in {"a.conf": "x = 1\n#port = 1\n port = 2\nport 3\n", "b.conf": "y\n", "c": "port = 4\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = asked(lines={str(tmp_path / "*.conf"): r"^\s*(port\b.*)", str(tmp_path / "none"): ""})
    assert found == {"lines": {str(tmp_path / "a.conf"): ["port = 2", "port 3"], str(tmp_path / "b.conf"): []}}


def test_engine_that_runs_says_itself_which_user_root_of_a_container_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings may stand on its command line, and daemon.json may say what it has not read yet."""
    monkeypatch.setattr(info, "ask", lambda _endpoint: {"root": 165536})
    assert asked(engine="unix:///run/docker.sock") == {"engine": {"root": 165536}, "container_root": 165536}
    monkeypatch.setattr(info, "ask", lambda _endpoint: {})
    assert asked(engine="unix:///run/docker.sock") == {"engine": {}}, "then the settings count"


def test_shells_and_members_of_those_that_there_are() -> None:
    found = accounts(["root", "nobody-of-this-name"], ["root", "nobody-of-this-name"])
    assert found["shells"].keys() == {"root"}
    assert found["shells"]["root"].startswith("/")
    assert list(found["members"]) == ["root"]
    assert "root" in found["members"]["root"], "for whom it is the primary group"
    assert accounts(None, None) == {}


def test_module_returns_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = (
        "connect",
        "paths",
        "texts",
        "lines",
        "shells",
        "members",
        "certificates",
        "resolve",
        "engine",
        "stamps",
        "run_id",
        "snapshot",
        "snapshot_key",
        "recent",
    )
    params = {**dict.fromkeys(options), "paths": [str(tmp_path)]}
    module = MagicMock(params=params)
    monkeypatch.setattr(host_facts, "AnsibleModule", MagicMock(return_value=module))
    host_facts.main()
    said = module.exit_json.call_args.kwargs
    assert said["changed"] is False
    assert "ansible_facts" not in said, "they would stay in a fact cache"
    assert said["host"]["memory_mb"] > 0
    assert {key: said["host"][key] for key in said["host"].keys() & ANSWERS} == {"paths": [str(tmp_path)]}


def test_user_namespaces_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel refuses one, and where it does not let root say who is in it."""
    assert namespaces.facts().keys() == {"user_namespaces", "own_proc"}
    assert host_facts.facts().items() >= {"user_namespaces": namespaces.user_namespaces()}.items()
    monkeypatch.setattr(namespaces, "MAP", "0 0 1\n0 0 1\n")  # the kernel refuses it: twice the same number
    assert not namespaces.user_namespaces()
    monkeypatch.setattr(namespaces, "CLONE_NEWUSER", -1)
    assert not namespaces.user_namespaces()


@pytest.mark.parametrize(
    ("users", "own"),
    [("         0          0 4294967295\n", True), ("", True), ("         0     100000      65536\n", False)],
)
def test_host_that_is_itself_in_a_user_namespace(users: str, own: bool) -> None:
    assert namespaces.own_proc(users) is own


def test_kernel_is_asked_for_nftables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when it is to be asked. A refusal is told in the words of the system."""
    monkeypatch.setattr(netfilter, "refusal", lambda: "Operation not permitted")
    assert asked(nftables=True)["nftables"] == "Operation not permitted"
    assert asked(nftables=False) == {}


def test_answers_of_a_kernel_about_nftables() -> None:
    refused = netfilter.HEADER.pack(36, netfilter.NLMSG_ERROR, 0, 1, 0) + (-1).to_bytes(4, sys.byteorder, signed=True)
    assert netfilter.answered(refused) == os.strerror(1)
    assert netfilter.answered(netfilter.HEADER.pack(28, netfilter.NFTABLES << 8 | 15, 0, 1, 0) + bytes(8)) == ""


def test_kernel_of_a_network_of_its_own_takes_rules_and_knows_no_other_subsystem() -> None:
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(netfilter.__file__)!r}); import netfilter; "
        "print(netfilter.refusal()); netfilter.NFTABLES = 99; print(netfilter.refusal())"
    )
    argv = ["unshare", "--map-root-user", "--net", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == ["", os.strerror(22)]
