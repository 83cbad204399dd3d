# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the Docker gate reads: its configuration, what runs may have, and its certificates."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gate_policy
from gate_container import MIB, Refused, Rules

# What a file that cannot be used raises; an error of TLS is an OSError.
UNUSABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
TLS = ("ca", "cert", "key")


class Settings:
    """The configuration, and the files whose changes count without a restart."""

    def __init__(self, path: str) -> None:
        with open(path, encoding="utf-8") as stream:
            self.given: dict[str, Any] = json.load(stream)
        self._seen: dict[str, tuple[Any, Any]] = {}
        self._lock = threading.Lock()
        self.say: Callable[[int, str], None] = lambda _level, _text: None

    def user(self, uid: int) -> str:
        """The name of a user who may ask, made after the gate on a new host; nothing for anybody else."""
        with contextlib.suppress(KeyError):
            name = pwd.getpwuid(uid).pw_name
            return name if name in self.given["users"] else ""
        return ""

    def _current(self, key: str, paths: list[str], read: Callable[[], Any], none: Any) -> Any:
        """What was read of files, read again once one of them is another.

        Of files that cannot be used it stays what it was, and none at the start. A play may be between two of them.
        """
        with self._lock:
            state, found = self._seen.get(key, (None, none))
            now = [_state(path) for path in paths]
            if now != state:
                try:
                    found = read()
                except UNUSABLE as error:
                    kept = "goes on with what they were" if state else "has nothing in their place"
                    self.say(3, f"cannot use {' and '.join(paths)}, {kept}: {error!r}")
                self._seen[key] = (now, found)
            return found

    def rules(self) -> Rules:
        """What the plan says of runs; of a file that is not there yet, nothing."""
        nothing = Rules(label=self.given["label"])
        if not os.path.exists(self.given["runs"]):
            return nothing
        found: Rules = self._current("rules", [self.given["runs"]], self._rules, nothing)
        return found

    def problems(self) -> Iterator[str]:
        """Sentences about files that a gate would not take."""
        files = self.given["listen"]
        for read, paths in ((self._rules, [self.given["runs"]]), (self._tls, [files.get(key) for key in TLS])):
            if any(path and os.path.exists(path) for path in paths):
                try:
                    read()
                except UNUSABLE as error:
                    yield f"the gate cannot use {' and '.join(paths)}: {error!r}"

    def _rules(self) -> Rules:
        with open(self.given["runs"], encoding="utf-8") as stream:
            found = json.load(stream)
        locations = (*found["locations"], *found["before"])
        for location in locations:
            if not all(isinstance(location[key], list) for key in ("images", "networks", "binds")):
                raise ValueError(f"the location {location['name']} has no lists")
        host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Rules(
            label=self.given["label"],
            memory=self.given["memory_mb"] * MIB or host * 3 // 4,
            most_memory=host,
            pids=self.given["pids"],
            locations=locations,
        )

    def tls(self) -> ssl.SSLContext | None:
        """Mutual TLS with the certificates as they are now; None without any that can be used."""
        paths = [self.given["listen"][key] for key in TLS]
        found: ssl.SSLContext | None = self._current("tls", paths, self._tls, None)
        return found

    def _tls(self) -> ssl.SSLContext:
        files = self.given["listen"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files["ca"])
        context.load_cert_chain(files["cert"], files["key"])
        return context

    def role_of(self, certificate: dict[str, Any] | None, encoded: bytes | None) -> str:
        """The role of a client on another host. Raises Refused for a certificate of none."""
        if self.given["certificates"]:  # the site's authority may sign any name, so only these count
            role = str(self.given["certificates"].get(hashlib.sha256(encoded or b"").hexdigest()))
            if role not in gate_policy.ROLES:
                raise Refused("a certificate that is not the one of the services")
            return role
        names = [name for kind, name in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
        roles = [role for role in gate_policy.ROLES if self.given["names"].get(role) in names]
        if len(roles) != 1:
            raise Refused("a certificate that is for no role of the gate")
        return roles[0]


def _state(path: str) -> tuple[int, int, int] | None:
    """By what another file at a path is known; None when there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None
