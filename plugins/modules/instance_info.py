#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_info
short_description: Versions, daemon heartbeats and code locations of a Dagster deployment
version_added: 0.1.0
description:
  - Asks a Dagster webserver over C(/server_info) and GraphQL what it knows of its deployment.
  - With O(expect) it judges the answer and can wait until the deployment is healthy.
  - Heartbeats carry the clock of the daemon's host. The module counts their age from the C(Date) header of the
    webserver's answer. If the header is missing, it uses the clock of the machine that runs the module (RV(clock) says
    which). C(dagster-daemon liveness-check) and Dagster's own C(healthy) stay positive for half an hour after the
    daemon is gone. The age does not.
extends_documentation_fragment:
  - dataops.dagster.webserver
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
options:
  expect:
    description:
      - Expected state of a healthy deployment. In any case, every required daemon must have a recent heartbeat, and
        every code location of the workspace must be loaded. V({}) expects just that.
    type: dict
    suboptions:
      dagster_version:
        description: The version of dagster, dagster-webserver and dagster-graphql that the webserver runs.
        type: str
      locations:
        description: Names of code locations that must exist.
        type: list
        elements: str
        default: []
      daemons_newer_than:
        description:
          - Each heartbeat must be newer than this moment, in Unix seconds of the daemon's host. Give the time at which
            the daemon was started. V(0) disables the check.
        type: float
        default: 0
      daemon_hosts:
        description:
          - The hosts that may run the daemon, as they were found. Exactly one host must run it, with heartbeats that
            are newer than its start. Each other host must be a standby.
          - In check mode a host whose unit does not run is left out, because it may not be deployed yet.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Name of the host., type: str, required: true}
          unit: {description: Unit of the daemon there., type: str, default: dagster-daemon.service}
          started:
            description: When the unit started, in Unix seconds. V(0) for a unit that does not run.
            type: float
            default: 0
          status: {description: What the unit says of itself (C(STATUS=))., type: str, default: ''}
          error: {description: Why the host could not be asked., type: str, default: ''}
      max_heartbeat_age:
        description:
          - Largest age of the last heartbeat in seconds.
          - Dagster writes a heartbeat every 30 seconds. Once a schedule runs, it writes that of V(SCHEDULER) only at
            the full minute, so a value below V(65) reports a healthy scheduler as a problem.
        type: float
        default: 75
  wait:
    description: Seconds to wait until O(expect) is met.
    type: float
    default: 0
  poll_interval:
    description: Seconds between two requests while waiting.
    type: float
    default: 2
  fail_on_problems:
    description: Whether the module fails when O(expect) is not met. Otherwise it returns RV(problems).
    type: bool
    default: false
seealso:
  - module: dataops.dagster.dagster_run
author:
  - the dataops.dagster authors (@dataops-dagster)
"""

EXAMPLES = r"""
- name: Gather versions, heartbeats and code locations
  dataops.dagster.instance_info:
    url: http://127.0.0.1:8080/dagster
  register: dagster

- name: Wait until the deployment works
  dataops.dagster.instance_info:
    url: http://127.0.0.1:8080
    expect:
      dagster_version: "1.13.27"
      locations: [analytics]
      daemons_newer_than: "{{ daemon_started_at }}"
    wait: 120
    fail_on_problems: true
"""

RETURN = r"""
ok:
  description: Whether O(expect) is met.
  returned: when O(expect) is given
  type: bool
  sample: true
problems:
  description: What is wrong, one sentence each.
  returned: when O(expect) is given
  type: list
  elements: str
  sample:
    - "Daemon SCHEDULER wrote its last heartbeat 93.2 s ago, expected at most 75 s: is dagster-daemon running and can it
      reach the database?"
time:
  description: The moment from which the ages are counted, in Unix seconds.
  returned: when the webserver answers
  type: float
  sample: 1764000000.0
clock:
  description: Whose clock RV(time) is, C(server) or C(local).
  returned: when the webserver answers
  type: str
  sample: server
versions:
  description: Versions from C(/server_info).
  returned: when the webserver answers
  type: dict
  contains:
    dagster:
      description: Version of dagster.
      type: str
      sample: 1.13.27
    dagster_webserver:
      description: Version of dagster-webserver.
      type: str
      sample: 1.13.27
    dagster_graphql:
      description: Version of dagster-graphql.
      type: str
      sample: 1.13.27
daemons:
  description: The daemons that the instance's configuration asks for.
  returned: when the webserver answers
  type: list
  elements: dict
  contains:
    type:
      description: Kind of daemon.
      type: str
      sample: SCHEDULER
    required:
      description: Whether the deployment needs it.
      type: bool
      sample: true
    healthy:
      description: Dagster's own judgement, null for a daemon that is not required.
      type: bool
      sample: true
    last_heartbeat:
      description: Unix seconds of the last heartbeat, null if there was none.
      type: float
      sample: 1763999988.5
    heartbeat_age:
      description: Seconds since then.
      type: float
      sample: 11.5
    errors:
      description: Errors that came with the last heartbeat.
      type: list
      elements: str
      sample: []
locations:
  description: The code locations of the workspace, by name.
  returned: when the webserver answers
  type: list
  elements: dict
  contains:
    name:
      description: Name of the code location.
      type: str
      sample: analytics
    state:
      description: C(loaded), C(loading) or C(error).
      type: str
      sample: loaded
    error:
      description: Why it is not loaded, empty otherwise.
      type: str
      sample: ""
    updated:
      description: Unix seconds of its last load.
      type: float
      sample: 1763999980.1
    repositories:
      description: Its repositories.
      type: list
      elements: str
      sample: [__repository__]
    jobs:
      description: Its jobs, without those that Dagster makes itself.
      type: list
      elements: str
      sample: [daily_orders, dagster_canary]
      version_added: 0.2.0
    versions:
      description: Versions of the Dagster libraries in the location's own environment.
      type: dict
      sample: {dagster: 1.13.27}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import (
    DagsterApiError,
    GraphQLClient,
    Unreachable,
)
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.instance_info import (
    DEFAULT_MAX_HEARTBEAT_AGE,
    DaemonHost,
    Expectation,
    gather,
    watch,
)

ARGUMENTS: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "socket": {"type": "path"},
    "request_timeout": {"type": "float", "default": 30},
    "expect": {
        "type": "dict",
        "options": {
            "dagster_version": {"type": "str"},
            "locations": {"type": "list", "elements": "str", "default": []},
            "daemons_newer_than": {"type": "float", "default": 0},
            "daemon_hosts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "unit": {"type": "str", "default": "dagster-daemon.service"},
                    "started": {"type": "float", "default": 0},
                    "status": {"type": "str", "default": ""},
                    "error": {"type": "str", "default": ""},
                },
            },
            "max_heartbeat_age": {"type": "float", "default": DEFAULT_MAX_HEARTBEAT_AGE},
        },
    },
    "wait": {"type": "float", "default": 0},
    "poll_interval": {"type": "float", "default": 2},
    "fail_on_problems": {"type": "bool", "default": False},
}


def expectation(expect: dict[str, Any], check_mode: bool) -> Expectation:
    """What is expected of the deployment. In check mode a daemon host that says nothing yet may be new."""
    hosts = [DaemonHost(**found) for found in expect["daemon_hosts"]]
    return Expectation(
        dagster_version=expect["dagster_version"] or "",
        locations=tuple(expect["locations"]),
        daemons_newer_than=expect["daemons_newer_than"],
        daemon_hosts=tuple(found for found in hosts if found.started or found.error or not check_mode),
        max_heartbeat_age=expect["max_heartbeat_age"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    params = module.params
    expect = params["expect"]
    if expect is None and (params["wait"] or params["fail_on_problems"]):
        module.fail_json(
            msg="wait and fail_on_problems need expect: give {} to ask for running daemons and loaded code"
        )
    try:
        client = GraphQLClient(
            params["url"],
            request_timeout=params["request_timeout"],
            validate_certs=params["validate_certs"],
            ca_path=params["ca_path"],
            socket=params["socket"],
        )
        if expect is None:
            module.exit_json(changed=False, **gather(client))
        result = watch(
            client, expectation(expect, module.check_mode), params["wait"], poll_interval=params["poll_interval"]
        )
    except (DagsterApiError, Unreachable, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"ca_path cannot be read: {error}")
    else:
        if result["problems"] and params["fail_on_problems"]:
            waited = f" after {params['wait']:g} s" if params["wait"] else ""
            module.fail_json(
                msg=f"the deployment at {client.url} is not healthy{waited}: {' '.join(result['problems'])}", **result
            )
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
