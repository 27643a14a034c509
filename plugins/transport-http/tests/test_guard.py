from __future__ import annotations

import pytest

from go_services_core.errors import ConfigError, EgressDenied
from go_services_transport_http.guard import Guard


def test_without_an_allowance_only_public_https_is_let_through() -> None:
    guard = Guard({})
    assert guard.check("acme", "https", "api.example.com", 443).pool == "public"
    assert guard.check("acme", "https", "api.example.com", 8443).pool == "public"
    assert guard.check("acme", "https", "1.1.1.1", 443).pool == "public"
    assert guard.check("acme", "https", "2606:4700:4700::1111", 443).origin == "[2606:4700:4700::1111]:443"


@pytest.mark.parametrize(
    ("scheme", "host"),
    [
        ("http", "api.example.com"),
        ("http", "1.1.1.1"),
        ("ftp", "api.example.com"),
        ("file", ""),
        ("ws", "api.example.com"),
        ("https", "127.0.0.1"),
        ("https", "::1"),
        ("https", "::ffff:127.0.0.1"),
        ("https", "169.254.169.254"),
        ("https", "2130706433"),
        ("https", "0x7f000001"),
        ("https", "0177.0.0.1"),
        ("https", "127.1"),
        ("https", "localhost."),
        ("https", "fe80::1%25eth0"),
    ],
)
def test_what_is_not_public_https_is_refused(scheme: str, host: str) -> None:
    with pytest.raises(EgressDenied) as caught:
        Guard({"other": ("127.0.0.1:*",)}).check("acme", scheme, host, 443)
    assert caught.value.sent is False
    assert "acme" in caught.value.message


def test_refusal_names_provider_origin_and_the_setting_that_lifts_it() -> None:
    with pytest.raises(EgressDenied) as caught:
        Guard({}).check("acme", "https", "10.1.2.3", 8443)
    text = str(caught.value)
    assert "acme" in text
    assert '"10.1.2.3:8443"' in text
    assert "egress.allow.acme" in text


def test_following_the_hint_lifts_the_refusal() -> None:
    for host, port in (("10.1.2.3", 8443), ("::1", 443), ("intra.example", 80)):
        with pytest.raises(EgressDenied) as caught:
            Guard({}).check("acme", "http", host, port)
        assert caught.value.hint
        entry = caught.value.hint.split('"')[1]
        assert Guard({"acme": (entry,)}).check("acme", "http", host, port).pool == "allowed"


def test_allowance_is_for_one_provider_host_and_port() -> None:
    guard = Guard({"acme": ("127.0.0.1:8080", "intra.example:443")})
    assert guard.check("acme", "http", "127.0.0.1", 8080).pool == "allowed"
    assert guard.check("acme", "https", "INTRA.example", 443).pool == "allowed"
    for provider_id, host, port in (
        ("other", "127.0.0.1", 8080),
        ("acme", "127.0.0.1", 8081),
        ("acme", "127.0.0.2", 8080),
        ("acme", "localhost", 8080),
        ("acme", "sub.intra.example", 443),
    ):
        with pytest.raises(EgressDenied):
            guard.check(provider_id, "http", host, port)


def test_allowance_of_every_port() -> None:
    guard = Guard({"acme": ("localhost:*",)})
    assert {guard.check("acme", "http", "localhost", port).pool for port in (1, 80, 65535)} == {"allowed"}


def test_allowed_address_is_the_same_in_each_of_its_forms() -> None:
    guard = Guard({"acme": ("[0:0:0:0:0:0:0:1]:8080",)})
    assert guard.check("acme", "http", "::1", 8080).pool == "allowed"
    with pytest.raises(EgressDenied):
        guard.check("acme", "http", "::ffff:127.0.0.1", 8080)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "127.0.0.1",
        "example.com",
        ":443",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:https",
        "example.com:+443",
        "example.com:443/",
        "https://example.com:443",
        "user@example.com:443",
        "*:443",
        "*.example.com:443",
        "::1:443",
        "[::1]",
        "[::1",
        "[example.com]:443",
        "[::1%eth0]:443",
        "2130706433:80",
        "example.com.:443",
        "b\u00fccher.example:443",
    ],
)
def test_bad_allowance_is_a_configuration_error_that_names_it(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard({"fine": ("example.com:443",), "acme": (entry,)})
    assert f"egress.allow.acme: {entry!r}" in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_bad_allowances_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Guard({"a": ("x", "y"), "b": ("z",)})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "host", ["localhost", "App.LocalHost", "printer.local", "router.home.arpa", "metadata.google.internal"]
)
def test_name_that_leads_to_no_public_address_is_known_without_looking_it_up(host: str) -> None:
    with pytest.raises(EgressDenied, match="the name is not public"):
        Guard({}).check_name("acme", "https", host, 443)
    Guard({"acme": (f"{host}:443",)}).check_name("acme", "https", host, 443)
    Guard({}).check_name("acme", "https", f"not-{host}.example", 443)
