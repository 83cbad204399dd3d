# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lease in MariaDB: how the guard connects to it and calls the procedures of guard.sql."""

from __future__ import annotations

import contextlib
import os
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from mysql.connector import errors
from mysql.connector.connection import MySQLConnection
from mysql.connector.network import MySQLTCPSocket

from database import Database, now

Error = errors.Error
LATE = "no answer in time"
URL = "DAGSTER_MYSQL_URL"  # of Dagster: it names the file of the passwords, and the part of a login there


def environment_of(login: str) -> dict[str, str]:
    """The variables with which Dagster connects as this login."""
    parts = urlsplit(os.environ.get(URL, ""))
    query = {**{name: values[-1] for name, values in parse_qs(parts.query).items()}, "option_groups": login}
    return {URL: urlunsplit(parts._replace(query=urlencode(query, safe="/")))}


def passwords() -> list[str]:
    """The option files that have the passwords, each login's in the part of its name."""
    return parse_qs(urlsplit(os.environ.get(URL, "")).query).get("option_files", [])


class Channel(MySQLTCPSocket):
    """The way to the server, on which no wait outlasts the call. The driver's own limits are whole seconds."""

    def __init__(self, address: str, port: int, call: Database) -> None:
        super().__init__(address, port)
        self.call = call

    def _limit(self) -> None:
        left = self.call.until - now()
        if left <= 0:
            raise errors.OperationalError(LATE)
        with contextlib.suppress(OSError):  # it is closed already, which the call itself will say
            self.set_connection_timeout(left)

    def open_connection(self) -> None:
        self._limit()
        super().open_connection()

    def switch_to_ssl(self, *arguments: Any, **options: Any) -> None:
        self._limit()
        super().switch_to_ssl(*arguments, **options)

    def send(self, *arguments: Any, **options: Any) -> None:
        self._limit()
        super().send(*arguments, **options)

    def recv(self, *arguments: Any, **options: Any) -> bytearray:
        self._limit()
        return super().recv(*arguments, **options)


class Connection(MySQLConnection):
    """The driver in Python, because nothing ends a wait of the one in C. Verifies the name, connects to the address."""

    def __init__(self, call: Database, address: str, **options: Any) -> None:
        self.call, self.address = call, address
        super().__init__(**options)

    def _get_connection(self) -> MySQLTCPSocket:
        return Channel(self.address, self.server_port, self.call)


class Lease(Database):
    """The connection of a guard. The driver finds the password in the option file that the URL of Dagster names."""

    failure = errors.Error

    def _connect(self) -> Any:
        host = self.where["host"]
        limit = max(1, int(self.attempt))
        return Connection(
            self,
            self._resolve(host, max(0.1, (self.until - now()) / 2)),
            **(self.where.get("parameters") or {}),
            host=host,
            port=self.where["port"],
            database=self.where["name"],
            user=self.user,
            option_files=passwords(),
            option_groups=[self.user],
            autocommit=True,
            allow_local_infile=False,  # a server may ask its client for any file
            # The server ends the session of a guard that is gone or frozen. One that lives asks more often.
            init_command=f"SET SESSION lock_wait_timeout = {limit}, innodb_lock_wait_timeout = {limit},"
            f" wait_timeout = {4 * limit}",
        )

    def _ask(self, function: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        cursor = self.connection.cursor()
        # The procedure's name is one of ours, the driver quotes the arguments.
        cursor.execute(f"CALL dagster_guard_{function}({', '.join(['%s'] * len(arguments))})", arguments)
        answer: tuple[Any, ...] = cursor.fetchall()[0]
        while cursor.nextset():
            pass
        cursor.close()
        return answer

    def call(self, function: str, *arguments: Any, limit: float) -> tuple[Any, ...]:
        """The same for MariaDB. A take has a new session, so that the number of an earlier one is nobody's any more."""
        if function == "take":
            self.close()
        try:
            return super().call(function, *arguments, limit=limit)
        except (errors.ConnectionTimeoutError, errors.ReadTimeoutError, errors.WriteTimeoutError) as error:
            raise errors.OperationalError(LATE) from error
        except errors.Error:
            raise
        except Exception as error:  # of the driver's, about a file or an answer that it cannot read
            self.close()
            raise errors.InterfaceError(f"{type(error).__name__}: {error}") from error
