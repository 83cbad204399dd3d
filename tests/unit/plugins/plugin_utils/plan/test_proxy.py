"""The way in: where nginx listens, the URL at which its own host asks it, and which webservers get requests."""

from __future__ import annotations

from plans import FACTS, component, fact, groups

VIP = {"dagster_vip": "10.0.0.9/24", "dagster_nginx_listen": "0.0.0.0"}


def test_url_of_the_edge() -> None:
    variables = {"dagster_webserver_path_prefix": "/dagster", "dagster_nginx_listen": ["10.0.0.1", "::"]}
    assert fact(**variables)["proxy"]["url"] == "http://10.0.0.1:8080/dagster"


def test_health_is_asked_of_the_hosts_own_edge() -> None:
    """At the shared address another host may answer."""
    found = component("proxy", **{**VIP, "dagster_nginx_listen": "10.0.0.9"})
    assert found.addresses == ["10.0.0.9", "127.0.0.1"]
    assert found.url == "http://127.0.0.1:8080"
    assert component("proxy", **VIP).addresses == ["0.0.0.0"]
    assert found.handed(FACTS)["listen"] == found.addresses, "for the role too"


def test_proxy_elsewhere() -> None:
    found = groups(proxy=["b"])
    stack, proxy = fact("a", found), fact("b", found, dagster_nginx_listen=["0.0.0.0"])
    assert stack["options"]["dagster_webserver_bind"] == "10.0.0.1"
    assert proxy["options"]["dagster_haproxy_webservers"] == ["10.0.0.1"]
    assert component("proxy", "a", found).options(FACTS) == {"dagster_haproxy_webservers": ["10.0.0.1"]}
    assert proxy["proxy"]["url"] == "http://127.0.0.1:8080", "asked on the proxy's own host"
    assert stack["options"]["dagster_code_endpoints"][0]["host"] == "127.0.0.1"


def test_webservers_that_another_proxy_asks_too_listen_on_their_own_address() -> None:
    found = groups(proxy=["a", "b"])
    for host in ("a", "b"):
        assert fact(host, found)["options"]["dagster_haproxy_webservers"] == ["10.0.0.1"]


def test_nginx_of_another_source_stays() -> None:
    found = component("proxy")
    assert found.packages({"packages": {}}) == ["haproxy", "nginx-light"]
    assert found.packages({"packages": {"nginx": "1.22"}}) == ["haproxy"]
    assert found.packages({"packages": {"nginx-light": "1.22"}}) == ["haproxy"]


def test_text_of_the_deployed_url_is_read() -> None:
    """Who knows it need not write it again."""
    found = component("proxy")
    assert found.handed(FACTS)["url_file"] in found.plan.questions()["texts"]
