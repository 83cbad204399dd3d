"""The way in: where nginx listens, and the URL at which its own host asks it."""

from __future__ import annotations

from plans import component, fact, groups, options

VIP = {"dagster_nginx_vip": "10.0.0.9/24", "dagster_nginx_listen": "0.0.0.0"}


def test_url_of_the_edge() -> None:
    variables = {"dagster_webserver_path_prefix": "/dagster", "dagster_nginx_listen": ["10.0.0.1", "::"]}
    assert fact(**variables)["nginx"]["url"] == "http://10.0.0.1:8080/dagster"


def test_health_is_asked_of_the_hosts_own_edge() -> None:
    """At the shared address another host may answer."""
    found = component("nginx", **{**VIP, "dagster_nginx_listen": "10.0.0.9"})
    assert found.addresses == ["10.0.0.9", "127.0.0.1"]
    assert found.url == "http://127.0.0.1:8080"
    assert component("nginx", **VIP).addresses == ["0.0.0.0"]


def test_proxies_of_a_shared_address() -> None:
    hosts = groups(proxy=["b", "a"], code=["c"])
    found = options("b", hosts, **VIP)
    assert (found["dagster_nginx_address"], found["dagster_nginx_peers"]) == ("10.0.0.2", ["10.0.0.2", "10.0.0.1"])
    assert "dagster_nginx_address" not in options("c", hosts, **VIP), "it is no proxy"


def test_nginx_of_another_source_stays() -> None:
    edge = component("nginx", **VIP)
    assert edge.packages({"packages": {}}) == ["nginx-light", "keepalived"]
    assert edge.packages({"packages": {"nginx": "1.22"}}) == ["keepalived"]
    assert component("nginx").packages({"packages": {"nginx-light": "1.22"}}) == []
