"""The rules of role firewall in a real kernel: every pair is open without them, and with them only what is listed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firewall_rig import (
    CODE,
    ENGINE,
    FRAGMENTS,
    METADATA,
    NFT,
    OTHER,
    PORTS,
    ROOT,
    RUN,
    TALKER,
    World,
    rules,
    world,
)
from plans import FACTS, groups, plan

# Host a has the database, all containers and a webserver; b the other services, c the proxy. 10.0.0.99 is a stranger.
B, C, STRANGER, OWN = "10.0.0.2", "10.0.0.3", "10.0.0.99", "10.0.0.1"
GROUPS = groups(webserver=["a", "b"], daemon=["b"], proxy=["c"])
HOST = {**FACTS, "resolved": {"c.example.com": [C, "fd00::3"]}, "addresses": [OWN]}
OPEN = {22, 53, 80, 9999}  # not ours
FOREIGN = """
table ip shop {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 9 drop
    }
}
"""
Pair = tuple[str, str, int]


def text(**variables: Any) -> str:
    """The rules of host a."""
    return rules(plan("a", GROUPS, **variables), HOST, metadata=bool(variables.get("dagster_firewall_run_metadata")))


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    if not NFT:
        pytest.fail("no nft; install nftables (tests/rig/rig packages)")
    with world() as found:
        yield found


@pytest.fixture
def bare(made: World) -> Iterator[World]:
    """The world without our table, and with the rules of others as an engine and a shop have them."""
    made.host.nft(f"flush ruleset\n{ENGINE}\n{FOREIGN}")
    yield made
    made.host.nft(f"flush ruleset\n{ENGINE}")


def words(listing: str) -> list[str]:
    """A listing without its order: the kernel has one of its own in each set."""
    return sorted(listing.replace(",", " ").split())


def from_lan(source: str) -> dict[Pair, bool]:
    """What a neighbour may: each port of the host, and the containers at their own addresses."""
    may = {B: {2378, 4000, 5432}, C: {3000, 13000}, STRANGER: set()}[source]
    found = {(source, OWN, port): port in OPEN | may for port in PORTS}
    return {**found, **{(source, address, port): False for address in (RUN, CODE) for port in (80, 4000)}}


def of_containers(database: bool = True) -> tuple[dict[Pair, bool], dict[Pair, bool]]:
    """What a run may, and what a code server may."""
    run: dict[Pair, bool] = {}
    code: dict[Pair, bool] = {}
    for address in (OWN, "172.30.0.1"):
        run |= {("", address, port): port == 5432 and database for port in PORTS}
    # Of ours, only the database listens at the gateway.
    code |= {("", OWN, port): port in OPEN or port == 5432 for port in PORTS}
    code |= {("", "172.30.0.1", port): True for port in PORTS}
    # Other hosts take a container for this host, which may ask none of their webservers.
    elsewhere = {("", B, port): port not in (3000, 13000) for port in PORTS}
    run |= {**elsewhere, ("", CODE, 4000): False, ("", STRANGER, 80): True}
    code |= {**elsewhere, ("", RUN, 80): False, ("", STRANGER, 80): True}
    metadata = {("", METADATA, 53): True, ("", METADATA, 80): True}
    return {**run, **metadata, ("", METADATA, 80): False}, {**code, **metadata}


def matrix(found: World) -> dict[str, dict[Pair, bool]]:
    """What is reached from each place."""
    run, code = of_containers()
    own = [("", address, port) for address in (OWN, "127.0.0.1", "172.30.0.1") for port in PORTS]
    return {
        "lan": found.lan.reached(*(pair for source in (B, C, STRANGER) for pair in from_lan(source))),
        "run": found.run.reached(*run),
        "code": found.code.reached(*code),
        "own": found.host.reached(*own, ("", CODE, 4000), ("", RUN, 80)),
    }


def wanted() -> dict[str, dict[Pair, bool]]:
    """What is to be reached."""
    run, code = of_containers()
    lan = {pair: may for source in (B, C, STRANGER) for pair, may in from_lan(source).items()}
    return {"lan": lan, "run": run, "code": code}


def assert_only_what_is_listed(found: World) -> None:
    seen, listed = matrix(found), wanted()
    assert {
        place: {pair: may for pair, may in seen[place].items() if may != listed[place][pair]} for place in listed
    } == {place: {} for place in listed}
    assert all(seen["own"].values()), "the host itself"


def test_without_the_table_every_pair_is_open(bare: World) -> None:
    closed = {place: [pair for pair, may in pairs.items() if not may] for place, pairs in matrix(bare).items()}
    assert closed == {place: [] for place in closed}


def test_only_the_listed_pairs_are_open(bare: World) -> None:
    bare.host.nft(text())
    assert_only_what_is_listed(bare)
    # The engine is started anew and puts its rules up again, and somebody flushes what he knows.
    bare.host.nft("flush table ip shop\ndelete table ip engine")
    bare.host.nft(ENGINE)
    assert_only_what_is_listed(bare)


def test_ipv6(bare: World) -> None:
    sources = {"fd00::2": {2378, 5432}, "fd00::3": {3000, 13000}, "fd00::99": set()}
    # The engine publishes at an address of IPv4, so code servers have no port there.
    pairs = {(source, "fd00::1", port): port for source in sources for port in PORTS if port != 4000}
    assert all(bare.lan.reached(*pairs).values()), "the control"
    each = {"a": {"dagster_address": "fd00::1"}, "b": {"dagster_address": "fd00::2"}}
    bare.host.nft(rules(plan("a", GROUPS, each), HOST))
    found = bare.lan.reached(*pairs)
    assert found == {pair: pair[2] in OPEN | sources[pair[0]] for pair in pairs}


def test_same_ports_at_other_addresses_are_of_others(bare: World) -> None:
    """A service of somebody else there stays open, unless one of ours listens at all addresses, or still does."""
    bare.host.nft(text())
    others = [(STRANGER, OTHER, port) for port in PORTS] + [("fd00::99", "fd00::1", port) for port in (3000, 5432)]
    assert all(bare.lan.reached(*others).values())
    ours = {"dagster_webserver_bind": "0.0.0.0"}
    still = [{"port": 3000, "address": "0.0.0.0", "unit": "dagster-webserver@3000.service"}]
    for given, facts in ((ours, HOST), ({}, {**HOST, "listeners": still})):
        bare.host.nft(rules(plan("a", GROUPS, **given), facts))
        found = bare.lan.reached(*others)
        assert {pair[1:] for pair, may in found.items() if not may} >= {(OTHER, 3000), ("fd00::1", 3000)}
        assert found[(STRANGER, OTHER, 5432)]


def test_fragments(bare: World) -> None:
    """Without containers nothing is tracked, so the rules see them. A host that is let in may send them."""
    apart = groups(webserver=["b"], daemon=["b"], code=["b"], run=["b"], proxy=["b"])  # a has the database
    each = {"a": {"dagster_address": "fd00::1"}, "b": {"dagster_address": "fd00::2"}}
    bare.host.nft("flush ruleset")

    def answered(source: str) -> bool:
        return bare.lan.run("python3", "-c", FRAGMENTS, source, "fd00::1", "5432").strip() == "answered"

    assert answered("fd00::99"), "the control"
    wanted = rules(plan("a", apart, each), HOST)
    assert "ct state" not in wanted
    # Whatever else the rules say, the one about fragments alone refuses them.
    alone = wanted.replace("tcp flags & (syn | ack) == syn counter drop", "")
    for text_of_rules in (wanted, alone):
        bare.host.nft(text_of_rules)
        assert not answered("fd00::99")
        assert answered("fd00::2")
    whole = ("fd00::99", "fd00::1", 5432)
    assert bare.lan.reached(whole)[whole], "the control: no other rule is left"


def test_code_servers_of_an_earlier_release_are_no_runs(bare: World) -> None:
    """They are in the network of the runs until they are replaced."""
    pair = ("", "172.30.0.1", 9999)
    bare.host.nft(text())
    assert not bare.run.reached(pair)[pair], "the control"
    old = {**HOST, "engine": {"code_networks": ["dagster"]}}
    bare.host.nft(rules(plan("a", GROUPS), old))
    assert bare.run.reached(pair)[pair]


def test_name_server_of_the_host(bare: World) -> None:
    pair = ("", OWN, 53)
    bare.host.nft(text())
    assert not bare.run.reached(pair)[pair], "the control"
    bare.host.nft(rules(plan("a", GROUPS), {**HOST, "texts": {"/etc/resolv.conf": f"nameserver {OWN}\n"}}))
    assert bare.run.reached(pair)[pair]


def test_open_connections_go_on(bare: World) -> None:
    """Of a neighbour that the rules refuse, to a port of the host and through the engine's translation."""
    talkers = [bare.lan.start(TALKER, STRANGER, OWN, str(port)) for port in (5432, 4000)]
    bare.host.nft(text())
    assert not any(bare.lan.reached((STRANGER, OWN, 5432), (STRANGER, OWN, 4000)).values()), "the control"
    for talker in talkers:
        assert talker.stdin is not None
        assert talker.stdout is not None
        talker.stdin.write("still there\n")
        talker.stdin.flush()
        assert talker.stdout.readline().strip() == "still there"


def test_what_the_inventory_adds(bare: World) -> None:
    bare.host.nft(text())
    lan, run = (STRANGER, OWN, 5432), [("", "172.30.0.1", 9999), ("", METADATA, 80)]
    assert not any([*bare.lan.reached(lan).values(), *bare.run.reached(*run).values()]), "the control"
    more = {"dagster_firewall_sources": {"database": ["10.0.0.96/28"]}, "dagster_firewall_run_ports": [9999]}
    bare.host.nft(text(**more, dagster_firewall_run_metadata=True))
    assert all([*bare.lan.reached(lan).values(), *bare.run.reached(*run).values()])
    assert not any(bare.lan.reached((STRANGER, OWN, 4000)).values())


def test_tables_of_others_stay_as_they_are(bare: World) -> None:
    before = bare.host.listing()
    for _time in range(2):  # also when it is loaded again
        bare.host.nft(text())
    with_ours = bare.host.listing()
    assert with_ours.startswith(before)
    assert with_ours.count("table inet dagster_firewall") == 1
    bare.host.run(NFT, "delete", "table", "inet", "dagster_firewall")
    assert bare.host.listing() == before


# Stands for the timer of systemd: it goes on when whoever has started it is gone.
SYSTEMD_RUN = """#!/bin/sh
for word; do case $word in --on-active=*) seconds=${word#*=};; --unit=*) unit=${word#*=};; esac; done
printf '%s\\n' "$@" >"$STATE/$unit.timer.argv"
while [ "${1#-}" != "$1" ]; do shift; done
setsid sh -c 'sleep "$0"; rm "$1"; shift; exec "$@"' "$seconds" "$STATE/$unit.timer" "$@" >/dev/null 2>&1 </dev/null &
echo $! >"$STATE/$unit.timer"
"""
SYSTEMCTL = """#!/bin/sh
case $1 in
  is-active) [ -e "$STATE/$3" ];;
  restart)
    kill -- -"$(cat "$STATE/$2")"; argv=$STATE/$2.argv; set --
    while read -r word; do set -- "$@" "$word"; done <"$argv"; systemd-run "$@";;
  stop) shift; for unit; do [ ! -e "$STATE/$unit" ] || { kill -- -"$(cat "$STATE/$unit")"; rm "$STATE/$unit"; }; done;;
esac
"""
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[3])
from ansible_collections.dataops.dagster.plugins.module_utils._host import firewall
firewall.NFT, firewall.RUN = sys.argv[4], sys.argv[5]
rules = firewall.Rules(**json.loads(sys.argv[2]))
try:
    print(json.dumps(getattr(firewall, sys.argv[1])(rules, check_mode=False)))
except firewall.Failed as error:
    print(json.dumps({"failed": str(error)}))
"""
CUT = """table inet dagster_firewall
delete table inet dagster_firewall
table inet dagster_firewall {
    chain input {
        type filter hook input priority filter - 10; policy accept;
        tcp dport 22 tcp flags syn / syn,ack drop
    }
}
"""


class Module:
    """The module on the host of the world, with a timer that stands for that of systemd."""

    def __init__(self, host: Any, folder: Path) -> None:
        self.host, self.folder = host, folder
        for name, program in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
            (folder / name).write_text(program, encoding="utf-8")
            (folder / name).chmod(0o755)
        self.path = folder / "firewall-dagster.nft"

    def __call__(self, do: str, content: str, seconds: int = 60) -> dict[str, Any]:
        given = {"path": str(self.path), "content": content, "table": "dagster_firewall", "timer": "back"}
        arguments = (do, json.dumps({**given, "seconds": seconds}), str(ROOT / ".deps"), NFT, str(self.folder))
        env = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "STATE": str(self.folder)}
        found: dict[str, Any] = json.loads(self.host.run("python3", "-c", PROGRAM, *arguments, env=env))
        return found


@pytest.fixture
def module(bare: World, tmp_path: Path) -> Iterator[Module]:
    found = Module(bare.host, tmp_path)
    yield found
    for left in tmp_path.glob("*.timer"):
        subprocess.run(["kill", "--", f"-{left.read_text().strip()}"], check=False)


def test_rules_that_are_confirmed_stay(bare: World, module: Module) -> None:
    assert module("tried", text())["changed"]
    assert not module.path.exists(), "a reboot would load what nobody has confirmed"
    assert module("confirmed", text())["changed"]
    assert module.path.read_text(encoding="utf-8") == text()
    assert not module("tried", text())["changed"], "a second run"
    assert list(module.folder.glob("*.timer")) == []
    # Somebody takes a rule away by hand, and somebody all of it.
    for drift in ("flush chain inet dagster_firewall code", "delete table inet dagster_firewall"):
        bare.host.nft(drift)
        assert module("tried", text())["changed"]
        assert module("confirmed", text())["changed"]
        assert_only_what_is_listed(bare)


def test_rules_that_cut_the_connection_are_taken_back(bare: World, module: Module) -> None:
    module("tried", text())
    module("confirmed", text())
    before, ssh = words(bare.host.listing()), (B, OWN, 22)
    module("tried", CUT, seconds=20)
    assert not bare.lan.reached(ssh)[ssh], "the control"
    # A play that is started again meanwhile does not take these for rules to come back to.
    module("tried", CUT + "# another\n", seconds=20)
    for _try in range(30):
        if bare.lan.reached(ssh)[ssh]:
            break
        time.sleep(1)
    assert words(bare.host.listing()) == before
    assert "taken them back" in module("confirmed", CUT)["failed"]
    assert module.path.read_text(encoding="utf-8") == text()


def test_without_rules_before_the_table_goes(bare: World, module: Module) -> None:
    before, ssh = bare.host.listing(), (B, OWN, 22)
    module("tried", CUT, seconds=20)
    assert not bare.lan.reached(ssh)[ssh], "the control"
    for _try in range(30):
        if bare.lan.reached(ssh)[ssh]:
            break
        time.sleep(1)
    assert bare.host.listing() == before


def test_what_is_removed_does_not_come_back(bare: World, module: Module) -> None:
    """Also when a killed play has left rules that are still to be taken back."""
    before = bare.host.listing()
    assert not module("removed", "")["changed"]
    module("tried", text())
    module("confirmed", text())
    module("tried", CUT, seconds=20)
    assert list(module.folder.glob("*.timer")), "the control"
    assert module("removed", "")["changed"]
    assert bare.host.listing() == before
    assert list(module.folder.glob("*.timer")) == list(module.folder.glob("*.nft")) == []
    assert not module("removed", "")["changed"]


def test_rules_that_the_kernel_refuses_change_nothing(bare: World, module: Module) -> None:
    before = bare.host.listing()
    found = module("tried", text().replace("fib saddr type local accept", "fib saddr type nowhere accept"))
    assert found["failed"].startswith(
        "No rule was changed. The kernel of this host refuses the rules of its firewall: "
    )
    assert bare.host.listing() == before
    assert list(module.folder.glob("*.timer")) == []
