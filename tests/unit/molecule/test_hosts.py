"""The helpers of the tests on hosts: who may be sent a signal, and how what a host says is read."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import listeners
import pytest
import refusals
import releases
import restarts
import secrets_on_host
from deployment import Play


def test_ports_that_any_start_changes_are_not_compared() -> None:
    found = listeners.known(
        [
            "tcp 127.0.0.11:40123 nobody of this host",
            "tcp 127.0.0.1:40124 containerd containerd.service",
            "tcp 0.0.0.0:40125 containerd containerd.service",
            "unix /run/systemd/private root:root 600 systemd init",
            "unix /run/docker.sock root:docker 660 dockerd docker.service",
        ]
    )
    assert found == {
        "tcp 127.0.0.11:* nobody of this host",
        "tcp 127.0.0.1:* containerd containerd.service",
        "tcp 0.0.0.0:40125 containerd containerd.service",
        "unix /run/docker.sock root:docker 660 dockerd docker.service",
    }


def test_secret_is_looked_for_as_each_file_writes_it() -> None:
    assert secrets_on_host.spellings({"x": 'a:b\\c"$'})["x"] == sorted(['a:b\\c"$', 'a\\:b\\\\c"$', 'a:b\\\\c\\"\\$'])


def test_arguments_of_a_play_are_read_from_its_output() -> None:
    output = (
        'TASK [x] ***\nok: [h] => {\n  "invocation": {"module_args": {"units": [{"name": "a"}]}}\n}\n'
        'ok: [h] => {"changed": false}\n'
    )
    assert restarts.units(output) == [{"name": "a"}]
    with pytest.raises(AssertionError, match="the play shows no call with files"):
        restarts.invocations(output, "files")


def test_files_of_a_play_are_those_of_each_host() -> None:
    kept, gone = {"dest": "/etc/a"}, {"dest": "/etc/b", "state": "absent"}
    said = json.dumps({"invocation": {"module_args": {"files": [kept, gone]}}})
    output = f"changed: [edge1] => {said}\nok: [edge2 -> db(10.0.0.3)] => {said}\nok: [edge2] => {{}}\n"
    assert releases.written_by_host(Play(0, output)) == {"edge1": {"/etc/a"}, "db": {"/etc/a"}}
    assert releases.written(Play(0, output)) == {"/etc/a", *releases.CONFIGURATION}


REFUSED = """fatal: [dagster1]: FAILED! =>
    changed: false
    msg: |-
        Nothing was changed. dagster1 has 2 problems:
        - port 5432 is held by postgres; change dagster_database_port
        - the host has a user dagster
PLAY RECAP
dagster1 : ok=0 changed=0 failed=1
"""


def test_one_sentence_has_all_the_words() -> None:
    refusals.refused_in_one_sentence(Play(2, REFUSED), ["5432", "dagster_database_port"])
    refusals.refused(Play(2, REFUSED), ["5432", "user dagster"])
    with pytest.raises(AssertionError, match="are in no line of"):
        refusals.refused_in_one_sentence(Play(2, REFUSED), ["5432", "user dagster"])
    with pytest.raises(AssertionError):
        refusals.refused(Play(2, REFUSED.replace("changed=0", "changed=1")), ["5432"])


def test_the_module_that_a_host_is_asked_with_needs_no_ansible() -> None:
    given = base64.b64encode(json.dumps([restarts.sources(), [], []]).encode())
    loads = restarts.PROGRAM.partition("def actions")[0] + "print(module.wanted_action.__name__)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", loads], input=given, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"wanted_action\n"
