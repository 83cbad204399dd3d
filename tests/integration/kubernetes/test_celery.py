# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""CeleryK8sRunLauncher from VMs: a run is a Job like any other, and only its own process asks the broker.

The broker is a folder, so it is seen who has written into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import Dagster
from fence_rig import LOGINS
from guard_postgres import Cluster
from guard_rig import PATIENCE, password, until
from kubernetes_rig import CONFIG_MAP, DAEMON, IMAGE, NAMESPACE, WEBSERVER, Deployed, Kubernetes, deployed

CODE = """
from dagster import *
from dagster_celery_k8s import celery_k8s_job_executor

@op
def say():
    pass

@job(executor_def=celery_k8s_job_executor)
def queued():
    say()

defs = Definitions(jobs=[queued])
"""


def launcher(broker: Path) -> dict[str, Any]:
    return {
        "module": "dagster_celery_k8s",
        "class": "CeleryK8sRunLauncher",
        "config": {
            "job_namespace": NAMESPACE,
            "service_account_name": "dagster-run",
            "instance_config_map": CONFIG_MAP,
            "postgres_password_secret": "dagster-database",
            "dagster_home": "/opt/dagster/dagster_home",
            "broker": "filesystem://",
            "backend": f"file://{broker}",
            "config_source": {
                "broker_transport_options": {"data_folder_in": str(broker), "data_folder_out": str(broker)},
            },
            "labels": {"cost": "batch"},
        },
    }


@pytest.fixture(scope="module")
def site(cluster: Cluster, kubernetes: Kubernetes) -> Iterator[Deployed]:
    with deployed(cluster, kubernetes, lambda folder: launcher(folder / "broker"), CODE) as found:
        yield found


@pytest.fixture(scope="module")
def ui(site: Deployed) -> Iterator[Dagster]:
    with site.daemon(DAEMON), site.webserver(WEBSERVER) as dagster:
        yield dagster


def test_run_is_launched_finds_the_broker_and_is_terminated(site: Deployed, ui: Dagster) -> None:
    run = ui.launch("queued", "etl")
    (job,) = until(site.kubernetes.jobs, 60, f"the Job at the API; {ui.status(run)}")
    broker = site.folder / "broker"
    assert not broker.exists(), "neither webserver nor daemon has asked the broker"
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (container["image"], spec["serviceAccountName"]) == (IMAGE, "dagster-run")
    assert {"cost": "batch", "dataops.dagster/instance": "dagster"}.items() <= job["metadata"]["labels"].items()
    # It gives runs no variables, only what the cluster holds: our ConfigMap and the administrator's Secret.
    assert container["envFrom"] == [{"configMapRef": {"name": CONFIG_MAP}}, {"secretRef": {"name": "dagster-database"}}]
    assert "DAGSTER_POSTGRES_USER" not in {entry["name"] for entry in container["env"]}
    assert site.node.config_map["DAGSTER_POSTGRES_USER"] == LOGINS["run"]
    assert not [word for word in (*site.kubernetes.tokens, *map(password, LOGINS.values())) if word in json.dumps(job)]

    broker.mkdir()
    process = site.node.run(job)
    try:
        until(lambda: list(broker.glob("*.dagster.msg")), 120, "the step is at the broker")
    except AssertionError:
        raise AssertionError(site.node.log(job)) from None
    assert ui.status(run) == "STARTED"

    query = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    assert ui.query(query, id=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    # It waits for the step that no worker has taken, until its node kills it and run monitoring counts it as canceled.
    site.node.end_deleted()
    assert process.wait(60 * PATIENCE) is not None
    ui.wait(run, "CANCELED", 60 * PATIENCE)


@pytest.mark.long  # the control of the test above
def test_the_control_without_the_variables_of_our_config_map(site: Deployed, ui: Dagster) -> None:
    """The run of a launcher that knows only dagster.yaml has no address and no login of the database."""
    before = len(site.kubernetes.jobs())
    ui.launch("queued", "etl")
    until(lambda: len(site.kubernetes.jobs()) > before, 60, "the Job")
    job = site.kubernetes.jobs()[-1]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["envFrom"] = [source for source in container["envFrom"] if "secretRef" in source]
    assert site.node.run(job).wait(120 * PATIENCE) != 0
    assert "DAGSTER_POSTGRES_HOST" in site.node.log(job)
