"""New passwords of our own database: which statements they are, who has to be in the play, when readers are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]
ROLE = yaml.safe_load((ROOT / "roles/postgres/vars/main.yml").read_text(encoding="utf-8"))
PLAYS = yaml.safe_load((ROOT / "playbooks/part_passwords.yml").read_text(encoding="utf-8"))
SITE = yaml.safe_load((ROOT / "playbooks/site.yml").read_text(encoding="utf-8"))


def value(text: str, **variables: Any) -> Any:
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def changing(*statements: str) -> list[str]:
    rows = {"query_result": [{"statement": statement} for statement in statements]}
    found: list[str] = value(ROLE["__dagster_postgres_new_passwords"], __dagster_postgres_role_statements=rows)
    return found


def test_only_the_password_of_a_login_that_is_there_ends_another() -> None:
    """The words are those of roles.sql. A login that is made has no reader yet."""
    changes = ["ALTER ROLE dagster LOGIN PASSWORD 'SCRAM'", "ALTER ROLE \"a-b\" PASSWORD 'SCRAM'"]
    others = ["CREATE ROLE dagster LOGIN PASSWORD 'SCRAM'", "ALTER ROLE dagster CONNECTION LIMIT 5", "GRANT a TO b"]
    assert changing(*others, *changes) == changes
    sql = (ROOT / "roles/postgres/files/roles.sql").read_text(encoding="utf-8")
    assert "'ALTER ROLE %%I PASSWORD %%L'" in sql
    assert "format('LOGIN PASSWORD %%L', verifier)" in sql
    assert value(ROLE["__dagster_postgres_new_passwords"], __dagster_postgres_role_statements={"skipped": True}) == []


def test_all_other_statements_keep_their_order() -> None:
    """A role is made before what it owns."""
    statements = [f"CREATE ROLE login{number}" for number in range(20)]
    rows = {"query_result": [{"statement": statement} for statement in (*statements, "ALTER ROLE a PASSWORD 'b'")]}
    tasks = yaml.safe_load((ROOT / "roles/postgres/tasks/database_change.yml").read_text(encoding="utf-8"))
    (making,) = (task for task in tasks if task["name"] == "Make the missing roles and the database")
    text = making["community.postgresql.postgresql_query"]["query"]
    new = ["ALTER ROLE a PASSWORD 'b'"]
    made = value(text, __dagster_postgres_role_statements=rows, __dagster_postgres_new_passwords=new)
    assert made == statements


def test_all_other_statements_of_mariadb_come_first() -> None:
    variables = yaml.safe_load((ROOT / "roles/mysql/vars/main.yml").read_text(encoding="utf-8"))
    others = ["CREATE USER 'a'@'%' IDENTIFIED VIA x", "ALTER USER 'a'@'%' REQUIRE SSL", "GRANT a TO b"]
    new = ["ALTER USER 'a'@'%' IDENTIFIED VIA mysql_native_password USING '*0'"]
    statements = {"__dagster_mysql_statements": [others[0], *new, *others[1:]]}
    assert value(variables["__dagster_mysql_new_passwords"], **statements) == new
    tasks = yaml.safe_load((ROOT / "roles/mysql/tasks/database_change.yml").read_text(encoding="utf-8"))
    (making,) = (task for task in tasks if task["name"] == "Make the missing logins and the database")
    text = making["community.mysql.mysql_query"]["query"]
    assert value(text, **statements, __dagster_mysql_new_passwords=new) == others


@pytest.mark.parametrize(("played", "left_out"), [(["db", "ctl1", "run"], []), (["db", "ctl1"], ["run"])])
def test_readers_that_are_left_out_are_named(played: list[str], left_out: list[str]) -> None:
    """By --limit. What preflight has looked at in this run has a plan."""
    plan: dict[str, Any] = {"postgres": {"readers": ["ctl1", "run"]}}
    hosts = {
        name: {"inventory_hostname": name, **({"dagster_plan": plan} if name in played else {})}
        for name in ("db", "ctl1", "run")
    }
    assert value(ROLE["__dagster_postgres_left_out"], dagster_plan=plan, hostvars=hosts) == left_out


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ({"__dagster_database_new_logins": ["dagster", "dagster_guard"]}, ["dagster", "dagster_guard"]),
        ({}, []),
    ],
)
def test_readers_are_told_of_new_passwords_alone(database: dict[str, Any], told: list[str]) -> None:
    for play in PLAYS:
        text = play["vars"]["__dagster_new_passwords"]
        assert value(text, groups={"dagster_database": ["db"]}, hostvars={"db": database}) == told
        assert value(text, groups={}, hostvars={}) == [], "a database of the user's own"
        ending = play["tasks"][0]
        assert ending["ansible.builtin.meta"] == "end_host", "the others leave the play before anything else"
        assert [
            name for name in ("__dagster_new_passwords", "__dagster_old_units") if f"{name} " in ending["when"]
        ] != []


PLAY = PLAYS[0]["vars"]
OPTIONS = {"database_user": "dagster", "database_read_user": "dagster_read", "database_guard_user": "dagster_guard"}


@pytest.mark.parametrize(
    ("new", "separate", "units"),
    [
        (["dagster"], True, ["web@*"]),
        (["dagster"], False, ["web@*", "read@*"]),  # of an earlier release
        (["dagster_read"], True, ["read@*"]),
        (["dagster_guard", "dagster_daemon_a"], True, ["daemon"]),
        (["dagster_daemon_b"], True, []),
        (["dagster_run", "dagster_code"], True, []),
    ],
)
def test_only_readers_of_a_new_password_are_restarted(new: list[str], separate: bool, units: list[str]) -> None:
    """A restart of all webservers at a time is no way to change the password of a daemon."""
    names = {"webserver": "web", "webserver_read_only": "read", "daemon": "daemon", "unit_drop_ins": "/drop"}
    given = {
        **{name: trust_as_template(text) for name, text in PLAY.items()},
        "__dagster_new_passwords": new,
        "dagster": {**OPTIONS, "home": "/home", "daemon_login": "dagster_daemon_a"},
        "dagster_plan": {"names": names, "storage": {"credential": "pgpass"}},
        "dagster_host": {"paths": ["/drop/10-instance.conf", *(["/home/read_only.pgpass"] if separate else [])]},
        "groups": {"dagster_daemon": ["a"]},
        "inventory_hostname": "a",
    }
    found = value(PLAY["__dagster_old_units"], **given)
    assert found == [f"{unit}.service" for unit in units]


def test_logins_of_new_passwords() -> None:
    """They are known by the statements, which quote a name that needs it."""
    new = ["ALTER ROLE dagster LOGIN PASSWORD 'a'", "ALTER ROLE \"a-b@c\" PASSWORD 'b\nc'"]
    assert value(ROLE["__dagster_postgres_new_logins"], __dagster_postgres_new_passwords=new) == ["dagster", "a-b@c"]


def test_readers_come_right_after_the_database() -> None:
    """What may fail comes after them: images, installation, migration, code servers."""
    names = [play["name"] for play in SITE]
    assert names[names.index("Database") + 1] == "Passwords"
    tasks = yaml.safe_load((ROOT / "roles/postgres/tasks/database_change.yml").read_text(encoding="utf-8"))
    assert tasks[-1]["register"] == "__dagster_database_passwords", "the last thing that the role does"
