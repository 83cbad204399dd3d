"""The Docker gate over mutual TLS: the certificate of a client says which role it has."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from gate_attacks import creations
from gate_world import OWN, World, everything, request, run_body

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


@pytest.mark.parametrize("name", list(creations(run_body()))[:8])
def test_attacks_over_tls(far: Far, name: str) -> None:
    """What they are is told by test_docker_gate.py; here, that the same check is behind the other door."""
    data = request("POST", f"{API}/containers/create", creations(run_body())[name])
    for role, title in NAMES.items():
        assert far.ask(far.authority.issue(role, [title]), data).startswith(b"HTTP/1.1 403 "), role
    assert far.world.engine.changes() == []
    far.world.send_without(data)
    assert far.world.engine.changes()
