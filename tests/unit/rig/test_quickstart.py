"""What quickstart shows of a deployment: a line for each step, and each failure."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import load_program

ROOT = Path(__file__).resolve().parents[3]
CALLBACKS = ROOT / "tests" / "rig" / "callback_plugins"
quickstart = load_program(ROOT / "tests" / "rig" / "quickstart.py", "quickstart_program")

PLAY = """
- name: Packages
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Succeed
      ansible.builtin.debug:
- name: Daemon
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Recover
      block:
        - name: Fail for a moment
          ansible.builtin.fail:
            msg: a rescued failure
      rescue:
        - name: Go on
          ansible.builtin.debug:
    - name: Try items
      ansible.builtin.fail:
        msg: "item {{ item }} is wrong"
      loop: [one, two]
      when: broken | bool
"""


def plays(name: str) -> list[str]:
    """Names of the plays of a playbook, with those that it imports."""
    found: list[str] = []
    for play in yaml.safe_load((ROOT / "playbooks" / name).read_text(encoding="utf-8")):
        imported = play.get("ansible.builtin.import_playbook")
        found += plays(imported) if imported else [play["name"]]
    return found


def test_each_play_is_a_step_in_its_order() -> None:
    assert plays("site.yml") == [play for step in quickstart.SITE for play in step.plays]


@pytest.fixture
def ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that runs PLAY on this machine."""
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml"), "-e"]


def test_a_play_that_succeeds(ansible: list[str], tmp_path: Path) -> None:
    screen, log = quickstart.Screen(io.StringIO(), again=False), tmp_path / "log"
    quickstart.run(screen, [*ansible, "broken=false"], log)
    screen.end()
    lines = screen.out.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["Packages", "Daemon"], "a rescued failure is none"
    assert all(line.endswith(" s") and " about " in line for line in lines)
    assert "TASK [Go on]" in log.read_text(encoding="utf-8"), "the log has all that Ansible says"


def test_a_play_that_fails(ansible: list[str], tmp_path: Path) -> None:
    screen, log = quickstart.Screen(io.StringIO(), again=False), tmp_path / "log"
    with pytest.raises(quickstart.Failed) as failed:
        quickstart.run(screen, [*ansible, "broken=true"], log)
    assert "Task failed on localhost: Try items\n" in str(failed.value)
    assert "item one is wrong" in str(failed.value)
    assert "item two is wrong" in str(failed.value)
    assert screen.out.getvalue().splitlines()[-1].endswith("FAILED")


def test_a_step_that_is_no_play_fails(tmp_path: Path) -> None:
    screen = quickstart.Screen(io.StringIO(), again=True)
    screen.start(quickstart.HOST)
    with pytest.raises(quickstart.Failed, match="the reason"):
        quickstart.run(screen, ["sh", "-c", "echo the reason >&2; exit 3"], tmp_path / "log")


def test_the_program_ends_with_an_error_and_names_the_log(tmp_path: Path) -> None:
    """As a newcomer calls it, in a checkout whose first step fails."""
    rig = tmp_path / "tests" / "rig"
    rig.mkdir(parents=True)
    for name in ("quickstart", "quickstart.py"):
        (rig / name).write_bytes((ROOT / "tests" / "rig" / name).read_bytes())
        (rig / name).chmod(0o755)
    (rig / "rig").write_text("#!/bin/sh\necho rig: no engine; exit 1\n", encoding="utf-8")
    (rig / "rig").chmod(0o755)
    done = subprocess.run([str(rig / "quickstart")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "rig: no engine" in done.stderr
    assert done.stderr.endswith(f"The whole log: {quickstart.LOG}\n")
    assert (tmp_path / quickstart.LOG).read_text(encoding="utf-8").endswith("rig: no engine\n")


def test_a_taken_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(quickstart.Failed, match=f"Port {port} on 127.0.0.1 is taken"):
            quickstart.free_port(str(port))
        monkeypatch.setattr(quickstart, "PORTS", range(port, port + 1))
        with pytest.raises(quickstart.Failed, match="QUICKSTART_PORT"):
            quickstart.free_port("")
    assert quickstart.free_port(str(port)) == port
