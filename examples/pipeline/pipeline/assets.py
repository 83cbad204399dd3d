"""Assets: the shop's orders, cleaned, and the revenue of each day."""

# No `from __future__ import annotations` in this file: Dagster reads the annotations of `context` as objects.

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from pipeline import orders
from pipeline.orders import Row


class Tables(dg.ConfigurableResource):
    """Tables as CSV files in a folder.

    Each run has its own container, so a table outlives its run only in a folder that runs share: mount one as a volume
    and name it in PIPELINE_DATA_DIR. Without one, an asset that is materialised alone computes what it needs again.
    """

    folder: str

    def path(self, name: str) -> Path:
        return Path(self.folder) / f"{name}.csv"

    def write(self, name: str, rows: list[Row]) -> None:
        orders.write_csv(self.path(name), rows, rows[0].keys())

    def read(self, context: dg.AssetExecutionContext, name: str, otherwise: Callable[[], list[Row]]) -> list[Row]:
        try:
            return orders.read_csv(self.path(name))
        except FileNotFoundError:
            context.log.info(f"{self.path(name)} is not there (no folder shared by runs), {name} is computed again")
            return otherwise()


def data_dir() -> str:
    # The uid keeps two users of one machine out of each other's way.
    return os.environ.get("PIPELINE_DATA_DIR") or str(Path(tempfile.gettempdir()) / f"pipeline-{os.getuid()}")


def metrics(rows: list[Row], started: float, quality: float) -> dict[str, dg.MetadataValue]:
    """The three metrics that the event log keeps for each materialisation, and a look at the rows."""
    return {
        "rows_processed": dg.MetadataValue.int(len(rows)),
        "execution_time_seconds": dg.MetadataValue.float(round(time.monotonic() - started, 6)),
        "data_quality_score": dg.MetadataValue.float(round(quality, 4)),
        "preview": dg.MetadataValue.md(orders.markdown(rows)),
    }


def columns(**descriptions: str) -> dict[str, dg.TableSchema]:
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(name, description=text) for name, text in descriptions.items()]
        )
    }


@dg.asset(
    group_name="orders",
    kinds={"python", "csv"},
    description="Orders as the shop exports them, with duplicates and unusable amounts.",
    metadata=columns(order_id="Number of the order", day="Day", customer="Customer", amount="Amount, as text"),
)
def raw_orders(tables: Tables) -> dg.MaterializeResult:
    started = time.monotonic()
    rows = orders.shop_export()
    tables.write("raw_orders", rows)
    return dg.MaterializeResult(metadata=metrics(rows, started, len(orders.clean(rows)) / len(rows)))


@dg.asset(
    deps=[raw_orders],
    group_name="orders",
    kinds={"python", "csv"},
    description="One row an order, with a positive amount.",
    metadata=columns(order_id="Number of the order", day="Day", customer="Customer", amount="Amount, above 0"),
)
def clean_orders(context: dg.AssetExecutionContext, tables: Tables) -> dg.MaterializeResult:
    started = time.monotonic()
    raw = tables.read(context, "raw_orders", orders.shop_export)
    rows = orders.clean(raw)
    tables.write("clean_orders", rows)
    context.log.info(f"kept {len(rows)} of {len(raw)} rows")
    return dg.MaterializeResult(metadata=metrics(rows, started, len(rows) / len(raw)))


@dg.asset(
    deps=[clean_orders],
    group_name="orders",
    kinds={"python", "csv"},
    description="Revenue and number of orders of each day.",
    metadata=columns(day="Day", orders="Number of orders", revenue="Revenue"),
    check_specs=[
        dg.AssetCheckSpec(
            "revenue_adds_up",
            asset="daily_revenue",
            description="The days add up to the revenue of all clean orders.",
            blocking=True,
        )
    ],
)
def daily_revenue(context: dg.AssetExecutionContext, tables: Tables) -> dg.MaterializeResult:
    started = time.monotonic()
    clean = tables.read(context, "clean_orders", lambda: orders.clean(orders.shop_export()))
    rows = orders.revenue_by("day", clean)
    tables.write("daily_revenue", rows)
    of_days, of_orders = orders.total(rows, "revenue"), orders.total(clean, "amount")
    return dg.MaterializeResult(
        metadata={**metrics(rows, started, 1.0), "revenue": dg.MetadataValue.float(of_days)},
        check_results=[
            dg.AssetCheckResult(
                check_name="revenue_adds_up",
                passed=abs(of_days - of_orders) < 0.005,
                metadata={"of_days": of_days, "of_orders": of_orders},
            )
        ],
    )


# Never materialised by a run: the failure sensor reports an event on it for each failed run.
failure_alerts = dg.AssetSpec(
    "failure_alerts",
    group_name="alerts",
    kinds={"alert"},
    description="One event for each failed run of this code location, reported by the sensor alert_on_failure.",
)
