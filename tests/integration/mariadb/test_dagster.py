# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real Dagster on MariaDB: what a restart of the server, large events and alike names do to it; where passwords are."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import Dagster
from fence_rig import PROGRAMS
from guard_rig import PYTHON, password, until
from logins_rig import DAEMON, RUN, WEB
from mariadb_rig import MariaSite

ROLE = Path(__file__).resolve().parents[3] / "roles/webserver/vars/main.yml"
# What a run or a code server writes: an event of a size, assets whose names differ in one letter's case.
EVENT = """
import sys
from dagster import AssetMaterialization, DagsterInstance
with DagsterInstance.get() as instance:
    instance.report_runless_asset_event(AssetMaterialization("large", metadata={"text": "x" * int(sys.argv[1])}))
"""
ALIKE = """
from dagster import AssetMaterialization, DagsterInstance
with DagsterInstance.get() as instance:
    for name in ("Orders", "orders"):
        instance.report_runless_asset_event(AssetMaterialization(name))
    instance.add_dynamic_partitions("words", ["A", "a"])
    print(sorted(key.to_user_string() for key in instance.all_asset_keys()))
    print(sorted(instance.get_dynamic_partitions("words")))
"""


def recycled() -> list[str]:
    """The option by which role webserver replaces connections."""
    text = yaml.safe_load(ROLE.read_text(encoding="utf-8"))["__dagster_webserver_options"]
    assert "'db_pool_recycle': 1," in text
    return ["--db-pool-recycle", "1"]


def failures(ui: Dagster, times: int) -> int:
    """How many of so many launches fail."""
    found = 0
    for _number in range(times):
        try:
            ui.launch("plain", "jobs")
        except (AssertionError, OSError, ValueError, KeyError):
            found += 1
    return found


@pytest.mark.parametrize(
    ("options", "fails"), [(recycled(), False), (["--db-pool-recycle", "3600"], True)], ids=["role", "control"]
)
def test_the_first_launches_after_a_restart(site: MariaSite, ui: Dagster, options: list[str], fails: bool) -> None:
    """The pooled connections of a webserver are dead then. Dagster's own default keeps them for an hour."""
    assert ui.get("/server_info")[0] == 200
    with site.webserver(WEB, *options) as replica:
        assert failures(replica, 2) == 0
        stopped = time.monotonic()
        site.cluster.stop()
        site.cluster.start()
        time.sleep(max(0.0, stopped + 1.1 - time.monotonic()))  # a connection is used for a second
        assert (failures(replica, 4) > 0) is fails
        assert failures(replica, 2) == 0, "it recovers by itself"
    # Nobody executes them, so they would keep the slots of their pool from the runs of other tests.
    site.query("DELETE FROM runs")


def run(site: MariaSite, login: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [PYTHON, "-c", code, *arguments]
    environment = site.environment(login)
    return subprocess.run(
        argv, env=environment, cwd=site.folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_an_event_of_many_megabytes(site: MariaSite) -> None:
    """As PostgreSQL takes it. The server's own default is 16 MiB, with which it is refused: the control."""
    size = 20 * 2**20
    done = run(site, RUN, EVENT, str(size))
    assert done.returncode == 0, done.stderr[-2000:]
    assert site.query("SELECT MAX(LENGTH(event)) FROM event_logs")[0][0] > size
    ((packet,),) = site.cluster.query("SELECT @@global.max_allowed_packet")
    site.cluster.query("SET GLOBAL max_allowed_packet = 16777216")
    try:
        assert run(site, RUN, EVENT, str(size)).returncode != 0
    finally:
        site.cluster.query("SET GLOBAL max_allowed_packet = %s", arguments=(packet,))
        site.query("DELETE FROM event_logs WHERE LENGTH(event) > 1000000")


def test_names_that_differ_in_case_alone(site: MariaSite) -> None:
    """Two assets and two partitions, as on PostgreSQL. With MariaDB's own collation they would be one: the control."""
    done = run(site, RUN, ALIKE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search("'Orders'.*'orders'", done.stdout)
    assert "['A', 'a'" in done.stdout
    same = "SELECT COUNT(*) FROM asset_keys WHERE asset_key {} = '[\"orders\"]'"
    assert site.query(same.format(""))[0][0] == 1
    assert site.query(same.format("COLLATE utf8mb4_general_ci"))[0][0] == 2


LARGE = """
import random
from dagster import *
noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=300_000))
@op(description=noise)
def say():
    pass
@job
def wide():
    say()
with DagsterInstance.get() as instance:
    instance.create_run_for_job(wide, run_config={}, tags={str(n): noise[:60_000] for n in range(2)})
"""


def test_job_and_run_that_are_larger_than_a_text(site: MariaSite) -> None:
    """Dagster makes BLOB and TEXT of 64 KiB. With those columns such a run is refused: the control."""
    done = run(site, WEB, LARGE)
    assert done.returncode == 0, done.stderr[-2000:]
    site.query("DELETE FROM runs WHERE pipeline_name = 'wide'")
    site.query("DELETE FROM snapshots WHERE LENGTH(snapshot_body) > 65535")
    site.query("ALTER TABLE snapshots MODIFY snapshot_body BLOB NOT NULL")
    try:
        refused = run(site, WEB, LARGE)
        assert refused.returncode != 0
        assert "Data too long for column 'snapshot_body'" in refused.stderr
        assert site.probe(apply=False)["tables"] == 1
    finally:
        assert site.probe()["tables"] == 1
    assert site.probe()["tables"] == 0
    site.query("ALTER TABLE runs MODIFY run_body TEXT")
    try:
        assert "Data too long for column 'run_body'" in run(site, WEB, LARGE).stderr
    finally:
        site.probe()


def test_large_tables_stay_as_they_are(site: MariaSite) -> None:
    """To widen them, the server would write them anew."""
    site.query("CREATE TABLE theirs (body text) AS SELECT seq AS body FROM seq_1_to_1001")
    try:
        assert site.probe()["tables"] == 0
        site.query("DELETE FROM theirs WHERE body = '1'")
        assert site.probe()["tables"] == 1
    finally:
        site.query("DROP TABLE theirs")


def said_by(pid: int) -> str:
    """Command and environment of a process and of its children."""
    found = ""
    with contextlib.suppress(OSError):
        for name in ("cmdline", "environ"):
            found += Path(f"/proc/{pid}/{name}").read_text(errors="replace")
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += said_by(int(child))
    return found


def test_no_process_shows_a_password(site: MariaSite, ui: Dagster) -> None:
    """Neither a service nor a client of it, nor what a run is told of its instance. Only the files have them."""
    assert ui.get("/server_info")[0] == 200
    with site.daemon(DAEMON) as daemon:
        until(lambda: site.number("daemon_heartbeats") > 0, 240, "the daemon lives")
        seen = said_by(daemon.process.pid)
    assert "option_groups=dagster_daemon_a" in seen, "the control: it is that process"
    told = subprocess.run(
        [str(PROGRAMS / "dagster"), "instance", "info"],
        env=site.environment(WEB),
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    seen += told.stdout + told.stderr + (site.folder / "dagster.yaml").read_text()
    assert "run_storage" in told.stdout, "the control: it tells of the storage"
    for login in (WEB, DAEMON, RUN):
        assert password(login) not in seen
    assert password(DAEMON) in site.options.read_text(), "the control"


def test_a_wrong_password_is_told_with_its_login(site: MariaSite, tmp_path: Path) -> None:
    before = site.options.read_text()
    site.options.write_text(before.replace(password(RUN), "wrong-one"))
    try:
        done = run(site, RUN, "from dagster import DagsterInstance; DagsterInstance.get()")
    finally:
        site.options.write_text(before)
    assert done.returncode != 0
    said: Any = done.stderr
    assert f"Access denied for user '{RUN}'" in said
    assert "wrong-one" not in said
    assert tmp_path.exists()
