# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A code location as it is wanted, and the container that the engine makes of it."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._docker.location import (
    DEFAULT_PREFIX,
    Location,
    location_from_params,
)
from ansible_collections.dataops.dagster.plugins.module_utils._docker.state import container_labels

Json = dict[str, Any]

IMAGE: Json = {
    "Id": "sha256:aaa",
    "Config": {
        "Env": ["PATH=/bin", "LANG=C"],
        "Labels": {"from": "image"},
        "Entrypoint": ["/tini", "--"],
        "User": "app",
    },
}


def wish(**changes: Any) -> Location:
    params: Json = {
        "name": "analytics",
        "image": "repo/analytics:1",
        "command": ["dagster", "api", "grpc", "-p", 4000],
        "port": "4000",
        "env": {"A": 1, "DEBUG": True},
        "volumes": ["/etc/dagster/containers:/run/dagster:ro"],
        "mem_limit": "1g",
        "cpus": "1.5",
        "networks": ["extra"],
        "labels": {"team": "data"},
        "extra_hosts": {"db": "10.0.0.1"},
        "capabilities": ["sys_ptrace"],
        "devices": ["/dev/fuse"],
        "shm_size": "256m",
        **changes,
    }
    return location_from_params(params, "dagster", DEFAULT_PREFIX)


def real(location: Location) -> Json:
    """What inspect shows for a container that the engine made from this wish."""
    return {
        "Id": "c1",
        "Name": f"/{location.container}",
        "Image": "sha256:aaa",
        "State": {"Status": "running", "Running": True},
        "Config": {
            "Image": location.image,
            "Cmd": list(location.command),
            "Entrypoint": ["/tini", "--"],
            "User": "app",
            "Env": ["A=1", "DEBUG=true", "PATH=/bin", "LANG=C"],
            "Labels": {"from": "image", **container_labels(location, "sha256:aaa")},
            "StopTimeout": 65,
        },
        "HostConfig": {
            "Binds": ["/etc/dagster/containers/:/run/dagster:ro"],
            "PortBindings": {"4000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4000"}]},
            "Memory": 1024**3,
            "NanoCpus": 1_500_000_000,
            "CpuQuota": 0,
            "NetworkMode": "dagster",
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "ExtraHosts": ["db:10.0.0.1"],
            "CapAdd": ["CAP_SYS_PTRACE"],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": location.read_only,
            "Tmpfs": {"/tmp": "mode=1777"} if location.read_only else None,
            "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}],
            "ShmSize": 256 * 1024**2,
        },
        "NetworkSettings": {"Networks": {"dagster": {"NetworkID": "n1"}, "extra": {"NetworkID": "n2"}}},
    }
