"""Where a person may be sent after a callback: what every browser reads alike, and only what is listed."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.config import Config, check
from go_services_core.errors import ReturnToRefused
from go_services_core.plugins import PluginManager
from go_services_core.return_to import check_return_to

ALLOWED = ("https://app.example", "https://wide.example:8443/a/b", "http://127.0.0.1:3000/", "/settings", "/x/y/")


@pytest.mark.parametrize(
    "value",
    [
        "https://app.example",
        "https://app.example/",
        "https://APP.example:443/anything/at?all=1#frag",
        "https://app.example?next=//evil.example",
        "https://wide.example:8443/a/b",
        "https://wide.example:8443/a/b/c",
        "https://wide.example:8443/a/b?x=1",
        "http://127.0.0.1:3000/deep/er",
        "/settings",
        "/settings?tab=2",
        "/settings/connections#new",
        "/x/y",
        "/x/y/z",
    ],
)
def test_listed_place_and_what_is_below_it_is_allowed(value: str) -> None:
    assert check_return_to(value, ALLOWED) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "settings",
        "//app.example",
        "///app.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:\\\\app.example",
        "https://evil.example",
        "https://app.example.evil.example",
        "https://evilapp.example",
        "https://app.example@evil.example",
        "https://user:pw@app.example/",
        "https://app.example:8443/",
        "https://app.example:80800/",
        "http://app.example/",
        "https:app.example",
        "https:/app.example",
        "https://wide.example/a/b",
        "https://wide.example:8443/a/bc",
        "https://wide.example:8443/a",
        "https://wide.example:8443/a/b/../c",
        "https://wide.example:8443/a/b/%2e%2e/c",
        "https://wide.example:8443/a/b/%252e%252e/c",
        "https://wide.example:8443/a/b/..%2fc",
        "https://wide.example:8443/a/b/..%5cc",
        "https://wide.example:8443/a/b/./c",
        "http://127.0.0.1/",
        "http://[::1",
        "/",
        "/settingsx",
        "/settings/../admin",
        "/settings/%2e%2e/admin",
        "/settings//evil.example",
        "/Settings",
        "javascript:alert(1)",
        "data:text/html,x",
        "JAVASCRIPT://app.example/%0aalert(1)",
        " /settings",
        "/settings ",
        "/set\ttings",
        "/settings\r\nSet-Cookie: a=b",
        "/\t/evil.example",
        "/settings\x00",
        "/settings/a\\b",
        "/settings?next=\\evil",
        "https://app.exam\u00adple/",
        "https://app。example/",
    ],
)
def test_every_other_place_is_refused(value: str) -> None:
    with pytest.raises(ReturnToRefused) as caught:
        check_return_to(value, ALLOWED)
    assert caught.value.field == "return_to"


def test_nothing_is_allowed_where_nothing_is_listed() -> None:
    with pytest.raises(ReturnToRefused, match=r"runtime\.return_to"):
        check_return_to("/settings", ())


def test_one_slash_allows_every_path_of_the_own_site_and_no_other_site() -> None:
    assert check_return_to("/anything/at?all", ("/",)) == "/anything/at?all"
    for value in ("//evil.example", "https://evil.example/", "/\\evil.example", "/a/../b"):
        with pytest.raises(ReturnToRefused):
            check_return_to(value, ("/",))


@given(st.text(st.sampled_from("/\\.:@?#%2efa-\t\r\n x"), max_size=24))
def test_whatever_is_allowed_stays_on_the_site_as_browsers_resolve_it(tail: str) -> None:
    """WHATWG URL: backslashes are slashes, tabs and line breaks are dropped."""
    for start in ("", "/", "/settings"):
        try:
            value = check_return_to(start + tail, ("/settings",))
        except ReturnToRefused:
            continue
        read = value.replace("\\", "/").translate({9: None, 10: None, 13: None}).strip()
        resolved = urlsplit(urljoin("https://own.example/callback", read))
        assert (resolved.scheme, resolved.netloc) == ("https", "own.example")
        assert f"{resolved.path}/".startswith("/settings/")


@pytest.mark.parametrize(
    "entry", ["settings", "//a.example", "https://", "ftp://a.example", "/a?b", "https://a.example/#x", "/a/%2e/b", "*"]
)
def test_entry_that_nothing_could_be_compared_with_is_a_configuration_error(entry: str) -> None:
    config = Config.load(None, environ={}, arguments={"runtime.return_to": ["/fine", entry]})
    (problem,) = (one for one in check(config, PluginManager.of({}).catalog()) if one.startswith("runtime "))
    assert f"runtime.return_to, {entry!r}: " in problem
