"""A reload that nginx or HAProxy refuses fails, the old configuration serves meanwhile, and the next try is a new one.

The fault: another process holds an address. The programs' own checks pass, because they cannot tell it from the address
that the running process holds itself. Only the reload finds out.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import RIG, ROOT, Play, environment, until

TAKEN = 8099  # the port that another process holds
NGINX = {
    "name": "nginx.service",
    "files": ["/etc/nginx/dagster.d"],
    "check": ["nginx", "-t"],
    "reload": True,
    "log": "/var/log/nginx/error.log",
}
HAPROXY = {"name": "haproxy-dagster.service", "files": ["/etc/haproxy-dagster.cfg"], "reload": True}


@pytest.fixture
def taken(host: Any) -> Iterator[Callable[[], None]]:
    """Another process holds the port; what is given ends it."""
    unit = "taken-port"
    server = f"python3 -m http.server --bind 127.0.0.1 {TAKEN}"
    host.check_output(f"systemd-run --quiet --collect --unit {unit} {server}")
    until(lambda: host.socket(f"tcp://127.0.0.1:{TAKEN}").is_listening, 20, "the port is taken")

    def end() -> None:
        host.run(f"systemctl stop {unit}")

    yield end
    end()


@pytest.fixture
def directives(host: Any) -> Iterator[str]:
    """A file of the operator's own directives, which is gone afterwards."""
    path = "/etc/nginx/dagster.d/90-test.conf"
    yield path
    host.check_output(f"rm -f {path} && systemctl restart nginx")


@pytest.fixture
def haproxy_cfg(host: Any) -> Iterator[str]:
    """HAProxy's file, which is as it was afterwards."""
    path = "/etc/haproxy-dagster.cfg"
    host.check_output(f"cp -a {path} /run/haproxy.cfg.before")
    yield path
    host.check_output(f"cp -a /run/haproxy.cfg.before {path} && systemctl restart haproxy-dagster")


def units(spec: dict[str, Any], *options: str) -> Play:
    """The module alone, as the role calls it."""
    argv = ["ansible", "dagster1", "-i", str(RIG), "--become", "-m", "dataops.dagster.units", *options]
    argv += ["-a", json.dumps({"units": [spec]})]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180, env=environment())
    return Play(done.returncode, done.stdout + done.stderr)


def answer(host: Any, port: int = 8080) -> str:
    """Status and headers that nginx answers with."""
    program = (
        "import sys, urllib.request; answer = urllib.request.urlopen(sys.argv[1], timeout=10);"
        "print(answer.status, answer.headers)"
    )
    found: str = host.check_output("python3 -c %s %s", program, f"http://127.0.0.1:{port}/server_info")
    return found


def workers(host: Any, unit: str) -> str:
    """The processes of a unit but for the main one."""
    found: str = host.check_output(f"pgrep -P $(systemctl show -p MainPID --value {unit}) | sort | paste -sd' '")
    return found


def test_reload_that_nginx_refuses(
    play: Callable[..., Play], host: Any, taken: Callable[[], None], directives: str
) -> None:
    before = workers(host, "nginx")
    text = f"listen 127.0.0.1:{TAKEN};\nadd_header X-Generation new always;\n"
    host.check_output(f"printf %s '{text}' >{directives}")
    host.check_output("nginx -t")  # the control: nginx's own check has nothing against it

    refused = play("site.yml", ok=False)
    assert refused.rc != 0, "the play says ok, and the old configuration serves"
    assert "nginx.service has refused the reload: it has no new process after" in refused.output
    assert f"bind() to 127.0.0.1:{TAKEN} failed" in refused.output, "nginx's own words"
    assert "TASK [dataops.dagster.daemon" not in refused.output, "nothing goes on after it"
    assert workers(host, "nginx") == before
    assert answer(host).startswith("200 ")
    assert "X-Generation" not in answer(host), "the control: what serves is the old configuration"

    again = units(NGINX, "--check")
    assert "reload: /etc/nginx/dagster.d is newer than the process" in again.output, "the next play tries again"
    taken()
    done = units(NGINX)
    assert done.rc == 0, done.output
    assert workers(host, "nginx") != before
    for port in (8080, TAKEN):
        assert "X-Generation: new" in answer(host, port)
    assert "CHANGED" not in units(NGINX).output, "once"


def test_reload_that_haproxy_refuses(host: Any, taken: Callable[[], None], haproxy_cfg: str) -> None:
    before = workers(host, "haproxy-dagster")
    host.check_output(f"printf '\\nlisten test\\n    bind 127.0.0.1:{TAKEN}\\n' >>{haproxy_cfg}")
    host.check_output(f"haproxy -c -q -f {haproxy_cfg}")  # the control: HAProxy's own check has nothing against it

    refused = units(HAPROXY)
    assert refused.rc != 0, "the module says ok, and the old configuration serves"
    assert "haproxy-dagster.service has refused the reload: it has no new process after" in refused.output
    assert f"cannot bind socket (Address already in use) for [127.0.0.1:{TAKEN}]" in refused.output, (
        "HAProxy's own words"
    )
    assert workers(host, "haproxy-dagster") == before
    assert answer(host).startswith("200 ")

    again = units(HAPROXY, "--check")
    assert f"reload: {haproxy_cfg} is newer than the process" in again.output, "the next play tries again"
    taken()
    done = units(HAPROXY)
    assert done.rc == 0, done.output
    assert set(workers(host, "haproxy-dagster").split()) - set(before.split())
    assert host.socket(f"tcp://127.0.0.1:{TAKEN}").is_listening
    assert "CHANGED" not in units(HAPROXY).output, "once"
