"""What the scenarios' tests share: how to wait, to ask GraphQL, and to see whether a host was touched."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import testinfra

ROOT = Path(__file__).resolve().parent.parent
NAME = os.environ.get("RIG_NAME", "default")
RIG = ROOT / ".cache" / "rig" / NAME / "inventory"
PLAY_TIMEOUT = 900  # seconds: the longest play of the suite takes a tenth of it


@dataclass
class Play:
    """What ansible-playbook printed and how it ended."""

    rc: int
    output: str

    @property
    def changed(self) -> int:
        """Changed tasks of all hosts."""
        return sum(int(number) for number in re.findall(r"changed=(\d+)", self.output))


def ended(argv: list[str], env: dict[str, str], seconds: float = PLAY_TIMEOUT, folder: Path = ROOT) -> Play:
    """A play of a checkout in a session of its own, which is ended whole when the play takes too long."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException as error:  # also when somebody interrupts the tests
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGTERM)  # ansible-playbook passes it on to its workers
                process.wait(10)
            kill(process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            out, err = process.communicate(timeout=10)
            raise AssertionError(f"not ended within {seconds} s: {argv}\n{(out + err)[-6000:]}") from None
    return Play(process.returncode, out + err)


def kill(play: subprocess.Popen[str]) -> None:
    """As the kernel would: the connections break, and nobody finishes the play."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(play.pid, signal.SIGKILL)
    play.wait(10)


def at_task(
    task: str, then: Callable[[subprocess.Popen[str]], None], playbook: str, inventory: str, *arguments: str
) -> Play:
    """A play in which something happens when it has come to a task, of which the begin of the name is enough."""
    argv = ["ansible-playbook", f"playbooks/{playbook}", "-i", inventory, "-i", str(RIG), *arguments]
    lines, seen = [], False
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=pipe, stderr=both, text=True, env=environment(), start_new_session=True
    ) as process:
        limit = threading.Timer(PLAY_TIMEOUT, kill, (process,))
        limit.start()
        try:
            for line in process.stdout or ():
                lines.append(line)
                if line.startswith(f"TASK [{task}"):
                    seen = True
                    then(process)
                    if process.returncode is not None:
                        break  # its workers are in sessions of their own, and go on for a moment
        except BaseException:
            kill(process)
            raise
        finally:
            limit.cancel()
    assert seen, f"the play never came to {task}:\n{''.join(lines)[-3000:]}"
    return Play(process.returncode, "".join(lines))


def environment() -> dict[str, str]:
    """The environment of a user who stands in the checkout, whatever molecule has set for itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    return {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "NO_COLOR": "1"}


def oldest_ansible() -> dict[str, str]:
    """What a play needs to run with the oldest ansible-core, without facts among the variables as on hardened sites."""
    path = f"{ROOT}/.cache/oldest/bin{os.pathsep}{os.environ['PATH']}"
    argv = ["ansible", "--version"]
    said = subprocess.run(argv, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True).stdout
    assert "core 2.16." in said, "the control"
    return {"PATH": path, "ANSIBLE_INJECT_FACT_VARS": "False"}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def machine(name: str) -> Any:
    """A host of this scenario for testinfra, as root and without ssh: what is asked of it often has to cost little."""
    return testinfra.get_host(f"docker://rig-{NAME}-{name}")


def reboot(host: Any, name: str) -> float:
    """Reboots a host of this scenario, and waits until it answers; when it came up (seconds since 1970)."""
    boot = host.check_output("stat -c %Y /proc/1")
    argv = ["docker", "restart", "--time", "60", f"rig-{NAME}-{name}"]
    subprocess.run(argv, check=True, capture_output=True, timeout=180)
    until(lambda: host.run("systemctl is-active ssh").rc == 0, 180, "the host answers")
    assert host.check_output("stat -c %Y /proc/1") != boot, "it was not rebooted"
    return float(host.check_output("date +%s")) - float(host.check_output("ps -o etimes= -p 1"))


# No answer yet: nobody listens, an answer that breaks off or is not whole, a program that fails or takes too long.
UNANSWERED = (
    *(OSError, KeyError, AssertionError, RuntimeError, ValueError),
    *(http.client.HTTPException, subprocess.SubprocessError),
)


def until(check: Callable[[], Any], seconds: float, what: str, every: float = 0.5) -> Any:
    """The first true answer of check; errors count as no. Fails when there is none in time."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = check()
            if last:
                return last
        except UNANSWERED as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what}; last answer: {last!r}")


def no_run_goes(host: Any) -> None:
    """Waits for containers of runs: one that ends while somebody compares what an engine has would be a difference."""
    running = "docker ps -q --filter label=dagster/run_id"
    until(lambda: host.check_output(running) == "", 60, "the containers of runs have ended")


def page(url: str) -> str:
    """What a browser shows of a page, as text, once its scripts have run and asked GraphQL."""
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        argv = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        argv += ["--virtual-time-budget=30000", "--dump-dom", url]  # 30 s of timers, which pass as fast as they can
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", done.stdout, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


class Dagster:
    """A client of the deployment's GraphQL API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, timeout: float = 30) -> tuple[int, str]:
        """Status and text of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def query(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer without errors."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url + "/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert not answer.get("errors"), answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def heartbeats(self) -> dict[str, tuple[bool, float]]:
        """Of each daemon that is needed: whether Dagster calls it healthy, and its last heartbeat (since 1970)."""
        daemons = self.query(
            "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } } }"
        )["instance"]["daemonHealth"]["allDaemonStatuses"]
        return {
            one["daemonType"]: (one["healthy"], one["lastHeartbeatTime"] or 0) for one in daemons if one["required"]
        }

    def healthy(self, newer_than: float = 0) -> bool:
        """Whether each daemon is healthy by a heartbeat that it wrote after a time (seconds since 1970)."""
        found = self.heartbeats().values()
        return bool(found) and all(healthy and beat >= newer_than for healthy, beat in found)

    def launch(
        self,
        job: str,
        location: str = "pipeline",
        config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """Launches a job; its run id."""
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "jobName": job}
        answer = self.query(
            "mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename"
            " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            params={
                "selector": selector,
                "runConfigData": config or {},
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        run_id: str = answer["run"]["runId"]
        return run_id

    def status(self, run_id: str) -> str:
        """The status of a run."""
        answer = self.query("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        status: str = answer["runOrError"]["status"]
        return status

    def end(self, run_id: str, seconds: float = 300) -> str:
        """Waits for the end of a run; its last status."""
        ended: str = until(
            lambda: self.status(run_id) in ("SUCCESS", "FAILURE", "CANCELED") and self.status(run_id), seconds, run_id
        )
        return ended

    def wait(self, run_id: str, expected: str = "SUCCESS", seconds: float = 300) -> None:
        """Waits for the end of a run, which must be the expected one."""
        end = self.end(run_id, seconds)
        assert end == expected, f"run {run_id} ended with {end}"

    def output(self, run_id: str) -> str:
        """What the steps of a run printed, read as the UI reads it."""
        events = self.query(
            "query($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {"
            " ... on LogsCapturedEvent { fileKey } } } } }",
            id=run_id,
        )["logsForRun"]["events"]
        keys = [event["fileKey"] for event in events if event.get("fileKey")]
        logs = [
            self.query(
                "query($key: [String!]!) { capturedLogs(logKey: $key) { stdout stderr } }",
                key=[run_id, "compute_logs", key],
            )
            for key in keys
        ]
        return "".join((log["capturedLogs"]["stdout"] or "") + (log["capturedLogs"]["stderr"] or "") for log in logs)


def identities(host: Any) -> dict[str, str]:
    """What a second run must leave alone: main processes, containers and the files that we write."""
    units = host.check_output(
        "systemctl show -p Id,MainPID,ExecMainStartTimestampMonotonic 'dagster-*' 'firewall-*' nginx keepalived docker"
        " 'postgresql@*' | paste -sd' '"
    )
    containers = host.check_output(
        "! command -v docker >/dev/null ||"
        " docker ps -a --no-trunc --filter label=dataops.dagster.location --format '{{.ID}} {{.Names}}'"
    )
    files = host.check_output(
        "find /etc/dagster /etc/nginx /etc/keepalived /etc/docker /etc/postgresql /etc/systemd/system "
        "/opt/dagster/current -printf '%p %T@ %m %U %G %l\\n' | sort | sha256sum"
    )
    return {"units": units, "containers": containers, "files": files}
