# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module schema asks of MariaDB: its half of schema_probe.

It runs in Dagster's virtual environment and is imported there alone, so the driver is imported late. A statement that
makes or grants something commits by itself here, so what could not be made to its end is gone on with the next time.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

UTC = ("+00:00", "UTC", "Etc/UTC", "GMT")
SMALLEST_PACKET = 16 * 2**20
# What Dagster's migrations do.
OWNED = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER")
# What Dagster writes into these has no limit. It makes them TEXT or BLOB, which end at 64 KiB here: a job with many
# assets, a run with a large config or a tick with many runs would be refused. Larger tables than this stay as they are,
# because the server writes a table anew for it.
NARROW = (
    "asset_evaluation_body",
    "body",
    "instigator_body",
    "job_body",
    "run_body",
    "snapshot_body",
    "tick_body",
    "value",
)
FEW_ROWS = 1000
# What says which rights there are. Nothing in them is a secret.
RIGHTS_IN = ("db", "tables_priv", "columns_priv", "roles_mapping")


class Session:
    """The connection of one login to the database."""

    def __init__(self, host: str, port: int, database: str, user: str, password: str, **parameters: Any) -> None:
        """parameters are more of the driver's own. Raises ConnectionError with the reason."""
        import mysql.connector

        self.user, self.database = user, database
        self.failure: type[Exception] = mysql.connector.Error
        where = {"host": host, "port": int(port), "database": database, "user": user, "password": password}
        self.connect = functools.partial(mysql.connector.connect, **{"connection_timeout": 10, **parameters, **where})
        try:
            self.connection = self.connect()
        except mysql.connector.Error as error:
            raise ConnectionError(" ".join(str(error).split())) from error
        self.connection.autocommit = True  # each question sees what others have done by now
        self.cursor = self.connection.cursor()

    def rows(self, query: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query answers."""
        self.cursor.execute(query, arguments)
        found: list[tuple[Any, ...]] = self.cursor.fetchall() if self.cursor.with_rows else []
        return found

    def server_problems(self) -> list[str]:
        """Sentences about a server or database that is not as Dagster needs it."""
        known = {str(name).lower(): str(value) for name, value in self.rows("SHOW VARIABLES")}
        zone = known["system_time_zone"] if known["time_zone"] == "SYSTEM" else known["time_zone"]
        isolation = known.get("transaction_isolation") or known.get("tx_isolation", "")
        packet = int(known["max_allowed_packet"])
        problems = []
        if zone not in UTC:
            problems.append(f"the time zone of the server is {zone}; Dagster needs UTC (default_time_zone = '+00:00')")
        if isolation not in ("REPEATABLE-READ", "READ-COMMITTED"):
            problems.append(
                f"transactions are {isolation}; REPEATABLE-READ is needed, which Dagster sets for itself, or "
                "READ-COMMITTED, because plays and guard have what the server gives (transaction_isolation)"
            )
        if packet < SMALLEST_PACKET:
            problems.append(
                f"max_allowed_packet is {packet} bytes; {SMALLEST_PACKET} is needed, because an event of a run is one "
                "packet"
            )
        if "NO_BACKSLASH_ESCAPES" in known["sql_mode"]:
            problems.append("sql_mode has NO_BACKSLASH_ESCAPES, with which the driver of Dagster writes wrong text")
        if known.get("innodb_snapshot_isolation") == "ON":
            problems.append(
                "innodb_snapshot_isolation is ON, the default since MariaDB 11.6, with which a write fails when "
                "somebody has changed its row since the transaction began; Dagster does not write again. Set it to OFF"
            )
        if known.get("read_only", "OFF") not in ("OFF", "0"):
            problems.append("the server is read-only (read_only), as a replica is; name the primary")
        return problems + self.charset_problems() + self.pooler_problems()

    def charset_problems(self) -> list[str]:
        """Sentences about the character set, and before there are tables, about how texts are compared."""
        ((charset, collation),) = self.rows(
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA"
            " WHERE SCHEMA_NAME = DATABASE()"
        )
        if charset != "utf8mb4":
            return [f"the character set of the database is {charset}; utf8mb4 is needed"]
        if re.search(r"_(bin|cs)$|_cs_", str(collation)) or self.revisions():
            return []
        return [
            f"the collation of the database is {collation}, for which A and a are one, so assets, partitions and tags "
            f"that differ in that alone would be mixed up; ALTER DATABASE `{self.database}` COLLATE utf8mb4_bin before "
            "the first migration"
        ]

    def pooler_problems(self) -> list[str]:
        """A sentence when a proxy gives each statement another session, so that no setting or lock would hold."""
        query = "SELECT CONNECTION_ID()"
        before = self.rows(query)
        try:
            other = self.connect()
        except self.failure as error:
            return [f"user {self.user} cannot connect a second time: {' '.join(str(error).split())}"]
        try:
            cursor = other.cursor()
            cursor.execute(query)
            found = cursor.fetchall()
            after = self.rows(query)
        finally:
            other.close()
        if before == after != found:
            return []
        return [
            "a proxy in front of the server gives each statement another session (ProxySQL: multiplexing); switch that "
            "off for these logins, or name the server itself"
        ]

    def owner_problems(self) -> list[str]:
        """Sentences about what the login of the migration may not do."""
        lacking = [name for name in OWNED if name not in self.granted()]
        problems = []
        if lacking:
            problems.append(
                f"user {self.user} may not {', '.join(lacking)} in database {self.database}; GRANT ALL PRIVILEGES ON "
                f"`{self.database}`.* TO its account or role, WITH GRANT OPTION"
            )
        return problems + self.unread_problems()

    def granted(self) -> set[str]:
        """What a login may do with each table of the database. SHOW GRANTS has its roles as well."""
        found: set[str] = set()
        for (line,) in self.rows("SHOW GRANTS"):
            match = re.match(r"GRANT (.+?) ON (\*|`(?:[^`]|``)+`|\S+?)\.\* TO ", str(line))
            if match and self.is_here(match[2].strip("`")):
                names = {name.strip() for name in match[1].split(",")}
                found |= set(OWNED) if names & {"ALL PRIVILEGES", "ALL"} else names
        return found

    def is_here(self, pattern: str) -> bool:
        """Whether a grant on databases is on this one. There, _ and % stand for other letters, without a backslash."""
        parts = re.findall(r"\\.|.", pattern)
        words = [{"_": ".", "%": ".*"}.get(part, re.escape(part.removeprefix("\\") or "\\")) for part in parts]
        return pattern == "*" or re.fullmatch("".join(words), self.database) is not None

    def unread_problems(self) -> list[str]:
        """A sentence when it cannot be seen which rights the logins have, so none could be granted."""
        unread = [f"mysql.{table}" for table in RIGHTS_IN if not self.reads(f"mysql.{table}")]
        if not unread:
            return []
        return [
            f"user {self.user} may not read {', '.join(unread)}, which say what each login may do; GRANT SELECT ON each"
        ]

    def reads(self, table: str) -> bool:
        """Whether a table is there and may be read."""
        try:
            self.rows(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 - names of ours, and of Dagster's tables
        except self.failure:
            return False
        return True

    def user_problems(self) -> list[str]:
        """Sentences about what any other login may not do, once there are tables."""
        tables = [str(name) for (name,) in self.rows("SHOW TABLES")]
        lacking = [name for name in sorted({*tables, "alembic_version"}) if not self.reads(f"`{name}`")]
        return [f"user {self.user} may not read {', '.join(lacking[:5])}"] if lacking else []

    def revisions(self) -> list[str]:
        """The revisions of the schema, none before the first migration."""
        if not self.rows("SHOW TABLES LIKE 'alembic_version'"):
            return []
        return sorted(str(revision) for (revision,) in self.rows("SELECT version_num FROM alembic_version"))

    def columns(self) -> list[tuple[str, str]]:
        """Table and name of each column."""
        found = self.rows(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
        )
        return [(str(table), str(column)) for table, column in found]

    def indexes(self) -> list[str]:
        """The names of the indexes."""
        found = self.rows(
            "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE()"
        )
        return [str(name) for (name,) in found]

    def shape(self, apply: bool) -> tuple[int, list[str]]:
        """How many columns are too narrow for what Dagster writes, and why none could be widened; apply does it."""
        found = self.rows(
            "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, IS_NULLABLE FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = DATABASE() AND DATA_TYPE IN ('text', 'blob') AND TABLE_NAME <> 'run_tags'"
            " AND FIND_IN_SET(COLUMN_NAME, %s)",
            (",".join(NARROW),),
        )
        statements = [
            (f"ALTER TABLE `{table}` MODIFY `{column}` LONG{kind} {'NULL' if null == 'YES' else 'NOT NULL'}",)
            for table, column, kind, null in found
            if len(self.rows(f"SELECT 1 FROM `{table}` LIMIT {FEW_ROWS + 1}")) <= FEW_ROWS  # noqa: S608
        ]
        return self.make("wider columns for what Dagster writes", statements, apply)

    def lease(self, install: str, sql: str, caller: str, apply: bool) -> tuple[int, list[str]]:
        """How many statements the daemon's lease lacked, and why it could not be made; apply executes them.

        It belongs to the login that makes it. That one may shut nobody out, so no login is fenced. The role of the
        caller may execute it, because the login may have an account for each host.
        """
        missing = self.roleless([caller])
        if missing:
            return 0, missing
        return self.make("the daemon's lease", self.rows(install, (sql, "", caller, None)), apply)

    def fence(self, query: str, logins: str, unit: str, command: str, apply: bool) -> tuple[int, list[str]]:
        """The same for the fence in Dagster's tables; without logins none is wanted."""
        return self.make("the fence of the daemon", self.rows(query, (logins or None, unit, command)), apply)

    def rights(self, query: str, logins: dict[str, str], app: str, apply: bool) -> tuple[int, list[str]]:
        """The same for what each login may do in Dagster's tables; app is a group of our own server with all."""
        missing = self.roleless(logins.values())
        if missing:
            return 0, missing
        return self.make("the rights of the logins", self.rows(query, (json.dumps(logins), app or None)), apply)

    def roleless(self, logins: Iterable[str]) -> list[str]:
        """Sentences about logins without a role of their name."""
        roles = {str(role) for (role,) in self.rows("SELECT Role FROM mysql.roles_mapping")}
        missing = sorted({login for login in logins if login not in roles})
        return [f"there is no role {name} that a login has, to which its rights could be granted" for name in missing]

    def make(self, what: str, missing: list[tuple[Any, ...]], apply: bool) -> tuple[int, list[str]]:
        """How many statements are missing, and why one of them could not be executed."""
        try:
            for (statement,) in missing if apply else []:
                self.rows(str(statement))
        except self.failure as error:
            return len(missing), [f"{what} cannot be made by {self.user}: {' '.join(str(error).split())}"]
        return len(missing), []

    def close(self) -> None:
        """Ends it."""
        self.connection.close()
