"""Certificates that the user supplies: each mistake gets its sentence."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from ansible_collections.dataops.dagster.plugins.module_utils._host import certificates as certificates_of_host
from ansible_collections.dataops.dagster.plugins.modules import host_facts
from ansible_collections.dataops.dagster.plugins.plugin_utils import certificates

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


class Issued:
    """A certificate with its key, signed by another one or by itself."""

    def __init__(
        self, name: str, by: Issued | None = None, days: int = 365, usage: Any = None, address: str = "10.0.0.6"
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = by or self
        san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=400))
            .not_valid_after(NOW + datetime.timedelta(days=days))
            .add_extension(san, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.key.private_bytes(*form).decode()


@pytest.fixture(scope="module")
def ca() -> Issued:
    return Issued("ca", days=3000)


@pytest.fixture
def good(ca: Issued) -> dict[str, Any]:
    server, client = Issued("run", ca, usage=SERVER), Issued("ctl", ca, usage=CLIENT)
    return {
        "dagster_docker_tls_renew_days": "60",
        "dagster_docker_tls_ca": ca.pem,
        "dagster_docker_tls_cert": server.pem,
        "dagster_docker_tls_key": server.key_pem,
        "dagster_docker_tls_client_cert": client.pem,
        "dagster_docker_tls_client_key": client.key_pem,
    }


def problems(values: dict[str, Any], address: str = "10.0.0.6") -> list[str]:
    return certificates.supplied_problems(values, address, now=NOW)


def test_good_ones(good: dict[str, Any]) -> None:
    assert problems(good) == []
    assert problems({"dagster_docker_tls_renew_days": 60}) == []
    without = {**good, "dagster_docker_tls_cert": "", "dagster_docker_tls_key": ""}
    assert problems(without) == [], "an engine of your own"


def test_chain_over_an_intermediate(good: dict[str, Any], ca: Issued) -> None:
    middle = Issued("middle", ca)
    server = Issued("run", middle, usage=SERVER)
    values = {**good, "dagster_docker_tls_key": server.key_pem}
    assert problems({**values, "dagster_docker_tls_cert": server.pem + "\n" + middle.pem}) == []
    assert problems({**values, "dagster_docker_tls_cert": server.pem}) == [
        "dagster_docker_tls_cert was not signed by dagster_docker_tls_ca"
    ]


def test_one_of_them_is_missing(good: dict[str, Any]) -> None:
    assert problems({**good, "dagster_docker_tls_client_key": ""}) == [
        "dagster_docker_tls_client_key must be set as well, because dagster_docker_tls_ca is"
    ]


def test_mistakes(good: dict[str, Any], ca: Issued) -> None:
    cert, key = "dagster_docker_tls_client_cert", "dagster_docker_tls_client_key"

    def with_client(client: Issued) -> list[str]:
        return problems({**good, cert: client.pem, key: client.key_pem})

    assert with_client(Issued("x", ca, days=12, usage=CLIENT)) == [
        f"{cert} ends on 2026-12-06, in 12 days; supply a new one (dagster_docker_tls_renew_days is 60)"
    ]
    assert with_client(Issued("x", ca, days=-1, usage=CLIENT)) == [f"{cert} ended on 2026-11-23; supply a new one"]
    assert with_client(Issued("x", ca, usage=SERVER)) == [f"{cert} is not for clientAuth (extended key usage)"]
    assert with_client(Issued("x", Issued("ca"), usage=CLIENT)) == [f"{cert} was not signed by dagster_docker_tls_ca"]
    assert problems({**good, key: Issued("x").key_pem}) == [f"{key} does not belong to {cert}"]
    assert problems({**good, key: "hunter2"}) == [f"{key} is no private key in PEM form without a passphrase"]
    assert problems({**good, "dagster_docker_tls_ca": "x"}) == [
        "dagster_docker_tls_ca holds no certificate in PEM form"
    ]
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert problems({**good, cert: broken}) == [f"{cert} holds no certificate in PEM form"]
    assert problems(good, address="10.0.0.9") == [
        "dagster_docker_tls_cert is for 10.0.0.6; webservers and daemon reach the engine at 10.0.0.9 (dagster_address)"
    ]


def test_what_a_host_reads_of_its_own(tmp_path: Any, ca: Issued) -> None:
    server = Issued("run", ca)
    paths = {name: tmp_path / name for name in ("cert.pem", "key.pem", "other.pem", "text.pem")}
    for name, text in zip(paths, (server.pem, server.key_pem, ca.key_pem, "x"), strict=True):
        paths[name].write_text(text, encoding="utf-8")
    found = certificates_of_host.certificate(str(paths["cert.pem"]), str(paths["key.pem"]))
    assert found["names"] == ["10.0.0.6"]
    assert found["key_matches"]
    assert found["pem"] == server.pem
    assert found["not_after"] == int((NOW + datetime.timedelta(days=365)).timestamp())
    authority = certificates_of_host.certificate(str(paths["cert.pem"]), str(paths["other.pem"]))
    assert not authority["key_matches"]
    identifier = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert found["authority_key_id"] == identifier.hex()
    assert certificates_of_host.certificate(str(paths["text.pem"]), "") == {}
    asked = host_facts.asked(None, None, {str(paths["text.pem"]): "", str(paths["cert.pem"]): ""}, None)
    assert asked["certificates"].keys() == {str(paths["cert.pem"])}, "what cannot be read is left out"
