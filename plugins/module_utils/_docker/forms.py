# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The forms in which the options of a container are written, read into what the engine takes.

Each function raises ValueError with a sentence that says what was found and what to write instead; the caller puts the
name of the option before it. Preflight reads the same forms on the controller, before a host is touched.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
# 512m, 1.5 GB and 2Gi are all powers of 1024, as they are for Docker.
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
SMALLEST = 6 * UNITS["m"]  # the least memory that the engine gives a container

_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
PROPAGATION = {f"{prefix}{kind}" for prefix in ("", "r") for kind in ("shared", "slave", "private")}
ACCESS, RELABEL = {"ro", "rw"}, {"z", "Z"}
MODES = {*ACCESS, *RELABEL, *PROPAGATION, "nocopy", "cached", "consistent", "delegated"}
PERMISSIONS = "rwm"
USERS = 65534  # that many numbers of users a container has where the engine remaps them, without nobody
CAPABILITIES = frozenset(
    re.findall(
        r"\w+",
        "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE "
        "DAC_READ_SEARCH "
        "FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN "
        "NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT "
        "SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM",
    )
)


def text(value: t.Any) -> str:
    """A value as an environment variable or label holds it: YAML's true is `true`, not Python's `True`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def parse_size(value: t.Any) -> int:
    """`1g`, `512 MB`, `2Gi`, `1073741824` as bytes; nothing and `0` mean no limit."""
    if value is None or str(value).strip() == "":
        return 0
    match = _SIZE.fullmatch(str(value))
    if not match:
        near = str(value).replace(",", ".")
        hint = f"; did you mean {near}?" if near != str(value) and _SIZE.fullmatch(near) else ""
        raise ValueError(f"{value!r} is not a size like 512m or 1g{hint}")
    return int(float(match.group(1)) * UNITS[match.group(2).lower()])


def memory(value: t.Any) -> int:
    """The size of a memory limit, which the engine takes from 6 MiB on."""
    size = parse_size(value)
    if 0 < size < SMALLEST:
        raise ValueError(
            f"{value!r} is {size} bytes, and a container has at least 6m; write the unit, for example 512m"
        )
    return size


@dataclass(frozen=True)
class Volume:
    """A bind mount or a named volume."""

    source: str
    path: str  # in the container
    modes: tuple[str, ...] = ()

    @property
    def is_bind(self) -> bool:
        """Whether it is a path of the host."""
        return self.source.startswith("/")


def _plain(path: str) -> str:
    """A path in its shortest spelling."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def volume(value: t.Any) -> Volume:
    """`SOURCE:PATH[:MODE]`: an absolute path of the host or the name of a volume, and a path in the container."""
    expected = "expected SOURCE:PATH[:MODE], for example /srv/data:/data:ro"
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text; {expected}")
    parts = value.split(":")
    if not 2 <= len(parts) <= 3 or value != value.strip():
        near = f"{value}:{value}" if len(parts) == 1 and value.startswith("/") else value.strip()
        raise ValueError(f"found {value!r}, {expected}" + (f"; did you mean {near}?" if near != value else ""))
    source, path = parts[:2]
    if not source.startswith("/") and not _VOLUME_NAME.fullmatch(source):
        raise ValueError(f"the source of {value!r} is neither an absolute path of the host nor the name of a volume")
    if not path.startswith("/") or _plain(path) == "/":
        raise ValueError(f"the path in the container of {value!r} is {path!r}; expected an absolute one below /")
    modes = tuple(mode for mode in (parts[2].split(",") if len(parts) == 3 else ()) if mode)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise ValueError(f"the mode of {value!r} is {unknown[0]!r}; expected ro, rw or another one of Docker's")
    for kinds in (ACCESS, PROPAGATION, RELABEL):
        if len(kinds.intersection(modes)) > 1:
            raise ValueError(f"the mode of {value!r} says {' and '.join(sorted(kinds.intersection(modes)))}; keep one")
    found = Volume(_plain(source) if source.startswith("/") else source, _plain(path), modes)
    if found.is_bind and "nocopy" in modes:
        raise ValueError(f"the mode of {value!r} is nocopy, which only a named volume has")
    if not found.is_bind and PROPAGATION.intersection(modes):
        raise ValueError(f"the mode of {value!r} is for a path of the host, and {source} is a named volume")
    return found


def device(value: t.Any) -> str:
    """`PATH[:PATH IN THE CONTAINER[:PERMISSIONS]]` in full."""
    parts = str(value).split(":")
    path, inside, allowed = (*parts, *("", "", "")[len(parts) :])[:3]
    inside, allowed = inside or path, allowed or PERMISSIONS
    if len(parts) > 3 or not path.startswith("/dev/") or not inside.startswith("/") or set(allowed) - set(PERMISSIONS):
        raise ValueError(f"found {value!r}, expected /dev/NAME[:PATH[:rwm]], for example /dev/fuse")
    return f"{path}:{inside}:{''.join(each for each in PERMISSIONS if each in allowed)}"


def capability(value: t.Any) -> str:
    """The name of a capability of the kernel, as the engine lists it or with CAP_ before it."""
    return str(value).upper().removeprefix("CAP_")


def user(value: t.Any) -> str:
    """`UID` or `UID:GID` of a user that is not root; nothing is root."""
    written = text(value)
    numbers = [int(part) for part in written.split(":") if part.isdigit()]
    if not written:
        return ""
    if not re.fullmatch(r"\d+(:\d+)?", written) or max(numbers) >= USERS:
        raise ValueError(
            f'{written!r} is no user by its number; expected "UID" or "UID:GID" in quotes, each below {USERS}, for '
            'example "1000:1000", because the files with its password belong to that number'
        )
    if numbers[0] == 0:
        raise ValueError(f"{written!r} is root of the container, as which it runs without this option; remove it")
    return written


def pairs(value: t.Any, separator: str) -> dict[str, str]:
    """Names with values, written as a dictionary or, as Compose does, as a list of NAME and VALUE with a separator."""
    if value is None or value == "":
        return {}
    if isinstance(value, t.Mapping):
        return {str(name): text(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        found = {}
        for item in value:
            name, given, rest = str(item).partition(separator)
            if isinstance(item, (t.Mapping, list)) or (separator == ":" and not given):
                raise ValueError(f"found {item!r}, expected NAME{separator}VALUE")
            found[name.strip()] = rest.strip()
        return found
    raise ValueError(f"found {value!r}, expected a dictionary of names and values")


def labels(value: t.Any) -> dict[str, str]:
    """Labels of a container."""
    found = pairs(value, "=")
    for name in found:
        if not name or re.search(r"\s", name):
            raise ValueError(f"{name!r} is no name of a label; expected one without spaces, for example team")
    return found


def extra_hosts(value: t.Any) -> dict[str, str]:
    """Addresses by the name that /etc/hosts of the container has for each."""
    found = pairs(value, ":")
    for name, address in found.items():
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a host; expected for example db.example.com: 10.0.0.5")
        if address == "host-gateway":
            continue
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            swapped = f"; did you mean {address}: {name}?" if _is_address(name) else ""
            raise ValueError(f"{name} has {address!r}, expected an IP address or host-gateway{swapped}") from None
    return {name: address.strip("[]") for name, address in found.items()}


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
