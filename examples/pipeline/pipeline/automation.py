"""What starts runs by itself, and what happens when one fails."""

# No `from __future__ import annotations` in this file: Dagster reads the annotations of `context` as objects.

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from pipeline.assets import data_dir, failure_alerts
from pipeline.jobs import daily_orders, orders_report

# When the day's orders are fetched, as cron says it.
DAILY = os.environ.get("PIPELINE_SCHEDULE", "0 6 * * *")

# Schedule and sensors run from the first minute: a fresh deployment shows a next tick and live evaluations at once, and
# they cost next to nothing. The schedule starts one run of a few seconds a day, the inbox sensor none without a file.
daily_orders_schedule = dg.ScheduleDefinition(
    name="daily_orders_schedule",
    job=daily_orders,
    cron_schedule=DAILY,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=f"Materialises the orders group at {DAILY} UTC (PIPELINE_SCHEDULE).",
)


def inbox() -> Path:
    return Path(os.environ.get("PIPELINE_INBOX") or Path(data_dir()) / "inbox")


@dg.sensor(
    job=orders_report,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts orders_report once for each version of each CSV file in the inbox folder (PIPELINE_INBOX).",
)
def orders_inbox() -> Iterator[dg.RunRequest | dg.SkipReason]:
    # The folder must be mounted at the same path into the code server, which looks, and into runs, which read.
    files = sorted(inbox().glob("*.csv"))
    for file in files:
        yield dg.RunRequest(
            run_key=f"{file.name}:{file.stat().st_mtime_ns}",
            run_config={"ops": {"extract_orders": {"config": {"file": str(file)}}}},
            tags={"inbox/file": file.name},
        )
    if not files:
        yield dg.SkipReason(f"no CSV file in {inbox()}")


@dg.run_failure_sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "For each failed run of this code location: reports an event on the asset failure_alerts, and posts to the "
        "webhook in PIPELINE_ALERT_WEBHOOK if there is one."
    ),
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
    run = context.dagster_run
    text = f"Run failed: {run.job_name}"
    error = context.failure_event.message or ""
    context.instance.report_runless_asset_event(
        dg.AssetMaterialization(
            asset_key=failure_alerts.key,
            description=text,
            metadata={"run": dg.MetadataValue.dagster_run(run.run_id), "job": run.job_name, "error": error},
        )
    )
    context.log.info(f"{text} ({run.run_id})")
    webhook = os.environ.get("PIPELINE_ALERT_WEBHOOK")
    if webhook:
        # The body that Slack, Mattermost and Rocket.Chat take. A refused post fails the tick and shows in the UI: an
        # alert that was not delivered must not look like one that was.
        body = json.dumps({"text": f"{text} ({run.run_id})\n{error}"}).encode()
        request = urllib.request.Request(webhook, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10):
            pass
