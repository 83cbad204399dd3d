# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module schema asks of PostgreSQL: its half of schema_probe.

It runs in Dagster's virtual environment and is imported there alone, so the driver is imported late.
"""

from __future__ import annotations

import functools
import json
from typing import Any


class Session:
    """The connection of one login to the database."""

    def __init__(self, host: str, port: int, database: str, user: str, password: str, **parameters: str) -> None:
        """parameters are more of libpq's own. Raises ConnectionError with the reason."""
        import psycopg2

        self.user = user
        self.failure: type[Exception] = psycopg2.Error
        where = {"host": host, "port": port, "dbname": database, "user": user, "password": password}
        self.connect = functools.partial(psycopg2.connect, **{"connect_timeout": 10, **parameters, **where})
        try:
            self.connection = self.connect()
        except psycopg2.OperationalError as error:
            raise ConnectionError(" ".join(str(error).split())) from error
        self.cursor = self.connection.cursor()

    def rows(self, query: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a query answers."""
        self.cursor.execute(query, arguments or None)
        found: list[tuple[Any, ...]] = self.cursor.fetchall()
        return found

    def server_problems(self) -> list[str]:
        """Sentences about a server or database that is not as Dagster needs it."""
        ((zone, number, encoding, standby, read_only),) = self.rows(
            "SELECT current_setting('TimeZone'), current_setting('server_version_num')::int,"
            " pg_encoding_to_char(encoding), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
            " FROM pg_database WHERE datname = current_database()"
        )
        problems = []
        if zone not in ("UTC", "Etc/UTC", "GMT"):
            problems.append(f"the time zone of the server is {zone}; Dagster needs UTC")
        if number < 110000:
            problems.append(f"the server is PostgreSQL {number // 10000}; 11 or newer is needed")
        if encoding != "UTF8":
            problems.append(f"the encoding of the database is {encoding}; UTF8 is needed")
        if standby:
            problems.append("the server is a standby, which refuses every write; name the primary")
        elif read_only:
            problems.append("transactions are read-only (default_transaction_read_only is on); Dagster writes")
        return problems + self.schema_problems() + self.pooler_problems()

    def schema_problems(self) -> list[str]:
        """A sentence when the search path leads to no schema, so nobody could make a table."""
        ((schema, path),) = self.rows("SELECT current_schema()::text, current_setting('search_path')")
        return [] if schema else [f"the search_path of user {self.user} is {path}, and no such schema is there"]

    def pooler_problems(self) -> list[str]:
        """A sentence when a pooler gives each transaction another session, so that no setting or lock would hold.

        While another client has a transaction, one that had none gets back what it had: that only its own session is.
        """
        query = "SELECT pg_backend_pid()"
        before = self.rows(query)
        self.connection.rollback()
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
            "a pooler in front of the server gives each transaction another session (PgBouncer: pool_mode transaction)"
            "; set pool_mode = session for this database, or name the server itself"
        ]

    def owner_problems(self) -> list[str]:
        """Sentences about what the login of the migration may not do."""
        ((schema, may),) = self.rows("SELECT current_schema()::text, has_schema_privilege(current_schema(), 'CREATE')")
        return [] if may or not schema else [f"user {self.user} may not create tables in schema {schema}"]

    def user_problems(self) -> list[str]:
        """Sentences about what any other login may not do, once there are tables."""
        ((seen, schema),) = self.rows("SELECT to_regclass('alembic_version') IS NOT NULL, current_schema()::text")
        if not seen:
            return [
                f"user {self.user} does not find Dagster's tables, because its search_path leads to schema {schema}; "
                "give all logins the same (ALTER ROLE ... SET search_path)"
            ]
        lacking = self.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace"
            " AND relkind = 'r' AND NOT has_table_privilege(oid, 'SELECT')"
        )
        if not lacking:
            return []
        return [f"user {self.user} may not read {', '.join(name for (name,) in lacking[:5])}"]

    def revisions(self) -> list[str]:
        """The revisions of the schema, none before the first migration."""
        if not self.rows("SELECT to_regclass(quote_ident(current_schema()) || '.alembic_version') IS NOT NULL")[0][0]:
            return []
        return sorted(str(revision) for (revision,) in self.rows("SELECT version_num FROM alembic_version"))

    def columns(self) -> list[tuple[str, str]]:
        """Table and name of each column."""
        found = self.rows(
            "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p')"
            " AND attnum > 0 AND NOT attisdropped"
        )
        return [(str(table), str(column)) for table, column in found]

    def indexes(self) -> list[str]:
        """The names of the indexes."""
        return [
            str(name) for (name,) in self.rows("SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()")
        ]

    def shape(self, apply: bool) -> tuple[int, list[str]]:  # noqa: ARG002 - there is nothing to apply
        """Dagster's own tables hold what it writes."""
        return 0, []

    def lease(self, install: str, sql: str, caller: str, apply: bool) -> tuple[int, list[str]]:
        """How many statements the daemon's lease lacked, and why it could not be made; apply executes them.

        It belongs to the role that makes it. That one may shut nobody out, so no login is fenced.
        """
        ((owner, schema),) = self.rows("SELECT current_user::text, quote_ident(current_schema())")
        sql = sql.replace("public.daemon_heartbeats", f"{schema}.daemon_heartbeats")
        return self.make("the daemon's lease", self.rows(install, (sql, owner, caller, None)), apply)

    def fence(self, query: str, logins: str, unit: str, command: str, apply: bool) -> tuple[int, list[str]]:
        """The same for the fence in Dagster's tables; without logins none is wanted."""
        return self.make("the fence of the daemon", self.rows(query, (logins or None, unit, command)), apply)

    def rights(self, query: str, logins: dict[str, str], app: str, apply: bool) -> tuple[int, list[str]]:
        """The same for what each login may do in Dagster's tables; app is the group that loses what all once had."""
        known = json.dumps(logins)
        return self.make("the rights of the logins", self.rows(query, (known, app or None)), apply)

    def make(self, what: str, missing: list[tuple[Any, ...]], apply: bool) -> tuple[int, list[str]]:
        """How many statements are missing, and why they could not be executed; all of them or none."""
        try:
            for (statement,) in missing if apply else []:
                self.cursor.execute(statement)
            self.connection.commit()
        except self.failure as error:
            self.connection.rollback()
            owner = self.rows("SELECT current_user::text")[0][0]
            return len(missing), [f"{what} cannot be made by role {owner}: {' '.join(str(error).split())}"]
        return len(missing), []

    def close(self) -> None:
        """Ends it."""
        self.connection.close()
