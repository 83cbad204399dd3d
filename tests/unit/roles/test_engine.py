"""The way to the engine in what the roles write: a socket and its group on one host, TLS and no group on several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plans import fact, specs

ROOT = Path(__file__).resolve().parents[3]
SOCKET = "unix:///run/docker.sock"
GOOD = {
    "not_after": 4_000_000_000,
    "names": ["10.0.0.6"],
    "key_id": "ca",
    "authority_key_id": "ca",
    "key_matches": True,
}
TLS = "/etc/docker/tls"


def planned(given: dict[str, Any]) -> dict[str, Any]:
    """The plan of a single host whose inventory sets what is given."""
    documented = {name for options in specs().values() for name in options}
    return fact(**{name: value for name, value in given.items() if name in documented})


def variables(role: str, **given: Any) -> dict[str, Any]:
    """What a role reads: its defaults and variables, the plan, what the host is like, and what is given."""
    loader = DataLoader()
    found: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        path = ROOT / "roles" / role / part / "main.yml"
        if path.exists():
            found.update(loader.load_from_file(str(path), trusted_as_template=True))
    facts = {"packages": {"docker.io": "20"}, "certificates": given.pop("certificates", {}), "container_root": 0}
    return {**found, "dagster_plan": planned(given), "dagster_host": facts, **given}


def value(role: str, name: str, **given: Any) -> Any:
    found = variables(role, **given)
    return Templar(loader=DataLoader(), variables=found).template(found[name])


def rendered(role: str, template: str, **given: Any) -> str:
    text = (ROOT / "roles" / role / "templates" / template).read_text(encoding="utf-8")
    templar = Templar(loader=DataLoader(), variables=variables(role, **given))
    return str(templar.template(trust_as_template(text), overrides={"trim_blocks": True}))


def test_engine_of_one_host_reads_what_it_did_before() -> None:
    assert value("docker", "__dagster_docker_tls") is False
    assert value("docker", "__dagster_docker_tls_due") == []
    assert "python3-cryptography" not in planned({})["packages"]["docker"]
    reads = value("docker", "__dagster_docker_reads")
    assert reads == ["/etc/docker/daemon.json", "/etc/systemd/system/docker.service.d"]


def test_engine_of_several_hosts() -> None:
    given = {"dagster_docker_tls_address": "10.0.0.6"}
    assert value("docker", "__dagster_docker_tls_due", **given) == ["there is none", "there is none"]
    both = {f"{TLS}/ca.pem": GOOD, f"{TLS}/cert.pem": GOOD}
    assert value("docker", "__dagster_docker_tls_due", certificates=both, **given) == []
    moved = value("docker", "__dagster_docker_tls_due", certificates=both, dagster_docker_tls_address="10.0.0.7")
    assert moved == ["it is not for 10.0.0.7"]
    reads = value("docker", "__dagster_docker_reads", **given)
    assert reads[2:] == [f"{TLS}/ca.pem", f"{TLS}/cert.pem", f"{TLS}/key.pem"]
    assert "python3-cryptography" in planned(given)["packages"]["docker"]
    text = rendered("docker", "etc/systemd/system/docker.service.d/10-dagster-tls.conf.j2", **given)
    assert " -H fd:// -H tcp://10.0.0.6:2376 --tlsverify " in text
    assert text.count("ExecStart=") == 2
    assert (
        value("docker", "__dagster_docker_tls_listen", dagster_docker_tls_address="fd00::6") == "tcp://[fd00::6]:2376"
    )


def test_certificates_that_are_brought_are_written_and_not_made() -> None:
    given = {"dagster_docker_tls_address": "10.0.0.6", "dagster_docker_tls_client_cert": "C\n"}
    pems = {"dagster_docker_tls_ca": "A\n\n", "dagster_docker_tls_cert": "B", "dagster_docker_tls_key": "K"}
    assert value("docker", "__dagster_docker_tls_due", **given) == []
    files = value("docker", "__dagster_docker_tls_files", **given, **pems)
    assert [(entry["dest"], entry.get("content")) for entry in files[:3]] == [
        (f"{TLS}/ca.pem", "A\n"),
        (f"{TLS}/cert.pem", "B\n"),
        (f"{TLS}/key.pem", "K\n"),
    ]
    assert [bool(entry.get("secret")) for entry in files[:3]] == [False, False, True]


@pytest.mark.parametrize("endpoint", [SOCKET, "tcp://10.0.0.6:2376"])
def test_services(endpoint: str) -> None:
    given: dict[str, Any] = {"dagster_docker_endpoint": endpoint}
    unit = "etc/systemd/system/dagster-webserver.service.j2"
    for text in (
        rendered("daemon", "etc/systemd/system/dagster-daemon.service.j2", **given),
        rendered("webserver", unit, read_only=False, **given),
    ):
        assert ("SupplementaryGroups=docker\n" in text) == (endpoint == SOCKET)
        assert "InaccessiblePaths" not in text
    reader = rendered("webserver", unit, read_only=True, **given)
    assert "SupplementaryGroups" not in reader
    assert "InaccessiblePaths=-/etc/dagster/docker\n" in reader
    assert "UnsetEnvironment=DOCKER_HOST DOCKER_TLS_VERIFY DOCKER_CERT_PATH\n" in reader
    environment = value("instance", "__dagster_environment", **given)
    assert environment["DOCKER_HOST"] == endpoint
    tls = {name: text for name, text in environment.items() if name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")}
    wanted = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/etc/dagster/docker"}
    assert tls == ({} if endpoint == SOCKET else wanted)


CA, CERT = "/etc/dagster/docker/ca.pem", "/etc/dagster/docker/cert.pem"


@pytest.mark.parametrize(
    ("certificates", "authority", "due"),
    [
        ({}, {}, "there is none"),
        ({CA: {**GOOD, "pem": "A"}, CERT: GOOD}, {**GOOD, "pem": "A"}, ""),
        ({CA: {**GOOD, "pem": "A"}, CERT: GOOD}, {**GOOD, "pem": "B"}, "the authority has a new certificate"),
        ({CA: {**GOOD, "pem": "A"}, CERT: GOOD}, {}, ""),
        ({CA: {**GOOD, "pem": "A"}, CERT: {**GOOD, "not_after": 1}}, {}, "it has ended"),
    ],
)
def test_certificate_of_a_client(certificates: dict[str, Any], authority: dict[str, Any], due: str) -> None:
    facts = {"dagster_host": {"certificates": {f"{TLS}/ca.pem": authority} if authority else {}}}
    given = {"certificates": certificates, "dagster_docker_ca_host": "run", "hostvars": {"run": facts}}
    assert value("instance", "__dagster_engine_due", **given) == due
    assert value("instance", "__dagster_engine_due", certificates=certificates) == "", "nobody signs for one host"


def test_pool_of_a_webserver() -> None:
    assert value("webserver", "__dagster_webserver_options")["db_pool_max_overflow"] == 20
    given = {"dagster_webserver_pool_overflow": "8"}
    assert value("webserver", "__dagster_webserver_options", **given)["db_pool_max_overflow"] == 8
    wider = {"dagster_webserver_options": {"db_pool_max_overflow": 30}}
    assert value("webserver", "__dagster_webserver_options", **given, **wider)["db_pool_max_overflow"] == 30
