"""Jobs: the assets, a report made of several ops, and jobs for trying out failure, termination and a pool."""

# No `from __future__ import annotations` in this file: Dagster reads the annotations of `context` as objects.

import hashlib
import time
from pathlib import Path

import dagster as dg

from pipeline import orders
from pipeline.orders import Row

daily_orders = dg.define_asset_job(
    "daily_orders",
    selection=dg.AssetSelection.groups("orders"),
    description="Materialises the orders group: raw_orders, clean_orders, daily_revenue and its check.",
)


class Source(dg.Config):
    """Where the report's orders come from."""

    file: str = ""
    """CSV file with order_id, day, customer and amount; empty for the export of the shop."""


@dg.op(description="Reads the orders from a file, or from the shop's export.")
def extract_orders(context: dg.OpExecutionContext, config: Source) -> list[dict[str, str]]:
    rows: list[Row] = orders.read_csv(Path(config.file)) if config.file else orders.shop_export()
    missing = set(orders.COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise dg.Failure(
            f"{config.file} has no column {', '.join(sorted(missing))}, expected {', '.join(orders.COLUMNS)}"
        )
    context.log.info(f"read {len(rows)} orders from {config.file or 'the export of the shop'}")
    return rows


@dg.op(description="Drops duplicates and orders without a positive amount.")
def validate_orders(context: dg.OpExecutionContext, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    kept = orders.clean(rows)
    context.log.info(f"kept {len(kept)} of {len(rows)} orders")
    return kept


@dg.op(description="Revenue of each day.")
def sum_by_day(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return orders.revenue_by("day", rows)


@dg.op(description="Revenue of each customer.")
def sum_by_customer(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return orders.revenue_by("customer", rows)


@dg.op(description="Prints the report and keeps it as metadata of the run.")
def render_report(
    context: dg.OpExecutionContext, by_day: list[dict[str, str]], by_customer: list[dict[str, str]]
) -> str:
    report = (
        f"Revenue {orders.total(by_day, 'revenue'):.2f} on {len(by_day)} days\n\n"
        f"{orders.markdown(by_customer)}\n\n{orders.markdown(by_day)}"
    )
    # To stdout on purpose: this is how captured output ends up in the UI.
    print(report, flush=True)
    context.add_output_metadata({"report": dg.MetadataValue.md(report), "days": len(by_day)})
    return report


@dg.job(description="A report on the orders, made of five ops.")
def orders_report() -> None:
    rows = validate_orders(extract_orders())
    render_report(sum_by_day(rows), sum_by_customer(rows))


@dg.op(description="Says that a run of this code location works.")
def answer() -> str:
    print("a run of this code location works", flush=True)
    return "yes"


@dg.job(description="Proves that runs work: launched by site.yml after a change, by health.yml each time.")
def dagster_canary() -> None:
    answer()


class FailureRequest(dg.Config):
    """Whether and how to fail."""

    fail: bool = True
    message: str = "asked to fail"


@dg.op(description="Fails when its config says so.")
def fail_on_request(context: dg.OpExecutionContext, config: FailureRequest) -> None:
    print("about to decide whether to fail", flush=True)
    if config.fail:
        raise RuntimeError(config.message)
    context.log.info("not asked to fail")


@dg.job(description="Fails unless its config says `fail: false`; the sensor alert_on_failure then acts.")
def failing_job() -> None:
    fail_on_request()


class Variable(dg.Config):
    """Which variable to look at."""

    name: str = "WAREHOUSE_TOKEN"


@dg.op(description="Prints the length and the SHA-256 of an environment variable, never its value.")
def look_at_variable(config: Variable) -> None:
    value = dg.EnvVar(config.name).get_value() or ""
    print(f"{config.name}: {len(value)} characters, {hashlib.sha256(value.encode()).hexdigest()}", flush=True)


@dg.job(description="Shows that a run has a secret of its location (secret_env), without showing it.")
def variable_report() -> None:
    look_at_variable()


class Sleep(dg.Config):
    """How long to sleep."""

    seconds: float = 60.0


def sleep(context: dg.OpExecutionContext, seconds: float) -> None:
    started = time.monotonic()
    context.log.info(f"sleeping {seconds:g} s")
    try:
        while (left := seconds - (time.monotonic() - started)) > 0:
            time.sleep(min(left, 0.5))
    except dg.DagsterExecutionInterruptedError:
        # A job that holds something (a lock, a half-written file) gives it back here; then the interrupt goes on.
        print(f"interrupted after {time.monotonic() - started:.1f} s, tidied up", flush=True)
        raise
    context.log.info("slept")


@dg.op(description="Sleeps, and tidies up when the run is terminated.")
def sleep_seconds(context: dg.OpExecutionContext, config: Sleep) -> None:
    sleep(context, config.seconds)


@dg.job(description="Sleeps for the seconds in its config: something to watch, and to terminate.")
def sleep_job() -> None:
    sleep_seconds()


@dg.op(pool="warehouse", description="Sleeps as one of the ops that the pool `warehouse` has room for.")
def load_warehouse(context: dg.OpExecutionContext, config: Sleep) -> None:
    sleep(context, config.seconds)


@dg.job(description="Uses the pool `warehouse`, whose limit is dagster_config.concurrency.pools or set in the UI.")
def warehouse_job() -> None:
    load_warehouse()
