"""What webservers and daemon install: the part of the lock that dagster.yaml names, and packages of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from plans import component, plan

from ansible_collections.dataops.dagster.plugins.filter.host_requirements import host_requirements
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import libraries
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.spec import COLLECTION, specs

VERSION = "1.13.27"
LOCK = libraries.lock(VERSION)
HASH = "--hash=sha256:" + "0" * 64

SMALL = """\
# Made by somebody.
alembic==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via dagster
boto3==2.0 ; sys_platform == 'linux' \\
    --hash=sha256:cc
    # via
    #   dagster-aws
    #   dagster-gcp
dagster==1.0 \\
    --hash=sha256:dd
    # via
    #   -r dagster.in
    #   dagster-aws
dagster-aws==1.0 \\
    --hash=sha256:ee
    # via -r libraries.in
dagster-gcp==1.0 \\
    --hash=sha256:ff
    # via -r libraries.in
urllib3==1.0 \\
    --hash=sha256:11
    # via boto3
urllib3==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:22
    # via boto3
"""


def names(found: list[libraries.Package]) -> list[str]:
    return [f"{package.name}=={package.version}" for package in found]


def libraries_of(config: dict[str, Any], **variables: Any) -> list[str]:
    found: list[str] = component("instance", dagster_config=config, **variables).handed({"paths": []})["libraries"]
    return found


def test_part_of_a_lock() -> None:
    assert names(libraries.part(SMALL, [])) == ["alembic==1.0", "dagster==1.0"]
    whole = ["alembic==1.0", "boto3==2.0", "dagster==1.0", "dagster-aws==1.0", "urllib3==1.0", "urllib3==2.0"]
    assert names(libraries.part(SMALL, ["dagster-aws"])) == whole
    assert (
        "".join(package.text for package in libraries.part(SMALL, ["dagster-aws", "dagster-gcp"]))
        == (SMALL.split("\n", 1)[1])
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, []),
        ({"compute_logs": {"module": "dagster_aws.s3", "class": "S3ComputeLogManager"}}, ["dagster-aws"]),
        ({"compute_logs": {"module": "dagster_azure.blob", "class": "A"}}, ["dagster-azure"]),
        ({"run_launcher": {"module": "dagster_celery.launcher", "class": "C"}}, ["dagster-celery"]),
        ({"run_launcher": {"module": "dagster_celery_k8s", "class": "C"}}, ["dagster-celery-k8s"]),
        ({"storage": {"mysql": {"mysql_url": {"env": "URL"}}}}, ["dagster-mysql"]),
        ({"storage": {"custom": {"module": "dagster_mysql", "class": "DagsterMySQLStorage"}}}, ["dagster-mysql"]),
        ({"secrets": {"custom": {"module": "dagster_gcp.secrets", "class": "S"}}}, ["dagster-gcp"]),
        ({"instance_class": {"module": "dagster_k8s.x", "class": "I"}}, ["dagster-k8s"]),
        ({"storage": {"postgres": {"auth_provider": {"gcp_wif": {}}}}}, ["google-auth"]),
        ({"python_logs": {"dagster_handler_config": {"handlers": {"a": {"class": "logging.StreamHandler"}}}}}, []),
        (
            {
                "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher"},
                "compute_logs": {"module": "dagster_gcp.gcs", "class": "GCSComputeLogManager"},
            },
            ["dagster-gcp", "dagster-k8s"],
        ),
    ],
    ids=str,
)
def test_libraries_follow_dagster_config(config: dict[str, Any], expected: list[str]) -> None:
    assert libraries_of(config) == expected


def test_a_library_can_be_added() -> None:
    s3 = {"compute_logs": {"module": "dagster_aws.s3", "class": "S3ComputeLogManager"}}
    assert libraries_of(s3, dagster_libraries=["aws", "k8s"]) == ["dagster-aws", "dagster-k8s"]


def test_marks_are_those_of_0_1_0() -> None:
    """A venv that has them is complete, so an upgrade of the collection installs nothing."""
    s3 = {"compute_logs": {"module": "dagster_aws.s3", "class": "S3ComputeLogManager"}}
    found = component("instance", dagster_config=s3).handed({"paths": []})
    folder = f"/opt/dagster/{VERSION}"
    assert found["marks"] == [f"{folder}/.complete", f"{folder}/.complete-aws"]
    assert found["lock"] == f"dagster-{VERSION}+aws"


@pytest.mark.parametrize("version", [VERSION, "1.13.26"])
def test_a_lock_names_all_libraries_of_the_reference(version: str) -> None:
    found = {
        package.name.removeprefix("dagster-")
        for package in libraries.packages(libraries.lock(version))
        if "-r libraries.in" in package.needed_by
    }
    assert sorted(found) == specs()["instance"]["dagster_libraries"]["choices"]
    always = {package.name for package in libraries.packages(LOCK) if libraries.ALWAYS in package.needed_by}
    assert {"dagster", "dagster-webserver", "dagster-graphql", "dagster-docker", "dagster-postgres"} <= always


def test_a_part_is_closed_and_small() -> None:
    """All that a package needs is in the part, and of the other libraries nothing is."""
    lines = [line for line in LOCK.splitlines() if "==" in line and not line.startswith((" ", "#"))]
    assert len(list(libraries.packages(LOCK))) == len(lines) > 150
    for wanted in (["dagster-aws"], ["dagster-celery", "dagster-mysql"], ["dagster-celery-k8s"], ["google-auth"]):
        found = {package.name for package in libraries.part(LOCK, wanted)}
        for package in libraries.packages(LOCK):
            assert package.name in found or package.needed_by.isdisjoint(found), package.name
        assert found.isdisjoint({"azure-core", "dagster-azure", "dagster-gcp"})
    assert "redis" in {package.name for package in libraries.part(LOCK, ["dagster-celery"])}


# Packages of one's own


def own(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "own.lock"
    path.write_text(text, encoding="utf-8")
    return {"dagster_requirements": str(path)}


CUSTOM = {
    "dagster_config": {"run_launcher": {"module": "my_company.dagster", "class": "OurRunLauncher", "config": {}}},
    "dagster_config_allow": ["custom_module:my_company"],
}


def problems(**variables: Any) -> list[str]:
    return [problem for problem in plan("a", **variables).problems() if "dagster_requirements" in problem]


def test_a_module_of_nobody_is_refused() -> None:
    (problem,) = problems(**CUSTOM)
    assert problem.startswith(
        "dagster_config.run_launcher names my_company.dagster, which no package of webservers and"
    )
    handler = {"python_logs": {"dagster_handler_config": {"handlers": {"cw": {"class": "watchtower.CloudWatch"}}}}}
    (problem,) = problems(dagster_config=handler)
    assert problem.startswith(
        "dagster_config.python_logs.dagster_handler_config.handlers.cw names watchtower.CloudWatch"
    )


def test_a_module_of_ones_own_is_accepted(tmp_path: Path) -> None:
    assert problems(**CUSTOM, **own(tmp_path, f"my-company==1.2 \\\n    {HASH}\n")) == []
    assert problems(**CUSTOM, dagster_environment={"PYTHONPATH": "/srv/our/classes"}) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no text on the controller"),
        ("my-company==1.2\n", "line 1 of PATH is 'my-company==1.2' without hash; make the file with"),
        (f"\n# mine\nmy-company>=1.2 \\\n    {HASH}\n", "line 3 of PATH is 'my-company>=1.2' without version (==)"),
        ("-r other.txt\n", "line 1 of PATH is -r; hosts get this one file"),
        ("-e ./here\n", "line 1 of PATH is -e;"),
        (f"./my.whl {HASH}\n", "is './my.whl' without version (==) and hash"),
        ("--index-url https://u:secret@pypi.example.com/simple\n", "holds the login of an index"),
        (f"SQLAlchemy==2.1.0 {HASH}\n", "has sqlalchemy 2.1.0, the lock of Dagster has 2.0."),
    ],
)
def test_a_file_that_hosts_could_not_install_is_refused(tmp_path: Path, text: str, words: str) -> None:
    variables = own(tmp_path, text)
    (problem,) = problems(**variables)
    assert words.replace("PATH", variables["dagster_requirements"]) in problem
    assert problem.startswith("dagster_requirements: ")
    assert "secret" not in problem


def test_a_file_that_is_not_there() -> None:
    (problem,) = problems(dagster_requirements="/nowhere/own.lock")
    assert "/nowhere/own.lock does not exist on the controller" in problem
    (problem,) = problems(dagster_requirements="own.lock")
    assert "own.lock is a relative path" in problem
    assert "{{ inventory_dir }}/own.lock" in problem


def test_packages_of_ones_own_are_added(tmp_path: Path) -> None:
    alembic = next(package for package in libraries.part(LOCK, []) if package.name == "alembic")
    text = (
        f"--extra-index-url https://pypi.example.com/simple\n"
        f"My_Company[x]==1.2 ; python_version > '3' \\\n    {HASH}  # ours\n"
        f"alembic=={alembic.version} \\\n    {HASH}\nours @ https://example.com/ours.whl {HASH}\n"
    )
    variables = own(tmp_path, text)
    assert problems(**variables) == []
    found = component("instance", **variables).handed({"paths": []})
    assert re.fullmatch(r"[0-9a-f]{12}", found["own"])
    assert found["lock"] == f"dagster-{VERSION}+{found['own']}"
    assert found["marks"][-1] == f"/opt/dagster/{VERSION}/.complete-{found['own']}"
    whole = host_requirements(LOCK, [], text)
    assert whole.endswith(
        f"--extra-index-url https://pypi.example.com/simple\nMy_Company[x]==1.2 ; python_version > '3' {HASH}\n"
        f"ours @ https://example.com/ours.whl {HASH}\n"
    )
    assert whole.count("\nalembic==") + whole.startswith("alembic==") == 1
    own(tmp_path, text.replace("1.2", "1.3"))
    assert component("instance", **variables).handed({"paths": []})["own"] != found["own"]


def test_the_lock_of_a_custom_class_goes_with_that_of_libraries(tmp_path: Path) -> None:
    """What another library of the lock pins is no conflict while that is not installed."""
    text = f"kubernetes==1.0 {HASH}\n"
    assert problems(**own(tmp_path, text)) == []
    assert problems(**own(tmp_path, text), dagster_libraries=["k8s"])


def test_the_example_of_the_filter_names_files_that_exist() -> None:
    path = Path(COLLECTION, "plugins/filter/host_requirements.py")
    text = path.read_text(encoding="utf-8")
    (task,) = yaml.safe_load(text.split('EXAMPLES = r"""')[1].split('"""')[0])
    assert Path(COLLECTION, task["vars"]["lock"].split("/dagster/", 1)[1]).exists()
