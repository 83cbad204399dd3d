# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The database as each host sees it: where it is, who logs in from where, how many connections it has to take.

Which database it is says the role of group dagster_database: a subclass of Storage stands in the file of its component.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.instance import EXCLUSIVE
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client
from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import launchers
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host, Inventory
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import Names
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, first_address

CONTAINERS = "/run/dagster"  # where a container finds its password and the certificate of the authority
PODS = "/run/dagster-database"  # where a run in a cluster finds that file, if no variable can hold its password
AUTHORITY = "database-ca.pem"  # by which clients on other hosts know the server, on each of their hosts
# The logins of processes that are not daemons.
LOGINS = {
    "web": "dagster_database_user",
    "read": "dagster_database_read_user",
    "code": "dagster_database_code_user",
    "run": "dagster_database_run_user",
}
# What they are members of, or what owns the tables.
ROLES = tuple(f"dagster_database_{role}_role" for role in ("owner", "app", "guard", "daemon"))
PASSWORDS = ("dagster_database_password", "dagster_database_run_password", "dagster_database_migration_password")
# What a token of AWS IAM, Azure or Google has in it. Each of them is good for an hour at most.
TOKEN = re.compile(r"X-Amz-(Signature|Credential)=|^eyJ[\w-]+\.eyJ[\w-]+\.|^ya29\.")
INSTEAD = (
    "address, logins and passwords are variables of their own (dagster_database_host, dagster_database_user, "
    "dagster_database_password, ...)"
)
# On a server of the user's own, these stay with the login of others until one is named.
SHARED = {"read": "web", "code": "run"}


class Storage:
    """The database of the deployment, as one host sees it; a subclass says what is so in one database alone."""

    dialect = ""  # the module of module_utils/_database/dialects, and the folder of the lease in role daemon
    unit = ""  # the unit of systemd after which the services start where both are on one host
    default_port = 0
    longest_login = 0  # characters
    reserved: frozenset[str] = frozenset()  # names that a login or database of ours would take from the server
    limit_variable = ""  # what tells the server how many connections it takes
    # Of a launcher of Kubernetes: its option that names the Secret with the password, and the variable in which the
    # client reads that. Empty where runs in a cluster cannot have the password so.
    secret_option = ""
    secret_variable = ""

    def __init__(self, host: Host, inventory: Inventory) -> None:
        self.host = host
        self.inventory = inventory
        self.values = host.values

    def keeps(self, name: str) -> bool:
        """Whether the server keeps a name for itself."""
        return name in self.reserved

    @property
    def server(self) -> str:
        """The host that runs the database, empty for a server of the user's own."""
        return next(iter(self.inventory.group("dagster_database")), "")

    @property
    def external(self) -> str:
        """The address of a server of the user's own, empty when the inventory names none."""
        return str(self.host.chosen("dagster_database_host", "") or "")

    @property
    def verifies_external(self) -> bool:
        """Whether the server is the user's own, and dagster_database_tls is about it too."""
        return False

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.host.chosen("dagster_database_port", self.default_port))

    def address(self, consumer: str, in_container: bool) -> str:
        """The address at which a host, or a container there, reaches the database."""
        if not self.server:
            return self.external
        if consumer != self.server:
            return self.inventory.address(self.server)
        return first_address(self.values["dagster_docker_network_subnet"]) if in_container else LOOPBACK

    @property
    def run_address(self) -> str:
        """Where runs reach it: containers of the run engine, or pods of a cluster."""
        if self.cluster:
            derived = self.inventory.address(self.server) if self.server else self.external
        else:
            derived = self.address(self.run_host, in_container=True)
        return str(self.host.chosen("dagster_database_run_host", derived))

    @property
    def run_host(self) -> str:
        """The host of the run engine; empty where runs start in a cluster."""
        return next(iter(self.inventory.group("dagster_run")), "" if self.cluster else self.host.name)

    @property
    def cluster(self) -> bool:
        """Whether runs start in a Kubernetes cluster."""
        return bool(launchers.in_cluster(self.values))

    @property
    def cluster_sources(self) -> list[str]:
        """From where these come to our server; none without one."""
        wanted = self.values["dagster_kubernetes_sources"] if self.cluster and self.server else []
        return [str(text) for text in wanted or []]

    def asked_for(self) -> list[dict[str, Any]]:
        """The server of the user's own that has to be reached, none when it is the deployment's."""
        return [{"host": self.external, "port": self.port, "dialect": self.dialect}] if self.external else []

    @property
    def clients(self) -> list[tuple[str, bool, list[str]]]:
        """Who connects: a host, whether from its containers, and the logins."""
        found = []
        for consumer in self.inventory.services if self.server else []:
            found.append((consumer, False, self.service_logins(consumer)))
        for consumer in self.inventory.engines if self.server else []:
            found.append((consumer, True, list(self.containers(consumer).values())))
        return found

    def service_logins(self, host: str) -> list[str]:
        """The logins of the services of a host. Each may migrate, and has Dagster's command line."""
        found = [self.login("web"), str(self.values["dagster_database_migration_user"])]
        if self.inventory.hosts[host].values.get("dagster_webserver_read_only_port"):
            found += [self.login("read")] if host in self.inventory.group("dagster_webserver") else []
        if host in self.inventory.group("dagster_daemon"):
            found += filter(None, [str(self.values["dagster_database_guard_user"]), self.daemon_login(host)])
        return found

    def containers(self, host: str) -> dict[str, str]:
        """The login of each kind of containers (code, run) that a host has."""
        kinds = {"code": "dagster_code", "run": "dagster_run"}
        return {kind: self.login(kind) for kind, group in kinds.items() if host in self.inventory.group(group)}

    def login(self, kind: str) -> str:
        """The login of webservers (web), read-only webservers (read), code servers (code) or runs (run).

        On a server of the user's own, whose logins we cannot make, the later two kinds stay with that of the first two
        until the inventory names one.
        """
        variable = LOGINS[kind]
        shared = variable if self.server else LOGINS[SHARED.get(kind, kind)]
        return str(self.host.chosen(variable, self.values[shared]))

    @property
    def writers(self) -> dict[str, str]:
        """The login of each kind of process, as the owner of the tables grants rights. Daemons have a group."""
        full = self.values["dagster_daemon_fencing"] == "full"
        daemon = str(self.values["dagster_database_daemon_role"]) if full else self.login("web")
        return {**{kind: self.login(kind) for kind in LOGINS}, "daemon": daemon}

    def daemon_login(self, host: str) -> str:
        """The database login of a host's daemon, empty when none is fenced."""
        if self.values["dagster_daemon_fencing"] != "full":
            return ""
        plain = re.sub(r"[^a-z0-9]+", "_", host.lower()).strip("_")
        return f"{self.values['dagster_database_daemon_role']}_{plain}"[: self.longest_login]

    @property
    def fenced(self) -> str:
        """By what the fence in Dagster's tables knows the logins of daemons: the group of all of them."""
        return str(self.values["dagster_database_daemon_role"])

    def daemon_logins(self) -> list[str]:
        """The logins of the daemons, as the server of the deployment makes them; none where no login is fenced."""
        derived = filter(None, (self.daemon_login(host) for host in self.inventory.group("dagster_daemon")))
        variable = f"dagster_{self.dialect}_daemon_logins"
        server = self.inventory.hosts.get(self.server, self.host)
        found: list[str] = server.chosen(variable, list(derived))
        return found

    def login_problems(self) -> list[str]:
        """Sentences about logins of our server that two kinds of processes would have."""
        users = ("dagster_database_migration_user", "dagster_database_guard_user")
        every = {name: str(self.values.get(name) or "") for name in (*LOGINS.values(), *users, *ROLES)}
        return [
            f"{name} and {other} are both {every[name]}; each kind of process has a login of its own, with its own "
            "rights, and so has each role. Rename one of them"
            for name, other in itertools.combinations(every, 2)
            if self.server and every[other] == every[name] and every[name]
        ]

    def place_problems(self) -> list[str]:
        """A sentence about a variable that says another thing than the groups, which decide whose server it is."""
        name = "dagster_database_external"
        given = self.host.chosen(name, not self.server)
        if bool(given) is not bool(self.server):
            return []
        place = f"{self.server} of group dagster_database" if self.server else "one of yours (dagster_database_host)"
        return [f"{name} is {str(bool(given)).lower()}, and the server is {place}; leave it out"]

    def password_problems(self, kind: str) -> list[str]:
        """A sentence where the password of a login (read, code) is missing, or not the one that our server knows."""
        user, password = LOGINS[kind], LOGINS[kind].replace("_user", "_password")
        given = self.values.get(password)
        if not self.server:
            shared = LOGINS[SHARED[kind]]
            if given or self.login(kind) == self.login(SHARED[kind]):
                return []
            return [
                f"{user} is {self.login(kind)}, and {password} is not set; set it, or leave {user} out: then it is "
                f"{shared}"
            ]
        if not given or given == self.inventory.hosts[self.server].values.get(password):
            return []
        return [
            f"{password} is set for {self.host.name} and is another one, or none, for {self.server}; set it for all"
        ]

    # Clients on other hosts

    @property
    def tls_addresses(self) -> list[str]:
        """Where clients on other hosts reach our server, each with TLS; none when they are all on its own host."""
        if not self.server or not self.values.get("dagster_database_tls"):
            return []
        found = {
            str(
                self.inventory.hosts[consumer].chosen("dagster_database_run_host", address) if in_container else address
            )
            for consumer, in_container, _users in self.clients
            if consumer != self.server
            for address in [self.address(consumer, in_container)]
        }
        return sorted(found | ({self.run_address} if self.cluster else set()))

    def verifies(self, consumer: str) -> bool:
        """Whether we see to it that the clients on a host connect with TLS, and verify the server."""
        return consumer != self.server and self.tls_addresses != []

    def authority(self, consumer: str, folder: str) -> str:
        """Where clients on a host find the certificate by which they know the server; empty where they need none."""
        return f"{folder}/{AUTHORITY}" if self.verifies(consumer) else ""

    @property
    def app(self) -> str:
        """The group through which each login once wrote each table, empty on a server of the user's own."""
        return str(self.values.get("dagster_database_app_role") or "") if self.server else ""

    # What the database decides

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of Dagster's processes that are ours; credential names the file of the password."""
        found: dict[str, str] = DIALECTS[self.dialect].VARIABLES
        return found

    @property
    def credential(self) -> str:
        """The name of that file."""
        return str(DIALECTS[self.dialect].CREDENTIAL)

    def client(self, consumer: str, address: str, user: Any, folder: str, credential: str = "") -> Client:
        """A client on a host, which finds its files in a folder."""
        return Client(
            host=address,
            port=self.port,
            database=str(self.values["dagster_database_name"]),
            user=str(user),
            credential=credential,
            tls=self.verifies(consumer),
            authority=self.authority(consumer, folder),
        )

    def service(self, user: Any, credential: bool = False) -> Client:
        """A service of this host; with the file of its password, or without it, because each unit has its own."""
        home, own = str(self.values["dagster_home"]), self.host.name
        file = f"{home}/{self.credential}" if credential else ""
        return self.client(own, self.address(own, in_container=False), user, home, file)

    def container(self, consumer: str, address: str, user: Any) -> Client:
        """A container of a host, where the file of the password is mounted."""
        return self.client(consumer, address, user, CONTAINERS, f"{CONTAINERS}/{self.credential}")

    @property
    def runs(self) -> Client:
        """A run. A pod finds the file of the password where the user mounts it, if it does not get it from a Secret."""
        user = self.login("run")
        if not self.cluster:
            return self.container(self.run_host, self.run_address, user)
        file = "" if self.secret_option else f"{PODS}/{self.credential}"
        return self.client(self.run_host, self.run_address, user, CONTAINERS, file)

    def environment(self, client: Client) -> dict[str, str]:
        """The environment with which Dagster connects."""
        found: dict[str, str] = DIALECTS[self.dialect].environment(client)
        return found

    def login_environment(self, user: Any) -> dict[str, str]:
        """What a service of this host with its password has more than all services have."""
        shared = self.environment(self.service(self.login("web")))
        own = self.environment(self.service(user, credential=True))
        return {name: value for name, value in own.items() if shared.get(name) != value}

    def unit_environment(self, user: Any) -> str:
        """The line Environment= of a unit that has the file with this login's password as a credential."""
        client, name = self.service(user, credential=True), self.variables["credential"]
        # systemd puts something in the place of a '%'.
        value = self.environment(client)[name].replace("%", "%%")
        return f"{name}={value.replace(client.credential, f'%d/{self.credential}')}"

    def config(self) -> dict[str, Any]:
        """The section storage of dagster.yaml. It names variables of the environment, never a password."""
        raise NotImplementedError

    def config_problems(self, given: Mapping[str, Any]) -> list[str]:
        """Sentences about a storage in dagster_config that is not the database of the deployment."""
        told = given.get("storage")
        kinds = [kind for kind in DIALECTS if isinstance(told, Mapping) and told.get(kind) is not None]
        known = [kind for kind in DIALECTS if isinstance(told, Mapping) and kind in told]
        legacy = [name for name in EXCLUSIVE["storage"] if given.get(name) is not None]
        found = [
            f"dagster_config.storage.{kind}: the database of this deployment is {DIALECTS[self.dialect].PRODUCT}; set "
            f"dagster_database_engine to {kind} for {DIALECTS[kind].PRODUCT}, and remove storage.{kind}: {INSTEAD}"
            for kind in kinds
            if kind != self.dialect
        ]
        if len(known) > 1 and not found:
            found.append(f"dagster_config.storage: found {' and '.join(known)}; one instance has one. Remove storage")
        if legacy:
            meant = [
                f"; for {DIALECTS[kind].PRODUCT} set dagster_database_engine to {kind}"
                for kind in DIALECTS
                if kind != self.dialect and re.match(rf"dagster_{kind}\b", _module_of(given[legacy[0]]))
            ]
            found.append(
                f"dagster_config.{legacy[0]}: found the old form ({', '.join(legacy)}), and a deployment has one block "
                f"storage, which is there already ({self.dialect}); remove {'them' if len(legacy) > 1 else 'it'}: "
                f"{INSTEAD}{''.join(meant)}"
            )
        return found

    def has_logins(self, config: Mapping[str, Any]) -> bool:
        """Whether services, code servers and runs have logins of their own in the database of a dagster.yaml."""
        return bool(self.server) and (config.get("storage") or {}).get(self.dialect) is not None

    def parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a dagster.yaml adds to a connection, as the client library takes it."""
        return {}

    def driver_parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The same for programs of ours on this host, which connect as the services do."""
        found: dict[str, Any] = DIALECTS[self.dialect].parameters(self.service(self.login("web")))
        return {**self.parameters(config), **found}

    def external_problems(self) -> list[str]:
        """Sentences about ways to a server of the user's own that do not work."""
        return [
            f"{name} is a token that ends within the hour, as a login through IAM has; the services connect for as "
            "long as they run and cannot renew it. Give the login a password of its own"
            for name in PASSWORDS
            if TOKEN.search(str(self.values.get(name) or ""))
        ]

    def limit(self) -> int:
        """How many connections the server was told to take, 0 when that is ours to say."""
        raise NotImplementedError

    def limit_is_given(self) -> bool:
        """Whether the inventory says what the server takes, also a server that is not ours."""
        return self.limit_variable in self.host.given

    def handed(self) -> dict[str, Any]:
        """What roles are given as dagster_plan.storage."""
        return {
            "dialect": self.dialect,
            "server": self.server,
            # The certificate of the authority: where the server's host has it, and what it is called on a client's.
            "authority": f"{Names(self.values)['database_tls']}/ca.pem" if self.tls_addresses else "",
            "authority_copy": AUTHORITY,
            "unit": self.unit,
            "credential": self.credential,
            "variables": dict(self.variables),
        }


def _module_of(section: Any) -> str:
    """The module that a section of dagster.yaml names, empty where it names none."""
    return str(section.get("module") or "") if isinstance(section, Mapping) else ""
