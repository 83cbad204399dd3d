"""The container of a run as the engine has it, compared with what a run needs, and what it must not have."""

from __future__ import annotations

import json
from typing import Any

from deployment import Dagster

HOST_CONFIG = {
    "Init": True,  # a termination that comes before the run has set its handlers is not lost
    "NetworkMode": "dagster",
    "Binds": ["/etc/dagster/containers:/run/dagster:ro", "/var/lib/dagster:/var/lib/dagster"],
    "LogConfig": {
        "Type": "journald",
        "Config": {"labels": "dagster/run_id,dagster/job_name,dataops.dagster.location", "tag": "{{.Name}}"},
    },
    "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
    "AutoRemove": False,  # the launcher asks for its exit state afterwards
    "NanoCpus": 0,
    "Privileged": False,
    "CapAdd": None,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges:true"],
    "PidsLimit": 4096,
    "ReadonlyRootfs": False,
    "Devices": None,
    "GroupAdd": None,
    "PidMode": "",
    "IpcMode": "private",
    "UTSMode": "",
    "UsernsMode": "",
    "PortBindings": None,
    "PublishAllPorts": False,
}
CONFIG = {"User": "0:0", "Tty": False, "OpenStdin": False, "ExposedPorts": None}
# The values that differ between deployments; the secret stands in the file that PGPASSFILE names.
ENVIRONMENT = {
    "DAGSTER_POSTGRES_HOST": "172.30.0.1",
    "DAGSTER_POSTGRES_USER": "dagster_run",
    "PGPASSFILE": "/run/dagster/pgpass",
    "HOME": "/tmp",
    "DAGSTER_RUN_JOB_NAME": "orders_report",  # from the launcher
    "DOCKER_HOST": "none://set-step_containers-of-its-code-location-or-DOCKER_HOST-in-its-env",
}
IMAGE_NAMES = {"PATH", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONUNBUFFERED"}
LABELS = {
    "dagster/run_id",
    "dagster/job_name",
    "dataops.dagster.image",
    "dataops.dagster.networks",
    "dataops.dagster.run",
}


def test_container_of_a_run_is_as_expected(dagster: Dagster, host: Any) -> None:
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    container = host.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    found = json.loads(host.check_output("docker inspect %s", container))[0]
    made = found["HostConfig"] | {"Binds": sorted(set(found["HostConfig"]["Binds"]))}
    made["PortBindings"] = made["PortBindings"] or None
    assert {name: made.get(name) for name in HOST_CONFIG} == HOST_CONFIG
    assert {name: found["Config"].get(name) for name in CONFIG} == CONFIG
    environment = dict(entry.split("=", 1) for entry in found["Config"]["Env"])
    assert {name: environment.pop(name, None) for name in ENVIRONMENT} == ENVIRONMENT
    assert environment.keys() == IMAGE_NAMES
    assert found["Config"]["Labels"].keys() == LABELS
    assert found["Config"]["Labels"]["dagster/run_id"] == run_id
    server = json.loads(host.check_output("docker inspect dagster-code-pipeline"))[0]
    assert found["Config"]["Image"] == server["Config"]["Image"], "runs and code server are one image"
    assert found["Image"] == server["Image"]
    assert list(found["NetworkSettings"]["Networks"]) == ["dagster"]


def test_run_that_is_terminated_while_starting_ends_at_once(dagster: Dagster, host: Any) -> None:
    """Before it has set its handlers, a process 1 of its own would go on until the engine kills it."""
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 300.0}}}})
    # Asked on the host itself, because a run on an idle host starts within two seconds.
    running = f"docker ps -q --filter label=dagster/run_id={run_id} | grep ."
    stop = f"until run=$({running}); do sleep 0.05; done; docker stop --time 20 $run"
    container = host.check_output("timeout 60 sh -c %s", stop)
    assert dagster.status(run_id) == "STARTING", "it has started: the test would prove nothing"
    state = json.loads(host.check_output("docker inspect -f '{{json .State}}' %s", container))
    assert state["ExitCode"] == 143, "SIGTERM has not ended it"
    answer = dagster.query(
        "mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY)"
        " { __typename } }",
        id=run_id,
    )
    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert dagster.status(run_id) == "CANCELED"
