#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes many small files of a service in one remote call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write the folders, files and links of a service in one call
version_added: 0.1.0
description:
  - Reconciles a list of folders, files and symbolic links in the order given, in one remote call. Most of what a play
    costs is the start of Python on the host, so one call for ten files is nearly ten times cheaper than ten calls.
  - Each file is written beside its place and moved there, with its owner and mode from the first moment.
  - Templates are rendered on the controller, as M(ansible.builtin.template) does.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Reports what would be written and touches nothing.}
  diff_mode: {support: full, description: 'Shows each text that is not secret, and each change of owner or mode.'}
options:
  files:
    description: What there is to be, in order; a folder comes before what is in it.
    type: list
    elements: dict
    required: true
    suboptions:
      dest:
        description: Absolute path on the host.
        type: path
        required: true
      state:
        description:
          - V(file) has the text of O(files[].content) or O(files[].template); without either the file must be there,
            and only its owner and mode are kept.
          - V(directory) is made with its parents; a link to a folder is as good as a folder.
          - V(link) points to O(files[].src). V(absent) is removed, a folder with all that is in it.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: The text of the file, UTF-8.
        type: str
      template:
        description: A template of the role, rendered on the controller. Excludes O(files[].content).
        type: path
      vars:
        description: Variables for this template alone.
        type: dict
      secret:
        description: The text is a secret. It is shown in no output and no diff.
        type: bool
        default: false
      purge:
        description: Remove what is in this folder and is not in O(files).
        type: bool
        default: false
      src:
        description: What a link points to.
        type: path
      owner:
        description: User name or number. Without it the owner is left as it is.
        type: str
      group:
        description: Group name or number. Without it the group is left as it is.
        type: str
      mode:
        description:
          - Mode as octal text, such as V("0644"). Without it V("0644") for a new file and V("0755") for a new folder.
        type: str
  secrets:
    description:
      - Text of each file of which O(files[].secret) is true, by path. Set by the controller side.
      - It is an option of its own because Ansible keeps only whole options out of the host's journal for certain.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the service's files
  dataops.dagster.files:
    files:
      - {dest: /etc/dagster, state: directory, owner: root, group: dagster, mode: "0750"}
      - {dest: /etc/dagster/pgpass, template: etc/dagster/pgpass.j2, owner: dagster, mode: "0600", secret: true}
      - {dest: /etc/systemd/system/dagster-daemon.service, template: etc/systemd/system/dagster-daemon.service.j2}
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: always, after a failure too
  type: list
  elements: str
  sample: [/etc/dagster/pgpass]
"""

import grp
import os
import pwd
import shutil
import stat
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def number_of(name: str | None, kind: str) -> int:
    """The number of a user or group name, -1 for none. Raises LookupError for a name that does not exist."""
    if name is None:
        return -1
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise LookupError(f"there is no {kind} {name} on this host") from error


class Refused(Exception):
    """A path cannot be made as wanted; the text says why."""


class Entry:
    """One path of the list, with what is there now."""

    def __init__(self, check_mode: bool, spec: dict[str, Any], secrets: dict[str, str]) -> None:
        self.check_mode = check_mode
        self.dest: str = spec["dest"]
        self.state: str = spec["state"]
        self.secret = bool(spec["secret"])
        self.text: str | None = secrets.get(self.dest) if self.secret else spec["content"]
        self.src: str = spec["src"] or ""
        try:
            self.mode = int(spec["mode"], 8) if spec["mode"] else None
        except ValueError as error:
            raise Refused(f"{self.dest}: mode is {spec['mode']!r}; octal text is expected, such as '0644'") from error
        self.names = {"user": spec["owner"], "group": spec["group"]}
        try:
            self.current: os.stat_result | None = os.lstat(self.dest)
        except (FileNotFoundError, NotADirectoryError):
            self.current = None

    def reconcile(self) -> dict[str, str] | None:
        """Makes the path as wanted; the difference, or None when it was so already."""
        action = {"absent": self.remove, "link": self.link, "directory": self.directory, "file": self.file}[self.state]
        return action()

    def remove(self) -> dict[str, str] | None:
        if self.current is None:
            return None
        if not self.check_mode:
            if stat.S_ISDIR(self.current.st_mode):
                shutil.rmtree(self.dest)
            else:
                os.unlink(self.dest)
        return self.difference("present\n", "absent\n")

    def link(self) -> dict[str, str] | None:
        before = os.readlink(self.dest) if os.path.islink(self.dest) else ""
        if before == self.src:
            return None
        if self.current is not None and not before:
            raise Refused(f"{self.dest} is not a symbolic link; move it away, a link to {self.src} belongs there")
        if not self.check_mode:
            beside = f"{self.dest}.new"
            if os.path.lexists(beside):
                os.unlink(beside)
            os.symlink(self.src, beside)
            os.replace(beside, self.dest)
        return self.difference(f"{before}\n" if before else "", f"{self.src}\n")

    def directory(self) -> dict[str, str] | None:
        if self.current is not None and not os.path.isdir(self.dest):
            raise Refused(f"{self.dest} is not a folder; move it away, a folder belongs there")
        if self.current is not None:
            # Where a site has put a folder onto another disk, a link is in its place: owner and mode are the folder's.
            self.current = os.stat(self.dest)
        before = self.attributes()
        if self.current is None and not self.check_mode:
            os.makedirs(self.dest, 0o755)
        return self.own(self.dest, before, 0o755)

    def file(self) -> dict[str, str] | None:
        if self.current is not None and not stat.S_ISREG(self.current.st_mode):
            raise Refused(f"{self.dest} is not a plain file; move it away, a file belongs there")
        if self.text is None:
            if self.current is None and not self.check_mode:  # in check mode the play would have made it by now
                raise Refused(f"{self.dest} is not there, and neither content nor template is given for it")
            return self.own(self.dest, self.attributes(), 0o644)
        wanted, before = self.text.encode("utf-8"), None
        if self.current is not None:
            with open(self.dest, "rb") as stream:
                before = stream.read()
        if before == wanted:
            return self.own(self.dest, self.attributes(), 0o644)
        if not self.check_mode:
            folder = os.path.dirname(self.dest)
            handle, beside = tempfile.mkstemp(prefix=".new-", dir=folder)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(wanted)
                    stream.flush()
                    os.fsync(stream.fileno())
                self.own(beside, "", 0o644)
                os.replace(beside, self.dest)
            except BaseException:
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
            uid, gid = number_of(self.names["user"], "user"), number_of(self.names["group"], "group")
        except LookupError as error:
            if self.check_mode:  # the play would have made that user by now
                return self.difference(before, f"{error}\n")
            raise Refused(f"{self.dest}: {error}") from error
        kept = self.current
        mode = self.mode if self.mode is not None else stat.S_IMODE(kept.st_mode) if kept else default_mode
        if kept:
            uid, gid = (kept.st_uid if uid == -1 else uid), (kept.st_gid if gid == -1 else gid)
            if path == self.dest and (uid, gid, mode) == (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)):
                return None
        if not self.check_mode:
            os.chown(path, uid, gid)
            os.chmod(path, mode)
        return self.difference(before, f"owner {uid} group {gid} mode {mode:04o}\n")

    def difference(self, before: str, after: str) -> dict[str, str]:
        return {"before_header": self.dest, "after_header": self.dest, "before": before, "after": after}


def leftovers(specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An absent entry for each path in a purged folder that is neither in the list nor a parent of what is."""
    wanted = {spec["dest"] for spec in specs}
    for path in list(wanted):
        while os.path.dirname(path) not in {path, *wanted}:
            path = os.path.dirname(path)
            wanted.add(path)
    found = []
    for spec in specs:
        if spec["purge"] and os.path.isdir(spec["dest"]):
            paths = (os.path.join(spec["dest"], name) for name in sorted(os.listdir(spec["dest"])))
            found += [{**spec, "dest": path, "state": "absent", "purge": False} for path in paths if path not in wanted]
    return found


def main() -> None:
    """Reconciles the list, stopping at the first path that cannot be made so."""
    options: dict[str, Any] = {
        "dest": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
        "content": {"type": "str"},
        "template": {"type": "path"},
        "vars": {"type": "dict"},
        "secret": {"type": "bool", "default": False, "no_log": False},
        "purge": {"type": "bool", "default": False},
        "src": {"type": "path"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": options,
                "required_if": [["state", "link", ["src"]]],
            },
            "secrets": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    changed_paths: list[str] = []
    diffs: list[dict[str, str]] = []
    for spec in module.params["files"] + leftovers(module.params["files"]):
        try:
            difference = Entry(module.check_mode, spec, module.params["secrets"]).reconcile()
        except Refused as error:
            module.fail_json(msg=str(error), changed_paths=changed_paths)
        except OSError as error:
            module.fail_json(msg=f"{spec['dest']}: {error.strerror or error}", changed_paths=changed_paths)
        if difference is not None:
            changed_paths.append(spec["dest"])
            diffs.append(difference)
    module.exit_json(changed=bool(changed_paths), changed_paths=changed_paths, diff=diffs)


if __name__ == "__main__":
    main()
