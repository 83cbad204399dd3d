# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL as the storage of Dagster, and on its host: which cluster is ours, who may connect from where, how many
connections it takes.

A host may have several clusters (Debian's word for a server with its data). Ours is the one with our drop-in. Where no
cluster has it, one is made that is called like the instance. So Debian's `main` stays free for others. Release 0.1.0
took `main`, and its deployments stay there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import checks, record, server_settings, subnets
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import external_postgres as external
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.component import Facts
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.database import Database
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.network import Port
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage

# The major version that each Debian release ships.
VERSIONS = {"bookworm": 15, "trixie": 17}
ETC, DATA = "/etc/postgresql", "/var/lib/postgresql"
# By which a cluster is known as ours: one file is enough, so a lost one comes back with the next play.
RECORDS = ("conf.d/dagster.conf", "dagster/pg_hba.conf")
PORT = r"(?i)^[ \t]*port[ \t='\"]*([0-9]+)"  # in a line that sets it
# The words in pg_hba.conf that say what code servers of an earlier release have left: login of runs, also network.
CLOSED, SEPARATE = "Closed", "Separate"
HEADER_OR_CLOSED = rf"({record.HEADER[1:-1]}|{CLOSED}|{SEPARATE})"
PORT_OR_HEADER = rf"(?i)(?:^[ \t]*port[ \t='\"]*(?=[0-9])|(?=Managed))([0-9]+|{record.HEADER[1:-1]})"


class PostgresStorage(Storage):
    """PostgreSQL, ours or the user's own."""

    dialect = "postgres"
    unit = "postgresql.service"
    default_port = 5432
    longest_login = 63  # what is longer is cut
    # Its superuser, its own databases, and words of pg_hba.conf and of GRANT.
    reserved = frozenset(
        {"all", "none", "postgres", "public", "replication", "samerole", "sameuser", "template0", "template1"}
    )
    limit_variable = "dagster_postgres_max_connections"
    secret_option, secret_variable = "postgres_password_secret", "PGPASSWORD"

    def keeps(self, name: str) -> bool:
        return super().keeps(name) or name.startswith("pg_")

    def config(self) -> dict[str, Any]:
        return {
            "postgres": {
                "postgres_db": {
                    "hostname": {"env": self.variables["host"]},
                    "username": {"env": self.variables["user"]},
                    "db_name": str(self.values["dagster_database_name"]),
                    "port": self.port,
                    # Under SQLAlchemy 2.1 a plain postgresql:// means psycopg 3, which neither we nor a code image may
                    # have.
                    "scheme": "postgresql+psycopg2",
                }
            }
        }

    def config_problems(self, given: Mapping[str, Any]) -> list[str]:
        return [*super().config_problems(given), *external.parameter_problems(given)]

    def parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return external.parameters(config)

    def external_problems(self) -> list[str]:
        return [*external.problems(self.values), *super().external_problems()]

    def limit(self) -> int:
        told = server_settings.told_connections(self.values["dagster_postgres_options"] or {})
        return told or int(self.values[self.limit_variable] or 0)


def source(address: str) -> str:
    """An address as pg_hba.conf takes it: one host in CIDR form, or the name of a host as it is."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        return address


@dataclass(frozen=True)
class Cluster:
    """A server with its data, as Debian's postgresql-common knows it."""

    version: str
    name: str

    def __str__(self) -> str:
        return f"{self.version}/{self.name}"

    @property
    def etc(self) -> str:
        """The folder of its configuration."""
        return f"{ETC}/{self}"

    @property
    def config(self) -> str:
        """The file that every cluster has."""
        return f"{self.etc}/postgresql.conf"

    @property
    def data(self) -> str:
        """A file that its data has from the beginning."""
        return f"{DATA}/{self}/PG_VERSION"

    @property
    def unit(self) -> str:
        """Its own unit. postgresql.service is that of all clusters, so it is not for us to start or stop."""
        return f"postgresql@{self.version}-{self.name}.service"

    @property
    def age(self) -> tuple[int, ...]:
        """Its version, in an order: an upgrade by hand leaves the old cluster in place."""
        return tuple(int(part) for part in self.version.split("."))


def clusters(paths: Iterable[str], *files: str) -> list[Cluster]:
    """The clusters that have one of these files in their configuration, those of the newest version last."""
    pattern = re.compile(f"{ETC}/([0-9]+(?:\\.[0-9]+)?)/([^/]+)/(?:{'|'.join(map(re.escape, files))})")
    found = {Cluster(match[1], match[2]) for path in paths if (match := pattern.fullmatch(path))}
    return sorted(found, key=lambda cluster: (cluster.age, cluster.name))


class Postgres(Database):
    """The server of the deployment's database."""

    role, product = "postgres", "PostgreSQL"
    own_settings: ClassVar[dict[str, str]] = {
        "port": "dagster_database_port",
        **dict.fromkeys(("config_file", "data_directory", "external_pid_file", "hba_file", "ident_file"), ""),
    }

    def source(self, address: str) -> str:
        return source(address)

    def recorded(self, facts: Facts) -> list[Cluster]:
        """The clusters with our drop-in, ours last."""
        return clusters(facts.get("paths") or [], *RECORDS)

    def cluster(self, facts: Facts) -> Cluster:
        """Ours: the one that a play has recorded on the host, or the one that is to be made."""
        recorded = self.recorded(facts)
        # A release that is none of these is refused by another problem.
        version = VERSIONS.get(facts["release"], max(VERSIONS.values()))
        return recorded[-1] if recorded else Cluster(str(version), self.plan.names["cluster"])

    def packages(self, facts: Facts) -> list[str]:
        signer = ["python3-cryptography"] if self.signs else []
        return [f"postgresql-{self.cluster(facts).version}", "python3-psycopg2", *signer]

    def options(self, facts: Facts) -> dict[str, Any]:
        limits = self.plan.budget.limits(self.daemon_logins)
        return {**super().options(facts), "dagster_postgres_connection_limits": limits}

    @property
    def no_main(self) -> str:
        """Keeps Debian's package from making `main`. The role takes it away: it would concern later packages too."""
        return f"/etc/postgresql-common/createcluster.d/{self.plan.names['cluster']}.conf"

    def package_files(self, facts: Facts) -> list[dict[str, Any]]:
        if self.packages(facts)[0] in facts["packages"]:
            return []
        text = "# Of dataops.dagster, while it installs PostgreSQL: its cluster has a name of its own.\n"
        return [
            {"dest": self.no_main.rpartition("/")[0], "state": "directory"},
            {"dest": self.no_main, "content": f"{text}create_main_cluster = false\n"},
        ]

    def ports(self) -> list[Port]:
        # Another cluster may have it as well: host_problems knows which one is ours.
        return [self.port("postgresql@", "listen_addresses")]

    def memory(self) -> dict[str, tuple[int, int]]:
        return {"postgres": (1, 200)}

    def marks(self) -> list[str]:
        return [*super().marks(), *(f"{Cluster('*', '*').etc}/{name}" for name in RECORDS)]

    def data(self, facts: Facts) -> str:
        return " ".join(
            f"The PostgreSQL cluster {cluster} goes on and keeps its data. pg_dropcluster --stop {cluster.version} "
            f"{cluster.name} removes both for good; no play does that"
            for cluster in self.recorded(facts)[-1:]
        )

    def paths(self) -> list[str]:
        every = Cluster("*", "*")
        return [every.config, every.data, self.certificate]

    def run_needs(self) -> list[str]:
        every = Cluster("*", "*")  # nobody else's has files of these names
        return [f"{every.etc}/{name}" for name in (*RECORDS, "dagster/pg_ident.conf")]

    def compared(self) -> list[str]:
        every = Cluster("*", "*").etc
        files = [f"{every}/dagster", f"{every}/dagster/*", f"{every}/conf.d/dagster*.conf", self.no_main]
        return [*super().compared(), *files]

    def units(self) -> list[str]:
        return [*super().units(), Cluster("*", "*").unit]

    def lines(self) -> dict[str, str]:
        # The later ones of these files win.
        every = Cluster("*", "*")
        return {
            **dict.fromkeys([every.config, f"{DATA}/{every}/postgresql.auto.conf"], PORT),
            f"{every.etc}/conf.d/*.conf": PORT_OR_HEADER,
            f"{every.etc}/{RECORDS[1]}": HEADER_OR_CLOSED,
        }

    def handed(self, facts: Facts) -> dict[str, Any]:
        cluster = self.cluster(facts)
        return {
            "version": cluster.version,
            "cluster": cluster.name,
            "etc": cluster.etc,
            "config": cluster.config,
            "unit": cluster.unit,
            **super().handed(facts),
            "local": self.local,
            "before": self.before(facts),
            "made": cluster.config in (facts.get("paths") or []),
            "no_main": self.no_main,
        }

    def before(self, facts: Facts) -> list[dict[str, Any]]:
        """What code servers of an earlier release need until they are replaced.

        They were in the network of runs, and before that they had the login of runs.
        """
        hba = f"{self.cluster(facts).etc}/{RECORDS[1]}"
        said = (facts.get("lines") or {}).get(hba, [])
        if hba not in (facts.get("paths") or []) or SEPARATE in said:
            return []
        run, here = self.plan.storage.login("run"), self.plan.storage.containers(self.host.name)
        logins = [here["code"], *([] if CLOSED in said or "run" in here else [run])] if "code" in here else []
        found = [{"address": subnets.of_runs(self.host), "users": logins}] if logins else []
        return found + [
            self.client(consumer, [run])
            for consumer, in_container, users in self.plan.storage.clients
            if in_container and run not in users and consumer != self.host.name and CLOSED not in said
        ]

    def deployment_problems(self) -> list[str]:
        mode = str(self.plan.storage.parameters(self.plan.configuration.merged).get("sslmode", ""))
        found = super().deployment_problems()
        if self.plan.storage.tls_addresses and mode == "disable":
            found.append(
                "dagster_config.storage.postgres.postgres_db.params: sslmode is disable, but clients on other hosts "
                "connect with TLS; leave it out, or set dagster_database_tls to false"
            )
        return found

    def host_problems(self, facts: Facts) -> list[str]:
        return self.record_problems(facts) or [
            *self.first_contact_problems(facts),
            *self.port_problems(facts),
            *self.memory_problems(facts),
        ]

    def record_problems(self, facts: Facts) -> list[str]:
        """Sentences about files that show our cluster by their name, and are not ours."""
        paths = facts.get("paths") or []
        recorded = [
            path for found in self.recorded(facts) for name in RECORDS if (path := f"{found.etc}/{name}") in paths
        ]
        foreign = [path for path in recorded if record.is_foreign(path, facts)]
        if foreign:
            return [
                f'the host has a {path} of somebody else (nothing in it says "Managed by dataops.dagster"); give it '
                "another name, because by this one the PostgreSQL cluster of the deployment is known"
                for path in foreign
            ]
        # A play of ours, also one that was interrupted, has left one of these first.
        if not recorded or {self.mark(), record.whole(self.plan.names["record"])}.intersection(paths):
            return []
        return [
            f"{recorded[0]} says that its PostgreSQL cluster is a deployment's, but nothing else of one is on the "
            f"host; bring {self.mark()} back, or move {recorded[0]} away"
        ]

    def first_contact_problems(self, facts: Facts) -> list[str]:
        """A sentence where it is not clear which cluster is ours, or where ours cannot be made."""
        paths, cluster, recorded = facts.get("paths") or [], self.cluster(facts), self.recorded(facts)
        alike = [str(known) for known in recorded if known.version == cluster.version]
        if len(alike) > 1:
            return [
                f"{RECORDS[0]} of dataops.dagster is in the PostgreSQL clusters {' and '.join(alike)}; remove it and "
                f"{RECORDS[1].partition('/')[0]} beside it from the one that is not this deployment's"
            ]
        if not recorded and self.mark() in paths:
            return [
                f"{self.mark()} is there from an earlier deployment, but no PostgreSQL cluster has {RECORDS[0]} of "
                f"dataops.dagster; bring {ETC} back, or remove {self.mark()} to begin with an empty database"
            ]
        if not recorded and cluster.config in paths:
            return [
                f"the host has a PostgreSQL cluster {cluster}, which dataops.dagster has not made ({RECORDS[0]} is not "
                "in it); choose another dagster_instance_name, or rename that cluster (pg_renamecluster)"
            ]
        if cluster.config not in paths and cluster.data in paths:
            return [
                f"{cluster.data} is there, but {cluster.config} is not: the configuration was lost, or making the "
                f"cluster was interrupted; bring {cluster.etc} back, or move {DATA}/{cluster} away to begin with an "
                "empty database"
            ]
        return []

    def port_problems(self, facts: Facts) -> list[str]:
        """A sentence where another cluster has our port, or will have it when it is started."""
        cluster, (port,) = self.cluster(facts), self.ports()
        held = [listener for listener in facts["listeners"] if listener["unit"].startswith(port.unit)]
        if any(listener["unit"] == cluster.unit and listener["port"] == port.number for listener in held):
            return []  # what others add later changes nothing
        own = replace(port, unit=cluster.unit)
        return checks.taken_port_problems([own], held) or [
            f"port {port.number} is in the configuration of the PostgreSQL cluster {other}, so it cannot start beside "
            f"ours; change {port.variable}"
            for other in clusters(facts.get("paths") or [], "postgresql.conf")
            if other != cluster
            # Without its server it cannot start. Ours is the server of other clusters too.
            and (other.version == cluster.version or f"postgresql-{other.version}" in facts["packages"])
            and self.port_of(other, facts) == port.number
        ]

    def port_of(self, cluster: Cluster, facts: Facts) -> int:
        """The port in the configuration of a cluster."""
        lines = facts.get("lines") or {}
        folders = (cluster.config, f"{cluster.etc}/conf.d/", f"{DATA}/{cluster}/")
        told = [text for place in folders for path in sorted(lines) if path.startswith(place) for text in lines[path]]
        told = [text for text in told if text.isdigit()]
        return int(told[-1]) if told else self.plan.storage.default_port
