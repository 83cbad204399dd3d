# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A kubeconfig: where the API is, who asks it, and what a host could not do with it. Pure: no I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean

VARIABLE = "dagster_kubeconfig"
FLATTEN = "kubectl config view --raw --minify --flatten shows it with all that belongs to it"
# What names a file of the machine on which the kubeconfig was made.
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
# The fields of a connection that may be shown.
PUBLIC = ("server", "name", "authority", "certificate")
LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}
PEM = {
    "certificate-authority-data": "CERTIFICATE",
    "client-certificate-data": "CERTIFICATE",
    "client-key-data": "PRIVATE KEY",
}


@dataclass(frozen=True)
class Connection:
    """How the API is reached: what anybody may know, and the login."""

    server: str  # https://HOST[:PORT][/PATH]
    name: str = ""  # in its certificate, where that is not the host's
    authority: str = ""  # PEM; empty for those that the host trusts
    token: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def host(self) -> str:
        """The host of the API, as in its URL without brackets."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.server).port or 443

    @property
    def path(self) -> str:
        """What each path of the API begins with: some managers of clusters have one."""
        return urlsplit(self.server).path.rstrip("/")

    def public(self) -> dict[str, str]:
        """What may be shown, as modules take it."""
        return {name: getattr(self, name) for name in PUBLIC}

    def login(self) -> dict[str, str]:
        """What may not."""
        return {name: text for name in ("token", "key") if (text := getattr(self, name))}


class Wrong(Exception):
    """Nothing can be read any further; the text is for the operator."""


def read(config: Any) -> tuple[Connection | None, list[str]]:
    """The connection of the current context, and sentences about what a host could not use."""
    try:
        cluster, user, context = _chosen(config)
    except Wrong as error:
        return None, [f"{VARIABLE} {error}"]
    problems = [*_cluster_problems(cluster, context), *_user_problems(user, context)]
    if problems:
        return None, [f"{VARIABLE}: {problem}" for problem in problems]
    connection = Connection(
        server=str(cluster["server"]),
        name=str(cluster.get("tls-server-name") or ""),
        authority=_decoded(cluster, "certificate-authority-data"),
        token=str(user.get("token") or ""),
        certificate=_decoded(user, "client-certificate-data"),
        key=_decoded(user, "client-key-data"),
    )
    return connection, []


def _chosen(config: Any) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """Cluster and user of the current context, and its name. Raises Wrong."""
    if not isinstance(config, Mapping) or not any(name in config for name in LISTS):
        raise Wrong(f"is no kubeconfig: it has none of {', '.join(LISTS)}; {FLATTEN}")
    named = {name: _named(config, name, key) for name, key in LISTS.items()}
    current = str(config.get("current-context") or "")
    if not current:
        raise Wrong(f"has no current-context; name one of {', '.join(named['contexts']) or 'its contexts'}")
    context = named["contexts"].get(current)
    if context is None:
        near = did_you_mean(current, named["contexts"], "; ")
        raise Wrong(f"has the current-context {current}, and no context of that name{near}")
    found = []
    for name in ("clusters", "users"):
        wanted = str(context.get(LISTS[name]) or "")
        if wanted not in named[name]:
            near = did_you_mean(wanted, named[name], "; ")
            raise Wrong(f"has no {LISTS[name]} {wanted}, which its context {current} names{near}")
        found.append(named[name][wanted])
    return found[0], found[1], current


def _named(config: Mapping[str, Any], name: str, key: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a list by their names."""
    entries = config.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise Wrong(f"has no list {name}; {FLATTEN}")
    return {str(entry.get("name")): entry.get(key) or {} for entry in entries if isinstance(entry.get(key), Mapping)}


def _cluster_problems(cluster: Mapping[str, Any], context: str) -> Iterator[str]:
    """Sentences about where the API is."""
    server = str(cluster.get("server") or "")
    try:
        parts = urlsplit(server)
        good = bool(parts.hostname) and (parts.port or 1) > 0 and not parts.query and "@" not in server
    except ValueError:
        good, parts = False, urlsplit("")
    if not good or parts.scheme not in ("http", "https"):
        shown = f" ({server})" if server and "@" not in server else ""
        yield f"the server of context {context} is no URL{shown}; for example https://10.0.0.5:6443"
    elif parts.scheme == "http":
        yield (
            f"the server of context {context} is {server}, and the login would go there in plain text; it has to be "
            "https"
        )
    yield from _forms(cluster, f"the cluster of context {context}")
    if cluster.get("insecure-skip-tls-verify"):
        yield (
            f"the cluster of context {context} has insecure-skip-tls-verify, so the login would go to whoever answers; "
            "remove it and write certificate-authority-data"
        )
    if cluster.get("proxy-url"):
        yield (
            f"the cluster of context {context} has proxy-url; hosts reach the API directly. Remove it, and let the "
            "hosts of webservers and daemon reach the server"
        )


def _user_problems(user: Mapping[str, Any], context: str) -> Iterator[str]:
    """Sentences about who asks."""
    where = f"the user of context {context}"
    for key in ("exec", "auth-provider"):
        if user.get(key):
            command = user[key].get("command") or user[key].get("name") if isinstance(user[key], Mapping) else ""
            yield (
                f"{where} logs in with {key}{f' ({command})' if command else ''}, a program that hosts do not have; "
                "use the token of a service account (docs/kubernetes.md)"
            )
            return
    found = list(_forms(user, where))
    yield from found
    pair = [bool(user.get(key)) for key in ("client-certificate-data", "client-key-data")]
    if found or user.get("token") or all(pair):
        return
    if any(pair):
        yield f"{where} has one of client-certificate-data and client-key-data; it needs both"
    else:
        yield f"{where} has no login: neither a token nor a client certificate; {FLATTEN}"


def _forms(entry: Mapping[str, Any], where: str) -> Iterator[str]:
    """Sentences about files of another machine, and about what cannot be decoded; never what is in it."""
    for key in FILES:
        if entry.get(key):
            instead = "token" if key == "tokenFile" else f"{key}-data"
            yield f"{where} names a file of another machine ({key}); write {instead} instead: {FLATTEN}"
    for key, kind in PEM.items():
        if not entry.get(key):
            continue
        try:
            good = f"{kind}-----" in _decoded(entry, key)
        except ValueError:
            good = False
        if not good:
            yield f"{where}: {key} is no {kind.lower()} (PEM) in base64"


def _decoded(entry: Mapping[str, Any], key: str) -> str:
    """The text of a field in base64. Raises ValueError."""
    text = "".join(str(entry.get(key) or "").split())
    try:
        return base64.b64decode(text, validate=True).decode()
    except binascii.Error as error:
        raise ValueError(str(error)) from error
