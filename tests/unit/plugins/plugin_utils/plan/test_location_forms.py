"""Forms of what a location says: each wrong one is told by the location's name, with the nearest right one."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from plans import LOCATION, component, options, plan, specs
from support import dagster_python

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import server_options, spec


def told(**changes: Any) -> list[str]:
    return plan(dagster_code_locations=[{**LOCATION, **changes}]).problems()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image": "registry.example.com:5000/team/etl@sha256:" + "0a" * 32, "pull": "always"},
        {"mem_limit": "2 GB", "cpus": 0.5},
        {"mem_limit": "2Gi", "shm_size": "256m", "start_timeout": 300, "stop_timeout": 300},
        {"volumes": ["/data:/data:ro", "cache:/root/.cache"], "networks": ["extra"]},
        {"labels": {"team": "data"}, "extra_hosts": ["db.example.com:10.0.0.5"], "devices": ["/dev/fuse"]},
        {"capabilities": ["cap_sys_ptrace"], "server": "code-server", "arguments": ["--max-workers", "8"]},
        {"module": None, "file": "/opt/etl/definitions.py", "attribute": "defs", "working_directory": "/opt/etl"},
        {"env": {"DBT_DEBUG": "true", "WORKERS": 4, "VERSION": "1.10"}},
        {"arguments": ["--lazy-load-user-code", "--log-level=debug", "-n8"]},
        {"arguments": ["--inject-env-vars-from-instance", "--log-format", "json", "--max_workers", "8"]},
        {"user": "1000"},
        {"user": "1000:0", "read_only": True},
        {"read_only": True, "env": {"TMPDIR": "/tmp/of-us"}},
        {"read_only": True, "env": {"TMPDIR": "/data/tmp"}, "volumes": ["/data:/data"]},
        {"env": {"TMPDIR": "/scratch/tmp"}},
        {
            "read_only": True,
            "env": {"TMPDIR": "/scratch"},
            "container_context": {"container_kwargs": {"tmpfs": {"/scratch": ""}}},
        },
    ],
    ids=str,
)
def test_what_teams_write_works(changes: dict[str, Any]) -> None:
    assert told(**changes) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "https://r/x"}, ".image: 'https://r/x' is no reference of an image"),
        ({"image": "r/X"}, "did you mean r/x?"),
        ({"image": "", "archive": "/a.tar", "pull": "always"}, ".pull says when a registry is asked for image"),
        ({"module": "src/analytics/definitions.py"}, "did you mean file: src/analytics/definitions.py, or module:"),
        ({"module": "analytics:defs"}, "did you mean module: analytics and attribute: defs?"),
        ({"module": None, "package": "src/etl"}, ".package is 'src/etl'; expected a dotted name"),
        ({"module": None, "file": "analytics.definitions"}, "did you mean module: analytics.definitions?"),
        ({"module": None, "file": "~/x.py"}, ".file is '~/x.py'; expected the path of a .py file"),
        ({"attribute": "defs()"}, "did you mean defs?"),
        ({"working_directory": "$HOME/x"}, ".working_directory is '$HOME/x'"),
        ({"mem_limit": "lots"}, ".mem_limit: 'lots' is not a size like 512m or 1g"),
        ({"mem_limit": 1024}, "write the unit, for example 512m"),
        ({"shm_size": "1,5g"}, "did you mean 1.5g?"),
        ({"cpus": 0}, ".cpus is 0"),
        ({"start_timeout": 0}, ".start_timeout is 0; expected seconds"),
        ({"volumes": ["./data:/data"]}, "neither an absolute path of the host nor the name of a volume"),
        ({"volumes": ["/a:/c", "/b:/c/"]}, "has '/a:/c' and '/b:/c/' at one path in the container; keep one"),
        ({"networks": ["dagster"]}, "remove it"),
        ({"capabilities": ["NET_ADMINS"]}, "did you mean NET_ADMIN?"),
        ({"capabilities": ["all"]}, "capabilities has 'all', with which it is nearly root of the host"),
        ({"user": "app"}, '.user: \'app\' is no user by its number; expected "UID" or "UID:GID" in quotes'),
        ({"user": "70000"}, "each below 65534"),
        ({"user": "1000:app"}, ".user: '1000:app' is no user by its number"),
        ({"user": "0:0"}, ".user: '0:0' is root of the container, as which it runs without this option; remove it"),
        (
            {"read_only": True, "env": {"TMPDIR": "/scratch/tmp"}},
            ".read_only: its runs write to /scratch/tmp (dagster_code_locations[etl].env.TMPDIR), which is read-only",
        ),
        (
            {"read_only": True, "env": {"TMPDIR": "/data/tmp"}, "volumes": ["/data:/data:ro"]},
            "name a folder below /var/lib/dagster or /tmp there, mount one with volumes, or remove read_only",
        ),
        ({"devices": ["fuse"]}, ".devices: found 'fuse', expected /dev/NAME"),
        ({"extra_hosts": {"10.0.0.5": "db"}}, "did you mean db: 10.0.0.5?"),
        ({"labels": {"dagster/run_id": "x"}}, ".labels: dagster/run_id is set by the collection"),
        ({"arguments": ["--max-workers 8"]}, 'each word stands on its own: ["--max-workers", "8"]'),
        ({"arguments": ["--port=4001"]}, "--port cannot be set, because the services reach the code server elsewhere"),
        ({"arguments": ["-m", "etl"]}, "-m is what module says"),
        ({"arguments": ["--lazy-load-user-code"], "server": "code-server"}, "is an option of server api-grpc only"),
        (
            {"arguments": ["--max-worker", "8"]},
            "'--max-worker' is no option of Dagster's code server; did you",
        ),
        ({"arguments": ["analytics"]}, "'analytics' is no option of Dagster's code server"),
        ({"arguments": ["--max-workers"]}, "--max-workers is ''; expected a whole number"),
        ({"arguments": ["-n", "many"]}, "-n is 'many'; expected a whole number"),
        (
            {"arguments": ["--log-level", "warn"]},
            "--log-level is 'warn'; expected one of critical, error",
        ),
        ({"arguments": ["--log-format=text"]}, "--log-format is 'text'; expected one of colored, json, rich"),
        ({"arguments": ["--heartbeat-timeout", "5"]}, "--heartbeat-timeout cannot be set, because no service sends"),
        ({"env": {"VERSION": 1.1}}, "VERSION is the number 1.1 for YAML"),
        ({"env": {"EMPTY": None}}, 'EMPTY is empty; write ""'),
        ({"env": {"LIST": ["a"]}}, "LIST is a list; an environment variable is text"),
    ],
    ids=str,
)
def test_what_cannot_work_is_told_with_the_nearest_that_does(changes: dict[str, Any], words: str) -> None:
    problems = told(**changes)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"dagster_code_locations[{changes.get('name', 'etl')}]")
    assert words in problems[0]


def test_all_problems_of_all_locations_at_once() -> None:
    bad = {"image": "r/X", "volumes": ["x"], "mem_limit": "lots"}
    entries = [{**LOCATION, **bad}, {**LOCATION, **bad, "name": "ml", "port": 4001}]
    problems = plan(dagster_code_locations=entries).problems()
    assert [problem.partition("]")[0] for problem in problems] == ["dagster_code_locations[etl"] * 3 + [
        "dagster_code_locations[ml"
    ] * 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpus": "0,5"}, "cpus is '0,5'; expected a number such as 0.5; did you mean 0.5?"),
        ({"port": "40x"}, "port is '40x'; expected a whole number"),
        ({"start_timeout": "2m"}, "start_timeout is '2m'; expected a whole number"),
        ({"server": "codeserver"}, "one of api-grpc, code-server; did you mean code-server?"),
        ({"pull": "Always"}, "one of always, missing, never; did you mean always?"),
        ({"memlimit": "1g"}, "memlimit is no option; did you mean mem_limit?"),
    ],
)
def test_wrong_types_are_told_by_the_name_of_the_location(changes: dict[str, Any], words: str) -> None:
    given = {"dagster_code_locations": [LOCATION, {**LOCATION, "name": "ml", **changes}]}
    _values, problems = spec.read({"code_location": specs()["code_location"]}, ["code_location"], given)
    (problem,) = [found for found in problems if "password" not in found]
    assert problem.startswith("dagster_code_locations[ml].")
    assert words in problem


def test_what_works_and_gives_code_the_host_is_warned_of() -> None:
    volumes = ["/:/host:ro", "/etc:/config", "/data:/data"]
    entries = [{**LOCATION, "volumes": volumes}]
    warnings = component("code_location", dagster_code_locations=entries).host_warnings({})
    assert [warning.split("'")[1] for warning in warnings] == volumes[:2]
    assert "shows its code /etc/dagster, and so the passwords there" in warnings[0]


def test_device_that_the_host_has_not() -> None:
    entries = [{**LOCATION, "devices": ["/dev/fuse", "/dev/nvidia0:/dev/gpu"]}]
    found = component("code_location", dagster_code_locations=entries)
    assert {"/dev/fuse", "/dev/nvidia0"} <= set(found.paths())
    (problem,) = found.host_problems({"paths": ["/dev/fuse"]})
    assert problem.startswith("dagster_code_locations[etl].devices has /dev/nvidia0, which is no device of this host")
    assert found.host_problems({"paths": found.paths()}) == []


def test_password_that_yaml_took_for_a_number() -> None:
    given = {"dagster_registries": [{**REGISTRY, "password": 123456}]}
    _values, problems = spec.read({"code_location": specs()["code_location"]}, ["code_location"], given)
    (problem,) = [found for found in problems if "dagster_registries" in found]
    assert "was read as a number" in problem
    assert "123456" not in problem


def test_runs_have_time_for_an_import_that_takes_its_time() -> None:
    """A run imports the same code before it says that it has begun."""

    def timeout(*seconds: int | None) -> int:
        entries = [{**LOCATION, "name": f"l{number}", "start_timeout": each} for number, each in enumerate(seconds)]
        found = component("instance", dagster_code_locations=entries).plan.configuration.ours["run_monitoring"][
            "start_timeout_seconds"
        ]
        assert isinstance(found, int)
        return found

    assert (timeout(), timeout(None), timeout(30), timeout(75, 300)) == (180, 180, 180, 420)
    assert options(dagster_code_locations=[LOCATION])


REGISTRY = {"address": "registry.example.com:5000", "username": "deploy", "password": "hunter2"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"address": "https://registry.example.com/v2/"}, "did you mean registry.example.com?"),
        ({"address": "registry.example.com/team"}, "expected HOST[:PORT], as images begin"),
        ({"username": ""}, "dagster_registries[0].username is empty"),
        ({"password": "hunter2\n"}, "dagster_registries[0].password is empty or has a control character"),
    ],
)
def test_logins_of_registries(changes: dict[str, Any], words: str) -> None:
    problems = plan(dagster_registries=[{**REGISTRY, **changes}]).problems()
    assert len(problems) == bool(words), problems
    assert words in "".join(problems)
    assert "hunter2" not in "".join(problems)


def test_two_logins_of_one_registry() -> None:
    assert plan(dagster_registries=[REGISTRY, REGISTRY]).problems() == [
        "dagster_registries has 2 logins of registry.example.com:5000; keep one"
    ]


PASTED = {"registry": {"url": "registry.example.com", "username": "deploy", "password": "hunter2"}}


@pytest.mark.parametrize(
    "variables",
    [
        {"dagster_config": {"run_launcher": {"config": PASTED}}},
        {"dagster_code_locations": [{**LOCATION, "container_context": {"docker": PASTED}}]},
        {"dagster_code_locations": [{**LOCATION, "container_context": PASTED}]},
    ],
)
def test_login_of_a_registry_that_everybody_could_read(variables: dict[str, Any]) -> None:
    found = [problem for problem in plan(**variables).problems() if "dagster_registries: [{address" in problem]
    assert len(found) == 1
    assert "hunter2" not in found[0]


@pytest.mark.parametrize("folder", ["/cache/logs", {"env": "LOG_DIR"}])
def test_logs_that_runs_with_a_read_only_root_could_not_write(folder: Any) -> None:
    given = {
        "dagster_config": {"compute_logs": {"config": {"base_dir": folder}}},
        "dagster_environment": {"LOG_DIR": "/cache/logs"},
        "dagster_config_allow": ["compute_logs_lost"],
    }
    words = "read_only: its runs write to /cache/logs (dagster_config.compute_logs.config.base_dir)"
    told_of = {
        read_only: [
            problem
            for problem in plan(dagster_code_locations=[{**LOCATION, "read_only": read_only}], **given).problems()
            if words in problem
        ]
        for read_only in (True, False)
    }
    assert [len(told_of[key]) for key in (True, False)] == [1, 0]


OPTIONS = """
import json
from dagster._cli.api import grpc_command
from dagster._cli.code_server import start_command
print(json.dumps([
    {name: [not each.is_flag, list(getattr(each.type, "choices", ()))] for each in one.params for name in each.opts}
    for one in (grpc_command, start_command)
]))
"""


def test_options_are_those_of_dagster() -> None:
    answer = subprocess.run([dagster_python(), "-c", OPTIONS], capture_output=True, text=True, check=True)
    servers = dict(zip(("api-grpc", "code-server"), json.loads(answer.stdout), strict=True))
    every: dict[str, list[Any]] = {name: how for known in servers.values() for name, how in known.items()}
    ours = {*server_options.OURS, *server_options.NEVER}
    assert every.keys() == {*ours, *server_options.FREE}
    for name, kind in server_options.FREE.items():
        takes, choices = every[name]
        assert (takes, choices) == (kind != server_options.FLAG, list(kind) if isinstance(kind, tuple) else []), name
        only = [server for server, known in servers.items() if name in known]
        assert (only == [server_options.ONLY[name]]) if name in server_options.ONLY else len(only) == 2, name
