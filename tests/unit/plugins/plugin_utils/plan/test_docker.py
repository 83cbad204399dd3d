"""The engine of the runs: where the services of each host reach it, and by whose certificates."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, component, groups, inventory, options, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import docker

SOCKET = "unix:///run/docker.sock"


def test_engine_on_a_host_of_its_own() -> None:
    """What units of an earlier release read: until they are replaced they may be started with it."""
    hosts = groups(run=["b"])
    engine = plan("b", hosts)
    of_stack, of_engine = options("a", hosts), options("b", hosts)
    assert of_stack["dagster_docker_endpoint"] == "tcp://10.0.0.2:2376"
    assert (of_stack["dagster_docker_ca_host"], of_stack["dagster_docker_tls_address"]) == ("b", "")
    assert docker.endpoint(engine.host, engine.inventory) == SOCKET
    assert of_engine["dagster_docker_tls_address"] == "10.0.0.2"
    assert of_stack["dagster_docker_socket"] == of_engine["dagster_docker_socket"] == SOCKET
    assert "/etc/docker/tls/ca.pem" in engine.certificates()


def test_engine_of_a_single_host_is_reached_at_its_socket() -> None:
    found = options()
    assert found["dagster_docker_endpoint"] == found["dagster_docker_socket"] == SOCKET
    assert found["dagster_docker_ca_host"] == found["dagster_docker_tls_address"] == ""
    assert plan().certificates() == {}
    assert options("a", groups(proxy=["b"], database=["b"], code=["b"]))["dagster_docker_tls_address"] == ""


def test_certificates_that_are_supplied_are_signed_by_nobody() -> None:
    found = options("a", groups(run=["b"]), dagster_docker_tls_client_cert="x")
    assert (found["dagster_docker_endpoint"], found["dagster_docker_ca_host"]) == ("tcp://10.0.0.2:2376", "")
    remote = options("a", groups(run=["b"]), dagster_docker_endpoint="tcp://c:1")
    assert remote["dagster_docker_socket"] == SOCKET


def test_socket_that_is_set_is_that_of_the_hosts_own_engine() -> None:
    assert options(dagster_docker_endpoint="unix:///x.sock")["dagster_docker_socket"] == "unix:///x.sock"
    assert options(dagster_docker_socket="unix:///y.sock")["dagster_docker_socket"] == "unix:///y.sock"


@pytest.mark.parametrize(
    ("address", "port", "endpoint"),
    [("fd00::1", 2376, "tcp://[fd00::1]:2376"), ("run.example.com", "2377", "tcp://run.example.com:2377")],
)
def test_endpoint_of_an_address(address: str, port: Any, endpoint: str) -> None:
    each = {"b": {"dagster_address": address}}
    found = options("a", groups(run=["b"]), each, dagster_docker_tls_port=port)
    assert found["dagster_docker_endpoint"] == endpoint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"dagster_docker_network_subnet": "10.1.0.0/24"}, []),
        ({"dagster_docker_network_subnet": "172.30.0.1/24"}, ["has host bits set; for example 172.30.0.0/24"]),
        ({"dagster_docker_network_subnet": "172.30.0.0/31"}, ["172.30.0.0/31 has no room for containers"]),
        ({"dagster_docker_bridge_address": "docker0"}, ["dagster_docker_bridge_address: 'docker0' does not appear"]),
        (
            {"dagster_docker_bridge_address": "172.30.0.1/16"},
            ["dagster_docker_network_subnet 172.30.0.0/24 overlaps dagster_docker_bridge_address 172.30.0.0/16"],
        ),
    ],
)
def test_networks_of_containers(changes: dict[str, Any], words: list[str]) -> None:
    problems = component("docker", **changes).network_problems()
    assert len(problems) == (1 if words else 0), problems
    assert all(word in problems[0] for word in words), problems
    assert plan(**changes).problems() == problems


TWO_HOSTS = groups(daemon=["a"], webserver=["a", "c"], run=["b"])


@pytest.mark.parametrize(
    ("endpoints", "supplied", "words"),
    [
        ({}, "", ""),
        ({"a": "tcp://x:2376", "c": "tcp://x:2376"}, "PEM", ""),
        ({"a": "tcp://x:2376", "c": "tcp://x:2376"}, "", "an engine that this collection does not set up; supply"),
        ({"a": "tcp://x:2376", "c": "tcp://y:2376"}, "PEM", "differs (tcp://x:2376 on a, tcp://y:2376 on c); with two"),
        ({"a": "tcp://x:2376"}, "PEM", "differs (tcp://x:2376 on a, none on c)"),
        (dict.fromkeys("ac", "unix:///run/docker.sock"), "", "but runs start on b: two engines for one instance"),
        (dict.fromkeys("ac", "ssh://x"), "PEM", "is reached at tcp://ADDRESS:PORT"),
    ],
)
def test_engine(endpoints: dict[str, str], supplied: str, words: str) -> None:
    each = {host: {"dagster_docker_endpoint": endpoint} for host, endpoint in endpoints.items()}
    found = inventory(TWO_HOSTS, each, dagster_docker_tls_client_cert=supplied)
    problems = docker.endpoint_problems(found.hosts["a"], found)
    assert len(problems) == bool(words), problems
    assert not words or words in problems[0]
    assert docker.endpoint_problems(found.hosts["b"], found) == []
    for endpoint, said in {
        "unix:///run/docker.sock": "",
        "tcp://x:1": "" if supplied else "an engine that this collection does not set up; supply",
        "10.0.0.5": "an engine is at tcp://ADDRESS:PORT, or at unix:///PATH on this host",
        "ssh://x": "an engine is at tcp://ADDRESS:PORT, or at unix:///PATH on this host",
    }.items():
        one = inventory(None, {"a": {"dagster_docker_endpoint": endpoint}}, dagster_docker_tls_client_cert=supplied)
        problems = docker.endpoint_problems(one.hosts["a"], one)
        assert [said in problem for problem in problems] == [True] * bool(said), "on the engine's own host"


@pytest.mark.parametrize("package", ["docker.io", "docker-ce"])
def test_engine_of_another_source_is_used_behind_the_gate(package: str) -> None:
    """Hosts that reach it over the network reach the gate, so its settings can stay as they are."""
    facts = {**FACTS, "packages": {package: "1"}}
    assert component("docker", "b", TWO_HOSTS).host_problems(facts) == []
    assert component("gate", "b", TWO_HOSTS).host_problems(facts) == []
    assert component("docker").host_problems(facts) == []


def test_engine_listens_until_its_clients_ask_the_gate() -> None:
    facts = {**FACTS, "paths": [docker.LISTENS, "/etc/systemd/system/prune-dagster-runs.timer"]}
    found = component("docker", "b", TWO_HOSTS)
    assert docker.LISTENS in found.paths()
    assert found.handed(facts)["listens"] is True
    assert found.handed(FACTS)["listens"] is False, "a new engine never does"
    assert found.handed({**facts, "packages": {"docker-ce": "1"}})["listens"] is False
    assert [port for port in plan("b", TWO_HOSTS).ports() if port.number == 2376] == []


def test_certificates_of_an_engine_that_was_closed_go() -> None:
    """The play may have been killed between closing it and their removal."""
    mark, key = "/etc/systemd/system/prune-dagster-runs.timer", f"{docker.TLS_FOLDER}/key.pem"
    found = component("docker", "b", TWO_HOSTS)
    assert {*docker.TLS_FILES} <= {*found.paths()}
    assert found.handed({**FACTS, "paths": [mark, key]})["left"] is True
    for paths in ([mark], [mark, key, docker.LISTENS], [key]):
        assert found.handed({**FACTS, "paths": paths})["left"] is False, paths
    assert found.handed({**FACTS, "paths": [mark, key], "packages": {"docker-ce": "1"}})["left"] is False


def test_packages_of_an_engine() -> None:
    """Nothing is installed over one from another source."""
    engine = ["python3-docker", "docker.io", "containerd", "runc", "iptables"]
    hosts = groups(run=["b"])
    assert component("docker").packages(FACTS) == engine
    assert component("docker", "b", hosts).packages(FACTS) == engine
    foreign = {**FACTS, "packages": {"moby-engine": "1"}}
    assert component("docker", "b", hosts).packages(foreign) == ["python3-docker"]
    assert component("docker").handed(foreign)["foreign"] is True
