"""Role proxy: when it says where the UI answers, which a check of a later play believes."""

from __future__ import annotations

from typing import Any

import pytest
from dry_play import Deployment, Players

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
