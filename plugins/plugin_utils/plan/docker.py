# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Docker engine of a host, and how webservers and daemons on other hosts reach that of the runs."""

from __future__ import annotations

import ipaddress
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import host_port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import (
    engine,
    engine_settings,
    launchers,
    record,
    subnets,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.checks import taken_port_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import (
    Port,
    Reach,
    first_address,
    is_ipv4,
    port_of,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.subnets import CODE, RUNS
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import by_host

DEFAULT_SOCKET = "unix:///run/docker.sock"
# Where role docker keeps the engine's certificates.
TLS_FOLDER = "/etc/docker/tls"
TLS_FILES = tuple(f"{TLS_FOLDER}/{name}" for name in ("ca.pem", "ca-key.pem", "cert.pem", "key.pem"))
# With this an earlier release let the engine listen with TLS. It stays until all of its clients ask the gate.
DROP_INS = "/etc/systemd/system/docker.service.d"
LISTENS = f"{DROP_INS}/10-dagster-tls.conf"
# Settings of an engine that is ours.
SETTINGS = (
    "dagster_docker_address_pools",
    "dagster_docker_bridge_address",
    "dagster_docker_config",
    "dagster_docker_userns_remap",
)


def clients(inventory: Inventory) -> list[str]:
    """The hosts that reach the engine of the runs over the network: webservers and daemons that are not on its host."""
    run = inventory.group("dagster_run")
    return sorted({*inventory.services} - {*run}) if run else []


def endpoint(host: Host, inventory: Inventory) -> str:
    """The engine of the runs as the services of a host reached it before there was a gate.

    Their common environment still says so: a unit of an earlier release may be started with it in the middle of an
    upgrade. A unit of this release says itself how it reaches the gate.
    """
    if host.name in clients(inventory):
        port = port_of(host.values["dagster_docker_tls_port"])
        engine = inventory.hosts[inventory.group("dagster_run")[0]]
        derived = f"tcp://{host_port(str(engine.chosen('dagster_docker_tls_address', engine.address)), port)}"
    else:
        derived = DEFAULT_SOCKET
    return str(host.chosen("dagster_docker_endpoint", derived))


def log_driver(host: Host) -> str:
    """What our containers on a host's engine log to, empty where the inventory gives the engine another log driver.

    They say so themselves, because somebody else's engine may log to files.
    """
    return "" if (host.values["dagster_docker_config"] or {}).get("log-driver") else "journald"


class Docker(Component):
    """An engine, for code servers, runs, or both."""

    @property
    def tls_address(self) -> str:
        """Where the engine listens for other hosts, empty when none asks it."""
        asked = self.host.name in self.inventory.group("dagster_run") and clients(self.inventory)
        return str(self.host.chosen("dagster_docker_tls_address", self.host.address if asked else ""))

    @property
    def socket(self) -> str:
        """The host's own engine: what sets it up talks to it there, wherever the services reach that of the runs."""
        given = str(self.host.chosen("dagster_docker_endpoint", DEFAULT_SOCKET))
        derived = given if given.startswith("unix://") else DEFAULT_SOCKET
        return str(self.host.chosen("dagster_docker_socket", derived))

    def foreign(self, facts: Facts) -> str:
        """What shows that the engine is somebody else's, empty for ours. Nothing is installed over it.

        The host's record says whose it is. Without one the host is new to us, or our role was there before the record.
        """
        paths, folder = facts.get("paths") or [], self.plan.names["record"]
        if not engine.packages_of_others(facts):
            before = record.whole(folder) not in paths and self.mark() in paths
            if before or record.entry(folder, engine.OWN_PACKAGE) in paths:
                return ""
        return engine.found(facts)

    def packages(self, facts: Facts) -> list[str]:
        foreign = self.foreign(facts)
        needed = [] if foreign else [engine.OWN_PACKAGE, "containerd", "runc", "iptables"]
        return ["python3-docker", *needed]

    def closing(self, facts: Facts) -> list[Port]:
        """Where an engine of an earlier release listens until all of its clients ask the gate. New ones never do."""
        if not (self.tls_address and self.listens(facts)):
            return []
        variable = "dagster_docker_tls_port"
        reach = Reach("engine", tuple(clients(self.inventory)))
        return [Port(self.values[variable], variable, (self.tls_address,), "docker.service", reach)]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"docker": (1, 125)}

    def mark(self) -> str:
        return self.plan.names.unit_file("prune", ".timer")

    def paths(self) -> list[str]:
        return [*engine.TRACES, engine.STARTED_AT_BOOT, LISTENS, *TLS_FILES]

    def run_needs(self) -> list[str]:
        drop_ins = f"{DROP_INS}/*"  # where it listens, and through what it pulls
        return ["/etc/docker/daemon.json", drop_ins, f"{TLS_FOLDER}/*", self.plan.names["downloads"]]

    def compared(self) -> list[str]:
        folders = ["/etc/docker", DROP_INS, f"/etc/systemd/system/{self.plan.names['prune']}.service.d", TLS_FOLDER]
        prune = [self.plan.names.unit_file("prune", suffix) for suffix in (".service", ".timer")]
        return [*folders, *(f"{folder}/*" for folder in folders), *prune]

    def units(self) -> list[str]:
        return ["docker.service", f"{self.plan.names['prune']}.timer"]

    def engine(self) -> str:
        return self.socket if self.socket.startswith("unix://") else ""

    def removal(self) -> list[str]:
        timer = self.plan.names["prune"]
        return [
            "docker network ls -q --filter label=dataops.dagster=network | xargs -r docker network rm",
            f"systemctl disable --now {timer}.timer",
            f"rm -r /etc/systemd/system/{timer}.*",
        ]

    def taken_problems(self, facts: Facts) -> list[str]:
        """Sentences about ports and names that containers of others have."""
        # A port of a container is held by the engine's own process, or by no process at all.
        unsaid = [port for port in self.plan.ports() if not taken_port_problems([port], facts["listeners"])]
        names = [f"{self.plan.names['code']}-{found.name}" for found in self.plan.code_location(self.host.name).here]
        return engine.container_problems(unsaid, names, facts)

    def certificates(self) -> dict[str, str]:
        if not self.tls_address:
            return {}
        return {f"{TLS_FOLDER}/ca.pem": f"{TLS_FOLDER}/ca-key.pem", f"{TLS_FOLDER}/cert.pem": f"{TLS_FOLDER}/key.pem"}

    def options(self, facts: Facts) -> dict[str, Any]:
        return {
            "dagster_docker_socket": self.socket,
            "dagster_docker_code_network_subnet": subnets.of_code(self.host),
            "dagster_docker_tls_address": self.tls_address,
        }

    def listens(self, facts: Facts) -> bool:
        """Whether an engine of ours listens with TLS still."""
        return LISTENS in (facts.get("paths") or []) and not self.foreign(facts)

    def left(self, facts: Facts) -> bool:
        """Whether an engine of ours that was closed has its certificates still: the play was killed in between."""
        paths = facts.get("paths") or []
        kept = any(path in paths for path in TLS_FILES) and LISTENS not in paths
        return kept and self.deployed(facts) and not self.foreign(facts)

    def handed(self, facts: Facts) -> dict[str, Any]:
        return {
            "tls_folder": TLS_FOLDER,
            "listens": self.listens(facts),
            "left": self.left(facts),
            "foreign": bool(self.foreign(facts)),
            "subnets": self.new_subnets(facts),
            # A host that has the address of its gateway has the network.
            "networks": [
                {"name": name, "subnet": subnet, "gateway": first_address(subnet)}
                for name, subnet in self.networks.values()
            ],
        }

    @property
    def networks(self) -> dict[str, tuple[str, str]]:
        """Name and subnet of our networks here, by the variable of the name. Code servers have one of their own.

        A database on the host listens on the gateway of the runs' network, so that is on the host of code servers too.
        """
        found = {RUNS[0]: (str(self.values[RUNS[0]]), subnets.of_runs(self.host))}
        if self.host.name in self.inventory.group("dagster_code"):
            found[CODE[0]] = (str(self.values[CODE[0]]), subnets.of_code(self.host))
        return found

    def new_subnets(self, facts: Facts) -> dict[str, list[str]]:
        """The networks that an engine does not have yet, by their variables."""
        addresses = facts.get("addresses") or []
        found = {f"{variable}_subnet": [subnet] for variable, (_name, subnet) in self.networks.items()}
        if self.deployed(facts):
            # That of code servers came later than the role.
            return {
                variable: [subnet]
                for variable, (subnet,) in found.items()
                if variable == CODE[1] and first_address(subnet) not in addresses
            }
        return {**found, **({} if self.foreign(facts) else subnets.own_engine(self.values))}

    def deployed(self, facts: Facts) -> bool:
        """Whether our role has been there."""
        return self.mark() in (facts.get("paths") or [])

    def host_warnings(self, facts: Facts) -> list[str]:
        if self.foreign(facts):
            promises = engine.promises(facts, self.host.given.intersection(SETTINGS))
            proxy = self.values["dagster_proxy"] or {}
            pulls = (
                "dagster_proxy is not used for pulls: the engine of this host is not ours, and it pulls by itself. "
                "Give it its proxy in its own settings (HTTPS_PROXY of docker.service); builds get ours as arguments"
            )
            return [*([promises] if promises else []), *([pulls] if proxy.get("http") or proxy.get("https") else [])]
        return engine.pool_warnings(self.values, facts) if self.deployed(facts) else []

    def deployment_problems(self) -> list[str]:
        return [
            *(
                text
                for name, _subnet in (RUNS, CODE)
                for text in (subnets.name_problems(name, str(self.values[name])) if name in self.host.given else [])
            ),
            *(self.network_problems() or self.code_network_problems()),
            *engine_settings.problems(self.values["dagster_docker_config"] or {}),
        ]

    def network_problems(self) -> list[str]:
        """Sentences about the subnets of containers."""
        values = self.values
        written = str(values["dagster_docker_bridge_address"])
        try:
            network = ipaddress.ip_network(str(values["dagster_docker_network_subnet"]))
            bridge = ipaddress.ip_interface(str(values["dagster_docker_bridge_address"])).network
        except ValueError as error:
            return [
                f"dagster_docker_network_subnet or dagster_docker_bridge_address: {error}; for example 172.30.0.0/24 "
                "and 172.29.0.1/24"
            ]
        problems = []
        if bridge.version == 4 and ipaddress.ip_interface(written).ip == bridge.network_address:
            return [
                f"dagster_docker_bridge_address is {written}; it is the address of the engine in its own network, with "
                f"the length of the network behind it, for example {bridge.network_address + 1}/24"
            ]
        if network.version == 6 or bridge.version == 6:
            return [
                "dagster_docker_network_subnet and dagster_docker_bridge_address are networks of IPv4, the only ones "
                "that the collection gives containers"
            ]
        if network.num_addresses < 8:
            problems.append(f"dagster_docker_network_subnet {network} has no room for containers; 172.30.0.0/24 has")
        if network.overlaps(bridge):
            problems.append(
                f"dagster_docker_network_subnet {network} overlaps dagster_docker_bridge_address {bridge}; they are "
                "two networks"
            )
        problems += [
            f"dagster_docker_network_subnet {network} holds the address {known.address} of {name}; choose a network "
            "that is free"
            for name, known in sorted(self.inventory.hosts.items())
            if is_ipv4(known.address) and ipaddress.ip_address(known.address) in network
        ]
        return [*problems, *subnets.pool_problems(values)]

    def code_network_problems(self) -> list[str]:
        """Sentences about the network of code servers."""
        (name, subnet), (runs, of_runs) = (
            (str(self.values[CODE[0]]), subnets.of_code(self.host)),
            (str(self.values[RUNS[0]]), subnets.of_runs(self.host)),
        )
        if name == runs:
            return [f"{CODE[0]} and {RUNS[0]} are both {name}; code servers and runs have two networks"]
        try:
            network = ipaddress.IPv4Network(subnet)
        except ValueError as error:
            return [f"{CODE[1]}: {error}; set it to a network of IPv4 that is free, for example 172.30.1.0/24"]
        if network.num_addresses < 8:
            return [f"{CODE[1]} {network} has no room for containers; 172.30.1.0/24 has"]
        taken = {of_runs: f"{RUNS[1]}", str(self.values[subnets.BRIDGE_ADDRESS]): subnets.BRIDGE_ADDRESS}
        found = [
            f"{CODE[1]} {network} overlaps {whose} {other}; they are two networks"
            for other, whose in taken.items()
            if network.overlaps(ipaddress.ip_interface(other).network)
        ]
        return found + [
            f"{CODE[1]} {network} holds the address {known.address} of {host}; choose a network that is free"
            for host, known in sorted(self.inventory.hosts.items())
            if is_ipv4(known.address) and ipaddress.ip_address(known.address) in network
        ]

    def host_problems(self, facts: Facts) -> list[str]:
        foreign = self.foreign(facts)
        gated = self.host.name in self.inventory.group("dagster_run")
        refused = engine.refusals(facts, self.socket, gated=gated) if foreign else engine.package_problems(facts)
        deployed = self.deployed(facts)
        return [
            *(
                refused
                or engine.network_problems(self.values, self.networks, facts, own=not foreign, deployed=deployed)
            ),
            *self.taken_problems(facts),
        ]


def own_endpoint_problems(host: Host, inventory: Inventory) -> list[str]:
    """The same about services on the host of the runs, which need none: without one they ask the gate beside them."""
    text = str(host.values["dagster_docker_endpoint"] or "") if "dagster_docker_endpoint" in host.given else ""
    if not text or host.name not in inventory.services or launchers.in_cluster(host.values):
        return []
    if not text.startswith(("unix:///", "tcp://")):
        return [
            f"dagster_docker_endpoint is {text}; an engine is at tcp://ADDRESS:PORT, or at unix:///PATH on this host. "
            "Leave it out for the engine of group dagster_run"
        ]
    return [] if text.startswith("unix://") else unsupplied_problems(host, text)


def unsupplied_problems(host: Host, endpoint: str) -> list[str]:
    """A sentence about an engine over the network for which no certificates are supplied."""
    if host.values["dagster_docker_tls_client_cert"]:
        return []
    return [
        f"dagster_docker_endpoint is {endpoint}, an engine that this collection does not set up; supply "
        "certificates for it (dagster_docker_tls_ca, dagster_docker_tls_client_cert and "
        "dagster_docker_tls_client_key), or leave dagster_docker_endpoint out"
    ]


def endpoint_problems(host: Host, inventory: Inventory) -> list[str]:
    """Sentences about the way to the engine of the runs that somebody set for a host."""
    asking = clients(inventory)
    given = {
        name: str(known.values["dagster_docker_endpoint"])
        for name, known in inventory.hosts.items()
        if name in asking and "dagster_docker_endpoint" in known.given
    }
    if host.name not in asking or not given:
        return own_endpoint_problems(host, inventory)
    if len(set(given.values())) > 1 or len(given) < len(asking):
        listed = by_host({name: given.get(name, "") for name in asking})
        return [
            f"dagster_docker_endpoint differs ({listed}); with two engines for one instance, runs of the other "
            "are taken for lost. Set one, or leave it out"
        ]
    text = given[host.name]
    if text.startswith("unix://"):
        return [
            f"dagster_docker_endpoint is {text}, this host's own engine, but runs start on "
            f"{', '.join(inventory.group('dagster_run'))}: two engines for one instance. Leave it out"
        ]
    if not text.startswith("tcp://"):
        return [f"dagster_docker_endpoint is {text}; an engine on another host is reached at tcp://ADDRESS:PORT"]
    return unsupplied_problems(host, text)
