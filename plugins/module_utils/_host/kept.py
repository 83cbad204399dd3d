# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a call replaces is kept until its units serve with the new, and comes back when they do not.

A path may have two hidden names beside it. No program that reads a folder takes them for files of its own.

    .NAME.next      staged: checked as far as it can be. The call that restarts the readers puts it in place.
    .NAME.previous  what served before. It is made before NAME is replaced. It goes when the units serve, or comes back.

The previous version of a path that was not there is a link to /dev/null. A call that is killed leaves .previous behind.
So a later call still knows what served before, and puts that back when it is refused too.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterable, Iterator

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)  # a broken connection, an operator, a host that shuts down


def next_of(path: str) -> str:
    """Where the staged version of a path is."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.next")


def previous_of(path: str) -> str:
    """Where the previous version of a path is."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.previous")


def path_of(folder: str, version: str) -> str:
    """The path that such a hidden name in a folder belongs to."""
    return os.path.join(folder, version.rpartition(".")[0].removeprefix("."))


def is_version(name: str) -> bool:
    """Whether a name in a folder is such a hidden name."""
    return re.fullmatch(r"\..+\.(next|previous)", name) is not None


def remove(path: str) -> None:
    """Removes a path, a folder with its content."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


@contextlib.contextmanager
def same_age(folder: str) -> Iterator[None]:
    """A folder stays as old as it is: a unit that watches it shall not restart because a hidden name has gone."""
    before = os.stat(folder)
    yield
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A signal to end waits until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Kept:
    """The previous versions of what one call replaces."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.attributes: dict[str, os.stat_result] = {}

    def is_needed(self) -> bool:
        """Whether there is anything to put back."""
        return bool(self.paths or self.attributes)

    def adopt(self, paths: Iterable[str]) -> None:
        """Takes over what a killed call has left of these paths: this call decides about them."""
        self.paths += [path for path in paths if path not in self.paths and os.path.lexists(previous_of(path))]

    def keep(self, path: str) -> None:
        """Remembers a path as it is. To be called before it is replaced."""
        if path in self.paths:
            return
        if os.path.lexists(previous_of(path)):
            pass  # of a killed call: that one served, and what stands there now has not served yet
        elif os.path.lexists(path):
            os.link(path, previous_of(path), follow_symlinks=False)
        else:
            os.symlink(os.devnull, previous_of(path))
        self.paths.append(path)

    def keep_attributes(self, path: str, state: os.stat_result) -> None:
        """Remembers owner and mode of a path that stays where it is."""
        self.attributes.setdefault(path, state)

    def remove(self, path: str) -> None:
        """Removes a path that may come back."""
        if os.path.lexists(previous_of(path)):
            remove(path)
        else:
            os.rename(path, previous_of(path))
        self.paths.append(path)

    def place_staged(self, paths: Iterable[str]) -> None:
        """Puts in place what is staged of these paths. It counts as written now, so its readers are restarted."""
        for path in paths:
            if not os.path.lexists(next_of(path)):
                continue
            self.keep(path)
            os.utime(next_of(path), follow_symlinks=False)
            os.replace(next_of(path), path)

    @undisturbed()
    def put_back(self) -> list[str]:
        """Makes everything as it was before; the paths."""
        for path in reversed(self.paths):
            previous = previous_of(path)
            if not os.path.lexists(previous):
                continue
            if os.path.islink(previous) and os.readlink(previous) == os.devnull:
                remove(path)
            elif os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
                os.rename(previous, path)
            else:
                os.replace(previous, path)  # which does nothing when both are still names of one file
            remove(previous)
        for path, state in self.attributes.items():
            with contextlib.suppress(FileNotFoundError):
                os.chown(path, state.st_uid, state.st_gid)
                os.chmod(path, stat.S_IMODE(state.st_mode))
        found = sorted({*self.paths, *self.attributes})
        self.paths, self.attributes = [], {}
        return found

    @undisturbed()
    def drop(self) -> None:
        """The units serve with the new: the previous versions go."""
        for path in self.paths:
            if os.path.lexists(previous_of(path)):
                with same_age(os.path.dirname(path)):
                    remove(previous_of(path))
        self.paths, self.attributes = [], {}
