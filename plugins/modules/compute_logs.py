#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_logs
short_description: Try the object store of compute logs
version_added: 0.2.0
description:
  - Writes, reads and deletes a small object with the class that F(dagster.yaml) names for compute logs. The class is
    that of the Dagster that uses it, in the venv of the services or in the image of a code location.
  - Fails with one sentence for each process that cannot do so. It says whether name, route, certificate, login, bucket
    or a right is wrong, and which variable to change. That the object cannot be deleted is a warning.
  - What has gone well is noted, so a second call with the same asks nobody.
author: [dataops (@dataops)]
attributes:
  check_mode: {support: full, description: The object is written and deleted in check mode as well. Nothing is noted.}
  diff_mode: {support: none, description: Nothing changes.}
options:
  section:
    description: The section C(compute_logs) of F(dagster.yaml).
    type: dict
    required: true
  login_variable:
    description:
      - The variable that gives the login. It is named when the login is refused.
      - Empty where the library finds a login by itself.
    type: str
    default: ''
  python:
    description: Python of the venv of the services. Without it only O(containers) try the store.
    type: path
  user:
    description: User of the services. While there is no such user, root tries.
    type: str
    default: ''
  env:
    description: Environment of the services.
    type: dict
    default: {}
  secret_env:
    description: The part of that environment which holds secrets.
    type: dict
    default: {}
  file_variable:
    description: The variable that names the file with the login of the services.
    type: str
    default: ''
  login:
    description: The text of that file.
    type: str
    default: ''
  docker_host:
    description: Address of the engine that starts O(containers).
    type: str
    default: unix:///run/docker.sock
  containers:
    description: Containers in which the store is tried, as filter P(dataops.dagster.log_containers#filter) lists them.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the code location., type: str, required: true}
      kind: {description: What else is started like this., type: str, required: true}
      image: {description: Reference of an image that the engine has., type: str, required: true}
      user: {description: User of the process., type: str, required: true}
      env: {description: Environment., type: dict, required: true}
      volumes: {description: Bind mounts., type: list, elements: str, required: true}
      networks: {description: Networks., type: list, elements: str, required: true}
      extra_hosts: {description: Addresses by name., type: dict, required: true}
  secrets:
    description: Files and variables of each code location, as filter P(dataops.dagster.log_secrets#filter) lists them.
    type: dict
    default: {}
  record:
    description: File in which the module notes what has gone well in this call. No other call may have it.
    type: path
    required: true
  again:
    description: Whether to try again what has gone well before.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Try the object store of compute logs as the services use it
  dataops.dagster.compute_logs:
    section: "{{ dagster_config.compute_logs }}"
    python: /opt/dagster/current/bin/python
    user: dagster
    file_variable: AWS_SHARED_CREDENTIALS_FILE
    login: "{{ dagster_compute_logs_login }}"
    login_variable: dagster_compute_logs_login
    record: /usr/local/lib/dagster/proven_logs.json
"""

RETURN = r"""
asked:
  description: Who has tried the store in this call.
  returned: always
  type: list
  elements: str
  sample: [the services]
problems:
  description: What is wrong, one sentence each.
  returned: always
  type: list
  elements: str
  sample: []
"""

import hashlib
import json
import os
import pwd
import subprocess
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils._dagster import log_probe
from ..module_utils._dagster.log_words import Asked
from ..module_utils._dagster.program import text_of
from ..module_utils._docker import log_containers
from ..module_utils._docker.engine import DEFAULT_ENDPOINT, DOCKER_IMPORT_ERROR, Engine, EngineUnavailable

Json = dict[str, t.Any]
# Longer than the program gives itself.
TIMEOUT = 180
CONTAINER = {
    **{name: {"type": "str", "required": True} for name in ("name", "kind", "image", "user")},
    **{name: {"type": "dict", "required": True} for name in ("env", "extra_hosts")},
    **{name: {"type": "list", "elements": "str", "required": True} for name in ("volumes", "networks")},
}
ARGUMENTS = {
    "section": {"type": "dict", "required": True},
    "login_variable": {"type": "str", "default": ""},
    "python": {"type": "path"},
    "user": {"type": "str", "default": ""},
    "env": {"type": "dict", "default": {}},
    "secret_env": {"type": "dict", "default": {}, "no_log": True},
    "file_variable": {"type": "str", "default": ""},
    "login": {"type": "str", "default": "", "no_log": True},
    "docker_host": {"type": "str", "default": DEFAULT_ENDPOINT},
    "containers": {"type": "list", "elements": "dict", "default": [], "options": CONTAINER},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "record": {"type": "path", "required": True},
    "again": {"type": "bool", "default": False},
}


def program() -> str:
    """The text of what runs under the Python of Dagster."""
    return f"{text_of(log_probe)}\nmain()\n"


def digest(*parts: t.Any) -> str:
    """By what a try is known. The record is for root alone, because a login is part of it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def of_services(params: Json) -> Json:
    """What the program is asked for the services."""
    login = (
        {"variable": params["file_variable"], "file": True, "text": params["login"]}
        if params["file_variable"]
        else None
    )
    return {"section": params["section"], "env": params["env"], "secrets": params["secret_env"], "login": login}


def as_user(name: str) -> Json:
    """The arguments of a process of this user; none while there is no such user."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def run(python: str, user: str, request: Json) -> Json:
    """The answer of the program in the venv. What it is asked goes through a pipe: no argument and no environment."""
    try:
        done = subprocess.run(
            [python, "-B", "-c", program()],
            input=json.dumps(request),
            env={"PATH": os.defpath},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
            **as_user(user),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return log_containers.answer_of("", f"{python}: {error}")
    return log_containers.answer_of(done.stdout, done.stderr)


def text_of_record(marks: dict[str, str]) -> str:
    """What a record says."""
    return json.dumps(marks, indent=1, sort_keys=True)


def recorded(path: str) -> dict[str, str]:
    """What has gone well before."""
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, ValueError):
        return {}


def write(path: str, marks: dict[str, str]) -> None:
    """Note what has gone well."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text_of_record(marks))
    os.replace(f"{path}.new", path)


def asking(container: Json, files: Json, request: Json) -> t.Callable[[t.Any], Json]:
    """The call that asks one container."""
    return lambda engine: log_containers.ask(engine, container, files, program(), request)


def wanted(params: Json) -> list[tuple[str, Asked, str, t.Callable[[t.Any], Json]]]:
    """Each that is to try: its name in the record, who it is, what its try depends on, and the call."""
    section, variable = params["section"], params["login_variable"]
    found: list[tuple[str, Asked, str, t.Callable[[t.Any], Json]]] = []
    if params["python"]:
        request = of_services(params)
        mark = digest(request, params["python"], program())
        asked = Asked("a service of this host", section, variable)
        found.append(("services", asked, mark, lambda _engine: run(params["python"], params["user"], request)))
    for container in params["containers"]:
        secrets = params["secrets"].get(container["name"]) or {"files": {}, "env": {}}
        asked = Asked(f"a {container['kind']} of location {container['name']}", section, variable, container["name"])
        request = {"section": section, "env": None, "secrets": secrets["env"], "login": None}
        mark = digest(request, container, secrets, program())
        call = asking(container, secrets["files"], request)
        found.append((f"containers/{container['kind']}/{container['name']}", asked, mark, call))
    return found


def noted(params: Json) -> str:
    """The text of the record once all has gone well."""
    return text_of_record({name: mark for name, _asked, mark, _call in wanted(params)})


def main() -> None:
    # Keeps the arguments, and with them the environment of containers, out of the host's system log.
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    params = module.params
    before = recorded(params["record"])
    every = wanted(params)
    left = [one for one in every if params["again"] or before.get(one[0]) != one[2]]
    # A store that is away now has taken logs with these settings before: no later play has to try them again.
    known = {name: mark for name, _asked, mark, _call in every if before.get(name) == mark}
    engine: t.Any = None
    problems: list[str] = []
    if any(name.startswith("containers/") for name, _asked, _mark, _call in left):
        try:
            if DOCKER_IMPORT_ERROR:
                raise EngineUnavailable(
                    missing_required_lib("docker (Docker SDK for Python, python3-docker on Debian)")
                )
            engine = Engine(params["docker_host"], start=False)
        except EngineUnavailable as error:
            module.fail_json(msg=str(error), asked=[], problems=[str(error)])
        log_containers.remove_old(engine)
    for name, asked, mark, call in left:
        answer = call(engine)
        if warning := asked.warning(answer):
            module.warn(warning)
        if sentence := asked.sentence(answer):
            problems.append(sentence)
        else:
            known[name] = mark
    if not module.check_mode and known != before:
        try:
            write(params["record"], known)
        except OSError as error:
            module.warn(f"cannot write {params['record']} ({error.strerror}), so the next play tries the store again")
    tried = [asked.who for _name, asked, _mark, _call in left]
    if problems:
        module.fail_json(
            msg="Compute logs cannot be stored:\n- " + "\n- ".join(problems), asked=tried, problems=problems
        )
    module.exit_json(changed=False, asked=tried, problems=[])


if __name__ == "__main__":
    main()
