"""What the changed defaults are for, seen from outside."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import attempts
import listeners
import pytest
import sandbox
import secrets_on_host as secrets
from deployment import Dagster, Play, page, until

PREFIX = "/data/dagster"
REGISTRY_PASSWORD = "not-a-real-registry-login-c3"
LOCATIONS = ["built", "loaded", "pulled"]
# The replica's name is what the kernel keeps of it. Each replica's watcher answers HAProxy on port + 10000.
SERVICES = """
tcp 0.0.0.0:8088 nginx nginx.service
tcp 0.0.0.0:8089 nginx nginx.service
tcp 127.0.0.1:3100 dagster-webserv dagster-webserver@3100.service
tcp 127.0.0.1:3101 dagster-webserv dagster-webserver@3101.service
tcp 127.0.0.1:3200 dagster-webserv dagster-webserver-read-only@3200.service
tcp 127.0.0.1:13100 python3 dagster-webserver@3100.service
tcp 127.0.0.1:13101 python3 dagster-webserver@3101.service
tcp 127.0.0.1:13200 python3 dagster-webserver-read-only@3200.service
tcp 127.0.0.1:4100 docker-proxy docker.service
tcp 127.0.0.1:4101 docker-proxy docker.service
tcp 127.0.0.1:4102 docker-proxy docker.service
unix /run/haproxy-dagster/admin.sock root:root 600 haproxy haproxy-dagster.service
unix /run/haproxy-dagster/dagster_webserver.sock www-data:root 600 haproxy haproxy-dagster.service
unix /run/haproxy-dagster/dagster_read_only.sock www-data:root 600 haproxy haproxy-dagster.service
"""
# The second host's database and registry are the site's own, and listen everywhere.
SITE = """
tcp $dagster2:4100 docker-proxy docker.service
tcp 0.0.0.0:5433 postgres postgresql@15-main.service
tcp [::]:5433 postgres postgresql@15-main.service
tcp *:5000 docker-registry docker-registry.service
tcp 0.0.0.0:6443 python3 kubernetes-api.service
tcp 0.0.0.0:9023 python3 gcs.service
unix /run/postgresql/.s.PGSQL.5433 postgres:postgres 777 postgres postgresql@15-main.service
"""
HOME = "/srv/dagster/home"
# A part of it that the file .env writes as it is.
TOKEN_IN_FILE = "{token} $x it"
# A part of the key of the account for compute logs.
LOG_LOGIN = "not-a-real-account-of-logs-4d"
UNITS = [
    "dagster-daemon.service",
    *(f"dagster-webserver@{port}.service" for port in (3100, 3101)),
    "dagster-webserver-read-only@3200.service",
]
# Owner, group and mode, and who but root can open the file. Root of the containers is the host's: userns-remap is off.
MOUNTED = {
    f"{HOME}/code/pgpass": ("dagster_database_run_password", "root:root 400", ""),
    f"{HOME}/code/compute_logs.login": ("log_login", "root:root 400", ""),
}
# All runs start on the first host. The code server of the second one has no secrets.
BUILT = {
    f"{HOME}/secrets/built/.env": ("warehouse_token", "root:root 400", ""),
    f"{HOME}/secrets/built/warehouse_login": ("warehouse_login", "root:root 400", ""),
    # Location pulled has a user of its own, who is nobody on the host.
    f"{HOME}/secrets/pulled/of_its_user": ("of_its_user", "4711:4711 400", ""),
    f"{HOME}/users/4711/code/pgpass": ("dagster_database_run_password", "4711:4711 400", ""),
    f"{HOME}/users/4711/code/compute_logs.login": ("log_login", "4711:4711 400", ""),
}
BUILT_FOLDERS = {
    f"{HOME}/secrets/built": "root:root 500",
    f"{HOME}/secrets/pulled": "4711:4711 500",
    f"{HOME}/users": "root:root 711",
    f"{HOME}/users/4711": "root:root 711",
    f"{HOME}/users/4711/code": "4711:4711 500",
    f"{HOME}/users/4711/containers": "4711:4711 500",
}
MOUNTED_FOLDERS = {
    "/srv/dagster": "root:root 755",
    HOME: "root:data 750",
    f"{HOME}/containers": "root:root 500",
    f"{HOME}/code": "root:root 500",
    f"{HOME}/secrets": "root:root 711",
}
OWN = {
    f"{HOME}/pgpass": ("dagster_database_password", "root:root 600", ""),
    f"{HOME}/daemon.pgpass": ("dagster_database_password", "root:root 600", ""),
    f"{HOME}/read_only.pgpass": ("dagster_database_password", "root:root 600", ""),
    # Runs start here alone.
    f"{HOME}/containers/pgpass": ("dagster_database_run_password", "root:root 400", ""),
    f"{HOME}/users/4711/containers/pgpass": ("dagster_database_run_password", "4711:4711 400", ""),
    f"{HOME}/compute_logs.login": ("log_login", "root:root 600", ""),
    f"{HOME}/containers/compute_logs.login": ("log_login", "root:root 400", ""),
    f"{HOME}/users/4711/containers/compute_logs.login": ("log_login", "4711:4711 400", ""),
    **{f"/run/credentials/{unit}/compute_logs.login": ("log_login", "data:root 400", "data") for unit in UNITS},
    f"{HOME}/environment.secret": ("store_password", "root:root 600", ""),
    **{f"/run/credentials/{unit}/pgpass": ("dagster_database_password", "data:root 400", "data") for unit in UNITS},
}


def test_nobody_else_listens(host: Any, other: Any, connections: dict[str, dict[str, str]]) -> None:
    second = connections["dagster2"]["ansible_host"]
    listeners.assert_only(host, listeners.table(listeners.BASE, listeners.ENGINE, SERVICES))
    listeners.assert_only(other, listeners.table(listeners.BASE, listeners.ENGINE, SITE, dagster2=second))


def test_secrets_are_in_their_files_for_their_readers(host: Any, other: Any, passwords: dict[str, str]) -> None:
    words = {
        **passwords,
        "store_password": 'not "a" real $password\\ b7',
        "warehouse_login": "not-a-real-login-a51f",
        "of_its_user": "not-a-real-secret-of-a-user-7d",
        "registry_password": REGISTRY_PASSWORD,
        "warehouse_token": TOKEN_IN_FILE,
        "log_login": LOG_LOGIN,
        **secrets.derived(
            passwords["dagster_database_migration_password"], ["dagster_guard", "dagster_daemon_dagster1"]
        ),
    }
    folders = {f"/run/credentials/{unit}": "data:root 500" for unit in UNITS} | BUILT_FOLDERS
    secrets.assert_only(secrets.look(host, words), {**MOUNTED, **BUILT, **OWN}, {**MOUNTED_FOLDERS, **folders})
    # No file in its folders of runs and of secrets holds a secret.
    empty = (f"{HOME}/containers", f"{HOME}/secrets")
    of_code = {folder: about for folder, about in MOUNTED_FOLDERS.items() if folder not in empty}
    secrets.assert_only(secrets.look(other, words), MOUNTED, of_code)
    assert other.check_output("ls -A %s", f"{HOME}/secrets") == ""


def test_a_wrong_password_is_not_in_place(play: Callable[..., Play], dagster: Dagster, host: Any) -> None:
    """The database is the site's own, so only a login tells. What services read stays, and they start with it."""
    look = f"find {HOME} ! -name '.*.next' -type f -printf '%p %T@ %s\\n' | sort"
    before = host.check_output(look)
    failed = play("site.yml", "-e", json.dumps({"dagster_database_password": "wrong"}), ok=False)
    assert failed.rc != 0, "the login was not refused: the test would prove nothing"
    assert "cannot connect with dagster_database_password" in " ".join(failed.output.split()), failed.output[-4000:]
    assert host.check_output(look) == before
    host.check_output("systemctl restart 'dagster-webserver@*' dagster-daemon")
    until(dagster.healthy, 120, "the deployment is healthy")


def test_paths_with_and_without_prefix(edge: str, host: Any) -> None:
    assert Dagster(f"{edge}:8088").get("/server_info")[0] == 200
    assert Dagster(f"{edge}:8088{PREFIX}").get("/server_info")[0] == 200
    assert Dagster(f"{edge}:8088").get("/graphql")[0] == 404
    with urllib.request.urlopen(f"{edge}:8088/", timeout=30) as page:
        assert page.url == f"{edge}:8088{PREFIX}/"
    # The control: a replica itself does not know the plain path.
    assert (
        "404"
        in host.run("python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:3100/server_info\")'").stderr
    )


def test_browser_finds_everything_below_the_prefix(dagster: Dagster) -> None:
    def finds() -> bool:
        shown = page(f"{dagster.url}/locations")
        assert not [name for name in LOCATIONS if name not in shown], shown
        assert shown.count("Loaded") >= len(LOCATIONS), shown
        return True

    until(finds, 180, "the UI shows all locations")


def test_version_is_the_older_one_from_wheels(dagster: Dagster, host: Any) -> None:
    assert json.loads(dagster.get("/server_info")[1])["dagster_version"] == "1.13.26"
    assert host.file("/srv/dagster/venvs/1.13.26/.complete").exists
    assert "Site CA" in host.check_output(
        "awk '/BEGIN/{f=\"/tmp/ca.\" ++n} {print > f}' /etc/ssl/certs/ca-certificates.crt;"
        " for f in /tmp/ca.*; do openssl x509 -noout -subject -in $f; done | grep 'Site CA'; rm /tmp/ca.*"
    )


def test_read_only_instance_refuses_and_the_other_does_not(edge: str, dagster: Dagster) -> None:
    reader = Dagster(f"{edge}:8089{PREFIX}")
    assert reader.get("/server_info")[0] == 200
    with pytest.raises(AssertionError, match="UnauthorizedError"):
        reader.launch("orders_report", "built")
    dagster.wait(dagster.launch("orders_report", "built"))


def test_services_run_as_the_other_user(host: Any) -> None:
    for unit in ("dagster-daemon", "dagster-webserver@3101", "dagster-webserver-read-only@3200"):
        assert host.check_output("systemctl show -p User --value %s", unit) == "data"
    groups = host.check_output("systemctl show -p SupplementaryGroups --value dagster-webserver-read-only@3200")
    assert groups == "", "a webserver that may launch nothing needs no engine"


def test_sandbox_of_the_read_only_webserver(host: Any) -> None:
    """Of the state it writes the logs alone. The other webservers are the control of that."""
    unit = "dagster-webserver-read-only@3200.service"
    assert sandbox.exposure(host, unit) <= 2.0
    with attempts.Attempts(host, "data", "/srv/dagster/state") as tried:
        assert tried.without_a_sandbox(UNITS[0]) == attempts.ALL, "the control: the services' user can do all of it"
        assert tried.inside(unit, UNITS[0]) == {"write compute logs"}
        assert tried.inside(UNITS[1], unit) == {"write its state", "write compute logs"}


def test_environment_of_the_services(host: Any) -> None:
    """Runs and code servers have the plain variable too: the tests of runs read the logs at its place."""
    pid = host.check_output("systemctl show -p MainPID --value dagster-daemon")
    found = host.check_output("tr '\\0' '\\n' </proc/%s/environ", pid).splitlines()
    assert "DAGSTER_LOG_DIR=/srv/dagster/state/compute_logs" in found
    assert 'STORE_PASSWORD=not "a" real $password\\ b7' in found
    assert host.check_output("stat -c '%U %a' /srv/dagster/home/environment.secret") == "root 600"
    assert "STORE_PASSWORD" not in host.check_output("docker inspect $(docker ps -aq)")
    assert "STORE_PASSWORD" not in host.check_output("cat /srv/dagster/home/dagster.yaml /srv/dagster/home/environment")
