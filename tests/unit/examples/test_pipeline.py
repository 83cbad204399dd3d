"""The example code location, in process on real Dagster, and its data work without it.

DAGSTER_PYTHON names the Python of an environment with Dagster; without it the tests that need Dagster fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import types
from pathlib import Path
from typing import Any

import pytest
from support import dagster_python, load_program

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "pipeline"

SCRIPT = """
import json
import dagster as dg
from pipeline.automation import alert_on_failure, orders_inbox
from pipeline.definitions import defs

repository = defs.get_repository_def()
answer = {}
with dg.DagsterInstance.local_temp() as instance:
    def run(name, **more):
        return defs.resolve_job_def(name).execute_in_process(instance=instance, raise_on_error=False, **more)

    def metadata(key):
        event = instance.get_latest_materialization_event(dg.AssetKey(key))
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    result = run("daily_orders")
    answer["daily_orders"] = result.success
    answer["metadata"] = {key: metadata(key) for key in ("raw_orders", "clean_orders", "daily_revenue")}
    answer["checks"] = [[e.check_name, e.passed] for e in result.get_asset_check_evaluations()]
    answer["report"] = run("orders_report").output_for_node("render_report")
    spare = {"ops": {"fail_on_request": {"config": {"fail": False}}}}
    answer["not_failing"] = run("failing_job", run_config=spare).success
    answer["sleep"] = run("sleep_job", run_config={"ops": {"sleep_seconds": {"config": {"seconds": 0.1}}}}).success
    seen = {"ops": {"look_at_variable": {"config": {"name": "PIPELINE_DATA_DIR"}}}}
    answer["variable"] = run("variable_report", run_config=seen).success
    failed = run("failing_job")
    answer["failing"] = failed.success
    alert_on_failure(
        dg.build_run_status_sensor_context(
            "alert_on_failure", failed.get_run_failure_event(), instance, failed.dagster_run
        ).for_run_failure()
    )
    answer["alert"] = metadata("failure_alerts")
    answer["failed_run"] = failed.run_id
    requests = list(orders_inbox(dg.build_sensor_context(instance=instance)))
    answer["inbox"] = [[type(r).__name__, getattr(r, "run_config", None)] for r in requests]
answer["jobs"] = sorted(job.name for job in repository.get_all_jobs())
answer["running"] = sorted(
    d.name for d in [*repository.schedule_defs, *repository.sensor_defs] if d.default_status.value == "RUNNING"
)
print("ANSWER" + json.dumps(answer))
"""


def ask(folder: Path) -> dict[str, Any]:
    python = dagster_python()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER_HOME", "PIPELINE_"))},
        "PYTHONPATH": str(EXAMPLE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIPELINE_DATA_DIR": str(folder),
    }
    done = subprocess.run(
        [python, "-c", SCRIPT], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER"))
    return dict(json.loads(answer.removeprefix("ANSWER")))


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "inbox").mkdir()
    (folder / "inbox" / "today.csv").write_text("order_id,day,customer,amount\n1,2024-01-01,elm,5.00\n")
    return {**ask(folder), "folder": folder}


def test_the_assets_materialise_with_the_reference_s_metrics(answer: dict[str, Any]) -> None:
    assert answer["daily_orders"] is True
    for metadata in answer["metadata"].values():
        assert metadata["rows_processed"] > 0
        assert metadata["execution_time_seconds"] >= 0
        assert 0 < metadata["data_quality_score"] <= 1
    assert answer["metadata"]["daily_revenue"]["rows_processed"] == 30
    assert (answer["folder"] / "daily_revenue.csv").exists()


def test_the_check_passes(answer: dict[str, Any]) -> None:
    assert answer["checks"] == [["revenue_adds_up", True]]


def test_the_report_has_the_revenue(answer: dict[str, Any]) -> None:
    assert f"Revenue {answer['metadata']['daily_revenue']['revenue']:.2f} on 30 days" in answer["report"]


def test_the_jobs_fail_and_sleep_on_request(answer: dict[str, Any]) -> None:
    assert (answer["not_failing"], answer["failing"], answer["sleep"]) == (True, False, True)


def test_a_failed_run_becomes_an_event(answer: dict[str, Any]) -> None:
    assert answer["alert"]["run"] == answer["failed_run"]
    assert answer["alert"]["job"] == "failing_job"


def test_the_inbox_asks_for_a_report_on_each_file(answer: dict[str, Any]) -> None:
    file = str(answer["folder"] / "inbox" / "today.csv")
    assert answer["inbox"] == [["RunRequest", {"ops": {"extract_orders": {"config": {"file": file}}}}]]


def test_names_that_the_deployment_s_tests_rely_on(answer: dict[str, Any]) -> None:
    assert {"daily_orders", "orders_report", "failing_job", "sleep_job", "variable_report"} <= set(answer["jobs"])
    assert answer["running"] == ["alert_on_failure", "daily_orders_schedule", "orders_inbox"]


@pytest.fixture(scope="module")
def orders() -> types.ModuleType:
    return load_program(EXAMPLE / "pipeline" / "orders.py", "example_orders")


def row(number: str, amount: str, day: str = "2024-01-01") -> dict[str, str]:
    return {"order_id": number, "day": day, "customer": "elm", "amount": amount}


def test_clean_drops_duplicates_and_bad_amounts(orders: types.ModuleType) -> None:
    rows = [row("1", "5.00"), row("1", "5.00"), row("2", ""), row("3", "n/a"), row("4", "-1.00"), row("5", "0")]
    assert orders.clean(rows) == [row("1", "5.00")]


def test_revenue_is_exact_to_the_cent(orders: types.ModuleType) -> None:
    rows = [row(str(number), "0.10") for number in range(1000)] + [row("x", "1.00", "2023-12-31")]
    assert orders.revenue_by("day", rows) == [
        {"day": "2023-12-31", "orders": "1", "revenue": "1.00"},
        {"day": "2024-01-01", "orders": "1000", "revenue": "100.00"},
    ]


def test_the_export_is_the_same_at_each_call_and_is_not_clean(orders: types.ModuleType) -> None:
    rows = orders.shop_export()
    assert rows == orders.shop_export()
    assert 0 < len(orders.clean(rows)) < len(rows)


def test_csv_round_trip(orders: types.ModuleType, tmp_path: Path) -> None:
    rows = [row("1", "5.00"), row("2", "6.00")]
    orders.write_csv(tmp_path / "new" / "t.csv", rows, orders.COLUMNS)
    assert orders.read_csv(tmp_path / "new" / "t.csv") == rows
