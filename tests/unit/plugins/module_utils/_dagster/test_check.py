"""The check program, run under a real virtual environment with Dagster, as on a host.

DAGSTER_PYTHON names its Python (make test sets it): dagster, dagster-postgres, dagster-docker, dagster-aws.
"""

from __future__ import annotations

import copy
import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import dagster_forks
import pytest
from support import dagster_python

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.program import program

ENV = {"DAGSTER_POSTGRES_HOST": "198.51.100.1", "DAGSTER_POSTGRES_USER": "dagster"}
GOOD: dict[str, Any] = {
    "storage": {
        "postgres": {
            "postgres_db": {
                "hostname": {"env": "DAGSTER_POSTGRES_HOST"},
                "username": {"env": "DAGSTER_POSTGRES_USER"},
                "db_name": "dagster",
                "port": 5432,
                "scheme": "postgresql+psycopg2",
            }
        }
    },
    "run_launcher": {
        "module": "dagster_docker",
        "class": "DockerRunLauncher",
        "config": {
            "network": "dagster",
            "container_kwargs": {"stop_timeout": 30, "anything": {"env": "NOT_A_REFERENCE"}},
        },
    },
    "run_coordinator": {
        "module": "dagster.core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {"max_concurrent_runs": 10},
    },
    "compute_logs": {
        "module": "dagster._core.storage.local_compute_log_manager",
        "class": "LocalComputeLogManager",
        "config": {"base_dir": "/var/lib/dagster/compute_logs"},
    },
    "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
    "run_monitoring": {"enabled": True, "max_resume_run_attempts": 1, "poll_interval_seconds": 30},
    "retention": {"sensor": {"purge_after_days": {"skipped": 7}}, "schedule": {"purge_after_days": 90}},
    "telemetry": {"enabled": False},
}
WORKSPACE = {"load_from": [{"grpc_server": {"location_name": "a", "host": "code1", "port": 4000}}]}


def texts(**data: Any) -> dict[str, str]:
    """Files as text; JSON is YAML."""
    return {name: json.dumps(value) for name, value in data.items() if value is not None}


def ask(dagster_yaml: Any = None, workspace: Any = None, **request: Any) -> dict[str, Any]:
    request = {"texts": texts(dagster_yaml=dagster_yaml, workspace=workspace), **request}
    done = dagster_forks.run(dagster_python(), program(), json.dumps({"env": ENV, **request}))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def problems(config: Any = None, **request: Any) -> dict[str, str]:
    found = ask(dagster_yaml=config, **request)["problems"]
    by_path = {problem["path"]: problem["message"] for problem in found}
    assert len(by_path) == len(found), found
    return by_path


def changed(**sections: Any) -> dict[str, Any]:
    return {**copy.deepcopy(GOOD), **sections}


def test_good_files_have_no_problem_and_the_version_is_told() -> None:
    """In a process of its own, as on a host."""
    request = {"texts": texts(dagster_yaml=GOOD, workspace=WORKSPACE), "env": ENV}
    done = subprocess.run(
        [dagster_python(), "-I", "-B", "-c", program()],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert answer["problems"] == []
    assert answer["dagster_version"].count(".") == 2


def test_all_errors_at_once_with_dotted_paths() -> None:
    config = changed(
        telemetry={"enabled": "true"},
        freshness={},
        run_monitoring={"enabled": True, "poll_interval_seconds": "120", "bogus": 1, "pol_interval_seconds": 2},
        compute_logs={"module": "dagster_aws.s3", "class": "S3ComputeLogManager", "config": {"bucke": "b"}},
        concurrency={"pools": {"default_limit": 5000}},
        run_coordinator={"module": "dagster", "class": "QueuedRunCoordinator", "config": {"max_concurrent_runs": -5}},
        scheduler={"module": "dagster._core.scheduler", "class": "DagsterDaemonSheduler"},
        python_logs=None,
        local_artifact_storage={"module": "dagster", "class": "DefaultRunLauncher"},
        defs_state_storage={"module": "no_such_package.x", "class": "X"},
    )
    config["run_launcher"]["config"]["netwrk"] = "x"
    config["run_launcher"]["config"]["image"] = {"env": "NO_SUCH_VARIABLE"}
    config["storage"]["postgres"]["postgres_db"]["port"] = "5432"
    workspace = {"load_from": [{"grpc_server": {"host": {"env": "UNSET"}, "port": "4000", "tls": True}}]}
    found = problems(config, workspace=workspace)
    expected = {
        "telemetry.enabled": "'true', expected a boolean",
        "freshness.enabled": "required key is missing",
        "run_monitoring.poll_interval_seconds": "'120', expected a number",
        "run_monitoring.bogus": "expected one of: cancel_timeout_seconds",
        "run_monitoring.pol_interval_seconds": "did you mean poll_interval_seconds?",
        "compute_logs.config.bucke": "did you mean bucket?",
        "compute_logs.config.bucket": "required key is missing",
        "concurrency": "0-1000",
        "run_coordinator.config": "Negative values",
        "scheduler.class": "did you mean DagsterDaemonScheduler?",
        "python_logs": "found null, expected a mapping",
        "local_artifact_storage.class": "not a LocalArtifactStorage",
        "defs_state_storage.module": "No module named 'no_such_package'",
        "run_launcher.config.netwrk": "did you mean network?",
        "run_launcher.config.image": "NO_SUCH_VARIABLE is not set",
        "storage.postgres.postgres_db.port": "'5432', expected a number",
        "load_from[0].grpc_server.host": "UNSET is not set",
        "load_from[0].grpc_server.port": "'4000', expected a number",
        "load_from[0].grpc_server.tls": "expected one of: additional_metadata, host",
    }
    assert set(found) == set(expected)
    for path, words in expected.items():
        assert words in found[path], (path, found[path])


def test_missing_driver_is_explained() -> None:
    config = changed()
    config["storage"]["postgres"]["postgres_db"]["scheme"] = "postgresql+psycopg"
    assert "scheme: postgresql+psycopg2" in problems(config)["storage.postgres"]


def test_environment_is_that_of_the_services_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)  # of whoever deploys
    found = problems(GOOD, env={})
    assert set(found) == {f"storage.postgres.postgres_db.{key}" for key in ("hostname", "username")}


def test_number_from_the_environment() -> None:
    config = changed()
    config["storage"]["postgres"]["postgres_db"]["port"] = {"env": "DB_PORT"}
    assert problems(config, env={**ENV, "DB_PORT": "5432"}) == {}
    found = problems(config, env={**ENV, "DB_PORT": "many"})
    assert found == {
        "storage.postgres.postgres_db.port": 'Value stored in env variable "DB_PORT" cannot be coerced into an int.'
    }


def test_constructor_rules() -> None:
    config = changed(run_queue={"max_concurrent_runs": -7})
    del config["run_coordinator"]
    config["run_launcher"]["config"].update(networks=["b"])
    config["storage"]["postgres"]["postgres_url"] = "postgresql+psycopg2://u@h/d"
    found = problems(config)
    assert "Negative values" in found.pop("run_queue")
    assert "`network` and `networks`" in found.pop("run_launcher.config")
    assert "exactly one of" in found.pop("storage.postgres")
    assert found == {}


def test_resume_needs_a_launcher_that_can() -> None:
    config = changed()
    del config["run_launcher"]
    assert "DefaultRunLauncher" in problems(config)["run_monitoring.max_resume_run_attempts"]
    config["run_launcher"] = {"module": "dagster", "class": "DefaultRunLauncher"}
    assert "DefaultRunLauncher" in problems(config)["run_monitoring.max_resume_run_attempts"]


def test_building_changes_nothing(tmp_path: Path) -> None:
    """SQLite storage and EnvFileLoader would make folders and files; the constructor stops there, without an error."""
    before = sorted(tmp_path.rglob("*"))
    config = {
        "storage": {"sqlite": {"base_dir": str(tmp_path / "sqlite")}},
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(tmp_path / "artifacts")},
        },
        "defs_state_storage": {
            "module": "dagster",
            "class": "UPathDefsStateStorage",
            "config": {"base_path": str(tmp_path / "state")},
        },
    }
    assert problems(config) == {}
    assert sorted(tmp_path.rglob("*")) == before


def test_building_does_not_connect_to_the_database() -> None:
    """libpq connects in C, where no audit event tells of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        config = {"storage": copy.deepcopy(GOOD["storage"])}
        config["storage"]["postgres"]["postgres_db"].update(
            hostname="127.0.0.1", port=listener.getsockname()[1], params={"connect_timeout": 2}
        )
        assert problems(config) == {}
        with pytest.raises(TimeoutError):
            listener.accept()


CUSTOM = """
import builtins, os, socket, subprocess
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

class Manager(NoOpComputeLogManager):
    @classmethod
    def config_type(cls):
        return {"act": str}

    @classmethod
    def from_config_value(cls, inst_data, config_value):
        act = config_value["act"]
        print("noise on stdout")
        try:
            if act == "connect":
                socket.socket().connect(("127.0.0.1", PORT))
            elif act == "resolve":
                socket.getaddrinfo("localhost", 80)
            elif act == "write":
                open(FILE, "w").close()
            elif act == "mkdir":
                os.makedirs(FILE)
            elif act == "process":
                subprocess.run(["touch", FILE])
            elif act == "exit":
                raise SystemExit(3)
            elif act == "secret":
                raise ValueError("bad value " + os.environ["MY_PASSWORD"])
        except Exception:
            if act == "secret":
                raise
            raise ValueError("swallowed")
        return cls(inst_data)
"""


@pytest.mark.parametrize("act", ["connect", "resolve", "write", "mkdir", "process", "nothing"])
def test_custom_classes_are_found_and_cannot_act(act: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        target = tmp_path / "made"
        text = CUSTOM.replace("PORT", str(server.getsockname()[1])).replace("FILE", repr(str(target)))
        (tmp_path / "our_logs.py").write_text(text)
        config = {"compute_logs": {"module": "our_logs", "class": "Manager", "config": {"act": act}}}
        assert problems(config, env={"PYTHONPATH": str(tmp_path)}) == {}
        with pytest.raises(TimeoutError):
            server.accept()
    assert not target.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["our_logs.py"]


def test_secret_values_are_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "our_logs.py").write_text(CUSTOM.replace("PORT", "0").replace("FILE", "''"))
    config = {"compute_logs": {"module": "our_logs", "class": "Manager", "config": {"act": "secret"}}}
    found = problems(config, env={"PYTHONPATH": str(tmp_path), "MY_PASSWORD": "hunter2"})
    assert found == {"compute_logs.config": "ValueError: bad value <value of MY_PASSWORD>"}


def test_it_answers_even_if_a_class_exits(tmp_path: Path) -> None:
    (tmp_path / "our_logs.py").write_text(CUSTOM.replace("PORT", "0").replace("FILE", "''"))
    config = {"compute_logs": {"module": "our_logs", "class": "Manager", "config": {"act": "exit"}}}
    assert "the check itself failed" in problems(config, env={"PYTHONPATH": str(tmp_path)})[""]


@pytest.mark.parametrize(
    "config", [[1], "text", {"storage": None, "concurrency": None}, {"storage": {"postgres": None}}]
)
def test_it_answers_whatever_it_gets(config: Any) -> None:
    assert problems(config) != {}


def test_an_empty_file_is_dagster_with_its_defaults() -> None:
    assert problems({}) == problems([]) == {}


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"run_queue": {}, "run_coordinator": {"module": "dagster", "class": "QueuedRunCoordinator"}}, "run_queue"),
        ({"storage": {"sqlite": {"base_dir": "/x"}}, "run_storage": {"module": "m", "class": "C"}}, "storage"),
    ],
)
def test_sections_that_exclude_each_other(config: Any, path: str) -> None:
    assert "expected only one of them" in problems(config)[path]


@pytest.mark.parametrize(
    ("workspace", "path", "words"),
    [
        ({"load_from": None}, "load_from", "expected a list"),
        ({"load_from": [{"grpc_server": {"host": "h"}}]}, "", "port"),
        ({"load_from": WORKSPACE["load_from"] * 2}, "", "multiple locations with the same name"),
        ({"load_from": [{"grpc_srver": {}}]}, "load_from[0].grpc_srver", "did you mean grpc_server?"),
    ],
)
def test_bad_workspace(workspace: Any, path: str, words: str) -> None:
    found = problems(workspace=workspace)
    assert words in found[path]


def test_without_dagster_it_says_so() -> None:
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-I", "-c", program().replace("dagster.version", "no_dagster.version")],
        input=json.dumps({"texts": {"dagster_yaml": "{}"}}),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert answer["dagster_version"] == ""
    assert "No module named 'no_dagster'" in answer["problems"][0]["message"]
