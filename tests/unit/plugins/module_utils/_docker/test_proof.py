"""Whether runs can open the instance in an image: what an engine is asked, and what is said. Dagster is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster_forks
import pytest
from fake_engine import refusal
from support import ORACLE, dagster_python

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.skew import skew
from ansible_collections.dataops.dagster.plugins.module_utils._docker.proof import PROGRAM, REQUEST, Proofs, Verdict

S3 = "compute_logs: {module: dagster_aws.s3, class: S3ComputeLogManager, config: {bucket: logs}}\n"
POSTGRES = (
    "storage: {postgres: {postgres_db: {hostname: {env: DB_HOST}, username: u, password: p, db_name: d, port: 5432}}}\n"
)
ENV = {"DB_HOST": "db.example.com"}
GOOD = '{"dagster_version": "1.13.27", "problems": []}'


class Api:
    """An engine whose containers run the program under a Python of this machine."""

    def __init__(self, python: str, answer: str | None = None) -> None:
        self.python, self.answer = python, answer
        self.images_held = ["sha256:1", "sha256:2"]
        self.started: list[str] = []
        self.held: dict[str, dict[str, Any]] = {}
        self.left = ["old"]
        self.of_image: dict[str, str] = {}  # the environment that an image brings

    def containers(self, all: bool, filters: dict[str, Any]) -> list[dict[str, str]]:  # noqa: ARG002
        return [{"Id": name} for name in self.left]

    def remove_container(self, container: str, **_how: bool) -> None:
        self.held.pop(container, None)
        self.left = [name for name in self.left if name != container]

    def create_host_config(self, **given: Any) -> dict[str, Any]:
        assert given["network_mode"] == "none"
        return given

    def create_container(self, image: str, command: list[str], **given: Any) -> dict[str, str]:
        assert command[:2] == ["sh", "-c"]
        self.held["c1"] = {"image": image, "env": given["environment"], "files": {}}
        return {"Id": "c1"}

    def put_archive(self, container: str, _path: str, data: bytes) -> None:
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            for name in (PROGRAM, REQUEST):
                stream = archive.extractfile(name)
                assert stream is not None
                self.held[container]["files"][name] = stream.read().decode()

    def start(self, container: str) -> None:
        held = self.held[container]
        self.started.append(held["image"])
        if self.answer is not None:
            held["done"] = subprocess.CompletedProcess([], 1, self.answer, "it did not work\n")
            return
        if not self.python:
            raise refusal(400, 'exec: "sh": executable file not found in $PATH')
        environment = {"PATH": os.defpath, **self.of_image, **held["env"]}
        held["done"] = dagster_forks.run(self.python, held["files"][PROGRAM], held["files"][REQUEST], environment)

    def wait(self, container: str, timeout: int) -> dict[str, int]:  # noqa: ARG002
        return {"StatusCode": self.held[container]["done"].returncode}

    def logs(self, container: str, stdout: bool, stderr: bool, **_how: int) -> bytes:  # noqa: ARG002
        done = self.held[container]["done"]
        return str(done.stdout if stdout else done.stderr).encode()

    def images(self, **_how: bool) -> list[str]:
        return self.images_held


class Engine:
    def __init__(self, api: Api) -> None:
        self.api = api


@pytest.fixture
def instance(tmp_path: Path) -> dict[str, Any]:
    return {
        "dagster_yaml": POSTGRES + S3,
        "dagster_version": "1.13.27",
        "written": ["compute_logs"],
        "env": ENV,
        "location_env": {},
        "record": str(tmp_path / "dagster" / "proven_images.json"),
    }


def prove(api: Api, instance: dict[str, Any], **images: str) -> Verdict:
    found = Proofs(Engine(api), instance).prove({name: {"id": image} for name, image in images.items()})  # type: ignore[arg-type]
    assert api.held == {}, "no container stays"
    return found


@pytest.fixture
def dagster() -> str:
    return dagster_python()


def test_a_good_image_is_asked_once(dagster: str, instance: dict[str, Any]) -> None:
    api = Api(dagster)
    verdict = prove(api, instance, etl="sha256:1", bi="sha256:1")
    assert (verdict.errors, verdict.warnings) == ([], [])
    assert verdict.versions == {"etl": "1.13.27", "bi": "1.13.27"}
    assert (api.started, api.left) == (["sha256:1"], [])
    # A second play asks nothing, and says the same.
    again = Api("")
    assert prove(again, instance, etl="sha256:1", bi="sha256:1").versions == verdict.versions
    assert again.started == []
    # Another dagster.yaml does.
    instance["dagster_yaml"] = POSTGRES
    prove(api, instance, etl="sha256:1")
    assert api.started == ["sha256:1"] * 2
    # What is gone leaves the record.
    api.images_held = ["sha256:2"]
    prove(api, instance, etl="sha256:2")
    with open(instance["record"], encoding="utf-8") as stream:
        assert list(json.load(stream)) == ["sha256:2"]


@pytest.mark.skipif(not ORACLE.exists(), reason="tests/rig/rig oracle makes a Dagster with all libraries")
def test_login_of_compute_logs_is_not_missed(instance: dict[str, Any]) -> None:
    """Google's class looks for it as soon as it is built. Runs have the file, and this container has not."""
    login = {"GOOGLE_APPLICATION_CREDENTIALS": "/run/dagster/compute_logs.login"}
    instance["env"] = {**ENV, **login}
    named = "".join(f"# {name}={value}\n" for name, value in instance["env"].items())
    gcs = "compute_logs: {module: dagster_gcp.gcs, class: GCSComputeLogManager, config: {bucket: logs}}\n"
    instance["dagster_yaml"] = POSTGRES + gcs + named
    api = Api(str(ORACLE))
    api.of_image = login
    assert prove(api, instance, etl="sha256:1").errors == []


def test_two_environments_of_one_image_are_both_remembered(instance: dict[str, Any]) -> None:
    instance["location_env"] = {"bi": {"DB_HOST": "other", "UNRELATED": "x"}, "etl": {"UNRELATED": "y"}}
    prove(Api("", GOOD), instance, etl="sha256:1", bi="sha256:1")
    again = Api("")
    assert prove(again, instance, etl="sha256:1", bi="sha256:1").errors == []
    instance["dagster_yaml"] = POSTGRES
    api = Api("", GOOD)
    prove(api, instance, etl="sha256:1", bi="sha256:1", new="sha256:2")
    assert sorted(api.started) == ["sha256:1", "sha256:1", "sha256:2"]


def test_a_missing_library_is_named(dagster: str, instance: dict[str, Any]) -> None:
    instance["dagster_yaml"] = POSTGRES + S3.replace("dagster_aws.s3", "dagster_gcp.gcs").replace("S3Comp", "GCSComp")
    verdict = prove(Api(dagster), instance, etl="sha256:1")
    assert verdict.errors == [
        "image of location etl has no dagster_gcp, which dagster_config.compute_logs needs in each run; add "
        "dagster-gcp==0.29.27 to its Dockerfile."
    ]
    assert not os.path.exists(instance["record"]), "what is refused is asked again"


LAUNCHER = (
    "run_launcher: {module: dagster_docker, class: DockerRunLauncher, config: {env_vars: [A=b], networks: [dagster], "
    "container_kwargs: {init: true}}}\n"
)


def test_runs_that_start_steps_read_the_launcher_too(dagster: str, instance: dict[str, Any]) -> None:
    """Other locations of the same image do without its library."""
    gone = LAUNCHER.replace("dagster_docker", "dagster_gcp")
    instance["steps"] = {"dagster_yaml": POSTGRES + gone, "written": [], "locations": ["etl"]}
    verdict = prove(Api(dagster), instance, etl="sha256:1", bi="sha256:1")
    assert verdict.errors == [
        "image of location etl has no dagster_gcp, which step_containers (our run_launcher) needs in each run; add "
        "dagster-gcp==0.29.27 to its Dockerfile."
    ]
    assert verdict.versions == {"bi": "1.13.27"}
    instance["steps"]["dagster_yaml"] = POSTGRES + LAUNCHER
    again = Api(dagster)
    assert prove(again, instance, etl="sha256:1", bi="sha256:1").errors == []
    assert again.started == ["sha256:1"], "the other one is remembered"


def test_what_an_older_library_does_not_know_is_said(dagster: str, instance: dict[str, Any]) -> None:
    instance["dagster_yaml"] = POSTGRES.replace("db_name: d", "db_name: d, of_the_future: 1")
    (problem,) = prove(Api(dagster), instance, etl="sha256:1").errors
    assert problem.startswith(
        "image of location etl: runs could not open the instance with its Dagster 1.13.27: our stor"
    )
    assert "of_the_future" in problem


def test_a_variable_that_only_the_image_may_have_is_a_warning(dagster: str, instance: dict[str, Any]) -> None:
    instance["env"] = {}
    verdict = prove(Api(dagster), instance, etl="sha256:1")
    assert verdict.errors == []
    assert "DB_HOST is not set" in verdict.warnings[0]


def test_an_image_without_dagster(instance: dict[str, Any]) -> None:
    for api in (Api(""), Api("", answer="Welcome\n"), Api(sys.executable, answer="")):
        (problem,) = prove(api, instance, etl="sha256:1", bi="sha256:1").errors
        assert problem.startswith("image of locations etl, bi cannot start a run: its command dagster ended with ")
        assert "install dagster==1.13.27 and the library of the storage" in problem


def test_words_of_an_entrypoint_come_before_the_answer(instance: dict[str, Any]) -> None:
    answer = 'Starting...\n{"dagster_version": "1.13.26", "problems": []}\n'
    verdict = prove(Api("", answer=answer), instance, etl="sha256:1")
    assert verdict.errors == []
    assert verdict.warnings == [
        "image of location etl has Dagster 1.13.26, and the services have 1.13.27 (dagster_version); older code works, "
        "build it anew when you can."
    ]


def test_an_image_that_check_mode_has_only_announced(instance: dict[str, Any]) -> None:
    assert Proofs(Engine(Api("")), instance).prove({"etl": {"id": None}}) == Verdict()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "refused", "words"),
    [
        ("1.13.27", False, ""),
        ("1.13.20", False, "older code works"),
        ("1.9.13", False, "older code works"),
        ("1.13.28", False, "upgrade dagster_version first"),
        ("1.14.0", True, "Set dagster_version to 1.14 or newer first, or install dagster==1.13.27"),
        ("2.0.1", True, "one major version"),
        ("0.15.9", True, "one major version"),
        ("1!0+dev", False, "is not known"),
    ],
)
def test_skew(code: str, refused: bool, words: str) -> None:
    found, text = skew(code, "1.13.27")
    assert (found, words in text) == (refused, True)
    assert bool(text) == (code != "1.13.27")
