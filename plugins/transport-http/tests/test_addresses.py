from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_transport_http.addresses import (
    NAT64,
    SPECIAL_IPV4,
    parse_host,
    special_purpose,
    special_purpose_text,
)

IPV4 = st.integers(0, 2**32 - 1).map(IPv4Address)
SPECIAL = st.sampled_from(SPECIAL_IPV4).flatmap(
    lambda entry: st.integers(int(entry[0].network_address), int(entry[0].broadcast_address)).map(IPv4Address)
)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",  # Alibaba Cloud's metadata
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",  # Azure's platform services
        "169.254.169.254",  # metadata of most clouds
        "169.254.170.2",  # credentials of ECS tasks
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",  # Oracle Cloud's former metadata
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",  # IPv4-compatible
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",  # IPv4-translated
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
        "2001:2::1",
        "2001:db8::1",
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2002:808:808::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",  # metadata of EC2
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_special_address_is_not_public(address: str) -> None:
    assert special_purpose_text(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "140.82.112.3",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001::8",
        "2001:4860:4860::8888",
        "64:ff9b::140.82.112.3",  # an IPv4-only host behind DNS64
    ],
)
def test_ordinary_address_is_public(address: str) -> None:
    assert special_purpose_text(address) is None


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0177.0.0.1", "1.2.3.4.5", "::g", "1.2.3.4%eth0"])
def test_text_that_is_no_address_is_not_public(text: str) -> None:
    assert special_purpose_text(text) == "not an IP address"


@given(IPV4)
def test_ipv4_inside_ipv6_is_never_more_public_than_itself(address: IPv4Address) -> None:
    block = special_purpose(address)
    nat64 = special_purpose(IPv6Address(int(NAT64.network_address) | int(address)))
    assert (nat64 is None) == (block is None)
    for carrier in (0, 0xFFFF << 32, 0xFFFF << 48, 0x2002 << 112, 0x20010000 << 96, 0xFEC0 << 112):
        assert special_purpose(IPv6Address(carrier | int(address)))
    assert special_purpose(IPv6Address(0x2002 << 112 | int(address) << 80))


@given(SPECIAL)
def test_every_address_of_a_special_block_is_named(address: IPv4Address) -> None:
    assert special_purpose(address)
    assert special_purpose(parse_host(str(address)))  # type: ignore[arg-type]


@given(SPECIAL)
def test_number_forms_of_special_addresses_are_not_hosts(address: IPv4Address) -> None:
    value = int(address)
    a, b, c, d = address.packed
    forms = [
        str(value),
        f"0x{value:x}",
        f"0{value:o}",
        f"{a}.{value & 0xFFFFFF}",
        f"{a}.{b}.{value & 0xFFFF}",
        f"0x{a:x}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.0x{d:X}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a:03}.{b:03}.{c:03}.{d:04}",
        f"{a}.{b}.{c}.{d}.",
        f"{a}.{b}.{c}.{d}.0",
        f"{a}.{b}.{c}.999",
    ]
    for form in forms:
        if form != str(address):
            with pytest.raises(ValueError, match="its host"):
                parse_host(form)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("API.Example.COM", "api.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("localhost", "localhost"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("1.2.3.4", IPv4Address("1.2.3.4")),
        ("0:0:0:0:0:0:0:1", IPv6Address("::1")),
    ],
)
def test_ordinary_host_is_read(text: str, host: object) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "example.com.",
        "a..b",
        ".example.com",
        "-a.example",
        "a-.example",
        "a b",
        "a%2eb",
        "a/b",
        "ex\u00e4mple.com",
        "\u2460\u2461\u2466.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
        "fe80::1%eth0",
        "::1]",
        "v1.a:b",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
    ],
)
def test_ambiguous_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="its"):
        parse_host(text)
