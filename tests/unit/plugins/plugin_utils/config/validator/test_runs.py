"""What only runs meet: a warning for a file, of which nobody knows all around it, and a refusal in a deployment."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject

DATABASE: dict[str, Any] = {"hostname": "db", "username": "u", "password": {"env": "DB_PASSWORD"}, "db_name": "d"}
LOCAL = "dagster._core.storage.local_compute_log_manager"


def config(launcher: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """A dagster.yaml of which runs have all that they need, with other sections or a changed launcher."""
    options = {"env_vars": ["DB_PASSWORD"], "container_kwargs": {"volumes": ["/var/lib/dagster:/var/lib/dagster"]}}
    return {
        "storage": {"postgres": {"postgres_db": DATABASE}},
        "run_launcher": {
            "module": "dagster_docker",
            "class": "DockerRunLauncher",
            "config": {**options, **(launcher or {})},
        },
        "compute_logs": {
            "module": LOCAL,
            "class": "LocalComputeLogManager",
            "config": {"base_dir": "/var/lib/dagster/logs"},
        },
        "run_monitoring": {"enabled": True},
        **sections,
    }


def warned(data: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, path) of the warnings for a file, which the deployment of the same refuses."""
    data = {key: value for key, value in data.items() if value is not None}
    report, deployed = subject.validate(yaml.safe_dump(data)), subject.validate_data(data)
    assert (report.errors, report.refusals) == ([], [])
    assert deployed.errors == []
    names = {finding.name for finding in deployed.refusals}
    found = [(finding.name, finding.path) for finding in report.warnings]
    assert names == {name for name, _path in found}
    return found


def test_nothing_is_said_of_what_runs_have() -> None:
    assert warned(config()) == []


def test_a_variable_that_runs_lack() -> None:
    for names in (["OTHER", "DB_PASSWORD_FILE"], []):
        where = [("env_not_in_runs", "storage.postgres.postgres_db.password")]
        assert warned(config({"env_vars": names})) == where
    assert subject.validate_data(config({"env_vars": ["DB_PASSWORD=x"]}), allow=["literal_secret"]).valid


def test_variables_of_what_only_services_build() -> None:
    registry = {"url": "r", "username": {"env": "R_USER"}, "password": {"env": "R_PASSWORD"}}
    assert warned(config({"registry": registry})) == []
    assert warned(config(run_queue={"max_concurrent_runs": {"env": "RUNS"}})) == []
    resumed = config({"registry": registry}, run_monitoring={"enabled": True, "max_resume_run_attempts": 1})
    report = subject.validate_data(resumed, allow=["resume_repeats_steps"])
    assert {finding.path for finding in report.refusals} == {
        "run_launcher.config.registry.password",
        "run_launcher.config.registry.username",
    }


def test_how_a_deployment_gives_runs_a_variable() -> None:
    logs = {"module": LOCAL, "class": "LocalComputeLogManager", "config": {"base_dir": {"env": "LOG_DIR"}}}
    (plain,) = subject.validate_data(config(compute_logs=logs)).refusals
    assert plain.hint.startswith("write LOG_DIR into dagster_environment")
    (secret,) = subject.validate_data(config({"env_vars": []})).refusals
    assert "dagster_secret_environment is for the services alone" in secret.hint
    assert "dagster_config_allow: [env_not_in_runs]" in secret.hint


def kubernetes(**options: Any) -> dict[str, Any]:
    launcher = {
        "module": "dagster_k8s",
        "class": "K8sRunLauncher",
        "config": {"instance_config_map": "i", "service_account_name": "s", **options},
    }
    return config(run_launcher=launcher)


def test_pods() -> None:
    mounts = [{"name": "v", "mount_path": "/var/lib/dagster/"}]
    assert warned(kubernetes(volume_mounts=mounts, env_vars=["DB_PASSWORD"])) == []
    assert warned(kubernetes(volume_mounts=mounts, env_secrets=["database"])) == []
    pod = {"container_config": {"volume_mounts": mounts}}
    assert warned(kubernetes(run_k8s_config=pod)) == []
    assert warned(kubernetes(env_vars=["DB_PASSWORD"])) == [("folder_not_in_runs", "compute_logs.config.base_dir")]
    assert warned(kubernetes(volume_mounts=mounts)) == [("env_not_in_runs", "storage.postgres.postgres_db.password")]


@pytest.mark.parametrize(
    "volumes",
    [
        ["/var/lib/dagster/logs:/var/lib/dagster/logs"],
        {"/var/lib/dagster": {"bind": "/var/lib/dagster", "mode": "rw"}},
        ["/elsewhere:/var/lib", "/var/lib/dagster:/var/lib/dagster:rw,z"],
    ],
)
def test_volumes_that_hold_the_logs(volumes: Any) -> None:
    assert warned(config({"container_kwargs": {"volumes": volumes}})) == []


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"volumes": ["./src:/app"]},
        {"volumes": ["/var/lib/dagster"]},
        {"volumes": ["/var/lib/dagster:/var/lib/dagster:ro"]},
        {"volumes": ["/var/lib/dagster/log:/var/lib/dagster/log"]},
        {"mounts": [{"Target": "/var/lib/dagster", "Source": "/var/lib/dagster", "ReadOnly": True}]},
    ],
)
def test_logs_that_no_run_mounts(kwargs: dict[str, Any]) -> None:
    assert warned(config({"container_kwargs": kwargs})) == [("folder_not_in_runs", "compute_logs.config.base_dir")]


def test_files_that_runs_mount_from_elsewhere() -> None:
    data = config({"container_kwargs": {"volumes": ["/srv/data:/var/lib/dagster"]}})
    assert subject.validate(yaml.safe_dump(data)).warnings == []  # services may be containers with the same volume
    (refusal,) = subject.validate_data(data).refusals
    assert "which runs have from /srv/data/logs" in refusal.message


def test_no_compute_logs_at_all() -> None:
    nothing = config({"container_kwargs": {}}, compute_logs=None)
    assert warned(nothing) == [("folder_not_in_runs", "run_launcher")]
    assert warned(config(compute_logs=None)) == []  # DAGSTER_HOME may be in the volume


def test_outputs_of_steps() -> None:
    def storage(folder: str) -> dict[str, Any]:
        return {"module": "dagster._core.storage.root", "class": "LocalArtifactStorage", "config": {"base_dir": folder}}

    assert warned(config(local_artifact_storage=storage("/var/lib/dagster"))) == []
    lost = warned(config(local_artifact_storage=storage("/srv/outputs")))
    assert lost == [("folder_not_in_runs", "local_artifact_storage.config.base_dir")]


def test_storage_in_a_file_of_the_container() -> None:
    sqlite = {"sqlite": {"base_dir": "/var/lib/dagster"}}
    assert warned(config(storage=sqlite)) == [("sqlite_in_containers", "storage")]
    assert warned(config(storage=None)) == [("sqlite_in_containers", "run_launcher")]


@pytest.mark.parametrize("options", [{"backend": "rpc://"}, {}, {"backend": None}])
def test_celery_without_a_backend_that_the_daemon_can_ask(options: dict[str, Any]) -> None:
    launcher = {"module": "dagster_celery.launcher", "class": "CeleryRunLauncher", "config": options}
    assert warned(config(run_launcher=launcher)) == [("celery_backend", "run_launcher.config.backend")]
    assert warned(config(run_launcher=launcher, run_monitoring={"enabled": False})) == []
    for backend in ("redis://h:6379/1", {"env": "BACKEND"}):
        good = {**launcher, "config": {"backend": backend}}
        assert warned(config(run_launcher=good)) == []


def test_a_resumed_run_repeats_its_steps() -> None:
    text = "run_launcher: {module: dagster_aws.ecs, class: EcsRunLauncher}\nrun_monitoring: "
    (warning,) = subject.validate(text + "{enabled: true, max_resume_run_attempts: 3}").warnings
    assert (warning.name, warning.line) == ("resume_repeats_steps", 2)
    assert "run_retries" in warning.hint
    for harmless in ("{enabled: true}", "{enabled: false, max_resume_run_attempts: 3}"):
        assert subject.validate(text + harmless).warnings == []


@pytest.mark.parametrize(
    ("kwargs", "name", "hint"),
    [
        ({"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]}, "docker_socket", "docker_executor"),
        ({"volumes": {"/": {"bind": "/host"}}}, "host_root", "mount the folders"),
        ({"volumes": ["/:/host:ro"]}, "host_root", "mount the folders"),
        ({"privileged": True}, "privileged", "cap_add"),
        ({"auto_remove": True}, "auto_remove", "container prune"),
    ],
)
def test_harmful_arguments_of_the_container(kwargs: dict[str, Any], name: str, hint: str) -> None:
    noop = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    data = config({"container_kwargs": kwargs}, compute_logs=noop)
    (warning,) = subject.validate(yaml.safe_dump(data)).warnings
    assert warning.name == name
    assert hint in warning.hint
    found, allowed = subject.validate_data(data), subject.validate_data(data, allow=[name])
    if name in ("docker_socket", "privileged"):  # the gate refuses each such run, so nobody can allow it
        assert [len(each.errors) for each in (found, allowed)] == [1, 1]
        assert found.errors[0].path.startswith("run_launcher.config.container_kwargs.")
    else:
        assert [refusal.name for refusal in found.refusals] == [name]
        assert allowed.valid
