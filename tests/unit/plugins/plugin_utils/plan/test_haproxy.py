"""Which webservers get requests."""

from __future__ import annotations

from plans import FACTS, component, fact, groups


def test_proxy_elsewhere() -> None:
    found = groups(proxy=["b"])
    stack, proxy = fact("a", found), fact("b", found, dagster_nginx_listen=["0.0.0.0"])
    assert stack["options"]["dagster_webserver_bind"] == "10.0.0.1"
    assert proxy["options"]["dagster_haproxy_webservers"] == ["10.0.0.1"]
    assert component("haproxy", "a", found).options(FACTS) == {"dagster_haproxy_webservers": ["10.0.0.1"]}
    assert proxy["nginx"]["url"] == "http://127.0.0.1:8080", "asked on the proxy's own host"
    assert stack["options"]["dagster_code_endpoints"][0]["host"] == "127.0.0.1"


def test_webservers_that_another_proxy_asks_too_listen_on_their_own_address() -> None:
    found = groups(proxy=["a", "b"])
    for host in ("a", "b"):
        assert fact(host, found)["options"]["dagster_haproxy_webservers"] == ["10.0.0.1"]
