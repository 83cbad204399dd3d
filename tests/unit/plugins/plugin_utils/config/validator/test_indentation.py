"""Text without its indentation: what is told of it, and of the text as it was."""

from __future__ import annotations

import re

import pytest
from findings import findings

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import catalogue
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.indentation import Restorer
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.instance import MODERN

# Snippets of the reference document as they should be. Pasted from the page, no line has its indentation.
REFERENCE = [
    (
        "run_launcher: {module, class, config: {env_vars: [...], container_kwargs: {volumes: [...], mem_limit}}}",
        """\
run_launcher:
  module: dagster_docker
  class: DockerRunLauncher
  config:
    # Environment variables to pass
    env_vars:
      - DAGSTER_POSTGRES_USER
      - AWS_ACCESS_KEY_ID
    container_kwargs:
      volumes:
        - /tmp/dagster:/tmp/dagster
      # Resource limits
      mem_limit: "4g"
""",
    ),
    (
        "run_coordinator: {module, class, config: {tag_concurrency_limits: [{key, limit}, ...], dequeue_use_threads}}",
        """\
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    tag_concurrency_limits:
      - key: "database"
        limit: 3
      - key: "team"
        limit: 2
    dequeue_use_threads: false
""",
    ),
    (
        "compute_logs: {module, class, config: {bucket, local_dir}}",
        """\
compute_logs:
  module: dagster_aws.s3
  class: S3ComputeLogManager
  config:
    bucket: "my-dagster-logs"
    local_dir: "/tmp/dagster/logs"
""",
    ),
    (
        "schedule_storage: {module, class, config: {postgres_db: {hostname, username: {env}, db_name: {env}, port}}}",
        """\
schedule_storage:
  module: dagster_postgres.schedule_storage
  class: PostgresScheduleStorage
  config:
    postgres_db:
      hostname: postgres.example.com
      username:
        env: DAGSTER_POSTGRES_USER
      db_name:
        env: DAGSTER_POSTGRES_DB
      port: 5432
""",
    ),
    (
        "scheduler: {module, class}",
        """\
scheduler:
  module: dagster.core.scheduler
  class: DagsterDaemonScheduler
""",
    ),
    (
        "retention: {schedule: {purge_after_days}, sensor: {purge_after_days: {skipped, failure}}}",
        """\
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 7
      failure: 30
""",
    ),
]
WORKSPACE = """\
load_from:
  - grpc_server:
      host: analytics-code-server
      port: 4000
      location_name: "analytics"
  - grpc_server:
      host: ml-code-server
      port: 4000
"""


def flat(text: str) -> str:
    return re.sub(r"^ +", "", text, flags=re.MULTILINE)


def restored(text: str, kind: str = "dagster") -> str:
    return Restorer(catalogue.load(), kind, MODERN).restore(text)


def without_comments(text: str) -> str:
    return re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(("outline", "text"), REFERENCE)
def test_snippets_of_the_reference(outline: str, text: str) -> None:
    assert restored(text) == "", "nothing is lost"
    assert without_comments(restored(flat(text))) == without_comments(text)
    (error,) = subject.validate(flat(text)).errors
    assert error.hint == f"indent them: {outline}"
    assert "have lost the indentation: " in error.message
    right, told = findings(text), findings(flat(text))
    assert [finding for finding in told if finding.name != "error"] == right


def test_workspace() -> None:
    assert restored(flat(WORKSPACE), "workspace") == WORKSPACE
    (error,) = findings(flat(WORKSPACE), "workspace")
    assert error.message == (
        "lines 3 to 8 have lost the indentation: host stands beside grpc_server and belongs below it"
    )
    assert error.hint == "indent them: load_from: [{grpc_server: {host, port, location_name}}, ...]"
    one_level = WORKSPACE.replace("      ", "    ")
    assert restored(one_level, "workspace") == WORKSPACE


def test_what_else_is_wrong_is_told_at_its_own_line() -> None:
    text = """\
run_launcher:
module: dagster_k8s
class: K8sRunLauncher
config:
service_account_name: dagster-run
resources:
limits:
cpu: "2"
memory: "4Gi"
requests:
cpu: "1"
annotations:
prometheus.io/scrape: "true"
telemetry:
  enabled: 'no'
"""
    found = {error.path: (error.line, error.hint) for error in subject.validate(text).errors}
    resources = "resources: {limits: {cpu, memory}, requests: {cpu}}"
    assert f"{resources}, annotations: {{prometheus.io/scrape}}" in found["run_launcher"][1]
    assert found["run_launcher.config.annotations"] == (
        12,
        "write run_k8s_config: {pod_template_spec_metadata: {annotations: {...}}}",
    )
    assert found["run_launcher.config.instance_config_map"][0] == 4
    assert found["telemetry.enabled"][0] == 15


def test_a_part_alone_is_told_where_it_belongs() -> None:
    report = subject.validate("module: dagster_docker\nclass: DockerRunLauncher\nconfig:\nnetwork: x\n")
    assert {error.path: error.hint for error in report.errors} == {
        "module": "the indentation is lost: module belongs below run_launcher",
        "class": "the indentation is lost: class belongs below run_launcher",
        "config": "the indentation is lost: config belongs below run_launcher",
        "network": "the indentation is lost: network belongs below run_launcher.config",
    }


@pytest.mark.parametrize(
    "text",
    [
        "telemetry:\n  enabled: false\nfoo: 1\n",  # an unknown key is no child of what stands above it
        "run_launcher:\n  # all commented out\nrun_queue: {}\n",
        "telemetry:\n\tenabled: false\n",
        "telemetry:\nenabled: false\n" * 1500,
        "a:\n" * 1500,
        "- a:\n" * 1500,
        "python_logs:\n  dagster_handler_config: |\n    telemetry:\n    enabled\nbogus: 1\n",
        "",
    ],
)
def test_nothing_is_moved_that_need_not_be(text: str) -> None:
    assert restored(text) == ""


def test_accepted_files_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Restorer, "restore", lambda *_args: pytest.fail("it costs time"))
    assert subject.validate("telemetry: {enabled: false}\n").valid
