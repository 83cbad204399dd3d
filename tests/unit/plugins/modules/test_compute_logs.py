"""Module compute_logs: whom it asks, what it says and what it notes. Stores and Dagster are in tests/integration."""

from __future__ import annotations

import errno
import io
import json
import stat
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from fake_engine import refusal

from ansible_collections.dataops.dagster.plugins.action import compute_logs
from ansible_collections.dataops.dagster.plugins.module_utils._dagster import log_probe
from ansible_collections.dataops.dagster.plugins.module_utils._dagster.log_words import Asked
from ansible_collections.dataops.dagster.plugins.module_utils._docker import log_containers
from ansible_collections.dataops.dagster.plugins.module_utils._host.snapshot import mark
from ansible_collections.dataops.dagster.plugins.modules import compute_logs as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils import snapshot

S3 = {"module": "dagster_aws.s3", "class": "S3ComputeLogManager", "config": {"bucket": "logs"}}
GOOD = {"problem": "", "phase": "", "said": "", "address": "", "left": False}
SECRET = "not-a-real-key-5a"
# Ends as the real program, but for what the store says.
PYTHON = """#!/bin/sh
cat >%(folder)s/asked
env >%(folder)s/environ
echo "$*" | grep -c %(secret)s >%(folder)s/argv
cat %(folder)s/answer
"""


class Ended(BaseException):
    """exit_json or fail_json was called."""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    found = tmp_path / "python"
    found.write_text(PYTHON % {"folder": tmp_path, "secret": SECRET}, encoding="utf-8")
    found.chmod(0o755)
    (tmp_path / "answer").write_text(json.dumps(GOOD), encoding="utf-8")
    return found


def given(folder: Path, **changes: Any) -> dict[str, Any]:
    found = {
        "section": S3,
        "python": str(folder / "python"),
        "env": {"STAGE": "prod"},
        "secret_env": {"OTHER": SECRET},
        "file_variable": "AWS_SHARED_CREDENTIALS_FILE",
        "login": f"[default]\naws_secret_access_key = {SECRET}",
        "login_variable": "dagster_compute_logs_login",
        "record": str(folder / "programs" / "proven_logs.json"),
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def call(folder: Path, *, check: bool = False, **changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"warned": []}

    def end(failed: bool) -> Any:
        def stop(_self: Any, **result: Any) -> None:
            answer.update(result, failed=failed)
            raise Ended

        return stop

    arguments = {**given(folder, **changes), "_ansible_check_mode": check}
    with pytest.MonkeyPatch.context() as patch, patch_module_args(arguments):
        patch.setattr(basic.AnsibleModule, "exit_json", end(False))
        patch.setattr(basic.AnsibleModule, "fail_json", end(True))
        patch.setattr(basic.AnsibleModule, "warn", lambda _self, text: answer["warned"].append(text))
        with pytest.raises(Ended):
            subject.main()
    return answer


def test_what_goes_well_is_noted_and_asked_once(tmp_path: Path, python: Path) -> None:
    assert call(tmp_path, check=True)["asked"] == ["a service of this host"]
    assert not (tmp_path / "programs").exists(), "a check notes nothing"
    assert call(tmp_path)["asked"] == ["a service of this host"]
    record = tmp_path / "programs" / "proven_logs.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert SECRET not in record.read_text(encoding="utf-8")
    again = call(tmp_path)
    assert (again["asked"], again["changed"], again["failed"]) == ([], False, False)
    assert call(tmp_path, again=True)["asked"] != []
    for change in ({"login": "another"}, {"section": {**S3, "config": {"bucket": "b"}}}, {"env": {"STAGE": "test"}}):
        assert call(tmp_path, check=True, **change)["asked"] != [], change
    assert python.exists()


def test_secrets_go_through_a_pipe_alone(tmp_path: Path, python: Path) -> None:
    call(tmp_path, python=str(python))
    asked = json.loads((tmp_path / "asked").read_text(encoding="utf-8"))
    assert SECRET in asked["login"]["text"]
    assert asked["secrets"] == {"OTHER": SECRET}
    assert SECRET not in (tmp_path / "environ").read_text(encoding="utf-8")
    assert (tmp_path / "argv").read_text(encoding="utf-8").strip() == "0"


def test_what_goes_wrong_is_a_sentence_and_is_asked_again(tmp_path: Path, python: Path) -> None:
    said = {**GOOD, "problem": "bucket", "phase": "write", "said": "NoSuchBucket", "address": "s3.example.com:443"}
    (tmp_path / "answer").write_text(json.dumps(said), encoding="utf-8")
    for _time in range(2):
        failed = call(tmp_path, python=str(python))
        assert failed["failed"]
        assert failed["problems"] == [
            "a service of this host finds no bucket logs at s3.example.com:443 (NoSuchBucket); make it, or correct "
            "dagster_config.compute_logs.config.bucket"
        ]
        assert failed["problems"][0] in failed["msg"]
    (tmp_path / "answer").write_text("no JSON", encoding="utf-8")
    assert "could not use bucket logs" in call(tmp_path)["msg"]
    (tmp_path / "answer").write_text(json.dumps({**GOOD, "left": True}), encoding="utf-8")
    assert "may not delete in bucket logs" in call(tmp_path)["warned"][0]


def test_store_that_is_away_later_stops_no_other_play(tmp_path: Path, python: Path) -> None:
    assert call(tmp_path, python=str(python))["asked"] != []
    (tmp_path / "answer").write_text(json.dumps({**GOOD, "problem": "route", "said": "timed out"}), encoding="utf-8")
    assert call(tmp_path, again=True)["failed"], "health.yml says so"
    assert call(tmp_path)["asked"] == []
    assert call(tmp_path, login="another")["failed"], "the control"


def test_record_that_cannot_be_written_is_a_warning(tmp_path: Path, python: Path) -> None:
    (tmp_path / "programs").write_text("where the folder should be", encoding="utf-8")
    found = call(tmp_path, python=str(python))
    assert not found["failed"]
    (warning,) = found["warned"]
    assert "so the next play tries the store again" in warning


def test_full_disk_is_not_taken_for_a_store() -> None:
    full = RuntimeError("could not store")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert log_probe.judged(full, "write") == "disk"
    said = Asked("a service", S3, "").sentence({**GOOD, "problem": "disk", "said": "No space left on device"})
    assert said.endswith("(No space left on device); free space on this host, where its /tmp is")


# Containers


class Api:
    """An engine whose containers answer what they are told to."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.made: list[dict[str, Any]] = []
        self.joined: list[str] = []
        self.files: dict[str, tuple[int, int, str]] = {}
        self.left = ["old"]

    def containers(self, **_how: Any) -> list[dict[str, str]]:
        return [{"Id": name} for name in self.left]

    def remove_container(self, container: str, **_how: Any) -> None:
        self.left.remove(container)

    def create_host_config(self, **given: Any) -> dict[str, Any]:
        return given

    def create_networking_config(self, given: dict[str, Any]) -> dict[str, Any]:
        return given

    def create_endpoint_config(self) -> dict[str, Any]:
        return {}

    def create_container(self, image: str, command: list[str], **given: Any) -> dict[str, str]:
        if image == "gone":
            raise refusal(404, "No such image: gone")
        self.made.append({"image": image, "command": command, **given})
        self.left.append("new")
        return {"Id": "new"}

    def connect_container_to_network(self, _container: str, name: str) -> None:
        self.joined.append(name)

    def put_archive(self, _container: str, _path: str, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                stream = archive.extractfile(info)
                self.files[info.name] = (info.uid, info.mode, stream.read().decode() if stream else "")

    def start(self, _container: str) -> None:
        pass

    def wait(self, _container: str, timeout: int) -> dict[str, int]:
        assert timeout > log_probe.TIME_LIMIT_SECONDS
        return {"StatusCode": 0}

    def logs(self, _container: str, *, stdout: bool, **_how: Any) -> bytes:
        return json.dumps(self.answers.pop(0)).encode() if stdout else b"noise"


CONTAINER = {
    "name": "etl",
    "kind": "run",
    "image": "etl:1",
    "user": "4711:4711",
    "env": {"AWS_SHARED_CREDENTIALS_FILE": "/run/dagster/compute_logs.login"},
    "volumes": ["/:/host:ro", "volume:/data:rw", "/not/there/yet:/state:rw"],
    "networks": ["dagster", "lake"],
    "extra_hosts": {"store.example.com": "10.0.0.9"},
}
SECRETS = {"etl": {"files": {"/run/dagster/compute_logs.login": SECRET}, "env": {"TOKEN": SECRET}}}


def in_containers(folder: Path, api: Api, **changes: Any) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "Engine", lambda *_given, **_how: type("E", (), {"api": api})())
        return call(folder, python=None, containers=[CONTAINER], secrets=SECRETS, **changes)


def test_container_is_like_a_run_and_its_secrets_are_files_of_its_own(tmp_path: Path) -> None:
    api = Api(GOOD)
    assert in_containers(tmp_path, api)["asked"] == ["a run of location etl"]
    (made,) = api.made
    settings = made["host_config"]
    assert (made["user"], settings["network_mode"], api.joined) == ("4711:4711", "dagster", ["lake"])
    assert settings["extra_hosts"] == {"store.example.com": "10.0.0.9"}
    assert settings["cap_drop"] == ["ALL"]
    assert settings["binds"] == ["/:/host:ro", "volume:/data:rw"], "the engine makes no folder of ours"
    assert SECRET not in json.dumps(made), "docker inspect"
    assert api.files["run/dagster/compute_logs.login"] == (4711, 0o400, SECRET)
    assert api.files["run/dagster"][:2] == (4711, 0o500)
    owner, mode, text = api.files["dagster-check.json"]
    assert (owner, mode) == (4711, 0o400)
    assert json.loads(text)["secrets"] == {"TOKEN": SECRET}
    assert api.left == [], "nothing is left, of a killed play neither"
    assert in_containers(tmp_path, Api())["asked"] == []


def test_what_a_container_says_names_its_location(tmp_path: Path) -> None:
    refused = {**GOOD, "problem": "no login", "phase": "build", "said": "Unable to locate credentials"}
    (problem,) = in_containers(tmp_path, Api(refused), login_variable="")["problems"]
    assert problem == (
        "a run of location etl finds no login for bucket logs (Unable to locate credentials); set "
        "dagster_compute_logs_login; runs use the role of their host only with dagster_firewall_run_metadata"
    )
    said = log_containers.answer_of("", "No such image: gone")
    assert (said["problem"], said["said"]) == ("store", "No such image: gone")


def known(folder: Path, **changes: Any) -> bool:
    """Whether a task needs no call, with a snapshot of that folder."""
    entries = {
        str(path): {"mark": mark(snapshot.KEY, str(path), path.read_bytes())} for path in folder.glob("programs/*")
    }
    read = snapshot.Snapshot({"places": [f"{folder}/programs/*"], "entries": {str(folder): {}, **entries}})
    task = SimpleNamespace(args=given(folder, **changes))
    action = compute_logs.ActionModule(task, *[MagicMock()] * 5)
    try:
        assert action.known(read) == {"changed": False, "asked": [], "problems": []}
    except snapshot.Unknown:
        return False
    return True


def test_second_run_needs_no_call(tmp_path: Path, python: Path) -> None:
    """Until something that the module would try again."""
    assert not known(tmp_path)
    call(tmp_path, python=str(python))
    assert known(tmp_path)
    for change in ({"login": "another"}, {"again": True}, {"section": {**S3, "config": {"bucket": "b"}}}):
        assert not known(tmp_path, **change), change


def test_second_run_needs_no_call_for_containers(tmp_path: Path) -> None:
    code: dict[str, Any] = {"python": None, "containers": [CONTAINER], "secrets": SECRETS}
    assert not known(tmp_path, **code)
    in_containers(tmp_path, Api(GOOD))
    assert known(tmp_path, **code)
    assert not known(tmp_path, **{**code, "secrets": {}}), "they have another login"
    assert not known(tmp_path, **{**code, "containers": [{**CONTAINER, "image": "etl:2"}]})


# Sentences


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("name", "cannot resolve a:1, the store of compute logs (x); correct dagster_config.compute_logs.config.end"),
        ("route", "cannot reach a:1, the store of compute logs (x); correct dagster_config.compute_logs.config.end"),
        ("no tls", "http:// for a store without TLS"),
        ("certificate", "does not trust the certificate of a:1 (x); name a file with its authority in dagster_environ"),
        ("login", "has a login that a:1 does not accept (x); correct dagster_compute_logs_login"),
        ("bucket", "finds no bucket logs at a:1 (x); make it, or correct dagster_config.compute_logs.config.bucket"),
        ("region", "set dagster_environment.AWS_DEFAULT_REGION"),
        ("rights", "may not write to bucket logs (x); give the login that right, or correct dagster_compute_logs_log"),
        ("clock", "set it by NTP"),
        ("class", "correct its module and class"),
        ("config", "cannot use dagster_config.compute_logs (x)"),
        ("store", "could not write to bucket logs at a:1: x; see dagster_config.compute_logs.config"),
    ],
)
def test_sentence(problem: str, words: str) -> None:
    answer = {"problem": problem, "phase": "write", "said": "x", "address": "a:1", "left": False}
    found = Asked("a service", S3, "dagster_compute_logs_login").sentence(answer)
    assert found.startswith("a service ")
    assert words in found
    assert "\n" not in found


def test_login_of_a_location_is_named_where_it_is_given() -> None:
    answer = {**GOOD, "problem": "login", "said": "x"}
    found = Asked("a run", S3, "", "etl").sentence(answer)
    assert "correct secrets and secret_env of dagster_code_locations[etl]" in found
    assert "correct dagster_secret_environment" in Asked("a service", S3, "").sentence(answer)


def test_an_exception_is_told_without_secrets() -> None:
    text = log_probe.text_of(ValueError(f"key {SECRET}\n  is bad RequestId:1"), {"login": f"[default]\n{SECRET}"})
    assert text == "key *** is bad"
