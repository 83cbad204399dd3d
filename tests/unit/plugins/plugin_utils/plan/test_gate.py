"""The Docker gate in the plan: where it listens, who has which role there, and what cannot be."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from plans import FACTS, LOCATION, component, groups, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import gate
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Reach

APART = groups(daemon=["a"], webserver=["a", "c"], run=["b"], code=["b"])
FOLDER = "/etc/docker-gate-dagster/tls"


def test_gate_on_the_host_of_the_services() -> None:
    found = plan().instance.way.handed()
    for service, role in (("daemon", "launch"), ("webserver", "inspect")):
        assert component(service).handed(FACTS)["gate"] == {
            "group": f"dagster_{role}",
            "environment": {"DOCKER_HOST": f"unix:///run/docker-gate-dagster/{role}.sock"},
            "remote": False,
        }
    assert found["certificates"] == {}
    assert found["groups"] == {"inspect": "dagster_inspect", "launch": "dagster_launch"}
    own = component("gate")
    assert (own.ports(), own.listening(), own.packages(FACTS), own.certificates()) == ([], {}, [], {})
    assert own.handed(FACTS)["users"] == ["dagster", "root"]


def test_gate_on_a_host_of_its_own() -> None:
    found = plan("a", APART).instance.way.handed()
    daemon = component("daemon", "a", APART).handed(FACTS)["gate"]
    assert daemon["remote"] is True
    assert daemon["environment"] == {
        "DOCKER_HOST": "tcp://10.0.0.2:2378",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/etc/dagster/gate/launch",
    }
    assert found["certificates"]["inspect"] == {
        "folder": "/etc/dagster/gate/inspect",
        "name": "inspect.docker-gate-dagster",
        "group": "dagster_inspect",
    }
    assert found["authority_host"] == "b"
    assert plan("c", APART).instance.way.handed()["groups"] == {"inspect": "dagster_inspect"}, "it has no daemon"
    own = component("gate", "b", APART)
    reach = Reach("engine", ("a", "c"))
    assert [(port.number, port.addresses, port.unit, port.reach) for port in own.ports()] == [
        (2378, ("10.0.0.2",), "docker-gate-dagster", reach)
    ]
    assert own.certificates() == {f"{FOLDER}/ca.pem": f"{FOLDER}/ca-key.pem", f"{FOLDER}/cert.pem": f"{FOLDER}/key.pem"}
    assert own.packages(FACTS) == ["python3-cryptography"]
    assert own.known_by() == ["a", "c"]
    assert own.handed(FACTS)["users"] == ["root"], "the host has no services"


def test_port_and_address_of_the_inventory() -> None:
    found = plan("a", APART, {"b": {"dagster_docker_tls_address": "fd00::1"}}, dagster_gate_port=2400)
    assert found.instance.way.environment("launch")["DOCKER_HOST"] == "tcp://[fd00::1]:2400"


def test_webservers_launch_where_nothing_is_queued() -> None:
    config = {"run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}}
    found = plan(dagster_config=config, dagster_daemon_fencing="lease_only")
    assert found.instance.way.roles == {"daemon": "launch", "webserver": "launch"}


def test_engine_that_the_user_names_has_no_gate() -> None:
    each = {host: {"dagster_docker_endpoint": "tcp://x:2376"} for host in "ac"}
    found = plan("a", APART, each, dagster_docker_tls_client_cert="PEM").instance
    assert [found.way.of_service(name) for name in ("daemon", "webserver")] == [{}, {}]
    assert found.way.handed()["own_engine"] is True
    assert found.environment["DOCKER_HOST"] == "tcp://x:2376"
    named = plan(dagster_docker_endpoint="unix:///run/other.sock")
    assert named.instance.way.roles["daemon"] == "launch", "the gate stands before that socket"
    assert (
        component("gate", dagster_docker_endpoint="unix:///run/other.sock").handed(FACTS)["engine"] == "/run/other.sock"
    )


def test_label_of_runs_on_an_engine_of_others() -> None:
    """Another Dagster may have runs there."""
    assert component("gate").handed({**FACTS, "packages": {"docker-ce": "1"}})["label"] == "dataops.dagster.run"
    assert component("gate").handed(FACTS)["label"] == "dagster/run_id"


def test_supplied_certificate_is_known_by_its_digest() -> None:
    text = base64.b64encode(b"certificate").decode()
    pem = f"words\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    found = gate.supplied_roles({"dagster_docker_tls_client_cert": pem})
    assert list(found.values()) == ["launch"]
    assert len(next(iter(found))) == 64
    assert gate.supplied_roles({"dagster_docker_tls_client_cert": "x"}) == {}
    given = {"dagster_docker_tls_client_cert": pem}
    (problem,) = component("gate", "b", APART, **given).host_problems(FACTS)
    assert problem.startswith("dagster_docker_tls_client_cert is set, but the gate of this host has no certificate")
    assert options("a", APART, **given)["dagster_docker_ca_host"] == ""


def limited(size: str) -> dict[str, Any]:
    return {"container_kwargs": {"mem_limit": size}}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ""),
        ({"dagster_gate_memory_mb": 4096}, ""),
        ({"dagster_gate_memory_mb": 999999}, "dagster_gate_memory_mb is 999999 MiB, and the host of the runs has"),
        (
            {"dagster_code_locations": [{**LOCATION, "container_context": limited("999g")}]},
            "dagster_code_locations[etl].container_context.container_kwargs.mem_limit is 1022976 MiB",
        ),
        (
            {"dagster_config": {"run_launcher": {"config": limited("999g")}}},
            "dagster_config.run_launcher.config.container_kwargs.mem_limit is 1022976 MiB",
        ),
        (
            {"dagster_config": {"run_launcher": {"config": {"container_kwargs": {"memswap_limit": "99g"}}}}},
            "half of dagster_config.run_launcher.config.container_kwargs.memswap_limit is 50688 MiB",
        ),
        (
            {"dagster_code_locations": [{**LOCATION, "shm_size": "9g"}]},
            "dagster_code_locations[etl].shm_size is 9216 MiB",
        ),
    ],
)
def test_memory_above_that_of_the_host(variables: dict[str, Any], words: str) -> None:
    problems = component("gate", **variables).host_problems({**FACTS, "memory_mb": 8192})
    assert len(problems) == bool(words)
    assert not words or problems[0].startswith(words)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"dagster_gate_memory_mb": 5}, "dagster_gate_memory_mb is 5; a run needs 64 at least, and 0 derives it"),
        ({"dagster_gate_pids_limit": 0}, "dagster_gate_pids_limit is 0; a run needs 16 at least"),
    ],
)
def test_limits_with_which_no_run_starts(variables: dict[str, Any], words: str) -> None:
    (problem,) = plan(**variables).problems()
    assert problem.startswith(words)


def test_gate_that_a_host_has_kept_is_named_with_its_removal() -> None:
    hosts = groups(run=["b"], code=["a", "b"])
    mark = component("gate", "b", hosts).mark()
    (warning,) = [text for text in plan("a", hosts).warnings({**FACTS, "paths": [mark]}) if "gate" in text]
    assert (
        "systemctl disable --now docker-gate-dagster.service; userdel dagster_gate; rm -r /etc/docker-gate-dagster"
        in warning
    )


def test_login_of_the_launcher_is_not_used() -> None:
    """The images are there before a run needs them, so whoever relies on it is told where the login belongs."""
    given = {"registry": {"url": "registry.example.com", "username": "deploy", "password": {"env": "REGISTRY"}}}
    everywhere = {
        "dagster_config": {"run_launcher": {"config": given}},
        "dagster_code_locations": [{**LOCATION, "container_context": {"docker": given}}],
    }
    said = [text for text in plan(**everywhere).warnings(FACTS) if "registry" in text]
    end = "Remove it; where a registry wants a login, set dagster_registries: ["
    assert [text.partition(" has no effect")[0] for text in said] == [
        "dagster_config.run_launcher.config.registry",
        f"dagster_code_locations[{LOCATION['name']}].container_context.registry",
    ]
    assert all(end in text for text in said)
    own = {"dagster_docker_endpoint": "tcp://engine.example.com:2376"}
    assert [text for text in plan(**everywhere, **own).warnings(FACTS) if "registry" in text] == []
