# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the schema of a database is: logins, rights, its revision and the newest one, its tables, lease and fence.

This file is a program of its own. Module schema reads its text and runs it in Dagster's virtual
environment, where the driver of the database is. What differs between databases is the class Session of the dialect,
whose text comes along. Importing dagster itself would cost seconds, so the newest revision and the tables are read from
its files.

Input, JSON on stdin:   {"dialect": text, "host": ..., "port": ..., "database": ..., "apply": make what lacks or not,
                         "parameters": more of the client library's own, or none,
                         "logins": [{"user": ..., "password": ..., "migration": ...}], "lease": {...} or null,
                         "fence": {...} or null, "rights": {...} or null,
                         "migrates": whether a schema that is not at the head is migrated next}
Output, JSON on stdout: {"problems": [...], "revision": ..., "head": ...,
                         "tables": columns of Dagster's tables that were too narrow,
                         "lease": statements that the lease lacked, "fence": those that the fence lacked,
                         "rights": those that the rights of the logins lacked,
                         "missing": tables and indexes that the newest revision has and the database has not}
"""

from __future__ import annotations

import ast
import glob
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any


def storage_folder() -> str:
    """Where the Dagster that is installed describes its storage."""
    spec = importlib.util.find_spec("dagster")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("there is no dagster here")
    return os.path.join(os.path.dirname(spec.origin), "_core/storage")


def head() -> str:
    """The newest revision of the Dagster that is installed: no other one names it as its parent."""
    folder = os.path.join(storage_folder(), "alembic/versions")
    revisions: set[str] = set()
    parents: set[str] = set()
    for path in glob.glob(os.path.join(folder, "*.py")):
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        revisions.update(re.findall(r"^revision\s*=\s*[\"'](\w+)", text, re.M))
        parents.update(re.findall(r"^down_revision\s*=\s*[\"'](\w+)", text, re.M))
    return ",".join(sorted(revisions - parents))


def calls(tree: ast.AST, name: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call of db.NAME whose first argument is a text, with that text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, node


def described() -> tuple[dict[str, set[str]], dict[str, str]]:
    """The columns of each table, and the table of each index that has a name, as Dagster's first start makes them."""
    tables: dict[str, set[str]] = {}
    indexes: dict[str, str] = {}
    for part in ("runs", "event_log", "schedules"):
        with open(os.path.join(storage_folder(), part, "schema.py"), encoding="utf-8") as stream:
            tree = ast.parse(stream.read())
        variables = {}
        for node in tree.body:
            for table, call in calls(node.value, "Table") if isinstance(node, ast.Assign) else ():
                tables.setdefault(table, set()).update(column for column, _call in calls(call, "Column"))
                variables.update({ast.unparse(target): table for target in node.targets})  # type: ignore[attr-defined]
        for index, call in calls(tree, "Index"):
            indexes[index] = variables[ast.unparse(call.args[1]).partition(".")[0]]
    return tables, indexes


def compare(session: Any) -> tuple[list[str], list[str]]:
    """What a database at the newest revision lacks: tables and indexes, which Dagster can make, and problems."""
    tables, indexes = described()
    found: dict[str, set[str]] = {}
    for table, column in session.columns():
        found.setdefault(table, set()).add(column)
    there = set(session.indexes())
    missing = [f"table {table}" for table in sorted(tables.keys() - found.keys())]
    missing += [f"index {name}" for name in sorted(indexes.keys() - there) if indexes[name] in found]
    return missing, [
        f"table {table} lacks {', '.join(sorted(tables[table] - found[table]))}, although the schema says that it is "
        "at the newest revision, so Dagster adds nothing; restore a dump, or add the columns by hand"
        for table in sorted(tables.keys() & found.keys())
        if tables[table] - found[table]
    ]


def make(asked: dict[str, Any], answer: dict[str, Any], session: Any) -> None:
    """Makes what lacks of tables, lease, rights and fence, or counts it, and adds that to the answer."""
    answer["tables"], refused = session.shape(asked["apply"])
    answer["problems"] += refused
    if asked["lease"]:
        answer["lease"], refused = session.lease(**asked["lease"], apply=asked["apply"])
        answer["problems"] += refused
    if asked["rights"]:
        answer["rights"], refused = session.rights(**asked["rights"], apply=asked["apply"])
        answer["problems"] += refused
    if asked["fence"]:
        # A migration may change a column that the fence watches, so the fence is down as long.
        down = {"logins": ""} if asked["migrates"] and answer["revision"] != answer["head"] else {}
        answer["fence"], refused = session.fence(**{**asked["fence"], **down}, apply=asked["apply"])
        answer["problems"] += refused


def look(asked: dict[str, Any], session_of: Any) -> dict[str, Any]:
    """The answer; session_of is the class Session of the dialect. The login of the migration comes first."""
    answer: dict[str, Any] = {"problems": [], "revision": "", "head": head(), "missing": []}
    answer.update(tables=0, lease=0, fence=0, rights=0)
    problems: list[str] = answer["problems"]
    where = {**{name: asked[name] for name in ("host", "port", "database")}, **(asked.get("parameters") or {})}
    owner = None
    for login in asked["logins"]:
        try:
            session = session_of(**where, user=login["user"], password=login["password"])
        except ConnectionError as error:
            problems.append(f"user {login['user']} cannot connect: {error}")
            continue
        problems += session.server_problems()
        if login["migration"]:
            owner = session
            problems += session.owner_problems()
            answer["revision"] = ",".join(session.revisions())
            if answer["revision"] == answer["head"]:
                answer["missing"], lacking = compare(session)
                problems += lacking
            continue
        if answer["revision"]:
            problems += session.user_problems()
        session.close()
    if owner is not None and not problems:  # every login is asked before anything is changed
        make(asked, answer, owner)
    if owner is not None:
        owner.close()
    return answer


def main() -> None:
    """Reads the question, writes the answer."""
    asked = json.load(sys.stdin)
    dialect: dict[str, Any] = {"__name__": "dialect"}
    exec(compile(asked["dialect"], "dialect", "exec"), dialect)  # noqa: S102 - a file of ours, read by the module
    sys.stdout.write(json.dumps(look(asked, dialect["Session"])))


if __name__ == "__main__":
    main()
