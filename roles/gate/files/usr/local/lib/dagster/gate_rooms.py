# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many connections the Docker gate has at a time, so that none who asks can shut out another."""

from __future__ import annotations

import threading
from collections import Counter

CLIENTS = 48  # of one role or location
GREETED = 16  # over TLS of one host, while it is not known who asks
OF_HOST = CLIENTS // 2  # over TLS of one host in one role


class Rooms:
    """Each room has a name, and a limit. A connection may be in several of them."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._limits = dict(limits)
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._limits

    def any(self, prefix: str) -> bool:
        """Whether there is a room whose name begins so."""
        return any(name.startswith(prefix) for name in list(self._limits))

    def add(self, name: str, limit: int) -> None:
        """Makes a room."""
        self._limits[name] = limit

    def remove(self, name: str) -> None:
        """Takes a room away."""
        self._limits.pop(name, None)

    def enter(self, rooms: dict[str, int | None]) -> str:
        """Enters rooms, those of no own limit with that of their name. Returns what is full; then it is in none."""
        with self._lock:
            for name, limit in rooms.items():
                most = self._limits[name] if limit is None else limit
                if self._taken[name] >= most:
                    return f"{most} of {name}"
            self._taken.update(list(rooms))
            return ""

    def leave(self, names: list[str]) -> None:
        """Leaves rooms."""
        with self._lock:
            self._taken.subtract(names)
            self._taken += Counter()  # without those in which nobody is
