"""The example of AWS Secrets Manager, on real Dagster, against moto, with the login in the file .env of its location.

DAGSTER_PYTHON names the Python of an environment with Dagster, dagster-aws and moto (tests/requirements/dagster.lock).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from plans import plan
from support import dagster_python

from ansible_collections.dataops.dagster.plugins.filter.code_location import WITH_SECRET_ENV
from ansible_collections.dataops.dagster.plugins.plugin_utils.dotenv import dotenv

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "secrets_manager"
LOGIN = {"AWS_ACCESS_KEY_ID": "not-a-real-id", "AWS_SECRET_ACCESS_KEY": "not-a-real-key ${HOME}"}
# In the code server's place: boto3 makes the secret, Dagster's asset reads it.
SCRIPT = """
import json, os, boto3, dagster as dg
from definitions import defs
boto3.client("secretsmanager").create_secret(Name="shop/api-key", SecretString="x" * 17)
with dg.DagsterInstance.ephemeral() as instance:
    job = defs.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=instance)
    event = instance.get_latest_materialization_event(dg.AssetKey("shop_export"))
print("ANSWER" + json.dumps({"length": event.asset_materialization.metadata["length_of_the_key"].value,
                             "login": os.environ["AWS_SECRET_ACCESS_KEY"]}))
"""


@pytest.fixture
def python() -> str:
    return dagster_python()


@pytest.fixture
def moto(python: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        assert server.poll() is None, "moto's server has ended; is it in the environment of DAGSTER_PYTHON?"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_code_reads_its_secret(python: str, moto: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(dotenv(LOGIN), encoding="utf-8")
    entry = [word.replace("/run/secrets", str(tmp_path)) for word in WITH_SECRET_ENV]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER_HOME"))},
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": moto,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(EXAMPLE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [python, *entry[1:], python, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "ANSWER" in done.stdout, done.stderr[-3000:]
    answer = json.loads(done.stdout.partition("ANSWER")[2])
    assert answer == {"length": 17, "login": LOGIN["AWS_SECRET_ACCESS_KEY"]}
    assert LOGIN["AWS_SECRET_ACCESS_KEY"] not in done.stderr, "the log shows the login"


def test_location_of_the_example_is_good() -> None:
    variables: dict[str, Any] = yaml.safe_load((EXAMPLE / "location.yml").read_text(encoding="utf-8"))
    assert plan(**variables).problems() == []
