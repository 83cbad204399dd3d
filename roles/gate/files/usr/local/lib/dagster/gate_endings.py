# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ends the steps that runs leave: at once those of a run that is stopped, and after a while those of one that has died.

A run that dies has not said whether Dagster goes on with it: run_monitoring may start its container anew, and that
finds its steps again. So they have some time. What a gate that restarts has not ended, the next one ends so.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import gate_steps
from gate_container import RUN_ID, STEP
from gate_engine import Engine
from gate_json import written

STEP_ENDING = 10  # seconds for a step whose run has ended
BESIDE = 8  # steps that end at a time
ROUND = 60.0  # seconds between two looks
LEFT = 900.0  # seconds without a container of their run, after which steps end
ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException)


class Endings:
    """The steps of one engine whose runs have ended."""

    def __init__(self, engine: Callable[[float], Engine], say: Callable[[int, str], None]) -> None:
        self.engine, self.say = engine, say
        self.since: dict[str, float] = {}  # steps, and when they were first seen without their run

    def of_run(self, run: str) -> None:
        """Ends what a run has left that was stopped: it had no time for its steps, or Dagster means to resume it."""
        try:
            self._stop([str(each["Id"]) for each in self._listed([f"{RUN_ID}={run}", STEP])])
        except ERRORS as error:
            self.say(3, f"the steps of run {run} may go on, because the engine does not answer: {error}")

    def watch(self, ending: threading.Event, label: Callable[[], str]) -> None:
        """Looks after steps until the gate ends; label is that of runs, empty while there is nothing to look after."""
        while not ending.wait(ROUND):
            try:
                if known := label():
                    self.look(known)
            except ERRORS as error:
                self.say(4, f"cannot see which steps have lost their run: {error}")

    def look(self, label: str) -> None:
        """Ends the steps that have been without their run for too long. Raises one of ERRORS."""
        now = time.monotonic()
        left = gate_steps.left(self._listed([label]))
        self.since = {number: self.since.get(number, now) for number in left}
        due = sorted(number for number, begun in self.since.items() if now - begun >= LEFT)
        for number in due:
            self.say(5, f"ends the step in container {number[:12]}, whose run has had no container for {LEFT:.0f} s")
        self._stop(due)

    def _listed(self, labels: list[str]) -> list[Any]:
        """Containers with labels that go on, paused ones too."""
        filters = written({"label": labels}).decode()
        status, found = self.engine(60).ask("GET", f"/containers/json?{urlencode({'filters': filters})}")
        if status != 200:
            raise ValueError(f"the engine answers with {status}")
        listed: list[Any] = json.loads(found)
        return listed

    def _stop(self, numbers: list[str]) -> None:
        def stop(number: str) -> None:
            self.engine(STEP_ENDING + 60).ask("POST", f"/containers/{number}/stop?t={STEP_ENDING}")

        with ThreadPoolExecutor(BESIDE) as pool:
            list(pool.map(stop, numbers))
