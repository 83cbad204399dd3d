"""The Docker gate over mutual TLS: the certificate of a client says which role it has."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gate_requests
import gate_rooms
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from gate_attacks import creations
from gate_world import OWN, World, everything, program, request, run_body

API = "/v1.41"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
NAMES = {role: f"{role}.docker-gate-dagster" for role in ("launch", "inspect")}


class Authority:
    """Signs as role certificates does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self.signed(self.key, self.name, [(basic, True)])
        self.path = self.write(f"{name}-ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def signed(self, key: Any, name: x509.Name, extensions: list[tuple[Any, bool]]) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        found = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        found = found.serial_number(x509.random_serial_number())
        found = found.not_valid_before(now - datetime.timedelta(hours=1))
        found = found.not_valid_after(now + datetime.timedelta(days=1))
        for extension, critical in extensions:
            found = found.add_extension(extension, critical)
        return found.sign(self.key, hashes.SHA256())

    def write(self, name: str, text: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text)
        return path

    def issue(self, file: str, names: list[str], usage: Any = CLIENT) -> tuple[Path, Path]:
        """Certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ctl1")])
        general = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        extensions: list[tuple[Any, bool]] = [(x509.ExtendedKeyUsage([usage]), False)]
        if general:
            extensions.append((x509.SubjectAlternativeName(general), False))
        certificate = self.signed(key, subject, extensions)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        return self.write(f"{file}.pem", public), self.write(f"{file}-key.pem", secret)


class Far:
    """A gate that listens for other hosts."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.authority, self.stranger = Authority(folder, "gate"), Authority(folder, "other")
        cert, key = self.authority.issue("server", ["127.0.0.1"], SERVER)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        files = {"ca": str(self.authority.path), "cert": str(cert), "key": str(key)}
        listen = {"address": "127.0.0.1", "port": self.port, **files}
        self.world = World(folder, listen=listen, **settings)

    def ask(self, identity: tuple[Path, Path] | None, data: bytes) -> bytes:
        """The answer to a client with this certificate; nothing when it is not let in."""
        context = ssl.create_default_context(cafile=str(self.authority.path))
        if identity:
            context.load_cert_chain(*map(str, identity))
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 10) as sock,
                context.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
            ):
                secured.sendall(data)
                return everything(secured)
        except (ssl.SSLError, ConnectionError):
            return b""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    found = Far(tmp_path)
    yield found
    found.world.end()


def test_each_role_by_its_certificate(far: Far) -> None:
    create = request("POST", f"{API}/containers/create", run_body())
    stop = request("POST", f"{API}/containers/{OWN}/stop")
    launch, inspect = (far.authority.issue(role, [NAMES[role]]) for role in ("launch", "inspect"))
    assert far.ask(launch, create).startswith(b"HTTP/1.1 201 ")
    assert far.ask(inspect, create).startswith(b"HTTP/1.1 403 ")
    assert far.ask(inspect, stop).startswith(b"HTTP/1.1 204 ")
    assert "refused 127.0.0.1 (inspect): POST" in far.world.said[0]


@pytest.mark.parametrize("who", ["nobody", "another authority", "no name", "a host's name", "both names", "a server"])
def test_certificates_of_no_role(far: Far, who: str) -> None:
    identity = {
        "nobody": lambda: None,
        "another authority": lambda: far.stranger.issue("x", [NAMES["launch"]]),
        "no name": lambda: far.authority.issue("x", []),
        "a host's name": lambda: far.authority.issue("x", ["ctl1"]),
        "both names": lambda: far.authority.issue("x", list(NAMES.values())),
        "a server": lambda: far.authority.issue("x", [NAMES["launch"]], SERVER),
    }[who]()
    assert far.ask(identity, request("GET", "/_ping")) == b""
    assert far.world.engine.asked == []
    far.world.wait_for_a_line()
    assert far.world.said[0].startswith("refused 127.0.0.1"), far.world.said


def test_supplied_certificate_is_known_by_its_digest(tmp_path: Path) -> None:
    """It is one of many of the site's authority, and the others of it may nothing."""
    site = Authority(tmp_path, "site")
    identity, other = site.issue("client", ["services.example.com"]), site.issue("more", [NAMES["launch"]])
    encoded = ssl.PEM_cert_to_DER_cert(identity[0].read_text())
    far = Far(tmp_path, certificates={hashlib.sha256(encoded).hexdigest(): "launch"})
    far.world.gate.settings.given["listen"]["ca"] = str(site.path)
    try:
        assert far.ask(identity, request("POST", f"{API}/containers/create", run_body())).startswith(b"HTTP/1.1 201 ")
        assert far.ask(other, request("GET", "/_ping")) == b""
    finally:
        far.world.end()


def test_renewed_certificate_is_used_without_a_restart(far: Far) -> None:
    launch = far.authority.issue("launch", [NAMES["launch"]])
    served = []
    for _number in range(2):
        context = ssl.create_default_context(cafile=str(far.authority.path))
        context.load_cert_chain(*map(str, launch))
        with (
            socket.create_connection(("127.0.0.1", far.port), 10) as sock,
            context.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
        ):
            served.append(secured.getpeercert(binary_form=True))
        far.authority.issue("server", ["127.0.0.1"], SERVER)
    assert served[0] != served[1]


def test_pair_that_does_not_fit_leaves_the_one_before(far: Far) -> None:
    """A play writes certificate and key one after the other, and somebody may supply halves of two."""
    launch = far.authority.issue("launch", [NAMES["launch"]])
    assert far.ask(launch, request("GET", "/_ping")).startswith(b"HTTP/1.1 200 ")
    folder = far.world.folder
    (folder / "server-key.pem").write_bytes(launch[1].read_bytes())
    for _number in range(2):
        assert far.ask(launch, request("GET", "/_ping")).startswith(b"HTTP/1.1 200 ")
    (line,) = far.world.said
    assert "server-key.pem, goes on with what they were" in line
    assert program.main(["gate", "--check", str(folder / "gate.json")]) == 1, "a play learns of it"
    far.authority.issue("server", ["127.0.0.1"], SERVER)
    assert far.ask(launch, request("GET", "/_ping")).startswith(b"HTTP/1.1 200 ")
    assert program.main(["gate", "--check", str(folder / "gate.json")]) == 0


def test_silent_connections_of_a_host_leave_room_for_others(far: Far) -> None:
    """They go once their time for the handshake has passed, and are never more than the room of one host."""
    launch = far.authority.issue("launch", [NAMES["launch"]])
    began = time.monotonic()  # before their time begins, so that a slow machine does not make it look shorter
    silent = [socket.create_connection(("127.0.0.1", far.port), 20) for _number in range(gate_rooms.GREETED + 4)]
    try:
        far.world.wait_for_a_line()
        assert f"{gate_rooms.GREETED} of 127.0.0.1 without a role are open" in far.world.said[0]
        assert far.world.ask("launch", "GET", "/_ping")[0] == 200, "other doors are open"
        assert [sock.recv(1) for sock in silent[: gate_rooms.GREETED]] == [b""] * gate_rooms.GREETED
        assert time.monotonic() - began < gate_requests.READING
        assert far.ask(launch, request("GET", "/_ping")).startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in silent:
            sock.close()


def test_one_host_leaves_room_in_its_role() -> None:
    rooms = gate_rooms.Rooms({"launch over TLS": gate_rooms.CLIENTS})
    first: dict[str, int | None] = {"launch over TLS": None, "launch over TLS by 10.0.0.2": gate_rooms.OF_HOST}
    second: dict[str, int | None] = {"launch over TLS": None, "launch over TLS by 10.0.0.3": gate_rooms.OF_HOST}
    assert [rooms.enter(first) for _number in range(gate_rooms.OF_HOST)] == [""] * gate_rooms.OF_HOST
    assert rooms.enter(first) == f"{gate_rooms.OF_HOST} of launch over TLS by 10.0.0.2"
    assert rooms.enter(second) == ""
    rooms.leave(list(first))
    assert rooms.enter(first) == ""


@pytest.mark.parametrize("name", list(creations(run_body()))[:8])
def test_attacks_over_tls(far: Far, name: str) -> None:
    """What they are is told by test_docker_gate.py; here, that the same check is behind the other door."""
    data = request("POST", f"{API}/containers/create", creations(run_body())[name])
    for role, title in NAMES.items():
        assert far.ask(far.authority.issue(role, [title]), data).startswith(b"HTTP/1.1 403 "), role
    assert far.world.engine.changes() == []
    far.world.send_without(data)
    assert far.world.engine.changes()
