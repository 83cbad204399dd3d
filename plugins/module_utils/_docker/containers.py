# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a code-location container should look like, and how a real one differs from that.

Nothing in here talks to an engine: the functions take the JSON of `inspect` and give plain data.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import typing as t
from dataclasses import dataclass, field

from .._proc import Listener
from .._secrets import looks_secret

LOCATION_LABEL = "dataops.dagster.location"
CONFIG_LABEL = "dataops.dagster.config"
NAME_PREFIX = "dagster-code-"
# A swap in progress: the new container before it takes the name, the old one until the new one is healthy.
NEXT_SUFFIX = "-next"
PREVIOUS_SUFFIX = "-previous"

RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")

# How a difference is mended. `recreate` is the strongest.
RECREATE = "recreate"
UPDATE = "update"
NETWORK = "network"
START = "start"

_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_MASKED_NAME = re.compile(r"(pass|pwd|key|dsn|private)(?!.*(file|path|dir|folder|name|id)$)", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)([^@/\s]+)(@)")
_HIDDEN = "********"
# What the engine means by an empty HostIp.
_ANY_ADDRESS = "0.0.0.0"

Inspect = t.Mapping[str, t.Any]


def text(value: t.Any) -> str:
    """A value as an environment variable holds it: YAML's true is `true`, not Python's `True`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def parse_size(value: t.Any) -> int:
    """`1g`, `512m`, `1073741824` as bytes; nothing and `0` mean no limit."""
    if value is None or str(value).strip() == "":
        return 0
    match = _SIZE.match(str(value))
    if not match:
        raise ValueError(f"{value!r} is not a size like 512m or 1g")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def format_size(value: int) -> str:
    if not value:
        return "unlimited"
    for unit in ("t", "g", "m", "k"):
        if value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}"
    return str(value)


def masks(name: str) -> bool:
    """Whether the value of a variable is not shown: wider than what is refused, since a mask too many harms nobody."""
    return looks_secret(name) or bool(_MASKED_NAME.search(name))


def secret_values(env: t.Mapping[str, str]) -> set[str]:
    """The values that must not show up in any output. Very short ones would black out unrelated text."""
    found = {value for name, value in env.items() if masks(name)}
    found.update(match.group(2) for value in env.values() for match in _URL_PASSWORD.finditer(value))
    return {value for value in found if len(value) >= 4}


def mask(name: str, value: str) -> str:
    if masks(name):
        return _HIDDEN
    return _URL_PASSWORD.sub(rf"\g<1>{_HIDDEN}\g<3>", value)


@dataclass(frozen=True)
class Location:
    """One wanted container, every value normalised."""

    name: str
    image: str
    command: tuple[str, ...]
    container_port: int = 4000
    publish_address: str = "127.0.0.1"
    port: int = 0
    env: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    memory: int = 0
    nano_cpus: int = 0
    network: str = "bridge"
    networks: tuple[str, ...] = ()
    user: str = ""
    restart_policy: str = "unless-stopped"
    stop_timeout: int = 65
    labels: dict[str, str] = field(default_factory=dict)
    extra_hosts: dict[str, str] = field(default_factory=dict)

    @property
    def container(self) -> str:
        return NAME_PREFIX + self.name

    @property
    def all_networks(self) -> list[str]:
        return [self.network] + [name for name in self.networks if name != self.network]


def location_from_params(params: t.Mapping[str, t.Any], network: str) -> Location:
    """Build a Location from one item of the module's `locations`; ValueError says what is wrong with it."""
    name = str(params["name"])
    where = f"dagster_code_locations[{name}]"
    if not _NAME.match(name):
        raise ValueError(
            f"{where}.name: {name!r} cannot be part of a container name. Expected letters, digits, '_', '.' and '-', "
            "starting with a letter or digit."
        )
    for suffix in (NEXT_SUFFIX, PREVIOUS_SUFFIX):
        if name.endswith(suffix):
            raise ValueError(f"{where}.name: names ending in {suffix!r} are reserved for the swap of containers.")
    try:
        memory = parse_size(params.get("mem_limit"))
    except ValueError as error:
        raise ValueError(f"{where}.mem_limit: {error}.") from error
    port = int(params.get("port") or 0)
    given = params.get("container_port")
    container_port = 4000 if given is None else int(given)
    for key, number in (("port", port), ("container_port", container_port)):
        if not 0 <= number <= 65535:
            raise ValueError(f"{where}.{key}: found {number}, expected a port from 1 to 65535.")
    if port and not container_port:
        raise ValueError(f"{where}.container_port: a published port needs the port inside the container.")
    address = str(params.get("publish_address") or "127.0.0.1")
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise ValueError(f"{where}.publish_address: found {address!r}, expected an IP address.") from error
    policy = str(params.get("restart_policy") or "unless-stopped")
    base, colon, count = policy.partition(":")
    if base not in RESTART_POLICIES or (colon and (base != "on-failure" or not count.isdigit())):
        raise ValueError(
            f"{where}.restart_policy: found {policy!r}, expected {', '.join(RESTART_POLICIES)} or on-failure:<n>."
        )
    volumes = tuple(str(volume) for volume in params.get("volumes") or ())
    for volume in volumes:
        if not 2 <= len(volume.split(":")) <= 3 or not volume.split(":")[1].startswith("/"):
            raise ValueError(f"{where}.volumes: found {volume!r}, expected source:/path/in/container[:mode].")
    return Location(
        name=name,
        image=str(params["image"]),
        command=tuple(text(word) for word in params["command"]),
        container_port=container_port,
        publish_address=address,
        port=port,
        env={str(key): text(value) for key, value in (params.get("env") or {}).items()},
        volumes=volumes,
        memory=memory,
        nano_cpus=round(float(params.get("cpus") or 0) * 1_000_000_000),
        network=network,
        networks=tuple(str(item) for item in params.get("networks") or ()),
        user=text(params.get("user")),
        restart_policy=policy,
        stop_timeout=int(params.get("stop_timeout") or 65),
        labels={str(key): text(value) for key, value in (params.get("labels") or {}).items()},
        extra_hosts={str(key): text(value) for key, value in (params.get("extra_hosts") or {}).items()},
    )


def clashes(locations: t.Sequence[Location]) -> list[str]:
    """Two locations that cannot both be: the second server on a port would start silently and flap."""
    errors: list[str] = []
    for index, second in enumerate(locations):
        for first in locations[:index]:
            if first.name == second.name:
                errors.append(f"dagster_code_locations names {first.name!r} twice; every location needs its own name.")
            elif first.port and first.port == second.port and overlap(first.publish_address, second.publish_address):
                errors.append(
                    f"dagster_code_locations[{first.name}] and [{second.name}] both publish port {first.port} on this "
                    "host; give one of them another port."
                )
    return errors


def overlap(first: str, second: str) -> bool:
    """Do two listening addresses exclude each other on one port? `::` also takes IPv4 unless told otherwise."""
    return first == second or any(ipaddress.ip_address(item).is_unspecified for item in (first, second))


# --- the state of a container, as plain data ---------------------------------------------------------------------


def _pairs(env: t.Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _equals, value in (item.partition("=") for item in env or ())}


def _bind(volume: str) -> str:
    """One spelling for `a:/b`, `a:/b:rw` and `a:/b:ro,z`; a trailing slash means nothing either."""
    parts = volume.split(":")
    modes = sorted(set(parts[2].split(",")) - {"rw", ""}) if len(parts) > 2 else []
    source, target = (part.rstrip("/") or "/" for part in parts[:2])
    return ":".join([source, target, ",".join(modes) or "rw"])


def _port(address: str, port: int | str, container_port: int | str) -> str:
    return f"{address or _ANY_ADDRESS}:{port}->{container_port}/tcp"


def config_digest(location: Location, image_id: str) -> str:
    """A digest of what can only be changed by a new container.

    Memory, CPUs, restart policy and networks are left out: they change in place, and a label cannot.
    """
    fixed = {
        "image": image_id,
        "command": location.command,
        "env": location.env,
        "volumes": sorted(_bind(volume) for volume in location.volumes),
        "port": [location.publish_address, location.port, location.container_port],
        "user": location.user,
        "network": location.network,
        "stop_timeout": location.stop_timeout,
        "labels": location.labels,
        "extra_hosts": location.extra_hosts,
    }
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:32]


def container_labels(location: Location, image_id: str) -> dict[str, str]:
    own = {LOCATION_LABEL: location.name, CONFIG_LABEL: config_digest(location, image_id)}
    return {**location.labels, **own}


def wanted_state(location: Location, image: Inspect) -> dict[str, t.Any]:
    """The state that `actual_state` shows for a container made right. What the image brings is part of it."""
    config = image.get("Config") or {}
    return {
        "image": location.image,
        "image_id": image["Id"],
        "status": "running",
        "command": list(location.command),
        "entrypoint": list(config.get("Entrypoint") or []),
        "env": {**_pairs(config.get("Env")), **location.env},
        "volumes": sorted(_bind(volume) for volume in location.volumes),
        "ports": [_port(location.publish_address, location.port, location.container_port)] if location.port else [],
        "user": location.user or config.get("User") or "",
        "stop_timeout": location.stop_timeout,
        "labels": {**(config.get("Labels") or {}), **container_labels(location, image["Id"])},
        "extra_hosts": sorted(f"{name}:{address}" for name, address in location.extra_hosts.items()),
        "main_network": location.network,
        "networks": sorted(location.all_networks),
        "memory": location.memory,
        "nano_cpus": location.nano_cpus,
        "cpu_quota": 0,
        "restart_policy": location.restart_policy,
    }


def actual_state(container: Inspect) -> dict[str, t.Any]:
    config = container.get("Config") or {}
    host = container.get("HostConfig") or {}
    ports = [
        _port(binding.get("HostIp") or "", binding.get("HostPort") or "0", str(inner).split("/", maxsplit=1)[0])
        for inner, bindings in (host.get("PortBindings") or {}).items()
        for binding in bindings or ()
    ]
    restart = host.get("RestartPolicy") or {}
    policy = restart.get("Name") or "no"
    if policy == "on-failure" and restart.get("MaximumRetryCount"):
        policy = f"{policy}:{restart['MaximumRetryCount']}"
    return {
        "image": config.get("Image") or "",
        "image_id": container.get("Image") or "",
        "status": (container.get("State") or {}).get("Status") or "unknown",
        "command": list(config.get("Cmd") or []),
        "entrypoint": list(config.get("Entrypoint") or []),
        "env": _pairs(config.get("Env")),
        "volumes": sorted(_bind(volume) for volume in host.get("Binds") or ()),
        "ports": sorted(ports),
        "user": config.get("User") or "",
        "stop_timeout": config.get("StopTimeout") or 10,
        "labels": dict(config.get("Labels") or {}),
        "extra_hosts": sorted(host.get("ExtraHosts") or ()),
        "main_network": host.get("NetworkMode") or "",
        "networks": sorted((container.get("NetworkSettings") or {}).get("Networks") or ()),
        "memory": host.get("Memory") or 0,
        "nano_cpus": host.get("NanoCpus") or 0,
        "cpu_quota": host.get("CpuQuota") or 0,
        "restart_policy": policy,
    }


# --- differences ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    field: str
    before: t.Any
    after: t.Any
    repair: str

    def __str__(self) -> str:
        return f"{self.field}: {show(self.field, self.before)} -> {show(self.field, self.after)}"


def show(name: str, value: t.Any) -> str:
    """A value for an operator's eyes; secrets are never shown."""
    if value is None:
        return "absent"
    if name.startswith("env."):
        return json.dumps(mask(name[4:], value))
    if name == "memory":
        return format_size(value)
    if name == "nano_cpus":
        return f"{value / 1_000_000_000:g}" if value else "unlimited"
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return str(value)


def _maps(name: str, actual: dict[str, str], wanted: dict[str, str], keys: t.Iterable[str]) -> list[Difference]:
    return [
        Difference(f"{name}.{key}", actual.get(key), wanted.get(key), RECREATE)
        for key in sorted(keys)
        if actual.get(key) != wanted.get(key)
    ]


def compare(
    location: Location, image: Inspect, container: Inspect, network_ids: t.Mapping[str, str] | None = None
) -> list[Difference]:
    """Every way in which a real container is not the wanted one, whoever changed it."""
    wanted = wanted_state(location, image)
    actual = actual_state(container)
    found: list[Difference] = []

    def note(name: str, repair: str) -> None:
        if actual[name] != wanted[name]:
            found.append(Difference(name, actual[name], wanted[name], repair))

    note("image_id", RECREATE)
    same_image = not found
    for name in ("command", "volumes", "ports", "user", "stop_timeout", "extra_hosts", "main_network", "cpu_quota"):
        if name != "user" or same_image or location.user:
            note(name, RECREATE)
    if same_image:
        note("entrypoint", RECREATE)
        env_keys = set(actual["env"]) | set(wanted["env"])
        label_keys = set(actual["labels"]) | set(wanted["labels"])
    else:
        # The rest of these maps is what the other image brought: no news once the image itself differs.
        env_keys, label_keys = set(location.env), set(location.labels) | {LOCATION_LABEL}
    found += _maps("env", actual["env"], wanted["env"], env_keys)
    found += _maps("labels", actual["labels"], wanted["labels"], label_keys)
    # The engine reads 0 as "leave it as it is", so a limit can be changed in place but not taken away.
    note("memory", UPDATE if wanted["memory"] else RECREATE)
    note("nano_cpus", UPDATE if wanted["nano_cpus"] else RECREATE)
    note("restart_policy", UPDATE)
    note("networks", NETWORK)
    attached = (container.get("NetworkSettings") or {}).get("Networks") or {}
    for name, known in sorted((network_ids or {}).items()):
        stale = (attached.get(name) or {}).get("NetworkID")
        if stale and stale != known:
            # The network was removed and made again under its name: this container can never start on the old one.
            found.append(Difference(f"network_id.{name}", stale[:12], known[:12], RECREATE))
    note("status", START)
    digest = f"labels.{CONFIG_LABEL}"
    if any(item.repair == RECREATE and item.field != digest for item in found):
        # The digest only says that something differs; once it is known what, it is noise.
        found = [item for item in found if item.field != digest]
    return found


def action_for(differences: t.Sequence[Difference]) -> str:
    repairs = {difference.repair for difference in differences}
    if RECREATE in repairs:
        return "recreated"
    if START in repairs:
        return "started"
    return "updated" if repairs else "none"


# --- text for --diff ----------------------------------------------------------------------------------------------


def readable(state: t.Mapping[str, t.Any], only: t.Collection[str] | None = None) -> dict[str, t.Any]:
    """The part of a state that a diff shows: strings, lists and maps of strings, secrets masked."""
    out: dict[str, t.Any] = {}
    for name, value in state.items():
        if only is not None and name not in only:
            continue
        if name == "env":
            out[name] = {key: mask(key, item) for key, item in sorted(value.items())}
        elif isinstance(value, (list, dict)):
            out[name] = value
        else:
            out[name] = show(name, value)
    return out


def to_text(data: t.Mapping[str, t.Any], indent: int = 0) -> str:
    """YAML-like text; PyYAML is not to be expected on a managed host."""
    lines: list[str] = []
    pad = "  " * indent
    for key, value in data.items():
        if isinstance(value, dict):
            lines.append(f"{pad}{key}:" + ("" if value else " {}"))
            if value:
                lines.append(to_text(value, indent + 1).rstrip("\n"))
        elif isinstance(value, (list, tuple)):
            lines.append(f"{pad}{key}:" + ("" if value else " []"))
            lines += [f"{pad}  - {item}" for item in value]
        else:
            lines.append(f"{pad}{key}: {value}")
    return "\n".join(lines) + "\n" if lines else ""


# --- who holds a port ------------------------------------------------------------------------------------------


def listener_on(listeners: t.Iterable[Listener], address: str, port: int) -> Listener | None:
    return next((item for item in listeners if item.port == port and overlap(item.address, address)), None)


def publishes(container: Inspect, address: str, port: int) -> bool:
    """Does a running container hold this host port?"""
    if not (container.get("State") or {}).get("Running"):
        return False
    bindings = ((container.get("HostConfig") or {}).get("PortBindings") or {}).values()
    return any(
        str(binding.get("HostPort")) == str(port) and overlap(binding.get("HostIp") or _ANY_ADDRESS, address)
        for items in bindings
        for binding in items or ()
    )
