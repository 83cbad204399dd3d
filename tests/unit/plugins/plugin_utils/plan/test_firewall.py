"""Who may reach the ports of a host, as its components say, and what is wrong with what the inventory adds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from plans import ENGINE, FACTS, VARIABLES, component, groups, plan

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.firewall import family

ROOT = Path(__file__).resolve().parents[5]
C = {"resolved": {"c.example.com": ["10.0.0.3"]}}
APART = groups(database=["c"], webserver=["b"], daemon=["a"], code=["a"], run=["c"], proxy=["b"])


def handed(host: str, *given: Any, facts: dict[str, Any] | None = None, **variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = component("firewall", host, *given, **variables).handed({**FACTS, **C, **(facts or {})})
    return found


def sources(found: dict[str, Any]) -> dict[str, list[str]]:
    return {group["name"]: [*group["v4"], *group["v6"]] for group in found["groups"]}


def test_one_host_lets_nobody_in_but_its_containers() -> None:
    found = handed("a")
    assert sources(found) == {"code": [], "database": ["172.30.0.0/23"], "webserver": []}
    assert {group["name"]: group["places"] for group in found["groups"]} == {
        "code": [{"ports": [4000], "closing": [], "v4": ["127.0.0.1"], "v6": []}],
        "database": [{"ports": [5432], "closing": [], "v4": ["127.0.0.1", "172.30.0.1"], "v6": []}],
        "webserver": [{"ports": [3000, 3001, 13000, 13001], "closing": [], "v4": ["127.0.0.1"], "v6": []}],
    }
    assert [group["name"] for group in found["groups"] if group["published"]] == ["code"]
    assert (found["runs"], found["run_ports"], found["elsewhere"]) == ("172.30.0.0/24", [5432], [])


def test_hosts_that_are_apart() -> None:
    a, b, c = (handed(host, APART) for host in "abc")
    assert sources(a) == {"code": ["10.0.0.2"]}
    assert sources(b) == {"webserver": []}, "the proxy is on the same host"
    # The containers of a come from its address. Its own are those of runs alone, and c has no code servers.
    assert sources(c) == {"database": ["10.0.0.1", "10.0.0.2", "172.30.0.0/24"], "engine": ["10.0.0.1", "10.0.0.2"]}
    engine = handed("c", groups(database=["c"], code=["b"], run=["b"]))
    assert sources(engine)["database"] == ["10.0.0.1", "10.0.0.2"], "b has containers alone"
    assert (a["containers"], a["runs"]) == (["172.30.0.0/24", "172.30.1.0/24"], "")
    assert (b["containers"], c["containers"], c["runs"]) == ([], ["172.30.0.0/24"], "172.30.0.0/24")
    # Other hosts take containers for their host.
    webservers = [f"10.0.0.2 . {port}" for port in (13000, 13001, 3000, 3001)]
    assert a["elsewhere"] == [*webservers, "10.0.0.3 . 2378"]
    assert c["elsewhere"] == ["10.0.0.1 . 4000", *webservers]
    assert b["elsewhere"] == []


def places(found: dict[str, Any], group: str) -> list[tuple[list[str], list[int]]]:
    every = [place for each in found["groups"] if each["name"] == group for place in each["places"]]
    return [([*place["v4"], *place["v6"]], place["ports"]) for place in every]


def test_ports_are_ours_where_we_listen() -> None:
    a, b, c = (handed(host, APART) for host in "abc")
    assert places(a, "code") == [(["10.0.0.1"], [4000])]
    assert places(b, "webserver") == [(["127.0.0.1"], [3000, 3001, 13000, 13001])]
    assert places(c, "engine") == [([], [2378])], "a name may be any address of the host"
    assert places(c, "database") == [([], [5432])]
    six: dict[str, Any] = {"a": {"dagster_address": "fd00::1"}}
    assert places(handed("a", APART, six), "code") == [(["fd00::1"], [4000])]
    for every in ("0.0.0.0", "::"):
        assert places(handed("b", APART, dagster_webserver_bind=every), "webserver")[0][0] == []
    given: tuple[dict[str, Any], ...] = (
        {"dagster_postgres_listen_addresses": ["*"]},
        {"dagster_postgres_options": {"listen_addresses": "localhost"}},
    )
    for variables in given:
        assert places(handed("a", **variables), "database") == [([], [5432])]


def test_address_that_a_unit_has_not_left_yet() -> None:
    """Its port is ours everywhere until it is restarted. A container there may be anybody's."""

    def listening(address: str, port: int, unit: str) -> dict[str, Any]:
        return handed("a", facts={"listeners": [{"address": address, "port": port, "unit": unit}]})

    webserver = "dagster-webserver@3000.service"
    assert ([], [3000]) in places(listening("0.0.0.0", 3000, webserver), "webserver")
    assert ([], [3000]) not in places(listening("127.0.0.1", 3000, webserver), "webserver")
    assert ([], [3000]) not in places(listening("10.0.0.1", 3000, "shop.service"), "webserver")
    assert places(listening("10.0.0.1", 4000, "docker.service"), "code") == [(["127.0.0.1"], [4000])]


STUB, BEHIND = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"


@pytest.mark.parametrize(
    ("texts", "variables", "derived"),
    [
        ({STUB: "search x\nnameserver 10.0.0.1\n"}, {}, True),
        ({STUB: "nameserver 10.0.0.53\n"}, {}, False),
        ({STUB: "nameserver 127.0.0.1\n"}, {}, False),  # the engine asks that itself
        ({STUB: "nameserver 127.0.0.53\n"}, {}, False),
        ({STUB: "nameserver 127.0.0.53\n", BEHIND: "nameserver 10.0.0.1\n"}, {}, True),
        ({STUB: "nameserver 10.0.0.1\n"}, {"dagster_docker_config": {"dns": ["10.0.0.53"]}}, False),
        ({}, {"dagster_docker_config": {"dns": ["172.30.0.1"]}}, True),
    ],
)
def test_name_server_of_the_runs_on_their_host(texts: dict[str, str], variables: dict[str, Any], derived: bool) -> None:
    found = handed("a", facts={"addresses": ["127.0.0.1", "10.0.0.1"], "texts": texts}, **variables)
    assert found["run_ports"] == ([53, 5432] if derived else [5432])
    assert STUB in plan().questions()["texts"]


def test_address_that_has_changed() -> None:
    """Hosts that the play leaves out would let in the old one, and go on connecting there."""
    rules = "/etc/firewall-dagster.nft"
    own = plan("b", groups(proxy=["b"]))
    pattern = own.questions()["lines"][rules]

    def problems(address: str, *played: str) -> list[str]:
        text = f"# Managed by dataops.dagster\n# Other hosts know this one by {address}\n"
        said = [found[1] for found in re.finditer(pattern, text, re.MULTILINE)]
        assert said == ["Managed by dataops.dagster", address]
        marks = [part.mark() for part in own.components.values()]
        return list(own.limit_problems({**FACTS, "paths": marks, "lines": {rules: said}}, played))

    assert problems("10.0.0.2", "b") == []
    assert problems("10.0.0.9", "a", "b") == []
    assert problems("10.0.0.9", "b") == [
        "the address of b was 10.0.0.9 and is 10.0.0.2 (dagster_address, or else ansible_host), and the play leaves "
        "out a, whose rules and settings have the old one; use --limit a:b, or none"
    ]


def test_code_servers_of_an_earlier_release() -> None:
    def waits(*networks: str) -> bool:
        return bool(handed("a", facts={"engine": {**ENGINE, "code_networks": [*networks]}})["runs_wait"])

    assert waits("dagster")
    assert not waits("dagster_code")
    assert not waits()


def test_database_that_is_not_ours() -> None:
    variables: dict[str, Any] = {"dagster_database_host": "10.9.9.9"}
    assert handed("a", groups(database=[]), **variables)["run_ports"] == [5432], "it may be an address of this host"
    known = {"addresses": ["10.0.0.1"]}
    assert handed("a", groups(database=[]), facts=known, **variables)["run_ports"] == []
    there = {"addresses": ["10.0.0.1", "10.9.9.9"]}
    assert handed("a", groups(database=[]), facts=there, **variables)["run_ports"] == [5432]
    assert "database" not in sources(handed("a", groups(database=[]), **variables))


def test_database_of_a_name_that_nobody_knows_may_be_here() -> None:
    variables: dict[str, Any] = {"dagster_database_host": "own.example.com"}
    known: dict[str, Any] = {"addresses": ["10.0.0.1"], "resolved": {}}
    assert handed("a", groups(database=[]), facts=known, **variables)["run_ports"] == [5432]
    known["resolved"] = {"own.example.com": ["10.9.9.9"]}
    assert handed("a", groups(database=[]), facts=known, **variables)["run_ports"] == []


def test_host_that_comes_from_another_address() -> None:
    """It would be shut out: each request of a proxy to a webserver, for example."""
    apart = groups(webserver=["b"])  # a is the proxy
    asked = plan("a", apart).questions()["peers"]
    assert asked == ["10.0.0.2"]

    def problems(source: str, **variables: Any) -> list[str]:
        facts = {**FACTS, "sources": {"10.0.0.2": source}}
        return list(component("firewall", "a", apart, **variables).host_problems(facts))

    assert problems("10.0.0.1") == []
    (problem,) = problems("10.7.0.1")
    assert problem == (
        "it comes to b from 10.7.0.1, and the firewall there lets in 10.0.0.1, by which the inventory knows it; set "
        "dagster_address of a to 10.7.0.1, or name 10.7.0.1 in dagster_firewall_sources.webserver"
    )
    assert problems("10.7.0.1", dagster_firewall_sources={"webserver": ["10.7.0.0/16"]}) == []
    assert problems("10.7.0.1", dagster_firewall=False) == []


def test_shared_address_of_the_proxies_is_one_of_theirs() -> None:
    two = groups(webserver=["c"], proxy=["a", "b"])
    assert sources(handed("c", two, dagster_vip="10.0.0.9/24"))["webserver"] == ["10.0.0.1", "10.0.0.2", "10.0.0.9"]


def test_what_the_inventory_adds() -> None:
    variables: dict[str, Any] = {
        "dagster_firewall_sources": {"code": ["10.7.0.0/16", "10.7.1.1", "fd00::7"]},
        "dagster_firewall_run_ports": [53],
        "dagster_postgres_clients": [
            {"address": "10.8.0.0/24", "users": ["report"]},
            {"address": "10.9.0.1/24", "users": []},
        ],
    }
    found = handed("a", **variables)
    assert sources(found)["code"] == ["10.7.0.0/16", "fd00::7"]
    assert sources(found)["database"] == ["10.8.0.0/24", "10.9.0.0/24", "172.30.0.0/23"]
    assert found["run_ports"] == [53, 5432]


def test_clients_of_mariadb() -> None:
    """The rules of the database's port are the same for both: its own port, its own variable."""
    mariadb: dict[str, Any] = {"dagster_database_engine": "mysql"}
    found = handed("c", APART, **mariadb)
    assert sources(found)["database"] == sources(handed("c", APART))["database"]
    assert [ports for _addresses, ports in places(found, "database")] == [[3306]]
    assert handed("a", **mariadb)["run_ports"] == [3306]
    clients = [{"address": "10.8.0.1/24", "users": ["bi"]}]
    known = sources(handed("a", **mariadb, dagster_mysql_clients=clients))["database"]
    assert known == ["10.8.0.0/24", "172.30.0.0/23"]
    named: dict[str, Any] = {**mariadb, "dagster_mysql_clients": [{"address": "bi.example.com", "users": ["bi"]}]}
    (problem,) = plan(**named).problems()
    assert problem.startswith("dagster_mysql_clients has bi.example.com, which the rules of the firewall cannot name")
    assert plan(**named, dagster_firewall_sources={"database": ["10.8.0.7"]}).problems() == []
    assert plan(**named, dagster_firewall=False).problems() == []


def test_port_of_an_earlier_engine_has_a_rule_while_it_is_open() -> None:
    """Somebody else's engine is not ours to close. The gate before it is ours."""

    def ports(**facts: Any) -> list[tuple[str, list[int], list[int]]]:
        found = handed("c", APART, facts=facts)["groups"]
        every = [(group["name"], place) for group in found for place in group["places"]]
        return [(name, place["ports"], place["closing"]) for name, place in every if name == "engine"]

    listens = {"paths": ["/etc/systemd/system/docker.service.d/10-dagster-tls.conf", *FACTS.get("paths", [])]}
    assert ports() == [("engine", [2378], [])]
    assert ports(**listens) == [("engine", [2378], [2376])]
    assert ports(engine=ENGINE, packages={"docker-ce": "1"}, **listens) == [("engine", [2378], [])]
    assert sources(handed("c", APART, facts=listens))["engine"] == ["10.0.0.1", "10.0.0.2"]


def test_without_it_nothing_is_asked_and_nothing_is_wrong() -> None:
    off = component("firewall", dagster_firewall=False, dagster_firewall_sources={"code": ["x"]})
    assert off.packages(FACTS) == []
    assert not off.nftables()
    assert off.problems() == off.host_problems({**FACTS, "nftables": "Invalid argument"}) == []
    assert off.handed(FACTS)["groups"] == []
    on = component("firewall")
    assert on.packages(FACTS) == ["nftables"]
    assert plan().questions()["nftables"] is True


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"dagster_firewall_sources": {"code": []}}, "dagster_firewall_sources.code is empty; name an address"),
        ({"dagster_firewall_sources": {"database": ["bi.example.com"]}}, "no name is known at boot"),
        ({"dagster_firewall_sources": {"engine": ["10.0.0.300"]}}, "dagster_firewall_sources.engine: '10.0.0.300' "),
        ({"dagster_firewall_sources": {"webserver": ["10.0.0.1/8"]}}, "10.0.0.1/8 has host bits set"),
        (
            {"dagster_postgres_clients": [{"address": "samenet", "users": ["bi"]}]},
            "dagster_postgres_clients has samenet, which the rules of the firewall cannot name; add the addresses",
        ),
        ({"dagster_firewall_run_ports": [70000]}, "dagster_firewall_run_ports has 70000; a port is a number from 1 to"),
        (
            {"dagster_firewall_run_ports": [4000]},
            "has 4000, the port of dagster_code_locations[etl].port, which runs must not reach",
        ),
    ],
)
def test_what_is_wrong_with_it(variables: dict[str, Any], words: str) -> None:
    (problem,) = plan(**variables).problems()
    assert words in problem


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"nftables": "Operation not permitted"},
            "the kernel takes no rules of nftables here (Operation not permitted)",
        ),
        (
            {"nftables": "Invalid argument", "replaced_kernel": "6.1.0-18-amd64"},
            "the kernel that runs (6.1.0-18-amd64) takes no rules of nftables (Invalid argument), because an upgrade "
            "has taken its modules away from /lib/modules; reboot the host",
        ),
        (
            {"resolved": {"c.example.com": ["127.0.1.1"]}},
            "resolves c.example.com, another host of the inventory, to 127.0.1.1",
        ),
        ({"nftables": "", "resolved": {"c.example.com": ["127.0.0.1", "10.0.0.3"]}}, ""),
    ],
)
def test_host_that_cannot_have_it(facts: dict[str, Any], words: str) -> None:
    problems = component("firewall").host_problems({**FACTS, **facts})
    assert [words in problem for problem in problems] == [True] * bool(words)


def test_network_of_code_servers() -> None:
    def subnet(**variables: Any) -> str:
        return str(component("docker", **variables).options(FACTS)["dagster_docker_code_network_subnet"])

    assert subnet() == "172.30.1.0/24"
    assert subnet(dagster_docker_network_subnet="172.28.5.0/24", dagster_docker_bridge_address="172.28.6.1/24") == (
        "172.28.7.0/24"
    )
    assert subnet(dagster_docker_network_subnet="172.30.0.0/16") == "172.32.0.0/16", "past the pool of the engine"
    assert subnet(dagster_docker_code_network_subnet="10.9.0.0/24") == "10.9.0.0/24"
    for variables, words in (
        ({"dagster_docker_code_network": "dagster"}, "dagster_docker_code_network and dagster_docker_network are both"),
        (
            {"dagster_docker_code_network": "host"},
            "dagster_docker_code_network is 'host', which is one of Docker's own",
        ),
        (
            {"dagster_docker_code_network_subnet": "172.30.0.0/25"},
            "overlaps dagster_docker_network_subnet 172.30.0.0/24",
        ),
        ({"dagster_docker_code_network_subnet": "10.0.0.0/24"}, "holds the address 10.0.0.1 of a; choose"),
        ({"dagster_docker_code_network_subnet": "fd00::/64"}, "set it to a network of IPv4 that is free"),
        ({"dagster_docker_code_network_subnet": "10.9.0.0/30"}, "has no room for containers"),
    ):
        (problem,) = plan(**variables).problems()
        assert words in problem


def test_networks_of_an_engine() -> None:
    names = {
        host: [network["name"] for network in component("docker", host, APART).handed(FACTS)["networks"]]
        for host in "ac"
    }
    assert names == {"a": ["dagster", "dagster_code"], "c": ["dagster"]}
    # A deployment of an earlier release gets the second one: hosts of others are looked for in it.
    deployed = {**FACTS, "paths": ["/etc/systemd/system/prune-dagster-runs.timer"], "addresses": ["172.30.0.1"]}
    assert component("docker").new_subnets(deployed) == {"dagster_docker_code_network_subnet": ["172.30.1.0/24"]}
    assert component("docker").new_subnets({**deployed, "addresses": ["172.30.0.1", "172.30.1.1"]}) == {}
    taken = {"engine": {**ENGINE, "networks": [{"name": "shop", "subnets": ["172.30.1.0/24"], "ours": False}]}}
    (problem,) = component("docker").host_problems({**FACTS, **taken, "packages": {"docker.io": "1"}})
    assert problem.startswith(
        "dagster_docker_code_network_subnet: 172.30.1.0/24 overlaps 172.30.1.0/24, the network shop"
    )


def test_every_port_says_who_may_reach_it() -> None:
    """Only the entry points are for whoever reaches the host. A new component is asked here too."""
    found = plan("a", groups(webserver=["a", "b"]), dagster_webserver_read_only_port=3200)
    open_ports = {port.variable for part in found.components.values() for port in part.ports() if port.reach is None}
    assert open_ports == {"dagster_nginx_port"}


def test_sets_have_everybody_once() -> None:
    assert family(["10.0.0.1", "10.0.0.0/24", "fd00::1", "10.1.0.0/24"], 4) == ["10.0.0.0/24", "10.1.0.0/24"]
    assert family(["10.0.0.1", "fd00::1", "fd00::1"], 6) == ["fd00::1"]
    assert family([], 4) == []


SECURITY = ROOT / "docs/security.md"


def test_the_matrix_of_the_documentation_is_that_of_the_plan() -> None:
    """Which groups may reach which ports: the table of docs/security.md, from the reach of each port."""
    names = {"d": "dagster_database", "w": "dagster_webserver", "m": "dagster_daemon", "c": "dagster_code"}
    names |= {"r": "dagster_run", "p": "dagster_proxy"}
    members = {group: [letter] for letter, group in names.items()}
    found = plan(
        "d", members, {letter: {"dagster_code_locations": VARIABLES["dagster_code_locations"]} for letter in names}
    )
    reach = {
        port.reach.group: sorted(names[host].removeprefix("dagster_") for host in port.reach.hosts)
        for part in found.everywhere()
        for port in part.ports()
        if port.reach
    }
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", SECURITY.read_text(encoding="utf-8"), re.MULTILINE)
    said = {group: sorted(text.strip().split(", ")) for group, text in rows if group in reach}
    assert said == reach


def test_fencing_for_some_of_the_daemons() -> None:
    """The other one would be refused by the fence."""
    own = plan("a", groups(daemon=["a", "b"]))
    marks = [part.mark() for part in own.components.values()]
    facts = {**FACTS, "paths": marks, "lines": {"/etc/dagster/guard.json": ["null"]}}
    assert own.limit_problems({**facts, "lines": {}}, ["a"]) == own.limit_problems(facts, ["a", "b"]) == []
    (problem,) = own.limit_problems(facts, ["a"])
    assert problem.startswith("dagster_daemon_fencing is full, and was lease_only for a;")
    assert problem.endswith("leaves out b; use --limit a:b, or none")
