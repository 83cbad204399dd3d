# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with certificates that the user supplies for a server. On the controller, in memory only."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID

    HAS_CRYPTOGRAPHY = True
except ImportError:  # ansible-core brings it for vaults, but does not need it
    HAS_CRYPTOGRAPHY = False

SERVER, CLIENT = ("SERVER_AUTH", "serverAuth"), ("CLIENT_AUTH", "clientAuth")


@dataclass(frozen=True)
class Supplied:
    """The variables with the certificates of one server and its clients."""

    ca: str
    pairs: Mapping[str, tuple[str, tuple[str, str]]]  # each certificate with its key and its usage
    server: str  # the certificate of the server, one of the pairs
    optional: tuple[str, ...]  # what may be left out, as a whole
    renew: str
    reached: str  # who reaches the server, for a sentence

    @property
    def names(self) -> list[str]:
        """All of them, the authority first."""
        return [self.ca, *(name for cert, (key, _usage) in self.pairs.items() for name in (cert, key))]


ENGINE = Supplied(
    ca="dagster_docker_tls_ca",
    pairs={
        "dagster_docker_tls_client_cert": ("dagster_docker_tls_client_key", CLIENT),
        "dagster_docker_tls_cert": ("dagster_docker_tls_key", SERVER),
    },
    server="dagster_docker_tls_cert",
    optional=("dagster_docker_tls_cert", "dagster_docker_tls_key"),
    renew="dagster_docker_tls_renew_days",
    reached="webservers and daemon reach the engine",
)


def load(text: str) -> list[x509.Certificate]:
    """The certificates of a PEM text, in order. Raises ValueError."""
    end = "-----END CERTIFICATE-----"
    parts = [part + end for part in text.split(end)[:-1]]
    if not parts:
        raise ValueError("no certificate")
    return [x509.load_pem_x509_certificate(part.strip().encode()) for part in parts]


def ends(certificate: x509.Certificate) -> datetime.datetime:
    """When a certificate ends; releases of the library before 42 know it without a zone only."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    naive: datetime.datetime = certificate.not_valid_after
    return naive.replace(tzinfo=datetime.UTC)


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether issuer has signed the certificate; by its name alone where the library is older than 40."""
    if certificate.issuer != issuer.subject:
        return False
    if not hasattr(certificate, "verify_directly_issued_by"):
        return True
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # a signature that is wrong, or of a kind that is not supported
        return False
    return True


def chained(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether the first of a chain leads to an authority, over the others of the chain."""
    current, rest = chain[0], chain[1:]
    while True:
        if any(issued(current, authority) for authority in authorities):
            return True
        following = next((link for link in rest if issued(current, link)), None)
        if following is None:
            return False
        current, rest = following, [link for link in rest if link is not following]


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    """The value of an extension, None when there is none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def end_problem(name: str, certificate: x509.Certificate, renew: tuple[str, int], now: datetime.datetime) -> str:
    """A sentence when a certificate has ended or is about to, else the empty text."""
    end = ends(certificate)
    if end <= now:
        return f"{name} ended on {end:%Y-%m-%d}; supply a new one"
    (variable, days), left = renew, (end - now).days
    if left < days:
        return f"{name} ends on {end:%Y-%m-%d}, in {left} days; supply a new one ({variable} is {days})"
    return ""


def pair_problem(name: str, chain: list[x509.Certificate], key_name: str, key: str, usage: tuple[str, str]) -> str:
    """A sentence when a certificate has another key or is for something else, else the empty text."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        public = load_pem_private_key(key.strip().encode(), None).public_key().public_bytes(*form)
    except (ValueError, TypeError):
        return f"{key_name} is no private key in PEM form without a passphrase"
    if public != chain[0].public_key().public_bytes(*form):
        return f"{key_name} does not belong to {name}"
    usages = extension(chain[0], x509.ExtendedKeyUsage)
    if usages is not None and getattr(ExtendedKeyUsageOID, usage[0]) not in usages:
        return f"{name} is not for {usage[1]} (extended key usage)"
    return ""


def supplied_problems(
    values: Mapping[str, Any], address: str = "", now: datetime.datetime | None = None, supplied: Supplied = ENGINE
) -> list[str]:
    """Sentences about the supplied certificates; address is where clients reach the server with the supplied one."""
    given = {name: str(values.get(name) or "") for name in supplied.names}
    if not any(given.values()):
        return []
    optional = supplied.optional if not any(given[name] for name in supplied.optional) else ()
    missing = [name for name in supplied.names if not given[name] and name not in optional]
    if missing:
        return [f"{', '.join(missing)} must be set as well, because {next(filter(given.get, given))} is"]
    if not HAS_CRYPTOGRAPHY:
        return ["certificates were supplied, and the controller's Python cannot read them; install cryptography there"]
    now, problems, chains = now or datetime.datetime.now(datetime.UTC), [], {}
    for name in [supplied.ca, *supplied.pairs]:
        if given[name]:
            try:
                chains[name] = load(given[name])
            except ValueError:
                problems.append(f"{name} holds no certificate in PEM form")
    renew = (supplied.renew, int(values[supplied.renew]))
    for name, chain in chains.items():
        problems.append(next(filter(None, (end_problem(name, link, renew, now) for link in chain)), ""))
        if name == supplied.ca:
            continue
        key, usage = supplied.pairs[name]
        problems.append(pair_problem(name, chain, key, given[key], usage))
        if supplied.ca in chains and not chained(chain, chains[supplied.ca]):
            problems.append(f"{name} was not signed by {supplied.ca}")
    if address and supplied.server in chains:
        names = extension(chains[supplied.server][0], x509.SubjectAlternativeName) or []
        listed = [str(name.value) for name in names]
        if address not in listed:
            problems.append(
                f"{supplied.server} is for {', '.join(listed) or 'no name'}; {supplied.reached} at {address} "
                "(dagster_address)"
            )
    return list(filter(None, problems))
