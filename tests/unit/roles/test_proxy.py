"""Role proxy: when it says where the UI answers, which a check of a later play believes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from deployments import Deployment
from dry_play import Players

URL_FILE = "/usr/local/lib/dagster/edge.url"
URL = "http://127.0.0.1:8080"


def calls(**facts: Any) -> list[str]:
    """What the host of one is given, in order: each file and each unit by its name."""
    host = Players(Deployment(("inventories/single_host",), facts=facts)).hosts["dagster1"]
    found = []
    for task in host.given:
        for module in ("files", "service", "units"):
            call = task.get(f"dataops.dagster.{module}", {})
            found += [str(entry["dest"]) for entry in call.get("files", [])]
            found += [str(unit["name"]) for unit in call.get("units", [])]
    return found


@pytest.mark.parametrize("deployed", [{}, {URL_FILE: "http://127.0.0.1:9999\n"}])
def test_url_is_written_once_nginx_serves_it(deployed: dict[str, str]) -> None:
    """A play that is killed before, or that nginx refuses, leaves the URL of what serves."""
    found = calls(texts=deployed)
    assert found.index("/etc/nginx/conf.d/dagster.conf") < found.index("nginx.service") < found.index(URL_FILE)


def test_url_that_is_right_costs_no_call() -> None:
    found = calls(texts={URL_FILE: f"{URL}\n"})
    assert "nginx.service" in found, "the control"
    assert URL_FILE not in found


ENABLED = "/etc/systemd/system/multi-user.target.wants/nginx.service"
SYSCTL = "/etc/systemd/system/sysctl-dagster-nginx.service"


def test_what_let_nginx_listen_elsewhere_ends_before_its_file_goes() -> None:
    """systemctl disables no unit whose file is gone."""
    unit = SYSCTL.rpartition("/")[2]
    found = calls(paths=[SYSCTL])
    assert found.index(unit) < found.index(SYSCTL)
    assert unit not in calls(), "where there is none, that is no call"


PACKAGED = ["/etc/nginx/sites-enabled/default", "haproxy.service"]
RECORD = "/usr/local/lib/dagster/installed"


def test_what_our_packages_would_serve_is_left_off_before_we_serve() -> None:
    found = calls()
    assert [name for name in found if name in PACKAGED] == PACKAGED
    assert found.index("haproxy.service") < found.index("haproxy-dagster.service")


@pytest.mark.parametrize(("package", "kept"), [("nginx", PACKAGED[0]), ("haproxy", PACKAGED[1])])
def test_what_was_there_before_us_stays_as_it_is(package: str, kept: str) -> None:
    up = [{"port": 80, "address": "0.0.0.0", "process": "nginx", "unit": "nginx.service"}]
    found = calls(packages={package: "1"}, listeners=up if package == "nginx" else [], paths=[ENABLED])
    assert kept not in found
    assert set(PACKAGED) - {kept} <= set(found), "the control: the other package is ours"


def test_what_an_operator_switches_on_later_stays_on() -> None:
    """We have been here. The packages are ours, but their services are no longer looked at."""
    record = [f"{RECORD}/.complete", *(f"{RECORD}/{name}" for name in ("haproxy", "nginx-light"))]
    installed = {"haproxy": "1", "nginx": "1", "nginx-light": "1"}
    found = calls(packages=installed, paths=record, texts={URL_FILE: f"{URL}\n"})
    assert "nginx.service" in found, "the control"
    assert not [name for name in found if name in PACKAGED]


def test_packaged_haproxy_that_served_for_us_ends_after_nginx_has_left_it() -> None:
    """An upgrade from 0.1.0: no request may be lost, and nothing of it stays."""
    marks = ["/etc/nginx/conf.d/dagster.conf"]
    lines = {"/etc/haproxy/haproxy.cfg": ["Managed by dataops.dagster"]}
    found = calls(packages={"haproxy": "1", "nginx-light": "1"}, paths=marks, lines=lines)
    order = [found.index(name) for name in ("haproxy-dagster.service", "nginx.service", "haproxy.service")]
    assert order == sorted(order)
    assert found.count("haproxy.service") == 1
    assert found.index("/etc/haproxy/haproxy.cfg") > order[-1], "the next play goes on where this one is killed"


def test_haproxy_of_somebody_else_is_not_retired() -> None:
    found = calls(packages={"haproxy": "1"}, lines={"/etc/haproxy/haproxy.cfg": []})
    assert "haproxy-dagster.service" in found
    assert not {"haproxy.service", "/etc/haproxy/haproxy.cfg"}.intersection(found)


def test_nothing_of_ours_is_at_http_level_that_a_second_file_could_repeat() -> None:
    """A setting there is one of everybody's sites, and for some of them a second one is an error."""
    written = Players(Deployment(("inventories/single_host",))).hosts["dagster1"].written
    text = re.sub(r"#.*", "", written["/etc/nginx/conf.d/dagster.conf"])
    depth, outside = 0, ""
    for part in re.split(r"([{}])", text):
        depth += {"{": 1, "}": -1}.get(part, 0)
        outside += part if depth == 0 else ""
    heads = [" ".join(line.split()) for line in re.split(r"[;}]", outside) if line.strip()]
    assert heads == ["map $http_upgrade $dagster_connection", "upstream dagster_webserver", "server"]
