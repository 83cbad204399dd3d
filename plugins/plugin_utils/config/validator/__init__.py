# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says of a dagster.yaml or workspace.yaml what real Dagster would say of it, and more, without Dagster.

    report = validate(b"run_launcher: {module: dagster_dokcer, class: DockerRunLauncher}")
    report.accepted_by_dagster, report.valid, report.errors, report.refusals, report.warnings

Runs on the controller and in any checkout, with the standard library and PyYAML. What it knows of Dagster is in
catalogues/, made from the real packages; tests/validator holds it against them.
"""

from __future__ import annotations

from . import catalogue as catalogues
from . import containers, kubernetes, misplaced
from .instance import MODERN, check_instance
from .report import Report, dotted
from .schema import Checker
from .source import MAX_BYTES, Document, SourceError, read
from .workspace import check_workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from .catalogue import Catalogue
    from .indentation import Restorer
    from .places import Location
    from .report import Path

KINDS = ("dagster", "workspace")


def validate(
    content: bytes | str,
    kind: str = "dagster",
    version: str = "",
    env: Collection[str] | None = None,
    allow: Iterable[str] = (),
) -> Report:
    """Check the text of a file.

    kind: dagster or workspace. version: of the Dagster that reads it, the newest known minor by default; ValueError if
    it has no catalogue. env: names of the variables of that process, None if they are not known. allow: names of
    refusals and warnings that shall not be reported: literal_secret, or literal_secret:storage.mysql.mysql_url for one
    place. custom_module:NAME takes classes of a module (or package) that only the hosts have.
    """
    known = catalogues.load(version)
    report = _validated(content, kind, known, env, allow)
    if report.accepted_by_dagster or len(content) > MAX_BYTES:
        return report
    return _pasted(content, kind, known, env, report)


def pasted(content: str, kind: str = "dagster", version: str = "") -> Report:
    """What is wrong with a text as a whole: it belongs into another file, or has lost its indentation."""
    report = Report(lambda _path: 1)
    if len(content) > MAX_BYTES:
        return report
    from .indentation import Restorer

    known = catalogues.load(version)
    if not misplaced.found(report, content, kind, known):
        restorer = Restorer(known, kind, MODERN)
        _tell(report, restorer, restorer.restore(content))
    return report


def _validated(
    content: bytes | str, kind: str, known: Catalogue, env: Collection[str] | None, allow: Iterable[str]
) -> Report:
    try:
        document = read(content)
    except SourceError as error:
        line = max(error.line, 1)
        report = Report(lambda _path: line, allow)
        report.error((), error.message, error.hint)
        return report
    report = Report(document.line, allow)
    _check(Checker(known, report, env, document.written), kind, document.data)
    _check_writing(report, document)
    return report


def _pasted(content: bytes | str, kind: str, known: Catalogue, env: Collection[str] | None, report: Report) -> Report:
    """The report, or where the text belongs, or the report of the text with its indentation, with that said first."""
    from .indentation import Restorer  # only a wrong file needs it

    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    elsewhere = Report(report.line_of, report.allow)
    if misplaced.found(elsewhere, text, kind, known):
        return elsewhere
    restorer = Restorer(known, kind, MODERN)
    restored = restorer.restore(text.replace("\r\n", "\n"))
    if not restored:
        return report
    better = _validated(restored, kind, known, env, report.allow)
    _tell(better, restorer, restored)
    return better


def _tell(report: Report, restorer: Restorer, restored: str) -> None:
    for moved in restorer.moved if restored else ():
        report.error((moved.section,), moved.message(), f"indent them: {restorer.outline(moved.section)}")


def validate_data(
    data: Any,
    kind: str = "dagster",
    version: str = "",
    env: Collection[str] | None = None,
    allow: Iterable[str] = (),
    locations: Collection[Location] | None = None,
) -> Report:
    """Check data of a deployment that is still to be written; lines are 0.

    locations: what its code locations add to dagster.yaml, None if that is not known. The values of env are looked at
    where it is a dictionary.
    """
    report = Report(lambda _path: 0, allow, deployed=True)
    _check(Checker(catalogues.load(version), report, env, locations=locations), kind, data)
    return report


def check_context(report: Report, data: Any, path: Path, version: str = "", env: Collection[str] | None = None) -> None:
    """Check the container context of a code location as DockerRunLauncher does; the report is added to."""
    containers.check_context(Checker(catalogues.load(version), report, env), data, path)


def check_k8s_context(
    report: Report, data: Any, path: Path, version: str = "", env: Collection[str] | None = None
) -> None:
    """Check the part for Kubernetes of a location's container context as K8sRunLauncher does; adds to the report."""
    kubernetes.check_context(Checker(catalogues.load(version), report, env), data, path)


def _check(checker: Checker, kind: str, data: Any) -> None:
    try:
        (check_instance if kind == "dagster" else check_workspace)(checker, data)
    except RecursionError:
        checker.report.error((), "found a structure that is too deep")


def _check_writing(report: Report, document: Document) -> None:
    """What YAML makes silently of what somebody wrote."""
    for path, first, second in document.duplicates:
        message = f"found the key {path[-1]} twice, in lines {first} and {second}; YAML keeps only the last"
        hint = (
            "one backend: remove the block that is not meant" if path[0] in ("run_storage", "storage") else "remove one"
        )
        report.refuse("duplicate_key", path, message, hint)
        # The line of the second is where an editor should point.
    for path, text, value in document.odd_numbers:
        kind = "base 60" if ":" in text else "octal"
        hint = f"write {text.lstrip('0') or 0}" if kind == "octal" else ""
        report.warn(
            "odd_number",
            path,
            f"found {text}, which YAML reads as {value} ({kind})",
            f"{hint or 'write the number'}, or quote it if it is text",
        )


__all__ = ["KINDS", "Report", "check_context", "check_k8s_context", "dotted", "pasted", "validate", "validate_data"]
