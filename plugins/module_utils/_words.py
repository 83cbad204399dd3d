# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What sentences for an operator have in common."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # the validator starts a process for each file: what it does not need at run time is not imported
    from collections.abc import Iterable


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name that was probably meant, or an empty string. cutoff: how alike they have to be, up to 1."""
    if not isinstance(name, str):
        return ""
    import difflib  # not needed for a file without mistakes

    names = list(known)
    lower = {candidate.lower(): candidate for candidate in names}
    folded = name.lower().replace("-", "_")
    if folded in lower:
        return lower[folded]
    return (difflib.get_close_matches(name, names, n=1, cutoff=cutoff) or [""])[0]


def did_you_mean(name: object, known: Iterable[str], before: str = "") -> str:
    """The hint for a name that is not known, behind what ends the sentence before; empty if none is near."""
    near = nearest(name, known)
    return f"{before}did you mean {near}?" if near else ""
