"""The way in: where nginx listens, the URL at which its own host asks it, and which webservers get requests."""

from __future__ import annotations

import re
from typing import Any

import pytest
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


def replicas(found: dict[str, Any], kind: str = "replicas") -> list[str]:
    return [f"{replica['address']}:{replica['port']}" for replica in found["proxy"][kind]]


def test_hosts_have_different_numbers_of_replicas() -> None:
    """Which ports a host has, that host says. A proxy that took its own for all would ask where nobody listens."""
    found = groups(proxy=["a", "b"], webserver=["a", "b"])
    hosts = {"a": {"dagster_webserver_ports": [3000, 3001]}, "b": {"dagster_webserver_ports": [3005]}}
    places = ["10.0.0.1:3000", "10.0.0.1:3001", "10.0.0.2:3005"]
    assert [replicas(fact(host, found, each=hosts)) for host in ("a", "b")] == [places, places]
    assert replicas(fact("a", found)) == ["10.0.0.1:3000", "10.0.0.1:3001", "10.0.0.2:3000", "10.0.0.2:3001"]
    fewer = {"a": {**hosts["a"], "dagster_webserver_read_only_port": 3200}, "b": hosts["b"]}
    assert replicas(fact("b", found, each=fewer), "read_only") == ["10.0.0.1:3200"]


def test_nginx_of_another_source_stays() -> None:
    found = component("proxy")
    assert found.packages({"packages": {}}) == ["haproxy", "nginx-light"]
    assert found.packages({"packages": {"nginx": "1.22"}}) == ["haproxy"]
    assert found.packages({"packages": {"nginx-light": "1.22"}}) == ["haproxy"]


def test_text_of_the_deployed_url_is_read() -> None:
    """Who knows it need not write it again."""
    found = component("proxy")
    assert found.handed(FACTS)["url_file"] in found.plan.questions()["texts"]


CONF = "/etc/nginx/conf.d/dagster.conf"
URL_FILE = "/usr/local/lib/dagster/edge.url"
HEADER = "Managed by dataops.dagster"
ENABLED = "/etc/systemd/system/multi-user.target.wants/nginx.service"
NGINX = {"address": "0.0.0.0", "process": "nginx", "unit": "nginx.service"}


def problems(*ports: int, **facts: Any) -> list[str]:
    """What is wrong with a host whose nginx listens on these ports, if on any; it comes up at boot."""
    nginx: dict[str, Any] = {"packages": {"nginx": "1"}, "paths": [ENABLED]} if ports else {}
    found: list[str] = component("proxy").host_problems(
        {**FACTS, **nginx, "listeners": [{**NGINX, "port": port} for port in ports], **facts}
    )
    return found


def test_port_of_a_site_of_somebody_else_is_taken() -> None:
    """The unit is that of ours."""
    assert problems(80, 8080) == [
        "port 8080 is held by nginx of nginx.service on 0.0.0.0; stop it or change dagster_nginx_port"
    ]
    assert problems(80) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"lines": {CONF: [HEADER, "listen 127.0.0.1:8080;"]}},
        {"lines": {CONF: [HEADER, "listen 127.0.0.1:9999;"]}, "texts": {URL_FILE: "http://127.0.0.1:8080\n"}},
        {"texts": {URL_FILE: "http://127.0.0.1:8080\n"}},
    ],
    ids=["deployed", "the change of the port was interrupted", "our site was removed by hand"],
)
def test_port_of_our_own_site_is_ours(facts: dict[str, Any]) -> None:
    assert problems(80, 8080, **facts) == []


def test_port_that_is_new_and_taken() -> None:
    facts = {"lines": {CONF: [HEADER, "listen 127.0.0.1:9999;"]}, "texts": {URL_FILE: "http://127.0.0.1:9999\n"}}
    assert len(problems(8080, 9999, **facts)) == 1


def test_listening_addresses_of_the_deployed_site_are_read() -> None:
    pattern = component("proxy").lines()[CONF]
    text = f"# {HEADER} (role proxy).\n    listen 127.0.0.1:8080;\n    listen [::1]:8080;\n    gzip on;\n"
    found = [match[1] for match in re.finditer(pattern, text, re.MULTILINE)]
    assert found == [HEADER, "listen 127.0.0.1:8080;", "listen [::1]:8080;"]


def test_nginx_of_somebody_else_that_is_down_is_not_started() -> None:
    """With it would come up all sites that it has."""
    theirs = {"packages": {"nginx": "1", "nginx-full": "1"}}
    assert "serves nothing; start and enable it" in problems(**theirs)[0]
    assert problems(80, **theirs) == []
    assert "is not enabled, so a reboot ends it; start and enable it" in problems(80, **theirs, paths=[])[0]
    assert problems(**theirs, paths=[CONF, ENABLED]), "they have stopped it after we deployed to it"
    record = ["/usr/local/lib/dagster/installed/.complete", "/usr/local/lib/dagster/installed/nginx-light"]
    assert problems(packages={"nginx": "1", "nginx-light": "1"}, paths=record) == [], "ours"


def test_nginx_of_somebody_else_is_only_reloaded() -> None:
    """A restart would end the requests of their sites."""
    found = component("proxy")
    assert found.handed({**FACTS, "packages": {"nginx": "1"}})["nginx_theirs"] is True
    assert found.handed(FACTS)["nginx_theirs"] is False, "it is missing, and will be ours"
    assert "/etc/systemd/system/*.wants/nginx.service" in found.plan.questions()["paths"]


@pytest.mark.parametrize("unit", ["haproxy.service", "nginx.service"])
def test_server_that_came_without_a_package_is_refused(unit: str) -> None:
    """The package would be installed over it, and its unit be stopped or started as if it were ours."""
    package, path = unit.partition(".")[0], f"/etc/systemd/system/{unit}"
    up = [{"port": 80, "address": "0.0.0.0", "process": package, "unit": unit}]
    for facts in ({"listeners": up}, {"paths": [path]}):
        (said,) = problems(**facts)
        assert said.startswith(f"the host has a {unit} that did not come with Debian's package")
    assert path in component("proxy").plan.questions()["paths"]
    installed = problems(packages={package: "1"}, listeners=up, paths=[ENABLED, path])
    assert installed == [], "the control: an operator's own unit of the package"


def test_unit_of_a_shared_address_goes_with_the_proxy() -> None:
    unit = "sysctl-dagster-nginx.service"
    assert f"systemctl disable --now {unit}" in component("proxy", **VIP).removal()
    assert not [command for command in component("proxy").removal() if "sysctl" in command], "there is none"


def test_user_of_nginx_reaches_the_sockets() -> None:
    """nginx's own packages have a user of another name than Debian's."""
    found = component("proxy")
    assert found.handed(FACTS)["nginx_user"] == "www-data"
    pattern = found.lines()["/etc/nginx/nginx.conf"]
    match = re.search(pattern, "\nuser  nginx;\nworker_processes  auto;\n", re.MULTILINE)
    assert match
    assert found.handed({**FACTS, "lines": {"/etc/nginx/nginx.conf": [match[1]]}})["nginx_user"] == "nginx"


def test_packaged_haproxy_that_served_for_us_is_known_by_its_configuration() -> None:
    found = component("proxy")
    path = "/etc/haproxy/haproxy.cfg"
    assert found.handed({**FACTS, "lines": {path: [HEADER]}})["packaged_haproxy"] is True
    assert found.handed({**FACTS, "lines": {path: []}})["packaged_haproxy"] is False, "somebody else's"
    assert found.handed(FACTS)["packaged_haproxy"] is False
    assert found.lines()[path] == r"(Managed by dataops\.dagster)", "nothing else of it is read: it may hold passwords"
