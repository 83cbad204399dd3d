"""What is ours on an engine that is somebody else's: containers that log to the journal, and runs that are pruned.

The file comes after the first deployment by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from deployment import Dagster, Play
from snapshot import Snapshot, differences

SERVER = "dagster-code-pipeline"
UNIT = "prune-dagster-runs.service"


def inspected(host: Any, container: str) -> dict[str, Any]:
    """What the engine says of a container."""
    (found,) = json.loads(host.check_output("docker inspect %s", container))
    return dict(found)


def ended_run(dagster: Dagster) -> str:
    """A run that has ended."""
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    return run_id


def test_ours_log_to_the_journal_whatever_the_engine_does(through: Callable[[], Dagster], neighbour: Any) -> None:
    assert neighbour.check_output("docker info --format '{{.LoggingDriver}}'") == "json-file", "the control"
    run_id = ended_run(through())
    run = neighbour.check_output("docker ps -aq --filter label=dagster/run_id=%s", run_id)
    for container in (SERVER, run):
        log = inspected(neighbour, container)["HostConfig"]["LogConfig"]
        assert (log["Type"], log["Config"]["labels"].split(",")[0]) == ("journald", "dagster/run_id")
    assert inspected(neighbour, "shop")["HostConfig"]["LogConfig"]["Type"] == "json-file"
    for match in (f"CONTAINER_NAME={SERVER}", f"DAGSTER_RUN_ID={run_id}"):
        assert neighbour.check_output("journalctl --quiet --lines 1 --output cat %s", match)


def test_files_of_containers_belong_to_their_root(neighbour: Any) -> None:
    """Without user namespaces, that is root of the host."""
    assert neighbour.check_output("stat -c '%u %a' /etc/dagster/containers/mysql.cnf") == "0 400"


def test_only_runs_of_ours_are_pruned(
    through: Callable[[], Dagster], look: Callable[[], Snapshot], neighbour: Any
) -> None:
    """Another Dagster on this engine has runs with the label of the launcher, too."""
    image = inspected(neighbour, "shop")["Config"]["Image"]
    neighbour.check_output(
        "docker run --name their-run --label dagster/run_id=1 --label dagster/job_name=x %s true", image
    )
    run_id = ended_run(through())
    listed = "docker ps -aq --filter label=dagster/run_id=%s"
    assert neighbour.check_output(listed, run_id), "the control: the container of an ended run stays"
    theirs = look()
    (start,) = (line for line in neighbour.file(f"/etc/systemd/system/{UNIT}").content_string.splitlines()
                if line.startswith("ExecStart="))  # fmt: skip
    # The unit's own command, but for the age: a container cannot be made old while its engine runs.
    assert "--filter until=72h" in start
    neighbour.check_output(start.removeprefix("ExecStart=").replace("until=72h", "until=0h"))
    assert neighbour.check_output(listed, run_id) == ""
    assert neighbour.check_output("docker ps -aq --filter name=their-run") != ""
    assert [line for line in differences(theirs, look()) if "dagster run" not in line] == []
    neighbour.check_output("systemctl start %s", UNIT)
    neighbour.check_output("docker rm their-run")


def test_engine_was_neither_configured_nor_started_anew(play: Callable[..., Play], neighbour: Any) -> None:
    """Settings for an engine of ours are said to have no effect, and have none."""
    state = "systemctl show docker.service -p MainPID,ExecMainStartTimestampMonotonic,DropInPaths"
    settings = neighbour.file("/etc/docker/daemon.json").content_string
    before = neighbour.check_output(state)
    done = play("site.yml", "--tags", "docker", "-e", '{"dagster_docker_config": {"debug": true}}')
    assert "dagster_docker_config would be its settings and have no effect" in " ".join(done.output.split())
    assert done.changed == 0
    assert neighbour.check_output(state) == before
    assert neighbour.file("/etc/docker/daemon.json").content_string == settings
