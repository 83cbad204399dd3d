"""The address that edge1 and edge2 share: one holds it, and it moves when that one cannot serve, once."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from deployment import Play, until
from long import but

PROXIES = ["edge1", "edge2"]


class Shared:
    """The address, and the proxies behind it."""

    def __init__(self, address: str, own: dict[str, str], on: Callable[[str], Any]) -> None:
        self.address = address
        self.own = own
        self.hosts = {name: on(name) for name in PROXIES}

    def run(self, name: str, command: str) -> str:
        answer: str = self.hosts[name].check_output(command)
        return answer

    @property
    def holders(self) -> list[str]:
        shown = f" {self.address}/"
        return [name for name in PROXIES if shown in self.run(name, "ip -o -4 address show")]

    def answer(self, address: str = "") -> int:
        """The status that this machine gets. Raises OSError where nobody answers."""
        try:
            url = f"http://{address or self.address}:8080/server_info"
            with urllib.request.urlopen(url, timeout=2) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def moves_to(self, name: str, seconds: float) -> None:
        started = time.monotonic()
        until(lambda: self.answer() == 200, seconds, f"{name} answers at the shared address", every=0.1)
        print(f"moved after {time.monotonic() - started:.1f} s")
        assert self.holders == [name]

    def stays_at(self, name: str, seconds: float) -> None:
        """No request fails meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.answer() == 200
            time.sleep(0.05)
        assert self.holders == [name]


@pytest.fixture
def shared(connections: dict[str, dict[str, str]], on: Callable[[str], Any]) -> Shared:
    own = {name: connections[name]["ansible_host"] for name in PROXIES}
    return Shared(f"{own['edge1'].rpartition('.')[0]}.200", own, on)


@pytest.fixture
def holder(shared: Shared) -> str:
    until(lambda: shared.answer() == 200 and len(shared.holders) == 1, 30, "one proxy holds the address")
    return shared.holders[0]


@pytest.fixture
def other(holder: str) -> str:
    return next(name for name in PROXIES if name != holder)


@pytest.mark.alone
def test_one_holds_the_address(shared: Shared, holder: str) -> None:
    shared.stays_at(holder, 5)
    for name in PROXIES:
        assert shared.answer(shared.own[name]) == 200
        assert shared.run(name, "stat -c '%U %a' /etc/keepalived/keepalived.conf") == "root 640"
        assert "nobody" in shared.run(name, "grep script_user /etc/keepalived/keepalived.conf")


# Twice: a proxy holds it that is the first of its group, and one that is not.
@pytest.mark.alone
@pytest.mark.parametrize("_round", but([1, 2], (1,)))
def test_nginx_stops_on_the_holder(shared: Shared, holder: str, other: str, _round: int) -> None:
    shared.run(holder, "systemctl stop nginx")
    try:
        with pytest.raises(OSError, match="refused"):  # the control: the address was there
            shared.answer()
        shared.moves_to(other, 10)
        shared.stays_at(other, 3)
    finally:
        shared.run(holder, "systemctl start nginx")
    shared.stays_at(other, 8)


@pytest.mark.alone
@pytest.mark.parametrize("_round", but([1, 2], (1,)))
def test_keepalived_stops_on_the_holder(shared: Shared, holder: str, other: str, _round: int) -> None:
    shared.run(holder, "systemctl stop keepalived")
    try:
        shared.moves_to(other, 3)
        shared.stays_at(other, 3)
    finally:
        shared.run(holder, "systemctl start keepalived")
    shared.stays_at(other, 8)


@pytest.mark.alone
def test_keepalived_is_killed_and_comes_back(shared: Shared, holder: str) -> None:
    before = shared.run(holder, "systemctl show -p MainPID --value keepalived")
    shared.run(holder, "systemctl kill --signal=KILL keepalived")
    until(
        lambda: shared.run(holder, "systemctl show -p MainPID --value keepalived") not in (before, "0"), 10, "it runs"
    )
    until(lambda: shared.answer() == 200 and len(shared.holders) == 1, 15, "one proxy holds the address")
    shared.stays_at(shared.holders[0], 5)


@pytest.mark.alone
@pytest.mark.usefixtures("holder")
def test_somebody_holds_it_when_no_replica_is_ready(shared: Shared) -> None:
    """It may move once: one proxy notices up to two seconds before the other."""
    for name in PROXIES:
        shared.run(name, "systemctl stop dagster-webserver@3000")
    try:
        until(lambda: shared.answer() == 503, 15, "the edge says that nobody is ready")
        time.sleep(10)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert shared.answer() == 503
            time.sleep(0.1)
        assert len(shared.holders) == 1
    finally:
        for name in PROXIES:
            shared.run(name, "systemctl start --no-block dagster-webserver@3000")
    until(lambda: shared.answer() == 200, 90, "a replica is ready")


@pytest.mark.alone
def test_proxies_that_listen_on_the_shared_address_alone(play: Callable[..., Play], shared: Shared) -> None:
    """The one that does not hold it has nginx ready on it all the same."""
    play("site.yml", "-e", json.dumps({"dagster_nginx_listen": shared.address}))
    until(lambda: shared.answer() == 200 and len(shared.holders) == 1, 15, "one proxy holds the address")
    for name in PROXIES:
        assert shared.run(name, "systemctl is-active nginx") == "active"
        with pytest.raises(OSError, match="refused"):
            shared.answer(shared.own[name])
    holder = shared.holders[0]
    shared.run(holder, "systemctl stop keepalived")
    try:
        shared.moves_to(next(name for name in PROXIES if name != holder), 3)
    finally:
        shared.run(holder, "systemctl start keepalived")


@pytest.mark.long  # two plays of six hosts, for what one option takes away
def test_without_the_option_nothing_of_it_is_left(play: Callable[..., Play], shared: Shared) -> None:
    play("site.yml", "-e", json.dumps({"dagster_vip": ""}))
    assert shared.holders == []
    for name in PROXIES:
        unit = shared.run(name, "systemctl show -p ActiveState,UnitFileState --value keepalived").split()
        assert unit == ["inactive", "disabled"]
        left = "find /etc/keepalived /etc/sysctl.d /etc/systemd/system/keepalived.service.d /usr/local/lib/dagster"
        assert shared.run(name, f"{left} -name keepalived.conf -o -name '*dagster*.conf' -o -name edge.sh") == ""
        assert shared.run(name, "find /etc/systemd/system -name 'sysctl-*'") == ""
        assert shared.answer(shared.own[name]) == 200
    play("site.yml")
    until(lambda: shared.answer() == 200 and len(shared.holders) == 1, 15, "one proxy holds the address again")
    assert play("site.yml").changed == 0
