# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Texts that become a password, a name or a path: the characters and the length that every reader takes. Pure: no I/O.

A sentence says where a character is, and never what the text is.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import subnets
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.names import OPTIONS

if TYPE_CHECKING:
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.inventory import Host
    from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import Storage

# A name that becomes that of a file. The files module stages it as .NAME.next, and keeps it as .NAME.previous.
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
LONGEST_FILE_NAME = 255 - len("..previous")
# A path of a socket has 108 bytes in Linux, the last of which is 0.
LONGEST_SOCKET = 107
# A user and a group of Debian's useradd.
USER = re.compile(r"[a-z_][a-z0-9_-]*")
LONGEST_USER = 32
# Users and groups of Debian's base-passwd, and of what runs beside us.
SYSTEM_NAMES = frozenset(
    (
        *("root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data"),
        *("backup", "list", "irc", "nobody", "adm", "tty", "disk", "kmem", "dialout", "fax", "voice", "cdrom"),
        *("floppy", "tape", "sudo", "audio", "dip", "operator", "src", "shadow", "utmp", "video", "sasl", "plugdev"),
        *("staff", "users", "nogroup", "docker", "haproxy", "nginx", "sshd", "messagebus"),
        *DIALECTS,
    )
)
# What needs no quotes in the rules of a server, in an URL, in a shell. `user@server` is how Azure calls its logins.
LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
DATABASE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Common name of a certificate (RFC 5280, ub-common-name).
LONGEST_COMMON_NAME = 64
# Control characters, half of a pair (no UTF-8 has it), and Unicode's own ends of lines.
REFUSED = ("Cc", "Cs", "Zl", "Zp")
CALLED = {
    "\n": "a newline",
    "\r": "a carriage return",
    "\t": "a tab",
    "\0": "a zero byte",
    "\x1b": "an escape character",
}
LINES = "letters, digits, '_', '-' and '.' are allowed"


def control_problems(where: str, text: str, lines: bool = False) -> list[str]:
    """A sentence about the first character that is no printable one; with lines, tabs and ends of lines inside are."""
    inside = len(text.rstrip("\n")) if lines else 0
    for number, char in enumerate(text):
        if unicodedata.category(char) not in REFUSED or (char in "\n\t" and number < inside):
            continue
        called = CALLED.get(char, f"the control character U+{ord(char):04X}")
        hint = " (cat FILE and | in YAML leave one at the end; in YAML write |-)" if char == "\n" else ""
        return [f"{where} has {called} as character {number + 1} of {len(text)}; remove it{hint}"]
    return []


def length_problems(where: str, text: str, limit: int, reader: str) -> list[str]:
    """A sentence about a text that is too long for its narrowest reader."""
    found = len(text.encode("utf-8", "surrogatepass"))
    return [f"{where} has {found} bytes; {reader} takes at most {limit}"] if found > limit else []


def file_name_problems(where: str, name: str) -> list[str]:
    """A sentence about a name that would become a path of its own, or no file at all."""
    if not FILE_NAME.fullmatch(name) or ".." in name:
        return [
            f"{where}: {name!r} is no name of a file; letters, digits, '_', '-' and '.' are, without '..' and no '.' "
            "as the first"
        ]
    return length_problems(f"{where}: {name[:20]}...", name, LONGEST_FILE_NAME, "the name of a file")


def form_problems(where: str, text: str, form: re.Pattern[str], allowed: str) -> list[str]:
    """A sentence about a name that has another form."""
    return [] if form.fullmatch(text) else [f"{where} is {text!r}; {allowed}"]


def name_problems(host: Host, storage: Storage) -> list[str]:
    """Sentences about names of the host, of its engine and of the database; a derived one follows from another name."""
    problems = derived_name_problems(host, storage)
    values = {name: str(host.values[name]) for name in sorted(OPTIONS.keys() & host.given)}
    for name in ("dagster_user", "dagster_group"):
        if name not in values:
            continue
        text = values[name]
        small = "small letters, digits, '_' and '-' are allowed, and a letter or '_' is the first"
        problems += form_problems(name, text, USER, small) or length_problems(name, text, LONGEST_USER, "Linux")
        if text in SYSTEM_NAMES:
            problems.append(f"{name} is {text}, which is the system's or another program's own; choose another name")
    for name, text in values.items():
        if not name.startswith("dagster_database_"):
            continue
        form, allowed = (
            (DATABASE, LINES) if name.endswith("_name") else (LOGIN, LINES.replace("'-' and '.'", "'-', '.' and '@'"))
        )
        problems += form_problems(name, text, form, allowed)
        problems += length_problems(name, text, storage.longest_login, "the database")
        if storage.server and storage.keeps(text):
            problems.append(f"{name} is {text}, which the server keeps for itself; choose another name")
    return problems


def derived_name_problems(host: Host, storage: Storage) -> list[str]:
    """Sentences about the name of the instance, where a name that follows from it belongs to somebody else."""
    name = str(host.values["dagster_instance_name"])
    taken = {
        "user": name in SYSTEM_NAMES and "dagster_user" not in host.given,
        "network of containers": name in subnets.RESERVED and "dagster_docker_network" not in host.given,
        "database or login": storage.server
        and storage.keeps(name)
        and not {"dagster_database_name", "dagster_database_user"} <= host.given,
    }
    return [
        f"dagster_instance_name is {name}, and a {what} of that name is somebody else's; choose another name"
        for what, is_taken in taken.items()
        if is_taken
    ]


def socket_problems(given: Mapping[str, Any]) -> list[str]:
    """A sentence for each socket whose path no program could open."""
    paths = {name: str(value or "").removeprefix("unix://") for name, value in given.items()}
    socket = str(given.get("dagster_docker_socket") or "")
    forms = [
        f"dagster_docker_socket is {socket}; it is the socket of the host's own engine"
        + (f"; did you mean unix://{socket}?" if socket.startswith("/") else ", such as unix:///var/run/docker.sock")
    ]
    return (forms if socket and not socket.startswith("unix:///") else []) + [
        problem
        for name, path in paths.items()
        if path.startswith("/")
        for problem in length_problems(name, path, LONGEST_SOCKET, "the path of a socket")
    ]


def common_name_problems(host: str) -> list[str]:
    """A sentence about a host whose name its certificate could not hold."""
    return length_problems(f"the name {host} of the host", host, LONGEST_COMMON_NAME, "the certificate for the engine")


def certificate_problems(paths: Iterable[str]) -> list[str]:
    """Sentences about supplied certificates of which two would be one file on the host, or one no file."""
    problems: list[str] = []
    known: dict[str, str] = {}
    for path in paths:
        name = os.path.splitext(os.path.basename(path))[0]
        problems += file_name_problems(f"dagster_ca_certificates: {path}", name)
        if name in known:
            problems.append(
                f"dagster_ca_certificates: {known[name]} and {path} would both be {name}.crt on the host; rename one"
            )
        known.setdefault(name, path)
    return problems
