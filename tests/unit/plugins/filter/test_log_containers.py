"""In which containers the store of compute logs is tried, and what these have of secrets."""

from __future__ import annotations

from typing import Any

from ansible_collections.dataops.dagster.plugins.filter import log_containers as subject

IMAGES = {"etl": {"ref": "etl:1"}, "bi": {"ref": "bi:2"}}
STATE = "/var/lib/dagster"
ETL: dict[str, Any] = {
    "name": "etl",
    "env": {"STAGE": "prod", "N": 1},
    "user": "4711:4711",
    "volumes": ["/etc/ca.pem:/etc/ca.pem:ro"],
    "networks": ["lake"],
    "extra_hosts": {"store.example.com": "10.0.0.9"},
    "secrets": {"login": "not-a-real-secret"},
    "secret_env": {"TOKEN": "not-a-real-token"},
    "container_context": {
        "env_vars": ["TIER=gold", "FROM_THE_DAEMON"],
        "container_kwargs": {
            "volumes": {"/srv/x": {"bind": "/x", "mode": "ro"}},
            "extra_hosts": ["b.example.com:10.0.0.8"],
        },
    },
}
CODE = {"names": ["etl"], "networks": ["dagster_code"], "env": {"A": "code"}}
RUNS = {
    "names": ["etl", "bi"],
    "networks": ["dagster"],
    "env": {"A": "run"},
    "container_kwargs": {"extra_hosts": {"c.example.com": "10.0.0.7"}, "volumes": ["/ours:/run/dagster:ro"]},
}


def test_a_code_server_and_a_run_as_they_are_started() -> None:
    code, etl, bi = subject.log_containers([ETL, {"name": "bi"}], IMAGES, STATE, CODE, RUNS)
    assert (code["kind"], etl["kind"], bi["kind"], bi["image"]) == ("code server", "run", "run", "bi:2")
    assert code["user"] == etl["user"] == "4711:4711"
    assert bi["user"] == "0:0"
    assert code["networks"] == ["dagster_code", "lake"]
    assert etl["networks"] == ["dagster", "lake"]
    assert code["env"] == {"A": "code", "STAGE": "prod", "N": "1"}
    assert etl["env"] == {"A": "run", "STAGE": "prod", "N": "1", "TIER": "gold"}
    assert code["extra_hosts"] == {"store.example.com": "10.0.0.9"}
    assert set(etl["extra_hosts"]) == {"store.example.com", "b.example.com", "c.example.com"}
    mounted = [f"{STATE}:{STATE}:rw", "/etc/ca.pem:/etc/ca.pem:ro"]
    assert code["volumes"] == mounted
    assert etl["volumes"] == [*mounted, "/srv/x:/x:ro"], "no folder with secrets"
    assert subject.log_containers([ETL], IMAGES, STATE, {**CODE, "names": []}, {**RUNS, "names": []}) == []


def test_secrets_are_where_the_containers_find_them() -> None:
    found = subject.log_secrets([ETL, {"name": "bi"}], {"compute_logs.login": "the login"})
    assert found["bi"] == {"files": {"/run/dagster/compute_logs.login": "the login"}, "env": {}}
    assert found["etl"]["env"] == {"TOKEN": "not-a-real-token"}
    assert found["etl"]["files"].keys() == {
        "/run/secrets/login",
        "/run/secrets/.env",
        "/run/dagster/compute_logs.login",
    }


def test_a_key_is_a_secret_variable_of_each_location() -> None:
    etl, bi = subject.with_secret_env([ETL, {"name": "bi"}], {"KEY": "k"})
    assert etl["secret_env"] == {"TOKEN": "not-a-real-token", "KEY": "k"}
    assert bi["secret_env"] == {"KEY": "k"}
    assert subject.with_secret_env([ETL], {}) == [ETL]
