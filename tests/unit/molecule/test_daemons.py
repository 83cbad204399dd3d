"""molecule/daemons.py: for how long no daemon was there."""

from __future__ import annotations

import math

import daemons
import pytest


def watched(*samples: list[tuple[float, int]]) -> daemons.Watch:
    """A watch of hosts that were looked at in these moments."""
    watch = daemons.Watch([])
    watch.samples = list(samples)
    return watch


def test_time_between_two_hosts_counts() -> None:
    first = [(0.0, 1), (1.0, 1), (2.0, 0), (3.0, 0), (4.0, 0), (5.0, 0)]
    second = [(0.5, 0), (1.5, 0), (2.5, 0), (3.5, 1), (4.5, 1), (5.5, 1)]
    assert watched(first, second).longest_away == pytest.approx(2.5)
    assert watched(first, second).most == 1


def test_no_daemon_at_all_is_away_for_ever() -> None:
    assert watched([(0.0, 0), (9.0, 0)], []).longest_away == math.inf
