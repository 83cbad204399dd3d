#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reconcile the code-location containers of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: code_containers
short_description: Reconcile all code-location containers of a host
version_added: 0.1.0
author: The dataops.dagster contributors (@dataops)
description:
  - Brings every code-location container of one Docker engine to the wanted state, in one call and in parallel.
  - The list is declarative. A container made by this module whose location is not in the list is stopped and removed.
  - The module compares the wanted state with the real container, so it notices a container that was changed by hand. It
    starts a stopped container, connects a network again, and changes limits and the restart policy in place. Any other
    difference needs a new container.
  - A new container replaces the old one only after its health command succeeded. Otherwise the old one is put back and
    the task fails with the last log lines of the new one. The next call finishes a call that was killed.
  - The module tries all locations. It reports all failures together, and keeps what succeeded.
requirements:
  - "docker (Docker SDK for Python) >= 5.0.3 on the managed host; python3-docker of Debian 12 and 13 are both fine"
attributes:
  check_mode:
    description: Can run in check mode and return what would be changed without changing it.
    support: full
    details: On a host that has no engine, image or network yet, the containers are reported as to be created.
  diff_mode:
    description: Returns what differs in each container, with the values of secret-looking variables masked.
    support: full
options:
  docker_host:
    description: The address of the Docker engine.
    type: str
    default: unix:///run/docker.sock
  prefix:
    description:
      - Beginning of the containers' names. A dash and the name of the location follow.
      - Containers with another prefix belong to another instance, and are not touched.
    type: str
    default: dagster-code
    version_added: 0.2.0
  network:
    description: The Docker network that every container joins. It must exist.
    type: str
    required: true
  log_driver:
    description:
      - Log driver of the containers. Their labels, and those of runs, become fields of each line. Without it, they have
        the log driver of the engine.
    type: str
    default: ""
    version_added: 0.2.0
  images:
    description:
      - The reference of the image of each location of the instance, also of those that other hosts serve.
      - With it, RV(old_images) says whether O(dataops.dagster.code_images#module:keep) has something to do. This module
        removes no image, because it does not know whether the other hosts serve.
    type: dict
    version_added: 0.2.0
  health_command:
    description:
      - The command run inside a new or started container until it ends with 0.
      - C({container_port}) in a word is replaced by the port of the location.
    type: list
    elements: str
    default: [dagster, api, grpc-health-check, -p, "{container_port}"]
  health_timeout:
    description: Seconds that a container has to become healthy, where O(locations[].start_timeout) says nothing.
    type: int
    default: 60
  written:
    description:
      - Files that tasks before this one have written. In check mode they are not written yet, and count as newer than
        every container (O(locations[].reads)).
    type: list
    elements: path
    default: []
    version_added: 0.2.0
  locations:
    description: The code locations of this host. An empty list removes all their containers.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the location. Its container is called C(<prefix>-<name>).
        type: str
        required: true
      image:
        description: A reference or an ID of an image that this engine has.
        type: str
        required: true
      command:
        description: The complete command of the container.
        type: list
        elements: str
        required: true
      container_port:
        description: The port that the code server listens on inside the container; V(0) if it uses a socket.
        type: int
        default: 4000
      publish_address:
        description: The address of the host on which O(locations[].port) is published.
        type: str
        default: 127.0.0.1
      port:
        description: The port of the host. Nothing is published without it.
        type: int
      env:
        description: Environment variables. Booleans become V(true) and V(false).
        type: dict
        default: {}
      volumes:
        description: Bind mounts and named volumes, each C(source:/path/in/container[:mode]).
        type: list
        elements: str
        default: []
      mem_limit:
        description: The memory limit, such as V(512m), V(1g) or V(2Gi). Without it, there is no limit.
        type: str
      cpus:
        description: The number of CPUs that the container may use. Without it, there is no limit.
        type: float
      networks:
        description: Networks joined in addition to O(network).
        type: list
        elements: str
        default: []
      user:
        description: The user (and group) of the process. By default that of the image.
        type: str
      restart_policy:
        description: V(no), V(always), V(unless-stopped), V(on-failure) or V(on-failure:<n>).
        type: str
        default: unless-stopped
      stop_timeout:
        description:
          - Seconds between SIGTERM and SIGKILL when the container is stopped.
          - A code server drains its calls for up to 60 seconds.
        type: int
        default: 65
      labels:
        description: Labels of the container, in addition to those of the image and of this module.
        type: dict
        default: {}
      extra_hosts:
        description: Lines for /etc/hosts of the container, an address by its name. C(host-gateway) is the host itself.
        type: dict
        default: {}
      capabilities:
        description: Capabilities of the kernel that the container gets. Without them it has none.
        type: list
        elements: str
        default: []
        version_added: 0.2.0
      devices:
        description: Devices of the host, each C(/dev/NAME[:PATH[:PERMISSIONS]]).
        type: list
        elements: str
        default: []
        version_added: 0.2.0
      shm_size:
        description: The size of C(/dev/shm), such as V(256m). Without it, it is the engine's own.
        type: str
        version_added: 0.2.0
      read_only:
        description: Whether the root of the container is read-only. Then C(/tmp) is in memory.
        type: bool
        default: false
        version_added: 0.2.0
      start_timeout:
        description: Seconds that this container has to become healthy, instead of O(health_timeout).
        type: int
        version_added: 0.2.0
      health_command:
        description:
          - The health command of this container, instead of O(health_command).
          - Exit code 3 says that the server answers and its code is broken, so nothing is waited for any more.
        type: list
        elements: str
      reads:
        description:
          - Files of the host that the process reads at its start.
          - A container whose process is older than one of them is replaced.
        type: list
        elements: path
        default: []
        version_added: 0.2.0
"""

EXAMPLES = r"""
- name: Run the code locations of this host
  dataops.dagster.code_containers:
    network: dagster
    locations:
      - name: analytics
        image: registry.example.com/analytics:1.4.2
        command: [dagster, api, grpc, -h, 0.0.0.0, -p, "4000", -m, analytics.definitions]
        port: 4000
        env:
          DAGSTER_CURRENT_IMAGE: registry.example.com/analytics:1.4.2
        volumes: ["/etc/dagster/containers:/run/dagster:ro"]
        mem_limit: 1g
        cpus: 1.5

- name: Remove all code locations from this host
  dataops.dagster.code_containers:
    network: dagster
    locations: []
"""

RETURN = r"""
locations:
  description: One item for each location, and one for each removed container.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the location.
      type: str
      returned: always
      sample: analytics
    action:
      description: V(none), V(created), V(recreated), V(updated), V(started) or V(removed).
      type: str
      returned: always
      sample: recreated
    container_id:
      description: The ID of the container. Null if it was not created.
      type: str
      returned: always
      sample: 5f0c2a1d7c3e
    image_id:
      description: The ID of its image.
      type: str
      returned: always
      sample: sha256:dd23bee6a0e0
    differences:
      description: What was found and what was wanted, as readable text. Secrets are masked.
      type: list
      elements: str
      returned: always
      sample: ["memory: 512m -> 1g"]
old_images:
  description: Whether the engine has images that no location needs, or its record of these is not up to date.
  returned: with O(images)
  type: bool
  sample: false
failures:
  description: The locations that could not be brought to the wanted state.
  returned: on failure
  type: list
  elements: dict
  contains:
    name:
      description: The name of the location.
      type: str
      returned: always
      sample: analytics
    msg:
      description: What went wrong, with the last log lines of the container where there is one.
      type: str
      returned: always
      sample: The container dagster-code-analytics ended with exit code 1.
"""

import math
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils._docker.engine import (
    DEFAULT_ENDPOINT,
    DOCKER_IMPORT_ERROR,
    Engine,
    EngineUnavailable,
    explain,
    sdk_errors,
)
from ..module_utils._docker.forms import text
from ..module_utils._docker.health import Health
from ..module_utils._docker.images import where
from ..module_utils._docker.location import DEFAULT_PREFIX, Location, clashes, location_from_params
from ..module_utils._docker.old_images import OldImages
from ..module_utils._docker.reconcile import Outcome, on_bare_host, reconcile
from ..module_utils._docker.shown import secret_values, to_text

LOCATION = {
    "name": {"type": "str", "required": True},
    "image": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str", "required": True},
    "container_port": {"type": "int", "default": 4000},
    "publish_address": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int"},
    "env": {"type": "dict", "default": {}},
    "volumes": {"type": "list", "elements": "str", "default": []},
    "mem_limit": {"type": "str"},
    "cpus": {"type": "float"},
    "networks": {"type": "list", "elements": "str", "default": []},
    "user": {"type": "str"},
    "restart_policy": {"type": "str", "default": "unless-stopped"},
    "stop_timeout": {"type": "int", "default": 65},
    "labels": {"type": "dict", "default": {}},
    "extra_hosts": {"type": "dict", "default": {}},
    "capabilities": {"type": "list", "elements": "str", "default": []},
    "devices": {"type": "list", "elements": "str", "default": []},
    "shm_size": {"type": "str"},
    "read_only": {"type": "bool", "default": False},
    "start_timeout": {"type": "int"},
    "health_command": {"type": "list", "elements": "str"},
    "reads": {"type": "list", "elements": "path", "default": []},
}


def changed_at(path: str) -> float:
    """When a file was changed, in seconds since 1970; 0 when it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def parse(module: AnsibleModule) -> list[Location]:
    locations: list[Location] = []
    errors: list[str] = []
    written = module.params["written"] if module.check_mode else ()
    for item in module.params["locations"]:
        # The environment is not hidden as a whole: that would black out image names and ports in every output.
        env = {str(key): text(value) for key, value in (item["env"] or {}).items()}
        module.no_log_values.update(secret_values(env))
        try:
            shared = (module.params[name] for name in ("network", "prefix", "log_driver"))
            reads = {path: math.inf if path in written else changed_at(path) for path in item["reads"]}
            locations.append(location_from_params({**item, "reads": reads}, *shared))
        except ValueError as error:
            errors.append(str(error))
    errors += clashes(locations)
    if errors:
        module.fail_json(msg="\n".join(errors), changed=False, locations=[], failures=[])
    return locations


def diff(outcomes: list[Outcome]) -> dict[str, str]:
    changed = [item for item in outcomes if item.changed]
    before, after = (
        to_text({item.name: getattr(item, side) for item in changed if getattr(item, side)})
        for side in ("before", "after")
    )
    return {"before": before, "after": after}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_host": {"type": "str", "default": DEFAULT_ENDPOINT},
            "prefix": {"type": "str", "default": DEFAULT_PREFIX},
            "network": {"type": "str", "required": True},
            "log_driver": {"type": "str", "default": ""},
            "images": {"type": "dict"},
            "health_command": {
                "type": "list",
                "elements": "str",
                "default": ["dagster", "api", "grpc-health-check", "-p", "{container_port}"],
            },
            "health_timeout": {"type": "int", "default": 60},
            "written": {"type": "list", "elements": "path", "default": []},
            "locations": {"type": "list", "elements": "dict", "required": True, "options": LOCATION},
        },
        supports_check_mode=True,
        # Keeps the arguments, and with them the environment of the containers, out of the host's system log.
        no_log=True,
    )
    locations = parse(module)
    images: dict[str, t.Any] = {"old_images": False} if module.params["images"] is not None else {}
    try:
        if DOCKER_IMPORT_ERROR:
            raise EngineUnavailable(missing_required_lib("docker (Docker SDK for Python, python3-docker on Debian)"))
        engine = Engine(module.params["docker_host"], start=not module.check_mode)
        health = Health(engine, module.params["health_command"], module.params["health_timeout"])
        outcomes = reconcile(engine, locations, health, check_mode=module.check_mode, prefix=module.params["prefix"])
        if images:
            images["old_images"] = bool(OldImages(engine).change(module.params["images"]))
    except EngineUnavailable as error:
        if not module.check_mode:
            module.fail_json(msg=str(error), exception=DOCKER_IMPORT_ERROR, changed=False, locations=[], failures=[])
        module.warn(f"Nothing could be compared: {error}")
        outcomes = on_bare_host(locations)
    except sdk_errors() as error:
        module.fail_json(
            msg=f"The engine at {module.params['docker_host']} refused: {explain(error)}",
            changed=False,
            locations=[],
            failures=[],
        )
    result: dict[str, t.Any] = {
        **images,
        "changed": any(item.changed for item in outcomes),
        "locations": [item.public() for item in outcomes],
    }
    if module._diff:
        result["diff"] = diff(outcomes)
    failures = [{"name": item.name, "msg": item.error} for item in outcomes if item.error]
    if failures:
        summary = "\n".join(f"{where(item['name'])}: {item['msg']}" for item in failures)
        msg = f"{len(failures)} of {len(outcomes)} code locations failed.\n{summary}"
        module.fail_json(msg=msg, failures=failures, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
