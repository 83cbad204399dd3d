# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ConfigMap of an instance: what runs in a cluster read, and nothing of it is a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.api import Api, Refused
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.cluster import LABELS, namespaced


class Foreign(Exception):
    """There is one of that name, and it is somebody else's."""


def current(api: Api, namespace: str, name: str) -> dict[str, str] | None:
    """What is in it, None where there is none. Raises Foreign."""
    try:
        found = api.request("GET", namespaced(namespace, "configmaps", name))
    except Refused as error:
        if error.status != 404:
            raise
        return None
    labels: Mapping[str, Any] = (found.get("metadata") or {}).get("labels") or {}
    if not LABELS.items() <= labels.items():
        raise Foreign(f"namespace {namespace} has a ConfigMap {name} of somebody else")
    return {str(key): str(text) for key, text in (found.get("data") or {}).items()}


def write(api: Api, namespace: str, name: str, before: Mapping[str, str] | None, data: Mapping[str, str]) -> None:
    """Makes it, or changes what differs."""
    if before is None:
        metadata = {"name": name, "namespace": namespace, "labels": LABELS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}
        api.request("POST", namespaced(namespace, "configmaps"), body)
        return
    gone = dict.fromkeys(before.keys() - data.keys())
    api.request("PATCH", namespaced(namespace, "configmaps", name), {"data": {**gone, **data}})
