# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What dagster_docker_config may hold: an engine does not start with a setting that it does not know.

The keys are those of daemon.json in Docker 20.10, which Debian 12 has. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.words import kind_of

BOOLEANS = (
    *("debug", "experimental", "icc", "init", "ip-forward", "ip-masq", "ip6tables", "iptables", "ipv6", "live-restore"),
    *("no-new-privileges", "raw-logs", "selinux-enabled", "userland-proxy"),
)
NUMBERS = (
    *("cpu-rt-period", "cpu-rt-runtime", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"),
    *("mtu", "network-control-plane-mtu", "network-diagnostic-port", "oom-score-adjust", "shutdown-timeout"),
)
TEXTS = (
    *(
        "api-cors-header",
        "bridge",
        "cgroup-parent",
        "containerd",
        "containerd-namespace",
        "containerd-plugin-namespace",
    ),
    *("data-root", "default-cgroupns-mode", "default-gateway", "default-gateway-v6", "default-ipc-mode"),
    *("default-runtime", "default-shm-size", "exec-root", "fixed-cidr", "fixed-cidr-v6", "group", "init-path", "ip"),
    *("log-driver", "log-level", "metrics-addr", "pidfile", "seccomp-profile", "storage-driver"),
    *("swarm-default-advertise-addr", "userland-proxy-path"),
)
LISTS = (
    *("allow-nondistributable-artifacts", "authorization-plugins", "dns", "dns-opts", "dns-search", "exec-opts"),
    *("insecure-registries", "labels", "node-generic-resources", "registry-mirrors", "storage-opts"),
)
DICTIONARIES = ("builder", "default-ulimits", "features", "log-opts", "runtimes")
# Beside those of plugins, which have a '/' or ':' in their name.
LOG_DRIVERS = (
    *("awslogs", "fluentd", "gcplogs", "gelf", "journald", "json-file", "local", "logentries", "none", "splunk"),
    "syslog",
)
KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(BOOLEANS, (bool, "true or false")),
    **dict.fromkeys(NUMBERS, (int, "a number")),
    **dict.fromkeys(TEXTS, (str, "text")),
    **dict.fromkeys(LISTS, ((list, tuple), "a list")),
    **dict.fromkeys(DICTIONARIES, (Mapping, "a dictionary")),
}
# What we set ourselves, and the variable that changes it.
OWN = {
    "bip": "dagster_docker_bridge_address",
    "default-address-pools": "dagster_docker_address_pools",
    "userns-remap": "dagster_docker_userns_remap",
    "hosts": "dagster_docker_tls_address",
    "proxies": "dagster_proxy",
    **dict.fromkeys(("tls", "tlsverify"), "dagster_docker_tls_address"),
    "tlscacert": "dagster_docker_tls_ca",
    "tlscert": "dagster_docker_tls_cert",
    "tlskey": "dagster_docker_tls_key",
}


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Sentences about settings with which an engine of ours would not start, or not be as its other variables say."""
    found = []
    for key, value in settings.items():
        if key in OWN:
            found.append(f"dagster_docker_config: {key} is set by the collection; use {OWN[key]}")
        elif key not in KINDS:
            hint = did_you_mean(str(key), KINDS, "; ")
            found.append(f"dagster_docker_config: Docker 20.10 knows no {key}, and does not start with it{hint}")
        else:
            kind, expected = KINDS[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                found.append(f"dagster_docker_config: {key} is {kind_of(value)}; Docker takes {expected}")
            elif key == "log-opts":
                found += [
                    f"dagster_docker_config: log-opts.{name} is {kind_of(option)}; Docker takes text, so quote it"
                    for name, option in value.items()
                    if not isinstance(option, str)
                ]
            elif key == "log-driver" and value not in LOG_DRIVERS and not set(value) & set("/:"):
                found.append(
                    f"dagster_docker_config: Docker 20.10 knows no log-driver {value}, and does not start with it"
                    f"{did_you_mean(value, LOG_DRIVERS, '; ')}"
                )
    return found
