"""A Docker gate before an engine whose containers are processes of this machine, and Dagster that launches runs there.

What the inventory says becomes the context of the code server, the file of the gate and dagster.yaml, as in a
deployment. Launcher, run and docker_executor are Dagster's own, and so is Docker's client.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import gate_world
from gate_world import World
from plans import LOCATION, component

from ansible_collections.dataops.dagster.plugins.filter.code_location import code_containers, gate_runs

ROOT = Path(__file__).resolve().parents[2]
IMAGE = {"in_steps": {"ref": "dagster-code/in_steps:0123456789abcdef", "id": "sha256:1"}}
Json = dict[str, Any]


class Engine(gate_world.Engine):
    """Keeps containers, and runs the command of one that is started."""

    def __init__(self, path: Path, python: str, proc: Path) -> None:
        self.containers: dict[str, Json] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.python, self.proc, self.output = python, proc, path.with_name("output")
        self.output.mkdir()
        self.numbers = itertools.count(1)
        super().__init__(path)
        self.RequestHandlerClass = Answers

    def found(self, name: str) -> Json | None:
        """A container by its ID or name."""
        return next((each for each in self.containers.values() if name in (each["Id"], each["Name"])), None)

    def create(self, name: str, body: Json) -> str:
        """Keeps what was asked for."""
        number = f"{next(self.numbers):064x}"
        self.containers[number] = {"Id": number, "Name": name or f"run-{number[-4:]}", "Config": body}
        return number

    def start(self, number: str) -> None:
        """The command in the environment of the container; a bind of the socket is the socket itself."""
        body = self.containers[number]["Config"]
        environment = dict(text.split("=", 1) for text in body["Env"])
        for bind in body["HostConfig"].get("Binds") or ():
            source, target = bind.split(":")[:2]
            environment = {name: text.replace(f"{target}/", f"{source}/") for name, text in environment.items()}
        with (self.output / self.containers[number]["Name"]).open("wb") as stream:
            self.processes[number] = subprocess.Popen(
                [f"{Path(self.python).parent}/{body['Cmd'][0]}", *body["Cmd"][1:]],
                env={**outside(self.python), **environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        folder = self.proc / str(self.processes[number].pid)
        folder.mkdir(parents=True)
        (folder / "cgroup").write_text(f"0::/system.slice/docker-{number}.scope\n", encoding="utf-8")

    def stop(self, number: str, seconds: float) -> None:
        """As an engine does it."""
        process = self.processes[number]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(max(seconds, 50))  # on a busy machine; the client waits for 60
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def state(self, number: str) -> Json:
        """What became of its process."""
        process = self.processes.get(number)
        code = process.poll() if process else None
        status = "created" if process is None else "running" if code is None else "exited"
        return {"Status": status, "ExitCode": code or 0, "Running": status == "running"}

    def end(self) -> None:
        """Ends every process that it has started."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(10)


class Answers(gate_world.Answers):
    """What the engine says of its containers."""

    server: Engine

    def do_GET(self) -> None:
        path, _mark, query = self.path.partition("?")
        parts = path.removeprefix("/v1.41").strip("/").split("/")
        if parts[0] != "containers":
            super().do_GET()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        if parts[1] == "create":
            name = query.partition("name=")[2].partition("&")[0]
            self.say(201, {"Id": self.server.create(name, json.loads(body)), "Warnings": []})
        elif parts[1] == "json":
            running = [
                {"Id": each["Id"], "Labels": each["Config"]["Labels"]}
                for each in self.server.containers.values()
                if self.server.state(each["Id"])["Running"] and each["Config"]["Labels"].get("dataops.dagster.step")
            ]
            self.say(200, running)
        elif found := self.server.found(parts[1]):
            self.of_one(found, parts[2] if len(parts) > 2 else "", query)
        else:
            self.say(404, {"message": f"No such container: {parts[1]}"})

    do_POST = do_DELETE = do_HEAD = do_GET

    def of_one(self, found: Json, verb: str, query: str) -> None:
        """An action on a container."""
        number = found["Id"]
        if verb == "json":
            self.say(200, {**found, "State": self.server.state(number)})
        elif verb == "start":
            self.server.start(number)
            self.say(204)
        elif verb == "stop":
            self.server.stop(number, float(query.partition("t=")[2] or 10))
            self.say(204)
        elif verb == "wait":
            self.say(200, {"StatusCode": self.server.processes[number].wait(60)})
        else:
            self.say(404, {"message": verb})


def outside(python: str) -> dict[str, str]:
    """What an image has."""
    return {
        "PATH": f"{Path(python).parent}:{os.defpath}",
        "PYTHONPATH": str(ROOT / "examples/pipeline"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": "0.3",
    }


class Deployment:
    """A code location that is served, launched and executed."""

    def __init__(self, folder: Path, python: str, **options: Any) -> None:
        self.folder, self.python = folder, python
        self.home = folder / "home"
        self.home.mkdir()
        entry = {**LOCATION, "name": "in_steps", "module": "pipeline.step_containers", **options}
        part = component("code_location", dagster_code_locations=[entry])
        handed, sockets = part.handed({}), f"{folder}/s"
        every, volumes = handed["every_run"], ["/var/lib/dagster:/var/lib/dagster"]
        launcher = part.plan.configuration.merged["run_launcher"]
        launcher["config"]["env_vars"] = [
            text for text in launcher["config"]["env_vars"] if not text.startswith(("PGPASSFILE", "DAGSTER_POSTGRES"))
        ]
        common = (IMAGE, "", volumes, "/etc/dagster/secrets", every)
        self.world = World(folder, lambda path: Engine(path, python, folder / "proc"))
        text = gate_runs([entry], *common, handed["launcher"], sockets)
        (folder / "runs.json").write_text(text, encoding="utf-8")
        (server,) = code_containers(
            [entry], IMAGE, {}, volumes, common[3], "127.0.0.1", every_run=every, run_volumes=volumes, steps=sockets
        )
        self.environment = {
            **outside(python),
            **{name: server["env"][name] for name in ("DAGSTER_CURRENT_IMAGE", "DAGSTER_CONTAINER_CONTEXT")},
            "DAGSTER_HOME": str(self.home),
            "DOCKER_HOST": f"unix://{self.world.door('launch')}",
        }
        config = {
            "storage": {"sqlite": {"base_dir": str(self.home / "storage")}},
            "local_artifact_storage": {
                "module": "dagster._core.storage.root",
                "class": "LocalArtifactStorage",
                "config": {"base_dir": str(self.home)},
            },
            "run_launcher": launcher,
            "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
            "telemetry": {"enabled": False},
        }
        (self.home / "dagster.yaml").write_text(json.dumps(config), encoding="utf-8")

    @property
    def engine(self) -> Engine:
        """The engine of the world."""
        found: Engine = self.world.engine
        return found

    def launch(self, job: str, config: Json | None = None) -> tuple[str, str]:
        """Launches a job as the command line of Dagster does; the IDs of the run and of its container."""
        argv = ["job", "launch", "-m", "pipeline.step_containers", "-j", job]
        argv += ["--config-json", json.dumps(config)] if config else []
        before = set(self.engine.containers)
        run = self.ask(
            "from click.testing import CliRunner\nfrom dagster._cli import cli\n"
            f"done = CliRunner().invoke(cli, {argv!r})\nassert done.exit_code == 0, done\n"
            "answer = instance.get_runs(limit=1)[0].run_id"
        )
        number = next(
            number
            for number, each in self.engine.containers.items()
            if number not in before and "execute_run" in each["Config"]["Cmd"]
        )
        return str(run), number

    def ask(self, script: str) -> Any:
        """The answer of a script that has the instance."""
        start = "import json, dagster as dg\ninstance = dg.DagsterInstance.get()\n"
        argv = [self.python, "-c", start + script + "\nprint('ANSWER' + json.dumps(answer))"]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(next(line[6:] for line in done.stdout.splitlines() if line.startswith("ANSWER")))

    def ended(self, run: str, number: str, seconds: float = 400) -> tuple[str, str]:
        """The status of a run whose container has ended, and what its events say of failures."""
        self.engine.processes[number].wait(seconds)
        status, *errors = self.ask(
            f"found = [r.event_log_entry.dagster_event for r in instance.get_records_for_run({run!r}).records]\n"
            f"answer = [instance.get_run_by_id({run!r}).status.value, *(str(e.event_specific_data) for e in found"
            " if e and ('FAILURE' in e.event_type_value or 'error=Ser' in str(e)))]"
        )
        return status, "\n".join(errors)

    def end(self) -> None:
        """Ends everything."""
        self.engine.end()
        self.world.end()
