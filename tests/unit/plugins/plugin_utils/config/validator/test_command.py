"""The validator as a command, and the corpus without Dagster: its verdicts are kept beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import load_program

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import catalogue, json_schema, validate

ROOT = Path(__file__).resolve().parents[6]
GOOD = "telemetry: {enabled: false}\n"
BAD = "telemetry: {enabled: 'no'}\nnux: {}\nnux: {}\n"


def run(*arguments: str, cwd: Path | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(ROOT / "scripts" / "validate.py"), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    (tmp_path / "warned.yaml").write_text("run_queue: {max_concurrent_runs: 0}\n")
    return tmp_path


def test_valid_files_end_with_0(files: Path) -> None:
    done = run("good.yaml", "workspace.yaml", cwd=files)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("warned.yaml", cwd=files)
    assert done.returncode == 0
    assert done.stdout.startswith("warned.yaml:1: warning: run_queue.max_concurrent_runs: found 0")


def test_errors_look_like_a_compilers(files: Path) -> None:
    done = run("good.yaml", "bad.yaml", cwd=files)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith(
        "bad.yaml:1: error: telemetry.enabled: found the text 'no'; expected true or false -- write no"
    )
    assert second.startswith("bad.yaml:3: refused: nux: found the key nux twice, in lines 2 and 3")
    assert second.endswith("[duplicate_key]")


def test_json_is_an_object_a_line(files: Path) -> None:
    done = run("--format", "json", "bad.yaml", "good.yaml", "no.yaml", cwd=files)
    assert done.returncode == 1
    bad, good, missing = map(json.loads, done.stdout.splitlines())
    assert good == {
        "file": "good.yaml",
        "accepted_by_dagster": True,
        "valid": True,
        "errors": [],
        "refusals": [],
        "warnings": [],
    }
    assert (bad["accepted_by_dagster"], bad["valid"]) == (False, False)
    assert [set(row) for row in bad["errors"] + bad["refusals"]] == [{"line", "path", "message", "hint"}] * 2
    assert "No such file" in missing["errors"][0]["message"]


def test_kind_version_env_allow_and_stdin(files: Path) -> None:
    assert run("workspace.yaml", "--kind=dagster", cwd=files).returncode == 1
    assert run("--kind", "workspace", "good.yaml", cwd=files).returncode == 1
    no_password = "storage: {postgres: {postgres_db: {hostname: h, username: {env: U}, db_name: d}}}"
    assert run("-", text=no_password).returncode == 0
    assert "password is missing" in run("--dagster", "1.11", "-", text=no_password).stdout
    assert "no environment variable U" in run("--env", "A,B", "-", text=no_password).stdout
    assert run("--allow", "duplicate_key", "-", text="nux: {}\nnux: {}\n").returncode == 0


@pytest.mark.parametrize(
    "arguments", [[], ["--kind", "x", "f"], ["--format"], ["--nothing"], ["--dagster", "0.1", "f"]]
)
def test_wrong_calls_end_with_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: validate" in done.stderr


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "--allow" in done.stdout


@pytest.mark.parametrize("kind", ["dagster", "workspace"])
@pytest.mark.parametrize("minor", catalogue.minors())
def test_schema(minor: str, kind: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema.json_schema(catalogue.load(minor), kind)
    jsonschema.Draft7Validator.check_schema(schema)
    check = jsonschema.Draft7Validator(schema)
    if kind == "workspace":
        assert list(check.iter_errors({"load_from": [{"grpc_server": {"port": {"env": "P"}}}]})) == []
        assert list(check.iter_errors({"load_from": [{"grpc_server": {"prot": 1}}]})) != []
        return
    docker = {"module": "dagster_docker", "class": "DockerRunLauncher"}
    assert list(check.iter_errors({"run_launcher": {**docker, "config": {"network": "x"}}})) == []
    assert list(check.iter_errors({"run_launcher": {**docker, "config": {"netwrok": "x"}}})) != []
    assert list(check.iter_errors({"storage": {"sqlite": {"base_dir": "/x"}}})) == []


corpus = load_program(ROOT / "tests" / "validator" / "corpus.py", "validator_corpus")


@pytest.mark.parametrize("minor", catalogue.minors())
def test_corpus_has_the_verdicts_of_real_dagster(minor: str) -> None:
    verdicts, cases = corpus.verdicts()[minor], corpus.cases()
    assert len(cases) >= 150
    assert set(verdicts) == {f"{case.kind}/{case.name}" for case in cases}
    wrong = [
        f"{case.kind}/{case.name}"
        for case in cases
        if validate(case.content, case.kind, minor).accepted_by_dagster is not verdicts[f"{case.kind}/{case.name}"]
    ]
    assert wrong == []
