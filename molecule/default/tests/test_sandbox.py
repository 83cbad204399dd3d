"""The services' sandbox: as systemd has it, as their processes have it, and what a program in it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attempts
import pytest
import sandbox

UNITS = ["dagster-daemon.service", *(f"dagster-webserver@{port}.service" for port in (3000, 3001, 3002))]
HAPROXY = "haproxy-dagster.service"
# What only the kernel's filter of calls refuses, which a program that joins the namespace of mounts does not get.
FILTERED = {
    "become another user",
    "change its personality",
    "gain by exec",
    "give a file the setuid bit",
    "make a block device",
    "open a netlink socket",
    "open a packet socket",
    "schedule in real time",
}


def test_units_have_every_line(host: Any) -> None:
    assert sandbox.units(host) == UNITS
    for unit in UNITS:
        assert sandbox.properties(host, unit) == sandbox.PROPERTIES, unit
    assert sandbox.properties(host, HAPROXY) == sandbox.HAPROXY
    assert sandbox.properties(host, "docker-gate-dagster.service") == sandbox.GATE
    assert sandbox.properties(host, "code-health-dagster.service") == sandbox.PROPERTIES
    # The control: a service of Debian's has other ones.
    assert sandbox.properties(host, "nginx.service") != sandbox.PROPERTIES


def test_processes_have_no_rights_to_give_away(host: Any) -> None:
    """The guard and the daemon that it starts, each replica and its watcher."""
    found = sandbox.processes(host)
    assert {process[:2] for process in found} >= {
        ("dagster-daemon.service", "python"),
        ("dagster-daemon.service", "dagster-daemon"),
        *((unit, program) for unit in UNITS[1:] for program in ("dagster-webserv", "python3")),
    }
    for unit, program, users, capabilities, no_new_privileges, filters in found:
        assert (users, capabilities, no_new_privileges, filters) == ("dagster", "0" * 16, "1", "2"), (unit, program)


@pytest.fixture(scope="module")
def outside(host: Any) -> list[str]:
    """What root can do without a sandbox: the control of all that follows."""
    host.check_output("touch /tmp/of-the-host")
    can = sandbox.attempts(host)["can"]
    assert set(can) >= FILTERED - {"schedule in real time"} | {
        "see /tmp of the host",
        "see a home",
        "set a kernel tunable",
    }
    assert {
        f"write {folder}" for folder in ("/", "/usr", "/etc", "/home", "/root", "/boot", "/opt", "/var/lib")
    } <= set(can)
    return can


@pytest.mark.parametrize("unit", [*UNITS, HAPROXY])
def test_even_root_cannot_write_where_a_service_is(host: Any, outside: list[str], unit: str) -> None:
    found = sandbox.attempts(host, "nsenter", "-m", "-t", sandbox.main_pid(host, unit))
    assert set(found["can"]) <= FILTERED, f"outside: {outside}"
    assert set(found["devices"]) <= sandbox.DEVICES
    assert found["block"] == []


@pytest.mark.parametrize(("unit", "most"), [*((unit, 2.0) for unit in UNITS), ("docker-gate-dagster.service", 2.5)])
def test_exposure(host: Any, unit: str, most: float) -> None:
    assert sandbox.exposure(host, unit) <= most
    assert sandbox.exposure(host, "nginx.service") > 5, "the control: a service of Debian's"


@pytest.fixture
def tried(host: Any) -> Iterator[attempts.Attempts]:
    with attempts.Attempts(host, "dagster", "/var/lib/dagster") as made:
        assert made.without_a_sandbox(UNITS[0]) == attempts.ALL, "the control: the services' user can do all of it"
        yield made


@pytest.mark.parametrize("unit", UNITS)
def test_unit_reaches_nothing_of_the_host_and_of_other_units(tried: attempts.Attempts, unit: str) -> None:
    other = next(name for name in UNITS if name != unit)
    assert tried.inside(unit, other) == {"write its state", "write compute logs"}


# The other units of ours, each with its folder, and with what its program can do after all.
OTHERS = {
    # Nothing but the gate has its user.
    "docker-gate-dagster.service": (
        "/run/docker-gate-dagster",
        {
            "write its state",
            "see another process",
            "read the environment of another process",
            "read the files of another process",
        },
    ),
    # These two are root when they start. HAProxy goes on as another user, and compiles regular expressions.
    HAPROXY: (
        "/run/haproxy-dagster",
        {"write its state", "write and execute memory", "become root by a setuid program"},
    ),
    "code-health-dagster.service": ("/nonexistent", {"become root by a setuid program"}),
}


@pytest.mark.parametrize("unit", OTHERS)
def test_other_units_reach_nothing_else(host: Any, unit: str) -> None:
    folder, can = OTHERS[unit]
    user = host.check_output("systemctl show -p User --value %s", unit) or "root"
    look = "systemctl show -p MainPID --value %s; find %s -printf '%%p %%u %%g %%m\\n' | sort || true"
    before = host.check_output(look, unit, folder)
    with attempts.Attempts(host, user, folder) as made:
        never = {"write compute logs"}  # there are none of its own
        never |= {"read the credential of another unit"} if user != "root" else set()
        never |= {"write its state"} if folder == "/nonexistent" else set()
        assert made.without_a_sandbox(UNITS[0]) == attempts.ALL - never, "the control: its user can do all of it"
        assert made.inside(unit, UNITS[0]) == can
    assert host.check_output(look, unit, folder) == before, "the unit itself has noticed nothing"


@pytest.mark.parametrize("unit", UNITS)
def test_process_of_the_same_user_cannot_read_a_unit(host: Any, unit: str) -> None:
    """One that somebody starts by hand. The control is a unit of that user without the sandbox."""

    def readable(pid: str) -> list[bool]:
        looks = ("head -c 1 /proc/%s/environ", "ls /proc/%s/root/")
        return [host.run(f"sudo -u dagster {look}", pid).rc == 0 for look in looks]

    assert readable(sandbox.main_pid(host, unit)) == [False, False]
    host.check_output("systemd-run -q --collect --unit=of-the-test-victim -p Type=exec -p User=dagster sleep 300")
    try:
        assert readable(sandbox.main_pid(host, "of-the-test-victim")) == [True, True]
    finally:
        host.check_output("systemctl stop of-the-test-victim")


@pytest.mark.usefixtures("outside")
def test_program_of_a_unit_can_do_nothing_of_this(host: Any) -> None:
    assert sandbox.attempts_as_a_unit(host, "/var/lib/dagster")["can"] == []
