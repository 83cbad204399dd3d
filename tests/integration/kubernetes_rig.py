# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Dagster that launches its runs in a cluster: daemon, webserver and code server on a real database.

The cluster is a stand-in (molecule/kubernetes_api.py). What a node does with a pod is done here: its variables are
those of the Job, with what the namespace holds, and its command is a process of this machine.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from fence_rig import CODE, DAEMON, DATABASE, LOGINS, MIGRATION, PROGRAMS, PYTHON, WEBSERVER, Process, Site
from guard_postgres import Cluster
from guard_rig import free_port, password, until
from plans import groups, plan

from ansible_collections.dataops.dagster.plugins.filter.code_location import code_containers
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes import kubeconfig as kubeconfigs
from ansible_collections.dataops.dagster.plugins.module_utils._kubernetes.api import Api
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import render
from ansible_collections.dataops.dagster.plugins.plugin_utils.plan.deployment import Plan

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "molecule/kubernetes_api.py"
MANIFESTS = ROOT / "examples/kubernetes/namespace.yml"
NAMESPACE, CONFIG_MAP = "dagster-runs", "dagster-instance"
TOKEN, ADMIN, OF_RUNS = "token-of-the-launcher-9c", "token-of-an-administrator-51", "token-of-runs-7e"
IMAGE = f"registry.example.com/data/etl@sha256:{'5c' * 32}"
Json = dict[str, Any]


def manifests() -> list[Json]:
    """What an administrator has made, as the page says."""
    found: list[Json] = yaml.safe_load(MANIFESTS.read_text(encoding="utf-8"))["items"]
    return found


class Kubernetes:
    """The API of the cluster, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.record = folder / "asked"
        self.record.touch()
        argv = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        argv += ["-subj", "/CN=cluster", "-addext", "subjectAltName=IP:127.0.0.1"]
        argv += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        subprocess.run(argv, check=True, capture_output=True)
        self.objects = [*manifests(), *self.secrets()]
        self.tokens = {TOKEN: "dagster-launcher", ADMIN: "admin", OF_RUNS: "dagster-run"}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def secrets(self) -> list[Json]:
        """What stands in the namespace beside that."""
        run = LOGINS["run"]
        data = {"postgresql-password": password(run), "PGPASSWORD": password(run)}
        metadata = {"name": "dagster-database", "namespace": NAMESPACE}
        return [{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}]

    def start(self) -> None:
        config = {
            "bind": "127.0.0.1",
            "port": self.port,
            "certificate": str(self.folder / "cert.pem"),
            "key": str(self.folder / "key.pem"),
            "record": str(self.record),
            "tokens": self.tokens,
            "objects": self.objects,
        }
        (self.folder / "api.json").write_text(json.dumps(config))
        with (self.folder / "api.log").open("ab") as stream:
            self.process = subprocess.Popen(
                [PYTHON, str(PROGRAM), str(self.folder / "api.json")], stdout=stream, stderr=stream
            )
        until(self.answers, 120, "the API answers")

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "api.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kubeconfig(self, token: str = TOKEN) -> Json:
        """For an account."""
        authority = base64.b64encode((self.folder / "cert.pem").read_bytes()).decode()
        server = f"https://127.0.0.1:{self.port}"
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }

    def connection(self, token: str = TOKEN) -> kubeconfigs.Connection:
        found, problems = kubeconfigs.read(self.kubeconfig(token))
        assert found is not None, problems
        return found

    def ask(self, method: str, path: str, body: Any = None, token: str = ADMIN) -> Json:
        with Api(self.connection(token)) as api:
            return api.request(method, path, body)

    def jobs(self) -> list[Json]:
        """The Jobs that were ever made, the last one last."""
        return [line["body"] for line in self.asked() if line["method"] == "POST" and line["path"].endswith("/jobs")]

    def asked(self) -> list[Json]:
        return [json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines()]


def variables_of(container: Json, kubernetes: Kubernetes, config_map: Json) -> dict[str, str]:
    """The variables of a container, as the API of Kubernetes defines them."""
    sources: dict[str, dict[str, str]] = {CONFIG_MAP: config_map}
    sources |= {
        found["metadata"]["name"]: found.get("stringData", {})
        for found in kubernetes.objects
        if found["kind"] == "Secret"
    }
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        (named,) = source.values()
        found |= {name: text for name, text in sources[named["name"]].items() if re.fullmatch(r"[A-Za-z_]\w*", name)}
    for entry in container.get("env") or []:
        if "valueFrom" in entry:
            key = entry["valueFrom"]["secretKeyRef"]
            found[entry["name"]] = sources[key["name"]][key["key"]]
        else:
            found[entry["name"]] = expanded(entry["value"], found)
    return found


def expanded(value: str, known: dict[str, str]) -> str:
    """$(NAME) is replaced where NAME is known, $$ stands for one $."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda match: "$" if match[0] == "$$" else known.get(match[1], match[0]), value)


class Node:
    """What a node does with the pods of Jobs: each is a process, which its deletion ends."""

    def __init__(self, site: Deployed) -> None:
        self.site = site
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.config_map: Json = site.plan.cluster.data()
        self.files = site.folder / "config-map"
        self.files.mkdir(exist_ok=True)
        # In a pod the API is another address than for the services; here it is the same.
        (self.files / "kubeconfig.yaml").write_text(json.dumps(site.kubernetes.kubeconfig(OF_RUNS)))

    def run(self, job: Json) -> subprocess.Popen[bytes]:
        """Starts the container of a Job."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        given = variables_of(container, self.site.kubernetes, self.config_map)
        environment = {
            name: text.replace("/run/dagster/", f"{self.files}/") if name == "KUBECONFIG" else text
            for name, text in given.items()
        }
        name = job["metadata"]["name"]
        log = self.site.folder / f"{name}.log"
        with log.open("wb") as stream:
            # The image has Dagster and the code.
            process = subprocess.Popen(
                container["args"],
                env={
                    **environment,
                    "PATH": f"{PROGRAMS}:/usr/bin:/bin",
                    "PYTHONPATH": str(self.site.folder),
                    "HOME": "/tmp",
                },
                cwd="/",
                stdout=stream,
                stderr=stream,
            )
        self.started[name] = process
        return process

    def log(self, job: Json) -> str:
        return (self.site.folder / f"{job['metadata']['name']}.log").read_text()

    def end_deleted(self) -> None:
        """Ends the pods that somebody has deleted, as a node does: SIGTERM, and SIGKILL for what goes on."""
        for line in self.site.kubernetes.asked():
            name = line["path"].rpartition("/")[2].removesuffix("-x7k2p")
            if line["method"] == "DELETE" and "/pods/" in line["path"] and name in self.started:
                self.started[name].terminate()
                try:
                    self.started[name].wait(GRACE)
                except subprocess.TimeoutExpired:
                    self.started[name].kill()

    def close(self) -> None:
        for process in self.started.values():
            process.kill()
            process.wait()


class Deployed(Site):
    """The files and processes of a deployment, as the plan makes them."""

    def __init__(
        self, cluster: Cluster, folder: Path, kubernetes: Kubernetes, launcher: Json, code: str = CODE
    ) -> None:
        super().__init__(cluster, folder, DATABASE, code)
        self.kubernetes = kubernetes
        location = {
            "name": "etl",
            "module": "jobs",
            "image": "registry.example.com/data/etl:1",
            "env": {"STAGE": "pay $(this)"},
            "container_context": {"k8s": {"labels": {"team": "data"}, "env_secrets": []}},
        }
        if launcher["class"] != "K8sRunLauncher":
            location.pop("container_context")
        config = {"run_launcher": launcher, "compute_logs": NOOP, "run_monitoring": MONITORING}
        self.plan: Plan = plan(
            "a",
            groups(run=[]),
            dagster_config={**config, "run_coordinator": COORDINATOR},
            dagster_kubeconfig=kubernetes.kubeconfig(),
            dagster_kubernetes_sources=["127.0.0.1"],
            dagster_database_port=cluster.port,
            dagster_database_run_host="127.0.0.1",
            dagster_database_name=DATABASE,
            dagster_database_tls=False,
            dagster_code_locations=[location],
        )
        (folder / "dagster.yaml").write_text(render(self.plan.configuration.merged))
        (folder / "kubeconfig").write_text(json.dumps(kubernetes.kubeconfig()))
        (folder / "kubeconfig").chmod(0o600)
        images = {"etl": {"ref": location["image"], "registry_ref": IMAGE}}
        (self.code_server,) = code_containers([location], images, {}, [], "/none", "127.0.0.1", pods=True)
        self.node = Node(self)

    def environment(self, login: str) -> dict[str, str]:
        """Webservers and daemon have the kubeconfig, as their units say, and the migration; nobody else has."""
        services = {name: str(value) for name, value in self.plan.instance.environment.items()}
        own = {"DAGSTER_HOME": str(self.folder), "DAGSTER_POSTGRES_USER": login}
        found = {**super().environment(login), **services, **own}
        return {**found, "KUBECONFIG": str(self.folder / "kubeconfig")} if login in WITH_IT else found

    @contextlib.contextmanager
    def code(self) -> Iterator[Process]:
        """The code server, with the environment of its container."""
        port = free_port()
        argv = [*self.code_server["command"]]
        argv[argv.index("-h") + 1], argv[argv.index("-p") + 1] = "127.0.0.1", str(port)
        place = f"load_from: [grpc_server: {{host: 127.0.0.1, port: {port}, location_name: etl}}]\n"
        (self.folder / "workspace.yaml").write_text(place)
        base = {name: text for name, text in super().environment(LOGINS["code"]).items() if name != "DAGSTER_HOME"}
        server = Process(argv, {**base, **self.code_server["env"]}, self.folder)
        try:
            until(lambda: "Started Dagster code server" in server.text(), 240, "the code server serves")
            yield server
        finally:
            server.end()
            print(f"--- code server\n{server.text()[-2000:]}")


WITH_IT = (WEBSERVER, DAEMON, MIGRATION)
# A slow machine takes longer to start a run than what a deployment would wait for.
MONITORING = {"poll_interval_seconds": 2, "start_timeout_seconds": 3600, "cancel_timeout_seconds": 20}
GRACE = 10  # seconds; of a real pod 30
NOOP = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
COORDINATOR = {
    "module": "dagster",
    "class": "QueuedRunCoordinator",
    "config": {"dequeue_interval_seconds": 1, "max_concurrent_runs": 100},
}


@contextlib.contextmanager
def deployed(
    cluster: Cluster, kubernetes: Kubernetes, launcher: Callable[[Path], Json], code: str
) -> Iterator[Deployed]:
    """A deployment whose code server runs, in a folder that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="kubernetes-"))
    found = Deployed(cluster, folder, kubernetes, launcher(folder), code)
    try:
        found.migrate()
        found.probe()
        with found.code():
            yield found
    finally:
        found.node.close()
        shutil.rmtree(folder)
