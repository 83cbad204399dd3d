"""Who listens on the one host: what the deployment needs, on loopback, and nobody else."""

from __future__ import annotations

from typing import Any

import listeners

# dagster-webserv is what the kernel keeps of the name. Each replica's watcher answers HAProxy on port + 10000. The
# sockets of the Docker gate are not among them: without clients on other hosts it has a network namespace of its own.
MEANT = """
tcp 127.0.0.1:3000 dagster-webserv dagster-webserver@3000.service
tcp 127.0.0.1:3001 dagster-webserv dagster-webserver@3001.service
tcp 127.0.0.1:3002 dagster-webserv dagster-webserver@3002.service
tcp 127.0.0.1:13000 python3 dagster-webserver@3000.service
tcp 127.0.0.1:13001 python3 dagster-webserver@3001.service
tcp 127.0.0.1:13002 python3 dagster-webserver@3002.service
tcp 127.0.0.1:4000 docker-proxy docker.service
tcp 127.0.0.1:5432 postgres postgresql@15-dagster.service
tcp 172.30.0.1:5432 postgres postgresql@15-dagster.service
tcp 127.0.0.1:8080 nginx nginx.service
unix /run/haproxy-dagster/admin.sock root:root 600 haproxy haproxy-dagster.service
unix /run/haproxy-dagster/dagster_webserver.sock www-data:root 600 haproxy haproxy-dagster.service
unix /run/postgresql/.s.PGSQL.5432 postgres:postgres 777 postgres postgresql@15-dagster.service
"""


def test_nobody_else_listens(host: Any) -> None:
    """The database has a second address for the runs' network alone, which no other host is in."""
    listeners.assert_only(host, listeners.table(listeners.BASE, listeners.ENGINE, MEANT))
    # The control: one more is seen, on whatever address.
    host.check_output("systemd-run -q --unit=one-more python3 -m http.server 3055 --bind 0.0.0.0")
    try:
        host.check_output("timeout 60 sh -c 'until ss -Hltn | grep -q :3055; do sleep 0.1; done'")
        more = listeners.listeners(host) - listeners.table(listeners.BASE, listeners.ENGINE, MEANT)
        assert more == {"tcp 0.0.0.0:3055 python3 one-more.service"}
    finally:
        host.check_output("systemctl stop one-more")
