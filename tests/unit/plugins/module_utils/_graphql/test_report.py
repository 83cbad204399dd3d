"""Why a run ended as it did."""

from __future__ import annotations

from fake_webserver import ERROR

from ansible_collections.dataops.dagster.plugins.module_utils._graphql import report as subject


def test_without_a_failed_step_all_output_is_of_interest() -> None:
    captured = {"__typename": "LogsCapturedEvent", "fileKey": "f", "stepKeys": None}
    assert subject.log_files_of([captured]) == [("f", [])]


def test_what_the_launcher_could_not_do_is_the_reason() -> None:
    """The run's own event only says that it failed from outside."""
    outside = {"__typename": "EngineEvent", "error": {"message": "network dagster not found", "causes": []}}
    said = {"__typename": "EngineEvent", "error": None}
    own = {"__typename": "RunFailureEvent", "error": None, "message": "marked as failed from outside"}
    found = subject.errors_of([said, outside, own])
    assert [item["error"] for item in found] == ["network dagster not found", "marked as failed from outside"]
    step = {"__typename": "ExecutionStepFailureEvent", "stepKey": "boom", "error": ERROR}
    assert [item["step"] for item in subject.errors_of([outside, step, own])] == ["boom"]
    facts = {"run_id": "r", "job": "j", "status": "FAILURE", "run_url": "u", "errors": found}
    assert "run: network dagster not found; run: marked" in subject.unexpected_end(facts, "SUCCESS")
