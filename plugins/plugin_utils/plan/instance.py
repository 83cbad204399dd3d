# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The instance on a host of webservers or daemon: version and environment, and the way to the rest."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.places import JUDGED_BY_PLAN
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import (
    checks,
    compute_logs,
    docker,
    environment,
    libraries,
    record,
    texts,
)
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Component, Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.gate import Way
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes import CREDENTIAL
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.kubernetes_checks import Checks
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.locations import locations
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import port_of, reached_at
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import by_host

# What the programs of the services import.
PROGRAM = "systemd_service.py"


def versions(collection: str = COLLECTION) -> list[str]:
    """The Dagster versions with a committed lock, newest first."""
    names = os.listdir(os.path.join(collection, "roles", "instance", "files", "locks"))
    matches = (re.fullmatch(r"dagster-(\d+\.\d+\.\d+)\.txt", name) for name in names)
    found = [match.group(1) for match in matches if match]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")], reverse=True)


def program_text() -> str:
    """The text of what the programs of the services import."""
    path = os.path.join(COLLECTION, "roles", "instance", "files", "usr", "local", "lib", "dagster", PROGRAM)
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Instance(Component):
    """What webservers and daemon of a host share."""

    def packages(self, facts: Facts) -> list[str]:
        signed = self.way.certificates() and not self.values["dagster_docker_tls_client_cert"]
        return ["python3-pip-whl", "ca-certificates", *(["python3-cryptography"] if signed else [])]

    @property
    def way(self) -> Way:
        """How the services of the host reach the engine of the runs."""
        return Way(self.host, self.plan)

    def mark(self) -> str:
        return f"{self.plan.names['unit_drop_ins']}/10-instance.conf"

    def removal(self) -> list[str]:
        sandbox = f"{self.plan.names['unit_drop_ins']}/20-sandbox.conf"
        removed = f"rm -r {self.values['dagster_install_dir']} {sandbox}"
        return [removed, *super().removal(), f"rm -f {self.plan.names['proven_logs']}"]

    def known_by(self) -> list[str]:
        asks = self.host.name in docker.clients(self.inventory)
        # Code servers that were published on loopback are not any more.
        groups = ["dagster_database", "dagster_code", *(["dagster_run"] if asks else [])]
        return [host for group in groups for host in self.inventory.group(group)]

    @property
    def config_file(self) -> str:
        """Where dagster.yaml is."""
        return f"{self.values['dagster_home']}/dagster.yaml"

    def paths(self) -> list[str]:
        marks = libraries.installation(self.values, self.plan.configuration.merged)["marks"]
        ways = self.way.certificates()
        logins = [f"{self.values['dagster_home']}/{name}" for name in (CREDENTIAL, compute_logs.FILE)]
        return [self.config_file, *self.by_hand, *self.plan.names.services(), *marks, *ways, self.old_key, *logins]

    def compared(self) -> list[str]:
        home, names = str(self.values["dagster_home"]), self.plan.names
        folders = [home, f"{home}/gate/*", f"{home}/docker", names["unit_drop_ins"], names["ca_certificates"]]
        more = [f"{self.values['dagster_install_dir']}/current", names["command_line"], names["tmpfiles"]]
        return [*folders, *(f"{folder}/*" for folder in folders), str(self.values["dagster_state_dir"]), *more]

    @property
    def old_key(self) -> str:
        """With this an earlier release asked the engine."""
        return f"{self.values['dagster_home']}/docker/key.pem"

    @property
    def by_hand(self) -> dict[str, str]:
        """What a Dagster that somebody runs by hand may have where ours goes, with the variable that moves ours."""
        return {
            f"{self.values['dagster_install_dir']}/current": "dagster_install_dir",
            f"{self.values['dagster_state_dir']}/dagster.yaml": "dagster_state_dir",
        }

    def headed(self) -> list[str]:
        return [*super().headed(), self.plan.names["command_line"], self.plan.names["tmpfiles"]]

    @property
    def program(self) -> str:
        """Where that is on a host."""
        return f"{self.plan.names['programs']}/{PROGRAM}"

    def texts(self) -> list[str]:
        return [self.program]

    def moves_with(self, facts: Facts) -> list[str]:
        there = facts.get("paths") or []
        new = [path for path in self.way.certificates() if path not in there]
        return self.inventory.group("dagster_run") if new and self.mark() in there else []

    def other_version(self, facts: Facts) -> str:
        there = str((facts.get("texts") or {}).get(self.program, ""))
        return "" if there.strip() == program_text().strip() else self.program

    def certificates(self) -> dict[str, str]:
        return self.way.certificates()

    def servers(self) -> list[dict[str, Any]]:
        return self.plan.storage.asked_for()

    def options(self, facts: Facts) -> dict[str, Any]:
        storage = self.plan.storage
        return {
            "dagster_database_host": storage.address(self.host.name, in_container=False),
            "dagster_database_run_host": storage.run_address,
            "dagster_database_port": storage.port,
            "dagster_database_external": not storage.server,
            "dagster_docker_endpoint": docker.endpoint(self.host, self.inventory),
            "dagster_docker_ca_host": self.way.handed()["authority_host"],
            "dagster_code_endpoints": self.code_endpoints(),
        }

    def handed(self, facts: Facts) -> dict[str, Any]:
        storage = self.plan.storage
        return {
            "environment": self.environment,
            "no_proxy": self.plan.exceptions("dagster_environment", "dagster_secret_environment"),
            "config": self.plan.configuration.ours,
            # Preflight knows more of each place than the task that writes dagster.yaml.
            "judged": list(JUDGED_BY_PLAN),
            "gate": self.way.handed(),
            "fence": self.fence,
            # Which password the command line reads.
            "login": storage.login_environment(storage.login("web")),
            "tls": storage.verifies(self.host.name),
            "authority": storage.authority(self.host.name, str(self.values["dagster_home"])),
            "rights": {"logins": storage.writers, "app": storage.app},
            "left": self.left(facts),
            **libraries.installation(self.values, self.plan.configuration.merged),
        }

    def left(self, facts: Facts) -> list[str]:
        """Keys and logins with which services asked an engine, a cluster or a store, and ask no more."""
        home = self.values["dagster_home"]
        folders = [] if self.way.handed()["own_engine"] else ["docker"]
        files = [] if self.plan.cluster else [CREDENTIAL]
        files += [] if self.plan.configuration.logs.file_variable else [compute_logs.FILE]
        there = {f"{home}/{name}": f"{home}/{name}/key.pem" for name in folders}
        there |= {path: path for path in (f"{home}/{name}" for name in files)}
        return [path for path, sign in there.items() if sign in (facts.get("paths") or [])]

    @property
    def staged(self) -> list[str]:
        """What role instance stages, and the roles of the services put in place when they restart them."""
        home, names = self.values["dagster_home"], self.plan.names
        files = [self.plan.storage.credential, "environment", "environment.secret", "dagster.yaml", "workspace.yaml"]
        files += [CREDENTIAL] if self.plan.cluster else []
        files += [compute_logs.FILE] if self.plan.configuration.logs.file_variable else []
        return [
            f"{self.values['dagster_install_dir']}/current",
            f"{names['programs']}/systemd_service.py",
            *(f"{home}/{name}" for name in files),
            # Before the file that had the sandbox once: no service is without one, wherever a play ends.
            f"{names['unit_drop_ins']}/20-sandbox.conf",
            f"{names['unit_drop_ins']}/10-instance.conf",
        ]

    def code_endpoints(self) -> list[dict[str, Any]]:
        """Where the services of this host reach each code server."""
        return [
            {"name": location.name, "host": self.code_address(location.host), "port": port_of(location.port)}
            for location in locations(self.inventory, self.values)
        ]

    def code_address(self, host: str) -> str:
        """Where the services of this host reach the code servers of a host."""
        if host not in self.inventory.hosts:  # another problem says so
            return host
        published = self.plan.code_location(host).publish_address
        return reached_at(published, self.inventory.address(host), own=host == self.host.name)

    @property
    def environment(self) -> dict[str, Any]:
        """The environment that the collection gives webservers and daemon."""
        values, storage = self.values, self.plan.storage
        endpoint = docker.endpoint(self.host, self.inventory)
        remote = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": f"{values['dagster_home']}/docker"}
        return {
            "DAGSTER_HOME": str(values["dagster_home"]),
            **storage.environment(storage.service(storage.login("web"))),
            **({} if self.plan.cluster else {"DOCKER_HOST": endpoint}),
            "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE": values["dagster_heartbeat_tolerance"],
            **(remote if endpoint.startswith("tcp://") else {}),
        }

    @property
    def fence(self) -> dict[str, str]:
        """Whose logins may do what a daemon does (empty: any login), and what a second daemon is told."""
        full = self.values["dagster_daemon_fencing"] == "full"
        return {
            "logins": self.plan.storage.fenced if full else "",
            "unit": self.plan.names["daemon"],
            "command": self.plan.names["command_line"],
        }

    def deployment_problems(self) -> list[str]:
        values = self.values
        return [
            *version_problems(str(values["dagster_version"] or ""), versions()),
            *same_version_problems(self.inventory),
            *texts.certificate_problems(map(str, values["dagster_ca_certificates"])),
            *environment.instance_problems(
                values["dagster_environment"],
                values["dagster_secret_environment"],
                environment.of_all(self.plan),
                values["dagster_config_allow"],
            ),
            *self.plan.configuration.problems(),
            *libraries.problems(self.values, self.plan.configuration.merged),
            *Checks(self.plan).problems(),
            *docker.endpoint_problems(self.host, self.inventory),
            *(texts.common_name_problems(self.host.name) if self.way.certificates() else []),
        ]

    def host_problems(self, facts: Facts) -> list[str]:
        """Sentences at first contact about what somebody else has there: user, group, a Dagster, units like ours."""
        paths = facts.get("paths") or []
        if self.mark() in paths:
            return []
        user, group = (str(self.values[name]) for name in ("dagster_user", "dagster_group"))
        found = [*checks.user_problems(facts, user), *checks.group_member_problems(facts, group, user)]
        if self.config_file in paths:
            found.append(
                f"the host has a {self.config_file} of somebody else; set dagster_home to another folder, or give this "
                "instance a dagster_instance_name of its own"
            )
        # A play of ours that was interrupted has written the record first.
        if record.whole(self.plan.names["record"]) not in paths:
            found += [
                f"the host has {path} of somebody else, who may run Dagster there; set {variable} to another folder, "
                "or give this instance a dagster_instance_name of its own"
                for path, variable in self.by_hand.items()
                if path in paths
            ]
        return [*found, *self.unit_problems(paths)]

    def unit_problems(self, paths: Iterable[str]) -> list[str]:
        """Sentences about units of others whose names begin as ours do: they would get user and settings of ours."""
        names = self.plan.names
        return [
            f"the host has a unit {path} of somebody else; systemd would give it user, environment and sandbox of "
            f"ours, because its name begins with {names.name}-. Rename it, or give this instance a "
            "dagster_instance_name of its own"
            for path in paths
            if any(fnmatch.fnmatch(path, pattern) for pattern in names.services()) and path not in names.own_services()
        ]


def version_problems(version: str, known: list[str]) -> list[str]:
    """A sentence when a version of Dagster has no committed lock."""
    if not version or version in known:
        return []
    return [
        f"dagster_version is {version}; supported are {', '.join(known)} (each has a committed lock)"
        f"{did_you_mean(version, known, '; ')}"
    ]


def same_version_problems(inventory: Inventory) -> list[str]:
    """A sentence when the services' hosts, a standby included, would not all have one Dagster."""
    found = {name: str(inventory.hosts[name].values["dagster_version"] or "") for name in inventory.services}
    if len(set(found.values())) < 2:
        return []
    return [f"dagster_version differs between the services' hosts ({by_host(found)}); one instance has one version"]
