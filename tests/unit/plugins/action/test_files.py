"""Action files in a real play: what it renders on the controller is what the host gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.dataops.dagster.plugins.action import files

ROOT = Path(__file__).resolve().parents[4]


class Project:
    """A folder with a playbook of one task and its templates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = folder / "host"
        self.host.mkdir()
        (folder / "templates/etc").mkdir(parents=True)

    def template(self, name: str, text: str) -> None:
        (self.folder / "templates" / name).write_text(text, encoding="utf-8")

    def play(
        self,
        *files: dict[str, Any],
        arguments: tuple[str, ...] = (),
        ok: bool = True,
        variables: dict[str, Any] | None = None,
    ) -> str:
        entries = [{**entry, "dest": f"{self.host}/{entry['dest']}"} for entry in files]
        task = {"name": "Write", "dataops.dagster.files": {"files": entries}, "register": "written"}
        show = {"name": "Show", "ansible.builtin.debug": {"var": "written.changed_paths"}}
        play = {
            "name": "Play",
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable, **(variables or {})},
            "tasks": [task, show],
        }
        (self.folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                "-i",
                "localhost,",
                "-c",
                "local",
                "play.yml",
                *arguments,
            ],
            cwd=self.folder,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, output
        assert "Traceback" not in output
        return output

    def read(self, name: str) -> str:
        return (self.host / name).read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_templates_become_files(project: Project) -> None:
    project.template(
        "etc/a.conf.j2", "# {{ title }}\n{% for port in ports %}\nport {{ port }}\n{% endfor %}\n\\n {{ own }}\n"
    )
    project.template("etc/b.conf.j2", "{% include 'part.j2' %}\n")
    project.template("etc/part.j2", "part of {{ title }}")
    project.template("data.json.j2", "{{ {'a': ports} | to_json }}\n")
    project.template("number.j2", "{{ ports[0] }}")
    project.play(
        {"dest": "a.conf", "template": "etc/a.conf.j2", "vars": {"own": "{{ title }}!"}, "mode": "0640"},
        {"dest": "b.conf", "template": "etc/b.conf.j2"},
        {"dest": "data.json", "template": "data.json.j2"},
        {"dest": "number", "template": "number.j2"},
        {"dest": "plain", "content": "{{ title }}\n"},
        {"dest": "gone", "template": "etc/b.conf.j2", "state": "{{ 'file' if ports == [] else 'absent' }}"},
        variables={"title": "Ägypten", "ports": [1, 2]},
    )
    assert project.read("a.conf") == "# Ägypten\nport 1\nport 2\n\\n Ägypten!\n"
    assert project.read("b.conf") == "part of Ägypten\n"
    assert json.loads(project.read("data.json")) == {"a": [1, 2]}
    assert project.read("number") == "1"
    assert project.read("plain") == "Ägypten\n"
    assert sorted(path.name for path in project.host.iterdir()) == ["a.conf", "b.conf", "data.json", "number", "plain"]


def test_secret_is_in_no_output(project: Project) -> None:
    project.template("pgpass.j2", "*:*:*:dagster:{{ password }}\n")
    files = (
        {"dest": "pgpass", "template": "pgpass.j2", "secret": "true", "mode": "0600"},
        {"dest": "other", "content": "{{ other }}", "secret": True},
        {"dest": "open", "content": "shown to all\n", "secret": "false"},
    )
    words = {"password": "hunter2hunter2", "other": "correct-horse"}
    for arguments in (("--check", "--diff", "-vvv"), ("--diff", "-vvv"), ("--diff", "-vvv")):
        output = project.play(*files, arguments=arguments, variables=words)
        assert "hunter2" not in output
        assert "correct-horse" not in output
    assert project.read("pgpass") == "*:*:*:dagster:hunter2hunter2\n"
    assert project.read("other") == "correct-horse"
    assert project.read("open") == "shown to all\n"
    assert (project.host / "pgpass").stat().st_mode & 0o777 == 0o600
    assert "changed=0" in output


def test_secret_travels_in_the_option_that_no_journal_shows() -> None:
    """Ansible writes the other options into the host's journal as one text, in which it does not find a whole value."""
    entry = {"dest": "/pgpass", "content": "hunter2\n", "secret": True, "mode": "0600"}
    task = MagicMock(args={"files": [entry]}, check_mode=False, async_val=0, environment=None)
    action = files.ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
    action._execute_module = MagicMock(return_value={"changed": True})
    action.run(task_vars={})
    assert action._execute_module.call_args.kwargs["module_args"] == {
        "files": [{"dest": "/pgpass", "secret": True, "mode": "0600"}],
        "secrets": {"/pgpass": "hunter2\n"},
    }


def test_text_of_two_sources_is_refused(project: Project) -> None:
    project.template("a.j2", "x")
    output = project.play({"dest": "a", "template": "a.j2", "content": "y"}, ok=False)
    assert "has both content and template; keep one of them" in output


def test_variable_that_is_not_set_is_named(project: Project) -> None:
    project.template("a.j2", "{{ never_set }}")
    output = project.play({"dest": "a", "template": "a.j2"}, ok=False)
    assert "never_set" in output
    assert list(project.host.iterdir()) == []


def test_a_failure_names_the_variables_of_the_file() -> None:
    """Also those that it reads through variables of the role, and those of what role instance has staged."""
    variables = {
        "dagster_plan": {},
        "dagster": {"listen": "0.0.0.0"},
        "dagster_name": "x",
        "__dagster_servers": "{{ [dagster.listen] + __dagster_named }}",
        "__dagster_named": "{{ [dagster_name] + __dagster_servers }}",
    }
    text = "{{ dagster_plan.names.own }} {{ dagster.unknown }} "
    text += "{% for server in __dagster_servers %}{{ dagster_gone }}{% endfor %}"
    assert files.made_from(text, variables) == ["dagster_listen", "dagster_name"]
    action = files.ActionModule.__new__(files.ActionModule)
    action._texts = {"/etc/a.conf": text, "/etc/b.conf": text}
    said = "refused /etc/a.conf:3. The previous files are back: /etc/dagster/environment, "
    said += "/opt/dagster/current.\nIt serves."
    assert action._origins(said, variables) == [
        "/etc/a.conf is made from dagster_listen, dagster_name.",
        "/etc/dagster/environment is made from dagster_environment.",
        "/opt/dagster/current is made from dagster_version.",
    ]
