# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Building an object must not act: no connection, no new folder, no file written, no process started."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


class Blocked(BaseException):
    """The object under construction wanted to act on the world.

    Everything before that point was fine, which is all that can be known here. Not an Exception: libraries catch and
    retry those.
    """


class Guard:
    """While it is on, whatever connects, creates, writes or starts a process raises Blocked."""

    EVENTS = frozenset(
        [
            "socket.connect",
            "socket.bind",
            "socket.sendto",
            "socket.sendmsg",
            "socket.getaddrinfo",
            "socket.gethostbyname",
            "socket.gethostbyaddr",
            "os.mkdir",
            "os.rename",
            "os.remove",
            "os.rmdir",
            "os.symlink",
            "os.link",
            "os.chmod",
            "os.chown",
            "os.truncate",
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "os.fork",
            "os.forkpty",
            "os.kill",
            "sqlite3.connect",
        ]
    )
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def __init__(self) -> None:
        self.on = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and (event in self.EVENTS or (event == "open" and self._writes(args))):
            raise Blocked(event)

    def _writes(self, args: tuple[Any, ...]) -> bool:
        path, mode, flags = (*args, None, None, None)[:3]
        if path == os.devnull:
            return False
        if isinstance(mode, str):
            return any(letter in mode for letter in "wax+")
        return isinstance(flags, int) and bool(flags & self.WRITING)

    def block_databases(self) -> None:
        """Database drivers connect in C, where Python's audit events do not see it."""
        try:
            dialect = importlib.import_module("sqlalchemy.engine.default").DefaultDialect
        except Exception:  # no SQLAlchemy, nothing to block
            return
        original = dialect.connect

        def connect(dialect_self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.on:
                raise Blocked("database connection")
            return original(dialect_self, *args, **kwargs)

        dialect.connect = connect

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        self.on = True
        try:
            return function(*args)
        finally:
            self.on = False
