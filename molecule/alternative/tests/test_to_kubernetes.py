"""The deployment outgrows its Docker host: its runs move to a Kubernetes cluster.

Last, because no engine has them after this.

The cluster is a stand-in (molecule/kubernetes_api.py) on the second host. It starts no pod.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from deployment import RIG, Dagster, Play, until

TOKEN = "not-a-real-token-of-the-launcher-5e"
HOME = "/srv/dagster/home"
KUBECONFIG = f"{HOME}/kubeconfig"
DAEMON, READ_ONLY = "dagster-daemon.service", "dagster-webserver-read-only@3200.service"
WEBSERVERS = [f"dagster-webserver@{port}.service" for port in (3100, 3101)]
VARIABLES = [
    "-e",
    "@molecule/alternative/inventory/group_vars/all.yml",
    "-e",
    "@molecule/alternative/kubernetes/variables.yml",
]
API = "/etc/kubernetes-api.json"

# What a pod does first: the run has begun.
BEGINS = """
import sys
from dagster import DagsterEvent, DagsterInstance
instance = DagsterInstance.get()
job = instance.get_run_by_id(sys.argv[1]).job_name
instance.report_dagster_event(DagsterEvent("PIPELINE_START", job), sys.argv[1])
print(instance.get_run_by_id(sys.argv[1]).status.value)
"""


@pytest.fixture(scope="module")
def in_cluster(play: Callable[..., Play]) -> Callable[..., Play]:
    """Plays with runs in the cluster."""

    def run(playbook: str, *arguments: str, ok: bool = True) -> Play:
        inventories = ["molecule/alternative/kubernetes/hosts.yml", str(RIG)]
        found = play(playbook, *VARIABLES, *arguments, ok=ok, inventories=inventories)
        assert TOKEN not in found.output
        return found

    return run


@pytest.fixture(scope="module")
def moved(in_cluster: Callable[..., Play]) -> Play:
    return in_cluster("site.yml", "--diff")


def asked(other: Any) -> list[dict[str, Any]]:
    """What the API was asked."""
    return [json.loads(line) for line in other.check_output("cat /var/log/kubernetes-api").splitlines()]


def test_second_play_changes_nothing(moved: Play, in_cluster: Callable[..., Play], other: Any) -> None:
    assert moved.changed > 0
    assert in_cluster("site.yml").changed == 0
    written = [line for line in asked(other) if line["method"] in ("POST", "PATCH") and "configmaps" in line["path"]]
    assert len(written) == 1


def test_kubeconfig_has_one_reader_and_three_units(moved: Play, host: Any) -> None:
    assert moved
    file = host.file(KUBECONFIG)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    assert host.run("sudo -u data cat %s", KUBECONFIG).rc != 0
    for unit in (DAEMON, *WEBSERVERS, READ_ONLY):
        has_it = unit != READ_ONLY
        assert (f"LoadCredential=kubeconfig:{KUBECONFIG}\n" in host.check_output("systemctl cat %s", unit)) == has_it
        pid = host.check_output("systemctl show -P MainPID %s", unit)
        variables = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", pid)
        # A replica keeps what it has read in an open file.
        named = re.findall(r"^KUBECONFIG=(.*)$", variables, re.MULTILINE)
        assert named == ([f"/run/credentials/{unit}/kubeconfig" if unit == DAEMON else f"/proc/{pid}/fd/4"] * has_it)
        assert TOKEN not in variables


def test_no_service_has_a_way_to_an_engine(moved: Play, host: Any) -> None:
    assert moved
    for unit in (DAEMON, *WEBSERVERS, READ_ONLY):
        assert "dagster_" not in host.check_output("systemctl show -P SupplementaryGroups %s", unit), unit
        pid = host.check_output("systemctl show -P MainPID %s", unit)
        assert "DOCKER_HOST" not in host.check_output("tr '\\0' '\\n' < /proc/%s/environ", pid), unit


def test_launch_reaches_the_api_and_terminate_too(moved: Play, dagster: Dagster, host: Any, other: Any) -> None:
    assert moved
    run = dagster.launch("orders_report", "pulled")
    name = f"dagster-run-{run}"

    def made() -> list[dict[str, Any]]:
        bodies = [line["body"] for line in asked(other) if line["method"] == "POST" and line["path"].endswith("/jobs")]
        return [body for body in bodies if body["metadata"]["name"] == name]

    (job,) = until(made, 120, "the Job is at the API", every=2)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert re.fullmatch(r".*:5000/pipeline@sha256:[0-9a-f]{64}", container["image"])
    assert container["resources"] == {"limits": {"memory": "2Gi"}}
    assert {"team": "data", "tier": "silver", "dagster/run-id": run}.items() <= job["metadata"]["labels"].items()
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert variables["DAGSTER_POSTGRES_USER"] == "dagster_runs"
    assert (variables["STAGE"], variables["PGPASSWORD"]) == ("cluster", "$(DAGSTER_PG_PASSWORD)")
    assert host.check_output("dagster-cli python -c %s %s", BEGINS, run) == "STARTED"
    query = "mutation($id: String!) { terminateRun(runId: $id) { __typename ... on TerminateRunFailure { message } } }"
    answer = dagster.query(query, id=run)["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess", answer
    until(
        lambda: [
            line for line in asked(other) if line["method"] == "DELETE" and line["path"].endswith(f"/jobs/{name}")
        ],
        60,
        "the Job is deleted",
        every=2,
    )
    assert TOKEN not in other.check_output("cat /var/log/kubernetes-api")


def test_login_that_was_taken_back_is_told_before_anything_is_changed(
    moved: Play, in_cluster: Callable[..., Play], other: Any
) -> None:
    assert moved
    assert in_cluster("preflight.yml").rc == 0, "the control"
    other.check_output("sed -i.before s/%s/another/ %s && systemctl restart kubernetes-api", TOKEN, API)
    try:
        until(lambda: other.run("ss -Hltn sport = 6443 | grep -q .").rc == 0, 60, "the API answers")
        refused = in_cluster("site.yml", ok=False)
        assert refused.rc != 0
        assert refused.changed == 0
        assert "does not know the login of dagster_kubeconfig (401)" in " ".join(refused.output.split())
    finally:
        other.check_output("mv %s.before %s && systemctl restart kubernetes-api", API, API)
    until(lambda: in_cluster("preflight.yml", ok=False).rc == 0, 120, "it is accepted again", every=5)
