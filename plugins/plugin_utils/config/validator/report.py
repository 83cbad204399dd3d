# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the validator says: findings of three severities, each with a place, what is wrong, and what to write."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NamedTuple

    # Keys and list indexes from the top to one value. Keys are text in every valid file, but not in every broken one.
    Path = tuple[Any, ...]

    class Finding(NamedTuple):
        """One thing to say about one place."""

        line: int
        path: str
        message: str
        hint: str
        # Names the kind, so that a user can allow it.
        name: str
else:  # typing takes a third of the time that a small file takes
    Finding = namedtuple("Finding", "line path message hint name")


def dotted(path: Sequence[Any]) -> str:
    """Write a path as operators read it: run_launcher.config.env_vars[2]."""
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text


def shown(value: object) -> str:
    """A value as the file has it, short enough for one line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value[:60]!r}" + ("..." if len(value) > 60 else "")
    if isinstance(value, int):
        # Python refuses to print a number of thousands of digits.
        return f"the number {value}" if abs(value) < 10**30 else "a huge number"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    return f"a {type(value).__name__}"


def listed(names: Iterable[str], limit: int = 30) -> str:
    """Names for a sentence."""
    known = sorted(names)
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more


class Report:
    """The findings so far. What the user allows by name is not reported.

    deployed: the file is that of a deployment, and not one of which nobody knows where it goes.
    """

    def __init__(self, line_of: Callable[[Path], int], allow: Iterable[str] = (), deployed: bool = False) -> None:
        self.line_of = line_of
        self.allow = frozenset(allow)
        self.deployed = deployed
        self.errors: list[Finding] = []
        self.refusals: list[Finding] = []
        self.warnings: list[Finding] = []

    def error(self, path: Path, message: str, hint: str = "") -> None:
        """Real Dagster refuses the file, now or when it first uses the section."""
        self._add(self.errors, path, message, hint, "error")

    def allowed(self, name: str) -> set[str]:
        """What is allowed of a kind: places by their path, and names wherever they stand."""
        return {known.partition(":")[2] for known in self.allow if known.startswith(f"{name}:")}

    def refuse(self, name: str, path: Path, message: str, hint: str = "") -> None:
        """Dagster accepts it, we do not, unless the user allows it by its name: name, or name:path."""
        if not self.allow & {name, f"{name}:{dotted(path)}"}:
            self._add(self.refusals, path, message, hint, name)

    def warn(self, name: str, path: Path, message: str, hint: str = "") -> None:
        """It works, and harms."""
        if not self.allow & {name, f"{name}:{dotted(path)}"}:
            self._add(self.warnings, path, message, hint, name)

    def harm(self, name: str, path: Path, message: str, hint: str = "") -> None:
        """Runs would meet it: a warning for a file, of which nobody knows all around it; refused in a deployment."""
        (self.refuse if self.deployed else self.warn)(name, path, message, hint)

    def allowing(self, name: str) -> str:
        """How a user allows something by its name."""
        return f"dagster_config_allow: [{name}]" if self.deployed else f"--allow {name}"

    def _add(self, findings: list[Finding], path: Path, message: str, hint: str, name: str) -> None:
        finding = Finding(self.line_of(path), dotted(path), message, hint, name)
        if finding not in findings:
            findings.append(finding)

    @property
    def accepted_by_dagster(self) -> bool:
        """The prediction of real Dagster's verdict."""
        return not self.errors

    @property
    def valid(self) -> bool:
        """Whether the collection would write such a file."""
        return not self.errors and not self.refusals

    def as_dict(self) -> dict[str, Any]:
        """The findings as data, without the name of the file."""

        def rows(findings: list[Finding]) -> list[dict[str, Any]]:
            ordered = sorted(findings, key=lambda finding: (finding.line, finding.path))
            return [{"line": f.line, "path": f.path, "message": f.message, "hint": f.hint} for f in ordered]

        return {
            "accepted_by_dagster": self.accepted_by_dagster,
            "valid": self.valid,
            "errors": rows(self.errors),
            "refusals": rows(self.refusals),
            "warnings": rows(self.warnings),
        }
