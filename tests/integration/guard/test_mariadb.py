# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is only MariaDB's: a take of several statements, of which each commits by itself.

Who was frozen between any two of them, and goes on when another host has taken the lease, changes nothing. They run in
the server, so a step that can wait is put before each of them (steps), and a session is frozen at one of these.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from guard_mariadb import MariaDB, call
from guard_rig import HOSTS, password, until
from mariadb_rig import LEASE, execute

pytestmark = [
    pytest.mark.parametrize("cluster", ["mariadb"], indirect=True, scope="session"),
    pytest.mark.usefixtures("free"),
]
LOCK = "dagster_guard.dagster"
# A session waits at the step that it has put down, for as long as the test has the lock.
STEP = "SET @step = @step + 1; IF @step = @frozen THEN DO GET_LOCK('frozen', 60); DO RELEASE_LOCK('frozen'); END IF;"
CALLS = {"take": ("b", "", "dagster_daemon_b", 1, 1), "fence": (2,), "renew": ("b", "", 2), "release": ("b", "", 2)}
# The row as a taker would remember it, instead of the row as it is.
REMEMBERED = "FROM (SELECT p_epoch AS epoch, @login AS login, admitted, logins FROM dagster_guard_lease) l JOIN"


def steps(text: str) -> str:
    """The procedures with a step before each statement."""
    found, before = [], ""
    for line in text.splitlines():
        plain = line.partition("--")[0].strip()
        begins = re.search(r"(;|\b(THEN|DO|LOOP|BEGIN))$", before) and not before.startswith("DECLARE EXIT HANDLER")
        # What a handler does is no step of a take, and a step would be taken for the statement whose rows are counted.
        if begins and plain and not re.search(r"^DECLARE|^END|^RESIGNAL|^LEAVE|ROW_COUNT", plain):
            found.append(STEP)
        found.append(line)
        before = plain or before
    return "\n".join(found)


@contextlib.contextmanager
def installed(cluster: MariaDB, text: str) -> Iterator[None]:
    """This text in the place of guard.sql."""
    given = [
        text.rstrip(),
        "dagster_guard_owner",
        "dagster_guard@127.0.0.1",
        ",".join(f"dagster_daemon_{name}" for name in HOSTS),
    ]
    cluster.apply(LEASE / "guard_install.sql", given, "dagster")
    try:
        yield
    finally:
        cluster.install(HOSTS)


GUARD = (LEASE / "guard.sql").read_text(encoding="utf-8")
# Who hangs has less time here, and a fence waits less between its looks, because each step costs as much.
QUICK = GUARD.replace("GET_LOCK(v_name, 0.5)", "GET_LOCK(v_name, 0.02)").replace("SLEEP(0.02)", "SLEEP(0.002)")


class Stale:
    """The guard of host b, which takes the lease from host a and is frozen at a step."""

    def __init__(self, cluster: MariaDB, frozen: int) -> None:
        self.cluster, self.frozen = cluster, frozen
        self.session = cluster.session("dagster_guard")
        execute(self.session, f"SET @step = 0, @frozen = {frozen}, @login = 'dagster_daemon_b'")
        self.heard: dict[str, Any] = {}
        self.error = ""
        self.step = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        """Each call after the other, as long as they are answered with yes."""
        try:
            for function, arguments in CALLS.items():
                self.heard[function] = call(self.session, function, *arguments)
                if not self.heard[function]:
                    return
            self.step = int(execute(self.session, "SELECT @step")[0][0])
        except pymysql.err.MySQLError as error:
            self.error = str(error)

    def waits(self) -> bool:
        """Whether it is at its step, or has come to its end without one."""
        return not self.thread.is_alive() or bool(
            self.cluster.query(
                "SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'User lock' AND INFO LIKE '%frozen%'"
            )
        )

    def end(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.session.close()


def held_by_a(cluster: MariaDB) -> Any:
    """The lease is that of host a; a session of its daemon."""
    cluster.query(
        "UPDATE dagster_guard_lease SET epoch = 1, generation = 1, holder = 'a', boot = '', wanted = '',"
        " login = 'dagster_daemon_a', admitted = TRUE"
    )
    cluster.query("SET @login = 'dagster_daemon_a'")
    cluster.query("CALL dagster_guard_settle(1)")
    return cluster.session("dagster_daemon_a")


def state(cluster: MariaDB) -> tuple[Any, ...]:
    """All that a guard could have changed."""
    row = cluster.row("epoch", "generation", "holder", "login", "admitted")
    return (*row, cluster.allowed())


def taken(cluster: MariaDB, host: str, *functions: str) -> Any:
    """The session of the guard of a host that takes the lease as it finds it."""
    guard = cluster.session("dagster_guard")
    execute(guard, f"SET @login = 'dagster_daemon_{host}'")
    epoch, generation = cluster.row("epoch", "generation")
    if "take" in functions:
        assert call(guard, "take", host, "", f"dagster_daemon_{host}", epoch, generation)
    if "fence" in functions:
        assert call(guard, "fence", epoch + 1)
    return guard


def woken(cluster: MariaDB, frozen: int, *functions: str) -> tuple[tuple[Any, ...], tuple[Any, ...], bool, Stale]:
    """The state before and after host b goes on, whether the sessions of host c have stayed, and b."""
    with contextlib.closing(held_by_a(cluster)), contextlib.closing(cluster.connect()) as holder:
        assert execute(holder, "SELECT GET_LOCK('frozen', 0)") == [(1,)]
        stale = Stale(cluster, frozen)
        until(stale.waits, 60, f"host b comes to step {frozen}")
        guard = taken(cluster, "c", *functions)
        kept = [guard, *([cluster.session("dagster_daemon_c")] if "fence" in functions else [])]
        before = state(cluster)
        execute(holder, "DO RELEASE_LOCK('frozen')")
        stale.end()
        after = state(cluster)
        lives = all(cluster.said(session) == "" for session in kept)
        for session in kept:
            session.close()
    return before, after, lives, stale


@pytest.fixture
def number(cluster: MariaDB) -> Iterator[int]:
    """How many steps a guard takes, with the procedures that have them."""
    with installed(cluster, steps(QUICK)):
        with contextlib.closing(held_by_a(cluster)):
            whole = Stale(cluster, 0)
            whole.end()
        assert whole.heard == dict.fromkeys(CALLS, 1), whole.error
        yield whole.step


@pytest.mark.parametrize("functions", [("take",), ("take", "fence")], ids=" and ".join)
def test_who_was_frozen_at_any_step_changes_nothing(cluster: MariaDB, number: int, functions: tuple[str, ...]) -> None:
    """After the take of host c, before and after its fence."""
    assert number > 80, "all of take, fence, renew and release"
    ended = 0
    for frozen in range(1, number + 1):
        before, after, lives, stale = woken(cluster, frozen, *functions)
        assert before[2] == "c", frozen
        assert after == before, (frozen, stale.heard, stale.error)
        assert lives, f"at step {frozen} a session of host c has been ended"
        ended += "Lost connection" in stale.error
    print(f"{number} steps; at {ended} of them host b held what host c needed, and its session was ended")
    assert ended > 0


def test_control_without_a_look_at_the_row_it_changes_accounts(cluster: MariaDB) -> None:
    """A taker that goes by what it has seen shuts the holder's daemon out, and lets its own in."""
    text = steps(QUICK).replace("FROM dagster_guard_lease l JOIN", REMEMBERED)
    text = text.replace(
        "FROM dagster_guard_lease WHERE epoch = p_epoch) IS NOT NULL", "FROM dagster_guard_lease) IS NOT NULL"
    )
    assert text.count(REMEMBERED) == 2
    found = set()
    with installed(cluster, text):
        for frozen in range(5, 12):  # around the first of the statements that follow the change of the row
            before, after, _lives, _stale = woken(cluster, frozen, "take", "fence")
            found.add((*before[-1], *after[-1]))
    assert ("dagster_daemon_c", "dagster_daemon_b") in found


# Sessions


@pytest.fixture
def hangs(cluster: MariaDB) -> Iterator[Any]:
    """A session that has the lock of the accounts and does nothing."""
    with contextlib.closing(cluster.session("dagster_guard")) as session:
        assert execute(session, f"SELECT GET_LOCK('{LOCK}', 0)") == [(1,)]
        yield session


def test_guard_that_hangs_is_ended_by_the_next_holder(cluster: MariaDB, hangs: Any) -> None:
    started = time.monotonic()
    assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
    assert time.monotonic() - started >= 0.5, "it has had its time"
    assert cluster.said(hangs) != ""
    assert cluster.ask("fence", 1)
    assert cluster.allowed() == {"dagster_daemon_b"}


@pytest.mark.usefixtures("number")
def test_who_has_lost_the_lease_ends_nobodys_session(cluster: MariaDB) -> None:
    """Host b has waited for the accounts, and when it goes on host c has them."""
    for frozen in range(7, 11):  # from the question who has them to the second wait for them
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(held_by_a(cluster)))
            hangs = stack.enter_context(contextlib.closing(cluster.session("dagster_guard")))
            holder = stack.enter_context(contextlib.closing(cluster.connect()))
            execute(hangs, f"DO GET_LOCK('{LOCK}', 0)")
            execute(holder, "DO GET_LOCK('frozen', 0)")
            stale = Stale(cluster, frozen)
            until(stale.waits, 60, f"host b comes to step {frozen}")
            assert stale.thread.is_alive()
            guard = stack.enter_context(contextlib.closing(taken(cluster, "c", "take", "fence")))
            assert execute(guard, f"SELECT GET_LOCK('{LOCK}', 5)") == [(1,)]
            before = state(cluster)
            execute(holder, "DO RELEASE_LOCK('frozen')")
            stale.end()
            assert cluster.said(guard) == "", frozen
            assert state(cluster) == before, frozen


class Login:
    """A client that logs in, and stops where the server has asked for its password."""

    def __init__(self, cluster: MariaDB, login: str) -> None:
        self.login = login
        self.socket = socket.create_connection(("127.0.0.1", cluster.port), timeout=10)
        self.heard()
        # The protocol of today, and a way to log in that no account has: the server names another one.
        options = struct.pack("<IIB23x", 0x00088200, 1 << 24, 45)
        self.send(1, options + login.encode() + b"\0\0no_such_way\0")
        self.nonce = self.heard().split(b"\0")[1][:20]

    def heard(self) -> bytes:
        size = int.from_bytes(self.socket.recv(4, socket.MSG_WAITALL)[:3], "little")
        return self.socket.recv(size, socket.MSG_WAITALL)

    def send(self, number: int, data: bytes) -> None:
        self.socket.sendall(len(data).to_bytes(3, "little") + bytes([number]) + data)

    def goes_on(self) -> bool:
        """Whether it is let in with its password."""
        once = hashlib.sha1(password(self.login).encode(), usedforsecurity=False).digest()
        twice = hashlib.sha1(once, usedforsecurity=False).digest()
        mask = hashlib.sha1(self.nonce + twice, usedforsecurity=False).digest()
        try:
            self.send(3, bytes(one ^ other for one, other in zip(once, mask, strict=True)))
            return self.heard()[:1] == b"\0"
        except OSError:
            return False


def test_login_that_is_half_way_in(cluster: MariaDB) -> None:
    """The server has looked at its account before the lock, and would let it in after it."""
    cluster.let_in("a")
    control, late = Login(cluster, "dagster_daemon_a"), Login(cluster, "dagster_daemon_a")
    assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
    assert cluster.refusal in cluster.attempt("dagster_daemon_a")
    assert control.goes_on(), "the control: locking an account is not enough"
    assert cluster.ask("fence", 1)
    assert not late.goes_on()


def test_late_fence_lets_nobody_in(cluster: MariaDB) -> None:
    """That of host b, after the take of host c and before its fence. Host c may still have an earlier daemon."""
    assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
    assert cluster.ask("take", "c", "", "dagster_daemon_c", 1, 1)
    assert not cluster.ask("fence", 1)
    assert cluster.row("admitted") == (0,)
    assert cluster.allowed() == set()
    assert cluster.ask("fence", 2), "the control"
    assert cluster.allowed() == {"dagster_daemon_c"}


def test_late_fence_after_the_release_lets_nobody_in(cluster: MariaDB) -> None:
    """A call that the guard has given up: the server comes to its end only now."""
    assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
    assert cluster.ask("fence", 1)
    assert cluster.ask("release", "b", "", 1)
    cluster.ask("fence", 1)
    assert cluster.allowed() == set()


def test_renewal_puts_accounts_right(cluster: MariaDB) -> None:
    """Somebody has unlocked one, or a play has made a new one. A login may have several accounts."""
    assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
    assert cluster.ask("fence", 1)
    cluster.query("ALTER USER dagster_daemon_c@'127.0.0.9' ACCOUNT UNLOCK")
    cluster.query("CREATE USER dagster_daemon_a@'10.0.0.1' IDENTIFIED BY 'another'")
    cluster.query("ALTER USER dagster_daemon_b@'127.0.0.1' ACCOUNT LOCK")
    try:
        assert cluster.ask("renew", "b", "", 1)
        assert cluster.allowed() == {"dagster_daemon_b"}
    finally:
        cluster.query("DROP USER dagster_daemon_a@'10.0.0.1'")


def test_fence_lets_in_nobody_while_a_session_is_left(cluster: MariaDB) -> None:
    """One that the server cannot end yet, because it waits for a file."""
    pipe = cluster.folder / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o644)
    cluster.let_in("a")
    cluster.query("GRANT FILE ON *.* TO dagster_daemon_a@'127.0.0.1'")
    with contextlib.closing(cluster.session("dagster_daemon_a")) as old:
        thread = threading.Thread(target=cluster.said, args=(old, f"SELECT LOAD_FILE('{pipe}')"))
        thread.start()
        try:
            assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
            with pytest.raises(pymysql.err.MySQLError, match="a session of an earlier daemon does not end"):
                cluster.ask("fence", 1)
            assert cluster.allowed() == set()
        finally:
            with contextlib.suppress(BrokenPipeError):
                pipe.write_text("now")
            thread.join()
            cluster.query("REVOKE FILE ON *.* FROM dagster_daemon_a@'127.0.0.1'")
            pipe.unlink()
    assert cluster.ask("fence", 1), "the control"
    assert cluster.allowed() == {"dagster_daemon_b"}


def test_lease_only_needs_no_right_of_an_administrator(cluster: MariaDB) -> None:
    """On a server of the user's own the lease belongs to the login of the migration, and locks nobody."""
    cluster.query("CREATE DATABASE elsewhere", "")
    try:
        cluster.query("GRANT ALL ON elsewhere.* TO dagster_migration@'127.0.0.1' WITH GRANT OPTION", "")
        given = [GUARD.rstrip(), "", "dagster", None]
        login = {"user": "dagster_migration"}
        assert cluster.apply(LEASE / "guard_install.sql", given, "elsewhere", **login) != []
        assert cluster.apply(LEASE / "guard_install.sql", given, "elsewhere", **login) == []
        cluster.let_in("a")
        with contextlib.closing(cluster.session("dagster", "elsewhere")) as guard:
            assert call(guard, "take", "b", "", None, 0, 0)
            for function, arguments in {"fence": (1,), "renew": ("b", "", 1), "release": ("b", "", 1)}.items():
                assert call(guard, function, *arguments), function
            assert call(guard, "look") == 1
            assert re.search(cluster.denied, cluster.said(guard, "UPDATE dagster_guard_lease SET epoch = 9"))
        assert cluster.allowed() == {"dagster_daemon_a"}
        definers = cluster.query(
            "SELECT DISTINCT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'elsewhere'"
        )
        assert definers == [("dagster_migration@127.0.0.1",)]
    finally:
        cluster.query("DROP DATABASE elsewhere", "")


def test_lease_only_takes_the_rights_of_an_administrator_back(cluster: MariaDB) -> None:
    def rights() -> list[str]:
        grants = " ".join(grant for (grant,) in cluster.query("SHOW GRANTS FOR dagster_guard_owner"))
        return [right for right in ("CREATE USER", "PROCESS", "CONNECTION ADMIN", "SUPER") if right in grants]

    assert rights() == ["CREATE USER", "PROCESS", "CONNECTION ADMIN"]
    try:
        cluster.install(HOSTS, full=False)
        assert rights() == []
    finally:
        cluster.install(HOSTS)


def test_login_of_a_host_that_has_left_stays_fenced(cluster: MariaDB) -> None:
    """Its daemon may still run there."""
    try:
        cluster.install(["b", "c"])
        cluster.let_in("a")
        with contextlib.closing(cluster.session("dagster_daemon_a")) as old:
            assert cluster.ask("take", "b", "", "dagster_daemon_b", 0, 0)
            assert cluster.ask("fence", 1)
            assert cluster.said(old) != ""
        assert cluster.allowed() == {"dagster_daemon_b"}
        assert cluster.install(["b", "c"]) == []
    finally:
        cluster.install(HOSTS)
    assert sorted(cluster.row("logins")[0].split(",")) == [f"dagster_daemon_{host}" for host in HOSTS]
