"""What is away: the database, a location, a way through a proxy. A removed location comes last."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from deployment import ROOT, Dagster, Play, until

HOME = "/srv/dagster/home"


def test_database_away_is_reported_and_survived(play: Callable[..., Play], other: Any) -> None:
    other.check_output("systemctl stop postgresql@15-main")
    try:
        failed = play("health.yml", ok=False)
        assert failed.rc != 0
        assert "dagster_database_host" in failed.output
        assert ":5433 cannot be reached" in failed.output
    finally:
        other.check_output("systemctl start postgresql@15-main")
    until(lambda: play("health.yml", ok=False).rc == 0, 150, "it is healthy again", every=5)


REACHED = "import grpc, sys; c = grpc.insecure_channel(sys.argv[1]); grpc.channel_ready_future(c).result(timeout=5)"


def test_a_company_proxy_is_harmless(host: Any, connections: dict[str, dict[str, str]]) -> None:
    """Services, code servers and runs have it and reach each other: nobody answers at the proxy of this scenario."""
    second = connections["dagster2"]["ansible_host"]
    variables = dict(
        line.split("=", 1) for line in host.file(f"{HOME}/environment").content_string.splitlines() if "=" in line
    )
    assert variables["http_proxy"] == '"http://192.0.2.1:3128"'
    exceptions = variables["no_proxy"].strip('"').split(",")
    assert exceptions[0] == ".example.com"
    assert {"127.0.0.1", "dagster1", second} <= set(exceptions)
    python = "/srv/dagster/venvs/current/bin/python"
    call = f"{python} -c '{REACHED}' {second}:4100"
    # The control: gRPC obeys the proxy where nothing is excepted.
    assert host.run(f"http_proxy=http://192.0.2.1:3128 {call}").rc != 0
    assert host.run(f"http_proxy=http://192.0.2.1:3128 no_proxy={second} {call}").rc == 0
    inside = host.check_output("docker inspect -f '{{json .Config.Env}}' dagster-code-built")
    assert "no_grpc_proxy=.example.com,localhost" in inside


def test_removed_location_takes_its_container_and_secrets_along(
    play: Callable[..., Play], dagster: Dagster, host: Any
) -> None:
    assert ROOT.exists()
    image = "{{ external_address }}:5000/pipeline:1"
    location = {"name": "pulled", "port": 4101, "package": "pipeline.definitions", "image": image}
    only = json.dumps({"dagster_code_locations": [location]})
    run_id = dagster.launch("sleep_job", "built", {"ops": {"sleep_seconds": {"config": {"seconds": 900.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has begun")
    run = host.check_output("docker ps -q --filter label=dagster/run_id=%s", run_id)
    removed = play("site.yml", "-e", only)
    assert (
        host.check_output("docker ps --filter label=dataops.dagster.location --format '{{.Names}}'")
        == "dagster-code-pulled"
    )
    words = f"{HOME}/secrets/built not needed any more, but still in use by runs in progress."
    assert words in " ".join(removed.output.split()), removed.output[-3000:]
    assert host.check_output("docker exec %s cat /run/secrets/warehouse_login", run) == "not-a-real-login-a51f"
    names = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"
    until(
        lambda: [entry["name"] for entry in dagster.query(names)["workspaceOrError"]["locationEntries"]] == ["pulled"],
        120,
        "the UI shows the one location that is left",
        every=3,
    )
    host.check_output("docker rm -f %s", run)
    assert play("site.yml", "-e", only).changed > 0
    assert not host.file(f"{HOME}/secrets/built").exists
