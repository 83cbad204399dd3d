"""What runs and code servers reach on the one host, whatever becomes of it, and rules that would cut us off."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ways
from deployment import RIG, Dagster, Play, ended, environment, until

GATEWAY, METADATA = "172.30.0.1", "169.254.169.254"
OPEN = 9955  # a service of somebody else, on every address of the host
CUT = """table inet dagster_firewall
delete table inet dagster_firewall
table inet dagster_firewall {
    chain input {
        type filter hook input priority filter - 10; policy accept;
        tcp dport 22 tcp flags syn / syn,ack drop
    }
}
"""


@pytest.fixture(scope="module")
def pairs(connections: dict[str, dict[str, str]]) -> list[ways.Pair]:
    """What listens on the host beside loopback."""
    own = str(connections["dagster1"]["ansible_host"])
    services = [(address, port) for address in (GATEWAY, own, METADATA) for port in (22, OPEN)]
    return [(GATEWAY, 5432), *services]


@pytest.fixture
def served(host: Any) -> Iterator[None]:
    """Somebody else's service, which also stands where a cloud has its credentials."""
    serve(host)
    yield
    host.run("systemctl stop somebody-else")
    host.run(f"ip address del {METADATA}/32 dev lo")


def serve(host: Any) -> None:
    host.run(f"ip address add {METADATA}/32 dev lo")
    host.run(f"systemd-run -q --unit=somebody-else python3 -m http.server {OPEN} --bind 0.0.0.0")
    host.check_output(f"timeout 60 sh -c 'until ss -Hltn | grep -q :{OPEN}; do sleep 0.1; done'")


def engine_again(host: Any) -> None:
    """It puts its own rules up again. systemd takes more than three starts in a minute for a fault."""
    host.check_output("systemctl reset-failed docker.service && systemctl restart docker.service")
    until(lambda: host.run(f"{ways.CODE} -c 1").rc == 0, 60, "the code server runs")


def assert_only_the_database(host: Any, pairs: list[ways.Pair]) -> None:
    """A run reaches nothing but the database, a code server whatever is not ours."""
    run = ways.reached(host, pairs, ways.in_run_network(host))
    assert run == {pair: pair[1] == 5432 for pair in pairs}
    assert all(ways.reached(host, pairs, ways.CODE).values())


@pytest.mark.usefixtures("served")
def test_only_the_database_is_for_runs(host: Any, pairs: list[ways.Pair]) -> None:
    ways.without(host)
    try:
        assert all(ways.reached(host, pairs, ways.in_run_network(host)).values()), "the control"
    finally:
        ways.again(host)
    assert_only_the_database(host, pairs)
    networks = "docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' %s"
    assert host.check_output(networks, "dagster-code-pipeline") == "dagster_code"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("event", ["systemctl restart docker.service", "iptables -F"])
def test_rules_outlive_others(host: Any, pairs: list[ways.Pair], event: str) -> None:
    before = ways.table(host)
    try:
        host.check_output(event)
        until(lambda: host.run(f"{ways.CODE} -c 1").rc == 0, 60, "the code server runs")
        assert ways.table(host) == before
        assert_only_the_database(host, pairs)
    finally:
        engine_again(host)


@pytest.fixture
def rules_of_others(host: Any) -> Iterator[None]:
    """Those of the rig's own name server, by which its hosts find package hosts, and of the engine."""
    host.check_output("iptables-save -f /run/rules-of-others")
    yield
    host.check_output("iptables-restore /run/rules-of-others && rm /run/rules-of-others")
    engine_again(host)


@pytest.mark.usefixtures("rules_of_others")
@pytest.mark.parametrize("do", ["start", "reload", "restart", "stop"])
def test_table_comes_back_after_nftables(host: Any, do: str) -> None:
    """Its file begins with a flush of all tables, and so does its stop."""
    before, unit = ways.table(host), "nftables.service"
    was = host.run(f"systemctl is-active {unit}").rc == 0
    try:
        host.check_output(f"systemctl {'stop' if do == 'start' else 'start'} {unit}")
        host.check_output(f"systemctl {do} {unit}")
        until(lambda: ways.table(host) == before, 20, "our table is there again")
        # A unit of ours that is stopped stays so.
        host.check_output(f"systemctl stop {ways.UNIT}")
        host.check_output(f"systemctl reset-failed {unit} && systemctl restart {unit}")
        assert ways.table(host) == ""
    finally:
        host.check_output(f"systemctl {'start' if was else 'stop'} {unit}")
        host.check_output(f"systemctl reset-failed {unit} && systemctl restart {ways.UNIT}")


def test_same_port_at_another_address_is_of_others(host: Any) -> None:
    """Of somebody else's service there, each neighbour may ask. Here a namespace stands for one."""
    for command in (
        "ip netns add beside",
        "ip link add beside type veth peer name eth0 netns beside",
        "ip address add 192.0.2.1/24 dev beside",
        "ip link set beside up",
        "ip -n beside address add 192.0.2.2/24 dev eth0",
        "ip -n beside link set eth0 up",
        "systemd-run -q --unit=somebody-else python3 -m http.server 3000 --bind 192.0.2.1",
    ):
        host.check_output(command)
    try:
        host.check_output("timeout 60 sh -c 'until ss -Hltn | grep -q 192.0.2.1:3000; do sleep 0.1; done'")
        asked = [("192.0.2.1", 3000)]
        assert ways.reached(host, asked, "ip netns exec beside python3") == {asked[0]: True}
    finally:
        host.run("systemctl stop somebody-else")
        host.run("ip link del beside")
        host.run("ip netns del beside")


def test_rules_that_cut_the_connection_are_taken_back(
    host: Any, connections: dict[str, dict[str, str]], inventory: str
) -> None:
    """Also when nobody is there any more: the host does it itself."""
    before, ssh = ways.table(host), (str(connections["dagster1"]["ansible_host"]), 22)

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(ssh, 2):
            return True
        return False

    assert answers(), "the control"
    given = {"state": "tried", "path": "/etc/firewall-dagster.nft", "content": CUT, "table": "dagster_firewall"}
    argv = ["ansible", "dagster1", "-i", inventory, "-i", str(RIG), "-b", "-m", "dataops.dagster.firewall", "-a"]
    more = {"timer": "firewall-dagster-rollback", "seconds": 20}
    # The second time as a play that is started again meanwhile: it does not take these for rules to come back to.
    for text in (CUT, CUT + "# again\n"):
        said = ended([*argv, json.dumps({**given, **more, "content": text})], environment())
        assert said.rc == 0, said.output
    assert not answers(), "the control: these rules cut"
    until(answers, 40, "the host has taken them back")
    assert ways.table(host) == before
    assert host.check_output("cat /etc/firewall-dagster.nft").startswith("# Managed by dataops.dagster")


def test_drift_is_mended(play: Callable[..., Play], host: Any) -> None:
    """A table that somebody has flushed is loaded again, and then a play changes nothing."""
    before = ways.table(host)
    ways.without(host)
    assert play("site.yml", "--tags", "firewall", "--check").changed >= 1
    assert ways.table(host) == ""
    assert play("site.yml", "--tags", "firewall").changed >= 1
    assert ways.table(host) == before
    assert play("site.yml", "--tags", "firewall").changed == 0


@pytest.mark.long  # tests/integration/firewall asks the module to remove its rules
def test_it_goes_when_it_is_not_wanted(play: Callable[..., Play], host: Any, dagster: Dagster) -> None:
    off = ("--tags", "firewall", "-e", json.dumps({"dagster_firewall": False}))
    before, others = ways.table(host), host.check_output("nft list tables | grep -v dagster_firewall || true")
    try:
        assert play("site.yml", *off).changed >= 1
        assert ways.table(host) == ""
        assert not host.file("/etc/firewall-dagster.nft").exists
        assert not host.file("/etc/systemd/system/firewall-dagster.service").exists
        assert host.check_output("nft list tables | grep -v dagster_firewall || true") == others
        assert play("site.yml", *off).changed == 0
    finally:
        play("site.yml", "--tags", "firewall")
    assert ways.table(host) == before
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
