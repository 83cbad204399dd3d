"""The rules of a host while an upgrade goes on: what still listens has one, and what has been closed has none."""

from __future__ import annotations

import pytest
from deployments import DEPLOYMENTS
from dry_play import Host, Players

RULES = "/etc/firewall-dagster.nft"


def test_port_of_an_earlier_engine_leaves_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run then changes nothing."""
    written: list[str] = []
    shown = Players.content

    def content(host: Host, path: str, text: str) -> str:
        if (host.name, path) == ("run", RULES):
            written.append(text)
        return shown(host, path, text)

    monkeypatch.setattr(Players, "content", staticmethod(content))
    Players(DEPLOYMENTS["engine_closes"])
    tried, confirmed, tried_again, confirmed_again = written
    assert tried == confirmed
    assert "tcp dport { 2378, 2376 } jump engine" in tried, "webservers and daemons of the earlier release ask there"
    assert tried_again == confirmed_again
    assert "tcp dport 2378 jump engine" in tried_again
    assert "2376" not in tried_again
