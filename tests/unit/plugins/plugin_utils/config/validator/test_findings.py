"""What the validator says. tests/validator asks Dagster whether it is right."""

from __future__ import annotations

from typing import Any

import pytest
from findings import findings

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import catalogue
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.report import Finding


def only(text: str | bytes, kind: str = "dagster", **options: Any) -> Finding:
    (finding,) = findings(text, kind, **options)
    return finding


def test_catalogues_of_the_supported_minors() -> None:
    assert catalogue.minors() == ["1.13", "1.12", "1.11"]
    assert catalogue.load().version.startswith("1.13.")
    assert catalogue.load("1.12.3").version.startswith("1.12.")
    with pytest.raises(ValueError, match=r"1\.9\.1 has no catalogue; there are ones for 1\.13"):
        catalogue.load("1.9.1")


def test_keys_and_classes() -> None:
    known = catalogue.load("1.13")
    assert len(known.top_level) == 26
    usable = {name for name, entry in known.classes.items() if "unusable" not in entry and "test" not in name}
    assert len(usable) == 34
    assert known.classes["dagster_docker.docker_run_launcher:DockerRunLauncher"]["resume"] is True
    celery = known.classes["dagster_celery_k8s.launcher:CeleryK8sRunLauncher"]
    assert "job_image" in celery["rejects"]
    assert celery["needs"] == ["postgres_password_secret"]


def test_a_finding_names_place_found_allowed_and_nearest() -> None:
    text = "telemetry:\n  enabled: false\nrun_luancher:\n  module: dagster\n"
    finding = only(text)
    assert (finding.line, finding.path) == (3, "run_luancher")
    assert "run_luancher, which does not exist" in finding.message
    assert "expected one of: auto_materialize" in finding.message
    assert finding.hint == "did you mean run_launcher?"


@pytest.mark.parametrize(
    ("text", "line", "path", "message", "hint"),
    [
        (
            "run_monitoring:\n  poll_interval_seconds: '5'",
            2,
            "run_monitoring.poll_interval_seconds",
            "the text '5'; expected a whole number",
            "write 5 without quotes",
        ),
        ("telemetry: {enabled: 'no'}", 1, "telemetry.enabled", "expected true or false", "write no without quotes"),
        (
            "run_monitoring: {poll_interval_seconds: 5.0}",
            1,
            "run_monitoring.poll_interval_seconds",
            "the number 5.0",
            "write 5",
        ),
        ("run_queue: {max_concurrent_runs: on}", 1, "run_queue.max_concurrent_runs", "true (written on)", ""),
        (
            "python_logs: {managed_python_loggers: root}",
            1,
            "python_logs.managed_python_loggers",
            "expected a list",
            "write [root]",
        ),
        ("on: 1", 1, "True", "found the key True; expected text", "quote the key"),
        (
            "run_launcher:\n  module: dagster_dokcer\n  class: DockerRunLauncher",
            2,
            "run_launcher.module",
            "dagster_dokcer",
            "module: dagster_docker, class: DockerRunLauncher",
        ),
        (
            "run_launcher:\n  module: dagster_docker\n  class: DockerRunLancher",
            3,
            "run_launcher.class",
            "DockerRunLancher",
            "did you mean module: dagster_docker, class: DockerRunLauncher?",
        ),
        (
            "compute_logs: {module: dagster_docker, class: DockerRunLauncher}",
            1,
            "compute_logs.class",
            "is for run_launcher",
            "dagster_aws.s3:S3ComputeLogManager",
        ),
        (
            "run_launcher: {module: mine.dagster, class: L}",
            1,
            "run_launcher.module",
            "mine.dagster",
            "custom_module:mine",
        ),
        ("storage: {sqlite: {base_dir: {env: A, x: 1}}}", 1, "storage.sqlite.base_dir", "text or {env: NAME}", ""),
        (
            "storage: {sqlite: {base_dir: {environment: A}}}",
            1,
            "storage.sqlite.base_dir.environment",
            "'environment'",
            "",
        ),
        ("data_retention: {}", 1, "data_retention", "data_retention", "write retention"),
        ("telemetry:\n\tenabled: false", 2, "", "cannot be read", "spaces, never with tabs"),
        ("telemetry: !vault x", 1, "", "cannot be read", "{env: NAME}"),
        ("a: b\n---\nc: d", 2, "", "second document", "one file holds one document"),
        ("telemetry: {{ x }}", 1, "", "as a key", "quoted"),
        (b"telemetry: \xff", 1, "", "no UTF-8", "UTF-8"),
        (
            "run_queue: {}\nrun_coordinator: {module: dagster, class: QueuedRunCoordinator}",
            1,
            "run_queue",
            "only one of them",
            "which is the default",
        ),
        ("concurrency: {pools: {granularity: step}}", 1, "concurrency.pools.granularity", "expected run or op", ""),
        ("concurrency: {pools: {default_limit: 5000}}", 1, "concurrency.pools.default_limit", "from 0 to 1000", ""),
        (
            "run_monitoring: {enabled: true, max_resume_run_attempts: 1}",
            1,
            "run_monitoring.max_resume_run_attempts",
            "DefaultRunLauncher cannot resume",
            "0",
        ),
        (
            "storage: {postgres: {postgres_url: 'x'}}",
            1,
            "storage.postgres.postgres_url",
            "no database URL",
            "postgresql://",
        ),
    ],
)
def test_errors(text: str, line: int, path: str, message: str, hint: str) -> None:
    report = subject.validate(text)
    finding = report.errors[0]
    assert (finding.line, finding.path) == (line, path)
    assert message in finding.message
    assert hint in finding.hint
    assert not report.accepted_by_dagster
    assert not report.valid


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("telemetry: {}\ntelemetry: {}", "duplicate_key", "telemetry"),
        (
            "storage: {mysql: {mysql_db: {hostname: h, username: u, password: hunter2, db_name: d}}}",
            "literal_secret",
            "storage.mysql.mysql_db.password",
        ),
        (
            "run_storage: {module: dagster_postgres, class: PostgresRunStorage, config: {postgres_url: {env: U}}}",
            "partial_legacy_storage",
            "run_storage",
        ),
    ],
)
def test_refusals_can_be_allowed_by_name(text: str, name: str, path: str) -> None:
    report = subject.validate(text)
    (finding,) = report.refusals
    assert (finding.name, finding.path) == (name, path)
    assert report.accepted_by_dagster
    assert not report.valid
    for allowed in (name, f"{name}:{path}"):
        assert subject.validate(text, allow=[allowed]).valid
    assert not subject.validate(text, allow=[f"{name}:elsewhere"]).valid
    assert "hunter2" not in str(report.as_dict())


DOCKER = "run_launcher:\n  module: dagster_docker\n  class: DockerRunLauncher\n  config:\n"
AROUND = (
    "storage: {postgres: {postgres_url: 'postgresql://u@h/d'}}\nrun_monitoring: {enabled: true}\n"
    "compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}\n"
)


COORDINATOR = "run_coordinator:\n  module: dagster\n  class: QueuedRunCoordinator\n  config:\n"


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        (
            AROUND + DOCKER + "    container_kwargs:\n      volumes:\n        - /var/run/docker.sock:/x",
            "docker_socket",
            10,
        ),
        (AROUND.replace("true", "false") + DOCKER + "    network: x", "run_monitoring_off", 2),
        (AROUND.split("\n", 1)[1] + DOCKER + "    network: x", "sqlite_in_containers", 3),
        ("run_queue: {max_concurrent_runs: 0}", "no_runs", 1),
        ("run_queue: {tag_concurrency_limits: [{key: a, limit: 2}, {key: b, limit: 0}]}", "no_runs", 1),
        (
            "concurrency: {runs: {max_concurrent_runs: 5, tag_concurrency_limits: [{key: a, limit: 6}]}}",
            "idle_limit",
            1,
        ),
        (
            COORDINATOR + "    tag_concurrency_limits:\n      - {key: a, limit: 11}",
            "idle_limit",
            6,
        ),
        ("concurrency: {pools: {default_limit: 0}}", "no_runs", 1),
        ("run_monitoring: {poll_interval_seconds: 010}", "odd_number", 1),
        ("run_monitoring: {poll_interval_seconds: 1:30}", "odd_number", 1),
        ("sensors: {num_workers: 2}", "no_effect", 1),
        ("python_logs: {python_log_level: VERBOSE}", "log_level", 1),
        ("storage: {sqlite: {base_dir: here}}", "relative_path", 1),
        (
            "compute_logs: {module: dagster_gcp.gcs, class: GCSComputeLogManager, config: {bucket: b, "
            "json_credentials_envvar: GOOGLE_APPLICATION_CREDENTIALS}}",
            "gcs_credentials_path",
            1,
        ),
        ("run_launcher: {module: dagster._core.test_utils, class: ExplodingRunLauncher}", "class_for_tests", 1),
    ],
)
def test_warnings(text: str, name: str, line: int) -> None:
    report = subject.validate(text)
    (finding,) = report.warnings
    assert (finding.name, finding.line) == (name, line)
    assert report.valid


def test_unknown_container_kwarg() -> None:
    report = subject.validate(AROUND + DOCKER + "    container_kwargs: {mem_limt: 4g}")
    (finding,) = report.refusals
    assert (finding.name, finding.hint) == ("unknown_container_kwarg", "did you mean mem_limit?")


# The snippets of the reference document as printed there, and what is said of them.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "run_launcher:\n  module: dagster_k8s\n  class: K8sRunLauncher\n  config:\n"
            "    service_account_name: dagster-run\n    annotations: {a: 'b'}",
            {
                "run_launcher.config.instance_config_map": "ConfigMap",
                "run_launcher.config.annotations": "pod_template_spec_metadata",
            },
        ),
        (
            "run_launcher:\n  module: dagster_celery_k8s\n  class: CeleryK8sRunLauncher\n  config:\n"
            "    broker: 'pyamqp://guest@rabbitmq:5672//'\n"
            "    job_image: {repository: r, tag: latest, pullPolicy: Always}\n",
            {
                "run_launcher.config.instance_config_map": "ConfigMap",
                "run_launcher.config.job_image": "image_pull_policy",
                "run_launcher.config.postgres_password_secret": "add postgres_password_secret",
            },
        ),
        (
            "compute_logs:\n  module: dagster_azure.adls2\n  class: AzureBlobComputeLogManager\n"
            "  config: {storage_account: a, container: b, default_azure_credential: true}",
            {"compute_logs.module": "dagster_azure.blob", "compute_logs.config.default_azure_credential": "{}"},
        ),
    ],
)
def test_reference_snippets_get_their_modern_form(text: str, expected: dict[str, str]) -> None:
    found = {error.path: error.hint for error in subject.validate(text).errors}
    assert set(found) == set(expected)
    for path, hint in expected.items():
        assert hint in found[path]


def test_all_problems_at_once() -> None:
    text = "bogus: 1\nrun_queue: {}\nrun_coordinator: {module: dagster, class: QueuedRunCoordinator}\n" + DOCKER
    text += "    network: a\n    networks: [b]\n    registry: {url: r, username: u, password: hunter2}\n"
    report = subject.validate(text)
    assert sorted(error.path for error in report.errors) == ["bogus", "run_launcher.config.networks", "run_queue"]
    assert [refusal.path for refusal in report.refusals] == ["run_launcher.config.registry.password"]


def test_variables_have_to_exist_where_the_process_runs() -> None:
    text = "storage: {sqlite: {base_dir: {env: STATE_DIR}}}"
    assert findings(text) == []
    assert findings(text, env={"STATE_DIR"}) == []
    finding = only(text, env={"STATE_DIRS"})
    assert "no environment variable STATE_DIR" in finding.message
    assert finding.hint == "did you mean STATE_DIRS?"
    text = AROUND + DOCKER + "    env_vars: [A, B=1]\n"
    assert findings(text, env={"A"}) == []
    assert only(text, env=set()).path == "run_launcher.config.env_vars[0]"


def test_env_in_free_form_parts_is_data() -> None:
    text = AROUND + DOCKER + "    container_kwargs: {labels: {env: X}}\n"
    assert findings(text, env=set()) == []


def test_classes_of_the_users_own() -> None:
    text = "run_launcher: {module: mine.dagster, class: L, config: {a: 1}}\n"
    text += "run_monitoring: {enabled: true, max_resume_run_attempts: 1}"
    for allowed in ("custom_module:mine", "custom_module:mine.dagster"):
        assert findings(text, allow=[allowed]) == []
    text = "instance_class: {module: mine, class: I}\nmy_key: 1\ntelemetry: {enabled: 1}"
    assert [error.path for error in subject.validate(text, allow=["custom_module:mine"]).errors] == [
        "telemetry.enabled"
    ]


def test_workspace() -> None:
    good = "load_from:\n  - grpc_server: {host: a, port: 4000, location_name: x}\n  - python_module: p\n"
    assert findings(good, "workspace") == []
    report = subject.validate(
        good.replace("python_module: p", "grpc_server: {host: A., port: 4000, location_name: y}"), "workspace"
    )
    assert [(refusal.name, refusal.line) for refusal in report.refusals] == [("same_address", 3)]
    assert only(good + "  - python_file: a/x.py\n  - python_file: b/x.py\n", "workspace").line == 5
    assert only("- python_module: p", "workspace").hint == "put load_from: above the list"
    (flat,) = findings("load_from:\n- grpc_server:\nhost: a\nport: 1\n", "workspace")
    assert flat.hint == "indent them: load_from: [{grpc_server: {host, port}}]"


@pytest.mark.parametrize(
    "text",
    [
        "run_queue: {max_concurrent_runs: 10, tag_concurrency_limits: [{key: a, limit: 10}]}",
        "run_queue: {max_concurrent_runs: -1, tag_concurrency_limits: [{key: a, limit: 500}]}",
        "run_queue: {tag_concurrency_limits: [{key: a, value: {applyLimitPerUniqueValue: true}, limit: 3}]}",
        "run_queue: {max_concurrent_runs: {env: MOST}, tag_concurrency_limits: [{key: a, limit: 99}]}",
        "concurrency: {pools: {default_limit: 1}}",
    ],
)
def test_limits_that_can_be_met(text: str) -> None:
    assert [finding.name for finding in subject.validate(text).warnings] == []
