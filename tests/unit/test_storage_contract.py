"""The storage is a choice behind one contract: who names the database, and what another one would cost.

The collection is copied with a database that exists for this test only (example_database/). Nothing else is changed for
it but the lines that name it: its dialect in dialects.py, its role in the two playbooks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import copy_collection

ROOT = Path(__file__).resolve().parents[2]
DATABASE = Path(__file__).parent / "example_database"
NAMES = re.compile(r"postgres|psycopg|pgpass|mysql|mariadb", re.IGNORECASE)
# Whose name it is, and why.
OF_ONE = {
    "roles/postgres/": "its role",
    "roles/mysql/": "its role",
    "roles/daemon/files/lease/postgres/": "its lease",
    "roles/daemon/files/lease/mysql/": "its lease",
    "plugins/plugin_utils/plan/postgres.py": "its component and its storage",
    "plugins/plugin_utils/plan/external_postgres.py": "and a server of the user's own",
    "plugins/plugin_utils/plan/mysql.py": "its component and its storage",
    "plugins/module_utils/_database/postgres.py": "its dialect",
    "plugins/module_utils/_database/postgres_probe.py": "and what of that runs in Dagster's virtual environment",
    "plugins/module_utils/_database/mysql.py": "its dialect",
    "plugins/module_utils/_database/mysql_probe.py": "and what of that runs in Dagster's virtual environment",
    "plugins/filter/scram_verifier.py": "a filter of its role",
    "plugins/filter/mysql_accounts.py": "a filter of its role",
}
# Who else may name a database.
ALLOWED = {
    **OF_ONE,
    "playbooks/argument_specs.yml": "the variable that chooses one",
    "playbooks/README.md": "and its documentation",
    "roles/instance/files/locks/": "the packages of Dagster",
    "roles/instance/meta/argument_specs.yml": "and which of them are offered",
    "roles/instance/README.md": "and their documentation",
    "plugins/module_utils/_database/dialects.py": "the list of dialects",
    "plugins/plugin_utils/config/validator/": "the validator knows every storage of Dagster",
    "plugins/module_utils/_dagster/": "so does its other half",
    "plugins/module_utils/_secrets.py": "and what it says about secrets",
}
# The names of the roles: where a playbook gives them to their group and chooses, and where a README says who else has a
# variable.
ROLE = re.compile(
    r"dagster_database: \[postgres, mysql, |tags: \[postgres, mysql\]|name: dataops\.dagster\.(postgres|mysql)\b"
    r"|name: Run (PostgreSQL|MariaDB)$|dialect == '(postgres|mysql)'|Shared with [a-z_, ]+\."
)


def named(path: Path) -> list[str]:
    """The lines of a file that name the database."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []
    return [line for line in text.splitlines() if NAMES.search(ROLE.sub("", line))]


def files() -> dict[str, Path]:
    """What is installed with the collection and is no document, by its path there."""
    found = [path for folder in ("playbooks", "plugins", "roles") for path in sorted((ROOT / folder).rglob("*"))]
    return {str(path.relative_to(ROOT)): path for path in found if path.is_file() and "__pycache__" not in path.parts}


def test_nobody_else_names_the_database() -> None:
    found = {name: named(path) for name, path in files().items() if not name.startswith(tuple(ALLOWED))}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("place", ALLOWED)
def test_each_allowed_place_names_it(place: str) -> None:
    """The control: the word is found where it is, and the list is no longer than it has to be."""
    assert [line for name, path in files().items() if name.startswith(place) for line in named(path)]


def test_control_finds_the_role_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "x"
    text = "a: 1\n# as PostgreSQL does\nroles: [{name: dataops.dagster.postgres}]\nPGPASSFILE: x\nin MariaDB\n"
    path.write_text(text)
    assert named(path) == ["# as PostgreSQL does", "PGPASSFILE: x", "in MariaDB"]


# Another database

REPLACED = {
    "playbooks/preflight.yml": [("dagster_database: [postgres, mysql,", "dagster_database: [ledger,", 1)],
    "playbooks/argument_specs.yml": [("default: postgres", "default: ledger", 1), ("[postgres, mysql]", "[ledger]", 1)],
    "playbooks/part_database.yml": [
        ("dataops.dagster.postgres", "dataops.dagster.ledger", 1),
        ("dialect == 'postgres'", "dialect == 'ledger'", 1),
        ("dataops.dagster.mysql", "dataops.dagster.certificates", 1),  # left out, and one that is there
        ("[postgres, mysql]", "[ledger]", 1),
    ],
    "playbooks/part_close_old_access.yml": [
        ("dataops.dagster.postgres", "dataops.dagster.ledger", 1),
        ("dialect == 'postgres'", "dialect == 'ledger'", 1),
    ],
    "plugins/module_utils/_database/dialects.py": [
        ("import mysql, postgres\n", "import ledger\n", 1),
        ('{"postgres": postgres, "mysql": mysql}', '{"ledger": ledger}', 1),
    ],
}
LEASE = {"sql": "guard", "install": "guard_install"}
# Plays site.yml on one host, and writes what its plan and its tasks are.
PROGRAM = """
import json, sys
import conftest, dry_play
deployment = dry_play.Deployment(("inventories/single_host",), extra=json.loads(sys.argv[1]))
host = dry_play.Players(deployment).hosts["dagster1"]
found = {"plan": host.facts["dagster_plan"], "given": host.given, "written": host.written}
print(json.dumps(dry_play.plain({**found, "options": host.facts["dagster"]})))
"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection with the other database in the place of those that it has, which are not there."""
    root = copy_collection(tmp_path_factory.mktemp("collection"))
    for place in OF_ONE:
        gone = root / place
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    for name in ("plugins", "roles"):
        shutil.copytree(DATABASE / name, root / name, dirs_exist_ok=True)
    for name, pairs in REPLACED.items():
        text = (root / name).read_text(encoding="utf-8")
        for old, new, number in pairs:
            assert text.count(old) == number, (name, old)
            text = text.replace(old, new)
        (root / name).write_text(text, encoding="utf-8")
    return root


def played(collection: Path, **extra: Any) -> dict[str, Any]:
    """Plan, tasks and files of a host."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(extra)],
        cwd=collection / "tests/unit",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_another_database_is_a_component_a_role_and_a_dialect(collection: Path) -> None:
    found = played(collection)
    plan, written = found["plan"], found["written"]
    assert plan["storage"]["dialect"] == "ledger"
    assert found["options"]["database_port"] == 4567
    assert found["options"]["ledger_max_connections"] == 300
    assert plan["instance"]["config"]["storage"]["mysql"]["mysql_db"]["hostname"] == {"env": "LEDGER_HOST"}
    assert written["/etc/ledger"] == "4567 300 -- lease"
    assert "Environment=LEDGER_LOGIN=%d/ledger.conf\n" in written["/etc/systemd/system/dagster-daemon.service"]
    assert written["/etc/dagster/daemon.ledger.conf"].startswith("dagster_guard = ")
    assert written["/etc/dagster/containers/ledger.conf"] == "dagster_run = runs-password\n"
    assert "as roles/daemon/files/lease/ledger/lease.py" in json.dumps(found["given"])
    after = written["/etc/systemd/system/dagster-.service.d/10-instance.conf"]
    assert "After=network-online.target ledger.service docker.service\n" in after
    # The lock of a host has the packages of Dagster, whatever its database is.
    others = {path: text for path, text in written.items() if "/locks/" not in path}
    own = r'mysql_db|"mysql"|mysql:|dagster-mysql|\+mysql|\.complete-mysql'
    said = re.sub(own, "", json.dumps({**found, "written": others}))
    assert NAMES.findall(said) == [], "but for the class of Dagster that it has, and its library"
    shipped = (ROOT / "tests/unit/rendered/single_host/dagster1.txt").read_text(encoding="utf-8")
    assert NAMES.search(shipped), "the control: with PostgreSQL the same tasks and files name it"


def test_another_database_of_ones_own(collection: Path) -> None:
    hosts = {"dagster_database_host": "db.example.com", "dagster_daemon_fencing": "lease_only"}
    group = collection / "inventories/single_host/hosts.yml"
    before = group.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^( *)dagster_database:.*\n(\1 .*\n)*", "", before)
    assert text != before
    group.write_text(text, encoding="utf-8")
    try:
        found = played(collection, **hosts)
    finally:
        group.write_text(before, encoding="utf-8")
    (asked,) = [task["dataops.dagster.preflight"] for task in found["given"] if "dataops.dagster.preflight" in task]
    assert asked["host_facts"]["connect"] == [{"host": "db.example.com", "port": 4567, "dialect": "ledger"}]
    (schema,) = [task["dataops.dagster.schema"] for task in found["given"] if "dataops.dagster.schema" in task]
    texts = {name: f"as roles/daemon/files/lease/ledger/{file}.sql" for name, file in LEASE.items()}
    assert schema["lease"] == {**texts, "caller": "dagster"}
    assert schema["fence"]["query"] == "as roles/daemon/files/lease/ledger/fence.sql"
    assert schema["fence"]["logins"] == "", "the daemon has the login of the webservers"
    assert (schema["dialect"], schema["host"], int(schema["port"])) == ("ledger", "db.example.com", 4567)
