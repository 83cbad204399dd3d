# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A controller such as AWX makes for a job: a container with a private folder, a project and no rights.

It lives beside the rig's hosts below .cache/rig/runner, and its container has their label, so that the destroy step
removes all of it, after a kill too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.dataops.dagster.plugins.plugin_utils.plan import names

ROOT = Path(__file__).resolve().parents[2]
RIG = ROOT / ".cache/rig/runner"
HOST = "dagster1"
NETWORK, IMAGE, LABEL = "dagster-rig", "dagster-rig/bookworm:latest", "dataops.dagster.rig=runner"
# Not a secret, in the same location as one: where this can be read, a secret would have been read too.
MARKER = "marker-of-the-runner.example"
LOCATION_SECRET = "token-that-nobody-may-see-1f0c"
# No template, because AWX marks each text of a launch.
RUN_PASSWORD = "{{ runs }} of-the-runner {% 5b1d"


@dataclasses.dataclass
class Job:
    """What a job left behind."""

    folder: Path

    def read(self, name: str) -> str:
        """One of the files in the job's folder."""
        return (self.folder / name).read_text(encoding="utf-8").strip()

    @property
    def status(self) -> str:
        """Runner's word for how it ended."""
        return self.read("status")

    @property
    def stdout(self) -> str:
        """What the user sees."""
        return self.read("stdout")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Data of all events of one kind."""
        events = [json.loads(path.read_text(encoding="utf-8")) for path in (self.folder / "job_events").glob("*.json")]
        return [event["event_data"] for event in events if event["event"] == kind]

    def stats(self, what: str) -> int:
        """Tasks that ended as `what` (ok, changed, failures, ...) on all hosts."""
        (stats,) = self.events("playbook_on_stats")
        return sum(stats[what].values())

    def changes(self) -> list[str]:
        """Names of the tasks that changed something."""
        return [
            f"{event['host']}: {event['task']}" for event in self.events("runner_on_ok") if event["res"].get("changed")
        ]


class Controller:
    """Runs ansible-runner in a container: no root, no terminal, no home, read-only but for its private folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.private = folder / "private"
        self.uid = os.getuid() or 1000  # the tests' own user, if that is not root already

    def prepare(self, inventory: Mapping[str, Any]) -> None:
        """Lays out project and private folder as AWX does."""
        copy_checkout(self.project)
        for path in self.project.rglob("*"):
            if path.is_file() and not path.is_symlink():  # folders belong to somebody else or are mounted read-only
                path.chmod(path.stat().st_mode & ~0o222)
        for name in ("env", "inventory", "project", "artifacts", "cp", "tmp", "home"):
            (self.private / name).mkdir(parents=True)
        (self.private / "home").chmod(0o555)
        self._write(
            "passwd", f"root:x:0:0::/root:/bin/sh\nrunner:x:{self.uid}:{self.uid}::/runner/home:/bin/sh\n", 0o644
        )
        self._write("id_ed25519", (RIG.parent / "ssh/id_ed25519").read_text(encoding="utf-8"), 0o600)
        self._write("known_hosts", (RIG / "known_hosts").read_text(encoding="utf-8"), 0o600)
        shutil.copyfile(RIG.parent / "python-bookworm.tar", self.private / "python.tar")
        # AWX's inventories are programs that print JSON: there is no inventory_dir with group_vars beside it.
        script = f"#! /usr/bin/env python3\nprint({json.dumps(inventory)!r})\n"
        self._write("inventory/hosts", script, 0o700)
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": "/runner/requirements_collections:.deps:/usr/share/ansible/collections",
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOME": "/runner/tmp/ansible",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": "/runner/cp",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "TMPDIR": "/runner/tmp",
        }
        self._write("env/envvars", json.dumps(environment), 0o600)

    def run(self, ident: str, playbook: str, extra_vars: str, options: str = "") -> Job:
        """Runs a playbook of the project, with options of ansible-playbook."""
        self._write("env/cmdline", options, 0o600)
        self._write("env/extravars", extra_vars, 0o600)
        arguments = ["run", "/runner", "--ident", ident, "--playbook", playbook, "--quiet"]
        arguments += ["--inventory", "/runner/inventory/hosts"]
        done = self._container([f"{sys.prefix}/bin/ansible-runner", *arguments])
        job = Job(self.private / "artifacts" / ident)
        if not (job.folder / "rc").exists():
            pytest.fail(f"ansible-runner left no result; it said:\n{done.stdout}{done.stderr}")
        return job

    def _write(self, name: str, text: str, mode: int) -> None:
        path = self.private / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def _programs(self) -> list[str]:
        """This machine's own programs and tools at their own paths, in a home that nobody else may read too."""
        paths = {path for path in (sys.prefix, os.path.realpath(sys.base_prefix)) if not path.startswith("/usr")}
        for path in paths:
            (self.folder / "tops" / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        tops = [f"{top}:/{top.name}:ro" for top in sorted((self.folder / "tops").iterdir())]
        return ["/usr:/usr:ro", *tops, *[f"{path}:{path}:ro" for path in sorted(paths)]]

    def _container(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        if os.getuid() == 0:
            for path in [self.private, *self.private.rglob("*")]:
                os.chown(path, self.uid, self.uid, follow_symlinks=False)
        arguments = ["docker", "run", "--rm", "--label", LABEL, "--network", NETWORK, "--read-only", "--pull", "never"]
        arguments += ["--user", f"{self.uid}:{self.uid}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        volumes = [
            f"{self.private}:/runner",
            f"{self.project}:/runner/project:ro",
            f"{self.private}/passwd:/etc/passwd:ro",
        ]
        volumes += ["/etc/ld.so.cache:/etc/ld.so.cache:ro", *self._programs()]
        arguments += [part for volume in volumes for part in ("--volume", volume)]
        variables = {"HOME": "/runner/home", "LANG": "C.UTF-8", "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
        arguments += [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
        return subprocess.run(
            [*arguments, IMAGE, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )


def copy_checkout(folder: Path) -> None:
    """What a clone of this checkout would have, changes that are not committed yet included."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.exists():  # listed, but deleted and not yet committed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


class _Dumper(yaml.SafeDumper):
    def represent_data(self, data: Any) -> Any:
        return self.represent_scalar("!unsafe", data) if isinstance(data, str) else super().represent_data(data)


def tagged(extra_vars: Mapping[str, Any]) -> str:
    """As AWX writes the variables of a launch: each text is tagged, keys included, so that none is a template.

    ansible-core before 2.19 takes them as text; since then "8080" is a number again, and "" is null.
    """
    return yaml.dump(dict(extra_vars), Dumper=_Dumper)


def specs() -> dict[str, dict[str, Any]]:
    """Options of all roles and of the playbooks, by variable."""
    paths = [*sorted(ROOT.glob("roles/*/meta/argument_specs.yml")), ROOT / "playbooks/argument_specs.yml"]
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        # What other entry points take are no variables.
        found.update(entries.get("main", {"options": {}})["options"])
    return found


def as_survey(value: Any, option: Mapping[str, Any]) -> Any:
    """Numbers and booleans as text, as a survey gives them; what has no spec (a free dict) is typed JSON in AWX too."""
    suboptions = option.get("options")
    if isinstance(value, dict):
        return {key: as_survey(item, suboptions[key]) for key, item in value.items()} if suboptions else value
    if isinstance(value, list):
        inner = {"options": suboptions} if suboptions else {}
        return [as_survey(item, inner) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def typed_variables(project: str, archive: str) -> dict[str, Any]:
    """Every variable of the deployment, with the types that an inventory would give them."""
    options = specs()
    rig = yaml.safe_load((RIG / "inventory/group_vars/all.yml").read_text(encoding="utf-8"))
    shipped = yaml.safe_load((ROOT / "inventories/single_host/group_vars/all/dagster.yml").read_text(encoding="utf-8"))
    # What is derived from the inventory has no default, but for what the name of the instance decides.
    variables = {name: option["default"] for name, option in options.items() if "default" in option}
    variables |= {name: value for name, value in names.defaults().items() if name in options}
    variables |= {name: value for name, value in rig.items() if name.startswith("dagster_")}
    variables |= {
        "dagster_version": shipped["dagster_version"],
        "dagster_database_run_password": RUN_PASSWORD,
        "dagster_health_wait": 120,
        "dagster_canary": {"location": "pipeline", "job": "daily_orders"},
        "dagster_config": {"run_monitoring": {"max_resume_run_attempts": 0}},
        "dagster_postgres_options": {"log_min_duration_statement": 5000},
        "dagster_code_locations": [
            {
                "name": "pipeline",
                "port": 4000,
                "module": "pipeline.definitions",
                "build": {
                    "context": f"{project}/examples/pipeline",
                    "args": rig["pipeline_build_args"],
                    "base_archive": archive,
                },
                "env": {"ORDERS_SHOP": MARKER},
                "cpus": 1.5,
                "mem_limit": "1g",
                "secrets": {"api_token": LOCATION_SECRET},
            }
        ],
    }
    return variables


def survey_variables() -> dict[str, Any]:
    """The same as a survey gives them. A question without an answer is "": what nobody sets by hand."""
    options = specs()
    typed = typed_variables("/runner/project", "/runner/python.tar")
    given = {name: as_survey(value, options[name]) for name, value in typed.items()}
    return {**dict.fromkeys(options, ""), **given}


def short_survey_variables() -> dict[str, Any]:
    """The same deployment with as few answers as possible: what is a default is blank, and a list is a text of JSON."""
    options = specs()
    defaults = {**{name: option.get("default") for name, option in options.items()}, **names.defaults()}
    typed = typed_variables("/runner/project", "/runner/python.tar")
    found: dict[str, Any] = dict.fromkeys(options, "")
    for name, value in typed.items():
        if value != defaults.get(name):
            text = json.dumps(value, indent=2) if isinstance(value, (dict, list)) else as_survey(value, options[name])
            found[name] = text
    return found


def secrets(variables: Mapping[str, Any]) -> list[bytes]:
    """What must be seen nowhere: passwords, files for containers, and PostgreSQL's form of the passwords."""
    return [
        # A question without an answer sends "".
        *(value.encode() for name, value in variables.items() if name.endswith("_password") and value),
        LOCATION_SECRET.encode(),
        b"SCRAM-SHA-256$",
    ]
