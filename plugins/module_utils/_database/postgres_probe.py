# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module schema asks of PostgreSQL: its half of schema_probe.

It runs in Dagster's virtual environment and is imported there alone, so the driver is imported late.
"""

from __future__ import annotations

from typing import Any


class Session:
    """The connection of one login to the database."""

    def __init__(self, host: str, port: int, database: str, user: str, password: str) -> None:
        """Raises ConnectionError with the reason."""
        import psycopg2

        self.user = user
        self.failure: type[Exception] = psycopg2.Error
        try:
            self.connection = psycopg2.connect(
                host=host, port=port, dbname=database, user=user, password=password, connect_timeout=10
            )
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
        ((zone, number, encoding),) = self.rows(
            "SELECT current_setting('TimeZone'), current_setting('server_version_num')::int,"
            " pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        )
        problems = []
        if zone not in ("UTC", "Etc/UTC", "GMT"):
            problems.append(f"the time zone of the server is {zone}; Dagster needs UTC")
        if number < 110000:
            problems.append(f"the server is PostgreSQL {number // 10000}; 11 or newer is needed")
        if encoding != "UTF8":
            problems.append(f"the encoding of the database is {encoding}; UTF8 is needed")
        return problems

    def owner_problems(self) -> list[str]:
        """Sentences about what the login of the migration may not do."""
        if self.rows("SELECT has_schema_privilege('public', 'CREATE')")[0][0]:
            return []
        return [f"user {self.user} may not create tables in schema public"]

    def user_problems(self) -> list[str]:
        """Sentences about what any other login may not do, once there are tables."""
        lacking = self.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            " AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT'))"
        )
        if not lacking:
            return []
        return [f"user {self.user} may not read and write {', '.join(name for (name,) in lacking[:5])}"]

    def revisions(self) -> list[str]:
        """The revisions of the schema, none before the first migration."""
        if not self.rows("SELECT to_regclass('public.alembic_version') IS NOT NULL")[0][0]:
            return []
        return sorted(str(revision) for (revision,) in self.rows("SELECT version_num FROM alembic_version"))

    def columns(self) -> list[tuple[str, str]]:
        """Table and name of each column."""
        found = self.rows(
            "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped"
        )
        return [(str(table), str(column)) for table, column in found]

    def indexes(self) -> list[str]:
        """The names of the indexes."""
        return [str(name) for (name,) in self.rows("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")]

    def lease(self, install: str, sql: str, caller: str, apply: bool) -> tuple[int, list[str]]:
        """How many statements the daemon's lease lacked, and why it could not be made; apply executes them.

        It belongs to the role that makes it. That one may shut nobody out, so no login is fenced.
        """
        owner = self.rows("SELECT current_user::text")[0][0]
        return self.make("the daemon's lease", self.rows(install, (sql, owner, caller, None)), apply)

    def fence(self, query: str, logins: str, unit: str, command: str, apply: bool) -> tuple[int, list[str]]:
        """The same for the fence in Dagster's tables; without logins none is wanted."""
        return self.make("the fence of the daemon", self.rows(query, (logins or None, unit, command)), apply)

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
