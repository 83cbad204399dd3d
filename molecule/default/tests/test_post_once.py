"""A POST is never sent twice: it may be the launch of a run.

test_load.py of scenario cluster kills replicas under real launches. This test needs no luck with the moment.
"""

from __future__ import annotations

from typing import Any

from edge_cases import replicas_that_close_without_an_answer


def test_post_that_was_read_is_not_sent_again(host: Any) -> None:
    """A replica reads a request and closes without an answer. A GET goes to a replica again, a POST does not."""
    answers = replicas_that_close_without_an_answer(host)
    gets = [(answer.status, answer.arrived) for answer in answers if answer.method == "GET"]
    posts = [(answer.status, answer.arrived) for answer in answers if answer.method == "POST"]
    assert gets == [(200, 2)] * 8, "the control: this is a case in which requests are tried again"
    assert [arrived for _status, arrived in posts] == [1] * 8
    assert all(status >= 500 for status, _arrived in posts), f"its client must hear that it failed: {posts}"
