"""What tests of several modules are given."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fake_webserver import Webserver

from ansible_collections.dataops.dagster.plugins.module_utils._graphql import client as api
from ansible_collections.dataops.dagster.plugins.module_utils._graphql import run as subject


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webserver]:
    monkeypatch.setattr(api, "READ_PAUSE", 0.0)
    monkeypatch.setattr(subject, "ADOPT_SECONDS", 0.1)
    stub = Webserver()
    threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()
