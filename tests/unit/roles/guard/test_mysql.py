"""The guard's connection to MariaDB: its limits, what it is made with, and what it survives.

The driver is in Dagster's virtual environment only, so a stand-in has its place here. tests/integration/guard has both.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from guard_world import guard

PATH = Path(__file__).resolve().parents[4] / "roles/daemon/files/lease/mysql/lease.py"
URL = "mysql+mysqlconnector://db.example:3306/dagster?option_files=/run/credentials/u/mysql.cnf&option_groups=dagster"


class Connection:
    """Stands for MySQLConnection, and for its cursor."""

    made: list[Connection] = []  # noqa: RUF012 - of one test

    def __init__(self, **options: Any) -> None:
        self.options, self.asked = options, []  # type: ignore[var-annotated]
        self.server_port = options["port"]
        self.answers: list[Any] = [[(7, "a")], None]  # the rows of a procedure, and then that it has come to its end
        self.closed = False
        self.made.append(self)

    def cursor(self) -> SimpleNamespace:
        return SimpleNamespace(execute=self.execute, fetchall=self.fetchall, nextset=self.nextset, close=lambda: None)

    def execute(self, text: str, arguments: tuple[Any, ...]) -> None:
        self.asked.append((text, arguments))
        self.left = list(self.answers)

    def fetchall(self) -> Any:
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def nextset(self) -> Any:
        return self.left.pop(0)

    def close(self) -> None:
        self.closed = True


class Socket:
    """Stands for MySQLTCPSocket: what it does, and how long it may wait then."""

    def __init__(self, host: str, port: int) -> None:
        self.where, self.limit = (host, port), 0.0
        self.done: list[tuple[str, float]] = []

    def set_connection_timeout(self, limit: float) -> None:
        self.limit = limit

    def open_connection(self) -> None:
        self.done.append(("open", self.limit))

    def switch_to_ssl(self, *_arguments: Any) -> None:
        self.done.append(("tls", self.limit))

    def send(self, *_arguments: Any) -> None:
        self.done.append(("send", self.limit))

    def recv(self, *_arguments: Any) -> bytearray:
        self.done.append(("recv", self.limit))
        return bytearray()


class Error(Exception):
    """Stands for the driver's own."""


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> Any:
    names = ("InterfaceError", "OperationalError", "ConnectionTimeoutError", "ReadTimeoutError", "WriteTimeoutError")
    errors: dict[str, Any] = {"Error": Error, **{name: type(name, (Error,), {}) for name in names}}
    stand_ins: dict[str, dict[str, Any]] = {
        "mysql": {},
        "mysql.connector": {},
        "mysql.connector.errors": errors,
        "mysql.connector.connection": {"MySQLConnection": Connection},
        "mysql.connector.network": {"MySQLTCPSocket": Socket},
    }
    for name, found in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(found)
        monkeypatch.setitem(sys.modules, name, module)
    vars(sys.modules["mysql.connector"])["errors"] = sys.modules["mysql.connector.errors"]
    monkeypatch.setattr(Connection, "made", [])
    monkeypatch.setenv("DAGSTER_MYSQL_URL", URL)
    spec = importlib.util.spec_from_file_location("lease_mysql", PATH)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


@pytest.fixture
def database(lease: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = lease.Lease({"host": "db.example", "port": 3306, "name": "dagster"}, "guard", guard.Timings().attempt)
    monkeypatch.setattr(found, "_resolve", lambda host, _limit: f"address of {host}")
    return found


def test_what_a_connection_is_made_with(database: Any) -> None:
    """The server too gives up: a statement of a guard that is gone must not wait for a row and then take the lease."""
    database.where["parameters"] = {"ssl_ca": "/etc/dagster/database-ca.pem", "ssl_verify_identity": True}
    database.call("look", limit=1)
    assert [connection.options for connection in Connection.made] == [
        {
            "ssl_ca": "/etc/dagster/database-ca.pem",
            "ssl_verify_identity": True,
            "host": "db.example",  # whose name the certificate has
            "port": 3306,
            "database": "dagster",
            "user": "guard",
            "option_files": ["/run/credentials/u/mysql.cnf"],
            "option_groups": ["guard"],
            "autocommit": True,  # take is over before fence
            "allow_local_infile": False,
            "init_command": "SET SESSION lock_wait_timeout = 3, innodb_lock_wait_timeout = 3, wait_timeout = 12",
        }
    ]
    assert Connection.made[0]._get_connection().where == ("address of db.example", 3306)  # type: ignore[attr-defined]


def test_session_of_a_frozen_guard_ends_before_its_lease_does(database: Any) -> None:
    """And that of a guard that lives does not: it asks once per period at least, or twice while it renews."""
    timings = guard.Timings()
    database.call("look", limit=1)
    idle = int(Connection.made[0].options["init_command"].rpartition(" ")[2])
    assert timings.renew + timings.attempt < idle < timings.ttl


def test_no_wait_outlasts_the_call(lease: Any, database: Any) -> None:
    channel = lease.Channel("192.0.2.7", 3306, database)
    database.until = guard.now() + 5
    channel.open_connection()
    channel.switch_to_ssl(None, "db.example")
    channel.send(b"")
    database.until = guard.now() + 2
    channel.recv()
    assert [what for what, _limit in channel.done] == ["open", "tls", "send", "recv"]
    assert [round(limit) for _what, limit in channel.done] == [5, 5, 5, 2]
    database.until = guard.now()
    for wait in (channel.open_connection, channel.switch_to_ssl, channel.send, channel.recv):
        with pytest.raises(Error, match="no answer in time"):
            wait()
    assert len(channel.done) == 4


def test_call_asks_a_procedure_and_reads_its_answer_to_the_end(database: Any) -> None:
    for limit in (1.0, 3.0):
        before = guard.now()
        assert database.call("renew", "a", "boot", 5, limit=limit) == (7, "a")
        assert before + limit <= database.until <= guard.now() + limit
    (connection,) = Connection.made
    assert connection.asked == [("CALL dagster_guard_renew(%s, %s, %s)", ("a", "boot", 5))] * 2
    assert connection.left == [], "or the next answer would be taken for the rest of this one"


def test_take_has_a_session_of_its_own(database: Any) -> None:
    """A later holder ends a session that keeps the accounts for too long, and may hit none that has taken since."""
    for function in ("look", "take", "fence", "renew", "take"):
        database.call(function, limit=1)
    asked = [[text.partition("(")[0][19:] for text, _arguments in one.asked] for one in Connection.made]
    assert asked == [["look"], ["take", "fence", "renew"], ["take"]]
    assert [one.closed for one in Connection.made] == [True, True, False]


@pytest.mark.parametrize("name", ["ConnectionTimeoutError", "ReadTimeoutError", "WriteTimeoutError"])
def test_late_answer(lease: Any, database: Any, name: str) -> None:
    """The driver's own words are a paragraph about how to connect again."""
    database.call("look", limit=1)
    Connection.made[0].answers = [getattr(lease.errors, name)("3024: as a consequence ...")]
    with pytest.raises(Error, match=r"^no answer in time$"):
        database.call("look", limit=1)
    assert Connection.made[0].closed
    assert database.connection is None


def test_error_that_is_none_of_the_drivers(database: Any) -> None:
    """An answer that it cannot read, or a file: the guard says so and asks again."""
    database.call("look", limit=1)
    Connection.made[0].answers = [IndexError("index out of range")]
    with pytest.raises(Error, match="IndexError: index out of range"):
        database.call("look", limit=1)
    assert database.connection is None


def test_error_of_the_database_is_handed_on(database: Any) -> None:
    database.call("look", limit=1)
    Connection.made[0].answers = [Error("1370: execute command denied")]
    with pytest.raises(Error, match=r"^1370: execute command denied$"):
        database.call("look", limit=1)
    assert Connection.made[0].closed


def test_daemon_gets_its_own_login(lease: Any) -> None:
    found = lease.environment_of("dagster_daemon_a")
    assert found == {"DAGSTER_MYSQL_URL": URL.replace("option_groups=dagster", "option_groups=dagster_daemon_a")}


def test_daemon_keeps_what_else_the_url_says(lease: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    more = f"{URL}&ssl_ca=/etc/dagster/database-ca.pem&ssl_verify_identity=true"
    monkeypatch.setenv("DAGSTER_MYSQL_URL", more)
    assert lease.environment_of("b") == {"DAGSTER_MYSQL_URL": more.replace("groups=dagster", "groups=b")}
