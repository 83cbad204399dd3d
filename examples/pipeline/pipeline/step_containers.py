"""Definitions of a code location whose runs start a container for each step, with Dagster's docker_executor.

The location needs the option `step_containers: true`, and its image dagster-docker. Serve it as another location of the
same image: `module: pipeline.step_containers`.
"""

from __future__ import annotations

import dagster as dg
from dagster_docker import docker_executor

from pipeline.jobs import orders_report, sleep_seconds


@dg.job(description="Sleeps in two steps at a time: something to watch in two containers, and to terminate.")
def sleep_twice() -> None:
    sleep_seconds.alias("first")()
    sleep_seconds.alias("second")()


# No io_manager: steps hand their results on in the storage of the instance, which each container has mounted.
defs = dg.Definitions(jobs=[orders_report, sleep_twice], executor=docker_executor)
