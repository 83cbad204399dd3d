"""Our MariaDB beside that of somebody else, on the host where this scenario has deployed it.

The file comes after the first deployment by its name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import secrets_on_host as secrets
from deployment import Dagster, Play, until
from refusals import refused_in_one_sentence
from snapshot import Snapshot, differences

OURS, THEIRS = "mariadb@dagster.service", "mariadb.service"
SOCKET = "/run/mariadb-dagster/mysqld.sock"
CONFIG, DROP_IN = "/etc/mariadb-dagster.cnf", "/etc/systemd/system/mariadb@dagster.service.d/dagster.conf"
SERVICES, RUNS = "dagster_database_password", "dagster_database_run_password"
DAEMON = "dagster_daemon_dagster1 dagster_guard"
UNITS = {
    "dagster-daemon.service": DAEMON,
    **{f"dagster-webserver@{port}.service": SERVICES for port in ("3100", "3101")},
}
# The secrets, owner, group and mode, and the accounts but root that can open the file. The engine is somebody else's,
# without user namespaces: root of its containers is root.
FILES = {
    "/etc/dagster/mysql.cnf": (SERVICES, "root:root 600", ""),
    "/etc/dagster/daemon.mysql.cnf": (DAEMON, "root:root 600", ""),
    "/etc/dagster/containers/mysql.cnf": (RUNS, "root:root 400", ""),
    "/etc/dagster/code/mysql.cnf": ("dagster_code", "root:root 400", ""),
    **{
        f"/run/credentials/{unit}/mysql.cnf": (held, "dagster_service:root 400", "dagster_service")
        for unit, held in UNITS.items()
    },
}
FOLDERS = {
    "/etc/dagster": "root:dagster_service 750",
    "/etc/dagster/containers": "root:root 500",
    "/etc/dagster/code": "root:root 500",
    **{f"/run/credentials/{unit}": "dagster_service:root 500" for unit in UNITS},
}


def ours(host: Any, query: str) -> str:
    """What our instance answers root of the host."""
    answer: str = host.check_output("mariadb --defaults-file=%s -BN -e %s", CONFIG, query)
    return answer


def theirs(host: Any, query: str) -> str:
    """What the other one answers."""
    answer: str = host.check_output("mariadb -BN -e %s", query)
    return answer


def process(host: Any, unit: str) -> str:
    found: str = host.check_output("systemctl show -p MainPID,ExecMainStartTimestampMonotonic %s", unit)
    return found


def test_each_has_its_own(neighbour: Any) -> None:
    """Settings, data, port and socket. What is in /etc/mysql is not for ours."""
    wanted = "SELECT @@port, @@datadir, @@max_connections, @@time_zone, @@max_allowed_packet"
    assert theirs(neighbour, wanted).split() == ["3306", "/var/lib/mysql/", "77", "+02:00", "1048576"]
    port, data, connections, zone, packet = ours(neighbour, wanted).split()
    assert (port, data, zone, packet) == ("3307", "/var/lib/mariadb-dagster/data/", "+00:00", "67108864")
    assert int(connections) >= 100
    assert theirs(neighbour, "SELECT COUNT(*), SUM(amount) FROM shop.stock").split() == ["1000", "1501500"]
    assert "dagster" not in theirs(neighbour, "SHOW DATABASES").split()
    assert "shop" not in ours(neighbour, "SHOW DATABASES").split()
    assert neighbour.check_output("systemctl is-enabled %s %s", OURS, THEIRS).split() == ["enabled", "enabled"]


def test_who_reads_its_data(neighbour: Any) -> None:
    for path, owners in (("/var/lib/mariadb-dagster", "mysql:mysql"), ("/var/lib/mariadb-dagster/data", "mysql:root")):
        assert neighbour.check_output("stat -c '%%U:%%G %%a' %s", path) == f"{owners} 700"
    assert neighbour.check_output("ls -A /var/lib/mariadb-dagster") == "data"


def test_who_may_log_in(neighbour: Any) -> None:
    """Each login from where its processes are; nobody from anywhere, and nobody without a password but root as root."""
    found = ours(
        neighbour, "SELECT CONCAT(User, '@', Host) FROM mysql.user WHERE is_role = 'N' ORDER BY 1"
    ).splitlines()
    local = ("dagster", "dagster_daemon_dagster1", "dagster_guard", "dagster_migration")
    containers = "172.28.9.0/255.255.255.0"
    (code,) = [account for account in found if account.startswith("dagster_code@")]
    expected = {*(f"{user}@127.0.0.1" for user in local), f"dagster_run@{containers}", code}
    assert set(found) == {*expected, "mariadb.sys@localhost", "root@localhost"}
    assert neighbour.run("runuser -u nobody -- mariadb --socket=%s -u root -e 'SELECT 1'", SOCKET).rc != 0
    assert ours(neighbour, "SELECT 1") == "1", "the control"


def test_secrets_are_in_their_files_for_their_readers(passwords: dict[str, str], neighbour: Any) -> None:
    """The server has what it stores of passwords, and none of them. The control is a copy that somebody may read."""
    migration = passwords["dagster_database_migration_password"]
    logins = secrets.derived(migration, ["dagster_guard", "dagster_daemon_dagster1", "dagster_code"])
    copy = "/var/lib/dagster/copy"
    neighbour.check_output("install -m 640 -g dagster_service /etc/dagster/mysql.cnf %s", copy)
    try:
        found = secrets.look(neighbour, {**passwords, **logins})
    finally:
        neighbour.check_output("rm %s", copy)
    assert found.files.pop(copy, None) == (SERVICES, "root:dagster_service 640", "dagster_service")
    found.folders.pop("/var/lib/dagster")
    secrets.assert_only(found, FILES, FOLDERS)


def test_secrets_show_nowhere_else(passwords: dict[str, str], neighbour: Any) -> None:
    for variable, secret in passwords.items():
        # The secret itself must not stand in the command: sudo writes that to the journal.
        setup = f"secret=$(echo {base64.b64encode(secret.encode()).decode()} | base64 -d); "
        places = {
            "control": 'grep -lF -e "$secret" /etc/dagster/mysql.cnf /etc/dagster/containers/mysql.cnf',
            "files": 'cd /etc && grep -lF -e "$secret" dagster/dagster.yaml dagster/environment '
            "systemd/system/dagster-*.service",
            "containers": 'docker inspect $(docker ps -aq) | grep -F -e "$secret"',
            "journal": 'journalctl --no-pager -o export | grep -aF -e "$secret"',
        }
        found = {place: neighbour.run(f"{setup}{command} || true").stdout.split() for place, command in places.items()}
        known = {SERVICES: ["/etc/dagster/mysql.cnf"], RUNS: ["/etc/dagster/containers/mysql.cnf"]}
        assert found.pop("control") == known.get(variable, []), variable
        assert list(found.values()) == [[], [], []], (variable, found)
    environment = neighbour.check_output(
        "tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value dagster-daemon)/environ"
    )
    url = "mysql+mysqlconnector://127.0.0.1:3307/dagster"
    file = "/run/credentials/dagster-daemon.service/mysql.cnf"
    assert f"DAGSTER_MYSQL_URL={url}?option_files={file}&option_groups=dagster_daemon_dagster1\n" in environment


LEASE = "SELECT holder, login, admitted FROM dagster.dagster_guard_lease"
EPOCH = "SELECT epoch FROM dagster.dagster_guard_lease"


def test_the_daemon_holds_the_lease(through: Callable[[], Dagster], neighbour: Any) -> None:
    """The next one takes it, and is let in. Triggers keep the tables from a daemon with another login."""
    held = ["dagster1", "dagster_daemon_dagster1", "1"]
    assert ours(neighbour, LEASE).split() == held
    assert (
        int(ours(neighbour, "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'dagster'")) > 10
    )
    before = int(ours(neighbour, EPOCH))
    neighbour.check_output("systemctl restart dagster-daemon")
    until(
        lambda: int(ours(neighbour, EPOCH)) > before and ours(neighbour, LEASE).split() == held,
        60,
        "it has the lease again",
    )
    until(through().healthy, 120, "the deployment is healthy")
    through().wait(through().launch("orders_report"))


def test_the_lease_is_free_after_a_stop(neighbour: Any) -> None:
    locked = "SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = 'dagster_daemon_dagster1'"
    assert ours(neighbour, locked) != "1", "the control"
    neighbour.check_output("systemctl stop dagster-daemon")
    try:
        assert ours(neighbour, "SELECT holder, admitted FROM dagster.dagster_guard_lease").split() == ["0"]
        assert ours(neighbour, locked) == "1"
    finally:
        neighbour.check_output("systemctl start dagster-daemon")


def test_run_outlives_a_restart_of_the_database(through: Callable[[], Dagster], neighbour: Any) -> None:
    """And launches after it work, although the connections that webservers have kept are dead.

    They are replaced once they are older than a second (db_pool_recycle), and this server is back within less.
    """
    dagster = through()
    run_id = dagster.launch("sleep_job", config={"ops": {"sleep_seconds": {"config": {"seconds": 20.0}}}})
    until(lambda: dagster.status(run_id) == "STARTED", 180, "the run has begun")
    before, foreign = process(neighbour, OURS), process(neighbour, THEIRS)
    neighbour.check_output("systemctl restart %s && sleep 1", OURS)
    assert process(neighbour, OURS) != before
    launched = [dagster.launch("orders_report") for _run in range(4)]
    for each in (run_id, *launched):
        dagster.wait(each, seconds=180)
    assert dagster.output(launched[0])
    assert process(neighbour, THEIRS) == foreign


def test_the_server_killed_comes_back(through: Callable[[], Dagster], neighbour: Any) -> None:
    rows = ours(neighbour, "SELECT COUNT(*) FROM dagster.runs")
    neighbour.check_output("systemctl kill --signal=KILL %s", OURS)
    until(lambda: neighbour.run("mariadb --defaults-file=%s -e 'SELECT 1'", CONFIG).rc == 0, 60, "it runs again")
    assert int(ours(neighbour, "SELECT COUNT(*) FROM dagster.runs")) >= int(rows)
    until(through().healthy, 120, "the deployment is healthy")
    through().wait(through().launch("orders_report"))


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_port_of_the_other_one_is_refused(
    play: Callable[..., Play], look: Callable[[], Snapshot], neighbour: Any, state: str
) -> None:
    before = look()
    if state == "stopped":
        neighbour.check_output("systemctl stop %s", THEIRS)
    try:
        refused = play("preflight.yml", "-e", "dagster_database_port=3306", ok=False)
        refused_in_one_sentence(refused, ["dagster_database_port", "port 3306", THEIRS])
    finally:
        neighbour.check_output("systemctl start %s", THEIRS)
    assert [line for line in differences(before, look()) if "process of mariadb " not in line] == []


def test_setting_of_ones_own_restarts_ours_alone(play: Callable[..., Play], neighbour: Any) -> None:
    foreign, before = process(neighbour, THEIRS), process(neighbour, OURS)
    setting = json.dumps({"dagster_mysql_options": {"long_query_time": 3}})
    try:
        assert play("site.yml", "--tags", "mysql", "-e", setting).changed > 0
        assert ours(neighbour, "SELECT @@long_query_time") == "3.000000"
        assert process(neighbour, OURS) != before
    finally:
        play("site.yml", "--tags", "mysql")
    assert process(neighbour, THEIRS) == foreign


def test_setting_that_the_server_refuses_leaves_it_running(play: Callable[..., Play], neighbour: Any) -> None:
    before, text = process(neighbour, OURS), neighbour.check_output("cat %s", CONFIG)
    failed = play("site.yml", "--tags", "mysql", "-e", json.dumps({"dagster_mysql_options": {"nonsense": 1}}), ok=False)
    assert failed.rc != 0
    assert "unknown variable 'nonsense=1'" in failed.output
    assert (process(neighbour, OURS), neighbour.check_output("cat %s", CONFIG)) == (before, text)


@pytest.mark.long  # test_restarts.py of scenario default has new passwords of all kinds
def test_new_password_of_the_services(
    play: Callable[..., Play], through: Callable[[], Dagster], neighbour: Any
) -> None:
    """Webservers have it at once, and go on with it."""
    hashed = "SELECT authentication_string FROM mysql.user WHERE User = 'dagster'"
    before = ours(neighbour, hashed)
    try:
        play("site.yml", "-e", json.dumps({"dagster_database_password": "another-not-real-9b"}))
        assert ours(neighbour, hashed) != before
        through().wait(through().launch("orders_report"))
    finally:
        play("site.yml")
    assert ours(neighbour, hashed) == before


def test_data_that_is_away_is_no_empty_database(play: Callable[..., Play], neighbour: Any) -> None:
    """As where its disk is not mounted: the unit does not start, and preflight says why."""
    data = "/var/lib/mariadb-dagster/data"
    neighbour.check_output("systemctl stop %s && mv %s %s.away", OURS, data, data)
    try:
        assert neighbour.run("systemctl start %s", OURS).rc != 0
        refused = play("site.yml", ok=False)
        refused_in_one_sentence(refused, [f"{data} is not: its disk may not be mounted"])
        assert neighbour.run("test -e %s", data).rc != 0
    finally:
        neighbour.check_output(
            "mv %s.away %s && systemctl reset-failed %s && systemctl start %s", data, data, OURS, OURS
        )


@pytest.mark.long  # test_neighbours.py ends with it
def test_second_run_changes_nothing(play: Callable[..., Play], look: Callable[[], Snapshot], neighbour: Any) -> None:
    foreign, before = look(), process(neighbour, OURS)
    assert play("site.yml").changed == 0
    assert process(neighbour, OURS) == before
    assert differences(foreign, look()) == []
    assert neighbour.run("test -e %s", DROP_IN).rc == 0
