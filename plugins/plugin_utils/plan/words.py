# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What sentences for an operator have in common. Pure: no I/O."""

from __future__ import annotations

from typing import Any


def kind_of(value: Any) -> str:
    """What a value is, in an operator's words; the types of values from Ansible have names of their own."""
    names = (
        (str, "text"),
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
        (dict, "a dictionary"),
        (type(None), "empty"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "a date")


def changed_by_yaml(value: Any) -> str:
    """What is wrong with a value of an environment variable that YAML may have changed, empty for one that it has not.

    Whole numbers are kept as they are written.
    """
    if isinstance(value, bool):
        return 'is true or false for YAML, which also reads yes and on as these; quote what you mean: "true"'
    if isinstance(value, float):
        return f'is the number {value} for YAML, which makes 1.1 of 1.10; quote what you mean: "{value}"'
    if value is None:
        return 'is empty; write "" for an empty text'
    return "" if isinstance(value, str | int) else f"is {kind_of(value)}; an environment variable is text"


def by_host(values: dict[str, str]) -> str:
    """What each host has, as a list for a sentence."""
    return ", ".join(f"{value or 'none'} on {host}" for host, value in values.items())


def differing(variable: str, values: dict[str, str], why: str) -> list[str]:
    """A sentence when hosts have not the same value of a variable."""
    if len(set(values.values())) < 2:
        return []
    return [f"{variable} differs between the hosts ({by_host(values)}); {why}"]
