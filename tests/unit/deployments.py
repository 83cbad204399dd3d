"""The deployments that are played without hosts, and which of their hosts tests/unit/rendered shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]
# What site.yml has installed on a single host.
PACKAGES = (
    *("ca-certificates", "containerd", "docker.io", "haproxy", "iptables", "nftables", "nginx-light"),
    *("postgresql-15", "python3-docker", "python3-pip-whl", "python3-psycopg2", "runc"),
)
# As kubectl config view --raw --minify --flatten shows it.
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "runs", "cluster": {"server": "https://10.20.0.1:6443"}}],
    "users": [{"name": "dagster", "user": {"token": "token-of-the-launcher"}}],
    "contexts": [{"name": "runs", "context": {"cluster": "runs", "user": "dagster"}}],
    "current-context": "runs",
}


@dataclass(frozen=True)
class Deployment:
    """Inventories, what is set beside them, and what the hosts are like."""

    inventories: tuple[str, ...]
    extra: Json = field(default_factory=dict)
    playbooks: tuple[str, ...] = ("site.yml",)
    problems: tuple[str, ...] = ()  # what the health gate finds
    facts: Json = field(default_factory=dict)  # how its hosts differ from bare ones
    run_mounts: tuple[str, ...] = ()  # what runs in progress mount, on each host
    check: bool = False  # whether Ansible only checks
    contents: bool = True  # whether the content of files is shown


DEPLOYMENTS = {
    "single_host": Deployment(
        ("inventories/single_host",),
        extra={"dagster_canary": {"location": "pipeline", "job": "nightly", "run_config": {"ops": {}}, "timeout": 99}},
    ),
    "cluster": Deployment(
        ("inventories/cluster",),
        extra={"dagster_daemon_target": "ctl2"},
        playbooks=("site.yml", "daemon_switchover.yml"),
        problems=("Code location etl is still loading.",),
    ),
    "shared_address": Deployment(
        ("inventories/cluster",), extra={"dagster_vip": "10.0.0.9/24", "dagster_nginx_listen": "10.0.0.9"}
    ),
    # Certificates from an authority of the site, and a database that was told to take fewer connections.
    "supplied_certificates": Deployment(
        ("inventories/cluster",),
        extra={
            "dagster_postgres_max_connections": 300,
            "dagster_docker_tls_ca": "authority",
            "dagster_docker_tls_cert": "engine's certificate",
            "dagster_docker_tls_key": "engine's key",
            "dagster_docker_tls_client_cert": "client's certificate",
            "dagster_docker_tls_client_key": "client's key",
        },
    ),
    # The other database.
    "mariadb": Deployment(("inventories/cluster",), extra={"dagster_database_engine": "mysql"}),
    # What a check says to bare hosts.
    "check": Deployment(("inventories/cluster",), check=True, contents=False),
    # The same again: what a second run asks for. The content of its files is that of the first.
    "second_run": Deployment(
        ("inventories/single_host",),
        facts={
            "packages": dict.fromkeys(PACKAGES, "1"),
            "listeners": [
                {"port": port, "address": "127.0.0.1", "process": "x", "unit": unit}
                for port, unit in (
                    (3000, "dagster-webserver@3000.service"),
                    (3001, "dagster-webserver@3001.service"),
                    (5432, "postgresql@15-dagster.service"),
                    (8080, "nginx.service"),
                )
            ],
            "container_root": 100000,
            "users": ["root", "dagster", "dagster_gate"],
            "groups": ["root", "dagster", "dagster_gate", "dagster_inspect", "dagster_launch"],
            # The proxies shared an address before.
            "paths": [
                *("/opt/dagster/1.13.27/.complete", "/usr/local/lib/dagster/edge.sh"),
                *("/etc/postgresql/15/dagster/postgresql.conf", "/etc/postgresql/15/dagster/conf.d/dagster.conf"),
                "/usr/local/lib/dagster/installed/.complete",
                "/etc/dagster/secrets/gone",
                *(f"/usr/local/lib/dagster/installed/{name}" for name in PACKAGES),
            ],
            "texts": {"/usr/local/lib/dagster/edge.url": "http://127.0.0.1:8080\n"},
            "addresses": ["10.0.0.1", "172.30.0.1"],
        },
        contents=False,
    ),
    # An engine that an earlier release let listen for other hosts. Compute logs in a store whose login is a key,
    # where that of an earlier one was a file.
    "engine_closes": Deployment(
        ("inventories/cluster",),
        extra={
            "dagster_config": {
                "compute_logs": {
                    "module": "dagster_azure.blob",
                    "class": "AzureBlobComputeLogManager",
                    "config": {"storage_account": "account", "container": "logs"},
                }
            },
            "dagster_compute_logs_login": "YW5vdGhlciBrZXk=",
            "dagster_secret_environment": {},
        },
        facts={
            "paths": [
                *("/etc/systemd/system/docker.service.d/10-dagster-tls.conf", "/etc/dagster/docker/key.pem"),
                *("/opt/dagster/1.13.27/.complete", "/opt/dagster/1.13.27/.complete-azure"),
                *("/etc/dagster/compute_logs.login", "/etc/dagster/code/compute_logs.login"),
                *("/usr/local/lib/dagster/installed/.complete", "/usr/local/lib/dagster/installed/docker.io"),
            ]
        },
    ),
    # Every default changed.
    "alternative": Deployment(
        ("molecule/alternative/inventory",),
        # In an unprivileged container, in which a unit gets no user namespace and no /proc of its own.
        facts={"paths": ["/dev/null"], "user_namespaces": False, "own_proc": False},
        extra={
            "dagster_ca_certificates": [str(ROOT / "tests/unit/rendered/site-ca.crt")],
            "external_address": "10.0.0.2",
            "log_login": '{"type": "service_account"}',
            "pipeline_build_args": {},
            "pipeline_base_archive": "",
        },
    ),
    # Runs in a cluster that is there.
    "kubernetes": Deployment(
        ("examples/kubernetes/inventory",),
        extra={"dagster_kubeconfig": KUBECONFIG, "dagster_webserver_read_only_port": 3002},
    ),
}
# Which hosts are shown: one of those that get the same.
SHOWN = {
    "single_host": ["dagster1"],
    "cluster": ["db", "edge1", "ctl1", "ctl2", "run"],
    "supplied_certificates": ["ctl1", "edge1", "run"],
    "mariadb": ["db", "ctl1", "run"],
    "check": ["db", "edge1", "ctl1", "run"],
    "second_run": ["dagster1"],
    "shared_address": ["edge1", "edge2"],
    "engine_closes": ["edge1", "run"],
    "alternative": ["dagster1", "dagster2"],
    "kubernetes": ["db", "web", "ctl1"],
}


def bare_host() -> Json:
    """What host_facts finds on a machine that was just installed."""
    return {
        "distribution": "debian",
        "release": "bookworm",
        "memory_mb": 8000,
        "packages": {},
        "listeners": [],
        "connect_errors": [],
        "certificates": {},
        "container_root": 0,
        "user_namespaces": True,
        "own_proc": True,
        "users": ["root"],
        "groups": ["root"],
        "paths": [],
        "texts": {},
        "addresses": [],
        "networks": {"10.0.0.0/24": "eth0"},
    }
