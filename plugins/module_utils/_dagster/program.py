# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The check as one text, which a module gives to the Python of Dagster's virtual environment."""

from __future__ import annotations

from types import ModuleType

from .. import _words
from . import carried, check, instance, no_effects, problems, schema, workspace

PARTS = (_words, check, instance, no_effects, problems, schema, workspace)


def program() -> str:
    """The text of the program. The modules that it consists of keep the names that they import each other by."""
    texts = {"module_utils": "", "module_utils._dagster": ""}
    texts.update((f"module_utils.{part.__name__.partition('.module_utils.')[2]}", text_of(part)) for part in PARTS)
    return f"{text_of(carried)}\ncarry({texts!r})\nfrom module_utils._dagster.check import main\nmain()\n"


def text_of(part: ModuleType) -> str:
    """Modules travel as an archive, so a text comes from the import system, not from a path."""
    source = part.__loader__.get_source(part.__name__)  # type: ignore[union-attr]
    # Ansible's own loader on the controller gives bytes, that of the archive on the host gives text.
    return source.decode("utf-8") if isinstance(source, bytes) else str(source)
