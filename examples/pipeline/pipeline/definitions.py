"""The definitions that the code server loads: `dagster api grpc --module-name pipeline.definitions`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from pipeline.assets import Tables, clean_orders, daily_revenue, data_dir, failure_alerts, raw_orders
from pipeline.automation import alert_on_failure, daily_orders_schedule, orders_inbox
from pipeline.jobs import (
    dagster_canary,
    daily_orders,
    failing_job,
    orders_report,
    sleep_job,
    variable_report,
    warehouse_job,
)

defs = dg.Definitions(
    assets=[raw_orders, clean_orders, daily_revenue, failure_alerts],
    jobs=[daily_orders, orders_report, dagster_canary, failing_job, sleep_job, variable_report, warehouse_job],
    schedules=[daily_orders_schedule],
    sensors=[orders_inbox, alert_on_failure],
    resources={
        "tables": Tables(folder=data_dir()),
        # Not below DAGSTER_HOME, which is the instance's: a run container has neither that folder nor a right to it.
        "io_manager": dg.FilesystemIOManager(base_dir=str(Path(data_dir()) / "outputs")),
    },
    # A run has a container of its own already. The default, a process for each step, costs about 2 CPU seconds a step.
    executor=dg.in_process_executor,
)
