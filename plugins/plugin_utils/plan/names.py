# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every name that an instance has on its hosts: all of them are made from the instance's own (dagster_instance_name).

Two instances of Dagster differ in that name and in dagster_instance_port_offset; paths, units, users, networks, logins,
containers and ports follow. They cannot share a host yet: its engine and keepalived have one configuration.
Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import differing

DEFAULT = "dagster"
# No dash: systemd reads one as the end of a prefix, so the drop-ins of `a` would be those of `a-b` too. Short: a user's
# name has 32 characters, and the longest one that is made of it 15 more.
PATTERN = re.compile(r"[a-z][a-z0-9]{0,15}")

# The options that follow from the name. What the inventory sets wins.
OPTIONS = {
    "dagster_user": "{name}",
    "dagster_group": "{name}",
    "dagster_home": "/etc/{name}",
    "dagster_install_dir": "/opt/{name}",
    "dagster_state_dir": "/var/lib/{name}",
    "dagster_docker_network": "{name}",
    "dagster_docker_code_network": "{name}_code",
    "dagster_database_name": "{name}",
    "dagster_database_user": "{name}",
    "dagster_database_read_user": "{name}_read",
    "dagster_database_code_user": "{name}_code",
    "dagster_database_run_user": "{name}_run",
    "dagster_database_migration_user": "{name}_migration",
    "dagster_database_guard_user": "{name}_guard",
    "dagster_database_owner_role": "{name}_owner",
    "dagster_database_app_role": "{name}_app",
    "dagster_database_guard_role": "{name}_guard_owner",
    "dagster_database_daemon_role": "{name}_daemon",
}
# The options that follow from the port offset: what is added to it.
PORTS: dict[str, int | list[int]] = {
    "dagster_webserver_ports": [3000, 3001],
    "dagster_nginx_port": 8080,
}
# That of a code location that names none.
CODE_PORT = 4000

# The names that no option changes. Those of units have no suffix; `code` is how the containers of code servers begin.
FIXED = {
    "daemon": "{name}-daemon",
    "webserver": "{name}-webserver",
    "webserver_read_only": "{name}-webserver-read-only",
    "unit_drop_ins": "/etc/systemd/system/{name}-.service.d",
    "installation": "install-{name}",
    "prune": "prune-{name}-runs",
    # No name that begins as those of our services do, either.
    "gate": "docker-gate-{name}",
    "code_health": "code-health-{name}",
    "gate_config": "/etc/docker-gate-{name}",
    "gate_sockets": "/run/docker-gate-{name}",
    "gate_steps": "/run/docker-gate-{name}/steps",  # of each code location whose runs start steps, one folder
    "gate_user": "{name}_gate",
    # A unit that has one of these groups has that role at the gate. No user is a member.
    "launch_group": "{name}_launch",
    "inspect_group": "{name}_inspect",
    "command_line": "/usr/local/bin/{name}-cli",
    "code": "{name}-code",
    "programs": "/usr/local/lib/{name}",
    "record": "/usr/local/lib/{name}/installed",
    "proven_images": "/usr/local/lib/{name}/proven_images.json",
    # What has reached the store of compute logs: services, and containers of code.
    "proven_logs": "/usr/local/lib/{name}/proven_logs.json",
    "proven_code_logs": "/usr/local/lib/{name}/proven_code_logs.json",
    "apt_proxy": "/run/{name}-apt-proxy.conf",  # there only while apt installs for us
    "downloads": "/usr/local/lib/{name}/downloads",
    "proven": "/usr/local/lib/{name}/proven",  # what runs need, as the last good canary has proven it
    "ca_certificates": "/usr/local/share/ca-certificates/{name}",
    "tmpfiles": "/etc/tmpfiles.d/{name}.conf",
    # No name that begins as those of our services do: the settings in unit_drop_ins are not for this unit.
    "haproxy": "haproxy-{name}",
    "haproxy_config": "/etc/haproxy-{name}.cfg",
    "haproxy_sockets": "/run/haproxy-{name}",
    "nginx": "/etc/nginx/conf.d/{name}.conf",
    "nginx_own": "/etc/nginx/{name}.d",
    "nginx_connection": "{name}_connection",
    "backend": "{name}_webserver",
    "backend_read_only": "{name}_read_only",
    "vrrp": "{name}",
    "firewall": "firewall-{name}",
    "firewall_rules": "/etc/firewall-{name}.nft",
    "firewall_table": "{name}_firewall",
    "cluster": "{name}",
    # Of the server of the database: its certificate, and the authority by which clients on other hosts know it.
    "database_tls": "/etc/ssl/{name}-database",
}
# By which an instance on a host is known: services, proxy, engine, database. Each host of one has at least one of them.
TRACES = (
    "/etc/systemd/system/{name}-.service.d/10-instance.conf",
    "/usr/local/lib/{name}/edge.url",
    "/etc/systemd/system/prune-{name}-runs.timer",
    "/etc/sysctl.d/60-{name}-*.conf",
)
LARGEST_OFFSET = 50000


def defaults(name: str = DEFAULT, port_offset: int = 0) -> dict[str, Any]:
    """The defaults of the options that an instance's name and port offset decide."""
    ports = {
        option: [port + port_offset for port in base] if isinstance(base, list) else base + port_offset
        for option, base in PORTS.items()
    }
    return {**{option: pattern.format(name=name) for option, pattern in OPTIONS.items()}, **ports}


def chosen(read: Callable[[str], Any]) -> dict[str, Any]:
    """The same for what an inventory says; a value that is none stands for the default, another problem says so."""
    name, offset = read("dagster_instance_name"), read("dagster_instance_port_offset")
    return defaults(str(name or DEFAULT), int(offset) if re.fullmatch(r"\s*-?[0-9]{1,5}\s*", str(offset)) else 0)


def code_port(values: Mapping[str, Any]) -> int:
    """The port of a code location that names none."""
    return CODE_PORT + int(values["dagster_instance_port_offset"])


class Names:
    """The names of one instance that no option changes."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.name = str(values["dagster_instance_name"])
        self.fixed = {key: pattern.format(name=self.name) for key, pattern in FIXED.items()}

    def __getitem__(self, key: str) -> str:
        return self.fixed[key]

    def sysctl(self, what: str) -> str:
        """The file with which a system sets parameters of the kernel."""
        return f"/etc/sysctl.d/60-{self.name}-{what}.conf"

    def sysctl_unit(self, what: str) -> str:
        """The unit that sets what this file says. systemd-sysctl.service would set what every file of the host says."""
        return f"sysctl-{self.name}-{what}.service"

    def sysctl_removal(self, what: str) -> list[str]:
        """Commands that take that unit away."""
        unit = self.sysctl_unit(what)
        return [f"systemctl disable --now {unit}", f"rm /etc/systemd/system/{unit}"]

    def unit_file(self, key: str, suffix: str = ".service") -> str:
        """The path of one of our units."""
        return f"/etc/systemd/system/{self[key]}{suffix}"

    def services(self) -> list[str]:
        """Patterns of the units that the settings in unit_drop_ins are for: each whose name begins as ours do."""
        return [f"{folder}/{self.name}-*.service" for folder in ("/etc/systemd/system", "/lib/systemd/system")]

    def own_services(self) -> set[str]:
        """Those of them that are ours."""
        units = {"daemon": ".service", "webserver": "@.service", "webserver_read_only": "@.service"}
        return {self.unit_file(key, suffix) for key, suffix in units.items()}

    def enabled(self, key: str) -> str:
        """A pattern of the links with which systemd starts the instances of one of our template units at boot."""
        return f"/etc/systemd/system/multi-user.target.wants/{self[key]}@*.service"


def traces() -> list[str]:
    """Patterns of paths that show which instances a host has."""
    return [trace.format(name="*") for trace in TRACES]


def expression(trace: str) -> str:
    """A trace as a regular expression, in which the first group is the name of the instance."""
    return re.escape(trace).replace(re.escape("{name}"), f"({PATTERN.pattern})").replace(re.escape("*"), "[a-z]+")


def other_instances(paths: Iterable[str], name: str) -> dict[str, str]:
    """The other instances of a host, each with a path that shows it; paths are those that are there."""
    patterns = [re.compile(expression(trace)) for trace in TRACES]
    found = {match[1]: path for path in paths for pattern in patterns if (match := pattern.fullmatch(path))}
    return {other: path for other, path in found.items() if other != name}


def host_problems(paths: Iterable[str], name: str) -> list[str]:
    """A sentence when another instance has the host: both would write the settings of its engine and keepalived."""
    return [
        f"the host serves the instance {other} ({path}), and dagster_instance_name is {name}; one host serves one "
        "instance. Take another host, or the name of that instance"
        for other, path in other_instances(paths, name).items()
    ]


def problems(inventory: Inventory) -> list[str]:
    """Sentences about a name from which not every other name can be made, or that hosts do not agree on."""
    every = {host: str(known.values["dagster_instance_name"]) for host, known in inventory.hosts.items()}
    if found := differing("dagster_instance_name", every, "they are one instance"):
        return found
    offsets = {host: str(known.values["dagster_instance_port_offset"]) for host, known in inventory.hosts.items()}
    if found := differing("dagster_instance_port_offset", offsets, "they are one instance"):
        return found
    found = [
        f"dagster_instance_name is {name!r}; it has at most 16 small letters and digits and begins with a letter, for "
        "example analytics"
        for name in set(every.values())
        if not PATTERN.fullmatch(name)
    ]
    found += [
        f"dagster_instance_port_offset is {offset}; it is a number from 0 to {LARGEST_OFFSET}"
        for offset in set(offsets.values())
        if not 0 <= int(offset) <= LARGEST_OFFSET
    ]
    return found
