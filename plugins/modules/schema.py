#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings the database schema to the installed Dagster's revision, once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema
short_description: Migrate the schema of Dagster's database when it is not at the head
version_added: 0.1.0
description:
  - Connects with every login before anything is changed. Checks that the server is as the instance needs it (UTC,
    encoding, and a services' login that may read; it need not own anything).
  - Compares the revision in the database with the newest one of the installed Dagster. Runs
    C(dagster instance migrate) only when they differ, because it takes seconds and prints work when there is none.
  - At the newest revision, compares tables, columns and indexes too. Has Dagster make tables and indexes that are
    missing, as it does at its first start. It cannot add a column, so a missing column is an error that says so.
  - Migrates with the F(dagster.yaml) that is staged, if there is one. A migration that fails puts nothing in place, so
    the version that serves goes on. Since Dagster 0.12, migrations only add what older versions ignore.
  - The migration password is written to a file that only root can read, for as long as the migration runs.
  - Puts the fence of the daemon up in Dagster's tables. A migration runs without it, also one that fails.
  - Grants each login what its process writes in these tables, and takes away what all logins once had.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: Says whether a migration would run.}
  diff_mode: {support: full, description: Shows the revision before and after.}
options:
  python: {description: Python of the Dagster venv., type: path, required: true}
  dialect:
    description: The kind of database, as in C(dagster_plan.storage.dialect).
    type: str
    required: true
  host: {description: Address of the server., type: str, required: true}
  port: {description: Port of the server., type: int, required: true}
  env: {description: Environment of the services., type: dict, required: true}
  secret_env: {description: The part of that environment which holds secrets., type: dict, default: {}}
  database: {description: Name of the database., type: str, required: true}
  parameters:
    description: >-
      More parameters of a connection, as C(params) in dagster.yaml. C({env: NAME}) is a value of O(env).
    type: dict
    default: {}
  tls:
    description:
      - Whether the migration connects with TLS alone, and verifies the server, without that O(parameters) says so.
    type: bool
    default: false
  authority:
    description: Certificate by which it does. Without it, those are taken that the host trusts.
    type: str
    default: ''
  migration_user: {description: Login that owns the schema., type: str, required: true}
  app_users: {description: The other logins that must work., type: list, elements: str, default: []}
  passwords: {description: Password of each of these logins by name., type: dict, required: true}
  lease:
    description: The daemon's lease, to be created by the migration's role. Without it, another role creates the lease.
    type: dict
    suboptions:
      install: {description: Query that answers with the statements that are missing., type: str, required: true}
      sql: {description: The functions of the lease., type: str, required: true}
      caller: {description: Login that may call them., type: str, required: true}
  fence:
    description: What lets only a daemon do what a daemon does. Without it, the tables stay as they are.
    type: dict
    suboptions:
      query: {description: Query that answers with the statements that are missing., type: str, required: true}
      logins: {description: Group role of the daemons' logins. Empty takes the fence away., type: str, required: true}
      unit: {description: Unit of the daemon. A second daemon is told its name., type: str, required: true}
      command: {description: "Command for Dagster's command line, which it is told as well.", type: str, required: true}
  rights:
    description: What each login may do in Dagster's tables. Without it, the rights stay as they are.
    type: dict
    suboptions:
      query: {description: Query that answers with the statements that are missing., type: str, required: true}
      logins:
        description: Login of each kind of process (C(web), C(daemon), C(code), C(run) and C(read)).
        type: dict
        required: true
      app:
        description: Group role that loses the right to write, which all logins had through it; empty for none.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Migrate the schema
  dataops.dagster.schema:
    python: /opt/dagster/current/bin/python
    dialect: "{{ dagster_plan.storage.dialect }}"
    host: "{{ dagster_database_host }}"
    port: "{{ dagster_database_port }}"
    env: "{{ dagster_plan.instance.environment }}"
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
missing:
  description: Tables and indexes that were missing at the newest revision. They are made again, without their rows.
  returned: always
  type: list
  elements: str
  sample: [table asset_check_executions]
"""

import json
import os
import shutil
import subprocess
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._database import schema_probe
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client
from ansible_collections.dataops.dagster.plugins.module_utils._database.dialects import DIALECTS, source_of
from ansible_collections.dataops.dagster.plugins.module_utils._host.kept import next_of

# What the probe makes, or counts in a check.
MADE = ("tables", "lease", "rights", "fence")
# What Dagster does at its first start. Its own migration then fills what a new table needs.
REPAIR = """
from dagster import DagsterInstance
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata

with DagsterInstance.get() as instance:
    for storage, metadata in (
        (instance._run_storage, RunStorageSqlMetadata),
        (instance._event_storage, SqlEventLogStorageMetadata),
        (instance._schedule_storage, ScheduleStorageSqlMetadata),
    ):
        with storage._engine.connect() as connection:
            metadata.create_all(connection)
            for table in metadata.sorted_tables:
                for index in table.indexes:
                    index.create(connection, checkfirst=True)
"""


def parameters(module: AnsibleModule) -> dict[str, str | bool]:
    """The parameters of a connection; one may name a variable of the environment, as everywhere in dagster.yaml."""
    known = {**module.params["env"], **module.params["secret_env"]}
    found = {
        name: known.get(value["env"]) if isinstance(value, dict) else value
        for name, value in module.params["parameters"].items()
    }
    return {
        name: value if isinstance(value, bool) else str(value) for name, value in found.items() if value is not None
    }


def ask(module: AnsibleModule, migrates: bool) -> dict[str, Any]:
    """What the database says: problems, revision, head, and how many statements it lacked. They are executed."""
    params = module.params
    logins = [
        {"user": user, "password": params["passwords"][user], "migration": user == params["migration_user"]}
        for user in [params["migration_user"], *params["app_users"]]
    ]
    dialect = DIALECTS[params["dialect"]]
    asked = {
        "dialect": source_of(dialect.PROBE),
        "host": params["host"],
        "port": params["port"],
        "database": params["database"],
        "parameters": parameters(module),
        "logins": logins,
        "lease": params["lease"],
        "fence": params["fence"],
        "rights": params["rights"],
        "migrates": migrates,
        "apply": not module.check_mode,
    }
    program = [params["python"], "-I", "-c", source_of(schema_probe)]
    # The client library reads variables such as PGSSLMODE.
    given = {name: str(value) for name, value in params["env"].items() if name.startswith(dialect.ENVIRONMENT)}
    rc, out, err = module.run_command(program, data=json.dumps(asked), environ_update=given)
    if rc:
        module.fail_json(msg=f"The database could not be looked at with {params['python']}: {err.strip()[-800:]}")
    answer: dict[str, Any] = json.loads(out)
    return answer


def probe(module: AnsibleModule, migrates: bool) -> dict[str, Any]:
    """The same of a database without problems."""
    answer = ask(module, migrates)
    if answer["problems"]:
        where = f"{module.params['host']}:{module.params['port']}"
        text = f"The database at {where} is not usable: " + "; ".join(answer["problems"])
        params = module.params
        for user in [params["migration_user"], *params["app_users"]]:
            variable = f"dagster_database_{'migration_' * (user == params['migration_user'])}password"
            before = f"user {user} cannot connect"
            text = text.replace(f"{before}:", f"{before} with {variable}:")
        if not module.check_mode:
            module.fail_json(msg=text)
        # A check before a change asks with what would be: a port, a login or a password that is not there yet.
        module.warn(f"{text}. That is as it should be when the change brings what is missing")
        module.exit_json(changed=False, revision="", head=answer["head"], missing=[])
    return answer


def migrate(module: AnsibleModule, repair: bool = False) -> str:
    """Runs Dagster's own migration as the owner of the schema, after having it make what is missing.

    Returns why it failed, empty when it did not.
    """
    params = module.params
    dialect, user = DIALECTS[params["dialect"]], params["migration_user"]
    folder = tempfile.mkdtemp(prefix="dagster-schema-", dir="/run")
    passfile = os.path.join(folder, dialect.CREDENTIAL)
    try:
        with os.fdopen(os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(dialect.login(params["passwords"][user], user))
        env = {**os.environ, **{name: str(value) for name, value in {**params["env"], **params["secret_env"]}.items()}}
        names = ("host", "port", "database", "tls", "authority")
        client = Client(**{name: params[name] for name in names}, user=user, credential=passfile)
        env.update(dialect.environment(client))
        staged = next_of(os.path.join(env.get("DAGSTER_HOME", ""), "dagster.yaml"))
        if os.path.exists(staged):
            shutil.copy(staged, os.path.join(folder, "dagster.yaml"))
            env["DAGSTER_HOME"] = folder
        dagster = os.path.join(os.path.dirname(params["python"]), "dagster")
        steps = {"dagster instance migrate": [dagster, "instance", "migrate"]}
        if repair:
            steps = {"making what is missing": [params["python"], "-c", REPAIR], **steps}
        for what, argv in steps.items():
            done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr or done.stdout).strip()[-2000:]
                return (
                    f"{what} ended with {done.returncode}: {said}\nThe services were not touched: they go on with the "
                    "Dagster that they run. Repair the cause, or set dagster_version back, and play site.yml again."
                )
        return ""
    finally:
        shutil.rmtree(folder)


def made(module: AnsibleModule, repair: bool) -> dict[str, Any]:
    """What the database says after a migration."""
    if failed := migrate(module, repair):
        ask(module, migrates=False)  # the fence goes up again
        module.fail_json(msg=failed)
    return probe(module, migrates=False)


def bring_up(module: AnsibleModule, found: dict[str, Any]) -> list[str]:
    """Migrates and repairs until the database has what the newest revision has; what was missing there."""
    outdated, missing = found["revision"] != found["head"], found["missing"]
    now = found
    if outdated or missing:
        now = made(module, repair=bool(missing))
    if outdated and now["revision"] == now["head"] and now["missing"]:
        missing = now["missing"]  # seen only now, because a schema is compared at the newest revision
        now = made(module, repair=True)
    if now["revision"] != now["head"]:
        module.fail_json(
            msg=f"The schema is at revision {now['revision'] or 'none'} after the migration; expected {now['head']}"
        )
    if now["missing"]:
        module.fail_json(
            msg=f"The schema still lacks {', '.join(now['missing'])}, and Dagster does not make it; restore a dump"
        )
    if missing:
        module.warn(
            f"The database lacked {', '.join(missing)}. Dagster has made it again. Rows that were in it are lost."
        )
    return list(missing)


def main() -> None:
    """Migrates when the revision is not the head, and repairs what is missing there."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "dialect": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "env": {"type": "dict", "required": True},
            "secret_env": {"type": "dict", "default": {}, "no_log": True},
            "database": {"type": "str", "required": True},
            "parameters": {"type": "dict", "default": {}},
            "tls": {"type": "bool", "default": False},
            "authority": {"type": "str", "default": ""},
            "migration_user": {"type": "str", "required": True},
            "app_users": {"type": "list", "elements": "str", "default": []},
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "lease": {
                "type": "dict",
                "options": {name: {"type": "str", "required": True} for name in ("install", "sql", "caller")},
            },
            "fence": {
                "type": "dict",
                "options": {name: {"type": "str", "required": True} for name in ("query", "logins", "unit", "command")},
            },
            "rights": {
                "type": "dict",
                "options": {
                    **{name: {"type": "str", "required": True} for name in ("query", "app")},
                    "logins": {"type": "dict", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    if module.check_mode and not os.path.exists(module.params["python"]):
        module.exit_json(changed=True, revision="", head="", missing=[], diff={"before": "", "after": "a new schema\n"})
    found = probe(module, migrates=True)
    missing = found["missing"] if module.check_mode else bring_up(module, found)
    outdated = found["revision"] != found["head"]
    lacks = "".join(f"lacks {name}\n" for name in missing)
    statements = [f"{found[what]} statements for the {what}\n" for what in MADE if found[what]]
    module.exit_json(
        changed=outdated or missing != [] or statements != [],
        revision=found["revision"] if module.check_mode else found["head"],
        head=found["head"],
        missing=missing,
        diff={"before": f"{found['revision']}\n{lacks}", "after": f"{found['head']}\n" + "".join(statements)},
    )


if __name__ == "__main__":
    main()
