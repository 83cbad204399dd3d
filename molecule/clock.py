"""The example's schedule, which fires each minute in this scenario: what it did, and what it did twice."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from deployment import Dagster

SELECTOR = {"repositoryName": "__repository__", "scheduleName": "daily_orders_schedule"}


class Clock:
    """The schedule of one code location."""

    def __init__(self, dagster: Dagster, location: str) -> None:
        self.dagster = dagster
        self.selector = {**SELECTOR, "repositoryLocationName": location}

    def ticks(self, since: float = 0) -> list[dict[str, Any]]:
        """The ticks from a time on (seconds since 1970): timestamp (the minute it is for), status and runIds."""
        found = self.dagster.query(
            "query($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) { ... on Schedule {"
            " scheduleState { ticks(limit: 500) { timestamp status runIds } } } } }",
            selector=self.selector,
        )["scheduleOrError"]["scheduleState"]["ticks"]
        return [tick for tick in found if tick["timestamp"] >= since]

    def start(self) -> None:
        answer = self.dagster.query(
            "mutation($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) { __typename } }",
            selector=self.selector,
        )
        assert answer["startSchedule"]["__typename"] == "ScheduleStateResult", answer

    def _state(self) -> dict[str, str]:
        found: dict[str, str] = self.dagster.query(
            "query($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) { ... on Schedule {"
            " scheduleState { id status } } } }",
            selector=self.selector,
        )["scheduleOrError"]["scheduleState"]
        return found

    @property
    def status(self) -> str:
        """RUNNING or STOPPED."""
        return self._state()["status"]

    def stop(self) -> None:
        answer = self.dagster.query(
            "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }", id=self._state()["id"]
        )
        assert answer["stopRunningSchedule"]["__typename"] == "ScheduleStateResult", answer

    def missed(self, since: float) -> int:
        """How many minutes between the first and the last tick have none, from a time on."""
        ticks = sorted({int(tick["timestamp"]) for tick in self.ticks(since)})
        return (ticks[-1] - ticks[0]) // 60 + 1 - len(ticks)

    def runs_of_minutes(self, since: float) -> Counter[int]:
        """How many runs there are for each scheduled time (seconds since 1970) that has any, from a time on.

        The runs are counted, not those that a tick knows: of two daemons that evaluate it, one writes its run over the
        other's.
        """
        minutes = sorted({int(tick["timestamp"]) for tick in self.ticks(since)})
        if not minutes:
            return Counter()
        schedule = {
            ".dagster/repository": f"{SELECTOR['repositoryName']}@{self.selector['repositoryLocationName']}",
            "dagster/schedule_name": SELECTOR["scheduleName"],
        }
        filters = {
            f"of_{minute}": {
                "tags": [
                    {"key": key, "value": value}
                    for key, value in {**schedule, ".dagster/scheduled_execution_time": iso(minute)}.items()
                ]
            }
            for minute in minutes
        }
        declared = ", ".join(f"${name}: RunsFilter!" for name in filters)
        asked = " ".join(f"{name}: runsOrError(filter: ${name}) {{ ... on Runs {{ count }} }}" for name in filters)
        found = self.dagster.query(f"query({declared}) {{ {asked} }}", **filters)
        return Counter({minute: runs for minute in minutes if (runs := found[f"of_{minute}"]["count"])})


def iso(minute: int) -> str:
    """A time (seconds since 1970) as Dagster writes it into a run's tag."""
    return datetime.fromtimestamp(minute, UTC).isoformat()
