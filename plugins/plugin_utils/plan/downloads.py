# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proxy of a site for downloads (dagster_proxy), and what never goes through a proxy. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import locations
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, LOOPBACK6, first_address
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage

# It stands in files of shell, systemd and apt: in a URL the rest is written as %XX.
URL = re.compile(r"[A-Za-z0-9:/@._~%!&*+,;=\[\]-]+")
ENTRY = re.compile(r"[A-Za-z0-9._:/*-]+")


def exceptions(inventory: Inventory, storage: Storage, values: Mapping[str, Any], cluster: str = "") -> list[str]:
    """Whatever is part of the deployment, and what the inventory adds; cluster is the host of the API of the runs'."""
    hosts = [text for name, host in sorted(inventory.hosts.items()) for text in (name, host.address)]
    subnet = str(values["dagster_docker_network_subnet"])
    try:
        ipaddress.ip_network(subnet)
    except ValueError:  # another problem says so
        subnet = ""
    containers = [f"{values['dagster_instance_name']}-code-{found.name}" for found in locations(inventory, values)]
    shared = str(values["dagster_vip"] or "").partition("/")[0]
    given = [str(entry) for entry in (values["dagster_proxy"] or {}).get("no_proxy") or []]
    every = ["localhost", LOOPBACK, LOOPBACK6, *hosts, storage.external, storage.run_address, first_address(subnet)]
    return list(dict.fromkeys(filter(None, [*every, subnet, shared, *containers, cluster, *given])))


def url_problem(key: str, url: str) -> str:
    """A sentence about an address that is no proxy's, without what may be a password in it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(URL.fullmatch(url))
        good = good and (parts.port or 1) > 0 and parts.path in ("", "/") and not parts.query
    except ValueError:
        good = False
    if good:
        return ""
    return (
        f"dagster_proxy.{key} is no URL of a proxy; for example http://proxy.example.com:3128, or with a login "
        "http://USER:PASSWORD@proxy.example.com:3128, in which other signs than letters and digits are written as %XX"
    )


def problems(values: Mapping[str, Any]) -> list[str]:
    """Sentences about dagster_proxy."""
    proxy = values["dagster_proxy"] or {}
    found = [url_problem(key, str(proxy[key])) for key in ("http", "https") if proxy.get(key)]
    found += [
        f"dagster_proxy.no_proxy: {entry!r} is no name, domain, address or network; for example .example.com"
        for entry in proxy.get("no_proxy") or []
        if not ENTRY.fullmatch(str(entry))
    ]
    if proxy.get("no_proxy") and not (proxy.get("http") or proxy.get("https")):
        found.append("dagster_proxy has no_proxy, but neither http nor https; name the proxy, or leave it out")
    return [text for text in found if text]
