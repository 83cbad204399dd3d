"""The inventory as the plan sees it."""

from __future__ import annotations

from plans import groups, inventory


def test_roles_of_a_host_are_those_of_its_groups() -> None:
    found = inventory(groups(database=["b"], proxy=["b", "c"]))
    assert found.roles_of("a") == ["code_location", "daemon", "docker", "firewall", "gate", "instance", "webserver"]
    assert found.roles_of("b") == ["firewall", "postgres", "proxy", "vip"]
    assert found.roles_of("c") == ["firewall", "proxy", "vip"]


def test_hosts_of_services_and_of_engines() -> None:
    found = inventory(groups(webserver=["b", "a"], daemon=["c"], code=["c"], run=["b"]))
    assert (found.services, found.engines) == (["a", "b", "c"], ["b", "c"])


def test_group_that_the_inventory_lacks_has_no_hosts() -> None:
    assert inventory().group("dagster_entirely") == []


def test_address_of_no_host_is_what_it_says() -> None:
    assert (inventory().address("a"), inventory().address("db.example.com")) == ("10.0.0.1", "db.example.com")


def test_what_is_set_comes_before_what_is_derived() -> None:
    host = inventory(dagster_webserver_bind="10.9.9.9").hosts["a"]
    assert host.chosen("dagster_webserver_bind", "127.0.0.1") == "10.9.9.9"
    assert host.chosen("dagster_vip_own_address", "10.0.0.1") == "10.0.0.1"
