# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Arguments of a code server: which options Dagster's two servers have, and which are not the user's. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.dataops.dagster.plugins.module_utils._words import did_you_mean

# Options of Dagster's servers that say what an option of ours says, or what the collection does.
OURS = {
    **dict.fromkeys(("-m", "--module-name"), "module"),
    **dict.fromkeys(("-f", "--python-file"), "file"),
    **dict.fromkeys(("--package-name",), "package"),
    **dict.fromkeys(("-a", "--attribute"), "attribute"),
    **dict.fromkeys(("-d", "--working-directory"), "working_directory"),
    **dict.fromkeys(("--container-context",), "container_context"),
    **dict.fromkeys(("--container-image",), "image"),
    **dict.fromkeys(("--startup-timeout",), "start_timeout"),
}
NEVER = {
    **dict.fromkeys(("-p", "--port", "-s", "--socket", "-h", "--host"), "the services reach the code server elsewhere"),
    **dict.fromkeys(
        ("--heartbeat", "--heartbeat-timeout", "--heartbeat-ttl"),
        "no service sends heartbeats, so the code server would end itself",
    ),
    "--fixed-server-id": "webservers would not notice new code",
    "--instance-ref": "it is Dagster's own",
}
NUMBER, TEXT, FLAG = "a whole number", "a value", ""
# What is left to the user, with the kind of its value or the values that there are.
FREE: dict[str, str | tuple[str, ...]] = {
    **dict.fromkeys(("-n", "--max-workers", "--max_workers"), NUMBER),
    "--log-level": ("critical", "error", "warning", "info", "debug"),
    "--log-format": ("colored", "json", "rich"),
    **dict.fromkeys(("--autoload-defs-module-name", "--defs-state-info", "--location-name"), TEXT),
    **dict.fromkeys(("--inject-env-vars-from-instance", "--use-python-environment-entry-point"), FLAG),
    **dict.fromkeys(("--empty-working-directory", "--enable-metrics", "--lazy-load-user-code"), FLAG),
}
# Those that only one of the two servers has.
ONLY = dict.fromkeys(
    ("--empty-working-directory", "--enable-metrics", "--lazy-load-user-code", "--max_workers"), "api-grpc"
)


def problems(entry: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about the arguments of a location."""
    words = list(map(str, entry.get("arguments") or []))
    server = str(entry.get("server") or "api-grpc")
    while words:
        word = words.pop(0)
        option, equals, value = _parts(word)
        if option.partition(" ")[0] != option or (option and re.fullmatch(r"-\S+ .+", word)):
            parts = ", ".join(f'"{part}"' for part in word.split())
            yield f".arguments: {word!r} is one word; each word stands on its own: [{parts}]"
        elif option in OURS:
            yield f".arguments: {option} is what {OURS[option]} says; set dagster_code_locations[].{OURS[option]}"
        elif option in NEVER:
            yield f".arguments: {option} cannot be set, because {NEVER[option]}; remove it"
        elif option not in FREE:
            near = did_you_mean(option, [*FREE, *OURS], "; ")
            yield f".arguments: {word!r} is no option of Dagster's code server{near}"
        elif ONLY.get(option, server) != server:
            yield f".arguments: {option} is an option of server {ONLY[option]} only; remove it"
        elif FREE[option] == FLAG:
            continue
        else:
            yield from _value(option, value if equals else words.pop(0) if words else "")
            continue
        # What follows is its value, and nothing more is to be said of it.
        if words and not equals and not words[0].startswith("-"):
            words.pop(0)


def _parts(word: str) -> tuple[str, str, str]:
    """Option, what binds its value to it, and that value: --name=value, -nvalue, or the option alone."""
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return option, equals, value
    if word.startswith("-"):
        return word[:2], word[2:], word[2:]
    return "", "", word


def _value(option: str, value: str) -> Iterator[str]:
    kind = FREE[option]
    if isinstance(kind, tuple):
        if value not in kind:
            near = did_you_mean(value, kind, "; ")
            yield f".arguments: {option} is {value!r}; expected one of {', '.join(kind)}{near}"
    elif not value or (kind == NUMBER and not re.fullmatch(r"[1-9][0-9]*", value)):
        yield f".arguments: {option} is {value!r}; expected {kind}"
