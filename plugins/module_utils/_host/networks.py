# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The addresses and networks of a host, from the texts of its kernel, and the addresses of names as it knows them."""

from __future__ import annotations

import contextlib
import socket
import struct


def local_addresses(fib_trie: str) -> list[str]:
    """The IPv4 addresses of this host, of the text of /proc/net/fib_trie."""
    found, last = set(), ""
    for line in fib_trie.splitlines():
        if line.strip().startswith("|--"):
            last = line.split()[1]
        elif line.split()[:3] == ["/32", "host", "LOCAL"]:
            found.add(last)
    return sorted(found)


def local_addresses6(if_inet6: str) -> list[str]:
    """The IPv6 addresses of this host, of the text of /proc/net/if_inet6, which is empty without IPv6."""
    numbers = (bytes.fromhex(line.split()[0]) for line in if_inet6.splitlines())
    return sorted(socket.inet_ntop(socket.AF_INET6, number) for number in numbers)


def networks(routes: str) -> dict[str, str]:
    """The interface of each IPv4 network that is reached without a gateway, of the text of /proc/net/route."""
    found = {}
    for line in routes.splitlines()[1:]:
        interface, *fields = line.split()
        network, gateway, mask = (int(fields[number], 16) for number in (0, 1, 6))
        if mask and not gateway:
            found[f"{socket.inet_ntoa(struct.pack('=I', network))}/{mask.bit_count()}"] = interface
    return found


def routed(routes: str) -> list[str]:
    """The IPv4 networks that are reached through a gateway, without the default route."""
    found = set()
    for line in routes.splitlines()[1:]:
        network, gateway, mask = (int(line.split()[number], 16) for number in (1, 2, 7))
        if mask and gateway:
            found.add(f"{socket.inet_ntoa(struct.pack('=I', network))}/{mask.bit_count()}")
    return sorted(found)


def source_to(peer: str) -> str:
    """The address from which this host comes to another one, empty without a route. Nothing is sent."""
    with contextlib.suppress(OSError, UnicodeError):
        family, kind, _protocol, _name, address = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sock:
            sock.connect(address)
            return str(sock.getsockname()[0])
    return ""


def resolved(name: str) -> list[str]:
    """The addresses that a name has here, none when it has none. One with a zone means something on this host alone."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return []
    return sorted(address for address in found if "%" not in address)
