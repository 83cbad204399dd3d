# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""References of images: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, by the grammar of Docker (distribution/reference)."""

from __future__ import annotations

import re

HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
TAG = r"\w[\w.-]{0,127}"
DIGEST = r"sha256:[0-9a-f]{64}"
REFERENCE = re.compile(rf"(?:{HOST}(?::[0-9]{{1,5}})?/)?{PART}(?:/{PART})*(?::{TAG})?(?:@{DIGEST})?", re.ASCII)
REGISTRY = re.compile(rf"{HOST}(?::[0-9]{{1,5}})?", re.ASCII)
EXPECTED = "expected REGISTRY/NAME:TAG, such as registry.example.com/etl:1.4"


def is_reference(text: str) -> bool:
    """Whether the engine takes a text for the reference of an image."""
    return bool(REFERENCE.fullmatch(text)) and not re.fullmatch(r"[0-9a-f]{64}", text)


def problem(text: str) -> str:
    """What is wrong with a reference, with the nearest one; empty for one that can be."""
    if is_reference(text):
        return ""
    near = nearest(text)
    if "@" in text and not re.fullmatch(DIGEST, text.partition("@")[2]):
        hint = f"; did you mean {near}?" if near else ""
        return f"{text!r} has {text.partition('@')[2]!r} for a digest; expected sha256: and 64 hexadecimal digits{hint}"
    return f"{text!r} is no reference of an image; {EXPECTED}" + (f"; did you mean {near}?" if near else "")


def nearest(text: str) -> str:
    """The reference that was probably meant, or an empty string."""
    name = re.sub(r"^(?:docker\s+pull\s+|[a-z][a-z0-9+.-]*://)", "", text.strip())
    name = re.sub(r"/{2,}", "/", name).strip("/")
    name = re.sub(r"@(?!sha256:)(?=\w)", ":", name).rstrip(":@")
    name = re.sub(r"(?<=:)\s+|\s+(?=:)", "", name)
    first, slash, rest = name.partition("/")
    registry = slash and ("." in first or ":" in first or first == "localhost")
    host, path = (f"{first}/", rest) if registry else ("", name)
    repository, separator, tag = re.fullmatch(r"([^:@]*)([:@]?)(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    name = f"{host}{repository.lower()}{separator}{tag}"
    return name if name != text and is_reference(name) else ""
