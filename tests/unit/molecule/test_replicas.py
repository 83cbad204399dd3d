"""molecule/replicas.py: what HAProxy and systemd say, read."""

from __future__ import annotations

import pytest
import replicas
from replicas import Edge, Replica, Server

STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port srvrecord
3 dagster_webserver 1 edge1_3000 127.0.0.1 2 0 1 1 3000 -
3 dagster_webserver 2 edge2_3000 10.0.0.2 2 0 1 1 3000 -

"""
STAT = """# pxname,svname,stot,status,
dagster,FRONTEND,90,OPEN,
dagster_read_only,edge1_3000,7,UP,
dagster_webserver,edge1_3000,40,UP,
dagster_webserver,edge2_3000,50,{},
dagster_webserver,BACKEND,90,UP,

"""


class FakeEdge(Edge):
    """An edge that has answers instead of a host."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.name, self.address, self.answers = "edge1", "10.0.0.1", answers
        self.asked: list[str] = []

    def __call__(self, command: str, *words: str) -> str:
        text = " ".join((command, *words))
        self.asked.append(text)
        return next(answer for part, answer in self.answers.items() if part in text)


@pytest.mark.parametrize(
    ("state", "serves"),
    [("UP", True), ("UP 1/2", True), ("DRAIN", False), ("DRAIN (agent)", False), ("DOWN 1/2", False), ("MAINT", False)],
)
def test_servers_by_address(state: str, serves: bool) -> None:
    edge = FakeEdge({"show servers state dagster_webserver": STATE, "show stat": STAT.format(state)})
    assert edge.servers() == {"10.0.0.1:3000": Server("UP", 40), "10.0.0.2:3000": Server(state, 50)}
    assert replicas.in_rotation([edge, edge], Replica(edge, 3000)) == [True, True]
    assert edge.servers()["10.0.0.2:3000"].serves is serves
    assert replicas.requests([edge, edge]) == {"10.0.0.1:3000": 80, "10.0.0.2:3000": 100}


def test_replicas_are_the_units() -> None:
    edge = FakeEdge({"list-units": "dagster-webserver@3000.service\ndagster-webserver@3001.service\n"})
    assert [(str(replica), replica.address) for replica in edge.replicas()] == [
        ("edge1:3000", "10.0.0.1:3000"),
        ("edge1:3001", "10.0.0.1:3001"),
    ]


@pytest.mark.parametrize("shown", ["[not set]", "18446744073709551615", "2500000000"])
def test_cpu_of_the_control_group_or_of_the_process(shown: str) -> None:
    stat = "41 (dagster web) S 1 41 41 0 -1 4194560 9 0 0 0 200 50 0 0 20 0 5 0 99\n100\n"
    edge = FakeEdge({"CPUUsageNSec": shown, "MainPID": "41", "/proc/41/stat": stat})
    assert Replica(edge, 3000).cpu == 2.5


def test_drain_is_the_file_of_the_unit() -> None:
    edge = FakeEdge({"RuntimeDirectory": "dagster-webserver@3000\n", "": ""})
    Replica(edge, 3000).drain(True)
    assert edge.asked[-1] == "touch /run/dagster-webserver@3000/draining"
    Replica(edge, 3000).drain(False)
    assert edge.asked[-1] == "rm -f /run/dagster-webserver@3000/draining"
    with pytest.raises(AssertionError, match="no RuntimeDirectory"):
        Replica(FakeEdge({"": ""}), 3000).drain(True)
