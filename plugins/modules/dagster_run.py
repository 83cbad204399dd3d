#!/usr/bin/python
# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dagster_run
short_description: Launch or stop a run of a Dagster job and wait for its end
version_added: 0.1.0
description:
  - Launches a job through the GraphQL API of a Dagster webserver and waits for the end of the run, or stops a run.
  - The module sends a launch once. If the answer is lost, the module looks for the run by a tag that only this launch
    carries, and adopts a run that it finds. It never launches a job a second time.
  - When a run does not end as expected, the failing steps' errors, the last events and the end of the captured output
    are returned.
extends_documentation_fragment:
  - dataops.dagster.webserver
attributes:
  check_mode:
    support: full
    description: Checks that the job or the run exists. Launches and stops nothing.
  diff_mode:
    support: none
    description: A run has no state to compare.
options:
  state:
    description:
      - V(launched) starts a new run each time.
      - V(terminated) stops the run O(run_id) gracefully (its code is interrupted and may clean up) and waits for its
        end. A run that has already ended is not touched.
    type: str
    choices: [launched, terminated]
    default: launched
  location:
    description: Name of the code location. Required when O(state=launched).
    type: str
  repository:
    description: Name of the repository in the code location. Needed only if two repositories there have the job.
    type: str
  job:
    description: Name of the job. Required when O(state=launched).
    type: str
  run_config:
    description: Run config of the job.
    type: dict
    default: {}
  tags:
    description: Tags of the run. Values that are not strings are written as JSON.
    type: dict
    default: {}
  run_id:
    description: The run to stop. Required when O(state=terminated).
    type: str
  wait:
    description: Whether to wait for the end of the run.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for the end of the run. A run that takes longer goes on, and the module fails.
    type: float
    default: 300
  poll_interval:
    description: Seconds between two requests while waiting.
    type: float
    default: 2
  expect:
    description: The end that counts as success when O(state=launched) and O(wait=true).
    type: str
    choices: [SUCCESS, FAILURE, CANCELED]
    default: SUCCESS
  output:
    description:
      - Whether what the run has printed must be readable, too. A run goes on when its compute logs cannot be stored.
      - For O(state=launched) and O(wait=true).
    type: bool
    default: false
    version_added: 0.2.0
seealso:
  - module: dataops.dagster.instance_info
author:
  - the dataops.dagster authors (@dataops-dagster)
"""

EXAMPLES = r"""
- name: Prove that runs work, through the proxy and the real launcher
  dataops.dagster.dagster_run:
    url: http://127.0.0.1:8080/dagster
    location: analytics
    job: orders_report
    tags:
      purpose: canary
    timeout: 120
  register: canary

- name: Start a long job and do not wait
  dataops.dagster.dagster_run:
    url: http://127.0.0.1:8080
    location: analytics
    job: sleep_job
    run_config:
      ops:
        sleep_seconds:
          config:
            seconds: 600
    wait: false
  register: long

- name: Stop it
  dataops.dagster.dagster_run:
    url: http://127.0.0.1:8080
    state: terminated
    run_id: "{{ long.run_id }}"
    timeout: 60
"""

RETURN = r"""
run_id:
  description: Id of the run.
  returned: when a run was launched, adopted or stopped; not in check mode of a launch
  type: str
  sample: 6f1f5a2e-0f1c-4d0e-9d2a-5b8f7f0d4c11
run_url:
  description: Page of the run in the UI.
  returned: as RV(run_id)
  type: str
  sample: http://127.0.0.1:8080/dagster/runs/6f1f5a2e-0f1c-4d0e-9d2a-5b8f7f0d4c11
launch_id:
  description: Value of the tag C(dataops.dagster/launch_id) of the run that was launched.
  returned: O(state=launched), except in check mode
  type: str
  sample: 0b0cb1c9fd3a4a5f8f2f4f0f8f0e2a3d
repository:
  description: The repository that holds the job.
  returned: O(state=launched), when the job exists
  type: str
  sample: __repository__
job:
  description: Name of the job.
  returned: as RV(run_id), and in check mode of a launch
  type: str
  sample: orders_report
status:
  description: Last known status of the run, C(unknown) if it could not be read.
  returned: as RV(run_id)
  type: str
  sample: SUCCESS
duration:
  description: Seconds from the start of the run's execution to its end. Null if one of them is missing.
  returned: as RV(run_id)
  type: float
  sample: 4.218
steps:
  description: The steps that have started.
  returned: as RV(run_id)
  type: list
  elements: dict
  contains:
    name:
      description: Key of the step.
      type: str
      sample: clean_orders
    status:
      description: Status of the step.
      type: str
      sample: SUCCESS
    duration:
      description: Seconds the step took, null while it runs.
      type: float
      sample: 0.12
errors:
  description: Errors of the failed steps, or of the run itself if no step says why.
  returned: when the run ended otherwise than expected, or as the failure that was expected
  type: list
  elements: dict
  contains:
    step:
      description: Key of the step, empty for the run itself.
      type: str
      sample: fail_on_request
    error:
      description: The error message with its causes.
      type: str
      sample: "Error occurred while executing op \"fail_on_request\":\nException: asked to fail"
events:
  description: The last events of the run, one line each.
  returned: as RV(errors)
  type: list
  elements: str
  sample:
    - "06:31:07 RUN_FAILURE: Execution of run for \"failing_job\" failed."
logs:
  description: The end of what the failed steps wrote to stdout and stderr, of all steps if none failed.
  returned: as RV(errors)
  type: list
  elements: dict
  contains:
    steps:
      description: The steps that wrote into this file.
      type: list
      elements: str
      sample: [fail_on_request]
    stdout:
      description: The last lines of stdout.
      type: str
      sample: "reading orders\n"
    stderr:
      description: The last lines of stderr.
      type: str
      sample: "Traceback (most recent call last):\n"
"""

import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dataops.dagster.plugins.module_utils._graphql.client import (
    DagsterApiError,
    GraphQLClient,
    Unreachable,
)
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.report import (
    failure_details,
    lost_output,
    unexpected_end,
)
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.run import ENDED, Runner, tag_strings
from ansible_collections.dataops.dagster.plugins.module_utils._graphql.target import RunProblem, find_target


def launch(runner: Runner, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    target = find_target(runner.client, params["location"], params["repository"] or None, params["job"])
    known: dict[str, Any] = {"changed": True, "repository": target.repository, "job": target.job}
    if check_mode:
        return known
    known["launch_id"] = uuid.uuid4().hex
    run_id = runner.launch(target, params["run_config"], tag_strings(params["tags"]), known["launch_id"])
    if not params["wait"]:
        return {**known, **runner.summary(run_id)}
    try:
        status = runner.wait(run_id, params["timeout"])
    except RunProblem as problem:
        problem.facts = {**known, **problem.facts}
        raise
    known.update(runner.summary(run_id))
    known["status"] = status
    if status != "SUCCESS":
        known.update(failure_details(runner.client, run_id))
    if status != params["expect"]:
        raise RunProblem(unexpected_end(known, params["expect"]), known)
    if params["output"] and (why := lost_output(runner.client, run_id)):
        raise RunProblem(
            f"run {run_id} of {known['job']} ended with {status}, but what it printed cannot be read: "
            f"{' '.join(why.split())[:500]}; see {known['run_url']}, and dagster_config.compute_logs",
            known,
        )
    return known


def terminate(runner: Runner, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    run_id = params["run_id"]
    running = runner.status(run_id) not in ENDED
    if running and not check_mode:
        runner.terminate(run_id)
        if params["wait"] and runner.wait(run_id, params["timeout"]) == "FAILURE":
            facts = {"changed": True, **runner.summary(run_id), **failure_details(runner.client, run_id)}
            raise RunProblem(f"run {run_id} ended with FAILURE while it was stopped, expected CANCELED", facts)
    return {"changed": running, **runner.summary(run_id)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "socket": {"type": "path"},
            "request_timeout": {"type": "float", "default": 30},
            "state": {"type": "str", "choices": ["launched", "terminated"], "default": "launched"},
            "location": {"type": "str"},
            "repository": {"type": "str"},
            "job": {"type": "str"},
            "run_config": {"type": "dict", "default": {}},
            "tags": {"type": "dict", "default": {}},
            "run_id": {"type": "str"},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 300},
            "poll_interval": {"type": "float", "default": 2},
            "expect": {"type": "str", "choices": ["SUCCESS", "FAILURE", "CANCELED"], "default": "SUCCESS"},
            "output": {"type": "bool", "default": False},
        },
        required_if=[
            ("state", "launched", ("location", "job")),
            ("state", "terminated", ("run_id",)),
        ],
        supports_check_mode=True,
    )
    params = module.params
    try:
        client = GraphQLClient(
            params["url"],
            request_timeout=params["request_timeout"],
            validate_certs=params["validate_certs"],
            ca_path=params["ca_path"],
            socket=params["socket"],
        )
        runner = Runner(client, module.warn, poll_interval=params["poll_interval"])
        action = launch if params["state"] == "launched" else terminate
        result = action(runner, params, module.check_mode)
    except RunProblem as problem:
        module.fail_json(msg=str(problem), **problem.facts)
    except (DagsterApiError, Unreachable, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"ca_path cannot be read: {error}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
