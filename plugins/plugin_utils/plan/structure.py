# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists and dictionaries that are given as text, because surveys and key=value can only give text. Pure: no I/O.

Read once and strictly, as YAML and so as JSON: nothing that YAML would quietly drop or turn into another value passes.
"""

from __future__ import annotations

import io
from typing import Any

from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator.source import SourceError, read

Path = tuple[Any, ...]


def within(name: str, path: Path) -> str:
    """How an operator names a part of a variable."""
    return name + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def read_text(name: str, text: str) -> tuple[Any, list[str]]:
    """What a text says, and a sentence for each thing that is not clear about it. What it says holds no template."""
    try:
        # Ansible's own kinds of text are no text for the parser.
        document = read(io.StringIO(text).read())
    except SourceError as error:
        line = str(text).splitlines()[error.line - 1 : error.line] if error.line else []
        place = f"line {error.line}" + (f", column {error.column}" if error.column else "") if line else "the text"
        return None, [f"{name}, {place}: {error.message}; expected YAML or JSON"]
    problems = [
        f"{within(name, path)} stands in line {first} and again in line {second}; remove one of them"
        for path, first, second in document.duplicates
    ]
    problems += [
        f"{within(name, path)} is {word}, which YAML reads as the number {number}; quote it"
        for path, word, number in document.odd_numbers
    ]
    # Before ansible-core 2.19 every text is a template unless it says that it is none.
    return wrap_var(document.data), problems
