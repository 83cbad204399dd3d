"""Attacks on the Docker API: each is a request that the raw engine takes, and that the gate has to refuse.

Tests without hosts send them to a gate before an engine that only listens, host tests to a real one.
"""

from __future__ import annotations

import json
from typing import Any

API = "/v1.41"


def body(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A body that differs from that of a run; a name with two underscores goes into HostConfig."""
    found = {**base, "HostConfig": dict(base["HostConfig"])}
    for name, value in changes.items():
        place = found["HostConfig"] if name.startswith("host__") else found
        place[name.removeprefix("host__")] = value
    return found


def creations(base: dict[str, Any]) -> dict[str, Any]:
    """Bodies of containers that no run has."""
    return {**of_the_host(base), **of_others(base)}


def of_the_host(base: dict[str, Any]) -> dict[str, Any]:
    """Those that reach the host."""
    mount = {"Type": "bind", "Source": "/", "Target": "/host"}
    device = {"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}
    return {
        "privileged": body(base, host__Privileged=True),
        "the host's disk": body(base, host__Binds=["/:/host"]),
        "the engine's socket": body(
            base, host__Binds=[*base["HostConfig"]["Binds"], "/run/docker.sock:/run/docker.sock"]
        ),
        "a bind that is written to": body(base, host__Binds=["/etc/dagster/containers:/run/dagster"]),
        "a bind at another path": body(base, host__Binds=["/var/lib/dagster:/etc"]),
        "secrets of another location": body(base, host__Binds=["/etc/dagster/secrets/reports:/run/secrets:ro"]),
        "a mount of the host": body(base, host__Mounts=[mount]),
        "a volume that is a mount": body(base, host__Mounts=[{**mount, "Type": "volume", "VolumeOptions": {"x": 1}}]),
        "a writable bind by a folder in memory": body(base, host__Tmpfs={"/run/dagster/": "remount,rw"}),
        "a folder in memory over the kernel's": body(base, host__Tmpfs={"/proc/sys": ""}),
        "a folder in memory over dots": body(base, host__Tmpfs={"/tmp/../proc": ""}),
        "an anonymous volume": body(base, Volumes={"/elsewhere": {}}),
        "volumes of another container": body(base, host__VolumesFrom=["c" * 64]),
        "a volume driver": body(base, host__VolumeDriver="local"),
        "a device": body(base, host__Devices=[device]),
        "a rule for devices": body(base, host__DeviceCgroupRules=["a *:* rwm"]),
        "all capabilities": body(base, host__CapAdd=["ALL"]),
        "a capability": body(base, host__CapAdd=["SYS_ADMIN"]),
        "a capability in other letters": body(base, host__CapAdd=["cap_sys_ptrace"]),
        "capabilities by their old key": body(base, host__Capabilities=["SYS_ADMIN"]),
        "no seccomp": body(base, host__SecurityOpt=["seccomp=unconfined"]),
        "no AppArmor": body(base, host__SecurityOpt=["apparmor=unconfined"]),
        "new privileges": body(base, host__SecurityOpt=["no-new-privileges:false"]),
        "system paths": body(base, host__MaskedPaths=[], host__ReadonlyPaths=[]),
        "processes of the host": body(base, host__PidMode="host"),
        "memory of the host": body(base, host__IpcMode="host"),
        "names of the host": body(base, host__UTSMode="host"),
        "users of the host": body(base, host__UsernsMode="host"),
        "an open file of the runtime": body(base, WorkingDir="/proc/self/fd/8"),
        "a library before all others": body(base, Env=["LD_PRELOAD=/srv/x.so"]),
        "devices by the environment": body(base, Env=["NVIDIA_VISIBLE_DEVICES=all"]),
        "cgroups of the host": body(base, host__CgroupnsMode="host"),
        "a cgroup of the host": body(base, host__CgroupParent="/system.slice"),
    }


def of_others(base: dict[str, Any]) -> dict[str, Any]:
    """Those that reach networks, limits, images and names which runs do not have."""
    labels = base["Labels"]
    return {
        "the network of the host": body(base, host__NetworkMode="host"),
        "the network of a container": body(base, host__NetworkMode="container:" + "c" * 64),
        "a foreign network": body(base, host__NetworkMode="bridge"),
        "a second network": body(base, NetworkingConfig={"EndpointsConfig": {"bridge": {}}}),
        "an address in a network": body(
            base, NetworkingConfig={"EndpointsConfig": {"dagster": {"IPAMConfig": {"IPv4Address": "172.30.0.2"}}}}
        ),
        "a published port": body(base, host__PortBindings={"22/tcp": [{"HostPort": "22"}]}),
        "all published ports": body(base, host__PublishAllPorts=True),
        "a link": body(base, host__Links=["db:db"]),
        "another runtime": body(base, host__Runtime="runc-debug"),
        "a kernel parameter": body(base, host__Sysctls={"net.ipv4.ip_forward": "1"}),
        "too much memory": body(base, host__Memory=1 << 50),
        "negative memory": body(base, host__Memory=-1),
        "no end of memory": body(base, host__OomKillDisable=True),
        "no limit of processes": body(base, host__PidsLimit=1 << 20),
        "a real-time limit": body(base, host__Ulimits=[{"Name": "rtprio", "Soft": 99, "Hard": 99}]),
        "a real-time share": body(base, host__CpuRealtimeRuntime=950000),
        "another log driver": body(
            base, host__LogConfig={"Type": "syslog", "Config": {"syslog-address": "udp://192.0.2.1"}}
        ),
        "an init of the host": body(base, host__InitPath="/bin/sh"),
        "a restart policy": body(base, host__RestartPolicy={"Name": "always"}),
        "a foreign image": body(base, Image="alpine:latest"),
        "an image by its number": body(base, Image="sha256:" + "0" * 64),
        "no image": {key: value for key, value in base.items() if key != "Image"},
        "an image in a list": body(base, Image=[base["Image"]]),
        "another user": body(base, User="1000"),
        "another command": body(base, Cmd=["sh", "-c", "id"]),
        "a command before Dagster's": body(base, Cmd=["sh", *base["Cmd"]]),
        "a command of another run": body(base, Cmd=[*base["Cmd"][:3], "{}"]),
        "another entry point": body(base, Entrypoint=["sh"]),
        "a health check": body(base, Healthcheck={"Test": ["CMD", "id"]}),
        "no label": body(base, Labels={}),
        "a label for a proxy": body(base, Labels={**labels, "traefik.enable": "true"}),
        "the networks of another": body(base, Labels={**labels, "dataops.dagster.networks": '["bridge"]'}),
        "a container that leaves no trace": body(base, host__AutoRemove=True),
        "a run without a number": body(base, Labels={**labels, "dagster/run_id": "x"}),
        "the label of a code server": body(base, Labels={**labels, "dataops.dagster.location": "etl"}),
        "that label in other letters": body(base, Labels={**labels, "DataOps.Dagster.Config": "x"}),
        "an oddly cased key": body(base, host__privileged=True),
        "an oddly cased HostConfig": {**base, "hostconfig": {"Privileged": True}},
        "a key with a letter that folds": {**base, "HostConfig": {**base["HostConfig"], "Bind\u017f": ["/:/host"]}},
        "a key of no engine": body(base, host__Anything=1),
        "an attached terminal": body(base, OpenStdin=True, AttachStdin=True),
        "no HostConfig": {**base, "HostConfig": None},
    }


def requests(base: dict[str, Any], own: str, foreign: str) -> dict[str, tuple[str, str, Any]]:
    """Method, target and body of what runs do not need; own is the container of a run, foreign of somebody else."""
    exec_body = {"Cmd": ["sh"], "AttachStdout": True}
    network = {"Name": "x"}
    return {
        **{name: ("POST", f"{API}/containers/create", each) for name, each in creations(base).items()},
        "exec": ("POST", f"{API}/containers/{own}/exec", exec_body),
        "start of an exec": ("POST", f"{API}/exec/{own}/start", {"Detach": False}),
        "attach": ("POST", f"{API}/containers/{own}/attach?stream=1", None),
        "logs": ("GET", f"{API}/containers/{own}/logs?stdout=1", None),
        "files out": ("GET", f"{API}/containers/{own}/archive?path=/", None),
        "files in": ("POST", f"{API}/containers/{own}/archive?path=/", None),
        "export": ("GET", f"{API}/containers/{own}/export", None),
        "commit": ("POST", f"{API}/commit?container={own}", {}),
        "update": ("POST", f"{API}/containers/{own}/update", {"Memory": 0}),
        "rename": ("POST", f"{API}/containers/{own}/rename?name=dagster-code-etl", None),
        "processes": ("GET", f"{API}/containers/{own}/top", None),
        "prune": ("POST", f"{API}/containers/prune", None),
        "build": ("POST", f"{API}/build?remote=http://192.0.2.1/x", None),
        "pull": ("POST", f"{API}/images/create?fromImage=alpine&tag=latest", None),
        "load": ("POST", f"{API}/images/load", None),
        "tag": ("POST", f"{API}/images/{base['Image']}/tag?repo=x", None),
        "image removal": ("DELETE", f"{API}/images/{base['Image']}", None),
        "images": ("GET", f"{API}/images/json", None),
        "a foreign image's data": ("GET", f"{API}/images/alpine:latest/json", None),
        "plugin": ("POST", f"{API}/plugins/pull?remote=x", []),
        "swarm": ("POST", f"{API}/swarm/init", {"ListenAddr": "0.0.0.0"}),
        "services": ("GET", f"{API}/services", None),
        "secrets": ("GET", f"{API}/secrets", None),
        "volume": ("POST", f"{API}/volumes/create", {"Name": "x", "DriverOpts": {"device": "/", "o": "bind"}}),
        "volumes": ("GET", f"{API}/volumes", None),
        "network": ("POST", f"{API}/networks/create", network),
        "network removal": ("DELETE", f"{API}/networks/dagster", None),
        "leaving a network": ("POST", f"{API}/networks/dagster/disconnect", {"Container": own}),
        "joining a foreign network": ("POST", f"{API}/networks/bridge/connect", {"Container": own}),
        "joining with a foreign container": ("POST", f"{API}/networks/dagster/connect", {"Container": foreign}),
        "joining with an address": (
            "POST",
            f"{API}/networks/dagster/connect",
            {"Container": own, "EndpointConfig": {"IPAMConfig": {"IPv4Address": "172.30.0.1"}}},
        ),
        "a foreign network's data": ("GET", f"{API}/networks/bridge", None),
        "events": ("GET", f"{API}/events", None),
        "session": ("POST", f"{API}/session", None),
        "disk usage": ("GET", f"{API}/system/df", None),
        **on_containers(base, own, foreign),
    }


def on_containers(base: dict[str, Any], own: str, foreign: str) -> dict[str, tuple[str, str, Any]]:
    """Those on containers of others, and on a run's in a way that no launcher asks for."""
    return {
        "a foreign container's data": ("GET", f"{API}/containers/{foreign}/json", None),
        "stop of a foreign container": ("POST", f"{API}/containers/{foreign}/stop", None),
        "kill of a foreign container": ("POST", f"{API}/containers/{foreign}/kill", None),
        "removal of a foreign container": ("DELETE", f"{API}/containers/{foreign}?force=1", None),
        "start with settings": ("POST", f"{API}/containers/{own}/start", {"Binds": ["/:/host"]}),
        "start under an old API": ("POST", f"/v1.23/containers/{own}/start", None),
        "a signal that is none": ("POST", f"{API}/containers/{own}/kill?signal=KILL%0a", None),
        "volumes with a removal": ("DELETE", f"{API}/containers/{own}?v=true", None),
        "a name": ("POST", f"{API}/containers/create?name=dagster-code-etl-next", base),
        "a parameter twice": ("POST", f"{API}/containers/{own}/stop?t=1&t=2", None),
        "an unknown parameter": ("POST", f"{API}/containers/{own}/stop?force=1", None),
        "a list of everything": ("GET", f"{API}/containers/json?filters=%7B%22name%22%3A%5B%22x%22%5D%7D", None),
        "a filter that comes twice": (
            "GET",
            f"{API}/containers/json?filters=%7B%22id%22%3A%5B%5D%2C%22id%22%3A%5B%5D%7D",
            None,
        ),
    }


def texts(base: dict[str, Any], own: str) -> dict[str, bytes]:
    """Whole requests that two readers could understand in two ways."""
    good = json.dumps(base).encode()
    create = f"POST {API}/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    stop = f"POST {API}/containers/{own}/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    twice = good[:-1] + b',"HostConfig":{"Privileged":true,"Binds":["/:/host"]}}'
    first = b'{"HostConfig":{"Privileged":true,"Binds":["/:/host"]},' + good[1:]
    inner = good.replace(b'"Init": true', b'"Privileged": true, "Privileged": false', 1)
    hidden = f"POST {API}/build HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    length = f"Content-Length: {len(good)}\r\n"
    plain = {
        "a key twice": create.encode() + f"Content-Length: {len(twice)}\r\n\r\n".encode() + twice,
        "a bad key before a good one": create.encode() + f"Content-Length: {len(first)}\r\n\r\n".encode() + first,
        "an inner key twice": create.encode() + f"Content-Length: {len(inner)}\r\n\r\n".encode() + inner,
        "chunks": create.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(good) + good + b"\r\n0\r\n\r\n",
        "chunks and a length": create.encode() + length.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + good,
        "two lengths": create.encode() + length.encode() + b"Content-Length: 5\r\n\r\n" + good,
        "a signed length": create.encode() + f"Content-Length: +{len(good)}\r\n\r\n".encode() + good,
        "a body that is too long": create.encode() + b"Content-Length: 99999999\r\n\r\n" + good,
        "another content type": create.replace("application/json", "text/plain").encode()
        + length.encode()
        + b"\r\n"
        + good,
        "a second request": stop.encode() + b"\r\n" + hidden,
        "a request in the body of another": stop.replace("Length: 0", f"Length: {len(hidden)}").encode()
        + b"\r\n"
        + hidden,
        "an upgrade": stop.encode() + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        "an upgrade without a connection": stop.encode() + b"Upgrade: h2c\r\n\r\n",
        "a folded header": stop.encode() + b"X-A: 1\r\n b\r\n\r\n",
        "a space before the colon": stop.replace("Content-Length:", "Content-Length :").encode() + b"\r\n",
        "a line that ends early": stop.replace("Host: x\r\n", "Host: x\n").encode() + b"\r\n",
        "a zero in a header": stop.encode() + b"X-A: a\x00b\r\n\r\n",
        "HTTP/1.0": stop.replace("HTTP/1.1", "HTTP/1.0").encode() + b"\r\n",
        "another method": stop.replace("POST", "PUT").encode() + b"\r\n",
        "small letters": stop.replace("POST", "post").encode() + b"\r\n",
        "a whole address": stop.replace(API, "http://docker" + API).encode() + b"\r\n",
        "an expectation": stop.encode() + b"Expect: 100-continue\r\n\r\n",
        "a large head": stop.encode() + b"X-A: " + b"a" * 20000 + b"\r\n\r\n",
        "deep JSON": create.encode() + b"Content-Length: 100000\r\n\r\n" + b"[" * 50000 + b"]" * 50000,
        "a number that is none": create.encode() + b"Content-Length: 7\r\n\r\n[-NaN ]",
    }
    return {**plain, **tricks(stop, own)}


def tricks(stop: str, own: str) -> dict[str, bytes]:
    """Paths that two readers could understand in two ways."""
    paths = {
        "dots": f"{API}/containers/{own}/../../build",
        "encoded dots": f"{API}/containers/{own}/%2e%2e/%2e%2e/build",
        "an encoded slash": f"{API}/containers/{own}%2fstop",
        "an encoded letter": f"{API}/containers/{own}/%73top",
        "two slashes": f"{API}//containers/{own}/stop",
        "two slashes in front": f"//{API[1:]}/containers/{own}/stop",
        "a slash at the end": f"{API}/containers/{own}/stop/",
        "a dot": f"{API}/containers/./{own}/stop",
        "capital letters": f"{API}/Containers/{own}/stop",
        "a parameter of the path": f"{API}/containers/{own}/stop;x=1",
        "a fragment": f"{API}/containers/{own}/stop#x",
        "two versions": f"{API}{API}/containers/{own}/stop",
        "a backslash": f"{API}/containers\\{own}/stop",
    }
    target = f"{API}/containers/{own}/stop"
    return {name: (stop.replace(target, path) + "\r\n").encode() for name, path in paths.items()}
