"""MariaDB in the plan: which database a deployment has, whose instance is ours, and who may connect from where."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FACTS, PASSWORDS, fact, groups, options, plan

ENGINE = {"dagster_database_engine": "mysql"}
CONFIG, DATA = "/etc/mariadb-dagster.cnf", "/var/lib/mariadb-dagster/data"
MARK = "/etc/sysctl.d/60-dagster-mysql.conf"
RECORD = "/usr/local/lib/dagster/installed"
THEIRS = {"packages": {"mariadb-server": "1:10.11.6"}, "paths": [f"{RECORD}/.complete"]}
OWN = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}


def found(**facts: Any) -> list[str]:
    """What is wrong with a host that is like this."""
    return plan("a", **ENGINE).host_problems({**FACTS, **facts}, 0, 0)


# Which database


def test_postgres_is_what_nobody_has_to_choose() -> None:
    assert plan().storage.dialect == "postgres"
    assert "mysql" not in fact()["packages"]
    chosen = fact(**ENGINE)
    assert chosen["storage"]["dialect"] == "mysql"
    assert "postgres" not in chosen["packages"]
    assert chosen["packages"]["mysql"] == ["mariadb-server", "python3-pymysql"]


def test_hosts_with_different_databases() -> None:
    (problem,) = plan("a", groups(proxy=["b"]), each={"a": ENGINE}).problems()
    assert problem == (
        "dagster_database_engine differs between the hosts (mysql on a, postgres on b); they have one database"
    )


def test_variable_of_the_other_database() -> None:
    (problem,) = plan(**ENGINE, dagster_postgres_memory_mb=5).problems()
    assert (
        problem
        == "dagster_postgres_memory_mb is set, and dagster_database_engine is mysql, where it does nothing; remove it"
    )
    assert plan(**ENGINE, dagster_mysql_memory_mb=5).problems() == []
    # As AWX sends a survey: the default of each, as text.
    assert plan(**ENGINE, dagster_postgres_tls_renew_days="60", dagster_postgres_options="{}").problems() == []
    assert plan(dagster_mysql_tls_renew_days="60", dagster_mysql_options="{}").problems() == []


def test_other_database_on_a_host_that_serves() -> None:
    """A typing error would else be a deployment without its runs."""
    (problem,) = plan(**ENGINE).host_problems(
        {**FACTS, "paths": ["/etc/sysctl.d/60-dagster-postgres.conf", f"{RECORD}/.complete"]}, 0, 0
    )
    assert problem.startswith(
        "dagster_database_engine is mysql, and the host has the deployment's postgres (/etc/sysctl.d/"
    )
    assert "no play moves data. Set it to postgres, or take that one away first. To remove it: systemctl" in problem
    (back,) = plan().host_problems({**FACTS, "paths": [MARK, f"{RECORD}/.complete"]}, 0, 0)
    assert back.startswith("dagster_database_engine is postgres, and the host has the deployment's mysql")
    assert "rm -r /etc/systemd/system/mariadb@dagster.service.d /etc/mariadb-dagster.cnf" in back
    assert "Its data stays in /var/lib/mariadb-dagster; no play removes it" in back


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"storage": {"postgres": {"postgres_db": {"params": {}}}}},
            "dagster_config.storage.postgres: the database of this deployment is MariaDB",
        ),
        (
            {"storage": {"mysql": {"mysql_db": {"username": "x"}}}},
            "dagster_config.storage.mysql: remove it; address, logins and passwords are",
        ),
        (
            {"storage": {"mysql": {}, "postgres": {}}},
            "dagster_config.storage.postgres: the database of this deployment is MariaDB",
        ),
        (
            {
                name: {"module": "dagster_mysql", "class": "X"}
                for name in ("run_storage", "event_log_storage", "schedule_storage")
            },
            "dagster_config.run_storage: found the old form (run_storage, event_log_storage, schedule_storage), and a "
            "deployment has one",
        ),
    ],
)
def test_storage_in_dagster_config(config: dict[str, Any], said: str) -> None:
    assert plan(**ENGINE, dagster_config=config).problems()[0].startswith(said)


@pytest.mark.parametrize("module", ["dagster_mysql", "dagster_mysql.run_storage"])
def test_the_old_form_of_the_other_database_names_the_engine(module: str) -> None:
    three = ("run_storage", "event_log_storage", "schedule_storage")
    (said,) = plan(dagster_config={name: {"module": module, "class": "X"} for name in three}).problems()
    assert said.endswith("; for MariaDB set dagster_database_engine to mysql")
    (said,) = plan(**ENGINE, dagster_config={name: {"module": module, "class": "X"} for name in three}).problems()
    assert "set dagster_database_engine" not in said, "the control"


def test_the_reference_s_mysql_in_a_deployment_with_postgresql() -> None:
    snippet = {"storage": {"mysql": {"mysql_db": {"username": "x", "password": "y", "hostname": "z", "db_name": "d"}}}}
    (problem,) = plan(dagster_config=snippet).problems()
    assert "set dagster_database_engine to mysql for MariaDB, and remove storage.mysql" in problem
    (two,) = plan(dagster_config={"storage": {**snippet["storage"], "postgres": {"postgres_db": {}}}}).problems()
    assert two == problem
    assert (
        plan(dagster_config={"storage": {"postgres": {"postgres_db": {"params": {"connect_timeout": 5}}}}}).problems()
        == []
    )


# How processes connect


def test_each_process_is_told_where_its_login_is() -> None:
    told = plan("b", groups(webserver=["a", "b"], daemon=["a", "b"], run=["c"], code=["c"]), **ENGINE)
    fact = told.as_fact(FACTS)
    assert [name for name in fact["instance"]["environment"] if "MYSQL" in name] == [], "each unit has its own"
    start = "DAGSTER_MYSQL_URL=mysql+mysqlconnector://10.0.0.1:3306/dagster?option_files=%d/mysql.cnf&option_groups="
    verified = "&ssl_ca=/etc/dagster/database-ca.pem&ssl_verify_cert=true&ssl_verify_identity=true"
    assert fact["webserver"]["login"] == {"web": f"{start}dagster{verified}", "read": f"{start}dagster_read{verified}"}
    assert fact["daemon"]["login"] == f"{start}dagster_daemon_b{verified}"
    assert fact["webserver"]["read_only"] == {}
    run = told.configuration.run_environment["DAGSTER_MYSQL_URL"]
    assert "option_files=/run/dagster/mysql.cnf&option_groups=dagster_run&ssl_ca=/run/dagster/database-ca.pem&" in run
    assert not any(secret in str(told.as_fact(FACTS)) for secret in PASSWORDS.values())


def test_on_one_host_nobody_needs_tls() -> None:
    assert "ssl" not in plan(**ENGINE).storage.unit_environment("x")
    assert options(**ENGINE)["dagster_mysql_listen_addresses"] == ["127.0.0.1", "172.30.0.1"]


def test_names_with_signs_of_their_own() -> None:
    """Azure's logins have a server in them. systemd reads `%` as a specifier."""
    text = plan(**ENGINE, dagster_database_user="web@server").storage.unit_environment("web@server")
    assert text.endswith("?option_files=%d/mysql.cnf&option_groups=web%%40server")


# Who may connect


def test_accounts_of_a_cluster() -> None:
    hosts = groups(database=["b"], webserver=["a", "b"], code=["a", "b"], run=["b"], daemon=["a"])
    clients = options("b", hosts, **ENGINE)["dagster_mysql_clients"]
    assert [(one["address"], one.get("tls", False)) for one in clients] == [
        ("127.0.0.1", False),
        ("10.0.0.1", True),
        ("172.30.1.0/24", False),
        ("172.30.0.0/24", False),
    ]
    local, other, code, runs = clients
    assert local["users"] == ["dagster", "dagster_migration"]
    assert other["users"] == ["dagster", "dagster_migration", "dagster_guard", "dagster_daemon_a", "dagster_code"]
    assert (runs["users"], code["users"]) == (["dagster_run"], ["dagster_code"])
    assert all(sorted(one["connections"]) == sorted(one["users"]) for one in clients)


def test_no_login_may_shut_out_the_others() -> None:
    """However many hosts there are: code servers and runs have what is left, and not more."""
    hosts = groups(database=["b"], webserver=["a", "b"], code=["a", "b"], run=["b"], daemon=["a"])
    found = options("b", hosts, **ENGINE)
    given = [one["connections"] for one in found["dagster_mysql_clients"]]
    number = {user: sum(one.get(user, 0) for one in given) for user in ("dagster", "dagster_code", "dagster_run")}
    services = number["dagster"] + sum(one.get("dagster_daemon_a", 0) + one.get("dagster_guard", 0) for one in given)
    assert number["dagster_code"] + number["dagster_run"] + services <= found["dagster_mysql_max_connections"]
    assert all(limit > 0 for one in given for limit in one.values())


def test_host_that_is_known_by_name_only() -> None:
    """Only then the server asks for the name of an address."""
    assert fact("a", groups(code=["c"]), **ENGINE)["mysql"]["asks_for_names"] is True
    assert fact("a", groups(code=["b"]), **ENGINE)["mysql"]["asks_for_names"] is False


def test_the_fence_knows_daemons_by_their_names() -> None:
    hosts = groups(daemon=["a", "b"])
    assert fact("a", hosts, **ENGINE)["instance"]["fence"]["logins"] == "dagster_daemon_a,dagster_daemon_b"
    assert fact("a", hosts)["instance"]["fence"]["logins"] == "dagster_daemon"
    assert fact("a", **ENGINE, dagster_daemon_fencing="lease_only")["instance"]["fence"]["logins"] == ""


@pytest.mark.parametrize("name", ["root", "MySQL", "mariadb.sys"])
def test_name_that_the_server_has_itself(name: str) -> None:
    (problem,) = plan(**ENGINE, dagster_database_user=name).problems()
    assert problem == f"dagster_database_user is {name}, which the server keeps for itself; choose another name"


@pytest.mark.parametrize("text", [" secret", "secret ", "secret\u00a0"])
def test_password_that_its_file_cannot_hold(text: str) -> None:
    (problem,) = plan(**ENGINE, dagster_database_run_password=text).problems()
    assert problem.startswith("dagster_database_run_password has a space at its beginning or end")
    assert "secret" not in problem
    assert plan(dagster_database_run_password=text).problems() == [], "PostgreSQL's file holds it"
    own = {**ENGINE, **OWN, "dagster_database_run_password": text}
    assert plan("a", groups(database=[]), **own).problems() == [problem], "on a server of the user's own too"


# Whose instance


def test_first_contact() -> None:
    assert found() == []
    given = fact(**ENGINE)["mysql"]
    assert (given["unit"], given["made"], given["ours"]) == ("mariadb@dagster.service", False, True)


def test_instance_beside_that_of_somebody_else() -> None:
    """Its own port is the one thing that both want."""
    (problem,) = found(**THEIRS)
    assert problem == (
        "port 3306 is that of the MariaDB which the host has already (mariadb.service), so both could not run; change "
        "dagster_database_port"
    )
    moved = {"lines": {"/etc/mysql/mariadb.conf.d/50-server.cnf": ["3307"]}}
    assert found(**THEIRS, **moved) == []
    beside = plan(**ENGINE, dagster_database_port=3307)
    assert beside.host_problems({**FACTS, **THEIRS}, 0, 0) == []
    (taken,) = beside.host_problems({**FACTS, **THEIRS, **moved}, 0, 0)
    assert taken.startswith("port 3307 is that of the MariaDB which the host has already")
    assert beside.as_fact({**FACTS, **THEIRS})["mysql"]["ours"] is False, "its packaged instance is not switched off"


def test_port_of_an_instance_that_runs() -> None:
    listener = {"port": 3306, "address": "127.0.0.1", "process": "mariadbd", "unit": "mariadb.service"}
    (problem,) = found(**THEIRS, listeners=[listener])
    assert problem.startswith("port 3306 is held by mariadbd of mariadb.service on 127.0.0.1")


@pytest.mark.parametrize("name", ["mysql-server-8.0", "mysql-community-server", "percona-server-server"])
def test_server_that_apt_would_take_away(name: str) -> None:
    (problem,) = found(packages={name: "8.0.36"})
    assert problem.startswith(
        f"the host has {name}, which Debian's mariadb-server would replace, with all that it serves"
    )


def test_client_of_mysql_is_nobody_s_server() -> None:
    assert found(packages={"mysql-client": "8", "mysql-common": "5.8"}) == []


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([DATA], f"{DATA} is there, but {CONFIG} is not: the configuration was lost"),
        (
            ["/etc/systemd/system/multi-user.target.wants/mariadb@dagster.service"],
            "the host has an instance mariadb@dagster.service, which dataops.dagster has not made",
        ),
        (
            [MARK, CONFIG, f"{RECORD}/.complete"],
            f"{MARK} is there from an earlier deployment, but {DATA} is not: its disk may",
        ),
        ([CONFIG, f"{RECORD}/.complete"], ""),  # killed before the data was made
        ([CONFIG, DATA, MARK, f"{RECORD}/.complete"], ""),
    ],
)
def test_what_a_host_has_already(paths: list[str], said: str) -> None:
    headers = {path: ["Managed by dataops.dagster"] for path in (CONFIG, MARK) if path in paths}
    problems = found(paths=paths, lines=headers)
    assert [problem[: len(said)] for problem in problems] == ([said] if said else [])


def test_file_of_somebody_else_with_the_name_of_ours() -> None:
    (problem,) = found(paths=[CONFIG], lines={CONFIG: []})
    assert problem.startswith(f"the host has a {CONFIG} of somebody else")


# A server of the user's own


def test_server_of_the_user_s_own() -> None:
    own = plan("a", groups(database=[]), **ENGINE, **OWN)
    assert own.problems() == []
    url = own.storage.unit_environment("dagster")
    assert "://db.example.com:3306/dagster?" in url
    assert "ssl_verify_cert=true&ssl_verify_identity=true" in url
    assert "ssl_ca" not in url, "what the system trusts"
    assert own.as_fact(FACTS)["storage"]["parameters"] == {"ssl_verify_cert": True, "ssl_verify_identity": True}
    assert own.questions()["connect"] == [{"host": "db.example.com", "port": 3306, "dialect": "mysql"}]
    plain = plan("a", groups(database=[]), **ENGINE, **OWN, dagster_database_tls=False)
    assert "ssl" not in plain.storage.unit_environment("dagster")


def test_authority_of_ones_own() -> None:
    given = {**ENGINE, **OWN, "dagster_database_tls_ca": "no certificate"}
    (problem,) = plan("a", groups(database=[]), **given).problems()
    assert problem == "dagster_database_tls_ca cannot be read as a certificate; expected PEM text"
    storage = plan("a", groups(database=[]), **given).storage
    assert "ssl_ca=/etc/dagster/database-ca.pem" in storage.unit_environment("dagster")
    assert storage.authority("a", "/run/dagster") == "/run/dagster/database-ca.pem"


def test_token_of_a_cloud_is_no_password() -> None:
    (problem,) = plan("a", groups(database=[]), **ENGINE, **OWN, dagster_database_password="ya29.token").problems()
    assert problem.startswith("dagster_database_password is a token that ends within the hour")


def test_full_fencing_needs_a_server_of_ours() -> None:
    (problem,) = plan("a", groups(database=[]), **ENGINE, dagster_database_host="db.example.com").problems()
    assert problem.startswith("dagster_daemon_fencing is full, but at db.example.com")
