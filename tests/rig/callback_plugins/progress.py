# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells the program that started ansible-playbook which play and task run now, and what failed.

RIG_PROGRESS is the number of an open file. Each event is a JSON text on a line: `play`, or `task`, or `task`, `host`
and `message` of a failure. A failure that a play rescues is reported too: the exit code says whether the play failed.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """An event for each play, task and failure."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "progress"
    CALLBACK_NEEDS_ENABLED = False

    def _tell(self, **event: str) -> None:
        if number := os.environ.get("RIG_PROGRESS"):
            os.write(int(number), json.dumps(event).encode() + b"\n")

    def _failed(self, result: Any) -> None:
        found = result.result
        # A loop says no more than that an item failed; its items say why.
        parts = [item for item in found.get("results") or [] if item.get("failed")] or [found]
        message = "\n".join(str(part.get(key, "")) for part in parts for key in ("msg", "stderr", "censored")).strip()
        self._tell(task=result.task.get_name(), host=result.host.get_name(), message=message or "It gave no message.")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._tell(play=play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002
        self._tell(task=task.get_name())

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._failed(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._failed(result)
