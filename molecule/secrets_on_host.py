"""Where the secrets are on a host and who may read them: found by their content, wherever they are."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.dataops.dagster.plugins.filter.derived_password import derived_password

# The words come as base64, so that this very command line does not hold them: sudo writes it to the journal.
PROGRAM = r"""
import base64, grp, json, os, pwd, subprocess, sys

words, also = json.loads(base64.b64decode(sys.argv[1]))
PLACES = ["/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"]
# The journal is asked for by its own program; images hold no secret of a deployment.
LEFT_OUT = ["overlay2", "image", "buildkit", "apt", "journal"]

def name(getter, number, field):
    try:
        return getattr(getter(number), field)
    except KeyError:
        return str(number)

def shown(path):
    about = os.lstat(path)
    owner, group = name(pwd.getpwuid, about.st_uid, "pw_name"), name(grp.getgrgid, about.st_gid, "gr_name")
    return f"{owner}:{group} {about.st_mode & 0o7777:o}"

def readers(path):
    "The accounts of this host, root and those of its group excepted, that can open the file: folders and ACL included."
    found = []
    for account in pwd.getpwall():
        if account.pw_uid == 0:
            continue
        child = os.fork()
        if child == 0:
            try:
                os.initgroups(account.pw_name, account.pw_gid)
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
                os.close(os.open(path, os.O_RDONLY))
                os._exit(0)
            except OSError:
                os._exit(1)
        if os.waitpid(child, 0)[1] == 0:
            found.append(account.pw_name)
    return sorted(found)

folders, files = {}, {}
every = sorted({text for texts in words.values() for text in texts})
argv = ["grep", "-rlsaFf", "-", *(f"--exclude-dir={folder}" for folder in LEFT_OUT), *filter(os.path.isdir, PLACES)]
done = subprocess.run(argv, input="\n".join(every), capture_output=True, text=True, timeout=300)
for path in done.stdout.splitlines():
    with open(path, "rb") as stream:
        content = stream.read()
    files[path] = [label for label, texts in words.items() if any(text.encode() in content for text in texts)]
for path in also:
    if os.path.exists(path):
        files.setdefault(path, [])
for path in files:
    folder = os.path.dirname(path)
    while folder not in folders:
        folders[folder] = shown(folder)
        folder = os.path.dirname(folder)
print(json.dumps({
    "files": {path: [" ".join(sorted(labels)), shown(path), " ".join(readers(path))] for path, labels in files.items()},
    "folders": folders,
}))
"""

# The folders of a Debian host, which everybody may enter and only root may change.
DEBIAN = dict.fromkeys(("/", "/etc", "/run", "/run/credentials", "/srv", "/var", "/var/lib"), "root:root 755")


@dataclass(frozen=True)
class Found:
    """What is on a host, by path."""

    files: dict[str, tuple[str, str, str]]
    """The secrets in the file, "owner:group mode", and the accounts but root that can open it."""
    folders: dict[str, str]
    """ "owner:group mode" of each folder above one of the files."""


def escaped(word: str) -> str:
    """A password as libpq's password file writes it."""
    return word.replace("\\", "\\\\").replace(":", "\\:")


def spellings(words: Mapping[str, str]) -> dict[str, list[str]]:
    """Each secret as it is, as a password file and as an environment file write it."""
    quoted = {name: re.sub(r'([\\"`$])', r"\\\1", word) for name, word in words.items()}
    return {name: sorted({word, escaped(word), quoted[name]}) for name, word in words.items()}


def derived(password: str, logins: Iterable[str]) -> dict[str, str]:
    """The passwords that are made of the migration's password, by login."""
    return {login: derived_password(password, login) for login in logins}


def look(host: Any, words: Mapping[str, str], also: Iterable[str] = ()) -> Found:
    """Every file of the host that holds one of the words, and the files of `also`, which may hold none today."""
    given = base64.b64encode(json.dumps([spellings(words), list(also)]).encode()).decode()
    answer = json.loads(host.check_output("python3 -c %s %s", PROGRAM, given))
    return Found({path: (about[0], about[1], about[2]) for path, about in answer["files"].items()}, answer["folders"])


def assert_only(found: Found, files: Mapping[str, tuple[str, str, str]], folders: Mapping[str, str]) -> None:
    """Exactly these files hold these secrets for these readers, below exactly these folders."""
    known = {path: mode for path, mode in DEBIAN.items() if path in found.folders}
    assert_alike({**found.files, **found.folders}, {**files, **known, **folders})


def assert_alike(found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Both have the same paths with the same about each. pytest explains no assertion outside of a test's own file."""
    differ = [
        f"{path}: found {found.get(path, 'nothing')}, expected {expected.get(path, 'nothing')}"
        for path in sorted(found.keys() | expected.keys())
        if found.get(path) != expected.get(path)
    ]
    assert not differ, "\n".join(differ)
