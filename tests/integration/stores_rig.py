"""Object stores on loopback: S3 (moto), Google Cloud Storage (google_store), Azure Blob Storage (azure_store).

Each asks for a login as the real one does, and knows a login that may do nothing. Azure's clients build its address of
the account's name, so they reach it through a proxy that knows the name, with TLS.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "dagster-logs"
AZURE_ACCOUNT, AZURE_KEY = "logs", base64.b64encode(b"not a real key of an account").decode()
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
# What each store knows for a login: one that may do all, and one that may do nothing.
GOOGLE = {"logs@dagster.test": ["read", "write", "delete"], "nothing@dagster.test": ["read"]}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Server:
    """A server as a process of ours."""

    argv: list[str]
    port: int
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    patience: int = 240
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env={**os.environ, **self.env}, cwd=self.folder, stdout=log, stderr=log
            )
        end = time.monotonic() + self.patience
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.argv} does not answer: {(self.folder / 'log').read_text(encoding='utf-8')}")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Names:
    """A proxy (CONNECT) that knows names of the internet: all of them are this machine."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(connection,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            port = int(head.split()[1].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", port)) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                ends = {client: server, server: client}
                while True:
                    for one in select.select(list(ends), [], [])[0]:
                        data = one.recv(65536)
                        if not data:
                            return
                        ends[one].sendall(data)

    def close(self) -> None:
        self.listener.close()


@dataclass
class Store:
    """A store: what dagster.yaml says of it, what clients have in their environment, and their logins."""

    server: Server
    logs: dict[str, Any]  # the section compute_logs without local_dir
    env: dict[str, str]
    login: str  # of somebody who may do all
    powerless: str  # of somebody who is known, and may not write
    unknown: str

    def section(self, **config: Any) -> dict[str, Any]:
        return {**self.logs, "config": {**self.logs["config"], **config}}


# Amazon


def credentials(key_id: str, key: str) -> str:
    return f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {key}\n"


def amazon(folder: Path, python: str, *, guarded: bool = True) -> Store:
    """moto: after the calls that make bucket and users, each one is held against the rights of who asks.

    Not so without guarded, as for the role of a machine, which moto's users do not have.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    setup = f"""
import boto3, json, sys
given = dict(region_name="eu-central-1", endpoint_url={url!r}, aws_access_key_id="root", aws_secret_access_key="root")
iam = boto3.client("iam", **given)
boto3.client("s3", **given).create_bucket(
    Bucket={BUCKET!r}, CreateBucketConfiguration={{"LocationConstraint": "eu-central-1"}})
found = []
for name in ("logs", "nothing"):
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    found.append((made["AccessKeyId"], made["SecretAccessKey"]))
iam.put_user_policy(UserName="logs", PolicyName="all", PolicyDocument={json.dumps(POLICY)!r})
print(json.dumps(found))
"""
    server = Server(
        [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        port,
        folder / "amazon",
        {"INITIAL_NO_AUTH_ACTION_COUNT": "6"} if guarded else {},
    )
    server.start()
    done = subprocess.run([python, "-c", setup], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (all_id, all_key), (nothing_id, nothing_key) = json.loads(done.stdout)
    logs = {
        "module": "dagster_aws.s3.compute_log_manager",
        "class": "S3ComputeLogManager",
        "config": {"bucket": BUCKET, "prefix": "dagster", "endpoint_url": url},
    }
    return Store(
        server,
        logs,
        {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true"},
        credentials(all_id, all_key),
        credentials(nothing_id, nothing_key),
        credentials("AKIANOTKNOWN", "not-a-real-key"),
    )


# Google


def service_account(mail: str, key_id: str, port: int) -> str:
    """The JSON key of a service account, whose tokens come from our server."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "dagster",
            "private_key_id": key_id,
            "private_key": pem,
            "client_email": mail,
            "client_id": "1",
            "token_uri": f"http://127.0.0.1:{port}/token",
        }
    )


def google(folder: Path, packages: Path) -> Store:
    port = free_port()
    accounts = folder / "accounts.json"
    accounts.write_text(json.dumps({mail: {"key": "k", "may": may} for mail, may in GOOGLE.items()}), encoding="utf-8")
    server = Server(
        [sys.executable, str(ROOT / "tests/rig/google_store.py"), "127.0.0.1", str(port), BUCKET, str(accounts)],
        port,
        folder / "google",
        {"PYTHONPATH": str(packages)},
    )
    server.start()
    logs = {
        "module": "dagster_gcp.gcs.compute_log_manager",
        "class": "GCSComputeLogManager",
        "config": {"bucket": BUCKET, "prefix": "dagster"},
    }
    everything, nothing = (service_account(mail, "k", port) for mail in GOOGLE)
    return Store(
        server,
        logs,
        {"API_ENDPOINT_OVERRIDE": f"http://127.0.0.1:{port}"},
        everything,
        nothing,
        service_account("logs@dagster.test", "of yesterday", port),
    )


# Microsoft


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "azure.crt", folder / "azure.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def microsoft(folder: Path, python: Path, names: Names) -> Store:
    port = free_port()
    cert, key = certificate(folder, f"{AZURE_ACCOUNT}.blob.core.test")
    argv = [sys.executable, str(ROOT / "tests/rig/azure_store.py"), "127.0.0.1", str(port), AZURE_ACCOUNT]
    server = Server([*argv, str(cert), str(key)], port, folder / "microsoft", {"AZURE_KEY": AZURE_KEY})
    server.start()
    env = {"HTTPS_PROXY": names.url, "REQUESTS_CA_BUNDLE": str(cert)}
    config = {"storage_account": AZURE_ACCOUNT, "container": BUCKET, "endpoint_suffix": f"core.test:{port}"}
    setup = f"""
import datetime
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
url = "https://{AZURE_ACCOUNT}.blob.core.test:{port}/"
BlobServiceClient(url, {AZURE_KEY!r}).create_container({BUCKET!r})
print(generate_account_sas(
    {AZURE_ACCOUNT!r}, {AZURE_KEY!r}, ResourceTypes(service=True, container=True, object=True),
    AccountSasPermissions(list=True), datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)))
"""
    done = subprocess.run(
        [str(python), "-c", setup], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    logs = {"module": "dagster_azure.blob.compute_log_manager", "class": "AzureBlobComputeLogManager", "config": config}
    unknown = base64.b64encode(b"somebody else's key").decode()
    return Store(server, logs, env, AZURE_KEY, done.stdout.strip(), unknown)


@contextlib.contextmanager
def stores(folder: Path, python: Path, moto: str, packages: Path) -> Iterator[dict[str, Store]]:
    """All three. python is one with Dagster's libraries, moto one with that, packages those of Google's emulator."""
    names = Names()
    found: dict[str, Store] = {}
    try:
        found["s3"] = amazon(folder, moto)
        found["gcs"] = google(folder, packages)
        found["azure"] = microsoft(folder, python, names)
        yield found
    finally:
        for store in found.values():
            store.server.stop()
        names.close()
