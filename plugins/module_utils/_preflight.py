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
    "proxy": ("haproxy", "nginx"),
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
    "webserver_addresses": "dagster_haproxy_webservers",
    "nginx_address": "dagster_nginx_address",
    "nginx_peers": "dagster_nginx_peers",
    "docker_endpoint": "dagster_docker_endpoint",
    "docker_tls_address": "dagster_docker_tls_address",
    "docker_ca_host": "dagster_docker_ca_host",
}
# Packages of engines that are used as they are.
FOREIGN_ENGINES = {"docker-ce", "moby-engine"}
CLOCK_TOLERANCE = 60  # seconds
DEFAULT_ENDPOINT = "unix:///run/docker.sock"
# What shows that role nginx has set keepalived up, and what anybody may have set it up with.
VIP_PROGRAM = "/usr/local/lib/dagster/edge.sh"
KEEPALIVED_CONFIG = "/etc/keepalived/keepalived.conf"
# Where role docker keeps the engine's certificates.
ENGINE_TLS = "/etc/docker/tls"
# Connections to the database: Dagster's storages, the default pool of a webserver above its one fixed connection, and
# the narrowest one that we would choose ourselves.
ENGINES = 3
POOL_OVERFLOW = 20
SMALLEST_OVERFLOW = 5
# What Dagster takes where dagster.yaml says nothing: runs in progress, threads of an executor.
DEFAULT_CONCURRENT_RUNS = 10
DEFAULT_WORKERS = 8
DAEMON_LOOPS = 16  # eight loops, and a launch or an evaluation may hold a second connection
GUARD_CONNECTIONS = 2  # the lease's own, and a new one while the server has not missed a cut one yet
MIGRATION_CONNECTIONS = 5
# PostgreSQL keeps three for the superuser; backup, monitoring and an operator's psql need some.
RESERVE_CONNECTIONS = 10
WILDCARDS = ("0.0.0.0", "::", "*")
LOCATION_SOURCES = ("image", "build", "archive")
LOCATION_TARGETS = ("module", "package", "file")
# What code servers, runs and units are given beside the environment of role instance.
CONTAINER_ENVIRONMENT = {
    "DAGSTER_CURRENT_IMAGE",
    "DAGSTER_CONTAINER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "PATH",
    "PGPASSFILE",
}
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


def names_to_resolve(host: str, addresses: Mapping[str, str]) -> list[str]:
    """The other hosts' addresses that are names."""

    def named(address: str) -> bool:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return True
        return False

    return sorted({address for name, address in addresses.items() if name != host and named(address)})


def surroundings_problems(facts: Mapping[str, Any], began: float, ended: float) -> list[str]:
    """Sentences about a clock that is off, and about names of other hosts; the host was asked between the two times."""
    problems = []
    clock = float(facts.get("time") or ended)
    off = max(clock - ended, began - clock)
    if off > CLOCK_TOLERANCE:
        direction = "ahead of" if clock > ended else "behind"
        problems.append(
            f"the host's clock is {off:.0f} s {direction} the controller's; set both by NTP, schedules and "
            "certificates go by them"
        )
    for name in facts.get("unresolved") or []:
        problems.append(
            f"the host cannot resolve {name}, another host of the inventory; give that one a dagster_address"
        )
    return problems


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
    return problems


def engine_clients(groups: Mapping[str, list[str]]) -> list[str]:
    """The hosts that reach the engine of the runs over the network: webservers and daemons that are not on its host."""
    return sorted(set(groups["webserver"] + groups["daemon"]) - set(groups["run"]))


def certificates(topology: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, str]:
    """The certificates of this host, each with its key: those of the engine, or those with which it is asked."""
    if topology["docker_tls_address"]:
        folder = ENGINE_TLS
        return {f"{folder}/ca.pem": f"{folder}/ca-key.pem", f"{folder}/cert.pem": f"{folder}/key.pem"}
    if topology["docker_ca_host"]:
        folder = f"{variables['dagster_home']}/docker"
        return {f"{folder}/ca.pem": "", f"{folder}/cert.pem": f"{folder}/key.pem"}
    return {}


def role_variables(topology: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the lists of packages depend on, and is worked out unless somebody set it."""
    names = ("docker_tls_address", "docker_ca_host")
    client = variables["dagster_docker_tls_client_cert"]
    return {TOPOLOGY_VARIABLES[name]: topology[name] for name in names} | {"dagster_docker_tls_client_cert": client}


def live(listeners: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a host serves already, so that hosts are changed one after the other."""
    return any(str(listener["unit"]).startswith("dagster-webserver") for listener in listeners)


def engine_problems(
    host: str, groups: Mapping[str, list[str]], variables: Mapping[str, Any], endpoints: Mapping[str, Any]
) -> list[str]:
    """Sentences about the way to the engine of the runs; endpoints is the dagster_docker_endpoint of each host."""
    given = {name: str(endpoints[name]) for name in engine_clients(groups) if endpoints.get(name)}
    if host not in engine_clients(groups) or not given:
        return []
    if len(set(given.values())) > 1 or len(given) < len(engine_clients(groups)):
        listed = ", ".join(f"{given.get(name, 'none')} on {name}" for name in engine_clients(groups))
        return [
            f"dagster_docker_endpoint differs ({listed}); with two engines for one instance, runs of the other "
            "are taken for lost. Set one, or leave it out"
        ]
    endpoint = given[host]
    if endpoint.startswith("unix://"):
        return [
            f"dagster_docker_endpoint is {endpoint}, this host's own engine, but runs start on "
            f"{', '.join(groups['run'])}: two engines for one instance. Leave it out"
        ]
    if not endpoint.startswith("tcp://"):
        return [f"dagster_docker_endpoint is {endpoint}; an engine on another host is reached at tcp://ADDRESS:PORT"]
    if not variables["dagster_docker_tls_client_cert"]:
        return [
            f"dagster_docker_endpoint is {endpoint}, an engine that this collection does not set up; bring "
            "certificates for it (dagster_docker_tls_ca, dagster_docker_tls_client_cert and "
            "dagster_docker_tls_client_key), or leave dagster_docker_endpoint out"
        ]
    return []


def foreign_engine_problems(
    host: str, groups: Mapping[str, list[str]], variables: Mapping[str, Any], packages: Iterable[str]
) -> list[str]:
    """A sentence when other hosts need this host's engine, which is not ours to set up or has half of a certificate."""
    if host not in groups["run"] or not engine_clients(groups):
        return []
    foreign = sorted(set(packages) & FOREIGN_ENGINES)
    brought = bool(variables["dagster_docker_tls_client_cert"])
    if foreign and not brought:
        return [
            f"{', '.join(engine_clients(groups))} cannot reach the engine of this host: it comes from {foreign[0]}, "
            "whose settings stay as they are. Let it listen with TLS, and set dagster_docker_endpoint, "
            "dagster_docker_tls_ca, dagster_docker_tls_client_cert and dagster_docker_tls_client_key"
        ]
    if not foreign and brought and not variables["dagster_docker_tls_cert"]:
        return [
            "dagster_docker_tls_client_cert is set, but the engine of this host has no certificate; bring "
            "dagster_docker_tls_cert and dagster_docker_tls_key too, or none of them"
        ]
    return []


def compute_log_problems(
    groups: Mapping[str, list[str]], variables: Mapping[str, Any], config: Mapping[str, Any]
) -> list[str]:
    """A sentence when runs would write their logs where a webserver cannot read them; config is dagster.yaml."""
    manager = config.get("compute_logs") or {}
    local = manager.get("class", "LocalComputeLogManager") == "LocalComputeLogManager"
    elsewhere = sorted(set(groups["webserver"]) - set(groups["run"]))
    if (
        not local
        or not elsewhere
        or str(variables["dagster_compute_logs_shared"]).lower() in ("true", "yes", "1", "on")
    ):
        return []
    return [
        f"compute logs are files on {', '.join(groups['run'])}, where runs write them, and {', '.join(elsewhere)} "
        "could not show them; set another manager in dagster_config.compute_logs (such as S3ComputeLogManager), or "
        "dagster_compute_logs_shared to true when all of them mount dagster_state_dir from one place"
    ]


def vip_problems(
    groups: Mapping[str, list[str]],
    addresses: Mapping[str, str],
    variables: Mapping[str, Any],
    vips: Mapping[str, str],
) -> list[str]:
    """Sentences about the address that the proxies share; vips is the dagster_nginx_vip of each proxy."""
    if len(set(vips.values())) > 1:
        listed = ", ".join(f"{vip or 'none'} on {name}" for name, vip in vips.items())
        return [f"dagster_nginx_vip differs between the proxies ({listed}); they share one"]
    text = str(variables["dagster_nginx_vip"])
    if not text:
        return []
    address = vip_address(text)
    if not address:
        return [
            f"dagster_nginx_vip is {text}; it is an IPv4 address with the length of its network's prefix, for example "
            "10.0.0.10/24"
        ]
    problems = [
        f"dagster_nginx_vip is {text}, the address of {name}; it is one that no host has of its own"
        for name, known in sorted(addresses.items())
        if known == address
    ]
    proxies = {name: addresses[name] for name in groups["proxy"]}
    if len(proxies) == 1:
        problems.append(
            f"dagster_nginx_vip is set, but {groups['proxy'][0]} is the only host of group dagster_proxy; an address "
            "is shared by two or more. Leave it out"
        )
    for name, known in proxies.items():
        if not is_ipv4(known):
            problems.append(
                f"dagster_nginx_vip needs the IPv4 address of each proxy, and {name} is known as {known}; give it a "
                "dagster_address"
            )
    listen = nginx_addresses({**variables, "dagster_nginx_vip": ""})
    if not {address, *WILDCARDS}.intersection(listen):
        problems.append(
            f"dagster_nginx_vip is {text}, but dagster_nginx_listen is {', '.join(listen)} and nothing would answer "
            f"there; set dagster_nginx_listen to {address}, or to 0.0.0.0"
        )
    router = int(variables["dagster_nginx_vip_router_id"])
    if not 1 <= router <= 255:
        problems.append(f"dagster_nginx_vip_router_id is {router}; it is a number from 1 to 255")
    return problems


def vip_host_problems(topology: Mapping[str, Any], variables: Mapping[str, Any], paths: Iterable[str]) -> list[str]:
    """Sentences about a proxy that cannot hold the shared address; paths are those that it has."""
    if not variables["dagster_nginx_vip"]:
        return []
    problems = []
    if not topology["nginx_vip_interface"]:
        problems.append(
            f"dagster_nginx_vip: no interface of the host is in a network with its address "
            f"{topology['nginx_address']}; name one in dagster_nginx_vip_interface"
        )
    if KEEPALIVED_CONFIG in paths and VIP_PROGRAM not in paths:
        problems.append(
            f"dagster_nginx_vip: the host has a {KEEPALIVED_CONFIG} of somebody else; leave dagster_nginx_vip out and "
            "share the address there, or remove that file"
        )
    return problems


def is_ipv4(address: str) -> bool:
    """Whether a text is an IPv4 address."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True


def vip_address(text: str) -> str:
    """The address of an address with a prefix length, empty for what is none that a host could have."""
    if not re.fullmatch(r"[0-9.]+/[0-9]{1,2}", text):
        return ""
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        return ""
    edges = {interface.network.network_address, interface.network.broadcast_address}
    if interface.network.prefixlen < 31 and interface.ip in edges:
        return ""
    usable = not (interface.ip.is_loopback or interface.ip.is_multicast or interface.ip.is_unspecified)
    return str(interface.ip) if usable else ""


def interface_of(address: str, networks: Mapping[str, str]) -> str:
    """The interface whose network holds an address, of the narrowest if several do; networks gives that of each."""
    if not is_ipv4(address):
        return ""
    found = [
        (network.prefixlen, name)
        for network, name in ((ipaddress.IPv4Network(text), name) for text, name in networks.items())
        if ipaddress.IPv4Address(address) in network
    ]
    return max(found)[1] if found else ""


def version_problems(versions: Mapping[str, str]) -> list[str]:
    """A sentence when the services' hosts, a standby included, would not all have one Dagster. By host."""
    if len(set(versions.values())) < 2:
        return []
    listed = ", ".join(f"{version or 'none'} on {host}" for host, version in sorted(versions.items()))
    return [f"dagster_version differs between the services' hosts ({listed}); one instance has one version"]


def concurrent_runs(config: Mapping[str, Any]) -> int:
    """How many runs the queue of a merged dagster.yaml lets in at a time, -1 for any number."""
    coordinator = config.get("run_coordinator") or {}
    if coordinator and coordinator.get("class") != "QueuedRunCoordinator":
        return -1
    places = (
        (config.get("concurrency") or {}).get("runs") or {},
        coordinator.get("config") or {},
        config.get("run_queue") or {},
    )
    for place in places:
        value = place.get("max_concurrent_runs")
        if isinstance(value, int) or re.fullmatch(r"-?[0-9]+", str(value)):
            return int(str(value))
    return DEFAULT_CONCURRENT_RUNS


def workers(config: Mapping[str, Any]) -> int:
    """The threads that a merged dagster.yaml gives the daemon beside its own loops."""
    queue = (config.get("run_coordinator") or {}).get("config") or config.get("run_queue") or {}
    wanted = [
        (queue.get("dequeue_use_threads"), queue.get("dequeue_num_workers"), 0),
        *(
            (settings.get("use_threads"), settings.get("num_workers"), settings.get("num_submit_workers"))
            for settings in (config.get(section) or {} for section in ("sensors", "schedules", "backfills"))
        ),
    ]
    return sum(
        (number if isinstance(number, int) else DEFAULT_WORKERS) + (more if isinstance(more, int) else 0)
        for threads, number, more in wanted
        if threads
    )


def connection_budget(
    groups: Mapping[str, list[str]], variables: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The connections that the deployment may open at a time, and what follows for the server and the pools.

    A process has three engines (runs, events, schedules). Each of a webserver's has a pool of 1 + overflow connections,
    those of every other process open one when they need it and close it.
    """
    options = variables["dagster_webserver_options"] or {}
    replicas = len(groups["webserver"]) * (
        len(variables["dagster_webserver_ports"]) + (str(variables["dagster_webserver_read_only_port"]) != "0")
    )
    runs = concurrent_runs(config)
    daemon = DAEMON_LOOPS + workers(config)
    parts = {
        # A standby has none, but a daemon that is just being ended may hold its own for a moment.
        "daemon": daemon * len(groups["daemon"]),
        "guard": GUARD_CONNECTIONS * len(groups["daemon"]),
        "code servers": ENGINES * len(variables["dagster_code_locations"]),
        "runs": ENGINES * max(runs, 0),
        "migration": MIGRATION_CONNECTIONS,
        "reserve": RESERVE_CONNECTIONS,
    }
    limit = int(
        (variables["dagster_postgres_options"] or {}).get("max_connections")
        or variables["dagster_postgres_max_connections"]
        or 0
    )
    overflow = options.get("db_pool_max_overflow")
    if overflow is None:
        # As wide as Dagster's own default, narrower where the server was told to take less.
        room = (limit - sum(parts.values())) // (ENGINES * max(replicas, 1)) - 1 if limit else POOL_OVERFLOW
        overflow = min(max(room, SMALLEST_OVERFLOW), POOL_OVERFLOW)
    pools = replicas * ENGINES * (1 + int(overflow))
    need = pools + sum(parts.values())
    return {
        "replicas": replicas,
        "overflow": int(overflow),
        "daemon": daemon,
        "parts": {"webservers": pools, **parts},
        "need": need,
        "unlimited_runs": runs < 0,
        # In steps, so that one location more does not restart the server.
        "limit": limit or max(100, -(-need // 50) * 50),
    }


def budget_problems(budget: Mapping[str, Any]) -> list[str]:
    """A sentence with the numbers when the budget does not fit into the server's max_connections."""
    if budget["unlimited_runs"]:
        return [
            "dagster_config lets any number of runs in at a time, and each opens connections to the database; set "
            "concurrency.runs.max_concurrent_runs"
        ]
    if budget["need"] <= budget["limit"]:
        return []
    parts = dict(budget["parts"])
    pools = f"webservers {budget['replicas']} x {ENGINES} x (1 + {budget['overflow']}) = {parts.pop('webservers')}"
    listed = ", ".join([pools, *(f"{name} {number}" for name, number in parts.items())])
    return [
        f"the database takes {budget['limit']} connections and the deployment may open {budget['need']} ({listed}); "
        "raise dagster_postgres_max_connections, or lower dagster_webserver_options.db_pool_max_overflow, "
        "dagster_webserver_ports or dagster_config.concurrency.runs.max_concurrent_runs"
    ]


def connection_limits(
    budget: Mapping[str, Any], variables: Mapping[str, Any], daemon_logins: Iterable[str]
) -> dict[str, int]:
    """How many connections each login may have. Runs get all that is left, so that they cannot lock the services out.

    A run counts as three, but one whose steps are processes of their own opens more.
    """
    parts = budget["parts"]
    logins = dict.fromkeys(daemon_logins, budget["daemon"])
    services = parts["webservers"] + (0 if logins else parts["daemon"])
    left = budget["limit"] - sum(parts[name] for name in ("webservers", "daemon", "guard", "migration", "reserve"))
    return {
        str(variables["dagster_database_user"]): services,
        str(variables["dagster_database_guard_user"]): parts["guard"],
        str(variables["dagster_database_run_user"]): left,
        str(variables["dagster_database_migration_user"]): parts["migration"],
        **logins,
    }


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
    """Where nginx listens; the variable is an address or a list of them.

    With a shared address loopback is one of them: whether this host is fit to hold the address is asked there.
    """
    listen = variables["dagster_nginx_listen"]
    addresses = [str(address) for address in (listen if isinstance(listen, list) else [listen])]
    if variables["dagster_nginx_vip"] and not {"127.0.0.1", *WILDCARDS}.intersection(addresses):
        addresses.append("127.0.0.1")
    return addresses


def wanted_ports(
    host: str,
    groups: Mapping[str, list[str]],
    variables: Mapping[str, Any],
    bind: str = "",
    publish: str = "",
    tls: str = "",
) -> list[dict[str, Any]]:
    """Every port that this host is to listen on: port, addresses, variable that sets it, unit that may hold it.

    Webservers listen on bind, ports of code servers are published on publish, the engine listens on tls as well.
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
        offset = int(variables["dagster_webserver_agent_offset"])
        replicas = [
            ("dagster_webserver_ports", port, "dagster-webserver@") for port in variables["dagster_webserver_ports"]
        ]
        name = "dagster_webserver_read_only_port"
        replicas += [(name, variables[name], "dagster-webserver-read-only@")] if str(variables[name]) != "0" else []
        for variable, port, unit in replicas:
            want(variable, port, [bind], unit)
        for variable, port, unit in {
            port_of(port): (variable, port_of(port), unit) for variable, port, unit in replicas
        }.values():
            if port:
                want(f"{variable} + dagster_webserver_agent_offset", port + offset, [bind], unit)
    if host in groups["proxy"]:
        listen = nginx_addresses(variables)
        want_variable("dagster_nginx_port", listen, "nginx.service")
        want_variable("dagster_nginx_read_only_port", listen, "nginx.service")
    if host in groups["run"] and tls:
        want_variable("dagster_docker_tls_port", [tls], "docker.service")
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
    # At a shared address another host may answer.
    address = "127.0.0.1" if address in WILDCARDS or variables["dagster_nginx_vip"] else address
    return f"http://{address}:{variables['dagster_nginx_port']}{variables['dagster_webserver_path_prefix']}"


def tcp_endpoint(address: str, port: Any) -> str:
    """Address of an engine in the form that Docker's clients take."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


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
    engine = groups["run"][0] if groups["run"] else ""
    remote = host in engine_clients(groups)
    given = str(variables["dagster_docker_endpoint"])
    port = port_of(variables["dagster_docker_tls_port"])
    return {
        "docker_endpoint": tcp_endpoint(addresses[engine], port) if remote else given,
        # Roles that set an engine up talk to the one of their host.
        "docker_local_endpoint": given if given.startswith("unix://") else DEFAULT_ENDPOINT,
        "docker_tls_address": addresses[engine] if host == engine and engine_clients(groups) else "",
        # Nobody signs when certificates are brought.
        "docker_ca_host": engine if remote and not variables["dagster_docker_tls_client_cert"] else "",
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
        "nginx_address": addresses[host] if host in groups["proxy"] else "",
        "nginx_peers": [addresses[name] for name in groups["proxy"]],
        "url": edge_url(variables),
        "journal": journal_matches(host, groups, variables),
    }
