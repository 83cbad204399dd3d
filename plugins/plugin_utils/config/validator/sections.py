# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sections that name a class: whether it exists, fits the section, and takes its configuration."""

from __future__ import annotations

from ....module_utils._words import nearest
from . import constructors
from .catalogue import private
from .report import listed, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NamedTuple

    from .report import Path
    from .schema import Checker

    class Section(NamedTuple):
        """A class named in the file."""

        name: str  # what the class is for
        path: Path  # of the mapping that holds module and class; of the configuration where they are implied
        config_path: Path
        module: Any
        class_name: Any
        config: Any
        implied: bool  # storage: {postgres: ...} and run_queue name no class
else:
    from collections import namedtuple

    Section = namedtuple("Section", "name path config_path module class_name config implied")

# storage: {postgres: ...} is short for a class.
STORAGE = {
    "postgres": ("dagster_postgres", "DagsterPostgresStorage"),
    "mysql": ("dagster_mysql", "DagsterMySQLStorage"),
    "sqlite": ("dagster._core.storage.sqlite_storage", "DagsterSqliteStorage"),
}
PLAIN = (
    "run_storage",
    "event_log_storage",
    "schedule_storage",
    "scheduler",
    "run_coordinator",
    "run_launcher",
    "compute_logs",
    "local_artifact_storage",
    "defs_state_storage",
    "instance_class",
)
# Packages of Dagster that documents name for dagster.yaml, and what to write.
WITHOUT_CLASSES = {
    "dagster_celery_docker": "leave it out: the package has an executor, for the code of a job, and no run launcher",
    "dagster_cron": "the package is gone: leave scheduler out, DagsterDaemonScheduler is the default and the only one",
}


def named_classes(config: dict[Any, Any]) -> Iterator[Section]:
    """Every class that a file makes Dagster build."""

    def of(name: str, path: Path, data: Any) -> Iterator[Section]:
        if isinstance(data, dict):
            value = data.get("config", {})
            yield Section(name, path, (*path, "config"), data.get("module"), data.get("class"), value, False)

    for section in PLAIN:
        yield from of(section, (section,), config.get(section))
    storage = config.get("storage")
    if isinstance(storage, dict):
        for kind, value in storage.items():
            path = ("storage", kind)
            if kind in STORAGE:
                module, name = STORAGE[kind]
                yield Section("storage", path, path, module, name, value, True)
        yield from of("storage", ("storage", "custom"), storage.get("custom"))
    secrets = config.get("secrets")
    if isinstance(secrets, dict):
        yield from of("secrets", ("secrets", "custom"), secrets.get("custom"))
    queue = config.get("run_queue")
    if queue:
        at = ("run_queue",)
        module = "dagster._core.run_coordinator"
        yield Section("run_coordinator", at, at, module, "QueuedRunCoordinator", queue, True)


def whole_number(value: Any) -> int | None:
    """The number that stands somewhere; None for anything else, true and false among it."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def options_of(config: dict[Any, Any], section: str) -> tuple[str, dict[Any, Any]]:
    """(class, configuration) of a section; empty where it has another shape."""
    data = config.get(section)
    if not isinstance(data, dict):
        return "", {}
    options = data.get("config")
    return str(data.get("class", "")), options if isinstance(options, dict) else {}


def check_sections(checker: Checker, config: dict[Any, Any]) -> None:
    """Report what is wrong with the classes of a file and their configurations."""
    for section in named_classes(config):
        entry = find_class(checker, section)
        certain = entry is not None
        if entry is None:
            entry = _meant(checker, section)
        if entry is None or section.name == "instance_class":
            continue
        if not isinstance(section.config, dict):
            if section.implied and section.config is None:  # a selector lets it pass, the class does not
                checker.report.error(
                    section.path, "found nothing (null); expected a mapping", "give it a value or leave the key out"
                )
            continue
        good = checker.check(entry["config"], section.config, section.config_path)
        good = _constructor_keys(checker, section, entry) and good
        if good and certain:
            constructors.check(checker, section)


def _meant(checker: Checker, section: Section) -> dict[str, Any] | None:
    """The class of that name for that section in another module: its configuration is checked all the same."""
    if private(str(section.module)) not in checker.catalogue.modules and not str(section.module).startswith("dagster"):
        return None
    for _module, name, identity in checker.catalogue.offers(section.name):
        if name == section.class_name:
            return checker.catalogue.classes[identity]
    return None


def known_class(checker: Checker, section: Section) -> dict[str, Any]:
    """The catalogue's entry of the class of a section, whether it fits or not; empty if there is none."""
    names = checker.catalogue.modules.get(private(str(section.module)), {})
    return checker.catalogue.classes.get(names.get(str(section.class_name), ""), {})


def find_class(checker: Checker, section: Section) -> dict[str, Any] | None:
    """The catalogue's entry of the class of a section; None, and the reason reported, if Dagster could not use it."""
    module, name = section.module, section.class_name
    if not isinstance(module, str) or not isinstance(name, str):
        return None  # the types of the section have said so
    catalogue, report = checker.catalogue, checker.report
    known = catalogue.modules.get(private(module))
    if known is None:
        if report.allow & {f"custom_module:{module}", f"custom_module:{module.split('.', 1)[0]}"}:
            return None
        report.error(
            (*section.path, "module"),
            f"found the module {module}, which has no class for dagster.yaml",
            _where(checker, section),
        )
        return None
    identity = known.get(name)
    if identity is None:
        message = f"found the class {name}; {module} has none of that name for dagster.yaml"
        report.error((*section.path, "class"), message, _where(checker, section))
        return None
    entry = catalogue.classes[identity]
    if section.name not in entry["sections"]:
        message = f"found {name}, which is for {listed(entry['sections'])}; expected a class for {section.name}"
        report.error((*section.path, "class"), message, _choices(checker, section))
        return None
    if "unusable" in entry:
        report.error((*section.path, "class"), f"found {name}, which {entry['unusable']}", _choices(checker, section))
        return None
    if "for_tests" in entry:
        report.warn(
            "class_for_tests", (*section.path, "class"), f"{name} is meant for tests", _choices(checker, section)
        )
    return entry


def _where(checker: Checker, section: Section) -> str:
    """Where the class that was meant is."""
    package = str(section.module).split(".", 1)[0]
    if package in WITHOUT_CLASSES:
        return WITHOUT_CLASSES[package]
    offers = list(checker.catalogue.offers(section.name))
    same = next(
        (f"module: {module}, class: {name}" for module, name, _identity in offers if name == section.class_name), ""
    )
    packages = {module.split(".", 1)[0] for module in checker.catalogue.modules}
    meant = package if package in packages else _misspelt(package, packages)
    if not meant:
        own = "if the module is yours, or of a third party, and installed where Dagster runs: "
        own += checker.report.allowing(f"custom_module:{package}")
        return f"{own}; Dagster's is {same}" if same else own
    if same:
        return same
    there = [offer for offer in offers if offer[0].split(".", 1)[0] == meant] or offers
    near = nearest(section.class_name, {name for _module, name, _identity in there})
    if not near and meant != "dagster" and len({identity for _module, _name, identity in there}) == 1:
        near = there[0][1]  # the package has no other
    for module, name, _identity in there:
        if name == near:
            return f"did you mean module: {module}, class: {name}?"
    return _choices(checker, section)


def _misspelt(package: str, packages: Iterable[str]) -> str:
    """The package of Dagster that was probably meant. All begin alike, so only the rest of a name says which it is."""
    rests = {name.removeprefix("dagster_"): name for name in packages}
    return rests.get(nearest(package.replace("-", "_").removeprefix("dagster_"), rests, 0.75), "")


def _choices(checker: Checker, section: Section) -> str:
    classes: dict[str, str] = {}
    for module, name, identity in checker.catalogue.offers(section.name):
        classes.setdefault(identity, f"{module}:{name}")
    return f"for {section.name} there are {listed(classes.values())}"


def _constructor_keys(checker: Checker, section: Section, entry: dict[str, Any]) -> bool:
    """What the catalogue found out about the constructor."""
    report, config, path = checker.report, section.config, section.config_path
    good = True
    for key in entry.get("rejects", ()):
        if key in config:
            good = False
            hint = checker.hint_for((*path, key)) or "leave it out"
            report.error(
                (*path, key), f"found {key}, which {section.class_name} takes in its schema and then refuses", hint
            )
    needs = entry.get("needs", ())
    if needs and not any(key in config for key in needs):
        good = False
        report.error(
            (*path, needs[0]), f"{' or '.join(needs)} is missing; {section.class_name} needs it", f"add {needs[0]}"
        )
    for key, variants in entry.get("refuses", {}).items():
        if key in config and constructors.variant_of(config[key]) in variants:
            good = False
            report.error(
                (*path, key),
                f"found {shown(config[key])}, which {section.class_name} refuses",
                "give a value or leave it out",
            )
    return good
