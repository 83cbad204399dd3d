"""A stand-in for the API of a Kubernetes cluster: kmock, with what it leaves out and a launch depends on.

It runs no pod and checks no object. It keeps objects, knows accounts by their tokens, lets each do what its Roles say,
and writes down what it was asked: one line of JSON a request, never a token.

    python kubernetes_api.py CONFIG

CONFIG is JSON: bind, port, certificate, key (paths), record (path), tokens (account by token) and objects (those that
an administrator has made, Roles and RoleBindings among them).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp.web
import kmock

Json = dict[str, Any]
VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
REVIEWS = "selfsubjectaccessreviews"
PLURALS = {"ServiceAccount": "v1/serviceaccounts", "Secret": "v1/secrets", "ConfigMap": "v1/configmaps"}


class Denied(kmock.KubernetesError):
    """What the API answers to somebody who may not."""


class Cluster(kmock.KubernetesEmulator):
    """The API."""

    config: Json = {}  # noqa: RUF012 - each has its own

    def made(self, config: Json) -> Cluster:
        """With what it knows from the beginning."""
        self.resources.load_bundled()
        self.config = config
        for found in config["objects"]:
            name, namespace = found["metadata"]["name"], found["metadata"].get("namespace")
            if found["kind"] in PLURALS:
                self.objects[PLURALS[found["kind"]], namespace, name] = found
        return self

    def rules(self, account: str, namespace: str | None) -> list[Json]:
        """What the Roles of a namespace let an account do."""
        objects = [found for found in self.config["objects"] if found["metadata"].get("namespace") == namespace]
        roles = {found["metadata"]["name"]: found["rules"] for found in objects if found["kind"] == "Role"}
        bound = [
            found["roleRef"]["name"]
            for found in objects
            if found["kind"] == "RoleBinding" and account in [subject["name"] for subject in found["subjects"]]
        ]
        return [rule for name in bound for rule in roles[name]]

    def may(self, account: str, namespace: str | None, group: str, resource: str, verb: str, name: str = "") -> bool:
        """Whether an account may do something."""
        return any(
            group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self.rules(account, namespace)
        )

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        status = 500
        try:
            response = await self._answer(request)
            status = response.status
            return response
        except kmock.KubernetesError as error:
            status = error.status
            raise
        finally:
            line = {"method": request.method.value, "path": str(request.url.relative()), "status": status}
            with open(self.config["record"], "a", encoding="utf-8") as stream:
                stream.write(json.dumps({**line, "body": request.data}) + "\n")

    async def _answer(self, request: Any) -> aiohttp.web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        account = self.config["tokens"].get(token)
        if account is None:
            raise Denied(status=401, reason="Unauthorized", message="Unauthorized")
        resource = request.resource
        if resource is None:
            return await super()._handle(request)
        if resource.plural == REVIEWS:
            return self._review(account, request.data)
        verb = VERBS.get(request.method.value, "get" if request.name else "list")
        plural = resource.plural + (f"/{request.subresource}" if request.subresource else "")
        if account != "admin" and not self.may(
            account, request.namespace, resource.group, plural, verb, request.name or ""
        ):
            message = f'{plural} is forbidden: User "{account}" cannot {verb} resource "{plural}"'
            raise Denied(status=403, reason="Forbidden", message=f"{message} in the namespace {request.namespace}")
        if request.namespace not in {found["metadata"]["name"] for found in self._of_kind("Namespace")}:
            raise Denied(status=404, reason="NotFound", message=f'namespaces "{request.namespace}" not found')
        if (verb, plural) == ("create", "jobs"):
            self._start(request)
        if (verb, plural) == ("list", "pods") and "labelSelector" in request.params:
            return self._pods(request)
        return await super()._handle(request)

    def _of_kind(self, kind: str) -> list[Json]:
        return [found for found in self.config["objects"] if found["kind"] == kind]

    def _review(self, account: str, review: Json) -> aiohttp.web.StreamResponse:
        asked = review["spec"]["resourceAttributes"]
        plural = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        allowed = self.may(account, asked["namespace"], asked["group"], plural, asked["verb"], asked.get("name") or "")
        return aiohttp.web.json_response({**review, "status": {"allowed": allowed}}, status=201)

    def _start(self, request: Any) -> None:
        """What the controller of Jobs does: a pod, and a status."""
        job, template = request.data, request.data["spec"]["template"]
        job["status"] = {"active": 1}
        name = job["metadata"]["name"]
        labels = {**(template["metadata"].get("labels") or {}), "job-name": name}
        (container,) = template["spec"]["containers"]
        of_the_node = {"image": container["image"], "imageID": "", "ready": False, "restartCount": 0}
        state = {"waiting": {"reason": "ContainerCreating"}}
        waiting = {"name": container["name"], "state": state, **of_the_node}
        self.objects["v1/pods", request.namespace, f"{name}-x7k2p"] = {
            "metadata": {"name": f"{name}-x7k2p", "namespace": request.namespace, "labels": labels},
            "spec": template["spec"],
            "status": {"phase": "Pending", "containerStatuses": [waiting]},
        }

    def _pods(self, request: Any) -> aiohttp.web.StreamResponse:
        name, _equals, value = request.params["labelSelector"].partition("=")
        items = [
            found.raw
            for (resource, namespace, _name), found in self.objects.items()
            if resource.plural == "pods" and namespace == request.namespace and not found.deleted
            if found.raw["metadata"]["labels"].get(name) == value
        ]
        return aiohttp.web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


async def serve(config: Json) -> None:
    """Answers until somebody ends it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config["certificate"], config["key"])
    async with Cluster().made(config) as cluster:
        runner = aiohttp.web.ServerRunner(aiohttp.web.Server(cluster))
        await runner.setup()
        await aiohttp.web.TCPSite(runner, config["bind"], config["port"], ssl_context=context).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
