# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Code locations on their host: the code servers there, and the images of those and of the runs."""

from __future__ import annotations

import fnmatch
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.images import REPOSITORY
from ansible_collections.dataops.dagster.plugins.module_utils._docker.labels import CONFIG_LABEL
from ansible_collections.dataops.dagster.plugins.plugin_utils import run_rules
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import (
    checks,
    compute_logs,
    docker,
    environment,
    gate,
    in_runs,
    location_forms,
    read_only,
    registries,
    step_containers,
    texts,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.budget import ENGINES
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.configuration import Configuration, at
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes_checks import Checks
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import (
    Location,
    location_problems,
    locations,
    run_start_timeout,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import code_port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, Port, Reach
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.run_containers import RunContainers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS

ENGINE_UNIT = "docker.service"
CONTAINER_PORT = 4000  # inside of each container; the port on the host is the location's
START = 300  # seconds that a code server has to its first answer, where no location has more
# What of dagster_home runs mount.
NEEDED = ("containers/*", "code/*", "secrets/*/*", "users/*/*/*")


class CodeLocation(Component):
    """The code servers of a host, and its share of the runs."""

    @property
    def here(self) -> list[Location]:
        """The locations whose code server runs on this host."""
        return [found for found in locations(self.inventory, self.values) if found.host == self.host.name]

    @property
    def runs_start_here(self) -> bool:
        """Whether the engine of this host is that of the runs."""
        return self.host.name in self.inventory.group("dagster_run")

    @property
    def watched(self) -> bool:
        """Whether code servers of this host that hang are restarted."""
        servers = bool(self.here) or "dagster_code_locations_here" in self.host.given
        return bool(servers and self.values["dagster_code_health"])

    @property
    def publish_address(self) -> str:
        """Where webservers and daemons reach the code servers of this host."""
        asked_from_elsewhere = bool(self.here and set(self.inventory.services) - {self.host.name})
        derived = self.host.address if asked_from_elsewhere else LOOPBACK
        return str(self.host.chosen("dagster_code_publish_address", derived))

    def listening(self) -> dict[str, list[str]]:
        return {"dagster_code_publish_address": [self.publish_address]} if self.here else {}

    def ports(self) -> list[Port]:
        reach = Reach("code", tuple(self.inventory.services), published=True)
        return [
            Port(found.port, f"dagster_code_locations[{found.name}].port", (self.publish_address,), ENGINE_UNIT, reach)
            for found in self.here
        ]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"run": (int(self.runs_start_here), 300), "code_location": (len(self.here), 120)}

    def connections(self) -> dict[str, int]:
        return {"code servers": ENGINES * len(self.here)}

    def journal(self) -> list[str]:
        watcher = [f"_SYSTEMD_UNIT={self.plan.names['code_health']}.service"] if self.watched else []
        return [*(f"CONTAINER_NAME={self.plan.names['code']}-{found.name}" for found in self.here), *watcher]

    def run_needs(self) -> list[str]:
        return [f"{self.values['dagster_home']}/{files}" for files in NEEDED]

    def mark(self) -> str:
        return f"{self.values['dagster_home']}/containers"

    def compared(self) -> list[str]:
        home, state = (str(self.values[name]) for name in ("dagster_home", "dagster_state_dir"))
        folders = [f"{home}/{name}" for name in ("containers", "code", "secrets", "secrets/*", "users", "users/*")]
        folders += [home, f"{home}/users/*/*"]
        more = [state, f"{state}/storage", f"{state}/compute_logs", self.plan.names["tmpfiles"]]
        watcher = self.plan.names.unit_file("code_health")
        return [*folders, *(f"{folder}/*" for folder in folders), *more, watcher, f"{watcher}.d", f"{watcher}.d/*"]

    def units(self) -> list[str]:
        return [f"{self.plan.names['code_health']}.service"] if self.watched else []

    def headed(self) -> list[str]:
        return [*super().headed(), self.plan.names["tmpfiles"], self.plan.names.unit_file("code_health")]

    def removal(self) -> list[str]:
        watcher = self.plan.names["code_health"]
        return [
            f"systemctl disable --now {watcher}.service; rm -rf /etc/systemd/system/{watcher}.service*",
            f"docker ps -aq --filter label={CONFIG_LABEL} | xargs -r docker rm -f",
            f"docker images -q --filter 'reference={REPOSITORY}*' --filter 'reference={REPOSITORY}/*' | sort -u | "
            "xargs -r docker rmi -f",
            f"rm -rf {' '.join(self.values['dagster_home'] + folder for folder in ('/secrets', '/code', '/users'))}",
            f"rm -f {self.plan.names['proven_images']} {self.plan.names['proven_code_logs']}",
            *super().removal(),
        ]

    def needs(self) -> list[str]:
        return self.plan.gates(self.host.name)

    def known_by(self) -> list[str]:
        return [*self.inventory.group("dagster_database"), *(self.inventory.services if self.here else [])]

    def servers(self) -> list[dict[str, Any]]:
        return self.plan.storage.asked_for()

    @property
    def database_host(self) -> str:
        """Where code servers of this host reach the database."""
        derived = self.plan.storage.address(self.host.name, in_container=True)
        derived = self.host.chosen("dagster_database_run_host", derived)
        return str(self.host.chosen("dagster_database_code_host", derived))

    @property
    def environment(self) -> dict[str, str]:
        """With which code servers connect to the database."""
        storage = self.plan.storage
        return storage.environment(storage.container(self.host.name, self.database_host, storage.login("code")))

    def options(self, facts: Facts) -> dict[str, Any]:
        every = locations(self.inventory, self.values)
        here = [found.name for found in self.here]
        return {
            "dagster_database_code_host": self.database_host,
            # Names only: a location may hold secrets. Runs of every location start on the run engine; another engine
            # needs only what its own code servers run.
            "dagster_code_images_here": [found.name for found in every] if self.runs_start_here else here,
            "dagster_code_publish_address": self.publish_address,
            "dagster_database_code_user": self.plan.storage.login("code"),
        }

    def handed(self, facts: Facts) -> dict[str, Any]:
        every = [*self.inventory.group("dagster_code"), *self.inventory.group("dagster_run")]
        return {
            "here": [found.name for found in self.here],
            "watched": self.watched,
            # Where its unit asks them: the port is that in the container, the start that of the slowest code.
            "health": {
                "socket": self.plan.docker(self.host.name).socket.removeprefix("unix://"),
                "port": CONTAINER_PORT,
                "start": max(START, run_start_timeout(self.values)),
            },
            "runs": self.runs_start_here,
            "logins_left": self.logins_left(facts),
            "environment": self.environment,
            "authority": self.plan.storage.authority(self.host.name, CONTAINERS),
            "port": code_port(self.values),
            # An image is made on one of the engines, the others get that very image.
            "builder": next(iter(every), ""),
            "builder_socket": self.plan.docker(every[0]).socket,
            "engines": list(dict.fromkeys(every)),
            "log_driver": docker.log_driver(self.host),
            "every_run": self.plan.configuration.every_run,
            "launcher": run_rules.launcher(self.plan.configuration.merged),
            "instance": in_runs.handed(self.plan),
            "no_proxy": self.plan.exceptions("dagster_environment"),
            "gate_check": gate.check(self.plan.names),
            "pods": bool(self.plan.cluster),
        }

    @property
    def names_here(self) -> list[str]:
        """The locations whose code server or runs start on this host."""
        return [found.name for found in (locations(self.inventory, self.values) if self.runs_start_here else self.here)]

    @property
    def devices(self) -> dict[str, str]:
        """The devices of the host that containers of locations have here, each with what names it."""
        return location_forms.devices(self.values, self.names_here)

    def logins(self, folder: str) -> list[str]:
        """The files with the logins of runs (containers) or of code servers (code); users have their own."""
        folders = [f"{self.values['dagster_home']}/{place}{folder}" for place in ("", "users/*/")]
        return [f"{path}/{name}" for path in folders for name in (self.plan.storage.credential, compute_logs.FILE)]

    def logins_left(self, facts: Facts) -> list[str]:
        """Those of what does not start here, or does not any more. An earlier release wrote both everywhere."""
        servers = bool(self.here) or "dagster_code_locations_here" in self.host.given
        unused = {"containers": not self.runs_start_here, "code": not servers}
        patterns = [pattern for folder, left in unused.items() if left for pattern in self.logins(folder)]
        there = facts.get("paths") or []
        return [path for path in there if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]

    def paths(self) -> list[str]:
        home = self.values["dagster_home"]
        logins = [path for folder in ("containers", "code") for path in self.logins(folder)]
        return [
            *self.devices,
            *logins,
            f"{home}/secrets/*",
            f"{home}/users/*",
            self.plan.names.unit_file("code_health"),
        ]

    def host_problems(self, facts: Facts) -> list[str]:
        """Sentences about devices, and about members of a group that is somebody else's at first contact.

        Role docker speaks of ports.
        """
        there = facts.get("paths") or []
        missing = [
            f"{where} has {path}, which is no device of this host; remove it, or load the driver that makes it"
            for path, where in self.devices.items()
            if path not in there
        ]
        return [*missing, *self.member_problems(facts)]

    def member_problems(self, facts: Facts) -> list[str]:
        """Sentences at first contact about members of a group that is somebody else's."""
        if self.mark() in (facts.get("paths") or []):
            return []
        user, group = (str(self.values[name]) for name in ("dagster_user", "dagster_group"))
        return checks.group_member_problems(facts, group, user)

    def problems(self) -> list[str]:
        return self.plan.storage.password_problems("code") if self.here else []

    def deployment_problems(self) -> list[str]:
        values, merged = self.values, Configuration(self.plan.services.host, self.plan).merged
        given = {name: values[name] for name in ("dagster_docker_socket", "dagster_docker_endpoint")}
        return [
            *texts.socket_problems(given),
            *location_problems(
                values["dagster_code_locations"],
                self.inventory.group("dagster_code"),
                environment.of_containers(self.plan),
                values["dagster_config_allow"],
            ),
            *environment.loader_problems(values["dagster_code_locations"], values["dagster_config"]),
            *location_forms.problems(values),
            *read_only.problems(values, merged),
            *step_containers.problems(
                values, at(merged, ("run_launcher", "class")), self.without_gate, self.plan.names["gate_steps"]
            ),
            *registries.problems(values),
            *RunContainers(self.plan).of_locations(),
            *Checks(self.plan).of_locations(),
        ]

    @property
    def without_gate(self) -> str:
        """The engine that the services ask without a gate, empty where they ask that."""
        hosts = [self.inventory.hosts[name] for name in self.inventory.services]
        return next((str(host.values["dagster_docker_endpoint"]) for host in hosts if gate.names_an_engine(host)), "")

    def host_warnings(self, facts: Facts) -> list[str]:
        found = location_forms.warnings(self.values, self.names_here)
        return [*found, *(Checks(self.plan).warnings() if self.here else [])]
