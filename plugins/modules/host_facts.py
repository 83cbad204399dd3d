#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads in one call what the roles need to know of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Read what the roles need to know of a host
version_added: 0.1.0
description:
  - One read-only call replaces several (M(ansible.builtin.setup), M(ansible.builtin.package_facts), a look at the
    listening ports). The start of Python on the host is most of the cost of each call.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
options:
  connect:
    description:
      - Database servers that this host must reach. The module connects to each one and expects the answer of a
        database server. This needs no login.
    type: list
    elements: dict
    suboptions:
      host: {description: Name or address., type: str, required: true}
      port: {description: Port., type: int, required: true}
      dialect:
        description: The kind of database, as in C(dagster_plan.storage.dialect).
        type: str
        required: true
  paths:
    description: Paths to look for. One with C(*) is a pattern, and each path that fits it is returned.
    type: list
    elements: path
  texts:
    description: Small text files to read. Do not name a secret, because the content is shown and logged.
    type: list
    elements: path
  lines:
    description:
      - Files of which some lines are wanted, each with a regular expression. The first group of each match is returned.
        A path with C(*) is a pattern.
      - The rest of the file is not shown, so it may be somebody else's file with secrets.
    type: dict
  shells:
    description: Users whose shell is wanted.
    type: list
    elements: str
  members:
    description: Groups whose members are wanted.
    type: list
    elements: str
  resolve:
    description: Names of other hosts that this host must resolve.
    type: list
    elements: str
  peers:
    description: Addresses or names of other hosts to which this one connects.
    type: list
    elements: str
    version_added: 0.2.0
  nftables:
    description: Whether to ask the kernel if it takes rules of nftables. No package is needed for it.
    type: bool
    default: false
    version_added: 0.2.0
  engine:
    description:
      - Socket of a Docker engine to ask what it is, such as V(unix:///run/docker.sock). No package is needed for it.
    type: str
    version_added: 0.2.0
  run_id:
    description: A run of Dagster. What became of its container is asked of O(engine), or of O(kubernetes.kubeconfig).
    type: str
    version_added: 0.2.0
  kubernetes:
    description:
      - A namespace of a Kubernetes cluster in which runs start. Its API is asked whether a launch would work there.
        That changes nothing, and asks for the content of no object.
      - With O(run_id), it is asked for the pod of that run instead.
    type: dict
    version_added: 0.2.0
    suboptions:
      namespace: {description: The namespace., type: str, required: true}
      config_map: {description: "ConfigMap that is ours, or that nobody has.", type: str}
      service_account: {description: Service account that has to be there., type: str}
      secret: {description: Secret that has to be there., type: str}
      server: {description: URL of the API., type: str}
      name: {description: "Name in its certificate, where that is not the host's.", type: str}
      authority: {description: Certificate of the authority that signs for it (PEM)., type: str}
      certificate: {description: Certificate of the client (PEM)., type: str}
      kubeconfig: {description: A kubeconfig as JSON on the host. It replaces the four options above., type: path}
  kubernetes_login:
    description: Token, and key of the client's certificate, of O(kubernetes).
    type: dict
    version_added: 0.2.0
    suboptions:
      token: {description: Token., type: str}
      key: {description: Key (PEM)., type: str}
  stamps:
    description:
      - Files of which it is wanted whether somebody has written them since. A path with C(*) is a pattern.
      - With O(engine), networks of ours and images of code servers are stamped too.
    type: list
    elements: path
    version_added: 0.2.0
  certificates:
    description:
      - Certificates to read (PEM), each with the path of its key.
      - Without python3-cryptography on the host, no certificate is read.
    type: dict
  snapshot:
    description: What to read for RV(snapshot). In a path or the name of a unit, C(*) stands for any part of it.
    type: dict
    version_added: 0.2.0
    suboptions:
      places: {description: Paths., type: list, elements: path, default: []}
      units: {description: Units of systemd., type: list, elements: str, default: []}
      table: {description: A file with rules of nftables (C(path)) and the table that they make (C(table))., type: dict}
  snapshot_key: {description: 'The key by which RV(snapshot) marks what is in files.', type: str, version_added: 0.2.0}
  recent:
    description: Whether stamps may be those that preflight has read, unless this run has changed the host since.
    type: bool
    default: false
    version_added: 0.2.0
"""

EXAMPLES = r"""
- name: Read the hosts
  dataops.dagster.host_facts:
"""

RETURN = r"""
snapshot:
  description: State of files, units, rules and images (of O(engine)) for later tasks. It shows no text of a file.
  returned: with O(snapshot)
  type: dict
host:
  description: What was read, for the fact C(dagster_host). Options that were not given have no result here, so a later
    read can be merged into an earlier one.
  returned: always
  type: dict
  contains:
    distribution: {description: ID of os-release., type: str, sample: debian}
    release: {description: VERSION_CODENAME of os-release., type: str, sample: bookworm}
    memory_mb: {description: Memory of the host in MiB., type: int, sample: 7951}
    connect_errors:
      description: A sentence for each server of O(connect) that does not answer.
      type: list
      elements: str
      sample: []
    unresolved: {description: Names of O(resolve) without an address here., type: list, elements: str, sample: []}
    resolved:
      description: The addresses of each name of O(resolve) that has some here.
      type: dict
      sample: {db.example.com: [10.0.0.2]}
    sources:
      description: The address from which this host comes to each of O(peers) that it has a route to. Nothing is sent.
      type: dict
      sample: {10.0.0.2: 10.0.0.1}
    nftables:
      description: With O(nftables), why the kernel takes no rules of nftables. Empty when it does.
      type: str
      sample: ""
    replaced_kernel:
      description: >-
        With O(nftables), the release of the kernel that runs if an upgrade has removed its modules. It can load no
        module before the next boot. Empty when they are there.
      type: str
      sample: ""
    texts:
      description: The text of each file of O(texts) that exists, by path.
      type: dict
      sample: {/etc/hostname: "dagster1\n"}
    kubernetes_errors:
      description: A sentence for each thing that a launch in O(kubernetes) would lack.
      type: list
      elements: str
      sample: []
    run_container:
      description: What became of the container, or of the pod, of O(run_id). Empty if there is none.
      type: str
      sample: "Its container is exited with code 137, because it was out of memory."
    stamps:
      description: A line for each thing that O(stamps) names. It changes with the thing, and shows nothing of a secret.
      type: list
      elements: str
      sample: [/etc/dagster/dagster.yaml 5f2b7c1d9e3a4b60, network dagster 1f0c]
    lines:
      description: What was found in each file of O(lines) that exists, by path.
      type: dict
      sample: {/etc/nginx/nginx.conf: [www-data]}
    shells:
      description: The shell of each user of O(shells) that exists.
      type: dict
      sample: {dagster: /usr/sbin/nologin}
    members:
      description: The users that each group of O(members) has, if it exists. For some of them it is the primary group.
      type: dict
      sample: {dagster: [dagster]}
    packages:
      description: Installed Debian packages and their versions.
      type: dict
      sample: {nginx: 1.22.1-9}
    container_root:
      description: User number that root of a container has on the host. It is not 0 where the engine remaps users.
      type: int
      sample: 100000
    user_namespaces: {description: Whether root can make a user namespace as C(PrivateUsers=) does., type: bool}
    own_proc: {description: Whether a unit can have a C(/proc) of its own (C(ProtectProc=))., type: bool}
    engine:
      description: What the Docker engine at O(engine) says of itself, its networks, the containers of others, and which
        paths of the host the runs in progress mount. Empty if none answers. One that only a request to its socket would
        start is not asked.
      type: dict
      sample: {product: Docker, version: 20.10.24, api: "1.41", live_restore: false, log_driver: json-file, root: 0}
    certificates:
      description: Content of each certificate of O(certificates) that exists and can be read, by path.
      type: dict
      sample: {/etc/docker/tls/cert.pem: {not_after: 1827049200, names: [10.0.0.6], key_matches: true}}
    time: {description: The host's clock in seconds since 1970., type: float, sample: 1795513200.5}
    addresses:
      description: The IPv4 and IPv6 addresses of the host.
      type: list
      elements: str
      sample: [10.0.0.1, 127.0.0.1, "::1"]
    networks:
      description: The interface of each IPv4 network that the host is in.
      type: dict
      sample: {10.0.0.0/24: eth0}
    routed:
      description: IPv4 networks that are reached through a gateway. The default route is none of them.
      type: list
      elements: str
      sample: [10.20.0.0/16]
    users: {description: Names of the local users., type: list, elements: str, sample: [root]}
    groups: {description: Names of the local groups., type: list, elements: str, sample: [root]}
    listeners:
      description: TCP ports in LISTEN state.
      type: list
      elements: dict
      sample: [{port: 80, address: 127.0.0.1, process: nginx, unit: nginx.service}]
"""

import glob
import grp
import os
import pwd
import re
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS
from ansible_collections.dataops.dagster.plugins.module_utils._docker import info
from ansible_collections.dataops.dagster.plugins.module_utils._host import namespaces, netfilter, snapshot
from ansible_collections.dataops.dagster.plugins.module_utils._host.accounts import accounts
from ansible_collections.dataops.dagster.plugins.module_utils._host.certificates import certificate
from ansible_collections.dataops.dagster.plugins.module_utils._host.namespaces import container_root
from ansible_collections.dataops.dagster.plugins.module_utils._host.networks import (
    local_addresses,
    local_addresses6,
    networks,
    resolved,
    routed,
    source_to,
)
from ansible_collections.dataops.dagster.plugins.module_utils._host.proc import NOBODY, listeners, read, socket_owners
from ansible_collections.dataops.dagster.plugins.module_utils._host.stamps import stamps as stamps_of


def os_release(text: str) -> dict[str, str]:
    """The fields of an os-release file."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: value.strip().strip("\"'") for name, value in pairs}


def installed_packages(text: str) -> dict[str, str]:
    """Name and version of each installed package of a dpkg status file."""
    packages = {}
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            packages[fields["Package"]] = fields.get("Version", "")
    return packages


def memory(text: str) -> dict[str, int]:
    """MiB of each field of /proc/meminfo."""
    return {line.split(":")[0]: int(line.split()[1]) // 1024 for line in text.splitlines() if ":" in line}


def connect_error(host: str, port: int, dialect: str) -> str:
    """Why no server of this kind of database is of use there, empty when one is."""
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.settimeout(10)
            refused = DIALECTS[dialect].refused(connection)
    except OSError as error:
        return f"{host}:{port} cannot be reached from {socket.gethostname()}: {error.strerror or error}"
    return f"{host}:{port} {refused}" if refused else ""


def there(path: str) -> list[str]:
    """The paths that fit a pattern, or the path itself if it exists."""
    return sorted(glob.glob(path)) if "*" in path else [path] * os.path.exists(path)


def matches(path: str, pattern: str) -> list[str]:
    """What the first group of a pattern is in the lines of a file."""
    return [str(found[1]) for found in re.finditer(pattern, read(path), re.MULTILINE)]


def asked(
    connect: list[dict[str, Any]] | None,
    paths: list[str] | None,
    certificates: dict[str, str] | None,
    resolve: list[str] | None,
    texts: list[str] | None = None,
    engine: str | None = None,
    lines: dict[str, str] | None = None,
    stamps: list[str] | None = None,
    run_id: str | None = None,
    nftables: bool = False,
    peers: list[str] | None = None,
    kubernetes: dict[str, Any] | None = None,
    kubernetes_login: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The answers to what the options ask, without those to options that were not given."""
    found: dict[str, Any] = {}
    if paths is not None:
        found["paths"] = list(dict.fromkeys(path for pattern in paths for path in there(pattern)))
    if certificates is not None:
        read_certificates = {path: certificate(path, key) for path, key in certificates.items()}
        found["certificates"] = {path: said for path, said in read_certificates.items() if said}
    if resolve is not None:
        names = {name: resolved(name) for name in resolve}
        found["unresolved"] = [name for name, addresses in names.items() if not addresses]
        found["resolved"] = {name: addresses for name, addresses in names.items() if addresses}
    if peers is not None:
        found["sources"] = {peer: source for peer in peers if (source := source_to(peer))}
    if nftables:
        found["nftables"] = netfilter.refusal()
        found["replaced_kernel"] = netfilter.replaced_kernel()
    if texts is not None:
        found["texts"] = {path: read(path) for path in texts if os.path.isfile(path)}
    if engine is not None:
        found["engine"] = info.ask(engine)
        # An engine that runs knows better than its settings, which others may have given it on its command line.
        found.update({"container_root": found["engine"]["root"]} if found["engine"] else {})
    if kubernetes is not None:
        # For the few that have one: TLS takes longer to import than most questions to answer.
        from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.questions import answers

        found.update(answers(kubernetes, kubernetes_login or {}, run_id))
    elif run_id is not None:
        found["run_container"] = info.run_container(engine or "", run_id)
    if stamps is not None:
        found["stamps"] = [*stamps_of(stamps), *found.get("engine", {}).get("stamps", [])]
    if lines is not None:
        files = {path: expression for pattern, expression in lines.items() for path in there(pattern)}
        found["lines"] = {path: matches(path, expression) for path, expression in files.items()}
    if connect is not None:
        found["connect_errors"] = list(filter(None, (connect_error(**server) for server in connect)))
    return found


def facts() -> dict[str, Any]:
    """What is read of every host."""
    release = os_release(read("/etc/os-release"))
    mem = memory(read("/proc/meminfo"))
    found = listeners()
    owners = socket_owners({listener.inode for listener in found})
    return {
        "distribution": release.get("ID", ""),
        "release": release.get("VERSION_CODENAME", ""),
        "memory_mb": mem.get("MemTotal", 0),
        "packages": installed_packages(read("/var/lib/dpkg/status")),
        "container_root": container_root(read("/etc/docker/daemon.json"), read("/etc/subuid")),
        **namespaces.facts(),
        "users": [entry.pw_name for entry in pwd.getpwall()],
        "groups": [entry.gr_name for entry in grp.getgrall()],
        "listeners": [
            {
                "port": listener.port,
                "address": listener.address,
                "process": owners.get(listener.inode, NOBODY).process,
                "unit": owners.get(listener.inode, NOBODY).unit,
            }
            for listener in found
        ],
        "addresses": [*local_addresses(read("/proc/net/fib_trie")), *local_addresses6(read("/proc/net/if_inet6"))],
        "networks": networks(read("/proc/net/route")),
        "routed": routed(read("/proc/net/route")),
        "time": time.time(),
    }


def main() -> None:
    """Returns the facts; changes nothing."""
    kinds = {"host": "str", "port": "int", "dialect": "str"}
    server = {name: {"type": kind, "required": True} for name, kind in kinds.items()}
    text = {"type": "str"}
    names = ("config_map", "service_account", "server", "name", "authority", "certificate")
    api = {"namespace": {**text, "required": True}, **dict.fromkeys(names, text), "kubeconfig": {"type": "path"}}
    api["secret"] = {**text, "no_log": False}  # its name
    login = {"token": {**text, "no_log": True}, "key": {**text, "no_log": True}}
    module = AnsibleModule(
        argument_spec={
            "connect": {"type": "list", "elements": "dict", "options": server},
            "paths": {"type": "list", "elements": "path"},
            "texts": {"type": "list", "elements": "path"},
            "lines": {"type": "dict"},
            "shells": {"type": "list", "elements": "str"},
            "members": {"type": "list", "elements": "str"},
            "resolve": {"type": "list", "elements": "str"},
            "peers": {"type": "list", "elements": "str"},
            "nftables": {"type": "bool", "default": False},
            "engine": {"type": "str"},
            "run_id": {"type": "str"},
            "kubernetes": {"type": "dict", "options": api},
            "kubernetes_login": {"type": "dict", "no_log": True, "options": login},
            "stamps": {"type": "list", "elements": "path"},
            "certificates": {"type": "dict"},
            "snapshot": {"type": "dict", "options": snapshot.OPTIONS},
            "snapshot_key": {"type": "str", "no_log": True},
            "recent": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        required_together=[("snapshot", "snapshot_key")],
    )
    options = dict(module.params)
    options.pop("recent")  # for the controller
    wanted, key = options.pop("snapshot"), options.pop("snapshot_key")
    found = {**facts(), **accounts(options.pop("shells"), options.pop("members")), **asked(**options)}
    read = {**snapshot.take(**wanted, key=key), "images": info.images(options["engine"] or "")} if wanted else None
    module.exit_json(changed=False, host=found, **({"snapshot": read} if read else {}))


if __name__ == "__main__":
    main()
