# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""dagster_config as it was pasted: text that belongs elsewhere, or that has lost its indentation. Pure: no I/O.

Text with lost indentation is a dictionary too, of sections without anything and of keys that stand beside them. What
would be said of each key alone helps nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from ansible_collections.dataops.dagster.plugins.plugin_utils.config.refusal import sentence
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import pasted

VARIABLE = "dagster_config"


def of_text(text: str) -> list[str]:
    """Sentences about a text as a whole."""
    return [f"{VARIABLE}: {sentence(finding)}" for finding in pasted(text).errors]


def of_data(given: Mapping[str, Any]) -> list[str]:
    """The same about data. Which lines it had, nobody knows any more."""
    if not given:
        return []
    try:
        written = yaml.safe_dump(dict(given), sort_keys=False, default_flow_style=False, width=10**6)
    except yaml.YAMLError:  # what YAML cannot say is refused later
        return []
    # null would stand for a key with something below it.
    text = re.sub(r": null$", ":", written, flags=re.MULTILINE)
    return [
        re.sub(r"lines? [0-9]+( to [0-9]+)? ha(ve|s) lost the", "it has lost the", found) for found in of_text(text)
    ]
