# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets that stand in a configuration as text: finding them, and showing the rest without them."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:  # the validator starts a process for each file: what it does not need at run time is not imported
    from collections.abc import Iterator
    from typing import Any

    # Keys and list indexes from the top to one value.
    Path = tuple[Any, ...]

REMOVED = "VALUE_REMOVED_BY_DATAOPS_DAGSTER"

# Whole words, so that TOKENIZERS_PARALLELISM is none; the ID of an access key is no secret, that of a Vault role is.
_NAME = (
    r"passw(or)?d|passphrase|(^|_)(pass|pwd|pw)$|(secret|token|credential)s?(_|$)|connection_?string"
    r"|(access|account|api|customer|encryption|master|private|secret|shared|signing|ssh)_?keys?(?!_?id)(_|$)"
)
# A secret must not be hidden by being written as a number, but max_tokens: 100 is not one.
_NUMBER_NAME = r"passw(or)?d$|passphrase$|secret$"
# Names of places where a secret is (a file, a variable, an object of Kubernetes or AWS), not secrets.
_PLACE = (
    r"_(env|envvar|env_var|file|path|dir|name|names|arn|arns|ref|tag|url|uri|type|provider|policy|ttl|timeout|seconds)$"
    r"|^(default_azure_credential|env_secrets|image_pull_secrets|postgres_password_secret|secrets|.*_secret_key_ref)$"
)
# user:password@ in a URL; "host:5000/image@sha256:..." is an image reference, hence the look-ahead.
_IN_URL = r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:(?!\d+/)[^\s@]+@"
_IN_QUERY = r"(?i)(?:^|[?&;\s])(?:password|passwd|pwd|secret|token|sig)=[^&;\s]+"


def looks_secret(name: str) -> bool:
    """Whether a key or the name of an environment variable announces a secret value."""
    if not name.islower():
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    snake = name.replace("-", "_").replace(".", "_").lower()
    return bool(re.search(_NAME, snake)) and not re.search(_PLACE, snake)


def literal_secrets(config: Any) -> Iterator[tuple[Path, str, str]]:
    """(path, what was found, what to write instead) of every secret that stands in the configuration itself.

    The values are never part of the result.
    """
    for path, value in leaves(config, ()):
        names = [part for part in path if isinstance(part, str)]
        name = names[-1] if names else ""
        if isinstance(value, str) and name == "env_vars" and "=" in value:
            variable, content = value.split("=", 1)
            if content and (looks_secret(variable) or _has_password(content)):
                yield path, f"{variable}=<a value>, a secret as text", _env_vars_hint(variable)
        elif isinstance(value, str) and _has_password(value):
            yield path, "text with a password in it", _secret_hint(path)
        elif looks_secret(name) and _is_secret_value(name, value):
            yield path, "a secret as text", _secret_hint(path)
        elif path[-1:] == ("value",) and isinstance(value, str) and value:
            # Kubernetes writes environment variables as {name: N, value: V}.
            variable = at(config, path[:-1]).get("name")
            if isinstance(variable, str) and looks_secret(variable):
                yield path, f"a secret as text for {variable}", "valueFrom.secretKeyRef, or env_secrets"


def redacted(config: Any) -> Any:
    """A copy of the configuration without its literal secrets, fit for messages and logs."""
    clean = copied(config)
    for path, _found, _expected in list(literal_secrets(config)):
        parent = at(clean, path[:-1])
        parent[path[-1]] = _without_secret(parent[path[-1]])
    return clean


def _without_secret(value: Any) -> str:
    """The value, with only the secret part removed where the rest may be read (and still has to parse)."""
    if not isinstance(value, str):
        return REMOVED
    name, equals, _content = value.partition("=")
    if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not _has_password(value):
        return f"{name}={REMOVED}"
    clean = re.sub(_IN_QUERY, lambda match: f"{match.group().partition('=')[0]}={REMOVED}", _mask_urls(value))
    return clean if clean != value else REMOVED


def _mask_urls(text: str) -> str:
    return re.sub(_IN_URL, lambda match: re.sub(r"(://[^:]*:).*@$", rf"\g<1>{REMOVED}@", match.group()), text)


def masked(text: str) -> str:
    """The text of a YAML file without what looks like a secret, for a diff against a file that a human wrote."""
    lines = []
    for line in text.splitlines(keepends=True):
        line = _mask_urls(line)
        match = re.match(r"""(\s*(?:-\s+)*["']?([A-Za-z0-9_.-]+)["']?\s*[:=]\s*)([^\s{#].*)""", line)
        if match and looks_secret(match.group(2)):
            line = line.replace(match.group(3), REMOVED, 1)
        lines.append(line)
    return "".join(lines)


def _is_secret_value(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(re.search(_NUMBER_NAME, name))


def _has_password(text: str) -> bool:
    if "://" not in text and "=" not in text:
        return False
    return bool(re.search(_IN_URL, text) or re.search(_IN_QUERY, text))


def _env_vars_hint(variable: str) -> str:
    if looks_secret(variable):
        return (
            f"only the name, {variable} (the launcher copies the value from its own environment), or a mounted file; "
            "PostgreSQL takes its password from PGPASSFILE=/run/dagster/pgpass"
        )
    return f"{variable} without the password: it would be readable in the command line of every run"


def _secret_hint(path: Path) -> str:
    if "postgres_url" in path:
        return "postgres_db without password (PGPASSFILE names the file that holds it), or postgres_url: {env: NAME}"
    if "postgres_db" in path and path[-1] == "password":
        return "no password at all (PGPASSFILE names the file that holds it), or {env: NAME}"
    return (
        f"{{env: NAME}}, with NAME in the environment of the services: text in {path[0] if path else 'it'} is readable "
        "in the command line of every run"
    )


def leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """(path, value) of everything that is no container."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def at(config: Any, path: Path) -> Any:
    """The value at a path."""
    for part in path:
        config = config[part]
    return config


def copied(value: Any) -> Any:
    """A copy that shares no container with the original."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value
