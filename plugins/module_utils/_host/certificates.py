# Copyright (c) 2026, the dataops.dagster authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host says of its certificates. Without the library cryptography it says nothing."""

from __future__ import annotations

import calendar
from typing import Any

from .proc import read


def certificate(path: str, key_path: str) -> dict[str, Any]:
    """What a certificate says, and whether the key belongs to it; empty for one that cannot be read."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    except ImportError:
        return {}
    pem = read(path)
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return {}
    names: list[str] = []
    key_id = authority_key_id = b""
    for extension in found.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names = [str(name.value) for name in value]
        elif isinstance(value, x509.SubjectKeyIdentifier):
            key_id = value.digest
        elif isinstance(value, x509.AuthorityKeyIdentifier):
            authority_key_id = value.key_identifier or b""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        key = load_pem_private_key(read(key_path).encode(), None)
        matches = key.public_key().public_bytes(*form) == found.public_key().public_bytes(*form)
    except (ValueError, TypeError):  # no key, or one with a passphrase
        matches = False
    # The end has no zone: it is UTC. Newer releases have a property with one, Debian 12's does not.
    end = found.not_valid_after_utc if hasattr(found, "not_valid_after_utc") else found.not_valid_after
    return {
        "not_after": calendar.timegm(end.timetuple()),
        "names": names,
        "key_id": key_id.hex(),
        "authority_key_id": authority_key_id.hex(),
        "key_matches": matches,
        "pem": pem,
    }
