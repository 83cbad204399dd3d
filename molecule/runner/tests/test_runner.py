# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""site.yml and health.yml through ansible-runner as AWX runs them, and from an installed collection."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import environment
from runner.awx import (
    HOST,
    LOCATION_SECRET,
    MARKER,
    RIG,
    ROOT,
    Controller,
    Job,
    as_survey,
    secrets,
    short_survey_variables,
    survey_variables,
    tagged,
    typed_variables,
)

State = dict[str, tuple[int, int, int, int, str]]


def state(folder: Path) -> State:
    """Kind, owner, size, time and target of everything in a folder."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        stat = path.lstat()
        target = os.readlink(path) if path.is_symlink() else ""
        found[str(path.relative_to(folder))] = (stat.st_mode, stat.st_uid, stat.st_size, stat.st_mtime_ns, target)
    return found


def files_with(words: Iterable[bytes], folder: Path, but: tuple[str, ...] = ()) -> set[str]:
    """Files in a folder that hold one of the words, and which."""
    words = list(words)
    found = set()
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file() and not path.is_symlink() and name not in but:
            text = path.read_bytes()
            found |= {f"{name}: {word.decode()[:6]}..." for word in words if word in text}
    return found


def exported(source: Path) -> dict[str, Any]:
    """An inventory as AWX has it after it has read one from a project: without its folder."""
    command = ["ansible-inventory", "-i", str(source), "--list", "--export"]
    done = subprocess.run(command, cwd="/", env=environment(), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["all"]["vars"]["dagster_code_locations"], "group_vars are part of it"
    return found


@pytest.fixture(scope="module")
def controller() -> Controller:
    """A controller that reaches the rig's host as an AWX job does. It stays until destroy, to be looked at."""
    hosts = yaml.safe_load((RIG / "inventory/hosts.yml").read_text(encoding="utf-8"))["all"]["hosts"]
    connection = hosts[HOST] | {
        "ansible_ssh_private_key_file": "/runner/id_ed25519",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/runner/known_hosts -o IdentitiesOnly=yes",
    }
    inventory = exported(ROOT / "inventories/single_host")
    inventory["_meta"]["hostvars"].setdefault(HOST, {}).update(connection)
    folder = RIG / "controller"
    if folder.exists():
        shutil.rmtree(folder)
    found = Controller(folder)
    found.prepare(inventory)
    return found


@pytest.fixture(scope="module")
def before(controller: Controller) -> State:
    """The project before any job."""
    return state(controller.project)


@pytest.fixture(scope="module")
def site(controller: Controller, before: State) -> Job:
    """The first deployment, on a bare host, as talkative as it can be."""
    assert before
    return controller.run("site", "playbooks/site.yml", tagged(survey_variables()), "-vvv --diff")


@pytest.fixture(scope="module")
def again(controller: Controller, site: Job) -> Job:
    """The second one, as AWX runs a job by default. Its answers are blank where the first ones were the defaults."""
    assert site.status == "successful"
    return controller.run("again", "playbooks/site.yml", tagged(short_survey_variables()))


@pytest.fixture(scope="module")
def health(controller: Controller, again: Job) -> Job:
    """The health gate on its own."""
    assert again.status == "successful"
    return controller.run("health", "playbooks/health.yml", tagged(short_survey_variables()))


@pytest.fixture(scope="module")
def misspelt(controller: Controller, health: Job) -> Job:
    """A job that must not get far: two names that nobody knows, one of them with a secret."""
    assert health.status == "successful"
    wrong = {
        "dagster_nginx_prot": "8081",
        "dagster_database_pasword": LOCATION_SECRET,
        "dagster_config": '{"run_monitoring": ]',
        "dagster_database_run_password": "4711",
        "dagster_webserver_ports": "3000,3001",
    }
    return controller.run("misspelt", "playbooks/site.yml", tagged(survey_variables() | wrong), "-vvv --diff")


def test_survey_gives_text() -> None:
    """What the jobs get really is text, down to the lists."""
    variables = survey_variables()
    assert variables["dagster_nginx_port"] == "8080"
    assert variables["dagster_webserver_ports"] == ["3000", "3001"]
    assert variables["dagster_docker_userns_remap"] == "true"
    assert variables["dagster_docker_address_pools"][0]["size"] == "24"
    assert variables["dagster_code_locations"][0]["port"] == "4000"
    numbers = [name for name, value in variables.items() if isinstance(value, int)]
    assert numbers == []
    short = short_survey_variables()
    assert short.keys() == variables.keys()
    assert all(isinstance(value, str) for value in short.values())
    assert (short["dagster_nginx_port"], short["dagster_webserver_ports"], short["dagster_home"]) == ("", "", "")
    assert json.loads(short["dagster_code_locations"])[0]["secrets"] == {"api_token": LOCATION_SECRET}
    assert "{{" in short["dagster_database_run_password"]
    assert len([name for name, value in short.items() if value == ""]) > 50
    assert as_survey(False, {}) == "false"


def test_site(site: Job) -> None:
    assert (site.status, site.read("rc")) == ("successful", "0"), site.stdout[-4000:]


def test_second_run_changes_nothing(again: Job) -> None:
    assert (again.status, again.read("rc")) == ("successful", "0"), again.stdout[-4000:]
    assert again.changes() == []
    assert again.stats("changed") == 0


def test_health(health: Job) -> None:
    assert (health.status, health.read("rc")) == ("successful", "0"), health.stdout[-4000:]
    assert health.stats("changed") == 0


def test_text_became_numbers(again: Job, host: Any) -> None:
    assert again.status == "successful"
    config = yaml.safe_load(host.file("/etc/dagster/dagster.yaml").content_string)
    assert config["storage"]["postgres"]["postgres_db"]["port"] == 5432
    workspace = yaml.safe_load(host.file("/etc/dagster/workspace.yaml").content_string)
    assert [server["grpc_server"]["port"] for server in workspace["load_from"]] == [4000]
    daemon = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert daemon["default-address-pools"] == [{"base": "172.31.0.0/16", "size": 24}]
    assert daemon["userns-remap"] == "default"


def test_typed_variables_give_the_same(again: Job, tmp_path: Path) -> None:
    """The shipped inventory with typed variables and a plain ansible-playbook finds nothing to change."""
    assert again.status == "successful"
    rig = yaml.safe_load((RIG / "inventory/group_vars/all.yml").read_text(encoding="utf-8"))
    typed = tmp_path / "typed.yml"
    typed.write_text(tagged(typed_variables(str(ROOT), rig["pipeline_base_archive"])), encoding="utf-8")
    done = playbook(["playbooks/site.yml", "--check", "--diff", "-e", f"@{typed}"], ROOT, {})
    # From the first error on: what services said last is long and comes after it.
    assert done.returncode == 0, done.stdout[max(done.stdout.find("fatal:"), 0) :][:4000]
    assert re.findall(r"changed=(\d+)", done.stdout) == ["0"], done.stdout[-4000:]


def test_one_clear_error(misspelt: Job) -> None:
    assert (misspelt.status, misspelt.read("rc")) == ("failed", "2")
    assert misspelt.stats("changed") == 0
    problems = [
        "dagster_database_pasword is no variable of this collection; did you mean dagster_database_password?",
        "dagster_nginx_prot is no variable of this collection; did you mean dagster_nginx_port?",
        "dagster_config, line 1, column 20: the YAML cannot be read: ",
        "dagster_database_run_password was read as a number, which may not be what you wrote",
        "dagster_webserver_ports is '3000,3001'; expected a list",
    ]
    (failure,) = misspelt.events("runner_on_failed")
    first, *lines = failure["res"]["msg"].splitlines()
    assert first == f"Nothing was changed. {HOST} has 5 problems:"
    assert [line[2 : len(problem) + 2] for line, problem in zip(lines, problems, strict=True)] == problems
    assert all(problem in misspelt.stdout for problem in problems)


@pytest.mark.usefixtures("site", "again", "health", "misspelt")
def test_no_secret_in_the_private_folder(controller: Controller) -> None:
    """AWX stores what is below artifacts; beside that, only env/extravars holds secrets, as AWX itself writes it."""
    found = files_with([MARKER.encode()], controller.private / "artifacts")
    assert {name.split("/")[0] for name in found} >= {"site"}, (
        "files written to the host show in artifacts, so a secret would"
    )
    assert files_with(secrets(survey_variables()), controller.private, but=("env/extravars",)) == set()


@pytest.mark.usefixtures("site", "again", "health", "misspelt")
def test_no_secret_in_the_journal(host: Any) -> None:
    """Modules log their arguments on the host."""
    journal = host.run("journalctl --no-pager --output=export").stdout_bytes
    assert MARKER.encode() in journal, "the arguments of modules are in the journal, so a secret would be"
    assert [word for word in secrets(survey_variables()) if word in journal] == []


@pytest.mark.usefixtures("site", "again", "health", "misspelt")
def test_project_is_untouched(controller: Controller, before: State) -> None:
    assert state(controller.project) == before


def playbook(arguments: list[str], folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """ansible-playbook as an operator calls it, with the rig's inventory."""
    inventories = ["-i", str(ROOT / "inventories/single_host"), "-i", str(RIG / "inventory")]
    return subprocess.run(
        ["ansible-playbook", *inventories, *arguments],
        cwd=folder,
        env=environment() | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(controller: Controller, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who has the collection from an archive, and no checkout."""
    folder = tmp_path_factory.mktemp("installed")
    variables = {
        "ANSIBLE_CONFIG": str(folder / "empty.cfg"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
    }
    (folder / "empty.cfg").touch()
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    archive = str(folder / "{namespace}-{name}-{version}.tar.gz".format(**galaxy))
    for command in (
        ["ansible-galaxy", "collection", "build", str(controller.project), "--output-path", str(folder)],
        ["ansible-galaxy", "collection", "install", "--offline", "--no-deps", archive],
    ):
        subprocess.run(command, cwd=folder, env=environment() | variables, stdin=subprocess.DEVNULL, check=True)
    return variables


def test_installed_collection(installed: dict[str, str], health: Job, tmp_path: Path) -> None:
    """Its playbooks work by name from an empty folder: they parse, refuse bad input, and judge the deployment."""
    assert health.status == "successful"
    for name in ("site", "health"):
        assert playbook([f"dataops.dagster.{name}", "--syntax-check"], tmp_path, installed).returncode == 0
    wrong = playbook(["dataops.dagster.site", "-e", "dagster_nginx_prot=8081"], tmp_path, installed)
    assert wrong.returncode == 2
    assert "dagster_nginx_prot is no variable of this collection; did you mean dagster_nginx_port?" in wrong.stdout
    version = playbook(["dataops.dagster.site", "-e", "dagster_version=1.13.1"], tmp_path, installed)
    assert "dagster_version is 1.13.1; supported are 1.13.27, 1.13.26" in version.stdout, "the locks are in the archive"
    healthy = playbook(["dataops.dagster.health"], tmp_path, installed)
    assert healthy.returncode == 0, healthy.stdout[healthy.stdout.find("fatal:") :][:4000]
    assert list(tmp_path.iterdir()) == []
