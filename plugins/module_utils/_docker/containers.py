# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Making, changing and removing the container of a code location: what the engine is asked for."""

from __future__ import annotations

import typing as t

from . import rights
from .engine import Engine, explain, sdk_errors, status_of
from .labels import CONFIG_LABEL, JOURNAL_LABELS
from .location import Location, LocationError
from .state import container_labels
from .survey import Json


def _log_config(driver: str) -> Json:
    """The lines have labels and the container's name, also where the engine's own settings do not say so."""
    config = {"labels": JOURNAL_LABELS, "tag": "{{.Name}}"}
    return {"log_config": {"Type": driver, "Config": config}} if driver else {}


def _given(**options: t.Any) -> Json:
    """Those options that say something, with lists as the SDK wants them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items() if value}


class Containers:
    """Those of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def make(self, location: Location, image: Json, name: str) -> str:
        """Create a container, attached to all its networks, not started; nothing is left of one that fails."""
        api = self.engine.api
        port = location.container_port
        try:
            made = api.create_container(
                location.image,
                list(location.command),
                name=name,
                user=location.user or None,
                environment=location.env,
                labels=container_labels(location, image["Id"]),
                ports=[port] if location.port else None,
                # Binds in host_config are enough; `volumes` would add anonymous ones.
                host_config=api.create_host_config(
                    binds=list(location.volumes),
                    port_bindings={port: (location.publish_address, location.port)} if location.port else None,
                    mem_limit=location.memory or None,
                    nano_cpus=location.nano_cpus or None,
                    network_mode=location.network,
                    restart_policy={"Name": "no"},
                    extra_hosts=location.extra_hosts or None,
                    **_log_config(location.log_driver),
                    **rights.kwargs(),
                    **rights.of_read_only(location.read_only),
                    **_given(cap_add=location.capabilities, devices=location.devices, shm_size=location.shm_size),
                ),
                networking_config=api.create_networking_config({location.network: api.create_endpoint_config()}),
                stop_timeout=location.stop_timeout,
            )
        except sdk_errors() as error:
            if status_of(error) == 409:
                raise LocationError(
                    f"The engine already has a container {name!r} that this collection did not make (it lacks the "
                    f"label {CONFIG_LABEL}). Remove or rename it, or rename {location.where}."
                ) from error
            raise LocationError(
                f"The container could not be created from {location.image}: {explain(error)}. See {location.where}."
            ) from error
        container = str(made["Id"])
        try:
            for extra in location.all_networks[1:]:
                api.connect_container_to_network(container, extra)
        except sdk_errors() as error:
            self.remove(container)
            raise LocationError(
                f"The container could not join a network: {explain(error)}. See {location.where}.networks."
            ) from error
        return container

    def connect(self, location: Location, current: Json) -> None:
        """Join the networks that it lacks, leave those that it should not be in."""
        container, wanted = current["Id"], set(location.all_networks)
        actual = set((current.get("NetworkSettings") or {}).get("Networks") or ())
        for name in sorted(wanted - actual):
            self.engine.api.connect_container_to_network(container, name)
        for name in sorted(actual - wanted):
            self.engine.api.disconnect_container_from_network(container, name)

    def stop(self, container: Json) -> None:
        """Stop it in the time that it is given."""
        timeout = (container.get("Config") or {}).get("StopTimeout") or 65
        self.engine.api.stop(container["Id"], timeout=timeout)

    def remove(self, container: str) -> None:
        """Remove it with its anonymous volumes; one that is gone already is as good."""
        try:
            self.engine.api.remove_container(container, v=True, force=True)
        except sdk_errors() as error:
            if status_of(error) != 404:
                raise

    def set_restart_policy(self, container: str, policy: str) -> None:
        """The policy, as name or on-failure:COUNT."""
        name, _colon, count = policy.partition(":")
        self._update(container, {"RestartPolicy": {"Name": name, "MaximumRetryCount": int(count or 0)}})

    def _update(self, container: str, data: Json) -> None:
        # update_container() of the SDK knows no NanoCpus.
        api = self.engine.api
        api._result(api._post_json(api._url("/containers/{0}/update", container), data=data), True)

    def limit(self, location: Location, container: str, fields: set[str]) -> None:
        """Set those of the limits that differ."""
        limits: Json = {}
        if "memory" in fields:
            # The engine refuses a memory limit above the old sum with swap; twice is what it sets by itself.
            limits.update(Memory=location.memory, MemorySwap=location.memory * 2)
        if "nano_cpus" in fields:
            limits["NanoCpus"] = location.nano_cpus
        self._update(container, limits)
