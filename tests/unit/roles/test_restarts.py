"""Each unit watches what its process reads: a file that a role writes and no unit watches would change nothing.

What a process reads is taken from the unit's own template, its shared drop-in and the imports of its program.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from deployments import DEPLOYMENTS
from dry_play import Players

ROOT = Path(__file__).resolve().parents[3]
ROLES = ROOT / "roles"
PROGRAMS = "{{ dagster_plan.names.programs }}"
# The daemon reads this one again by itself, each minute. A webserver does so only when somebody asks it to.
REREAD = {"daemon": {"{{ dagster.home }}/workspace.yaml"}, "webserver": set()}
# How roles name the folder of their files, and the file with a password.
HOME = "{{ dagster.home }}"
CREDENTIAL = "{{ dagster_plan.storage.credential }}"
KUBECONFIG = "{{ dagster_plan.kubernetes.kubeconfig }}"
# Tasks that end what a package serves by itself, or has served for us: no process is left that reads these files.
ENDED = {"packaged.yml", "retire.yml"}
READ_ONLY = "dagster-webserver-read-only"
HAPROXY = "{{ dagster_plan.names.haproxy }}.service"
# What the environment leads to: DAGSTER_HOME and PATH.
BY_ENVIRONMENT = {"{{ dagster.home }}/dagster.yaml", "{{ dagster.install_dir }}/current"}


def load(path: str) -> Any:
    return yaml.safe_load((ROLES / path).read_text())


def tasks(path: str, module: str) -> list[dict[str, Any]]:
    """The arguments of each call of a module of ours in a file of tasks; service does what files and units do."""
    found = []
    for task in load(path):
        for one in [task, *task.get("block", [])]:
            for name in (module, "service"):
                if f"dataops.dagster.{name}" in one:
                    found.append(one[f"dataops.dagster.{name}"])
    return found


def value(role: str, expression: str) -> Any:
    """An expression with the variables of a role, where nothing is left out. Names stay as roles write them."""
    names = {"programs": PROGRAMS, "webserver": "dagster-webserver", "webserver_read_only": READ_ONLY}
    plan = {"names": names, "storage": {"credential": CREDENTIAL}, "kubernetes": {"kubeconfig": KUBECONFIG}}
    options: dict[str, Any] = {"home": HOME, "install_dir": "{{ dagster.install_dir }}"}
    options |= {"webserver_ports": ["1"], "webserver_read_only_port": "2"}
    given = {"dagster": options, "dagster_plan": plan | {"webserver": {"gone": []}}}
    variables = DataLoader().load_from_file(str(ROLES / role / "vars/main.yml"), trusted_as_template=True)
    return Templar(DataLoader(), variables={**variables, **given}).template(trust_as_template(expression))


def watched(role: str) -> dict[str, list[str]]:
    """The files of each unit of a role."""
    known: dict[str, list[str]] = {}
    for path in sorted((ROLES / role / "tasks").glob("*.yml")):
        for call in tasks(f"{role}/tasks/{path.name}", "units"):
            for unit in call["units"] if isinstance(call["units"], list) else []:
                files = unit.get("files", [])
                known[unit["name"]] = value(role, files) if isinstance(files, str) else files
    if role == "webserver":
        units = value(role, "{{ __dagster_webserver_units }}")
        known.update((re.sub(r"@.*", "@.service", unit["name"]), unit["files"]) for unit in units)
    return known


def reads(role: str, unit: str, read_only: bool) -> set[str]:
    """What a service of the instance reads when it starts."""
    shared = (ROLES / "instance/templates/etc/systemd/system/dagster-.service.d/10-instance.conf.j2").read_text()
    own = (ROLES / role / "templates/etc/systemd/system" / unit).read_text()
    text = shared + own
    found = set(re.findall(r"^EnvironmentFile=-?(.+)$", text, re.MULTILINE))
    found |= set(re.findall(r"^LoadCredential=[^:]+:(.+)$", text, re.MULTILINE))
    found = {re.sub(r"{{ '([^']*)' if read_only }}", r"\1" if read_only else "", path) for path in found}
    found -= {KUBECONFIG} if read_only else set()  # it terminates no run
    command = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", own, re.MULTILINE)
    assert len(command) == 1
    found |= set(re.findall(rf"{re.escape(PROGRAMS)}/\w+\.py|{{{{ dagster.home }}}}/[\w.]+", command[0]))
    programs = [Path(path).stem for path in found if path.startswith(PROGRAMS)]
    for program in programs:  # which grows
        for source in sources(program):
            for module in re.findall(r"^(?:from|import) (\w+)", source.read_text(), re.MULTILINE):
                if sources(module) and module not in programs:
                    programs.append(module)
    return (found | {f"{PROGRAMS}/{program}.py" for program in programs} | BY_ENVIRONMENT) - REREAD[role]


def sources(module: str) -> list[Path]:
    """Where a program of ours, or what it imports, stands in the roles; one of each database's."""
    return [
        path for name in ("/usr/local/lib/dagster", "/lease/*") for path in ROLES.glob(f"*/files{name}/{module}.py")
    ]


@pytest.mark.parametrize(
    ("role", "unit", "among"),
    [
        ("daemon", "{{ dagster_plan.names.daemon }}.service", f"{HOME}/daemon.{CREDENTIAL}"),
        ("webserver", "dagster-webserver@.service", f"{HOME}/{CREDENTIAL}"),
        ("webserver", f"{READ_ONLY}@.service", f"{HOME}/read_only.{CREDENTIAL}"),
    ],
    ids=["daemon", "webserver", "read-only webserver"],
)
def test_service_watches_what_it_reads(role: str, unit: str, among: str) -> None:
    read = reads(role, f"dagster-{role}.service.j2", READ_ONLY in unit)
    assert among in read, "the control: its password is found in the template"
    assert f"{HOME}/compute_logs.login" in read, "the control: and the login in what units share"
    assert (KUBECONFIG in read) == (READ_ONLY not in unit), "the control: and that of a cluster"
    assert f"{PROGRAMS}/systemd_service.py" in read, "the control: and the import in its program"
    assert (f"{PROGRAMS}/database.py" in read) == (role == "daemon"), "the control: and that of an import"
    assert sorted(watched(role)[unit]) == sorted(read)


def written(role: str) -> list[str]:
    """The files that a role writes or removes; systemd's own are watched by systemd and by the module itself."""
    found = []
    for path in sorted((ROLES / role / "tasks").glob("*.yml")):
        for call in tasks(f"{role}/tasks/{path.name}", "files") if path.name not in ENDED else []:
            for entry in call["files"] if isinstance(call["files"], list) else []:
                if isinstance(entry, str):  # one that depends on a setting
                    found += re.findall(r"'dest': '([^']+)'", entry)
                elif entry.get("state") != "directory":
                    found.append(entry["dest"])
    # keepalived asks its program anew at each check; where the UI is says a file to a play; what keeps `main` away is
    # gone before any service could read it. The key for the engine is removed where the environment, which is watched,
    # names it no more.
    private = ["__dagster_vip_drop_in", "__dagster_vip_program", "dagster_plan.proxy.url_file"]
    private += ["dagster_plan.postgres.no_main"]
    # The test above finds it by its path.
    private += ["__dagster_webserver_read_only_password.dest"]
    # The server reads them again, which roles.sql sees to.
    reread = {path for path in found if path in load("postgres/vars/main.yml")["__dagster_postgres_reloaded"]}
    assert len(reread) in ((2, 3) if role == "postgres" else (0,))
    found = [path for path in found if path not in reread]
    own = ("/etc/systemd/system/", f"{HOME}/docker", *(f"{{{{ {name} }}}}" for name in private))
    return [path for path in found if not path.startswith(own)]


@pytest.mark.parametrize("role", ["daemon", "postgres", "proxy", "vip", "webserver"])
def test_some_unit_watches_what_the_role_writes(role: str) -> None:
    files = {path for paths in watched(role).values() for path in paths}
    paths = written(role)
    assert paths, "the control: it writes something"
    assert [path for path in paths if path not in files and str(Path(path).parent) not in files] == []


def test_directories_of_the_operator_are_watched() -> None:
    assert "{{ dagster_plan.names.nginx_own }}" in watched("proxy")["nginx.service"]


@pytest.mark.parametrize("program", ["haproxy", "nginx"])
def test_a_program_that_is_reloaded_is_asked_before(program: str) -> None:
    """And nginx says only in its own log why it refused."""
    calls = tasks("proxy/tasks/run.yml", "units")
    reloaded = {unit["name"]: unit for call in calls for unit in call["units"] if "reload" in unit}
    assert list(reloaded) == [HAPROXY, "nginx.service"], "the control: both are there"
    found = reloaded[{"haproxy": HAPROXY, "nginx": "nginx.service"}[program]]
    assert found["check"][0] == program
    assert ("log" in found) == (program == "nginx")


@pytest.mark.parametrize(
    ("held", "listen", "reload"),
    [
        ([], ["0.0.0.0"], True),
        (["127.0.0.1"], ["127.0.0.1"], True),
        (["127.0.0.1"], ["127.0.0.1", "10.0.0.1"], True),
        (["127.0.0.1"], ["0.0.0.0"], False),
        (["127.0.0.1"], ["*"], False),
        (["0.0.0.0"], ["10.0.0.1"], False),
        (["0.0.0.0"], ["0.0.0.0"], True),
        (["0.0.0.0"], ["*"], True),
    ],
)
def test_nginx_is_restarted_where_it_would_refuse_a_reload(held: list[str], listen: list[str], reload: bool) -> None:
    """It binds the new address while it still holds the old one."""
    text = load("proxy/vars/main.yml")["__dagster_nginx_reload"]
    for theirs in (False, True):
        plan = {"proxy": {"listen": listen, "nginx_theirs": theirs}}
        templar = Templar(DataLoader(), variables={"__dagster_nginx_held": held, "dagster_plan": plan})
        assert templar.template(trust_as_template(text)) is (reload or theirs), "that of others is never restarted"


def test_whatever_role_instance_stages_is_put_in_place() -> None:
    """The roles of the services place what the plan names, and nothing else."""
    host = Players(DEPLOYMENTS["alternative"]).hosts["dagster1"]
    staged, named = set(), []
    for call in (call for task in host.given for call in task.values() if isinstance(call, dict)):
        entries = [{**call, "dest": call["path"]}] if "dest" not in call and "path" in call else call.get("files", [])
        staged |= {entry["dest"] for entry in entries if isinstance(entry, dict) and entry.get("stage")}
        named += [set(call["staged"])] if call.get("staged") else []
    assert len(staged) > 5, "the control: with an external database all of them are staged"
    assert named, "the control: a service places them"
    assert all(paths == staged for paths in named)
