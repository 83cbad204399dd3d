#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings the database schema to the installed Dagster's revision, once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema
short_description: Migrate the schema of Dagster's PostgreSQL database when it is not at the head
version_added: 0.1.0
description:
  - Connects with every login before anything is changed, and checks the server as the instance needs it (UTC, encoding,
    and that the services' login may read and write but need not own a thing).
  - Compares the revision in the database with the newest one of the installed Dagster and runs
    C(dagster instance migrate) only when they differ. That command takes seconds and prints work when there is none.
  - The migration password is written to a file that only root can read, for as long as the migration runs.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Says whether a migration would run.}
  diff_mode: {support: full, description: Shows the revision before and after.}
options:
  python: {description: Python of the Dagster venv., type: path, required: true}
  env: {description: Environment of the services., type: dict, required: true}
  secret_env: {description: The part of that environment which holds secrets., type: dict, default: {}}
  database: {description: Name of the database., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  migration_user: {description: Login that owns the schema., type: str, required: true}
  app_users: {description: The other logins that must work., type: list, elements: str, default: []}
  passwords: {description: Password of each of these logins by name., type: dict, required: true}
  lease:
    description: Make the lease of the daemon too, as the migration's role. Without it somebody else does.
    type: dict
    suboptions:
      install: {description: Query that answers with the statements that are missing., type: str, required: true}
      sql: {description: The functions of the lease., type: str, required: true}
      caller: {description: Login that may call them., type: str, required: true}
"""

EXAMPLES = r"""
- name: Migrate the schema
  dataops.dagster.schema:
    python: /opt/dagster/current/bin/python
    env: {DAGSTER_HOME: /etc/dagster, DAGSTER_POSTGRES_HOST: 127.0.0.1}
    database: dagster
    migration_user: dagster_migration
    passwords: {dagster_migration: "{{ dagster_database_migration_password }}"}
"""

RETURN = r"""
revision:
  description: Revision after the call; in check mode the one found.
  returned: always
  type: str
  sample: 29b539ebc72a
head:
  description: Newest revision of the installed Dagster.
  returned: always
  type: str
  sample: 29b539ebc72a
"""

import json
import os
import subprocess
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._pgpass import pgpass

# Runs in the venv, where psycopg2 is; importing dagster itself would cost seconds, so the head is read from the files.
PROBE = r"""
import glob, importlib.util, json, os, re, sys
import psycopg2
asked = json.load(sys.stdin)
answer = {"problems": [], "revision": "", "head": "", "lease": 0}
folder = os.path.join(os.path.dirname(importlib.util.find_spec("dagster").origin), "_core/storage/alembic/versions")
revisions, parents = set(), set()
for path in glob.glob(os.path.join(folder, "*.py")):
    text = open(path).read()
    revisions.update(re.findall(r"^revision\s*=\s*[\"'](\w+)", text, re.M))
    parents.update(re.findall(r"^down_revision\s*=\s*[\"'](\w+)", text, re.M))
answer["head"] = ",".join(sorted(revisions - parents))
for login in asked["logins"]:
    try:
        connection = psycopg2.connect(host=asked["host"], port=asked["port"], dbname=asked["database"],
                                      user=login["user"], password=login["password"], connect_timeout=10)
    except psycopg2.OperationalError as error:
        answer["problems"].append("user %s cannot connect: %s" % (login["user"], " ".join(str(error).split())))
        continue
    cursor = connection.cursor()
    cursor.execute("SELECT current_setting('TimeZone'), current_setting('server_version_num')::int,"
                   " pg_encoding_to_char(encoding), has_schema_privilege('public', 'CREATE')"
                   " FROM pg_database WHERE datname = current_database()")
    zone, number, encoding, may_create = cursor.fetchone()
    if zone not in ("UTC", "Etc/UTC", "GMT"):
        answer["problems"].append("the time zone of the server is %s; Dagster needs UTC" % zone)
    if number < 110000:
        answer["problems"].append("the server is PostgreSQL %d; 11 or newer is needed" % (number // 10000))
    if encoding != "UTF8":
        answer["problems"].append("the encoding of the database is %s; UTF8 is needed" % encoding)
    if login["migration"]:
        if not may_create:
            answer["problems"].append("user %s may not create tables in schema public" % login["user"])
        cursor.execute("SELECT to_regclass('public.alembic_version') IS NOT NULL")
        if cursor.fetchone()[0]:
            cursor.execute("SELECT version_num FROM alembic_version")
            answer["revision"] = ",".join(sorted(row[0] for row in cursor.fetchall()))
        lease = asked["lease"]
        if lease:
            cursor.execute("SELECT current_user::text")
            owner = cursor.fetchone()[0]
            cursor.execute(lease["install"], (lease["sql"], owner, lease["caller"], None))
            missing = [row[0] for row in cursor.fetchall()]
            answer["lease"] = len(missing)
            try:
                for statement in missing if asked["apply"] else []:
                    cursor.execute(statement)
                connection.commit()
            except psycopg2.Error as error:
                answer["problems"].append("the daemon's lease cannot be made by role %s: %s"
                                          % (owner, " ".join(str(error).split())))
                connection.rollback()
    elif answer["revision"]:
        cursor.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
                       " AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT'))")
        lacking = [row[0] for row in cursor.fetchall()]
        if lacking:
            answer["problems"].append("user %s may not read and write %s" % (login["user"], ", ".join(lacking[:5])))
    connection.close()
print(json.dumps(answer))
"""


def probe(module: AnsibleModule, apply: bool = False) -> dict[str, Any]:
    """What the database says: problems, revision, head, statements that the lease lacked; apply executes these."""
    params = module.params
    logins = [
        {"user": user, "password": params["passwords"][user], "migration": user == params["migration_user"]}
        for user in [params["migration_user"], *params["app_users"]]
    ]
    asked = {
        "host": params["env"].get("DAGSTER_POSTGRES_HOST"),
        "port": params["port"],
        "database": params["database"],
        "logins": logins,
        "lease": params["lease"],
        "apply": apply,
    }
    rc, out, err = module.run_command([params["python"], "-I", "-c", PROBE], data=json.dumps(asked))
    if rc:
        module.fail_json(msg=f"The database could not be looked at with {params['python']}: {err.strip()[-800:]}")
    answer: dict[str, Any] = json.loads(out)
    if answer["problems"]:
        text = f"The database at {asked['host']}:{asked['port']} is not usable: " + "; ".join(answer["problems"])
        if not module.check_mode:
            module.fail_json(msg=text)
        # A check before a change asks with what would be: a port, a login or a password that is not there yet.
        module.warn(f"{text}. That is as it should be when the change brings what is missing")
        module.exit_json(changed=False, revision="", head=answer["head"])
    return answer


def migrate(module: AnsibleModule) -> None:
    """Runs Dagster's own migration as the owner of the schema."""
    params = module.params
    folder = tempfile.mkdtemp(prefix="dagster-schema-", dir="/run")
    passfile = os.path.join(folder, "pgpass")
    try:
        with os.fdopen(os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(pgpass(params["passwords"][params["migration_user"]], params["migration_user"]))
        env = {**os.environ, **{name: str(value) for name, value in {**params["env"], **params["secret_env"]}.items()}}
        env.update(DAGSTER_POSTGRES_USER=params["migration_user"], PGPASSFILE=passfile)
        dagster = os.path.join(os.path.dirname(params["python"]), "dagster")
        done = subprocess.run(
            [dagster, "instance", "migrate"], env=env, cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-2000:]
            module.fail_json(msg=f"dagster instance migrate ended with {done.returncode}: {said}")
    finally:
        if os.path.exists(passfile):
            os.unlink(passfile)
        os.rmdir(folder)


def main() -> None:
    """Migrates when the revision is not the head."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "env": {"type": "dict", "required": True},
            "secret_env": {"type": "dict", "default": {}, "no_log": True},
            "database": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "migration_user": {"type": "str", "required": True},
            "app_users": {"type": "list", "elements": "str", "default": []},
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "lease": {
                "type": "dict",
                "options": {name: {"type": "str", "required": True} for name in ("install", "sql", "caller")},
            },
        },
        supports_check_mode=True,
    )
    if module.check_mode and not os.path.exists(module.params["python"]):
        module.exit_json(changed=True, revision="", head="", diff={"before": "", "after": "a new schema\n"})
    found = probe(module, apply=not module.check_mode)
    outdated = found["revision"] != found["head"]
    revision = found["revision"]
    if outdated and not module.check_mode:
        migrate(module)
        revision = probe(module)["revision"]
        if revision != found["head"]:
            module.fail_json(
                msg=f"The schema is at revision {revision or 'none'} after the migration; expected {found['head']}"
            )
    module.exit_json(
        changed=outdated or found["lease"] > 0,
        revision=revision,
        head=found["head"],
        diff={"before": f"{found['revision']}\n", "after": f"{found['head']}\n"},
    )


if __name__ == "__main__":
    main()
