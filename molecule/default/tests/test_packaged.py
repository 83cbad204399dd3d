"""What our packages would serve by themselves is off, and what an operator switches on later is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import Dagster, Play, until

RECORD = "/usr/local/lib/dagster/installed"
OTHER = 9007  # the port of the operator's own HAProxy
SITE = 8098  # and of a site of the operator's
FRONTEND = f"""
frontend other
    bind 127.0.0.1:{OTHER}
    http-request return status 200 content-type text/plain string other
"""


def ask(host: Any, port: int, path: str = "/") -> str:
    """Status and text of an answer on this host."""
    program = (
        "import sys, urllib.request; answer = urllib.request.urlopen(sys.argv[1], timeout=10);"
        "print(answer.status, answer.read().decode())"
    )
    found: str = host.check_output("python3 -c %s %s", program, f"http://127.0.0.1:{port}{path}")
    return found.strip()


def unit(host: Any, name: str) -> list[str]:
    """State of a unit, and whether it comes up at boot."""
    found: str = host.check_output(f"systemctl show -p ActiveState,UnitFileState --value {name}")
    return found.split()


@pytest.fixture
def switched_on(host: Any) -> Iterator[str]:
    """The packaged HAProxy as an operator uses it; its main process. Afterwards it is as it was."""
    path = "/etc/haproxy/haproxy.cfg"
    host.check_output(f"cp -a {path} /run/packaged.cfg")
    host.check_output("printf %s %s >>%s", "%s", FRONTEND, path)
    try:
        host.check_output("systemctl enable --now haproxy")
        until(lambda: ask(host, OTHER) == "200 other", 20, "the operator's HAProxy answers")
        yield host.check_output("systemctl show -p MainPID --value haproxy")
    finally:
        host.check_output(f"systemctl disable --now haproxy; cp -a /run/packaged.cfg {path}")


@pytest.fixture
def site(host: Any) -> Iterator[None]:
    """A site of the operator's in the same nginx, with settings at http level."""
    text = f"gzip_types application/json; gzip_proxied any; server {{ listen {SITE}; return 200 theirs; }}"
    host.check_output(f"printf %s '{text}' >/etc/nginx/conf.d/theirs.conf && nginx -t && systemctl reload nginx")
    until(lambda: ask(host, SITE) == "200 theirs", 20, "the operator's site answers")
    yield
    host.check_output("rm /etc/nginx/conf.d/theirs.conf && systemctl reload nginx")


def test_packaged_services_are_off(host: Any) -> None:
    assert unit(host, "haproxy") == ["inactive", "disabled"]
    assert unit(host, "haproxy-dagster") == ["active", "enabled"]
    assert not host.file("/etc/nginx/sites-enabled/default").exists
    assert not host.file("/run/haproxy/admin.sock").exists
    assert "Managed by dataops.dagster" not in host.file("/etc/haproxy/haproxy.cfg").content_string


def test_host_remembers_which_packages_are_ours(host: Any) -> None:
    found = set(host.file(RECORD).listdir())
    assert {"haproxy", "nginx-light"} <= found
    assert "openssh-server" not in found, "the control: it was there before"
    assert host.file(f"{RECORD}/haproxy").user == "root"
    assert host.file(f"{RECORD}/.complete").exists


def test_haproxy_has_no_settings_of_the_services(host: Any) -> None:
    """Their drop-in is for each unit whose name begins as theirs do. HAProxy has a sandbox of its own."""
    own = "/etc/systemd/system/haproxy-dagster.service.d/20-sandbox.conf"
    assert host.check_output("systemctl show -p DropInPaths --value haproxy-dagster") == own
    assert "10-instance.conf" in host.check_output("systemctl show -p DropInPaths --value dagster-webserver@3000")
    pid = host.check_output("systemctl show -p MainPID --value haproxy-dagster")
    assert set(host.check_output(f"ps -o user= --ppid {pid}").split()) == {"haproxy"}


def test_haproxy_of_an_operator_stays_on(play: Callable[..., Play], host: Any, switched_on: str) -> None:
    assert play("site.yml").changed == 0
    assert host.check_output("systemctl show -p MainPID --value haproxy") == switched_on
    assert unit(host, "haproxy") == ["active", "enabled"]
    assert ask(host, OTHER) == "200 other"
    assert ask(host, 8080, "/server_info").startswith("200 ")


@pytest.mark.usefixtures("site")
def test_site_of_an_operator_stays(play: Callable[..., Play], host: Any, dagster: Dagster) -> None:
    assert play("site.yml").changed == 0
    assert ask(host, SITE) == "200 theirs"
    assert dagster.get("/server_info")[0] == 200


@pytest.mark.usefixtures("site")
def test_port_of_a_site_of_an_operator_is_refused(play: Callable[..., Play]) -> None:
    """Both would be in the same nginx, which then picks one of them for each request."""
    refused = play("preflight.yml", "-e", f"dagster_nginx_port={SITE}", ok=False)
    assert refused.rc != 0
    assert f"port {SITE} is held by nginx of nginx.service" in refused.output
    assert "change dagster_nginx_port" in refused.output
