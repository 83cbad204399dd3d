# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gate before the Docker engine of the runs, and how webservers and daemons reach it."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._addresses import host_port
from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms
from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import RUN_ID_LABEL, RUN_LABEL
from ansible_collections.dataops.dagster.plugins.plugin_utils.certificates import supplied_problems
from ansible_collections.dataops.dagster.plugins.plugin_utils.config import context
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import docker, launchers, registries, step_containers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import Names
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port, Reach, port_of

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

LAUNCH, INSPECT = "launch", "inspect"
MIB = 1024 * 1024
LEAST_MEMORY, LEAST_PIDS = 64, 16  # with less no run starts


def applies(host: Host) -> bool:
    """Whether the services of a host ask the gate.

    Else the user has named an engine that we do not set up, or runs start in Kubernetes.
    """
    return not (launchers.in_cluster(host.values) or names_an_engine(host))


def names_an_engine(host: Host) -> bool:
    """Whether the user has named an engine for the services of a host that we do not set up."""
    given = str(host.values.get("dagster_docker_endpoint") or "") if "dagster_docker_endpoint" in host.given else ""
    return bool(given) and not given.startswith("unix://")


def check(names: Names) -> list[str]:
    """The command that says what the gate could not use of its files. A gate in service keeps what it had then.

    Its program is in one word: a check that names a file as a word gets a copy of it alone, and this one reads others
    beside it.
    """
    program = f"exec /usr/bin/python3 {names['programs']}/gate.py --check {names['gate_config']}/gate.json"
    return ["runuser", f"--user={names['gate_user']}", "--", "sh", "-c", program]


class Way:
    """How the services of one host reach the engine of the runs."""

    def __init__(self, host: Host, plan: Plan) -> None:
        self.host = host
        self.plan = plan
        self.inventory = plan.inventory
        self.remote = host.name in docker.clients(plan.inventory)

    @property
    def roles(self) -> dict[str, str]:
        """The role that each service of the host has at the gate; none where the user has named another engine."""
        groups, here = self.inventory.group, {}
        if not applies(self.host):
            return {}
        if self.host.name in groups("dagster_daemon"):
            here["daemon"] = LAUNCH
        if self.host.name in groups("dagster_webserver"):
            # Without the queue, webservers launch the runs.
            here["webserver"] = INSPECT if self.plan.configuration.queued else LAUNCH
        return here

    def folder(self, role: str) -> str:
        """Where the host keeps the certificate of a role."""
        return f"{self.host.values['dagster_home']}/gate/{role}"

    def environment(self, role: str) -> dict[str, str]:
        """What a service in a role reads."""
        names = self.plan.names
        if not self.remote:
            return {"DOCKER_HOST": f"unix://{names['gate_sockets']}/{role}.sock"}
        run = Gate(self.inventory.hosts[self.inventory.group("dagster_run")[0]], self.plan)
        return {
            "DOCKER_HOST": f"tcp://{host_port(run.address, run.port)}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": self.folder(role),
        }

    def certificates(self) -> dict[str, str]:
        """The certificates of the host's services, each with its key."""
        if not self.remote:
            return {}
        folders = sorted({self.folder(role) for role in self.roles.values()})
        return {
            path: key
            for folder in folders
            for path, key in ((f"{folder}/ca.pem", ""), (f"{folder}/cert.pem", f"{folder}/key.pem"))
        }

    def of_service(self, service: str) -> dict[str, Any]:
        """What the role of one service is given; nothing where the user has named another engine."""
        role = self.roles.get(service)
        if not role:
            return {}
        group = self.plan.names[f"{role}_group"]
        return {"group": group, "environment": self.environment(role), "remote": self.remote}

    def handed(self) -> dict[str, Any]:
        """What role instance is given."""
        groups = {role: self.plan.names[f"{role}_group"] for role in sorted(set(self.roles.values()))}
        signs = self.remote and not self.host.values["dagster_docker_tls_client_cert"]
        return {
            "own_engine": names_an_engine(self.host),
            "groups": groups,
            "certificates": {
                role: {"folder": self.folder(role), "name": name_of(role, self.plan), "group": group}
                for role, group in groups.items()
                if self.remote
            },
            "authority_host": self.inventory.group("dagster_run")[0] if signs else "",
            "authority_folder": f"{self.plan.names['gate_config']}/tls",
        }


def name_of(role: str, plan: Plan) -> str:
    """The name in a certificate by which the gate knows a role."""
    return f"{role}.{plan.names['gate']}"


class Gate(Component):
    """The gate on the host of the runs."""

    @property
    def address(self) -> str:
        """Where it listens for other hosts, empty when none asks it."""
        asking = self.host.name in self.inventory.group("dagster_run") and docker.clients(self.inventory)
        return str(self.host.chosen("dagster_docker_tls_address", self.host.address if asking else ""))

    @property
    def port(self) -> int:
        """The port there."""
        return port_of(self.values["dagster_gate_port"])

    def packages(self, facts: Facts) -> list[str]:
        signs = self.address and not self.values["dagster_docker_tls_client_cert"]
        return ["python3-cryptography"] if signs else []

    def ports(self) -> list[Port]:
        if not self.address:
            return []
        variable, reach = "dagster_gate_port", Reach("engine", tuple(docker.clients(self.inventory)))
        return [Port(self.values[variable], variable, (self.address,), self.plan.names["gate"], reach)]

    def listening(self) -> dict[str, list[str]]:
        return {"dagster_docker_tls_address": [self.address]} if self.address else {}

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"gate": (1, 20)}

    def journal(self) -> list[str]:
        return [f"_SYSTEMD_UNIT={self.plan.names['gate']}.service"]

    def mark(self) -> str:
        return self.plan.names.unit_file("gate")

    def known_by(self) -> list[str]:
        return docker.clients(self.inventory) if self.address else []

    def other_version(self, facts: Facts) -> str:
        return "" if self.mark() in (facts.get("paths") or []) else self.mark()

    def run_needs(self) -> list[str]:
        return [self.mark(), f"{self.plan.names['gate_config']}/*.json"]

    def texts(self) -> list[str]:
        return [self.runs]

    @property
    def runs(self) -> str:
        """What the gate knows of the runs of each location; role code_location writes it with the images."""
        return f"{self.plan.names['gate_config']}/runs.json"

    def compared(self) -> list[str]:
        folders = [self.plan.names["gate_config"], f"{self.plan.names['gate_config']}/tls", f"{self.mark()}.d"]
        return [*folders, *(f"{folder}/*" for folder in folders), self.mark()]

    def units(self) -> list[str]:
        return [f"{self.plan.names['gate']}.service"]

    def removal(self) -> list[str]:
        names = self.plan.names
        return [
            f"systemctl disable --now {names['gate']}.service",
            f"userdel {names['gate_user']}",
            f"rm -r {names['gate_config']} {names['gate_sockets']} {self.mark()}.d",
            *super().removal(),
        ]

    def certificates(self) -> dict[str, str]:
        folder = f"{self.plan.names['gate_config']}/tls"
        if not self.address:
            return {}
        return {f"{folder}/ca.pem": f"{folder}/ca-key.pem", f"{folder}/cert.pem": f"{folder}/key.pem"}

    def options(self, facts: Facts) -> dict[str, Any]:
        return {"dagster_docker_tls_address": self.address}

    def handed(self, facts: Facts) -> dict[str, Any]:
        names = self.plan.names
        engine = self.plan.docker(self.host.name)
        services = self.host.name in self.inventory.services
        return {
            "groups": {role: names[f"{role}_group"] for role in (LAUNCH, INSPECT)},
            "users": [*([str(self.values["dagster_user"])] if services else []), "root"],
            "names": {role: name_of(role, self.plan) for role in (LAUNCH, INSPECT)},
            "supplied": supplied_roles(self.values),
            "engine": engine.socket.removeprefix("unix://"),
            "check": check(self.plan.names),
            # Whether runs of a location start steps.
            "steps": any(step_containers.wanted(entry) for entry in self.values["dagster_code_locations"]),
            # Runs from before our label, on an engine that is ours alone.
            "label": RUN_LABEL if engine.foreign(facts) else RUN_ID_LABEL,
        }

    def deployment_problems(self) -> list[str]:
        found = [*supplied_problems(self.values, address=self.address)]
        memory, pids = (int(self.values[f"dagster_gate_{name}"] or 0) for name in ("memory_mb", "pids_limit"))
        if memory and memory < LEAST_MEMORY:
            found.append(f"dagster_gate_memory_mb is {memory}; a run needs {LEAST_MEMORY} at least, and 0 derives it")
        if pids < LEAST_PIDS:
            found.append(f"dagster_gate_pids_limit is {pids}; a run needs {LEAST_PIDS} at least")
        return found

    def host_problems(self, facts: Facts) -> list[str]:
        """Sentences about limits that the memory of the host cannot keep, and about half of a certificate."""
        most = int(facts["memory_mb"])
        found = [
            f"{where} is {size} MiB, and the host of the runs has {most}; a run that takes it all ends the engine and "
            "all other runs with it. Set it below that"
            for where, size in self.memories()
            if size > most
        ]
        supplied = bool(self.values["dagster_docker_tls_client_cert"]) and self.address
        if supplied and not self.values["dagster_docker_tls_cert"]:
            found.append(
                "dagster_docker_tls_client_cert is set, but the gate of this host has no certificate; supply "
                "dagster_docker_tls_cert and dagster_docker_tls_key too, or none of them"
            )
        return found

    def host_warnings(self, facts: Facts) -> list[str]:
        """Sentences about what the gate answers in place of the engine."""
        if not any(applies(self.inventory.hosts[name]) for name in self.inventory.services):
            return []
        return [
            f"{where}.registry has no effect: hosts pull the images of locations before a run needs them. Remove it; "
            f"where a registry wants a login, set {registries.EXAMPLE}"
            for where, given in self.of_launcher()
            if given.get("registry")
        ]

    def memories(self) -> Iterator[tuple[str, int]]:
        """Each memory limit of runs, in MiB, with what sets it."""
        yield "dagster_gate_memory_mb", int(self.values["dagster_gate_memory_mb"] or 0)
        for entry in self.values["dagster_code_locations"]:
            where = f"dagster_code_locations[{entry.get('name')}]"
            yield from _sizes(where, {"shm_size": entry.get("shm_size")})
        for where, given in self.of_launcher():
            kwargs = given.get(context.KWARGS)
            yield from _sizes(f"{where}.{context.KWARGS}", kwargs if isinstance(kwargs, Mapping) else {})

    def of_launcher(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What the launcher is told of all runs and of those of each location, with what says it."""
        found = [
            (
                "dagster_config.run_launcher.config",
                (self.values["dagster_config"].get("run_launcher") or {}).get("config"),
            )
        ]
        for entry in self.values["dagster_code_locations"]:
            given, _others = context.parts(entry.get("container_context"))
            found.append((f"dagster_code_locations[{entry.get('name')}].container_context", given))
        yield from ((where, given) for where, given in found if isinstance(given, Mapping))


def _sizes(where: str, given: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The sizes that the memory of the host limits, in MiB; of memory with swap the half."""
    for name, share in (("mem_limit", 1), ("shm_size", 1), ("memswap_limit", 2)):
        try:
            size = forms.parse_size(given.get(name))
        except (ValueError, TypeError):
            continue  # another problem says so
        if size:
            yield f"{'half of ' if share > 1 else ''}{where}.{name}", size // share // MIB


def supplied_roles(values: Mapping[str, Any]) -> dict[str, str]:
    """The supplied certificate of webservers and daemon, by its digest: one certificate for both can but launch."""
    text = str(values["dagster_docker_tls_client_cert"] or "")
    end = "-----END CERTIFICATE-----"
    if end not in text:
        return {}
    try:
        first = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end)] + end)
    except ValueError:
        return {}
    return {hashlib.sha256(first).hexdigest(): LAUNCH}
