"""Module schema: the probe in the real venv, and the decision to migrate with a stand-in for the venv.

DAGSTER_PYTHON names the Python of an environment with Dagster; without it the tests that need Dagster fail.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from support import dagster_python

from ansible_collections.dataops.dagster.plugins.module_utils._database import postgres_probe, schema_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import source_of
from ansible_collections.dataops.dagster.plugins.modules import schema

PASSWORDS = {"dagster_migration": "hunter2hunter2", "dagster": "correct-horse"}


@pytest.fixture
def python() -> str:
    return dagster_python()


def test_head_is_what_alembic_says(python: str) -> None:
    """And the probe reaches the point where it connects, in the venv's isolated mode."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    logins = [{"user": "dagster", "password": "hunter2hunter2", "migration": True}]
    where = {"host": "127.0.0.1", "port": port, "database": "dagster", "logins": logins, "lease": None}
    asked = {
        "dialect": source_of(postgres_probe),
        **where,
        "fence": None,
        "rights": None,
        "migrates": True,
        "apply": False,
    }
    argv = [python, "-I", "-c", source_of(schema_probe)]
    done = subprocess.run(argv, input=json.dumps(asked), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    alembic = (
        "import dagster._core.storage as storage, os\n"
        "from alembic.script import ScriptDirectory\n"
        "print(','.join(sorted(ScriptDirectory(os.path.dirname(storage.__file__) + '/alembic').get_heads())))"
    )
    truth = subprocess.run([python, "-c", alembic], capture_output=True, text=True, check=True)
    assert answer["head"] == truth.stdout.strip()
    assert len(answer["head"]) == 12
    assert len(answer["problems"]) == 1
    assert answer["problems"][0].startswith("user dagster cannot connect: connection to server at ")
    assert "hunter2" not in done.stdout + done.stderr


def test_described_tables_are_those_of_dagster(python: str) -> None:
    """What is read from the source is what its objects say."""
    source = source_of(schema_probe).partition("\ndef main")[0]
    source += "\ntables, indexes = described()\n"
    source += "print(json.dumps([{name: sorted(columns) for name, columns in tables.items()}, indexes]))"
    argv = [python, "-I", "-c", source]
    read = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    objects = """
import json
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
tables, indexes = {}, {}
for metadata in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata):
    for table in metadata.sorted_tables:
        tables[table.name] = sorted(column.name for column in table.columns)
        # Those of a column alone (ix_) have no name in the source.
        indexes.update({index.name: table.name for index in table.indexes if not index.name.startswith("ix_")})
print(json.dumps([tables, indexes]))
"""
    truth = subprocess.run([python, "-c", objects], capture_output=True, text=True, check=True)
    assert read == json.loads(truth.stdout)
    assert len(read[0]) > 15, "the control: it has found them"


FENCE = {
    "query": "SELECT",
    "logins": "dagster_daemon",
    "unit": "dagster-daemon",
    "command": "/usr/local/bin/dagster-cli",
}


class Session:
    """A database at a revision, with these tables and indexes. It notes what the fence is asked to be."""

    def __init__(self, revision: str = "", tables: dict[str, set[str]] | None = None, indexes: set[str] | None = None):
        self.revision, self.tables, self.names = revision, tables or {}, indexes or set()
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, **_where: Any) -> Session:
        """Every login gets the same one."""
        return self

    def shape(self, apply: bool) -> tuple[int, list[str]]:
        assert apply in (True, False)
        return 0, []

    def fence(self, query: str, logins: str, unit: str, command: str, apply: bool) -> tuple[int, list[str]]:
        assert {**FENCE, "query": query, "unit": unit, "command": command} == FENCE
        self.asked.append((logins, apply))
        return 3, []

    def server_problems(self) -> list[str]:
        return []

    owner_problems = server_problems

    def revisions(self) -> list[str]:
        return [self.revision]

    def columns(self) -> list[tuple[str, str]]:
        return [(table, column) for table, columns in self.tables.items() for column in columns]

    def indexes(self) -> list[str]:
        return sorted(self.names)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("tables", "indexes", "missing", "lacking"),
    [
        ({"runs": {"id", "status"}, "kvs": {"key"}}, {"i_runs", "i_kvs"}, [], []),
        ({"runs": {"id", "status", "more"}, "kvs": {"key"}, "theirs": {"x"}}, {"i_runs", "i_kvs", "y"}, [], []),
        ({"runs": {"id", "status"}}, {"i_runs"}, ["table kvs"], []),  # its index comes with it
        ({"runs": {"id", "status"}, "kvs": {"key"}}, {"i_runs"}, ["index i_kvs"], []),
        ({"runs": {"id"}, "kvs": {"key"}}, {"i_runs", "i_kvs"}, [], ["table runs lacks status, although"]),
    ],
    ids=["as it should be", "more than that", "table", "index", "column"],
)
def test_what_a_database_lacks(
    tables: dict[str, set[str]],
    indexes: set[str],
    missing: list[str],
    lacking: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described = ({"runs": {"id", "status"}, "kvs": {"key"}}, {"i_runs": "runs", "i_kvs": "kvs"})
    monkeypatch.setattr(schema_probe, "described", lambda: described)
    found, problems = schema_probe.compare(Session("", tables, indexes))
    assert found == missing
    assert len(problems) == len(lacking)
    assert all(problem.startswith(words) for problem, words in zip(problems, lacking, strict=True))


@pytest.mark.parametrize(("revision", "missing"), [("new", ["table kvs"]), ("old", [])])
def test_tables_are_compared_at_the_newest_revision(
    revision: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older schema lacks what its migration adds."""
    monkeypatch.setattr(schema_probe, "described", lambda: ({"runs": {"id"}, "kvs": {"key"}}, {}))
    monkeypatch.setattr(schema_probe, "head", lambda: "new")
    logins = [{"user": "owner", "password": "x", "migration": True}]
    asked = {"host": "db1", "port": 1, "database": "d", "logins": logins}
    asked.update({"lease": None, "fence": None, "rights": None, "migrates": True, "apply": False})
    answer = schema_probe.look(asked, Session(revision, {"runs": {"id"}}))
    assert (answer["missing"], answer["problems"]) == (missing, [])


class Venv:
    """A venv whose python answers the probe and whose dagster migrates, both from one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        for name in ("python", "dagster"):
            (folder / name).write_text(f"#!{sys.executable}\n{getattr(self, name)}", encoding="utf-8")
            (folder / name).chmod(0o755)
        self.set()

    def set(self, **changes: Any) -> None:
        state: dict[str, Any] = {"problems": [], "revision": "old", "head": "new", "missing": []}
        state |= dict.fromkeys(("tables", "lease", "fence", "rights"), 0)
        state |= {"after": "new", "rc": 0, "calls": [], "repairs": True}
        self.state.write_text(json.dumps({**state, **changes}), encoding="utf-8")

    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.state.read_text(encoding="utf-8"))["calls"]
        return found

    python = """
import json, os, pathlib, sys
path = pathlib.Path(__file__).with_name("state.json")
state = json.loads(path.read_text())
if sys.argv[1] == "-c":
    state["calls"].append({"repair": sys.argv[2], "user": os.environ["DAGSTER_POSTGRES_USER"]})
    state["missing"] = [] if state["repairs"] else state["missing"]
else:
    state["calls"].append({"probe": json.load(sys.stdin), "argv": sys.argv[1:2]})
    told = ("problems", "revision", "head", "tables", "lease", "fence", "rights", "missing")
    print(json.dumps({name: state[name] for name in told}))
path.write_text(json.dumps(state))
"""
    dagster = """
import json, os, pathlib, sys
path = pathlib.Path(__file__).with_name("state.json")
state = json.loads(path.read_text())
passfile = os.environ["PGPASSFILE"]
state["calls"].append({
    "migrate": sys.argv[1:], "user": os.environ["DAGSTER_POSTGRES_USER"], "home": os.environ["DAGSTER_HOME"],
    "yaml": "".join(path.read_text() for path in pathlib.Path(os.environ["DAGSTER_HOME"]).glob("dagster.yaml")),
    "pgpass": open(passfile).read(), "mode": os.stat(passfile).st_mode & 0o777, "passfile": passfile,
})
state["revision"] = state["after"]
path.write_text(json.dumps(state))
print("could not" if state["rc"] else "done")
sys.exit(state["rc"])
"""

    def run(self, ok: bool = True, **changes: Any) -> dict[str, Any]:
        arguments = {
            "python": str(self.folder / "python"),
            "dialect": "postgres",
            "host": "db1",
            "port": 5432,
            "env": {"DAGSTER_HOME": "/etc/dagster", "DAGSTER_POSTGRES_HOST": "db1", "DAGSTER_POSTGRES_USER": "dagster"},
            "database": "dagster",
            "migration_user": "dagster_migration",
            "app_users": ["dagster"],
            "passwords": PASSWORDS,
            "_ansible_remote_tmp": str(self.folder),
            **changes,
        }
        with (
            patch_module_args(arguments),
            contextlib.redirect_stdout(io.StringIO()) as output,
            pytest.raises(SystemExit) as status,
        ):
            schema.main()
        assert status.value.code == (0 if ok else 1), output.getvalue()
        assert not [word for word in PASSWORDS.values() if word in output.getvalue()]
        result: dict[str, Any] = json.loads(output.getvalue())
        return result


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Venv:
    # The password file is made below /run, where not everybody may write.
    def mkdtemp(prefix: str, **where: str) -> str:
        assert where == {"dir": "/run"}, "a file system in memory"
        folder = tmp_path / f"{prefix}x"
        folder.mkdir(mode=0o700)
        return str(folder)

    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    return Venv(tmp_path)


def test_schema_at_the_head_is_left(venv: Venv) -> None:
    venv.set(revision="new")
    result = venv.run()
    assert (result["changed"], result["revision"], result["head"]) == (False, "new", "new")
    assert [next(iter(call)) for call in venv.calls()] == ["probe"]


def test_migration(venv: Venv) -> None:
    result = venv.run()
    assert (result["changed"], result["revision"]) == (True, "new")
    assert result["diff"] == {"before": "old\n", "after": "new\n"}
    probe, migrate, again = venv.calls()
    assert (probe["probe"].pop("migrates"), again["probe"].pop("migrates")) == (True, False)
    assert probe == again
    assert probe["probe"]["apply"]
    assert probe["probe"]["logins"] == [
        {"user": "dagster_migration", "password": "hunter2hunter2", "migration": True},
        {"user": "dagster", "password": "correct-horse", "migration": False},
    ]
    assert (probe["probe"]["host"], probe["probe"]["port"]) == ("db1", 5432)
    assert migrate["migrate"] == ["instance", "migrate"]
    assert (migrate["user"], migrate["home"]) == ("dagster_migration", "/etc/dagster")
    assert (migrate["pgpass"], migrate["mode"]) == ("*:*:*:dagster_migration:hunter2hunter2\n", 0o600)
    assert not Path(migrate["passfile"]).parent.exists()


def test_migration_reads_what_is_staged(venv: Venv) -> None:
    """The new version reads its own dagster.yaml; what serves keeps its own."""
    home = venv.folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("old: 1\n")
    env = {"DAGSTER_HOME": str(home), "DAGSTER_POSTGRES_HOST": "db1", "DAGSTER_POSTGRES_USER": "dagster"}
    venv.run(env=env)
    assert [call["yaml"] for call in venv.calls() if "migrate" in call] == ["old: 1\n"], "the control"
    venv.set()
    (home / ".dagster.yaml.next").write_text("new: 1\n")
    venv.run(env=env)
    (migrate,) = [call for call in venv.calls() if "migrate" in call]
    assert (migrate["yaml"], migrate["home"] == str(home)) == ("new: 1\n", False)
    assert (home / "dagster.yaml").read_text() == "old: 1\n"
    assert not Path(migrate["passfile"]).parent.exists()


def test_missing_table_is_made_by_dagster(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the revision is the head. As the owner of the schema, and then its own migration fills it."""
    said: list[str] = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: said.append(text))
    venv.set(revision="new", missing=["table kvs"])
    checked = venv.run(_ansible_check_mode=True)
    assert (checked["changed"], checked["missing"]) == (True, ["table kvs"])
    result = venv.run()
    assert (result["changed"], result["missing"], result["revision"]) == (True, ["table kvs"], "new")
    assert result["diff"] == {"before": "new\nlacks table kvs\n", "after": "new\n"}
    assert said == ["The database lacked table kvs. Dagster has made it again. Rows that were in it are lost."]
    assert [next(iter(call)) for call in venv.calls()] == ["probe", "probe", "repair", "migrate", "probe"]
    (repair,) = [call for call in venv.calls() if "repair" in call]
    assert (repair["repair"], repair["user"]) == (schema.REPAIR, "dagster_migration")
    assert not venv.run()["changed"]


def test_check_mode_only_looks(venv: Venv) -> None:
    result = venv.run(_ansible_check_mode=True)
    assert (result["changed"], result["revision"], result["head"]) == (True, "old", "new")
    assert [next(iter(call)) for call in venv.calls()] == ["probe"]


def test_lease(venv: Venv) -> None:
    lease = {"install": "SELECT", "sql": "CREATE", "caller": "dagster"}
    for check_mode in (False, True):
        venv.set(revision="new", lease=7)
        assert venv.run(lease=lease, _ansible_check_mode=check_mode)["changed"]
        assert [call["probe"]["lease"] for call in venv.calls()] == [lease]
        assert [call["probe"]["apply"] for call in venv.calls()] == [not check_mode]
    venv.set(revision="new")
    assert not venv.run(lease=lease)["changed"]


def test_fence(venv: Venv) -> None:
    for check_mode in (False, True):
        venv.set(revision="new", fence=20)
        result = venv.run(fence=FENCE, _ansible_check_mode=check_mode)
        assert result["changed"]
        assert result["diff"] == {"before": "new\n", "after": "new\n20 statements for the fence\n"}
        assert [call["probe"]["fence"] for call in venv.calls()] == [FENCE]
        assert [call["probe"]["apply"] for call in venv.calls()] == [not check_mode]
    venv.set(revision="new")
    assert not venv.run(fence=FENCE)["changed"]


def test_fence_goes_up_again_after_a_migration_that_failed(venv: Venv) -> None:
    venv.set(rc=3)
    assert "dagster instance migrate ended with 3" in venv.run(ok=False, fence=FENCE)["msg"]
    assert [call.get("probe", {}).get("migrates") for call in venv.calls()] == [True, None, False]


@pytest.mark.parametrize(
    ("revision", "migrates", "logins"),
    [("new", True, "dagster_daemon"), ("old", True, ""), ("old", False, "dagster_daemon")],
)
def test_migration_runs_without_a_fence(
    monkeypatch: pytest.MonkeyPatch, revision: str, migrates: bool, logins: str
) -> None:
    """PostgreSQL does not change the type of a column that a trigger watches."""
    monkeypatch.setattr(schema_probe, "head", lambda: "new")
    monkeypatch.setattr(schema_probe, "compare", lambda _session: ([], []))
    session = Session(revision)
    login = {"user": "dagster_migration", "password": "x", "migration": True}
    where = {"host": "db1", "port": 5432, "database": "dagster", "logins": [login]}
    asked = {**where, "lease": None, "fence": FENCE, "rights": None, "migrates": migrates, "apply": True}
    assert schema_probe.look(asked, session)["fence"] == 3
    assert session.asked == [(logins, True)]


def test_nothing_is_made_before_every_login_has_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fence that was taken down for a migration which then does not come would stay down."""
    monkeypatch.setattr(schema_probe, "head", lambda: "new")
    session = Session("old")

    def connect(user: str, **where: Any) -> Session:
        if user == "dagster":
            raise ConnectionError("too many connections")
        return session(user=user, **where)

    logins = [{"user": user, "password": "x", "migration": user != "dagster"} for user in ("owner", "dagster")]
    asked = {"host": "db1", "port": 5432, "database": "dagster", "logins": logins}
    answer = schema_probe.look(
        {**asked, "lease": None, "fence": FENCE, "rights": None, "migrates": True, "apply": True}, connect
    )
    assert (answer["problems"], session.asked) == (["user dagster cannot connect: too many connections"], [])


def test_check_mode_on_a_bare_host(venv: Venv) -> None:
    assert venv.run(_ansible_check_mode=True, python=str(venv.folder / "none"))["changed"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"problems": ["user dagster cannot connect: x"]},
            "The database at db1:5432 is not usable: user dagster cannot connect with dagster_database_password: x",
        ),
        ({"rc": 3}, "dagster instance migrate ended with 3: could not"),
        ({"problems": ["user dagster_migration cannot connect: x"]}, "with dagster_database_migration_password: x"),
        ({"rc": 3}, "The services were not touched"),
        ({"after": "middle"}, "The schema is at revision middle after the migration; expected new"),
        (
            {"revision": "new", "missing": ["table kvs"], "repairs": False},
            "The schema still lacks table kvs, and Dagster",
        ),
    ],
)
def test_failures(venv: Venv, state: dict[str, Any], words: str) -> None:
    venv.set(**state)
    assert words in venv.run(ok=False)["msg"]
    assert not list(venv.folder.glob("dagster-schema-*")), "the password file must not stay"
