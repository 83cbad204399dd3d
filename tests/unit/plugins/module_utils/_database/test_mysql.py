"""The dialect of MariaDB: file and URL of a client, and what is known of a server before a login."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._database import dialects, mysql, mysql_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client

FILE = {"credential": "/run/dagster/mysql.cnf"}


def url(host: str = "10.0.0.2", user: str = "dagster", **more: object) -> str:
    found: dict[str, str] = mysql.environment(Client(host, 3306, "dagster", user, **FILE, **more))  # type: ignore[arg-type]
    assert list(found) == ["DAGSTER_MYSQL_URL"]
    return found["DAGSTER_MYSQL_URL"]


def test_url() -> None:
    start = "mysql+mysqlconnector://10.0.0.2:3306/dagster?option_files=/run/dagster/mysql.cnf&option_groups=dagster"
    assert url() == start
    verified = "&ssl_verify_cert=true&ssl_verify_identity=true"
    assert url(tls=True) == f"{start}{verified}"
    assert url(tls=True, authority="/ca.pem") == f"{start}&ssl_ca=/ca.pem{verified}"
    assert url("fd00::1").startswith("mysql+mysqlconnector://[fd00::1]:3306/")
    assert "option_groups=a%40b" in url(user="a@b")


def test_without_the_file_of_a_password_there_is_no_url() -> None:
    assert mysql.environment(Client("h", 1, "d", "u")) == {}


def test_option_files_can_be_put_together() -> None:
    assert mysql.login('p"w', "a") + mysql.login("x=y", "b") == '[a]\nuser=a\npassword=p"w\n[b]\nuser=b\npassword=x=y\n'


def test_programs_of_ours_connect_as_dagster_does() -> None:
    client = Client("h", 1, "d", "u", tls=True, authority="/ca.pem")
    assert mysql.parameters(client) == {"ssl_ca": "/ca.pem", "ssl_verify_cert": True, "ssl_verify_identity": True}
    assert mysql.parameters(Client("h", 1, "d", "u")) == {}


def greeted(text: bytes) -> str:
    """What is said of a server with this greeting."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(text)
        theirs.shutdown(socket.SHUT_WR)
        return mysql.refused(ours)


def packet(content: bytes) -> bytes:
    return len(content).to_bytes(3, "little") + b"\0" + content


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (packet(b"\x0a5.5.5-10.11.6-MariaDB-0+deb12u1\0rest"), ""),
        (packet(b"\x0a11.8.3-MariaDB\0rest"), ""),
        (packet(b"\x0a8.0.36\0rest"), "is MySQL 8.0.36; MariaDB 10.6 or newer is needed"),
        (packet(b"\x0a5.5.5-10.3.39-MariaDB\0rest"), "is MariaDB 10.3.39-MariaDB; MariaDB 10.6 or newer is needed"),
        (packet(b"\x0a5.7.44-log\0rest"), "is MySQL 5.7.44-log; MariaDB 10.6 or newer is needed"),
        (packet(b"\xff\x6a\x04Host 'x' is not allowed"), "refuses this host: Host 'x' is not allowed"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "answers, but not as a MariaDB server"),
        (b"", "answers, but not as a MariaDB server"),
        (b"HTTP/1.1 400 Bad Request\r\n", "answers, but not as a MariaDB server"),
    ],
)
def test_what_a_server_says_before_a_login(greeting: bytes, said: str) -> None:
    assert greeted(greeting) == said


@pytest.mark.parametrize(
    ("pattern", "database", "here"),
    [
        ("dagster", "dagster", True),
        ("*", "dagster", True),
        ("a\\_b", "a_b", True),
        ("a\\_b", "axb", False),
        ("a_b", "axb", True),
        ("dag%", "dagster", True),
        ("other", "dagster", False),
    ],
)
def test_which_database_a_grant_is_on(pattern: str, database: str, here: bool) -> None:
    session = object.__new__(mysql_probe.Session)
    session.database = database
    assert session.is_here(pattern) is here


def test_its_half_of_the_probe_travels_as_one_text() -> None:
    """It is run in Dagster's environment, where nothing of ours can be imported."""
    text = dialects.source_of(mysql_probe)
    assert "ansible_collections" not in text
    compile(text, "dialect", "exec")
