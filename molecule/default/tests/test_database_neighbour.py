"""Our PostgreSQL beside that of somebody else: whose a cluster is was decided when the host was bare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deployment import Play

OURS, NEIGHBOUR = "postgresql@15-dagster.service", "postgresql@15-neighbour.service"
PORT = "5433"


def clusters(host: Any) -> list[str]:
    """Each cluster of the host, with its port and whether it runs."""
    listed: str = host.check_output("pg_lsclusters --no-header | awk '{print $1 \"/\" $2, $3, $4}'")
    return listed.splitlines()


def psql(host: Any, query: str, port: str = "5432") -> str:
    """What a cluster answers its superuser, who is postgres for Debian and root for us."""
    command = "cd / && runuser -u postgres -- psql -X -At -p %s -c %s postgres"
    answer: str = host.check_output(command, port, query)
    return answer


def test_cluster_of_a_bare_host_is_ours_alone(host: Any) -> None:
    """No `main` was made that would have to stop, or to give its port away."""
    assert clusters(host) == ["15/dagster 5432 online"]
    assert host.check_output("ls /var/lib/postgresql/15") == "dagster"


def test_cluster_needs_nothing_of_the_host(host: Any) -> None:
    """The host's locale and its defaults decide nothing; and it comes up where postgresql.service is disabled."""
    wanted = {
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "hba_file": "/etc/postgresql/15/dagster/dagster/pg_hba.conf",
    }
    assert {name: psql(host, f"SHOW {name}") for name in wanted} == wanted
    collations = "SELECT DISTINCT datcollate FROM pg_database"
    assert psql(host, collations) == "C.UTF-8"
    assert host.check_output("systemctl is-enabled %s", OURS) == "enabled"


def test_package_makes_main_again_for_others(host: Any) -> None:
    """What kept it from that was there for our installation only."""
    assert host.check_output("ls -A /etc/postgresql-common/createcluster.d") == ""
    asked = host.run("pg_conftool /etc/postgresql-common/createcluster.conf show -bs create_main_cluster")
    assert asked.stdout.strip() != "off"


def state(host: Any) -> dict[str, str]:
    """All that a cluster's owner would see change."""
    return {
        "process": host.check_output("systemctl show -p MainPID,ExecMainStartTimestampMonotonic %s", NEIGHBOUR),
        "files": host.check_output(
            "find /etc/postgresql/15/neighbour -type f -printf '%p %T@ %m %U %G ' -exec sha256sum {} \\; | sort"
        ),
        "settings": psql(
            host, "SELECT name || '=' || setting FROM pg_settings WHERE name !~ '^(transaction|session)'", PORT
        ),
        "answer": psql(host, "SELECT count(*) FROM theirs", PORT),
    }


@pytest.fixture(scope="module")
def neighbour(host: Any) -> Iterator[dict[str, str]]:
    """A cluster with a table and a client's line that somebody has made since."""
    host.check_output("pg_createcluster --quiet --port %s --start 15 neighbour", PORT)
    try:
        host.check_output(
            "echo 'host all theirs 192.0.2.0/24 scram-sha-256' >>/etc/postgresql/15/neighbour/pg_hba.conf"
        )
        host.check_output("systemctl reload %s", NEIGHBOUR)
        psql(host, "CREATE TABLE theirs AS SELECT generate_series(1, 7)", PORT)
        yield state(host)
    finally:
        host.check_output("pg_dropcluster --stop 15 neighbour")


def test_neighbour_stays_as_it_is(neighbour: dict[str, str], play: Callable[..., Play], host: Any) -> None:
    """Also when ours is restarted with another setting."""
    assert neighbour["answer"] == "7"
    assert play("site.yml").changed == 0
    before = host.check_output("systemctl show -p MainPID --value %s", OURS)
    setting = '{"dagster_postgres_options": {"log_min_duration_statement": "250ms"}}'
    try:
        assert play("site.yml", "--tags", "postgres", "-e", setting).changed > 0
        assert psql(host, "SHOW log_min_duration_statement") == "250ms"
        assert host.check_output("systemctl show -p MainPID --value %s", OURS) != before, "the control"
    finally:
        play("site.yml", "--tags", "postgres")
    assert state(host) == neighbour


@pytest.mark.long  # scenario neighbours has ports of others, and unit tests these sentences
def test_port_of_the_neighbour_is_refused(neighbour: dict[str, str], play: Callable[..., Play], host: Any) -> None:
    """Whether it runs or not; the sentence names the variable."""
    assert play("preflight.yml").rc == 0, "the control"
    wanted = ("preflight.yml", "-e", f"dagster_database_port={PORT}")
    refused = play(*wanted, ok=False)
    assert refused.rc != 0
    assert f"port {PORT} is held by postgres of {NEIGHBOUR}" in refused.output
    assert "change dagster_database_port" in refused.output
    host.check_output("systemctl stop %s", NEIGHBOUR)
    try:
        refused = play(*wanted, ok=False)
        assert refused.rc != 0
        assert f"port {PORT} is in the configuration of the PostgreSQL cluster 15/neighbour" in refused.output
        assert "change dagster_database_port" in refused.output
    finally:
        host.check_output("systemctl start %s", NEIGHBOUR)
    assert state(host)["answer"] == neighbour["answer"]
