"""Every system of the reference can be said in dagster_config: each example, merged into ours, is good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster_forks
import pytest
import yaml
from deployments import KUBECONFIG
from plans import LOCATION, groups, plan
from support import ORACLE

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.program import program
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import catalogue, validate
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import render
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.libraries import (
    distribution,
    lock,
    named_modules,
    part,
)

ROOT = Path(__file__).resolve().parents[3]
# What an example says of its code locations in its comment.
LOCATIONS = {
    "postgres_fields": [{**LOCATION, "volumes": ["/etc/dagster-ca/ca.pem:/etc/dagster-ca/ca.pem:ro"]}],
    "postgres_url": [{**LOCATION, "env": {"DAGSTER_POSTGRES_URL": "postgresql+psycopg2://dagster_run@db/dagster"}}],
}
IN_A_CLUSTER = ("celery_k8s", "k8s")
LOCATIONS |= {name: [{**LOCATION, "image": "registry.example.com/etl:1"}] for name in IN_A_CLUSTER}
# What an example takes from a vault and is read by preflight.
VAULT = {"{{ vault_log_service_account }}": '{"type": "service_account"}'}
EXAMPLES = sorted((ROOT / "examples" / "dagster_config").glob("*.yml"))


def ours() -> dict[str, Any]:
    return plan().configuration.ours


def test_ours_alone() -> None:
    for minor in catalogue.minors()[:1]:
        report = validate(render(ours()), version=minor)
        assert (report.errors, report.refusals, report.warnings) == ([], [], [])


def variables_of(path: Path, folder: Path) -> dict[str, Any]:
    """The variables of an example, in an inventory that has the files which it names."""
    folder.joinpath("my_company.lock").write_text(f"my-company==1.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    text = path.read_text(encoding="utf-8").replace("{{ inventory_dir }}", str(folder))
    text = text.replace("{{ vault_registry_password }}", "not-a-real-password-1c")
    found: dict[str, Any] = yaml.safe_load(text)
    found = {name: VAULT.get(value, value) if isinstance(value, str) else value for name, value in found.items()}
    return {**found, **({"dagster_kubeconfig": KUBECONFIG} if "dagster_kubeconfig" in found else {})}


def of_example(path: Path, folder: Path) -> Plan:
    """The plan of a host with an example."""
    members = groups(run=[]) if path.stem in IN_A_CLUSTER else groups()
    locations = LOCATIONS.get(path.stem, [LOCATION])
    return plan("a", members, **{"dagster_code_locations": locations, **variables_of(path, folder)})


def of_services(found: Plan) -> dict[str, str]:
    """The environment of a service that has the file of its password."""
    return {**found.instance.environment, **found.storage.login_environment(found.storage.login("web"))}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_passes_preflight(path: Path, tmp_path: Path) -> None:
    assert of_example(path, tmp_path).problems() == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_hosts_get_the_libraries_of_an_example(path: Path, tmp_path: Path) -> None:
    """Every module that it names is in a package that is installed, without another variable."""
    instance = of_example(path, tmp_path).instance
    installed = {package.name for package in part(lock("1.13.27"), instance.handed({"paths": []})["libraries"])}
    for _path, module in named_modules(instance.plan.configuration.merged):
        own = module.startswith("my_company") or distribution(module) == "logging"
        assert own or distribution(module) in installed, module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    variables = variables_of(path, tmp_path)
    configuration = of_example(path, tmp_path).configuration
    assert configuration.problems() == []
    env = {
        **of_services(configuration.plan),
        **variables.get("dagster_environment", {}),
        **variables.get("dagster_secret_environment", {}),
    }
    # dagster.yaml alone shows neither the volumes of locations nor who has the file of MariaDB's password.
    allowed = ["file_not_in_runs"] if path.stem in {*LOCATIONS, "mysql"} - {*IN_A_CLUSTER} else []
    report = validate(
        render(configuration.merged), env=env, allow=[*variables.get("dagster_config_allow", []), *allowed]
    )
    assert (report.errors, report.refusals, report.warnings) == ([], [], [])


@pytest.mark.skipif(not ORACLE.exists(), reason="tests/rig/rig oracle makes a Dagster with all libraries")
@pytest.mark.parametrize("name", ["mysql", "k8s", "celery", "celery_k8s", "azure", "gcs", "ecs"])
def test_the_real_classes_accept_an_example(name: str, tmp_path: Path) -> None:
    variables = variables_of(ROOT / f"examples/dagster_config/{name}.yml", tmp_path)
    found = of_example(ROOT / f"examples/dagster_config/{name}.yml", tmp_path)
    env = {**of_services(found), **variables.get("dagster_environment", {})}
    if found.cluster:
        env["KUBECONFIG"] = str(tmp_path / "kubeconfig")
        (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG), encoding="utf-8")
    request = {"texts": {"dagster_yaml": render(found.configuration.merged)}, "env": env}
    done = dagster_forks.run(str(ORACLE), program(), json.dumps(request))
    assert json.loads(done.stdout)["problems"] == []


def test_the_examples_have_every_class_of_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in EXAMPLES)
    for name in (
        *("K8sRunLauncher", "CeleryRunLauncher", "CeleryK8sRunLauncher", "EcsRunLauncher", "DefaultRunLauncher"),
        *("S3ComputeLogManager", "GCSComputeLogManager", "AzureBlobComputeLogManager", "NoOpComputeLogManager"),
        *("QueuedRunCoordinator", "DagsterDaemonScheduler", "mysql_db", "postgres_url", "auth_provider"),
        *("applyLimitPerUniqueValue", "pools", "retention", "run_retries", "run_monitoring", "python_logs"),
    ):
        assert name in text, name
