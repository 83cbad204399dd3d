"""molecule/snapshot.py: what is a difference for somebody else, and what is not."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from subprocess import run

import pytest
import snapshot

LISTENER = "listener tcp 0.0.0.0:9000 haproxy haproxy.service"
BEFORE = {
    "file /etc/haproxy/haproxy.cfg": "6b1f written 17 0:0 644",
    "unit haproxy": "ActiveState=active\nSubState=running",
    "process of haproxy": "MainPID=7",
    "unit file haproxy.service": "enabled",
    "container shop": "running",
    "database rules": "1|local|all\n2|host|shop",
    LISTENER: "there",
}


def test_nothing_differs() -> None:
    assert snapshot.differences(BEFORE, dict(BEFORE)) == []


@pytest.mark.parametrize(
    ("name", "now", "sentence"),
    [
        (
            "file /etc/haproxy/haproxy.cfg",
            "6b1f written 18 0:0 644",
            "file /etc/haproxy/haproxy.cfg was 6b1f written 17 0:0 644, is 6b1f written 18 0:0 644",
        ),
        ("process of haproxy", "MainPID=8", "process of haproxy was MainPID=7, is MainPID=8"),
        ("container shop", None, "container shop is gone; it was running"),
        ("database rules", "1|local|all\n2|host|dagster", "database rules differs: -2|host|shop; +2|host|dagster"),
        (LISTENER, None, f"{LISTENER} is gone; it was there"),
    ],
)
def test_a_difference_is_a_sentence(name: str, now: str | None, sentence: str) -> None:
    after = {**BEFORE, name: now} if now else {key: text for key, text in BEFORE.items() if key != name}
    assert snapshot.differences(BEFORE, after) == [sentence]


def test_what_is_new_has_our_name() -> None:
    ours = {
        "file /etc/nginx/conf.d/dagster.conf": "1",
        "container brave_bell dagster run": "1",
        "listener tcp 127.0.0.1:5433 postgres postgresql@15-dagster.service": "there",
        "unit file dagster-daemon.service": "enabled",
        "file /etc/systemd/system/nftables.service.d": "folder",
        "file /etc/systemd/system/nftables.service.d/50-firewall-dagster.conf": "1",
    }
    assert snapshot.differences(BEFORE, {**BEFORE, **ours}) == []
    unnamed = {"file /etc/nginx/conf.d/gzip.conf": "1", "table inet guard": "1", "passwd runner": "x"}
    unnamed |= {"file /etc/systemd/system/docker.service.d": "a folder that nothing of ours is in"}
    assert snapshot.differences(BEFORE, {**BEFORE, **unnamed}) == [
        f"{name} is new and does not have our name" for name in sorted(unnamed)
    ]


def test_after_a_reboot_a_process_is_another_one() -> None:
    after = {**BEFORE, "process of haproxy": "MainPID=8"}
    assert snapshot.differences(BEFORE, after, rebooted=True) == []
    after["unit haproxy"] = "ActiveState=failed\nSubState=failed"
    (found,) = snapshot.differences(BEFORE, after, rebooted=True)
    assert found.startswith("unit haproxy differs: -ActiveState=active; ")


def test_what_does_not_work_is_named() -> None:
    assert snapshot.failures(BEFORE) == []
    broken = {"unit haproxy": "ActiveState=inactive", "answer of the database": "failed: no password"}
    assert snapshot.failures({**BEFORE, **broken}) == [
        "answer of the database: failed: no password",
        "unit haproxy: ActiveState=inactive",
    ]


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()
        self.wfile.write(b"orders")

    def log_message(self, *_words: object) -> None:
        pass


def test_answers() -> None:
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}"
        argv = [sys.executable, "-I", "-S", "-c", snapshot.ANSWERS, f"{site}/", f"{site}/none", "http://127.0.0.1:1/"]
        found = json.loads(run(argv, capture_output=True, check=True, timeout=60).stdout)
        server.shutdown()
    assert found[f"{site}/"].startswith("200 plain, ")
    assert found[f"{site}/none"].startswith("failed: HTTP Error 404")
    assert "refused" in found["http://127.0.0.1:1/"]


def test_program_for_the_host_compiles() -> None:
    compile(snapshot.STATE, "STATE", "exec")
