# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lease in PostgreSQL: how the guard connects to it and asks the functions of guard.sql."""

from __future__ import annotations

import select
from typing import Any

import psycopg2
import psycopg2.extensions

from database import Database, now

Error = psycopg2.Error


def environment_of(login: str) -> dict[str, str]:
    """The variables with which Dagster connects as this login."""
    return {"DAGSTER_POSTGRES_USER": login}


class Lease(Database):
    """The connection of a guard. libpq finds the password in the file that PGPASSFILE names."""

    failure = psycopg2.Error

    def __init__(self, where: dict[str, Any], user: str, attempt: float) -> None:
        super().__init__(where, user, attempt)
        psycopg2.extensions.set_wait_callback(self._wait)

    def _wait(self, connection: Any) -> None:
        """psycopg2 waits here instead of in libpq, so that the time is ours."""
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            left = self.until - now()
            if left <= 0:
                raise psycopg2.OperationalError("no answer in time")
            descriptors = [connection.fileno()]
            if state == psycopg2.extensions.POLL_READ:
                select.select(descriptors, [], [], left)
            else:
                select.select([], descriptors, [], left)

    def _connect(self) -> Any:
        host, limit = self.where["host"], int(1000 * self.attempt)
        where: dict[str, Any] = {"host": host, "port": self.where["port"], "dbname": self.where["name"]}
        if not str(host).startswith("/"):
            where["hostaddr"] = self._resolve(host, max(0.1, (self.until - now()) / 2))
        more = dict(self.where.get("parameters") or {})
        given = more.pop("options", "")
        connection = psycopg2.connect(
            **{**more, **where},
            user=self.user,
            application_name="dagster-guard",
            options=f"{given} -c statement_timeout={limit} -c lock_timeout={limit}".lstrip(),
        )
        connection.autocommit = True
        return connection

    def _ask(self, function: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            # The function's name is one of ours, the arguments travel apart from it.
            places = ", ".join(["%s"] * len(arguments))
            cursor.execute(f"SELECT * FROM dagster_guard.{function}({places})", arguments)  # noqa: S608
            answer: tuple[Any, ...] = cursor.fetchone()
            return answer
