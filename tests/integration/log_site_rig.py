"""One Dagster whose compute logs go where a deployment's plan says: a webserver, and runs as containers start them.

A run and the webserver have files of their own, as on two hosts. Names, variables and dagster.yaml come from the plan.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from plans import plan
from stores_rig import Server, Store, free_port

from ansible_collections.dataops.dagster.plugins.module_utils._dagster.log_words import Asked
from ansible_collections.dataops.dagster.plugins.modules import compute_logs
from ansible_collections.dataops.dagster.plugins.plugin_utils.dotenv import dotenv
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.storage import CONTAINERS

PREFIX = "/data"
CODE = """
import sys
import dagster as dg

@dg.op
def speak():
    print("said to stdout")
    print("said to stderr", file=sys.stderr)

@dg.job
def speaking():
    speak()

@dg.job(executor_def=dg.in_process_executor)
def speaking_in_one_process():
    speak()

defs = dg.Definitions(jobs=[speaking, speaking_in_one_process])
"""
# What webserver and launcher do: make a run of a location, and give its container a command, with dagster.yaml in it.
LAUNCH = """
import json, sys
from dagster import DagsterInstance
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._grpc.types import ExecuteRunArgs
path, job = sys.argv[1:]
location = GrpcServerCodeLocationOrigin(host="code.example.com", port=4000, location_name="etl")
with DagsterInstance.get() as instance:
    code = ReconstructableJob.for_file(path, job)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)
    run = instance.create_run_for_job(code.get_definition(), job_code_origin=code.get_python_origin(),
                                      remote_job_origin=origin)
    args = ExecuteRunArgs(job_origin=run.job_code_origin, run_id=run.run_id, instance_ref=instance.get_ref(),
                          set_exit_code_on_failure=True)
    print("RUN" + json.dumps([run.run_id, args.get_command_args()]))
"""
QUERY = """
query Run($runId: ID!) { runOrError(runId: $runId) { ... on Run { status
  eventConnection(limit: 1000) { events { __typename
    ... on MessageEvent { message } ... on ErrorEvent { error { message causes { message } } }
    ... on LogsCapturedEvent { fileKey } } } } } }
"""
CAPTURED = """
query Logs($logKey: [String!]!) {
  capturedLogs(logKey: $logKey) { stdout stderr }
  capturedLogsMetadata(logKey: $logKey) { stdoutDownloadUrl stderrDownloadUrl stdoutLocation }
}
"""


class Site:
    """A deployment with this section compute_logs and login; env is what the store's clients need beside."""

    def __init__(self, folder: Path, python: Path, section: dict[str, Any], login: str, env: dict[str, str]) -> None:
        self.folder, self.python, self.login = folder, python, login
        config = {"compute_logs": section} if section else {}
        variables = {"dagster_config": config, "dagster_compute_logs_login": login}
        self.plan = plan(dagster_environment={"AZURE_CLIENT_ID": "1", "AZURE_TENANT_ID": "1"}, **variables)
        assert self.plan.configuration.logs.problems({"AZURE_CLIENT_ID": "", "AZURE_TENANT_ID": ""}, {}) == []
        self.logs = self.plan.configuration.logs.handed()
        self.home, self.state = folder / "home", folder / "state"
        for path in (self.home, self.state, folder / "code", folder / "run"):
            path.mkdir(parents=True)
        (folder / "code" / "code.py").write_text(CODE, encoding="utf-8")
        merged = json.loads(json.dumps(self.plan.configuration.merged["compute_logs"]))
        for key in {"local_dir", "base_dir"} & merged.get("config", {}).keys():
            merged["config"][key] = {"env": "LOG_DIR"}  # of each process its own, but for local logs
        self.local = merged["class"] == "LocalComputeLogManager"
        dagster_yaml = {"compute_logs": merged, "telemetry": {"enabled": False}}
        (self.home / "dagster.yaml").write_text(json.dumps(dagster_yaml), encoding="utf-8")
        (self.home / "workspace.yaml").write_text("load_from: []\n", encoding="utf-8")
        base = {"PATH": f"{python.parent}:{os.defpath}", "HOME": str(folder), "DAGSTER_HOME": str(self.home), **env}
        self.services = {**base, "LOG_DIR": str(self.state / "web"), **self._login(folder / "login.services")}
        self.runs = {
            **base,
            "LOG_DIR": str(self.state / ("web" if self.local else "run")),
            **{
                name: value.replace(CONTAINERS, str(folder / "run"))
                for name, value in self.plan.configuration.run_environment.items()
                if name in self.logs["container_environment"]
            },
        }
        if self.logs["file"]:
            (folder / "run" / self.logs["file"]).write_text(login, encoding="utf-8")
        if self.logs["key"]:
            (folder / "run" / ".env").write_text(dotenv({self.logs["key"]: login}), encoding="utf-8")
            self.runs["DAGSTER_PROJECT_ENV_FILE_PATHS"] = json.dumps({"etl": str(folder / "run")})
        self.port = free_port()
        argv = [str(python), "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(self.port)]
        argv += ["--path-prefix", PREFIX, "-w", str(self.home / "workspace.yaml")]
        self.webserver = Server(argv, self.port, folder / "web", self.services, patience=600)

    def _login(self, path: Path) -> dict[str, str]:
        """The variable of the services."""
        if self.logs["file"]:
            path.write_text(self.login, encoding="utf-8")
            return {self.logs["file_variable"]: str(path)}
        return {self.logs["key"]: self.login} if self.logs["key"] else {}

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{PREFIX}/graphql", body, {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=300) as answer:
            found = json.load(answer)
        assert "errors" not in found, json.dumps(found["errors"])[:3000]
        return found["data"]

    def run(self, job: str = "speaking_in_one_process", **changes: str) -> str:
        """The ID of a run that has ended, executed by a process like its container."""
        argv = [str(self.python), "-c", LAUNCH, str(self.folder / "code" / "code.py"), job]
        said = subprocess.run(argv, env=self.services, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        run_id, self.command = json.loads(said.stdout.partition("RUN")[2])
        environment = {name: value for name, value in {**self.runs, **changes}.items() if name != "DAGSTER_HOME"}
        began = time.monotonic()
        done = subprocess.run(
            [str(self.python), "-m", *self.command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        self.took, self.said = time.monotonic() - began, done.stdout + done.stderr
        return str(run_id)

    def ended(self, run_id: str) -> tuple[str, list[dict[str, Any]]]:
        """Status and events of a run."""
        found = self.ask(QUERY, runId=run_id)["runOrError"]
        return str(found["status"]), found["eventConnection"]["events"]

    def output(self, run_id: str) -> dict[str, Any]:
        """What the webserver shows of the logs of a run: text and links."""
        keys = [event["fileKey"] for event in self.ended(run_id)[1] if event["__typename"] == "LogsCapturedEvent"]
        found: dict[str, Any] = {"stdout": "", "stderr": "", "links": [], "places": []}
        for key in keys:
            answer = self.ask(CAPTURED, logKey=[run_id, "compute_logs", key])
            for name in ("stdout", "stderr"):
                found[name] += answer["capturedLogs"][name] or ""
            found["links"].append(answer["capturedLogsMetadata"]["stdoutDownloadUrl"])
            found["places"].append(answer["capturedLogsMetadata"]["stdoutLocation"])
        return found

    def download(self, link: str) -> str:
        """What a browser gets: from the store, or for a path from the webserver, whose prefix the UI puts before it."""
        url = link if "://" in link else f"http://127.0.0.1:{self.port}{PREFIX}{link}"
        program = (
            "import requests, sys; found = requests.get(sys.argv[1], timeout=60); found.raise_for_status();"
            "print(found.text)"
        )
        done = subprocess.run(
            [str(self.python), "-c", program, url], env=self.services, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def forget(self) -> None:
        """What the webserver has fetched goes."""
        if not self.local:
            shutil.rmtree(self.state / "web")

    def close(self) -> None:
        self.webserver.stop()


def probed(python: Path, store: Store, login: str | None, section: dict[str, Any], **changes: str | None) -> Any:
    """What module compute_logs says of a store: the answer of its program, and the sentence."""
    found = plan(dagster_config={"compute_logs": section}, dagster_compute_logs_login=login or "").configuration
    env = {name: value for name, value in {**store.env, **changes}.items() if value is not None}
    params = {
        "section": found.stored_logs,
        "env": env,
        "secret_env": {found.logs.secret_variables[0]: login} if found.logs.secret_variables else {},
        "file_variable": found.logs.file_variable,
        "login": login,
    }
    answer = compute_logs.run(str(python), "", compute_logs.of_services(params))
    return answer, Asked("a service", section, "dagster_compute_logs_login").sentence(answer)
