# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""K8sRunLauncher from VMs: what real Dagster asks of a cluster, and that a run has all that it needs there.

The cluster is a stand-in; the pod of a run is a process with exactly the variables of its Job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from deployment import Dagster
from fence_rig import LOGINS
from guard_postgres import Cluster
from guard_rig import PATIENCE, password, until
from kubernetes_rig import (
    ADMIN,
    CONFIG_MAP,
    DAEMON,
    IMAGE,
    NAMESPACE,
    OF_RUNS,
    TOKEN,
    WEBSERVER,
    Deployed,
    Kubernetes,
    deployed,
)

LAUNCHER: dict[str, Any] = {
    "module": "dagster_k8s",
    "class": "K8sRunLauncher",
    "config": {
        "job_namespace": NAMESPACE,
        "service_account_name": "dagster-run",
        "instance_config_map": CONFIG_MAP,
        "postgres_password_secret": "dagster-database",
        "image_pull_policy": "IfNotPresent",
        "resources": {"limits": {"memory": "2Gi"}, "requests": {"cpu": "500m"}},
        "labels": {"cost": "batch"},
        "env_vars": ["LOG_LEVEL=info"],
    },
}
CODE = """
import os, time
from dagster import *
from dagster_k8s import k8s_job_executor

@op
def say(context):
    context.log.info("stage " + os.environ["STAGE"])
    if os.environ["STAGE"] != "pay $(this)":
        raise Exception(os.environ["STAGE"])

@op
def rest():
    time.sleep(300)

@job
def plain():
    say()

@job(tags={"dagster-k8s/config": {"container_config": {"resources": {"limits": {"memory": "8Gi"}}}}})
def large():
    say()

@job
def long():
    rest()

@job(executor_def=k8s_job_executor)
def apart():
    say()

defs = Definitions(jobs=[plain, large, long, apart])
"""


@pytest.fixture(scope="module")
def site(cluster: Cluster, kubernetes: Kubernetes) -> Iterator[Deployed]:
    with deployed(cluster, kubernetes, lambda _folder: LAUNCHER, CODE) as found:
        yield found


@pytest.fixture(scope="module")
def daemon(site: Deployed) -> Iterator[Any]:
    with site.daemon(DAEMON) as process:
        yield process


@pytest.fixture(scope="module")
def ui(site: Deployed, daemon: Any) -> Iterator[Dagster]:
    assert daemon
    with site.webserver(WEBSERVER) as dagster:
        yield dagster


def launched(site: Deployed, ui: Dagster, job: str, seconds: float = 60) -> tuple[str, dict[str, Any]]:
    """A run that was launched, and its Job."""
    run = ui.launch(job, "etl")
    name = f"dagster-run-{run}"

    def made() -> list[dict[str, Any]]:
        return [found for found in site.kubernetes.jobs() if found["metadata"]["name"] == name]

    return run, until(made, seconds, f"the Job of {job} at the API; {ui.status(run)}")[0]


def failure(ui: Dagster, run: str) -> str:
    """What a run says of its end."""
    events = ui.query(
        "query($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {"
        " ... on MessageEvent { message } ... on EngineEvent { error { message causes { message } } }"
        " ... on RunFailureEvent { error { message causes { message } } } } } } }",
        id=run,
    )
    return json.dumps(events)


def test_a_run_has_in_the_cluster_what_it_needs(site: Deployed, ui: Dagster) -> None:
    run, job = launched(site, ui, "plain")
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == IMAGE, "that of the code server, by its digest in the registry"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert spec["serviceAccountName"] == "dagster-run"
    assert container["resources"] == LAUNCHER["config"]["resources"]
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        wanted = {"dataops.dagster/instance": "dagster", "cost": "batch", "team": "data"}
        assert wanted.items() <= labels.items()
        assert {"dagster/run-id": run, "dagster/job": "plain", "dagster/code-location": "etl"}.items() <= labels.items()
    given = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
    secret = {"secretKeyRef": {"name": "dagster-database", "key": "postgresql-password"}}
    assert given["DAGSTER_PG_PASSWORD"] == secret
    assert given["PGPASSWORD"] == "$(DAGSTER_PG_PASSWORD)"
    assert given["DAGSTER_POSTGRES_USER"] == LOGINS["run"]
    assert (given["STAGE"], given["LOG_LEVEL"]) == ("pay $$(this)", "info")
    assert spec["volumes"] == [{"name": "dagster-instance", "configMap": {"name": CONFIG_MAP}}]
    assert container["volumeMounts"] == [{"name": "dagster-instance", "mountPath": "/run/dagster", "readOnly": True}]
    # The control of the secrets: the words are what was looked for.
    text = json.dumps(job)
    assert "DAGSTER_POSTGRES_USER" in text
    assert not [word for word in (*site.kubernetes.tokens, *map(password, LOGINS.values())) if word in text]
    process = site.node.run(job)
    assert process.wait(120 * PATIENCE) == 0, site.node.log(job)
    ui.wait(run, "SUCCESS", 30 * PATIENCE)


def test_tags_of_a_job_change_its_resources(site: Deployed, ui: Dagster) -> None:
    _run, job = launched(site, ui, "large")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "8Gi"}


def test_terminate_deletes_job_and_pod(site: Deployed, ui: Dagster) -> None:
    """The webserver asks the API, and the node ends the process."""
    run, job = launched(site, ui, "long")
    process = site.node.run(job)
    until(lambda: ui.status(run) == "STARTED", 90, "the run has begun")
    query = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    assert ui.query(query, id=run)["terminateRun"] == {"__typename": "TerminateRunSuccess"}, failure(ui, run)
    gone = [
        line["path"].partition("?")[0].rpartition("/")[2]
        for line in site.kubernetes.asked()
        if line["method"] == "DELETE"
    ]
    assert gone[-2:] == [f"dagster-run-{run}", f"dagster-run-{run}-x7k2p"]
    site.node.end_deleted()
    assert process.wait(60 * PATIENCE) is not None
    ui.wait(run, "CANCELED", 30 * PATIENCE)


def test_steps_can_be_pods_too(site: Deployed, ui: Dagster) -> None:
    """k8s_job_executor builds the launcher in the pod of the run, with the kubeconfig of our ConfigMap."""
    site.kubernetes.objects.append(
        {
            "kind": "RoleBinding",
            "metadata": {"name": "runs", "namespace": NAMESPACE},
            "roleRef": {"name": "dagster-launcher"},
            "subjects": [{"name": "dagster-run"}],
        }
    )
    site.kubernetes.stop()
    site.kubernetes.start()
    run, job = launched(site, ui, "apart")
    before = len(site.kubernetes.jobs())
    process = site.node.run(job)
    try:
        until(lambda: len(site.kubernetes.jobs()) > before, 90, "the Job of the step")
    except AssertionError:
        raise AssertionError(site.node.log(job)) from None
    step = site.kubernetes.jobs()[-1]
    containers = [found["spec"]["template"]["spec"]["containers"][0] for found in (job, step)]
    assert {container["image"] for container in containers} == {IMAGE}
    names = [{entry["name"] for entry in container["env"]} for container in containers]
    assert names[0] <= names[1] | {"DAGSTER_RUN_JOB_NAME"}
    assert site.node.run(step).wait(120 * PATIENCE) == 0, site.node.log(step)
    assert process.wait(120 * PATIENCE) == 0, site.node.log(job)
    ui.wait(run, "SUCCESS", 30 * PATIENCE)


def test_the_control_without_that_kubeconfig(site: Deployed, ui: Dagster) -> None:
    run, job = launched(site, ui, "apart")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["env"] = [entry for entry in container["env"] if entry["name"] != "KUBECONFIG"]
    site.node.run(job).wait(120 * PATIENCE)
    ui.wait(run, "FAILURE", 30 * PATIENCE)
    assert "Invalid kube-config file" in failure(ui, run)


@pytest.mark.long  # scenario alternative looks at the units of a host
def test_nobody_else_needs_the_kubeconfig(site: Deployed, ui: Dagster) -> None:
    """Code server, read-only webserver and command line open the instance, and none of them builds the launcher."""
    assert "KUBECONFIG" not in site.environment(LOGINS["read"])
    with site.webserver(LOGINS["read"], "--read-only") as reader:
        answer = reader.query("{ runsOrError { ... on Runs { results { status } } } }")
        assert answer["runsOrError"]["results"]
    site.command_line(["run", "list"], login=LOGINS["read"])
    with pytest.raises(AssertionError, match="Invalid kube-config file"):  # the control: this one does
        site.command_line(["instance", "info"], login=LOGINS["read"])
    site.command_line(["instance", "info"], login=WEBSERVER)
    assert ui.healthy()


def test_what_the_launcher_asked_for_is_in_the_role(site: Deployed) -> None:
    """Nothing that the launcher's account has asked for was refused."""
    asked = site.kubernetes.asked()
    assert len(asked) > 10, "the control"
    assert [line for line in asked if line["status"] in (401, 403)] == []


# Faults


def test_api_away_at_a_launch(site: Deployed, ui: Dagster) -> None:
    """The launcher tries four times, then the run fails and says why. The next one starts."""
    site.kubernetes.stop()
    run = ui.launch("plain", "etl")
    ui.wait(run, "FAILURE", 120 * PATIENCE)
    assert "Connection refused" in failure(ui, run)
    site.kubernetes.start()
    launched(site, ui, "plain")


def test_api_frozen_at_a_launch(site: Deployed, ui: Dagster) -> None:
    """The request is given up, and after that there is one Job, not two."""
    site.kubernetes.freeze()
    run = ui.launch("plain", "etl")
    until(lambda: ui.status(run) == "STARTING", 30, "the daemon has taken it")
    site.kubernetes.thaw()
    name = f"dagster-run-{run}"
    until(lambda: name in [job["metadata"]["name"] for job in site.kubernetes.jobs()], 60, "the Job")
    made = [
        line
        for line in site.kubernetes.asked()
        if line["method"] == "POST" and (line["body"] or {}).get("metadata", {}).get("name") == name
    ]
    assert [line["status"] for line in made].count(200) == 1


@pytest.mark.long  # scenario alternative does it on hosts
def test_login_that_was_taken_back(site: Deployed, ui: Dagster) -> None:
    tokens = dict(site.kubernetes.tokens)
    site.kubernetes.tokens = {ADMIN: "admin", OF_RUNS: "dagster-run"}
    site.kubernetes.stop()
    site.kubernetes.start()
    try:
        run = ui.launch("plain", "etl")
        ui.wait(run, "FAILURE", 120 * PATIENCE)
        assert "401" in failure(ui, run)
        assert TOKEN not in failure(ui, run)
    finally:
        site.kubernetes.tokens = tokens
        site.kubernetes.stop()
        site.kubernetes.start()
    launched(site, ui, "plain")
