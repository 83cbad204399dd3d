"""A changed secret or file restarts exactly its readers, and all of them work with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import restarts
import secrets_on_host
from deployment import Dagster, Play
from restarts import Checked

REPLICAS = tuple(f"dagster-webserver@{port}.service" for port in (3000, 3001, 3002))
DAEMON = ("dagster-daemon.service",)
SERVICES = REPLICAS + DAEMON
POSTGRES = ("postgresql@15-dagster.service",)
GATE = ("docker-gate-dagster.service",)
CODE_HEALTH = ("code-health-dagster.service",)

# What a play does to whom when only this file has changed. Nobody is restarted for what is read each time it is needed.
RESTART: dict[str, tuple[str, ...]] = {
    "/etc/dagster/pgpass": REPLICAS,
    "/etc/dagster/daemon.pgpass": DAEMON,
    "/etc/dagster/environment": SERVICES,
    "/etc/dagster/environment.secret": SERVICES,
    "/etc/dagster/dagster.yaml": SERVICES,
    "/etc/dagster/workspace.yaml": REPLICAS,  # the daemon reads it again by itself
    "/etc/dagster/guard.json": DAEMON,
    "/etc/dagster/containers/pgpass": (),
    "/etc/dagster/code/pgpass": (),
    "/opt/dagster/current": SERVICES,
    "/usr/local/lib/dagster/guard.py": DAEMON,
    "/usr/local/lib/dagster/database.py": DAEMON,
    "/usr/local/lib/dagster/lease.py": DAEMON,
    "/usr/local/lib/dagster/notify.py": REPLICAS,
    "/usr/local/lib/dagster/systemd_service.py": SERVICES,
    "/usr/local/lib/dagster/command_line.py": (),
    "/usr/local/bin/dagster-cli": (),
    "/etc/systemd/system/dagster-.service.d/10-instance.conf": SERVICES,
    "/etc/systemd/system/dagster-.service.d/20-sandbox.conf": SERVICES,
    "/etc/systemd/system/dagster-daemon.service": DAEMON,
    "/etc/systemd/system/dagster-webserver@.service": REPLICAS,
    "/etc/systemd/system/haproxy-dagster.service": ("haproxy-dagster.service",),
    "/etc/tmpfiles.d/dagster.conf": (),
    "/etc/docker/daemon.json": ("docker.service",),
    "/etc/systemd/system/prune-dagster-runs.service": ("prune-dagster-runs.timer",),
    "/etc/systemd/system/prune-dagster-runs.service.d/20-sandbox.conf": ("prune-dagster-runs.timer",),
    "/etc/systemd/system/prune-dagster-runs.timer": ("prune-dagster-runs.timer",),
    **{
        f"/usr/local/lib/dagster/gate{part}.py": GATE
        for part in (
            "",
            "_container",
            "_endings",
            "_engine",
            "_json",
            "_policy",
            "_requests",
            "_rooms",
            "_settings",
            "_sockets",
            "_steps",
        )
    },
    "/etc/docker-gate-dagster/gate.json": GATE,
    "/usr/local/lib/dagster/code_health.py": CODE_HEALTH,
    "/etc/systemd/system/code-health-dagster.service": CODE_HEALTH,
    "/etc/systemd/system/code-health-dagster.service.d/20-sandbox.conf": CODE_HEALTH,
    "/etc/docker-gate-dagster/runs.json": (),  # the gate reads it again by itself
    "/etc/systemd/system/docker-gate-dagster.service": GATE,
    "/etc/systemd/system/docker-gate-dagster.service.d/20-sandbox.conf": GATE,
    "/etc/systemd/system/firewall-dagster.service": ("firewall-dagster.service",),
    # systemd reads all units again when it restarts one.
    "/etc/systemd/system/nftables.service.d/50-firewall-dagster.conf": ("firewall-dagster.service",),
    "/etc/systemd/system/firewalld.service.d/50-firewall-dagster.conf": ("firewall-dagster.service",),
    "/etc/postgresql/15/dagster/conf.d/dagster.conf": POSTGRES,
    "/etc/postgresql/15/dagster/dagster/pg_hba.conf": (),  # the server reads them again by itself: roles.sql
    "/etc/postgresql/15/dagster/dagster/pg_ident.conf": (),
    "/etc/sysctl.d/60-dagster-postgres.conf": ("sysctl-dagster-postgres.service",),
    "/etc/systemd/system/sysctl-dagster-postgres.service": ("sysctl-dagster-postgres.service",),
}
RELOAD: dict[str, tuple[str, ...]] = {
    "/etc/haproxy-dagster.cfg": ("haproxy-dagster.service",),
    # No request is cut for it: it is in effect from the next start of HAProxy on.
    "/etc/systemd/system/haproxy-dagster.service.d/20-sandbox.conf": ("haproxy-dagster.service",),
    "/etc/nginx/conf.d/dagster.conf": ("nginx.service",),
    "/etc/nginx/dagster.d": ("nginx.service",),
}


def test_each_file_has_its_readers(checked: Checked, host: Any) -> None:
    expected = {path: dict.fromkeys(units, "restart") for path, units in RESTART.items()}
    expected |= {path: dict.fromkeys(units, "reload") for path, units in RELOAD.items()}
    found = restarts.actions(host, restarts.units(checked.play.output), list(expected))
    assert found.pop("") == {}, "something is to be done before any file is new"
    assert found == expected


def test_each_file_of_a_play_is_in_the_table(checked: Checked) -> None:
    """Who adds a file says here who reads it."""
    written = {
        entry["dest"]
        for arguments in restarts.invocations(checked.play.output, "files")
        for entry in arguments["files"]
        if entry.get("state") in (None, "file", "link")
    }
    named = {"/etc/dagster/dagster.yaml"}  # a module of its own writes it
    folders = {"/etc/nginx/dagster.d"}
    # edge.url, which tells a play where the UI is, is not among them: it is as it should be, so no call writes it.
    assert written == (RESTART.keys() | RELOAD.keys()) - named - folders


def processes(host: Any) -> dict[str, str]:
    """Main process of each unit, and the workers of nginx, which a reload changes."""
    units = [*SERVICES, *POSTGRES, "docker.service", "haproxy-dagster.service", "nginx.service", "ssh.service"]
    pids = host.check_output(f"systemctl show -p MainPID --value {' '.join(units)} | xargs").split()
    code = host.check_output("docker inspect -f '{{.Id}} {{.State.Pid}}' dagster-code-pipeline")
    workers = host.check_output("pgrep -P %s | sort | xargs", pids[units.index("nginx.service")])
    return {**dict(zip(units, pids, strict=True)), "code server": code, "workers of nginx": workers}


def test_new_rules_are_read_without_a_restart(play: Callable[..., Play], host: Any) -> None:
    """What pg_hba.conf has lost comes back, and the server has read it; who is connected stays."""
    hba = "/etc/postgresql/15/dagster/dagster/pg_hba.conf"
    read = "su postgres -c \"psql -Atqc 'SELECT count(*) FROM pg_hba_file_rules'\""
    loaded = "su postgres -c \"psql -Atqc 'SELECT pg_conf_load_time()'\""
    rules, before, since = host.check_output(read), processes(host), host.check_output(loaded)
    host.check_output("sed -i '/dagster_run/d' %s && systemctl reload postgresql@15-dagster", hba)
    assert host.check_output(read) != rules, "the control: a rule is gone"
    play("site.yml", "--tags", "postgres")
    assert host.check_output(read) == rules
    assert host.check_output(loaded) > since
    assert processes(host) == before


def test_new_passwords_reach_their_readers(
    play: Callable[..., Play], dagster: Dagster, passwords: dict[str, str], host: Any
) -> None:
    """The services' password, the migration's, of which those of programs are made, the runs', and a line of nginx."""
    new = {
        "dagster_database_password": "a-new-one:of\\services",
        "dagster_database_migration_password": "a-new-one-of-migrations",
        "dagster_database_run_password": "a-new-one-of-runs",
    }
    before = processes(host)
    play("site.yml", "-e", json.dumps({**new, "dagster_nginx_max_body_size": "49m"}))
    after = processes(host)
    readers = {*SERVICES, "workers of nginx"}
    assert {name for name, pid in after.items() if pid != before[name]} == readers
    assert host.check_output("cat /etc/dagster/containers/pgpass").endswith(":a-new-one-of-runs")
    of_code = secrets_on_host.derived("a-new-one-of-migrations", ["dagster_code"])["dagster_code"]
    assert host.check_output("docker exec dagster-code-pipeline cat /run/dagster/pgpass").endswith(f":{of_code}")
    dagster.wait(dagster.launch("orders_report"))
    login = "PGPASSWORD=$(echo %s | base64 -d) psql -h 127.0.0.1 -U dagster -Atc 'SELECT 1' dagster"
    assert host.run(login, restarts.hidden(new["dagster_database_password"])).rc == 0
    assert host.run(login, restarts.hidden(passwords["dagster_database_password"])).rc != 0
    # The way back has the same readers, and is the clean state that the tests after this one begin with.
    play("site.yml")
    last = processes(host)
    assert {name for name, pid in last.items() if pid != after[name]} == readers
    assert host.run(login, restarts.hidden(passwords["dagster_database_password"])).rc == 0
    dagster.wait(dagster.launch("orders_report"))
