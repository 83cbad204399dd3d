"""Filter scram_verifier: a server that stores what it gives accepts the password, and no other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.filter import scram_verifier

FORM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
few = settings(max_examples=25)  # 4096 rounds each


def parts(verifier: str) -> tuple[int, bytes, bytes, bytes]:
    found = FORM.fullmatch(verifier)
    assert found is not None
    salt, stored, server = (base64.b64decode(text, validate=True) for text in found.groups()[1:])
    return int(found[1]), salt, stored, server


def salted(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Hi() of RFC 5802, written out: the exclusive or of a chain of HMACs."""
    last = hmac.new(password, salt + b"\0\0\0\1", hashlib.sha256).digest()
    total = int.from_bytes(last, "big")
    for _round in range(rounds - 1):
        last = hmac.new(password, last, hashlib.sha256).digest()
        total ^= int.from_bytes(last, "big")
    return total.to_bytes(32, "big")


def logs_in(verifier: str, password: bytes) -> bool:
    """A client with this password talks to a server that stores the verifier. Source: RFC 5802, section 3."""
    rounds, salt, stored_key, server_key = parts(verifier)
    message = b"n=,r=fyko,r=fyko3rfc,s=x,i=4096,c=biws,r=fyko3rfc"
    # what the client sends
    secret = salted(password, salt, rounds)
    client_key = hmac.new(secret, b"Client Key", hashlib.sha256).digest()
    signature = hmac.new(hashlib.sha256(client_key).digest(), message, hashlib.sha256).digest()
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    # what the server makes of it
    expected = hmac.new(stored_key, message, hashlib.sha256).digest()
    key = bytes(one ^ other for one, other in zip(proof, expected, strict=True))
    answer = hmac.new(server_key, message, hashlib.sha256).digest()
    # and the client of its answer
    own = hmac.new(secret, b"Server Key", hashlib.sha256).digest()
    return hashlib.sha256(key).digest() == stored_key and answer == hmac.new(own, message, hashlib.sha256).digest()


def test_known_vector_of_the_check() -> None:
    """RFC 7677, section 3: the arithmetic that the other tests rely on is the standard's."""
    secret = salted(b"pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    client_key = hmac.new(secret, b"Client Key", hashlib.sha256).digest()
    signature = hmac.new(hashlib.sha256(client_key).digest(), message, hashlib.sha256).digest()
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    assert base64.b64encode(proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


def test_known_vector() -> None:
    verifier = scram_verifier.FilterModule().filters()["scram_verifier"]("pencil", "dagster")
    rounds, salt, stored, server = parts(verifier)
    assert rounds == 4096
    assert salt == hmac.new(b"pencil", b"dataops.dagster:dagster", hashlib.sha256).digest()[:16]
    secret = salted(b"pencil", salt, 4096)
    assert stored == hashlib.sha256(hmac.new(secret, b"Client Key", hashlib.sha256).digest()).digest()
    assert server == hmac.new(secret, b"Server Key", hashlib.sha256).digest()
    # Written down, so that a changed salt is seen: every stored password of every deployment would differ from it.
    assert verifier == VECTOR


VECTOR = (
    "SCRAM-SHA-256$4096:DH2NNT2Y+DdRbjA1fjc3zg=="
    "$OdgEER269us2c8XvJuChLuIipkeJpzAeu+TrKS0fuvk="
    ":EiStYCAKR+o0UjFB3MnqmvQ6KhMI4Zm7FG/bDReXZ/A="
)


@few
@given(password=PASSWORDS, user=PASSWORDS)
def test_form(password: str, user: str) -> None:
    rounds, salt, stored, server = parts(scram_verifier.scram_verifier(password, user))
    assert (rounds, len(salt), len(stored), len(server)) == (4096, 16, 32, 32)


@few
@given(password=PASSWORDS, user=PASSWORDS)
def test_same_input_same_verifier(password: str, user: str) -> None:
    assert scram_verifier.scram_verifier(password, user) == scram_verifier.scram_verifier(password, user)


@few
@given(password=PASSWORDS, users=st.lists(PASSWORDS, min_size=2, max_size=2, unique=True))
def test_two_users_of_one_password_have_nothing_in_common(password: str, users: list[str]) -> None:
    one, other = (parts(scram_verifier.scram_verifier(password, user)) for user in users)
    assert all(mine != theirs for mine, theirs in zip(one[1:], other[1:], strict=True))


@settings(max_examples=10)
@given(password=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20))
def test_only_the_password_logs_in(password: str) -> None:
    verifier = scram_verifier.scram_verifier(password, "dagster")
    assert logs_in(verifier, password.encode())
    assert not logs_in(verifier, password.encode() + b"x")


# Prepared forms: RFC 4013, section 3, and what NFKC and libpq's pg_saslprep make of letters beyond ASCII.
@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\N{SOFT HYPHEN}X", "IX"),
        ("user", "user"),
        ("\N{FEMININE ORDINAL INDICATOR}", "a"),
        ("\N{ROMAN NUMERAL NINE}", "IX"),
        ("stra\N{LATIN SMALL LETTER SHARP S}e", "stra\N{LATIN SMALL LETTER SHARP S}e"),
        ("e\N{COMBINING ACUTE ACCENT}", "\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("a\N{NO-BREAK SPACE}b", "a b"),
        # refused by SASLprep: taken as it is
        ("\x07", "\x07"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}\x07", "\N{LATIN SMALL LETTER E WITH ACUTE}\x07"),
        ("\N{ARABIC LETTER ALEF}1", "\N{ARABIC LETTER ALEF}1"),
        ("\N{SOFT HYPHEN}", "\N{SOFT HYPHEN}"),
    ],
)
def test_letters_beyond_ascii(password: str, prepared: str) -> None:
    assert scram_verifier.saslprep(password) == prepared
    assert logs_in(scram_verifier.scram_verifier(password, "dagster"), prepared.encode())
