# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One connection to the database, on which no call outlasts its limit. How it connects and asks says lease.py."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import Any


def now() -> float:
    """Seconds of this host's clock that no one sets and that goes on in suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Database:
    """One connection to the database, on which no call outlasts its limit."""

    failure: type[Exception] = Exception  # what its driver raises

    def __init__(self, where: dict[str, Any], user: str, attempt: float) -> None:
        self.where = where  # host, port and name of the database
        self.user = user
        self.attempt = attempt  # seconds that one call may take, on the server too
        self.connection: Any = None
        self.until = 0.0
        self.address = ""

    def _connect(self) -> Any:
        """A new connection, made until self.until; each call on it is a transaction of its own."""
        raise NotImplementedError

    def _ask(self, function: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The row that a function of the lease answers with, until self.until."""
        raise NotImplementedError

    def _resolve(self, host: str, limit: float) -> str:
        """The address of a host. Asked in a process of its own: a resolver that hangs must not hang the guard."""
        with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
            argv = ["getent", "ahosts", host]
            found = subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=True)
            self.address = found.stdout.split()[0]
        if not self.address:
            raise self.failure(f"the name {host} cannot be resolved")
        return self.address

    def call(self, function: str, *arguments: Any, limit: float) -> tuple[Any, ...]:
        """The row that a function of the lease answers with. Raises the failure of the driver."""
        self.until = now() + limit
        try:
            if self.connection is None:
                self.connection = self._connect()
            return self._ask(function, arguments)
        except self.failure:
            self.close()
            raise

    def close(self) -> None:
        """Drops the connection; the next call makes a new one."""
        if self.connection is not None:
            with contextlib.suppress(self.failure):
                self.connection.close()
        self.connection = None
