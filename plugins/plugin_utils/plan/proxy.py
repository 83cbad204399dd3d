# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A proxy: nginx, the way in, and HAProxy behind it, which picks the replica.

HAProxy is an instance of our own. nginx may be somebody else's: it serves our sites beside others.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import bare, host_port, is_ipv6
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import checks, record
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import (
    LOOPBACK,
    NO_UNIT,
    Port,
    is_address,
    port_of,
    reached_at,
)

UNIT = "nginx.service"
NGINX_CONFIG = "/etc/nginx/nginx.conf"
# Until we had an instance of our own, the packaged one served with our configuration.
PACKAGED_HAPROXY = "/etc/haproxy/haproxy.cfg"
# The units of the packages that the role installs where none of them is there.
PACKAGES = {UNIT: {"nginx", "nginx-light"}, "haproxy.service": {"haproxy"}}
# A size as nginx takes it, and one of its server names: also with a wildcard, or a regular expression.
SIZE = re.compile(r"[0-9]+[kKmMgG]?")
SERVER_NAME = re.compile(r"~[^\s;{}\"']+|[A-Za-z0-9_.*-]+")
ENABLED = f"/etc/systemd/system/*.wants/{UNIT}"


def named_addresses(values: Mapping[str, Any]) -> list[str]:
    """The addresses to listen on that the inventory names: one, or a list of them."""
    listen = values["dagster_nginx_listen"]
    named = [bare(str(address)) for address in (listen if isinstance(listen, list) else [listen])]
    return list({as_one(address): address for address in reversed(named)}.values())[::-1]


def as_one(address: str) -> str:
    """An address in the one form that it has: nginx takes no address twice, however it is written."""
    return str(ipaddress.ip_address(address)) if is_address(address) else address


def both_families(addresses: list[str]) -> bool:
    """Whether nginx takes IPv4 at `::` too. Beside an address of IPv4 it could not bind that."""
    return "::" in addresses and all(is_ipv6(address) for address in addresses)


def every_ipv4(addresses: list[str]) -> bool:
    """Whether nginx takes IPv4 at every address of the host."""
    return bool({"0.0.0.0", "*"}.intersection(addresses)) or both_families(addresses)


class Proxy(Component):
    """The entry points, and the balancer between them and the replicas."""

    @property
    def addresses(self) -> list[str]:
        """Where nginx listens. With a shared address on loopback too, where keepalived asks whether it may hold it."""
        named = named_addresses(self.values)
        more = self.values["dagster_vip"] and LOOPBACK not in named and not every_ipv4(named)
        return [*named, *([LOOPBACK] if more else [])]

    def listening(self) -> dict[str, list[str]]:
        return {"dagster_nginx_listen": named_addresses(self.values)}

    @property
    def url(self) -> str:
        """Base URL of the UI as this host reaches it."""
        # At a shared address another host may answer.
        shared = bool(self.values["dagster_vip"]) or every_ipv4(self.addresses)
        address = LOOPBACK if shared else reached_at(self.addresses[0], "", own=True)
        place = host_port(address, self.values["dagster_nginx_port"])
        return f"http://{place}{self.values['dagster_webserver_path_prefix']}"

    @property
    def socket(self) -> str:
        """Where HAProxy takes the requests of nginx."""
        return f"{self.plan.names['haproxy_sockets']}/{self.plan.names['backend']}.sock"

    @property
    def url_file(self) -> str:
        """Says where the deployed entry point answers: what a check asks before a change of that is made."""
        return f"{self.plan.names['programs']}/edge.url"

    def webserver_address(self, server: str) -> str:
        """Where the replicas of a host are reached."""
        bind = self.plan.webserver(server).bind
        return reached_at(bind, self.inventory.address(server), own=server == self.host.name)

    def packages(self, facts: Facts) -> list[str]:
        there = PACKAGES[UNIT].intersection(facts["packages"])
        return ["haproxy", *([] if there else ["nginx-light"])]

    def ports(self) -> list[Port]:
        entries = ["dagster_nginx_port"]
        entries += ["dagster_nginx_read_only_port"] if self.values["dagster_nginx_read_only_port"] else []
        return [Port(self.values[name], name, tuple(self.addresses), UNIT) for name in entries]

    def mark(self) -> str:
        return self.plan.names["nginx"]

    def removal(self) -> list[str]:
        haproxy, names = self.plan.names["haproxy"], self.plan.names
        sysctl = [*names.sysctl_removal("nginx"), f"rm {names.sysctl('nginx')}"]
        return [
            *(sysctl if self.values["dagster_vip"] else []),
            *super().removal(),
            "systemctl reload nginx.service",
            f"systemctl disable --now {haproxy}.service",
            f"rm -r {names.unit_file('haproxy')} {names.unit_file('haproxy')}.d {names['haproxy_config']}",
        ]

    def known_by(self) -> list[str]:
        return self.inventory.group("dagster_webserver")

    @property
    def sysctl_unit_file(self) -> str:
        """Where the unit is that lets nginx listen on an address of another host."""
        return f"/etc/systemd/system/{self.plan.names.sysctl_unit('nginx')}"

    def paths(self) -> list[str]:
        return [ENABLED, self.sysctl_unit_file, *(f"/etc/systemd/system/{unit}" for unit in PACKAGES)]

    def compared(self) -> list[str]:
        names = self.plan.names
        folders = [f"{names.unit_file('haproxy')}.d", names["nginx_own"]]
        files = [names["haproxy_config"], names.unit_file("haproxy"), names["nginx"], names.sysctl("nginx")]
        return [*folders, *(f"{folder}/*" for folder in folders), *files, self.sysctl_unit_file]

    def units(self) -> list[str]:
        more = [self.plan.names.sysctl_unit("nginx")] if self.values["dagster_vip"] else []
        return [f"{self.plan.names['haproxy']}.service", UNIT, *more]

    def theirs(self, facts: Facts) -> bool:
        """Whether nginx is somebody else's. Then it is only reloaded: they start and stop it."""
        return "nginx" in facts["packages"] and "nginx-light" not in self.plan.ours(facts)

    def texts(self) -> list[str]:
        return [self.url_file]

    def deployment_problems(self) -> list[str]:
        """Sentences about texts that nginx would refuse, or take for more than one word, at the end of a deployment."""
        size, name = (str(self.values[f"dagster_nginx_{key}"]).strip() for key in ("max_body_size", "server_name"))
        found = []
        if not SIZE.fullmatch(size):
            near = re.sub(r"(?i)\s|i?b$", "", size)
            hint = f"; did you mean {near.lower()}?" if SIZE.fullmatch(near) else ""
            found.append(
                f"dagster_nginx_max_body_size is {size!r}; nginx takes a number with k, m or g behind it{hint}"
            )
        bad = [word for word in name.split() if not SERVER_NAME.fullmatch(word)]
        if bad or not name:
            found.append(
                f"dagster_nginx_server_name is {name!r}; expected names of hosts with a space between them, without "
                "protocol, port or ';', or _ for every name"
            )
        return found

    def lines(self) -> dict[str, str]:
        return {
            self.mark(): rf"{record.HEADER[:-1]}|listen \S*:\d+[ ;])",
            NGINX_CONFIG: r"^\s*user\s+([\w-]+)",
            PACKAGED_HAPROXY: record.HEADER,
        }

    def options(self, facts: Facts) -> dict[str, Any]:
        return {"dagster_haproxy_webservers": list(self.webserver_hosts)}

    @property
    def webserver_hosts(self) -> dict[str, str]:
        """The hosts of webservers, by where their replicas are reached."""
        return {self.webserver_address(name): name for name in self.inventory.group("dagster_webserver")}

    def replicas(self, variable: str) -> list[dict[str, Any]]:
        """Address and port of each webserver that a variable of its host names. Hosts may differ in their ports."""
        hosts, found = self.webserver_hosts, []
        for address in self.host.chosen("dagster_haproxy_webservers", list(hosts)):
            named = self.inventory.hosts[hosts[address]].values if address in hosts else self.values
            ports = named[variable] or []
            listed = ports if isinstance(ports, list) else [ports]
            found += [{"address": address, "port": port_of(port)} for port in listed]
        return found

    def handed(self, facts: Facts) -> dict[str, Any]:
        lines = facts.get("lines") or {}
        return {
            "listen": self.addresses,
            "both_families": both_families(self.addresses),
            "url": self.url,
            "url_file": self.url_file,
            "replicas": self.replicas("dagster_webserver_ports"),
            "read_only": self.replicas("dagster_webserver_read_only_port"),
            "sysctl": self.plan.names.sysctl("nginx"),
            "sysctl_unit": self.plan.names.sysctl_unit("nginx"),
            "sysctl_unit_there": self.sysctl_unit_file in (facts.get("paths") or []),
            "nginx_theirs": self.theirs(facts),
            "nginx_user": next(iter(lines.get(NGINX_CONFIG) or []), "www-data"),
            "packaged_haproxy": bool(lines.get(PACKAGED_HAPROXY)),
        }

    def host_problems(self, facts: Facts) -> list[str]:
        return [*self.source_problems(facts), *self.site_problems(facts), *self.stopped_problems(facts)]

    def source_problems(self, facts: Facts) -> list[str]:
        """Sentences about servers that came without a package: the package would take their unit."""
        paths, held = facts.get("paths") or [], {str(listener["unit"]) for listener in facts["listeners"]}
        return [
            f"the host has a {unit} that did not come with Debian's package, and role proxy would install that over "
            "it; stop it and remove or rename the unit (systemctl disable --now), or take another host"
            for unit, packages in PACKAGES.items()
            if (unit in held or f"/etc/systemd/system/{unit}" in paths) and not packages.intersection(facts["packages"])
        ]

    def site_problems(self, facts: Facts) -> list[str]:
        """Sentences about ports that nginx holds for somebody else's site. Its unit does not tell whose a port is."""
        written, url = (
            (facts.get("lines") or {}).get(self.mark()),
            str((facts.get("texts") or {}).get(self.url_file, "")),
        )
        if written is None and url:  # somebody has removed our site, and nginx serves it until its next reload
            return []
        # After an interrupted change of the port, nginx serves what the file with the URL still says.
        ours = {int(port) for text in [*(written or []), url] for port in re.findall(r":(\d+)", text)}
        others = [replace(port, unit=NO_UNIT) for port in self.ports() if port.number not in ours]
        return checks.taken_port_problems(others, [held for held in facts["listeners"] if held["unit"] == UNIT])

    def stopped_problems(self, facts: Facts) -> list[str]:
        """A sentence about an nginx of others that is down, or will be: to start it would serve their sites."""
        if not self.theirs(facts):
            return []
        up = any(listener["unit"] == UNIT for listener in facts["listeners"])
        if up and any(fnmatch.fnmatch(path, ENABLED) for path in facts.get("paths") or []):
            return []
        found = "is not enabled, so a reboot ends it" if up else "serves nothing"
        return [
            f"nginx of this host was not installed by this collection and {found}; start and enable it (systemctl "
            "enable --now nginx) or remove its package. The play would start it, with all sites that it has"
        ]
