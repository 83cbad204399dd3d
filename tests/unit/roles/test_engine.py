"""The way to the engine in what the roles write: sockets of the gate on one host, its TLS on several."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plans import FACTS, fact, plan, specs

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import handed_on

ROOT = Path(__file__).resolve().parents[3]
SOCKET = "unix:///run/docker.sock"
GOOD = {
    "not_after": 4_000_000_000,
    "names": ["10.0.0.6", "launch.docker-gate-dagster"],
    "key_id": "ca",
    "authority_key_id": "ca",
    "key_matches": True,
}
TLS = "/etc/docker-gate-dagster/tls"
RECORD = "/usr/local/lib/dagster/installed/docker.io"
# Calls of role certificates: a role, its file of tasks, an entry point.
AUTHORITY, GATE, CLIENT = ("gate", "tls", "authority"), ("gate", "tls", "issue"), ("instance", "gate", "issue")
FOLDER = "/etc/dagster/gate/launch"
ROLE = {"folder": FOLDER, "group": "dagster_launch", "name": "launch.docker-gate-dagster"}


def documented(given: dict[str, Any]) -> dict[str, Any]:
    known = {name for options in specs().values() for name in options}
    return {name: value for name, value in given.items() if name in known}


def planned(given: dict[str, Any]) -> dict[str, Any]:
    """The plan of a single host whose inventory sets what is given."""
    return fact(**documented(given))


def options(role: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a role of that host reads as dagster.NAME."""
    host, derived = plan(**documented(given)).host, planned(given)["options"]
    return handed_on(specs(), [role], lambda name: host.chosen(name, derived.get(name, host.values[name])))


def variables(role: str, **given: Any) -> dict[str, Any]:
    """What a role reads: its defaults and variables, the plan, what the host is like, and what is given."""
    loader = DataLoader()
    found: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        path = ROOT / "roles" / role / part / "main.yml"
        if path.exists():
            found.update(loader.load_from_file(str(path), trusted_as_template=True))
    facts = {"packages": {"docker.io": "20"}, "certificates": given.pop("certificates", {}), "container_root": 0}
    return {**found, "dagster": options(role, given), "dagster_plan": planned(given), "dagster_host": facts, **given}


def value(role: str, name: str, **given: Any) -> Any:
    found = variables(role, **given)
    return Templar(loader=DataLoader(), variables=found).template(found[name])


def certificates(role: str, tasks: str, entry: str, **given: Any) -> dict[str, Any]:
    """What role certificates reads when a role calls an entry point of it."""
    loader = DataLoader()

    def load(path: str) -> Any:
        return loader.load_from_file(str(ROOT / "roles" / path), trusted_as_template=True)

    called = [task for task in load(f"{role}/tasks/{tasks}.yml") if "ansible.builtin.import_role" in task]
    (call,) = [task for task in called if task["ansible.builtin.import_role"]["tasks_from"] == entry]
    assert call["ansible.builtin.import_role"]["name"] == "dataops.dagster.certificates"
    own = {**load("certificates/defaults/main.yml"), **load("certificates/vars/main.yml"), **call["vars"]}
    found = {"inventory_hostname": "here", **variables(role, **given), **own}
    return {"hostvars": {"here": {"dagster_host": found["dagster_host"]}}, **found}


def of_certificates(name: str, *call: str, **given: Any) -> Any:
    found = certificates(*call, **given)
    return Templar(loader=DataLoader(), variables=found).template(found[name])


def supplied(*call: str, **given: Any) -> list[dict[str, Any]]:
    """The files that role certificates writes for a call with a supplied certificate."""
    path = ROOT / "roles/certificates/tasks/issue.yml"
    tasks = DataLoader().load_from_file(str(path), trusted_as_template=True)
    (files,) = [task["dataops.dagster.files"]["files"] for task in tasks if "dataops.dagster.files" in task]
    found: list[dict[str, Any]] = Templar(loader=DataLoader(), variables=certificates(*call, **given)).template(files)
    return found


def due(*call: str, **given: Any) -> Any:
    """Why role certificates would make what a role calls it for."""
    authority = call[-1] == "authority"
    return of_certificates(f"__dagster_certificates_{'authority_' if authority else ''}due", *call, **given)


def rendered(role: str, template: str, **given: Any) -> str:
    text = (ROOT / "roles" / role / "templates" / template).read_text(encoding="utf-8")
    templar = Templar(loader=DataLoader(), variables=variables(role, **given))
    return str(templar.template(trust_as_template(text), overrides={"trim_blocks": True}))


def test_engine_of_one_host_reads_what_it_did_before() -> None:
    assert value("docker", "__dagster_docker_tls") is False
    assert "python3-cryptography" not in planned({})["packages"]["docker"]
    reads = value("docker", "__dagster_docker_reads")
    assert reads == ["/etc/docker/daemon.json", "/etc/systemd/system/docker.service.d"]


def test_gate_of_several_hosts() -> None:
    given = {"dagster_docker_tls_address": "10.0.0.6"}
    assert due(*AUTHORITY, **given) == due(*GATE, **given) == "there is none"
    both = {f"{TLS}/ca.pem": GOOD, f"{TLS}/cert.pem": GOOD}
    assert due(*AUTHORITY, certificates=both, **given) == due(*GATE, certificates=both, **given) == ""
    assert due(*GATE, certificates=both, dagster_docker_tls_address="10.0.0.7") == "it is not for 10.0.0.7"
    other = {**both, f"{TLS}/ca.pem": {**GOOD, "key_id": "cb"}}
    assert due(*GATE, certificates=other, **given) == "another authority has signed it"
    soon = {**both, f"{TLS}/ca.pem": {**GOOD, "not_after": 1}}
    assert due(*AUTHORITY, certificates=soon, **given) == "it has ended"
    settings = value("gate", "__dagster_gate_settings", **given)
    assert settings["listen"] == {
        "address": "10.0.0.6",
        "port": 2378,
        "ca": f"{TLS}/ca.pem",
        "cert": f"{TLS}/cert.pem",
        "key": f"{TLS}/key.pem",
    }
    assert "python3-cryptography" in planned(given)["packages"]["gate"]


def test_engine_of_an_earlier_release_listens_until_it_is_closed() -> None:
    given = {"dagster_docker_tls_address": "10.0.0.6"}
    assert value("docker", "__dagster_docker_tls", **given) is False, "a new engine never does"
    there = {**planned(given), "docker": {**planned(given)["docker"], "listens": True}}
    assert value("docker", "__dagster_docker_tls", dagster_plan=there, **given) is True
    reads = value("docker", "__dagster_docker_reads", dagster_plan=there, **given)
    assert reads[2:] == [f"/etc/docker/tls/{name}.pem" for name in ("ca", "cert", "key")]
    text = rendered("docker", "etc/systemd/system/docker.service.d/10-dagster-tls.conf.j2", dagster_plan=there, **given)
    assert " -H fd:// -H tcp://10.0.0.6:2376 --tlsverify " in text
    assert text.count("ExecStart=") == 2
    assert (
        value("docker", "__dagster_docker_tls_listen", dagster_docker_tls_address="fd00::6") == "tcp://[fd00::6]:2376"
    )


def test_certificates_that_are_supplied_are_written_and_not_made() -> None:
    given = {"dagster_docker_tls_address": "10.0.0.6", "dagster_docker_tls_client_cert": "C\n"}
    pems = {"dagster_docker_tls_ca": "A\n\n", "dagster_docker_tls_cert": "B", "dagster_docker_tls_key": "K"}
    assert value("gate", "__dagster_gate_tls_supplied", **given, **pems) is True
    assert due(*GATE, **given, **pems) == ""
    assert of_certificates("__dagster_certificates_is_supplied", *GATE, **given, **pems) is True
    files = supplied(*GATE, **given, **pems)[1:]
    assert [(entry["dest"], entry.get("content")) for entry in files] == [
        (f"{TLS}/ca.pem", "A\n"),
        (f"{TLS}/cert.pem", "B\n"),
        (f"{TLS}/key.pem", "K\n"),
    ]
    assert [bool(entry.get("secret")) for entry in files] == [False, False, True]
    assert due(*CLIENT, **given, __dagster_gate_role=ROLE) == ""
    key = supplied(*CLIENT, **given, dagster_docker_tls_client_key="K", __dagster_gate_role=ROLE)[3]
    assert (key["dest"], key["owner"], key["group"], key["mode"], key["secret"]) == (
        f"{FOLDER}/key.pem",
        "root",
        "dagster_launch",
        "0440",
        True,
    )


WEBSERVER = "etc/systemd/system/dagster-webserver.service.j2"
DAEMON = "etc/systemd/system/dagster-daemon.service.j2"


def test_services() -> None:
    daemon, webserver = rendered("daemon", DAEMON), rendered("webserver", WEBSERVER, read_only=False)
    assert "SupplementaryGroups=dagster_launch\n" in daemon
    assert (
        "/usr/bin/env DOCKER_HOST=unix:///run/docker-gate-dagster/launch.sock /opt/dagster/current/bin/python" in daemon
    )
    assert "SupplementaryGroups=dagster_inspect\n" in webserver
    assert "DOCKER_HOST=unix:///run/docker-gate-dagster/inspect.sock /usr/bin/python3" in webserver
    for text in (daemon, webserver):
        assert "InaccessiblePaths" not in text
        assert "After=docker-gate-dagster.service\n" in text
    reader = rendered("webserver", WEBSERVER, read_only=True)
    assert "SupplementaryGroups" not in reader
    assert "DOCKER_HOST=" not in reader
    assert "InaccessiblePaths=-/etc/dagster/docker -/etc/dagster/gate -/run/docker-gate-dagster\n" in reader
    assert "UnsetEnvironment=DOCKER_HOST DOCKER_TLS_VERIFY DOCKER_CERT_PATH\n" in reader


def test_services_of_an_engine_without_a_gate() -> None:
    given: dict[str, Any] = {"dagster_docker_endpoint": "tcp://10.0.0.6:2376", "dagster_docker_tls_client_cert": "x"}
    for text in (rendered("daemon", DAEMON, **given), rendered("webserver", WEBSERVER, read_only=False, **given)):
        assert "SupplementaryGroups" not in text
        assert "DOCKER_HOST" not in text
    environment = value("instance", "__dagster_environment", **given)
    assert environment["DOCKER_HOST"] == "tcp://10.0.0.6:2376"
    assert environment["DOCKER_CERT_PATH"] == "/etc/dagster/docker"
    assert value("instance", "__dagster_engine_remote", **given) is True
    assert value("instance", "__dagster_engine_remote") is False


CA, CERT = f"{FOLDER}/ca.pem", f"{FOLDER}/cert.pem"


@pytest.mark.parametrize(
    ("certificates", "authority", "reason"),
    [
        ({}, {}, "there is none"),
        ({CA: {**GOOD, "pem": "A"}, CERT: GOOD}, {**GOOD, "pem": "A"}, ""),
        ({CA: {**GOOD, "pem": "A"}, CERT: GOOD}, {**GOOD, "pem": "B"}, "the authority has a new certificate"),
        ({CA: {**GOOD, "pem": "A"}, CERT: GOOD}, {}, ""),
        ({CA: {**GOOD, "pem": "A"}, CERT: {**GOOD, "not_after": 1}}, {}, "it has ended"),
    ],
)
def test_certificate_of_a_client(certificates: dict[str, Any], authority: dict[str, Any], reason: str) -> None:
    """A play that leaves the authority's host out knows nothing of it, and trusts what is on this host."""
    facts = {"dagster_host": {"certificates": {f"{TLS}/ca.pem": authority} if authority else {}}}
    given = {"certificates": certificates, "dagster_docker_ca_host": "run", "__dagster_gate_role": ROLE}
    assert due(*CLIENT, hostvars={"run": facts}, **given) == reason
    if not authority:
        assert due(*CLIENT, hostvars={"run": {}}, **given) == reason, "a host that no play has looked at"


@pytest.mark.parametrize("call", [AUTHORITY, GATE, CLIENT], ids=" ".join)
def test_days_before_its_end_in_which_a_certificate_is_renewed(call: tuple[str, str, str]) -> None:
    ends = {**GOOD, "not_after": time.time() + 90.5 * 86400, "pem": "A"}
    read = dict.fromkeys([f"{TLS}/ca.pem", f"{TLS}/cert.pem", CA, CERT], ends)
    given = {"certificates": read, "dagster_docker_tls_address": "10.0.0.6", "__dagster_gate_role": ROLE}
    assert due(*call, **given) == ""
    assert due(*call, dagster_docker_tls_renew_days="90", **given) == ""
    assert due(*call, dagster_docker_tls_renew_days="91", **given) == "it ends in 90 days"


def test_nobody_signs_for_one_host() -> None:
    tasks = DataLoader().load_from_file(str(ROOT / "roles/instance/tasks/certificates.yml"), trusted_as_template=True)
    for task in tasks:
        templar = Templar(loader=DataLoader(), variables=variables("instance"))
        assert templar.evaluate_conditional(task["when"]) is False, task["name"]


def test_pool_of_a_webserver() -> None:
    assert value("webserver", "__dagster_webserver_options")["db_pool_max_overflow"] == 20
    given = {"dagster_webserver_pool_overflow": "8"}
    assert value("webserver", "__dagster_webserver_options", **given)["db_pool_max_overflow"] == 8
    wider = {"dagster_webserver_options": {"db_pool_max_overflow": 30}}
    assert value("webserver", "__dagster_webserver_options", **given, **wider)["db_pool_max_overflow"] == 30


PRUNE = f"docker --host {SOCKET} container prune --force --filter label=dataops.dagster.run --filter until=72h"


def commands(**given: Any) -> list[str]:
    """What the timer runs."""
    text = rendered("docker", "etc/systemd/system/prune-dagster-runs.service.j2", **given)
    return [line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart=")]


@pytest.mark.parametrize(("made", "hours", "until"), [(100, 0, 100 + 86400), (10**10, 72, -72)])
def test_age_of_runs_from_before_our_label(tmp_path: Path, made: int, hours: int, until: int) -> None:
    """What the shell makes of the command: the older one of the record and of the age at which runs go."""
    record, program = tmp_path / "docker.io", tmp_path / "docker"
    record.touch()
    os.utime(record, (made, made))
    program.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    plain = commands(dagster_docker_run_retention_hours=hours)[1].replace("$$", "$").replace("%%", "%")
    script = plain.removeprefix("/bin/sh -c '").removesuffix("'").replace(RECORD, str(record))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout
    found = int(said.rpartition("until=")[2])
    assert abs(found - (until if until > 0 else time.time() + until * 3600)) < 60


def test_engine_of_somebody_else_gets_no_settings_and_is_not_started() -> None:
    engine = {"packages": {"bash": "1", "docker.io": "1"}, "paths": ["/etc/docker/daemon.json"]}
    found = {"dagster_plan": plan().as_fact({**FACTS, **engine})}
    assert value("docker", "__dagster_docker_files", **found) == []
    assert value("docker", "__dagster_docker_engine_unit", **found) == []
    assert commands(**found) == [PRUNE], "another Dagster may have runs on it"
    (unit,) = value("docker", "__dagster_docker_timer", **found)
    assert unit["name"] == "prune-dagster-runs.timer"


def test_engine_of_ours_prunes_also_runs_from_before_our_label() -> None:
    """And none of another Dagster that somebody has added since."""
    first, old = commands()
    assert first == PRUNE
    assert f"first=$$(($$(stat -c %%Y {RECORD}) + 86400));" in old
    assert old.endswith("--filter label=dagster/run_id --filter until=$$((first < old ? first : old))'")
    (unit,) = value("docker", "__dagster_docker_engine_unit")
    assert unit["name"] == "docker.service"
    assert "/etc/docker/daemon.json" in [entry["dest"] for entry in value("docker", "__dagster_docker_files")]


def test_key_for_an_engine_without_a_gate_is_for_the_services_alone() -> None:
    """Whoever has it is root of the engine's host."""
    given = {
        "dagster_docker_endpoint": "tcp://engine.example.com:2376",
        "dagster_docker_tls_ca": "authority",
        "dagster_docker_tls_client_cert": "certificate",
        "dagster_docker_tls_client_key": "key",
    }
    files = {entry["dest"].rpartition("/")[2]: entry for entry in supplied("instance", "engine", "issue", **given)}
    key = files["key.pem"]
    assert (key["owner"], key["group"], key["mode"]) == ("dagster", "dagster", "0400")
