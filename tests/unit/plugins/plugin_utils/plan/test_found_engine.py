"""The engine that a host was found with: whose it is, what makes it impossible, and what it cannot promise."""

from __future__ import annotations

from typing import Any

import pytest
from plans import ENGINE, FACTS, component, groups, plan

SOCKET = "unix:///run/docker.sock"
FOLDER = "/usr/local/lib/dagster/installed"
WHOLE = f"{FOLDER}/.complete"
TIMER = "/etc/systemd/system/prune-dagster-runs.timer"


def facts(packages: tuple[str, ...] = ("docker.io",), paths: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    """A host with these packages and paths, whose engine differs in the rest from the one above."""
    engine = {**ENGINE, **changes}
    return {**FACTS, "packages": {"bash": "1", **dict.fromkeys(packages, "1")}, "paths": list(paths), "engine": engine}


@pytest.mark.parametrize(
    ("packages", "paths", "foreign"),
    [
        ((), (), ""),
        (("docker.io",), (), "docker.io"),
        (("docker-ce",), (), "docker-ce"),
        ((), ("/usr/local/bin/dockerd",), "/usr/local/bin/dockerd"),
        ((), ("/etc/docker/daemon.json",), "/etc/docker/daemon.json"),
        # The record decides, whatever is there now.
        (("docker.io",), (WHOLE, f"{FOLDER}/docker.io"), ""),
        ((), (WHOLE, f"{FOLDER}/docker.io", "/etc/docker/daemon.json"), ""),
        (("docker.io",), (WHOLE, TIMER), "docker.io"),
        # A deployment from before the record.
        (("docker.io",), (TIMER, "/etc/docker/daemon.json", "/usr/sbin/dockerd"), ""),
        # Its first record was not finished.
        (("docker.io",), (TIMER, FOLDER), ""),
        (("docker-ce",), (TIMER, "/usr/bin/dockerd"), "docker-ce"),
        # Somebody has put another engine in the place of ours.
        (("docker-ce",), (WHOLE, f"{FOLDER}/docker.io"), "docker-ce"),
    ],
)
def test_whose_the_engine_is(packages: tuple[str, ...], paths: tuple[str, ...], foreign: str) -> None:
    host = {**facts(packages, paths), "engine": {}}
    found = component("docker")
    assert found.foreign(host) == foreign
    assert found.handed(host)["foreign"] is bool(foreign)
    engine = {"docker.io", "containerd", "runc", "iptables"}
    assert engine.intersection(found.packages(host)) == (set() if foreign else engine)
    assert ("docker.io" in plan().ours(host)) is not bool(foreign)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"root": 165536, "live_restore": True, "log_driver": "journald"}, ""),
        ({"product": "Podman"}, "Podman answers in the place of Docker"),
        ({"rootless": True}, "a rootless engine cannot mount our files"),
        ({"folder": "/var/snap/docker/common/var-lib-docker"}, "an engine from a snap cannot mount our files"),
        ({"version": "19.03.15", "api": "1.40"}, "the engine is Docker 19.03.15. Run Docker 20.10 or newer"),
        ({"api": "1.51"}, ""),
        ({"group": "root"}, "the socket belongs to the group root"),
    ],
)
def test_only_what_makes_us_impossible_is_refused(changes: dict[str, Any], words: str) -> None:
    problems = component("docker").host_problems(facts(**changes))
    assert len(problems) == bool(words), problems
    assert not words or (words in problems[0] and f"dagster_docker_socket {SOCKET}" in problems[0])
    ours = facts(paths=(WHOLE, f"{FOLDER}/docker.io"), **changes)
    assert component("docker").host_problems(ours) == [], "our own engine is as our role has left it"


def test_engine_that_is_there_and_does_not_answer() -> None:
    """To start it would start somebody else's containers."""
    (problem,) = component("docker").host_problems({**facts(), "engine": {}})
    assert (
        "the host has docker.io, which is not ours, and no engine answers. Start it, or remove it with its" in problem
    )
    (problem,) = component("docker").host_problems({**facts(("podman-docker",)), "engine": {}})
    assert "Podman answers in the place of Docker" in problem
    assert component("docker").host_problems({**FACTS, "engine": {}}) == [], "a bare host"


def test_old_engine_that_only_its_socket_would_start() -> None:
    """docker.socket is active and docker.service is not: nobody has asked it, because that would start containers."""
    asleep, found = {**facts(), "engine": {}}, component("docker")
    (problem,) = found.host_problems(asleep)
    assert "no engine answers. Start it" in problem
    assert found.host_warnings(asleep) == [], "what it would be is not known"
    ours = {**facts(paths=(WHOLE, f"{FOLDER}/docker.io", TIMER)), "engine": {}}
    assert (found.host_problems(ours), found.host_warnings(ours)) == ([], []), "role docker starts our own"
    assert (found.foreign(ours), found.handed(ours)["foreign"]) == ("", False)


def test_engine_of_others_without_live_restore_is_used_and_said() -> None:
    host = facts(paths=("/etc/systemd/system/multi-user.target.wants/docker.service",), root=1, log_driver="journald")
    found = component("docker")
    assert found.host_problems(host) == []
    (said,) = found.host_warnings(host)
    assert said.endswith("stays as it is: its restart ends code servers and runs (live-restore is off)")
    assert found.handed(host)["foreign"] is True, "role docker neither changes nor restarts it"


def test_group_of_the_socket_counts_where_the_gate_uses_it() -> None:
    hosts = groups(run=["b"], code=["b", "c"])
    assert component("docker", "c", hosts).host_problems(facts(group="root")) == []
    (problem,) = component("docker", "b", hosts).host_problems(facts(group="root"))
    assert "belongs to the group root, and our gate gets the group docker" in problem


def test_engine_is_asked_at_its_socket() -> None:
    assert plan().questions()["engine"] == SOCKET
    assert plan(dagster_docker_socket="tcp://10.0.0.9:2375").questions()["engine"] is None
    assert plan("b", groups(proxy=["b"])).questions()["engine"] is None


def test_what_somebody_elses_engine_cannot_promise_is_said_once() -> None:
    (said,) = plan().warnings(facts())
    assert said.startswith("the Docker engine (docker.io, 20.10.24+dfsg1) is not ours and stays as it is: ")
    for words in ("live-restore is off", "userns-remap is off", "its log driver is json-file", "is not enabled"):
        assert words in said
    variables = {"dagster_docker_config": {"debug": True}, "dagster_docker_userns_remap": True}
    (said,) = plan(**variables).warnings(facts())
    assert "dagster_docker_config, dagster_docker_userns_remap would be its settings and have no effect" in said
    enabled = ("/etc/systemd/system/multi-user.target.wants/docker.service",)
    best = facts(paths=enabled, root=165536, live_restore=True, log_driver="journald")
    assert plan().warnings(best) == ["the Docker engine (docker.io, 20.10.24+dfsg1) is not ours and stays as it is"]
    assert plan(**variables).warnings(facts(paths=(WHOLE, f"{FOLDER}/docker.io"))) == []
    assert plan().warnings(FACTS) == []


def test_engine_of_somebody_else_that_listens_is_said() -> None:
    """Whoever reaches it there has all of the engine, whatever our gate refuses."""
    dockerd = {"process": "dockerd", "unit": "docker.service"}
    listeners = [{**dockerd, "address": "0.0.0.0", "port": port} for port in (2377, 2375)]
    listeners += [{**dockerd, "address": "::1", "port": 2376}, {**dockerd, "process": "x", "address": "::", "port": 1}]
    (said,) = plan().warnings({**facts(), "listeners": listeners})
    assert "it listens at 0.0.0.0:2375, [::1]:2376, where a client has all of it, past our gate; take hosts out" in said
    (said,) = plan().warnings({**facts(), "listeners": listeners[:1]})
    assert "it listens at" not in said, "the members of a swarm"


def networks(*others: dict[str, Any]) -> list[dict[str, Any]]:
    return [*ENGINE["networks"], *others]


@pytest.mark.parametrize(
    ("changes", "variables", "words"),
    [
        ({}, {}, []),
        ({}, {"dagster_docker_network_subnet": "172.17.8.0/24"}, ["172.17.8.0/24 overlaps 172.17.0.0/16", "bridge"]),
        (
            {"networks": networks({"name": "shop", "subnets": ["172.30.0.0/16"], "ours": False})},
            {},
            ["dagster_docker_network_subnet: 172.30.0.0/24 overlaps 172.30.0.0/16, the network shop of the engine"],
        ),
        (
            {"networks": networks({"name": "dagster", "subnets": ["10.5.0.0/24"], "ours": False})},
            {},
            ["dagster_docker_network is dagster, and the engine has a network of that name which is not ours"],
        ),
        ({"networks": networks({"name": "dagster", "subnets": ["172.30.0.0/24"], "ours": True})}, {}, []),
        ({"networks": networks({"name": "dagster", "subnets": ["172.31.9.0/24"], "ours": True})}, {}, []),
        ({"networks": networks({"name": "six", "subnets": ["fd00::/64"], "ours": False})}, {}, []),
    ],
)
def test_networks_of_the_engine(changes: dict[str, Any], variables: dict[str, Any], words: list[str]) -> None:
    problems = component("docker", **variables).host_problems(facts(**changes))
    assert len(problems) == bool(words), problems
    assert all(word in problems[0] for word in words), problems


@pytest.mark.parametrize(
    ("subnet", "address", "refused"),
    [
        ("172.30.0.0/24", "172.30.0.1", False),
        ("172.30.0.0/24", "172.30.0.254", True),  # with another gateway
        ("10.5.0.0/24", "10.5.0.1", True),
        ("10.5.0.0/24", "172.30.0.1", True),  # it is that of the network with the name before
    ],
)
def test_network_of_somebody_else_is_refused_to_a_deployment_too(subnet: str, address: str, refused: bool) -> None:
    """Role docker would make it anew, and cut off its containers."""
    theirs = networks({"name": "shop", "subnets": [subnet], "ours": False})
    for paths in ((TIMER,), ()):
        host = {**facts(paths=paths, networks=theirs), "addresses": ["10.0.0.1", address]}
        problems = component("docker", dagster_docker_network="shop").host_problems(host)
        assert len(problems) == (refused or not paths), problems
        assert not problems or "dagster_docker_network is shop, and the engine has a network" in problems[0]


@pytest.mark.parametrize(
    ("packages", "paths", "refused"),
    [
        (("containerd.io",), (), True),
        (("containerd.io",), (FOLDER, f"{FOLDER}/docker.io"), True),
        (("containerd.io", "docker-ce"), (), False),
        (("containerd",), (), False),
        (("containerd", "docker.io"), (FOLDER, f"{FOLDER}/docker.io"), False),
        (("containerd.io",), ("/usr/local/bin/dockerd",), False),  # an engine is there, none is installed
    ],
)
def test_containerd_of_somebody_else_is_not_pushed_out(
    packages: tuple[str, ...], paths: tuple[str, ...], refused: bool
) -> None:
    runs = {"docker-ce", "docker.io", "/usr/local/bin/dockerd"}.intersection((*packages, *paths))
    problems = component("docker").host_problems({**facts(packages, paths), **({} if runs else {"engine": {}})})
    assert len(problems) == refused, problems
    assert not refused or "the host has the package containerd.io without docker-ce" in problems[0]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"networks": {"10.0.0.0/24": "eth0"}}, []),
        ({"networks": {"172.30.0.0/16": "eth1"}}, ["dagster_docker_network_subnet: ", "the network of eth1"]),
        ({"networks": {"172.29.0.0/20": "eth1"}}, ["dagster_docker_bridge_address: ", "the network of eth1"]),
        ({"networks": {"172.29.0.0/24": "docker0", "172.30.0.0/24": "br-0123456789ab"}}, []),
        ({"routed": ["172.30.0.0/16"]}, ["dagster_docker_network_subnet: ", "to which the host has a route"]),
        ({"routed": ["172.16.0.0/12"]}, []),
    ],
)
def test_networks_of_the_host(host: dict[str, Any], words: list[str]) -> None:
    problems = component("docker").host_problems({**FACTS, "engine": {}, **host})
    assert len(problems) == bool(words), problems
    assert all(word in problems[0] for word in words), problems
    deployed = {**FACTS, "engine": {}, **host, "paths": [TIMER]}
    assert [each for each in component("docker").host_problems(deployed) if "bridge" in each] == []


def test_address_of_docker0_is_not_asked_of_somebody_elses_engine() -> None:
    assert component("docker").host_problems({**facts(), "networks": {"172.29.0.0/20": "eth1"}}) == []


def test_address_of_a_host_inside_the_network_of_containers() -> None:
    (problem,) = plan(dagster_docker_network_subnet="10.0.0.0/24").problems()
    assert problem.startswith("dagster_docker_network_subnet 10.0.0.0/24 holds the address 10.0.0.1 of a; choose")


@pytest.mark.parametrize(
    ("name", "address", "port", "words"),
    [
        ("shop", "0.0.0.0", 9000, ""),
        (
            "shop",
            "0.0.0.0",
            4000,
            "port 4000 is held by the container shop on 0.0.0.0; stop it or change dagster_code_",
        ),
        ("shop", "127.0.0.1", 8080, "stop it or change dagster_nginx_port"),
        ("shop", "10.0.0.1", 4000, ""),
        ("dagster-code-etl", "0.0.0.0", 9000, "the engine has a container dagster-code-etl, which is not ours"),
    ],
)
def test_containers_of_somebody_else(name: str, address: str, port: int, words: str) -> None:
    """The engine's unit holds the ports of all containers, or no process does: it may forward them in the kernel."""
    held = [{"name": name, "published": [{"address": address, "port": port}]}]
    listener = {"port": port, "address": address, "process": "docker-proxy", "unit": "docker.service"}
    for listeners in ([], [listener] if port == 4000 else []):
        for paths in ((), (TIMER, "/etc/dagster/containers")):
            host = {**facts(paths=paths, containers=held), "listeners": listeners}
            problems = plan().host_problems(host, 0, 1)
            assert len(problems) == bool(words), problems
            assert not words or words in problems[0]


def test_port_that_a_listener_shows_is_told_once() -> None:
    held = [{"name": "shop", "published": [{"address": "0.0.0.0", "port": 8080}]}]
    listener = {"port": 8080, "address": "0.0.0.0", "process": "docker-proxy", "unit": "docker.service"}
    (problem,) = plan().host_problems({**facts(containers=held), "listeners": [listener]}, 0, 1)
    assert "port 8080 is held by docker-proxy of docker.service" in problem
