# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Folders, files and links as a list says: each is compared, and made so where it differs."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._host import access
from ansible_collections.dataops.dagster.plugins.module_utils._host.here import HERE, Here
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import Kept, is_version, next_of

# The options of a module that writes files.
ARGUMENTS: dict[str, Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "dest": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
            "content": {"type": "str"},
            "template": {"type": "path"},
            "vars": {"type": "dict"},
            "secret": {"type": "bool", "default": False, "no_log": False},
            "purge": {"type": "bool", "default": False},
            "stage": {"type": "bool", "default": False},
            "src": {"type": "path"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "str"},
            "writers": {"type": "list", "elements": "int", "default": []},
        },
        "required_if": [["state", "link", ["src"]]],
    },
    "secrets": {"type": "dict", "default": {}, "no_log": True},
}


class Refused(Exception):
    """A path cannot be made as wanted; the text says why."""


class Entry:
    """One path of the list, with what is there now."""

    def __init__(
        self,
        check_mode: bool,
        spec: dict[str, Any],
        secrets: dict[str, str],
        kept: Kept | None = None,
        host: Here = HERE,
    ) -> None:
        self.check_mode = check_mode
        self.kept = kept
        self.host = host
        self.dest: str = spec["dest"]
        self.state: str = spec["state"]
        self.secret = bool(spec["secret"])
        self.text: str | None = secrets.get(self.dest) if self.secret else spec["content"]
        self.src: str = spec["src"] or ""
        try:
            self.mode = int(spec["mode"], 8) if spec["mode"] else None
        except ValueError as error:
            raise Refused(f"{self.dest}: mode is {spec['mode']!r}; octal text is expected, such as '0644'") from error
        self.writers: list[int] = spec.get("writers") or []
        self.names = {"user": spec["owner"], "group": spec["group"]}
        self.current = host.state(self.dest)
        # What is not there yet has no reader, so it is written at once.
        self.stage = bool(spec["stage"]) and self.current is not None

    def reconcile(self) -> dict[str, str] | None:
        """Makes the path as wanted; the difference, or None when it was so already."""
        action = {"absent": self.remove, "link": self.link, "directory": self.directory, "file": self.file}[self.state]
        return action()

    def remove(self) -> dict[str, str] | None:
        if self.current is None:
            return None
        if not self.check_mode:
            if self.kept is not None:
                self.kept.remove(self.dest)
            elif stat.S_ISDIR(self.current.st_mode):
                shutil.rmtree(self.dest)
            else:
                os.unlink(self.dest)
        return self.difference("present\n", "absent\n")

    def place(self, made: str) -> None:
        """Puts what was made beside the destination in its place, or stages it."""
        if self.stage:
            os.replace(made, next_of(self.dest))
            return
        if self.kept is not None:
            self.kept.keep(self.dest)
        os.replace(made, self.dest)
        self.unstage()

    def unstage(self) -> None:
        """The destination is as wanted, so nothing else shall take its place."""
        if not self.check_mode and os.path.lexists(next_of(self.dest)):
            os.unlink(next_of(self.dest))

    def link(self) -> dict[str, str] | None:
        before = self.host.target(self.dest)
        if before == self.src:
            self.unstage()
            return None
        if self.stage and self.host.target(next_of(self.dest)) == self.src:
            return None
        if self.current is not None and not before:
            raise Refused(f"{self.dest} is not a symbolic link; move it away, a link to {self.src} belongs there")
        if not self.check_mode:
            beside = f"{self.dest}.new"
            if os.path.lexists(beside):
                os.unlink(beside)
            os.symlink(self.src, beside)
            self.place(beside)
        return self.difference(f"{before}\n" if before else "", f"{self.src}\n")

    def directory(self) -> dict[str, str] | None:
        if self.current is not None:
            # Where a site has put a folder onto another disk, a link is in its place: owner and mode are the folder's.
            self.current = self.host.folder(self.dest)
            if self.current is None:
                raise Refused(f"{self.dest} is not a folder; move it away, a folder belongs there")
        before = self.attributes()
        if self.current is None and not self.check_mode:
            os.makedirs(self.dest, 0o755)
        found = self.own(self.dest, before, 0o755)
        return self.share() or found if self.writers else found

    def share(self) -> dict[str, str] | None:
        """Lets the writers write into a folder, and into what is made in it; the difference or None."""
        if self.host.folder(self.dest) is None:  # check mode
            return None
        lists = self.host.lacking(self.dest, self.writers)
        if not lists:
            return None
        if not self.check_mode:
            try:
                access.write(self.dest, lists)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                raise Refused(
                    f"{self.dest}: its file system has no access lists (ACL), by which the user of a code location "
                    "writes there; mount it with them, or remove user from dagster_code_locations"
                ) from error
        return self.difference("", f"written by {', '.join(map(str, self.writers))}\n")

    def file(self) -> dict[str, str] | None:
        if self.current is not None and not stat.S_ISREG(self.current.st_mode):
            raise Refused(f"{self.dest} is not a plain file; move it away, a file belongs there")
        if self.text is None:
            if self.current is None and not self.check_mode:  # in check mode the play would have made it by now
                raise Refused(f"{self.dest} is not there, and neither content nor template is given for it")
            return self.own(self.dest, self.attributes(), 0o644)
        wanted = self.text.encode("utf-8")
        if self.host.holds(self.dest, wanted):
            self.unstage()
            return self.own(self.dest, self.attributes(), 0o644)
        if self.stage and self.host.holds(next_of(self.dest), wanted):
            return None
        before = self.host.content(self.dest)
        if not self.check_mode:
            folder = os.path.dirname(self.dest)
            handle, beside = tempfile.mkstemp(prefix=".new-", dir=folder)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(wanted)
                    stream.flush()
                    os.fsync(stream.fileno())
                self.own(beside, "", 0o644)
                self.place(beside)
            except BaseException:
                if os.path.lexists(beside):
                    os.unlink(beside)
                raise
        if self.secret:
            return self.difference("(a secret)\n" if before is not None else "", "(a secret, changed)\n")
        return self.difference((before or b"").decode("utf-8", errors="replace"), self.text)

    def attributes(self) -> str:
        """Owner, group and mode as text, for the difference."""
        if self.current is None:
            return ""
        return (
            f"owner {self.current.st_uid} group {self.current.st_gid} mode {stat.S_IMODE(self.current.st_mode):04o}\n"
        )

    def own(self, path: str, before: str, default_mode: int) -> dict[str, str] | None:
        """Gives path (the destination, or its new text beside it) owner and mode; the difference or None."""
        try:
            uid, gid = (self.host.number_of(self.names[kind], kind) for kind in ("user", "group"))
        except LookupError as error:
            if self.check_mode:  # the play would have made that user by now
                return self.difference(before, f"{error}\n")
            raise Refused(f"{self.dest}: {error}") from error
        now = self.current
        mode = self.mode if self.mode is not None else stat.S_IMODE(now.st_mode) if now else default_mode
        if now:
            uid, gid = (now.st_uid if uid == -1 else uid), (now.st_gid if gid == -1 else gid)
            if path == self.dest and (uid, gid, mode) == (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)):
                return None
        if not self.check_mode:
            if self.kept is not None and now and path == self.dest:
                self.kept.keep_attributes(path, now)
            os.chown(path, uid, gid)
            os.chmod(path, mode)
        return self.difference(before, f"owner {uid} group {gid} mode {mode:04o}\n")

    def difference(self, before: str, after: str) -> dict[str, str]:
        return {"before_header": self.dest, "after_header": self.dest, "before": before, "after": after}


def leftovers(specs: list[dict[str, Any]], host: Here = HERE) -> list[dict[str, Any]]:
    """An absent entry for each path in a purged folder that is neither in the list nor a parent of what is."""
    wanted = {spec["dest"] for spec in specs}
    for path in list(wanted):
        while os.path.dirname(path) not in {path, *wanted}:
            path = os.path.dirname(path)
            wanted.add(path)
    found = []
    for spec in specs:
        if spec["purge"] and host.folder(spec["dest"]) is not None:
            names = (name for name in host.names(spec["dest"]) if not is_version(name))
            paths = (os.path.join(spec["dest"], name) for name in names)
            found += [{**spec, "dest": path, "state": "absent", "purge": False} for path in paths if path not in wanted]
    return found


def reconcile(
    specs: list[dict[str, Any]],
    secrets: dict[str, str],
    check_mode: bool,
    kept: Kept | None = None,
    host: Here = HERE,
) -> Iterator[dict[str, str]]:
    """The difference of each path that was not as wanted, once it is. Raises Refused at the first that cannot be.

    kept gets what is replaced. Without it nothing of that is kept. A host that is not here is compared in check mode.
    """
    for spec in specs + leftovers(specs, host):
        try:
            difference = Entry(check_mode, spec, secrets, kept, host).reconcile()
        except OSError as error:
            raise Refused(f"{spec['dest']}: {error.strerror or error}") from error
        if difference is not None:
            yield difference


def changed_paths(differences: list[dict[str, str]]) -> list[str]:
    """The paths of differences."""
    return [difference["after_header"] for difference in differences]
