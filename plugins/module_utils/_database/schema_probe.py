# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the schema of a database is: whether logins work, its revision, the newest one, lease and fence of the daemon.

This file is a program of its own. Module schema reads its text and runs it in Dagster's virtual
environment, where the driver of the database is. What differs between databases is the class Session of the dialect,
whose text comes along. Importing dagster itself would cost seconds, so the newest revision is read from its files.

Input, JSON on stdin:   {"dialect": text, "host": ..., "port": ..., "database": ..., "apply": make what lacks or not,
                         "logins": [{"user": ..., "password": ..., "migration": ...}], "lease": {...} or null,
                         "fence": {...} or null, "migrates": whether a schema that is not at the head is migrated next}
Output, JSON on stdout: {"problems": [...], "revision": ..., "head": ...,
                         "lease": statements that the lease lacked, "fence": those that the fence lacked}
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import sys
from typing import Any


def head() -> str:
    """The newest revision of the Dagster that is installed: no other one names it as its parent."""
    spec = importlib.util.find_spec("dagster")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("there is no dagster here")
    folder = os.path.join(os.path.dirname(spec.origin), "_core/storage/alembic/versions")
    revisions: set[str] = set()
    parents: set[str] = set()
    for path in glob.glob(os.path.join(folder, "*.py")):
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        revisions.update(re.findall(r"^revision\s*=\s*[\"'](\w+)", text, re.M))
        parents.update(re.findall(r"^down_revision\s*=\s*[\"'](\w+)", text, re.M))
    return ",".join(sorted(revisions - parents))


def look(asked: dict[str, Any], session_of: Any) -> dict[str, Any]:
    """The answer; session_of is the class Session of the dialect. The login of the migration comes first."""
    answer: dict[str, Any] = {"problems": [], "revision": "", "head": head(), "lease": 0, "fence": 0}
    problems: list[str] = answer["problems"]
    where = {name: asked[name] for name in ("host", "port", "database")}
    for login in asked["logins"]:
        try:
            session = session_of(**where, user=login["user"], password=login["password"])
        except ConnectionError as error:
            problems.append(f"user {login['user']} cannot connect: {error}")
            continue
        problems += session.server_problems()
        if login["migration"]:
            problems += session.owner_problems()
            answer["revision"] = ",".join(session.revisions())
            if asked["lease"]:
                answer["lease"], refused = session.lease(**asked["lease"], apply=asked["apply"])
                problems += refused
            if asked["fence"]:
                # A migration may change a column that the fence watches, so the fence is down as long.
                down = {"logins": ""} if asked["migrates"] and answer["revision"] != answer["head"] else {}
                answer["fence"], refused = session.fence(**{**asked["fence"], **down}, apply=asked["apply"])
                problems += refused
        elif answer["revision"]:
            problems += session.user_problems()
        session.close()
    return answer


def main() -> None:
    """Reads the question, writes the answer."""
    asked = json.load(sys.stdin)
    dialect: dict[str, Any] = {"__name__": "dialect"}
    exec(compile(asked["dialect"], "dialect", "exec"), dialect)  # noqa: S102 - a file of ours, read by the module
    sys.stdout.write(json.dumps(look(asked, dialect["Session"])))


if __name__ == "__main__":
    main()
