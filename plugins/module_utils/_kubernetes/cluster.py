# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs need in their namespace of a cluster: whether it is there, and what became of the pod of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.api import METADATA, Api, Refused, Unreachable
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.kubeconfig import Connection

# By which our ConfigMap is known.
LABELS = {"app.kubernetes.io/managed-by": "dataops.dagster"}
# What the launcher does (dagster_k8s/launcher.py, client.py): (group, resource, verbs).
RIGHTS = (
    ("batch", "jobs", ("create", "list", "delete")),
    ("batch", "jobs/status", ("get",)),
    ("", "pods", ("list", "delete")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
    ("", "configmaps", ("create",)),
)
# What our own module does with our ConfigMap: a Role may name it.
OF_OURS = ("get", "patch")
PAGE = "docs/kubernetes.md has a Role with all that is needed"


def namespaced(namespace: str, resource: str, name: str = "") -> str:
    """The path of objects of the core API."""
    return f"/api/v1/namespaces/{quote(namespace)}/{resource}" + (f"/{quote(name)}" if name else "")


def problems(where: Connection, wanted: Mapping[str, str]) -> list[str]:
    """Sentences about what a launch would meet.

    wanted: namespace, config_map, and where runs have them service_account and secret.
    """
    try:
        with Api(where) as api:
            return list(_problems(api, wanted))
    except Unreachable as error:
        return [str(error)]
    except Refused as error:
        return [_refused(api, error)]


def _refused(api: Api, error: Refused) -> str:
    if error.status == 401:
        return f"{api.place} does not know the login of dagster_kubeconfig (401); it may have expired. Make a new one"
    return f"{api.place} refuses a question of dagster_kubeconfig ({error.status}: {error})"


def _problems(api: Api, wanted: Mapping[str, str]) -> Iterator[str]:
    namespace = wanted["namespace"]
    asked = [(group, resource, verb, "") for group, resource, verbs in RIGHTS for verb in verbs]
    asked += [("", "configmaps", verb, wanted["config_map"]) for verb in OF_OURS]
    lacking = [
        " ".join(filter(None, (verb, resource, name)))
        for group, resource, verb, name in asked
        if not _may(api, namespace, group, resource, verb, name)
    ]
    if lacking:
        yield (
            f"dagster_kubeconfig may not {', '.join(lacking)} in namespace {namespace} of {api.place}; {PAGE}. Or "
            "run_launcher.config.job_namespace of dagster_config names another namespace than was meant"
        )
    found = _metadata(api, namespace, "configmaps", wanted["config_map"])
    if found and not LABELS.items() <= (found.get("labels") or {}).items():
        yield (
            f"namespace {namespace} has a ConfigMap {wanted['config_map']} of somebody else; name another one in "
            "run_launcher.config.instance_config_map of dagster_config: site.yml makes it"
        )
    for resource, kind, key in (
        ("serviceaccounts", "service account", "service_account"),
        ("secrets", "Secret", "secret"),
    ):
        if wanted.get(key) and _metadata(api, namespace, resource, wanted[key]) == {}:
            yield (
                f"namespace {namespace} has no {kind} {wanted[key]}, which run_launcher.config of dagster_config "
                "names; make it (docs/kubernetes.md), or name one that is there"
            )


def _may(api: Api, namespace: str, group: str, resource: str, verb: str, name: str) -> bool:
    """Whether the login may do something in the namespace. Nobody needs a right to ask that."""
    resource, _slash, subresource = resource.partition("/")
    asked = {
        "namespace": namespace,
        "group": group,
        "resource": resource,
        "verb": verb,
        "subresource": subresource,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool((answer.get("status") or {}).get("allowed"))


def _metadata(api: Api, namespace: str, resource: str, name: str) -> dict[str, Any] | None:
    """The metadata of an object: empty without the object, None where we may not look. Its content is not asked for."""
    try:
        answer = api.request("GET", namespaced(namespace, resource, name), accept=METADATA)
    except Refused as error:
        if error.status == 404:
            return {}
        if error.status == 403:
            return None
        raise
    return {"name": name, **(answer.get("metadata") or {})}


# The pod of a run


def run_pod(where: Connection, namespace: str, run_id: str) -> str:
    """What became of the pod of a run, as a sentence; empty when nothing is known of one."""
    job = f"dagster-run-{run_id}"
    try:
        with Api(where) as api:
            pods = api.request(
                "GET", f"{namespaced(namespace, 'pods')}?{urlencode({'labelSelector': f'job-name={job}'})}"
            )
            if said := [text for pod in pods.get("items") or [] for text in _of_pod(pod)]:
                return f"Its pod in namespace {namespace}: {'; '.join(said)}."
            query = urlencode({"fieldSelector": f"involvedObject.name={job}"})
            events = api.request("GET", f"{namespaced(namespace, 'events')}?{query}").get("items") or []
    except (Unreachable, Refused) as error:
        return f"What became of its Job {job} is not known: {error}."
    said = [str(event.get("message")) for event in events if event.get("type") == "Warning"]
    return f"Its Job {job} in namespace {namespace} has no pod: {said[-1]}." if said else ""


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    """What a pod waits for, or why it ended."""
    status = pod.get("status") or {}
    containers: Iterable[Mapping[str, Any]] = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    for container in containers:
        state = container.get("state") or {}
        for kind in ("waiting", "terminated"):
            if state.get(kind):
                parts = [str(state[kind].get(key) or "") for key in ("reason", "message")]
                code = state[kind].get("exitCode")
                yield " ".join([kind, *filter(None, parts), *([f"(exit code {code})"] if code else [])])
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"not scheduled: {condition.get('message') or condition.get('reason')}"
