# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the kernel of a host takes rules of nftables, asked without a package and without a change."""

from __future__ import annotations

import os
import socket
import struct

# linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h: NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN.
NETLINK_NETFILTER, NFTABLES, GETGEN = 12, 10, 16
NLM_F_REQUEST, NLMSG_ERROR = 1, 2
HEADER = struct.Struct("=IHHII")
SECONDS = 5.0
MODULES = "/lib/modules"


def refusal() -> str:
    """Why the kernel takes none, empty when it does. It answers with the number of its rule set."""
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
    question = HEADER.pack(HEADER.size + len(body), NFTABLES << 8 | GETGEN, NLM_F_REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as asked:
            asked.settimeout(SECONDS)
            asked.bind((0, 0))
            asked.send(question)
            return answered(asked.recv(4096))
    except OSError as error:
        return error.strerror or str(error)


def replaced_kernel() -> str:
    """The release of the kernel that runs, when its modules are gone and another's are there; else empty.

    An upgrade that removes the old kernel leaves it so until the next boot: what is not loaded yet can't be any more.
    """
    running = os.uname().release
    try:
        there = os.listdir(MODULES)
    except OSError:  # a container has none
        return ""
    return running if there and running not in there else ""


def answered(answer: bytes) -> str:
    """What the kernel's answer says: an error as text, or nothing."""
    kind = HEADER.unpack_from(answer)[1]
    number = -struct.unpack_from("=i", answer, HEADER.size)[0] if kind == NLMSG_ERROR else 0
    return os.strerror(number) if number else ""
