# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the container of a code location should be: the module's options, checked and normalised."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, field

from .._addresses import overlap
from . import forms
from .forms import text

DEFAULT_PREFIX = "dagster-code"  # that of the instance with the default name
# A swap in progress: the new container before it takes the name, the old one until the new one is healthy.
NEXT_SUFFIX = "-next"
PREVIOUS_SUFFIX = "-previous"

Read = t.TypeVar("Read")
RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")

_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")


class LocationError(Exception):
    """One location could not be brought to the wanted state."""


@dataclass(frozen=True)
class Location:
    """One wanted container, every value normalised."""

    prefix: str
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
    log_driver: str = ""  # that of the engine
    capabilities: tuple[str, ...] = ()  # added ones
    devices: tuple[str, ...] = ()
    shm_size: int = 0  # that of the engine
    read_only: bool = False  # its root
    # What the new container is asked until it is healthy, and for how many seconds; without these what the call says.
    start_timeout: int = 0
    health_command: tuple[str, ...] = ()
    reads: dict[str, float] = field(default_factory=dict)  # files that its process reads, and when each was changed

    @property
    def where(self) -> str:
        """Where an operator finds it."""
        return f"dagster_code_locations[{self.name}]"

    @property
    def container(self) -> str:
        return f"{self.prefix}-{self.name}"

    @property
    def all_networks(self) -> list[str]:
        return [self.network] + [name for name in self.networks if name != self.network]


def restart_policy(value: t.Any, where: str) -> str:
    """When the engine starts a container again; ValueError for what it does not know."""
    policy = str(value or "unless-stopped")
    base, colon, count = policy.partition(":")
    if base not in RESTART_POLICIES or (colon and (base != "on-failure" or not count.isdigit())):
        raise ValueError(
            f"{where}.restart_policy: found {policy!r}, expected {', '.join(RESTART_POLICIES)} or on-failure:<n>."
        )
    return policy


def location_from_params(params: t.Mapping[str, t.Any], network: str, prefix: str, log_driver: str = "") -> Location:
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
    policy = restart_policy(params.get("restart_policy"), where)
    return Location(
        prefix=prefix,
        name=name,
        image=str(params["image"]),
        command=tuple(text(word) for word in params["command"]),
        container_port=container_port,
        publish_address=address,
        port=port,
        env={str(key): text(value) for key, value in (params.get("env") or {}).items()},
        volumes=_read(params, "volumes", where, _volumes),
        memory=_read(params, "mem_limit", where, forms.parse_size),
        nano_cpus=round(float(params.get("cpus") or 0) * 1_000_000_000),
        network=network,
        networks=tuple(str(item) for item in params.get("networks") or ()),
        user=text(params.get("user")),
        restart_policy=policy,
        stop_timeout=int(params.get("stop_timeout") or 65),
        labels=_read(params, "labels", where, forms.labels),
        extra_hosts=_read(params, "extra_hosts", where, forms.extra_hosts),
        log_driver=log_driver,
        capabilities=tuple(sorted({forms.capability(item) for item in params.get("capabilities") or ()})),
        devices=_read(params, "devices", where, _devices),
        shm_size=_read(params, "shm_size", where, forms.parse_size),
        read_only=bool(params.get("read_only")),
        start_timeout=int(params.get("start_timeout") or 0),
        health_command=tuple(params.get("health_command") or ()),
        reads=dict(params.get("reads") or {}),
    )


def _read(params: t.Mapping[str, t.Any], key: str, where: str, form: t.Callable[[t.Any], Read]) -> Read:
    """An option in the form that the engine takes; ValueError names it."""
    try:
        return form(params.get(key))
    except ValueError as error:
        raise ValueError(f"{where}.{key}: {error}.") from error


def _volumes(values: t.Iterable[t.Any] | None) -> tuple[str, ...]:
    for value in values or ():
        forms.volume(str(value))
    return tuple(str(value) for value in values or ())


def _devices(values: t.Iterable[t.Any] | None) -> tuple[str, ...]:
    return tuple(sorted(forms.device(value) for value in values or ()))


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
