# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets that stand in a configuration as text: finding them, and showing the rest without them."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:  # the validator starts a process for each file: what it does not need at run time is not imported
    from collections.abc import Container, Iterator
    from typing import Any

    # Keys and list indexes from the top to one value.
    Path = tuple[Any, ...]

REMOVED = "VALUE_REMOVED_BY_DATAOPS_DAGSTER"

# Whole words, so that TOKENIZERS_PARALLELISM is none.
_NAME = (
    r"passw(or)?d|passphrase|passcode|(^|_)(pass|pwd|pw|pswd|pat)$|(secret|token|credential)s?(_|$)|connection_?string"
    r"|(access|account|api|customer|encryption|master|private|secret|shared|signing|ssh|storage)_?keys?(_|$)"
)
# A secret must not be hidden by being written as a number, but max_tokens: 100 is not one.
_NUMBER_NAME = r"passw(or)?d$|passphrase$|passcode$|secret$|(^|_)(pass|pwd|pw|pswd)$"
# The last word tells what is only about a secret: its place (a file, a variable, an object of Kubernetes or AWS), ...
_PLACE = (
    r"_(env|envvar|env_var|file|path|dir|folder|names?|arns?|ref|tag|url|uri|endpoint|host|port|domain|address|region"
    r"|zone|location|project|namespace|mount|bucket|store|backend|manager|engine|provider|header|prefix|suffix)$"
    r"|^(old)?pwd$|^(default_azure_credential|google_application_credentials|env_secrets|image_pull_secrets|secrets"
    r"|postgres_password_secret|.*_secret_key_ref)$"
)
# ... a number or a rule for it, or its user. Of the IDs, that of a Vault role is a secret.
_ABOUT = (
    r"_(type|policy|format|version|algorithm|method|mode|scopes?|audience|issuer|users?|username|enabled|disabled"
    r"|required|allowed|min|max|minimum|maximum|limits?|length|len|size|count|budget|ttl|timeout|expiry|expires|expiration"
    r"|expires_(in|at)|lifetime|age|duration|interval|rotation|retries|attempts|window|leeway"
    r"|(milli)?seconds?|secs?|ms|minutes?|mins?|hours?|days?)$"
    r"|(^|_)(max|min|num|total|maximum|minimum|number_of)_(\w+_)?tokens$"
    r"|(?<!secret)_id$"
)
# user:password@ in a URL; "host:5000/image@sha256:..." is an image reference, hence the look-ahead. What a program
# fills in, such as ${NAME}, is no password.
_IN_URL = r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:(?!\d+[/?#])(?!(?:\$?\{\w+\}|%\(\w+\)s)@)[^\s@]+@"
_IN_QUERY = r"(?i)(?:^|[?&;\s])(?:password|passwd|pwd|secret|token|sig|accountkey|sharedaccesskey)=[^&;\s]+"
# What is known by its form alone: a private key, and tokens of GitHub, GitLab, Slack and Stripe.
_KNOWN = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|[rs]k_live_)[A-Za-z0-9_-]{10,}"
    r"|hooks\.slack\.com/services/\w"
)


def looks_secret(name: str) -> bool:
    """Whether a key or the name of an environment variable announces a secret value."""
    snake = _snake(name)
    return bool(re.search(_NAME, snake)) and not re.search(f"{_PLACE}|{_ABOUT}", snake)


def is_secret(name: str, value: Any) -> bool:
    """Whether what stands under a name is a secret: its name says so, or its text has one in it."""
    return (looks_secret(name) and _is_secret_value(name, value)) or has_secret(value)


def has_secret(value: Any) -> bool:
    """Whether a text has a password or a key in it, whatever its name."""
    if not isinstance(value, str) or not any(sign in value for sign in ("://", "=", "_", "-", "hooks.")):
        return False
    return any(re.search(form, value) for form in (_IN_URL, _IN_QUERY, _KNOWN))


def _snake(name: str) -> str:
    if not name.islower():
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return name.replace("-", "_").replace(".", "_").lower()


def literal_secrets(config: Any, allowed: Container[str] = ()) -> Iterator[tuple[Path, str, str]]:
    """(path, what was found, what to write instead) of every secret that stands in the configuration itself.

    Keys and variables of the allowed names are none. The values are never part of the result.
    """
    for path, value in leaves(config, ()):
        names = [part for part in path if isinstance(part, str)]
        name = names[-1] if names else ""
        if name in allowed or (name == "env_vars" and str(value).partition("=")[0] in allowed):
            continue
        if isinstance(value, str) and name == "env_vars" and "=" in value:
            variable, content = value.split("=", 1)
            # Kubernetes replaces $(NAME) by another variable of the container.
            if is_secret(variable, content) and not re.fullmatch(r"\$\(\w+\)", content):
                yield path, f"{variable}=<a value>, a secret as text", _env_vars_hint(variable)
        elif has_secret(value):
            yield path, "text with a password in it", _secret_hint(path)
        elif looks_secret(name) and _is_secret_value(name, value):
            yield path, "a secret as text", _secret_hint(path)
        elif path[-1:] == ("value",) and isinstance(value, str) and value:
            # Kubernetes writes environment variables as {name: N, value: V}.
            variable = at(config, path[:-1]).get("name")
            if isinstance(variable, str) and variable not in allowed and is_secret(variable, value):
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
    if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not has_secret(value):
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
    """Whether a value under the name of a secret can be one: yes or no is none, and a number only for some names."""
    snake = _snake(name)
    if isinstance(value, str):
        plain = re.fullmatch(r"(?i)true|false|yes|no|on|off|none|null", value)
        number = value.isdecimal() and snake.endswith("tokens")
        return bool(value) and not number and not (plain and not re.search(_NUMBER_NAME, snake))
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(re.search(_NUMBER_NAME, snake))


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
