# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Parameters of tests of which the short suite runs some, and `make test-full` all."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def but(values: Iterable[Any], short: Container[Any]) -> list[Any]:
    """The values, of which `make test` runs those in short, and `make test-full` the others as well.

    short: of values that are tuples, what stands first in those that are meant.
    """
    given = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=[] if value[0] in short else pytest.mark.long) for value in given]
