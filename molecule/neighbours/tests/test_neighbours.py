"""A host that serves somebody else is deployed to: what is theirs stays as it was, and ours works beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import ways
from deployment import Dagster, Play, identities, reboot, until
from refusals import refused_in_one_sentence
from snapshot import Snapshot, differences

DATABASE = "sudo -u postgres psql -p 5432 -Xqc"
# What a play of ours could do to somebody else: how, how it is undone, and what the comparison has to say.
HARM = {
    "file written again": ("touch /etc/haproxy/haproxy.cfg", "", "file /etc/haproxy/haproxy.cfg was "),
    "site removed": (
        "rm /etc/nginx/sites-enabled/default",
        "ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default && systemctl reload nginx",
        "file /etc/nginx/sites-enabled/default is gone",
    ),
    "file of no known owner": ("touch /etc/nginx/conf.d/more.conf", "rm /etc/nginx/conf.d/more.conf", "is new and"),
    "container started anew": ("docker restart -t 1 shop", "", "process of container shop was "),
    "container removed": (
        "docker rm shop-import",
        "docker run --name shop-import shop:1 true",
        "container shop-import is gone",
    ),
    "service restarted": ("systemctl restart haproxy", "", "process of haproxy "),
    "service disabled": ("systemctl disable haproxy", "systemctl enable haproxy", "unit file haproxy.service was "),
    "server stopped": ("systemctl stop nginx", "systemctl start nginx", ":8080/orders.json was 200 gzip"),
    "user changed": ("usermod -c x dagster", "usermod -c '' dagster", "passwd dagster was "),
    "role changed": (
        f"{DATABASE} 'ALTER ROLE shop CONNECTION LIMIT 5'",
        f"{DATABASE} 'ALTER ROLE shop CONNECTION LIMIT -1'",
        "database roles differs",
    ),
    "client cut off": ("systemctl restart postgresql@15-main", "", "process of shop-report "),
    "rule added": (
        "nft add rule inet shop input tcp dport 7 drop",
        "systemctl reload nftables",
        "table inet shop differs",
    ),
    "kernel set": ("systemctl restart systemd-sysctl", "sysctl -qw net.ipv4.tcp_keepalive_time=650", "kernel net"),
}
# The variables that decide what is taken on this host, and what preflight names beside each.
TAKEN = {
    "dagster_database_port": ["5432"],  # what is shipped has PostgreSQL
    "dagster_webserver_ports": ["3000"],
    "dagster_nginx_port": ["8080", "nginx"],
    "dagster_docker_network_subnet": ["172.30.0.0/24", "shop"],
    "dagster_user": ["user dagster"],
}


def test_harm_is_seen(whole: Callable[[], Snapshot], look: Callable[[], Snapshot], neighbour: Any) -> None:
    """The control of all that follows: each of these is a difference, and without them there is none."""
    first = whole()
    assert differences(first, look()) == []
    with contextlib.ExitStack() as undone:
        for harm, undo, _words in HARM.values():
            neighbour.check_output(harm)
            if undo:
                undone.callback(neighbour.check_output, undo)
        found = differences(first, look())
    unseen = [what for what, (_harm, _undo, words) in HARM.items() if not any(words in line for line in found)]
    assert unseen == [], "\n".join(found)


@pytest.fixture(scope="module")
def refusal(play: Callable[..., Play], before: Snapshot) -> Play:
    """site.yml with what is shipped, on a host where nearly all of it is taken."""
    assert before
    return play("site.yml", as_shipped=True, ok=False)


@pytest.mark.parametrize("variable", TAKEN)
def test_what_cannot_be_shared_is_refused_by_name(refusal: Play, variable: str) -> None:
    refused_in_one_sentence(refusal, [variable, *TAKEN[variable]])


@pytest.mark.usefixtures("refusal")
def test_a_refused_play_changes_nothing(before: Snapshot, look: Callable[[], Snapshot]) -> None:
    assert look() == before


def test_check_of_a_new_host_changes_nothing(
    play: Callable[..., Play], before: Snapshot, look: Callable[[], Snapshot]
) -> None:
    """It says what the engine of somebody else cannot promise, once."""
    shown = play("site.yml", "--check", "--diff")
    assert shown.changed > 0
    assert " ".join(shown.output.split()).count("is not ours and stays as it is") == 1, shown.output[:2000]
    assert look() == before


def test_deployed_beside_them(play: Callable[..., Play], before: Snapshot, look: Callable[[], Snapshot]) -> None:
    play("site.yml")
    assert differences(before, look()) == []


def test_a_run_works_beside_them(
    through: Callable[[], Dagster], before: Snapshot, look: Callable[[], Snapshot]
) -> None:
    dagster = through()
    run_id = dagster.launch("orders_report")
    dagster.wait(run_id)
    assert dagster.output(run_id)
    assert differences(before, look()) == []


def test_second_run_changes_nothing_whatever_they_have_added(
    play: Callable[..., Play], look: Callable[[], Snapshot], neighbour: Any
) -> None:
    """Whose a thing is was decided at first contact. What they add later is theirs, too."""
    for command in (
        "printf 'server { listen 8081; root /srv/shop; }\\n' >/etc/nginx/sites-enabled/more",
        "systemctl reload nginx",
        f"{DATABASE} 'CREATE DATABASE more OWNER shop'",
        "docker run --detach --name=more --restart=always shop:1 sleep infinity",
        "nft add table inet more",
    ):
        neighbour.check_output(command)
    theirs, ours = look(), identities(neighbour)
    assert play("site.yml").changed == 0
    assert differences(theirs, look()) == []
    assert identities(neighbour) == ours
    neighbour.check_output("nft delete table inet more")  # nobody has written it down for the next boot


def test_our_table_is_beside_theirs(look: Callable[[], Snapshot], neighbour: Any) -> None:
    """It comes back when their service, whose file might flush all rules, is started anew."""
    theirs, ours = look(), ways.table(neighbour)
    assert "elements" in ours
    for verb in ("reload", "restart"):
        ways.without(neighbour)
        neighbour.check_output(f"systemctl {verb} nftables")  # which does not wait for what follows from it
        until(lambda: ways.table(neighbour) == ours, 20, f"our table is back after the {verb}")
    assert [line for line in differences(theirs, look()) if line.startswith("table ")] == []


def test_everything_comes_back_after_a_reboot(
    play: Callable[..., Play], look: Callable[[], Snapshot], through: Callable[[], Dagster], neighbour: Any
) -> None:
    neighbour.check_output("systemctl restart systemd-sysctl")  # what was set by hand ends with a boot
    theirs = look()
    up = reboot(neighbour, "dagster1")
    with contextlib.suppress(AssertionError):  # the comparison after it says what is missing
        until(lambda: differences(theirs, look(), rebooted=True) == [], 300, "they serve again", every=2)
    assert differences(theirs, look(), rebooted=True) == []
    until(lambda: through().healthy(up), 300, "ours is healthy", every=1)
    through().wait(until(lambda: through().launch("orders_report"), 180, "the code location serves", every=2))
    assert neighbour.check_output("systemctl --failed --no-legend") == ""
    assert play("site.yml").changed == 0
    assert differences(theirs, look(), rebooted=True) == []
