# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be known to be wrong before a host is touched, and who reaches whom at which address. Pure: no I/O."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

# MiB that each part takes at rest (measured), what one run needs beside them, and what the system keeps for itself.
MEMORY_MB = {
    "webserver": 165,
    "daemon": 140,
    "code_location": 120,
    "docker": 125,
    "postgres": 200,
    "run": 300,
    "system": 200,
}

# Which roles a host of each kind gets; the playbooks say which group is of which kind.
ROLES = {
    "database": ("postgres",),
    "webserver": ("instance", "webserver"),
    "daemon": ("instance", "daemon"),
    "code": ("docker", "code_location"),
    "run": ("docker", "code_location"),
    "proxy": ("nginx",),
}
# What the test suite runs; anything else is not called supported.
SUPPORTED_SYSTEMS = {"debian": ("bookworm",)}
# Facts and results of our own plays that carry the prefix of user variables.
OWN_NAMES = {"dagster_host", "dagster_topology"}
# What the topology works out, and the role variable that a user may set instead.
TOPOLOGY_VARIABLES = {
    "postgres_listen": "dagster_postgres_listen_addresses",
    "postgres_clients": "dagster_postgres_clients",
    "postgres_daemon_logins": "dagster_postgres_daemon_logins",
    "daemon_login": "dagster_daemon_login",
    "database_external": "dagster_database_external",
    "database_run_host": "dagster_database_run_host",
    "database_code_host": "dagster_database_run_host",
    "code_endpoints": "dagster_code_endpoints",
    "code_publish_address": "dagster_code_publish_address",
    "webserver_bind": "dagster_webserver_bind",
    "webserver_addresses": "dagster_nginx_webservers",
}
WILDCARDS = ("0.0.0.0", "::", "*")
LOCATION_SOURCES = ("image", "build", "archive")
LOCATION_TARGETS = ("module", "package", "file")
# What code servers and units are given beside the environment of role instance.
CONTAINER_ENVIRONMENT = {"DAGSTER_CURRENT_IMAGE", "DAGSTER_CONTAINER_CONTEXT", "PATH"}
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|(api|access|private|secret)_?key)s?(_|$)")
PLACE_NAME = re.compile(r"(?i)_(file|path|dir|name|id|arn)$")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, empty when none is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def unknown_names(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence for each dagster_* variable that no role knows."""
    known = set(known) | OWN_NAMES
    return [
        f"{name} is no variable of this collection{nearest(name, known)}"
        for name in sorted(names)
        if name.startswith("dagster_") and name not in known
    ]


def empty_problems(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """A sentence for a variable set to nothing: a survey's blank would replace a default, or what is worked out.

    What is required has a sentence of its own.
    """
    default = option.get("default")
    if option.get("required") or not (value is None or (value == "" and default != "")):
        return []
    instead = f" to get its default {default!r}" if default not in (None, "") else ""
    return [f"{name} is empty; leave it out{instead}"]


def kind_of(value: Any) -> str:
    """What a value is, in an operator's words; the types of values from Ansible have names of their own."""
    names = (
        (str, "text"),
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
        (dict, "a dictionary"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "a date")


def text_problems(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """A sentence for each list, dictionary or password that is something else.

    Ansible's own check turns text into a list or dictionary for itself alone; the roles would then get the text. A
    password that YAML took for a number has lost its leading zeros or its spelling, quotes in AWX's form do not help.
    """
    if value is None:
        return []
    if name.endswith("_password") and not isinstance(value, str):
        return [
            f"{name} was read as {kind_of(value)}, which may not be what you wrote; quote it in YAML, and in "
            "AWX choose one with letters in it"
        ]
    kinds: dict[str, tuple[Any, str]] = {"list": (list, "list"), "dict": (dict, "dictionary")}
    kind, expected = kinds.get(str(option.get("type")), (object, ""))
    if not isinstance(value, kind):
        return [
            f"{name} is {kind_of(value)}; expected a {expected}. Give it as JSON or YAML (in AWX among the extra "
            "variables, on a command line -e '{...}'), because surveys and key=value can only give text"
        ]
    options = option.get("options") or {}
    problems: list[str] = []
    if kind is dict:
        for key in sorted(options.keys() & value.keys()):
            problems += text_problems(f"{name}.{key}", value[key], options[key])
    elif kind is list and options:
        for number, entry in enumerate(value):
            problems += text_problems(f"{name}[{number}]", entry, {"type": "dict", "options": options})
    return problems


def host_problems(facts: Mapping[str, Any]) -> list[str]:
    """A sentence when the host's system is none that the suite runs."""
    if facts["release"] in SUPPORTED_SYSTEMS.get(str(facts["distribution"]), ()):
        return []
    supported = ", ".join(f"{name} {release}" for name, releases in SUPPORTED_SYSTEMS.items() for release in releases)
    return [f"the host runs {facts['distribution']} {facts['release']}; supported is {supported}"]


def group_problems(groups: Mapping[str, list[str]], external_database: str) -> list[str]:
    """Sentences about groups that are too small, too large or not together."""
    problems = []
    if not groups["daemon"]:
        problems.append(
            "group dagster_daemon has no host; schedules, sensors and the run queue need one, and each "
            "further host is a standby"
        )
    if len(groups["database"]) > 1:
        problems.append(
            f"group dagster_database has {len(groups['database'])} hosts; exactly one is allowed, or none with "
            "dagster_database_host set"
        )
    if groups["database"] and external_database:
        problems.append(
            "dagster_database_host names an external server, but group dagster_database has a host; keep one of them"
        )
    if not groups["database"] and not external_database:
        problems.append(
            "there is no database: put one host in group dagster_database or set dagster_database_host to a server of "
            "yours"
        )
    for kind, need in (("webserver", "the UI and GraphQL"), ("proxy", "the way in to the UI")):
        if not groups[kind]:
            problems.append(f"group dagster_{kind} has no host; it serves {need}")
    if len(groups["run"]) != 1:
        problems.append(
            f"group dagster_run has {len(groups['run'])} hosts; exactly one is allowed, because all runs start on one "
            "Docker engine"
        )
    else:
        apart = sorted(set(groups["webserver"] + groups["daemon"]) - set(groups["run"]))
        if apart:
            problems.append(
                f"{', '.join(apart)} cannot reach the Docker engine of {groups['run'][0]}: webservers and daemon talk "
                "to its local socket, so put them on the host of group dagster_run"
            )
    return problems


def holds_a_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret, not the place or the name of one."""
    return bool(SECRET_NAME.search(name)) and not PLACE_NAME.search(name)


def environment_problems(variables: Mapping[str, Any], own: Iterable[str]) -> list[str]:
    """Sentences about environment variables that cannot be set, are ours (own), or would show a secret."""
    problems = []
    own = CONTAINER_ENVIRONMENT.union(own)
    plain, secret = (variables[name] for name in ("dagster_environment", "dagster_secret_environment"))
    for variable, values in (("dagster_environment", plain), ("dagster_secret_environment", secret)):
        for name, value in values.items():
            if not ENVIRONMENT_NAME.fullmatch(str(name)):
                problems.append(
                    f"{variable}: {name!r} is no name of an environment variable; letters, digits and '_' are"
                )
            elif name in own:
                problems.append(f"{variable}: {name} is set by the collection; remove it")
            elif not isinstance(value, str | int | float):
                problems.append(f"{variable}: {name} is {kind_of(value)}; an environment variable is text")
    problems += [
        f"dagster_environment: {name} would show in docker inspect; put it in dagster_secret_environment"
        for name in plain
        if holds_a_secret(str(name))
    ]
    both = sorted(set(plain) & set(secret))
    problems += [f"{name} is in dagster_environment and in dagster_secret_environment; keep one" for name in both]
    return problems


def location_problems(locations: list[dict[str, Any]], code_hosts: list[str]) -> list[str]:
    """Sentences about entries of dagster_code_locations that cannot work."""
    problems = []
    for number, location in enumerate(locations):
        where = f"dagster_code_locations[{location.get('name', number)}]"
        if not NAME.fullmatch(str(location.get("name", ""))):
            problems.append(f"{where}: name is {location.get('name')!r}; letters, digits, '_', '-' and '.' are allowed")
        for kinds in (LOCATION_SOURCES, LOCATION_TARGETS):
            given = [kind for kind in kinds if location.get(kind)]
            if len(given) != 1:
                problems.append(
                    f"{where} has {' and '.join(given) or 'none'} of {', '.join(kinds)}; exactly one is needed"
                )
        if location.get("host") and location["host"] not in code_hosts:
            problems.append(
                f"{where}: host {location['host']} is not in group dagster_code{nearest(location['host'], code_hosts)}"
            )
        for name in location.get("env") or {}:
            if holds_a_secret(name):
                problems.append(
                    f"{where}: env {name} would show in docker inspect; put it in secrets, it is then the file "
                    f"/run/secrets/{name}"
                )
    for name, count in Counter(str(location.get("name")) for location in locations).items():
        if count > 1:
            problems.append(f"dagster_code_locations has {count} locations named {name}; each name must be unique")
    if locations and not code_hosts:
        problems.append("dagster_code_locations is set, but group dagster_code has no host")
    return problems


def host_of(location: Mapping[str, Any], code_hosts: list[str]) -> str:
    """The host that runs a location's code server."""
    return str(location.get("host") or (code_hosts[0] if code_hosts else ""))


def port_of(value: Any) -> int:
    """A port as number, 0 when it is none. AWX gives numbers as text."""
    return int(value) if re.fullmatch(r"[0-9]{1,5}", str(value)) and int(value) <= 65535 else 0


def nginx_addresses(variables: Mapping[str, Any]) -> list[str]:
    """Where nginx listens; the variable is an address or a list of them."""
    listen = variables["dagster_nginx_listen"]
    return [str(address) for address in (listen if isinstance(listen, list) else [listen])]


def wanted_ports(
    host: str, groups: Mapping[str, list[str]], variables: Mapping[str, Any], bind: str = "", publish: str = ""
) -> list[dict[str, Any]]:
    """Every port that this host is to listen on: port, addresses, variable that sets it, unit that may hold it.

    Webservers listen on bind, ports of code servers are published on publish.
    """
    wanted: list[dict[str, Any]] = []

    def want(variable: str, value: Any, addresses: list[str], unit: str) -> None:
        wanted.append(
            {"port": port_of(value), "value": value, "addresses": addresses, "variable": variable, "unit": unit}
        )

    def want_variable(variable: str, addresses: list[str], unit: str) -> None:
        if str(variables[variable]) != "0" or not variable.endswith("_read_only_port"):
            want(variable, variables[variable], addresses, unit)

    if host in groups["database"]:
        want_variable("dagster_database_port", ["0.0.0.0"], "postgresql@")
    if host in groups["webserver"]:
        for port in variables["dagster_webserver_ports"]:
            want("dagster_webserver_ports", port, [bind], "dagster-webserver@")
        want_variable("dagster_webserver_read_only_port", [bind], "dagster-webserver-read-only@")
    if host in groups["proxy"]:
        listen = nginx_addresses(variables)
        want_variable("dagster_nginx_port", listen, "nginx.service")
        want_variable("dagster_nginx_read_only_port", listen, "nginx.service")
    for location in variables["dagster_code_locations"]:
        if host_of(location, groups["code"]) == host:
            variable = f"dagster_code_locations[{location.get('name')}].port"
            want(variable, location.get("port") or 4000, [publish], "docker.service")
    return wanted


def port_problems(wanted: list[dict[str, Any]]) -> list[str]:
    """Sentences about ports that are no ports or are wanted twice on one host."""
    problems = [
        f"{entry['variable']} is {entry['value']!r}; a port is a number from 1 to 65535"
        for entry in wanted
        if not entry["port"]
    ]
    for port, count in Counter(entry["port"] for entry in wanted if entry["port"]).items():
        if count > 1:
            names = " and ".join(entry["variable"] for entry in wanted if entry["port"] == port)
            problems.append(f"port {port} is set {count} times on one host: {names}; each needs a port of its own")
    return problems


def overlap(one: str, other: str) -> bool:
    """Whether two listening addresses exclude each other on one port."""
    return one == other or one in WILDCARDS or other in WILDCARDS


def taken_port_problems(wanted: list[dict[str, Any]], listeners: list[dict[str, Any]]) -> list[str]:
    """Sentences about wanted ports that somebody else's process holds."""
    problems = []
    for entry in wanted:
        for listener in listeners:
            if listener["port"] != entry["port"] or listener["unit"].startswith(entry["unit"]):
                continue
            if any(overlap(address, listener["address"]) for address in entry["addresses"]):
                holder = " of ".join(filter(None, [listener["process"], listener["unit"]])) or "another process"
                problems.append(
                    f"port {entry['port']} is held by {holder} on {listener['address']}; stop it or change "
                    f"{entry['variable']}"
                )
    return sorted(set(problems))


def memory_problems(
    host: str, groups: Mapping[str, list[str]], variables: Mapping[str, Any], memory_mb: int
) -> list[str]:
    """A sentence when the host has less memory than its share of the stack takes at rest with one run."""
    parts = {"system": 1}
    for kind, part in (("database", "postgres"), ("daemon", "daemon"), ("run", "run")):
        if host in groups[kind]:
            parts[part] = 1
    if host in groups["code"] + groups["run"]:
        parts["docker"] = 1
        parts["code_location"] = sum(
            host_of(location, groups["code"]) == host for location in variables["dagster_code_locations"]
        )
    if host in groups["webserver"]:
        parts["webserver"] = len(variables["dagster_webserver_ports"]) + (
            str(variables["dagster_webserver_read_only_port"]) != "0"
        )
    need = sum(MEMORY_MB[part] * count for part, count in parts.items())
    if memory_mb >= need:
        return []
    listed = ", ".join(f"{count} x {part} of {MEMORY_MB[part]}" for part, count in parts.items() if count)
    return [
        f"the host has {memory_mb} MiB of memory, its part of the stack needs {need} ({listed}); fewer "
        "dagster_webserver_ports or a larger host"
    ]


def version_problems(versions: Mapping[str, str]) -> list[str]:
    """A sentence when the hosts of one instance are to run several versions: a standby would then change it."""
    if len(set(versions.values())) < 2:
        return []
    listed = ", ".join(f"{version} on {host}" for host, version in sorted(versions.items()))
    return [
        f"dagster_version is {listed}; webservers and daemons of one instance run one version, set it for all hosts"
    ]


def timing_problems(variables: Mapping[str, Any]) -> list[str]:
    """Sentences about timings with which two daemons could run at a time, or a healthy one would be ended.

    The guard refuses the same (guard.py, Timings); a test compares the two.
    """
    renew, deadline, ttl, watchdog = (
        int(variables[f"dagster_daemon_{name}"]) for name in ("lease_renew", "lease_deadline", "lease_ttl", "watchdog")
    )
    rules = (
        (renew > 0, f"dagster_daemon_lease_renew is {renew}; it is at least 1"),
        (
            deadline >= 3 * renew,
            f"dagster_daemon_lease_deadline is {deadline}; with dagster_daemon_lease_renew {renew} it is at least "
            f"{3 * renew}, or one lost answer ends a healthy daemon",
        ),
        (
            watchdog >= 2 * renew,
            f"dagster_daemon_watchdog is {watchdog}; with dagster_daemon_lease_renew {renew} it is at least "
            f"{2 * renew}",
        ),
        (
            ttl >= max(deadline + 2, watchdog + 2 * renew + 1),
            f"dagster_daemon_lease_ttl is {ttl}; it is at least {max(deadline + 2, watchdog + 2 * renew + 1)} "
            "(dagster_daemon_lease_deadline + 2, and dagster_daemon_watchdog + 2 x dagster_daemon_lease_renew + 1), or "
            "a standby starts before the old daemon has ended",
        ),
    )
    problems = [text for holds, text in rules if not holds]
    heartbeat = int(variables["dagster_daemon_heartbeat_timeout"])
    if heartbeat < 60:
        problems.append(
            f"dagster_daemon_heartbeat_timeout is {heartbeat}; it is at least 60, because Dagster writes a heartbeat "
            "each 30 seconds"
        )
    return problems


def daemon_login(host: str, variables: Mapping[str, Any]) -> str:
    """The database login of a host's daemon, empty when none is fenced."""
    if variables["dagster_daemon_fencing"] != "full":
        return ""
    plain = re.sub(r"[^a-z0-9]+", "_", host.lower()).strip("_")
    return f"{variables['dagster_database_daemon_role']}_{plain}"[:63]  # PostgreSQL cuts what is longer


def daemon_problems(groups: Mapping[str, list[str]], variables: Mapping[str, Any], external: str) -> list[str]:
    """Sentences about daemon hosts that could not be told apart, or not be fenced."""
    problems = timing_problems(variables)
    if external and variables["dagster_daemon_fencing"] == "full":
        problems.append(
            f"dagster_daemon_fencing is full, but at {external} this collection has no owner that may shut a login "
            "out; set it to lease_only: a daemon host that was paused for longer than dagster_daemon_lease_ttl can "
            "then write for a moment after it comes back"
        )
    logins: dict[str, str] = {}
    for host in groups["daemon"]:
        login = daemon_login(host, variables)
        if login and login in logins:
            problems.append(
                f"{logins[login]} and {host} of group dagster_daemon would both have the database login {login}; "
                "rename one of them"
            )
        logins[login] = host
    return problems


def value_problems(variables: Mapping[str, Any], versions: list[str]) -> list[str]:
    """Sentences about values that a type alone cannot refuse."""
    problems = []
    version = str(variables["dagster_version"] or "")
    if version and version not in versions:
        problems.append(
            f"dagster_version is {version}; supported are {', '.join(versions)} (each has a committed lock)"
            f"{nearest(version, versions)}"
        )
    prefix = str(variables["dagster_webserver_path_prefix"])
    if prefix and not PREFIX.fullmatch(prefix):
        problems.append(
            f"dagster_webserver_path_prefix is {prefix!r}; it starts with '/' and does not end with one, for example "
            f"{'/' + prefix.strip('/')!r}"
        )
    try:
        network = ipaddress.ip_network(str(variables["dagster_docker_network_subnet"]))
        bridge = ipaddress.ip_interface(str(variables["dagster_docker_bridge_address"])).network
        if network.num_addresses < 8:
            problems.append(f"dagster_docker_network_subnet {network} has no room for containers; 172.30.0.0/24 has")
        if network.overlaps(bridge):
            problems.append(
                f"dagster_docker_network_subnet {network} overlaps dagster_docker_bridge_address {bridge}; they are "
                "two networks"
            )
    except ValueError as error:
        problems.append(
            f"dagster_docker_network_subnet or dagster_docker_bridge_address: {error}; for example 172.30.0.0/24 and "
            "172.29.0.1/24"
        )
    return problems


def source(address: str) -> str:
    """An address as pg_hba.conf takes it: one host in CIDR form, or the name of a host as it is."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        return address


def apart(server: str, groups: Mapping[str, list[str]]) -> bool:
    """Whether a webserver has a proxy on another host and so listens on its own address."""
    return bool(set(groups["proxy"]) - {server})


def edge_url(variables: Mapping[str, Any]) -> str:
    """Base URL of the UI as the proxy's own host reaches it."""
    address = nginx_addresses(variables)[0]
    address = "127.0.0.1" if address in WILDCARDS else address
    return f"http://{address}:{variables['dagster_nginx_port']}{variables['dagster_webserver_path_prefix']}"


def journal_matches(host: str, groups: Mapping[str, list[str]], variables: Mapping[str, Any]) -> list[str]:
    """Arguments with which journalctl shows what Dagster's services and code servers on this host said."""
    units = ["dagster-daemon.service"] if host in groups["daemon"] else []
    if host in groups["webserver"]:
        units += [f"dagster-webserver@{port}.service" for port in variables["dagster_webserver_ports"]]
        if str(variables["dagster_webserver_read_only_port"]) != "0":
            units.append(f"dagster-webserver-read-only@{variables['dagster_webserver_read_only_port']}.service")
    here = [location for location in variables["dagster_code_locations"] if host_of(location, groups["code"]) == host]
    matches = [f"_SYSTEMD_UNIT={unit}" for unit in units]
    if here:
        matches += ["+"] * bool(matches) + [f"CONTAINER_NAME=dagster-code-{location.get('name')}" for location in here]
    return matches


def topology(
    host: str, groups: Mapping[str, list[str]], addresses: Mapping[str, str], variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Who this host reaches at which address, for the roles of this host.

    The same host is reached on loopback, its containers reach it on the gateway of the runs' network, others on its
    address.
    """
    gateway = str(ipaddress.ip_network(str(variables["dagster_docker_network_subnet"]))[1])
    database = groups["database"][0] if groups["database"] else ""
    external = str(variables.get("dagster_database_host") or "")
    container_hosts = sorted(set(groups["code"] + groups["run"]))
    service_hosts = sorted(set(groups["webserver"] + groups["daemon"]))

    def database_for(consumer: str, inside: bool) -> str:
        if not database:
            return external
        if consumer != database:
            return addresses[database]
        return gateway if inside else "127.0.0.1"

    clients = []
    listen = {"127.0.0.1"}
    if database:
        for consumer in service_hosts:
            if consumer != database:
                users = [variables["dagster_database_user"], variables["dagster_database_migration_user"]]
                if consumer in groups["daemon"]:
                    login = daemon_login(consumer, variables)
                    users += filter(None, [variables["dagster_database_guard_user"], login])
                listen.add(addresses[database])
                clients.append({"address": source(addresses[consumer]), "users": users})
        for consumer in container_hosts:
            inside = consumer == database
            listen.add(gateway if inside else addresses[database])
            address = str(variables["dagster_docker_network_subnet"]) if inside else source(addresses[consumer])
            clients.append({"address": address, "users": [variables["dagster_database_run_user"]]})

    endpoints, published = [], "127.0.0.1"
    for location in variables["dagster_code_locations"]:
        home = host_of(location, groups["code"])
        if home == host and set(service_hosts) - {host}:
            published = addresses[host]
        local = home == host and not set(service_hosts) - {host}
        endpoints.append(
            {
                "name": str(location.get("name")),
                "host": "127.0.0.1" if local else addresses.get(home, home),
                "port": port_of(location.get("port") or 4000),
            }
        )
    servers = [
        addresses[server] if server != host or apart(server, groups) else "127.0.0.1" for server in groups["webserver"]
    ]
    return {
        "database_host": database_for(host, inside=False),
        "database_run_host": database_for(groups["run"][0] if groups["run"] else host, inside=True),
        "database_code_host": database_for(host, inside=True),
        "postgres_listen": sorted(listen),
        "postgres_clients": clients,
        "postgres_daemon_logins": list(filter(None, [daemon_login(name, variables) for name in groups["daemon"]])),
        "daemon_login": daemon_login(host, variables) if host in groups["daemon"] else "",
        "database_external": not database,
        "code_endpoints": endpoints,
        "code_publish_address": published,
        # Names only: facts are shown, logged and cached, and a location may hold secrets.
        # Runs of every location start on the run engine; another engine needs only what its own code servers run.
        "code_images": [
            str(location.get("name"))
            for location in variables["dagster_code_locations"]
            if host in groups["run"] or host_of(location, groups["code"]) == host
        ],
        "code_locations": [
            str(location.get("name"))
            for location in variables["dagster_code_locations"]
            if host_of(location, groups["code"]) == host
        ],
        "webserver_bind": addresses[host] if apart(host, groups) else "127.0.0.1",
        "webserver_addresses": servers,
        "url": edge_url(variables),
        "journal": journal_matches(host, groups, variables),
    }
