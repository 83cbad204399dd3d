# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""MariaDB as the storage of Dagster, and on its host: an instance of our own, who may connect from where.

Debian's package runs an instance without a name (mariadb.service, /var/lib/mysql, port 3306) and has a template unit
for more (mariadb@NAME.service). Ours is called like the deployment, and reads one file, its own. What is set in
/etc/mysql is for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.dataops.dagster.plugins.plugin_utils.certificates import load
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import server_settings
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.database import Database
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import LOOPBACK, Port, is_address
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import INSTEAD, LOGINS, PASSWORDS, Storage

# What conflicts with Debian's MariaDB: apt would take it away, and what it serves.
CONFLICTS = ("mysql-server", "mysql-community-server", "percona-server-server", "percona-xtradb-cluster-server")
PACKAGE = "mariadb-server"
# Where the settings of the instance without a name are, and the port in a line that sets it.
ETC = ("/etc/mysql/my.cnf", "/etc/mysql/conf.d/*.cnf", "/etc/mysql/mariadb.conf.d/*.cnf")
PORT = r"(?i)^[ \t]*port[ \t='\"]*([0-9]+)"
NAMELESS = "mariadb.service"
KEEPS = ("mariadb.sys", "mysql", "performance_schema", "public", "root", "sys", "information_schema", "none", "test")


class MysqlStorage(Storage):
    """MariaDB, ours or the user's own."""

    dialect = "mysql"
    default_port = 3306
    longest_login = 64  # of a database; a login may have more
    reserved = frozenset({*KEEPS, "current_role", "current_user"})
    limit_variable = "dagster_mysql_max_connections"

    def keeps(self, name: str) -> bool:
        return super().keeps(name.lower())

    @property
    def unit(self) -> str:  # type: ignore[override]
        """The unit of the instance, which has its name."""
        return f"mariadb@{self.values['dagster_instance_name']}.service"

    @property
    def verifies_external(self) -> bool:
        return not self.server and bool(self.values["dagster_database_tls"])

    def verifies(self, consumer: str) -> bool:
        return self.verifies_external or super().verifies(consumer)

    def authority(self, consumer: str, folder: str) -> str:
        if self.verifies_external and not self.values["dagster_database_tls_ca"]:
            return ""  # a server of the user's own may be known by what every system trusts
        return super().authority(consumer, folder)

    @property
    def fenced(self) -> str:
        return ",".join(self.daemon_logins())  # a trigger knows who asks by name alone

    def config(self) -> dict[str, Any]:
        return {"mysql": {"mysql_url": {"env": self.variables["credential"]}}}

    def config_problems(self, given: Mapping[str, Any]) -> list[str]:
        told = given.get("storage")
        own = told.get(self.dialect) if isinstance(told, Mapping) else None
        found = super().config_problems(given)
        if own is not None:
            found.append(f"dagster_config.storage.{self.dialect}: remove it; {INSTEAD}")
        return found

    def external_problems(self) -> list[str]:
        return [*super().external_problems(), *self.authority_problems(), *self.password_form_problems()]

    def login_problems(self) -> list[str]:
        return [*super().login_problems(), *self.password_form_problems()]

    def authority_problems(self) -> list[str]:
        """A sentence about a text that is no certificate of an authority."""
        text = str(self.values["dagster_database_tls_ca"])
        try:
            if text:
                load(text)
        except ValueError:
            return ["dagster_database_tls_ca cannot be read as a certificate; expected PEM text"]
        return []

    def password_form_problems(self) -> list[str]:
        """Sentences about passwords that the file, from which Dagster's driver reads one, cannot hold."""
        names = (*PASSWORDS, *(LOGINS[kind].replace("_user", "_password") for kind in ("read", "code")))
        given = {name: str(self.values.get(name) or "") for name in dict.fromkeys(names)}
        return [
            f"{name} has a space at its beginning or end, which MariaDB's client does not read from its file; take one "
            "without"
            for name, text in given.items()
            if text != text.strip()
        ]

    def limit(self) -> int:
        told = server_settings.told_connections(self.values["dagster_mysql_options"] or {})
        return told or int(self.values[self.limit_variable] or 0)


class Mysql(Database):
    """The server of the deployment's database."""

    role, product = "mysql", "MariaDB"
    own_settings: ClassVar[dict[str, str]] = {
        "port": "dagster_database_port",
        **dict.fromkeys(("datadir", "pid_file", "socket", "user"), ""),
    }

    # Its files, all of them called like the instance

    @property
    def config(self) -> str:
        """All settings of the instance. It is written first, and says that the rest is ours."""
        return f"/etc/mariadb-{self.plan.names.name}.cnf"

    @property
    def folder(self) -> str:
        """What the disk of the data may be mounted on."""
        return f"/var/lib/mariadb-{self.plan.names.name}"

    @property
    def datadir(self) -> str:
        """The data itself, there from the moment on in which it is whole."""
        return f"{self.folder}/data"

    @property
    def drop_in(self) -> str:
        """What makes an instance of our own of Debian's template unit."""
        return f"/etc/systemd/system/{self.plan.storage.unit}.d/dagster.conf"

    @property
    def enabled(self) -> str:
        """The link with which systemd starts it at boot."""
        return f"/etc/systemd/system/multi-user.target.wants/{self.plan.storage.unit}"

    def packages(self, facts: Facts) -> list[str]:
        return [PACKAGE, "python3-pymysql", *(["python3-cryptography"] if self.signs else [])]

    def ports(self) -> list[Port]:
        return [self.port(self.plan.storage.unit, "bind_address")]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"mysql": (1, 250)}

    def headed(self) -> list[str]:
        return [*super().headed(), self.config, self.drop_in]

    def paths(self) -> list[str]:
        return [self.config, self.datadir, self.enabled, self.certificate]

    def run_needs(self) -> list[str]:
        return [self.config, self.drop_in]

    def compared(self) -> list[str]:
        return [*super().compared(), self.config, self.drop_in.rpartition("/")[0], self.drop_in]

    def units(self) -> list[str]:
        return [*super().units(), self.plan.storage.unit]

    def lines(self) -> dict[str, str]:
        return dict.fromkeys(ETC, PORT)

    def marks(self) -> list[str]:
        return [*super().marks(), self.config]

    def removal(self) -> list[str]:
        unit = self.plan.storage.unit if self.plan.storage.dialect == self.role else f"mariadb@{self.plan.names.name}"
        return [
            f"systemctl disable --now {unit}",
            f"rm -r /etc/systemd/system/{unit.removesuffix('.service')}.service.d {self.config}",
            *super().removal(),
        ]

    def data(self, facts: Facts) -> str:
        return f"Its data stays in {self.folder}; no play removes it"

    def handed(self, facts: Facts) -> dict[str, Any]:
        clients = self.host.chosen("dagster_mysql_clients", self.clients)
        return {
            **super().handed(facts),
            "unit": self.plan.storage.unit,
            "config": self.config,
            "drop_in": self.drop_in,
            "folder": self.folder,
            "data": self.datadir,
            "run": f"/run/mariadb-{self.plan.names.name}",
            "made": self.datadir in (facts.get("paths") or []),
            # The packaged instance of a package that is ours is switched off once.
            "nameless": NAMELESS,
            "ours": PACKAGE in self.plan.ours(facts),
            # Where a client is known by its name alone, the server has to ask for the names of addresses.
            "asks_for_names": any(not is_address(str(one["address"]).partition("/")[0]) for one in clients),
        }

    # Who connects

    @property
    def clients(self) -> list[dict[str, Any]]:
        budget, logins = self.plan.budget, self.daemon_logins
        of_host = {self.inventory.address(host): host for host in self.inventory.hosts}
        every = [{"address": LOOPBACK, "users": self.local}, *super().clients]
        merged: dict[str, dict[str, Any]] = {}
        for one in every:  # a host has services and containers, which the server does not tell apart
            known = merged.setdefault(one["address"], {**one, "users": [], "connections": {}})
            limits = budget.limits_from(of_host.get(one["address"], self.host.name), logins)
            known["users"] += [user for user in one["users"] if user not in known["users"]]
            known["connections"].update({user: limits[user] for user in one["users"]})
        return list(merged.values())

    # What can be wrong

    def host_problems(self, facts: Facts) -> list[str]:
        return [
            *self.conflict_problems(facts),
            *self.first_contact_problems(facts),
            *self.port_problems(facts),
            *self.memory_problems(facts),
        ]

    def conflict_problems(self, facts: Facts) -> list[str]:
        """A sentence where apt would take somebody else's server away to install ours."""
        if PACKAGE in facts["packages"]:
            return []
        return [
            f"the host has {name}, which Debian's {PACKAGE} would replace, with all that it serves; take another host "
            "for group dagster_database, or name that server (dagster_database_host)"
            for name in sorted(facts["packages"])
            if name.startswith(CONFLICTS)
        ]

    def first_contact_problems(self, facts: Facts) -> list[str]:
        """A sentence where it is not clear whether an instance of our name is ours, or where ours cannot be made."""
        paths = facts.get("paths") or []
        known, data, marked = self.config in paths, self.datadir in paths, self.mark() in paths
        if not known and data:
            return [
                f"{self.datadir} is there, but {self.config} is not: the configuration was lost. Bring it back, or "
                f"move {self.datadir} away to begin with an empty database"
            ]
        if not known and self.enabled in paths:
            return [
                f"the host has an instance {self.plan.storage.unit}, which dataops.dagster has not made ({self.config} "
                "is not there); choose another dagster_instance_name, or take that instance away"
            ]
        if marked and not data:
            return [
                f"{self.mark()} is there from an earlier deployment, but {self.datadir} is not: its disk may not be "
                f"mounted. Bring it back, or remove {self.mark()} to begin with an empty database"
            ]
        return []

    def port_problems(self, facts: Facts) -> list[str]:
        """A sentence where the instance without a name has our port, or will have it when it is started."""
        if PACKAGE not in facts["packages"] or PACKAGE in self.plan.ours(facts):
            return []
        (port,) = self.ports()
        lines: Mapping[str, list[str]] = facts.get("lines") or {}
        told = [text for path, found in lines.items() if path.startswith("/etc/mysql/") for text in found]
        theirs = {int(text) for text in told if text.isdigit()} or {self.plan.storage.default_port}
        held = [listener for listener in facts["listeners"] if listener["port"] == port.number]
        if port.number not in theirs or held:  # who holds it now, says the check of all ports
            return []
        return [
            f"port {port.number} is that of the MariaDB which the host has already ({NAMELESS}), so both could not "
            f"run; change {port.variable}"
        ]
