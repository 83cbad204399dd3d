"""The way to an engine: what only looks does not start one."""

from __future__ import annotations

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import engine


@pytest.mark.parametrize(("start", "words"), [(False, "is stopped, and a check does not start it"), (True, "answers")])
def test_engine_that_is_stopped_is_started_by_a_deployment_only(
    monkeypatch: pytest.MonkeyPatch, start: bool, words: str
) -> None:
    monkeypatch.setattr(engine, "sleeps", lambda _endpoint: True)
    with pytest.raises(engine.EngineUnavailable, match=words):
        engine.Engine("unix:///nonexistent.sock", start=start)
