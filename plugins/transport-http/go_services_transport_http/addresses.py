"""Which addresses are public, and which host names and literals are unambiguous.

The tables follow the IANA special-purpose address registries (RFC 6890, kept at
https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry). Python's
``ipaddress.is_global`` is not used: before 3.13 it calls several forms of private addresses global.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

SPECIAL_IPV4: Final = tuple(
    (IPv4Network(block), name)
    for block, name in (
        ("0.0.0.0/8", "this network, RFC 791"),
        ("10.0.0.0/8", "private use, RFC 1918"),
        ("100.64.0.0/10", "shared address space, RFC 6598"),
        ("127.0.0.0/8", "loopback, RFC 1122"),
        ("168.63.129.16/32", "Azure platform services"),  # a public address by registry, but host-local on Azure
        ("169.254.0.0/16", "link local, RFC 3927"),
        ("172.16.0.0/12", "private use, RFC 1918"),
        ("192.0.0.0/24", "IETF protocol assignments, RFC 6890"),
        ("192.0.2.0/24", "documentation, RFC 5737"),
        ("192.88.99.0/24", "deprecated 6to4 relay, RFC 7526"),
        ("192.168.0.0/16", "private use, RFC 1918"),
        ("198.18.0.0/15", "benchmarking, RFC 2544"),
        ("198.51.100.0/24", "documentation, RFC 5737"),
        ("203.0.113.0/24", "documentation, RFC 5737"),
        ("224.0.0.0/4", "multicast, RFC 5771"),
        ("240.0.0.0/4", "reserved, RFC 1112"),
    )
)

SPECIAL_IPV6: Final = tuple(
    (IPv6Network(block), name)
    for block, name in (
        ("::1/128", "loopback, RFC 4291"),
        ("::/128", "unspecified, RFC 4291"),
        ("::ffff:0:0/96", "IPv4-mapped, RFC 4291"),
        ("64:ff9b:1::/48", "local-use translation, RFC 8215"),
        ("100::/64", "discard only, RFC 6666"),
        ("100:0:0:1::/64", "dummy prefix, RFC 9780"),
        ("2001::/32", "Teredo, RFC 4380"),
        ("2001::/23", "IETF protocol assignments, RFC 2928"),
        ("2001:db8::/32", "documentation, RFC 3849"),
        ("2002::/16", "6to4, RFC 3056"),
        ("3fff::/20", "documentation, RFC 9637"),
        ("5f00::/16", "segment routing, RFC 9602"),
        ("fc00::/7", "unique local, RFC 4193"),
        ("fe80::/10", "link local, RFC 4291"),
        ("fec0::/10", "deprecated site local, RFC 3879"),
        ("ff00::/8", "multicast, RFC 4291"),
    )
)

GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052 §2.1. On a network with DNS64 every IPv4-only host has such an address: the IPv4 part decides."""


def special_purpose(address: IPAddress) -> str | None:
    """The special-purpose block that holds ``address``, in words; None when the address is public."""
    if isinstance(address, IPv4Address):
        return next((name for block, name in SPECIAL_IPV4 if address in block), None)
    if address in NAT64:
        inner = special_purpose(IPv4Address(int(address) & 0xFFFFFFFF))
        return inner and f"NAT64 of {inner}"
    named = next((name for block, name in SPECIAL_IPV6 if address in block), None)
    if named is None and address not in GLOBAL_UNICAST:
        return "not global unicast, RFC 4291"
    return named


@lru_cache(maxsize=1024)
def special_purpose_text(text: str) -> str | None:
    """Like ``special_purpose``, for an address as the resolver or the socket writes it."""
    try:
        return special_purpose(IPv6Address(text) if ":" in text else IPv4Address(text))
    except AddressValueError:
        return "not an IP address"


SPECIAL_NAMES: Final = (
    ("localhost", "loopback, RFC 6761"),
    ("local", "link local, RFC 6762"),
    ("home.arpa", "home networks, RFC 8375"),
    ("internal", "private use, ICANN SAC113"),
)


def special_name(host: str) -> str | None:
    """What keeps a name out of the public DNS, in words; None for any other name.

    Cloud metadata services have such names as well: ``metadata.google.internal``.
    """
    return next((why for name, why in SPECIAL_NAMES if host == name or host.endswith(f".{name}")), None)


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def parse_host(text: str) -> IPAddress | str:
    """The host of a URL, without brackets: an address, or a name in lower case.

    A host whose last label is a number is an IPv4 address to most resolvers (WHATWG URL §3.5): ``2130706433``,
    ``0x7f.1`` and ``0177.0.0.1`` all reach 127.0.0.1. Only the dotted form of four decimal numbers is taken.

    Raises:
        ValueError: the host can be read in more than one way; the message is the reason, without the host.
    """
    if ":" in text:
        if "%" in text:
            raise ValueError("its address has a zone")
        try:
            return IPv6Address(text)
        except AddressValueError:
            raise ValueError("its host is not an IPv6 address") from None
    name = text.lower()
    if name.endswith("."):
        raise ValueError("its host ends in a dot")
    if len(name) > 253 or not name.isascii() or not _NAME.fullmatch(name):
        raise ValueError("its host is not a DNS name of ASCII letters, digits, dots and hyphens")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return IPv4Address(name)
        except AddressValueError:
            raise ValueError("its host is a number that is not an IPv4 address in dotted decimal form") from None
    return name
