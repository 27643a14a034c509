"""Requests through proxies: in which form, with which credentials, what they are asked for, and how they refuse."""

from __future__ import annotations

import base64
import logging
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from go_services_core.errors import BadInput, ConfigError, ConnectFailed, EgressDenied, TransportError
from go_services_core.http import HttpRequest
from go_services_core.secret import SecretStr
from go_services_core.testing.rawserver import raw_server
from go_services_transport_http.transport import HttpTransport

from .certificates import identity
from .http_proxy import http_proxy
from .names import Names, Unknown

Make = Callable[..., HttpTransport]
PUBLIC = Names(api_example=[["93.184.216.34"]])
ALLOWED = {"kit": ("api.example:80",)}
CREDENTIALS = "user:hunter2"
BASIC = "Basic " + base64.b64encode(CREDENTIALS.encode()).decode()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def get(transport: HttpTransport, url: str, provider_id: str = "other", **more: Any) -> int:
    request = HttpRequest("GET", url, (("Authorization", "Bearer s3cr3t"), ("X-A", "1")), **more)
    return (await transport.send(request, provider_id=provider_id)).status


async def test_https_goes_through_a_tunnel_in_which_the_server_is_verified(
    make: Make, authority: trustme.CA, ca_file: Path
) -> None:
    async with http_proxy() as proxy, raw_server(context=tls(authority, "api.example")) as server:
        proxy.ports = {"api.example:443": server.port}
        transport = make(proxy=proxy.url, ca_file=ca_file, resolver=lambda: PUBLIC)
        for _ in range(2):
            assert await get(transport, "https://api.example/x?y=1") == 200
        assert [head[0] for head in proxy.heads] == ["CONNECT api.example:443 HTTP/1.1"], "the tunnel is kept"
        assert proxy.header("authorization") is None
        assert server.lines() == ["GET /x?y=1 HTTP/1.1", "Host: api.example", "Authorization: Bearer s3cr3t", "X-A: 1"]
        await transport.aclose()


async def test_certificate_for_another_name_is_refused_inside_the_tunnel(
    make: Make, authority: trustme.CA, ca_file: Path
) -> None:
    async with http_proxy() as proxy, raw_server(context=tls(authority, "evil.example")) as server:
        proxy.ports = {"api.example:443": server.port}
        transport = make(proxy=proxy.url, ca_file=ca_file, resolver=lambda: PUBLIC)
        with pytest.raises(ConnectFailed, match="certificate is not accepted") as caught:
            await get(transport, "https://api.example/")
        assert caught.value.sent is False
        assert not server.requests
        await transport.aclose()


async def test_http_is_asked_for_in_absolute_form(make: Make) -> None:
    async with http_proxy() as proxy, raw_server() as server:
        proxy.ports = {"api.example": server.port}
        transport = make(proxy=proxy.url, allow=ALLOWED)
        assert await get(transport, "http://api.example/x?y=%2f#part", "kit") == 200
        assert proxy.heads[0][0] == "GET http://api.example/x?y=%2f HTTP/1.1"
        assert server.lines()[0] == "GET /x?y=%2f HTTP/1.1"
        await transport.aclose()


async def test_proxy_over_tls_carries_a_tunnel_with_tls_in_it(make: Make, authority: trustme.CA, ca_file: Path) -> None:
    async with (
        http_proxy(tls(authority, "localhost")) as proxy,
        raw_server(context=tls(authority, "api.example")) as server,
    ):
        proxy.ports = {"api.example:443": server.port}
        names = Names(api_example=[["93.184.216.34"]], localhost=[["127.0.0.1"]])
        transport = make(proxy=f"https://localhost:{proxy.port}", ca_file=ca_file, resolver=lambda: names)
        assert await get(transport, "https://api.example/") == 200
        assert len(server.requests) == 1
        presented = identity(authority.issue_cert("one@acme.example"))
        with pytest.raises(BadInput, match="through a proxy that is reached over TLS"):
            await get(transport, "https://api.example/", client_certificate=presented)
        await transport.aclose()


async def test_client_certificate_is_presented_to_the_server_in_the_tunnel(
    make: Make, authority: trustme.CA, ca_file: Path
) -> None:
    context = tls(authority, "api.example")
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    async with http_proxy() as proxy, raw_server(context=context) as server:
        proxy.ports = {"api.example:443": server.port}
        transport = make(proxy=proxy.url, ca_file=ca_file, resolver=lambda: PUBLIC)
        presented = identity(authority.issue_cert("one@acme.example"))
        assert await get(transport, "https://api.example/", client_certificate=presented) == 200
        with pytest.raises(TransportError):
            await get(transport, "https://api.example/")
        assert len(server.requests) == 1
        await transport.aclose()


async def test_provider_has_a_proxy_of_its_own_or_none(make: Make) -> None:
    async with http_proxy() as common, http_proxy() as own, raw_server() as server:
        host = f"127.0.0.1:{server.port}"
        common.ports = own.ports = {host: server.port}
        transport = make(
            proxy=common.url,
            proxies={"kit": own.url, "direct": "none"},
            allow={"kit": (host,), "direct": (host,), "other": (host,)},
        )
        for provider_id, asked in (("kit", own), ("other", common), ("direct", None)):
            before = len(common.heads), len(own.heads)
            assert await get(transport, server.url(), provider_id) == 200
            after = len(common.heads), len(own.heads)
            expected = (before[0] + (asked is common), before[1] + (asked is own))
            assert after == expected
        await transport.aclose()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_credentials_go_to_their_proxy_alone(
    make: Make, authority: trustme.CA, ca_file: Path, scheme: str
) -> None:
    context = tls(authority, "api.example") if scheme == "https" else None
    async with http_proxy() as proxy, http_proxy() as other, raw_server(context=context) as server:
        port = {"http": 80, "https": 443}[scheme]
        proxy.ports = other.ports = {"api.example": server.port, "api.example:443": server.port}
        proxy.wants = BASIC
        transport = make(
            proxy=proxy.url,
            proxies={"else": other.url},
            proxy_credentials={f"127.0.0.1:{proxy.port}": SecretStr(CREDENTIALS)},
            allow={"kit": (f"api.example:{port}",), "else": (f"api.example:{port}",)},
            ca_file=ca_file,
        )
        for provider_id in ("kit", "else"):
            assert await get(transport, f"{scheme}://api.example/", provider_id) == 200
            assert not any(line.lower().startswith("proxy-") for line in server.lines())
        assert proxy.header("proxy-authorization") == BASIC
        assert other.header("proxy-authorization") is None
        await transport.aclose()


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("https://api.example/?key=hunter2", 407, "wants credentials"),
        ("http://api.example/?key=hunter2", 407, "wants credentials"),
        ("https://api.example/?key=hunter2", 502, "does not let it through (502)"),
        ("https://api.example/?key=hunter2", 403, "does not let it through (403)"),
    ],
)
async def test_proxy_that_refuses_is_an_error_with_nothing_sent_and_no_secret(
    make: Make, url: str, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P41: neither the proxy's credentials nor the URL's query nor what the proxy says."""
    caplog.set_level(logging.DEBUG)
    async with http_proxy() as proxy:
        proxy.refuse = status
        transport = make(
            proxy=proxy.url,
            proxy_credentials={f"127.0.0.1:{proxy.port}": SecretStr(CREDENTIALS)},
            allow={"kit": ("api.example:*",)},
        )
        with pytest.raises(ConnectFailed) as caught:
            await get(transport, url, "kit")
        assert words in str(caught.value)
        assert caught.value.sent is False
        assert caught.value.metadata == {"proxy_status": status}
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        told.stack = traceback.StackSummary.from_list([frame for frame in told.stack if "tests" not in frame.filename])
        assert len(told.stack) > 0
        shown = "".join(told.format())
        for secret in ("hunter2", BASIC.removeprefix("Basic ")):
            assert secret not in shown
            assert secret not in caplog.text
            assert secret not in repr(vars(transport))
        await transport.aclose()


async def test_proxy_that_is_not_there_or_speaks_no_http_is_named(make: Make) -> None:
    async with raw_server(b"SSH-2.0-OpenSSH_9.7\r\n") as gone:
        pass
    async with raw_server(b"SSH-2.0-OpenSSH_9.7\r\n\r\n") as mute:
        for url, words in ((gone.url(""), "proxy cannot be reached"), (mute.url(""), "no connection could be made")):
            transport = make(proxy=url, resolver=lambda: PUBLIC)
            with pytest.raises(ConnectFailed, match=words) as caught:
                await get(transport, "https://api.example/")
            assert caught.value.sent is False
            await transport.aclose()


async def test_bad_gateway_in_absolute_form_is_an_answer(make: Make) -> None:
    """Whether the proxy or the server said it cannot be told."""
    async with http_proxy() as proxy:
        transport = make(proxy=proxy.url, allow=ALLOWED)
        assert await get(transport, "http://api.example/", "kit") == 502
        await transport.aclose()


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "127.0.0.1.",
        "u:p@api.example",
    ],
)
async def test_proxy_is_not_asked_for_an_address_that_is_not_public(make: Make, host: str) -> None:
    """P30: the guard comes before the proxy."""
    async with http_proxy() as proxy:
        transport = make(proxy=proxy.url)
        with pytest.raises(EgressDenied) as caught:
            await get(transport, f"https://{host}/")
        assert caught.value.sent is False
        assert not proxy.heads
        await transport.aclose()


async def test_proxy_is_not_asked_for_a_name_with_a_private_address(make: Make) -> None:
    names = Names(evil_example=[["93.184.216.34", "10.0.0.1"]])
    async with http_proxy() as proxy:
        transport = make(proxy=proxy.url, resolver=lambda: names)
        for _ in range(2):
            with pytest.raises(EgressDenied, match="private use"):
                await get(transport, "https://evil.example/")
        assert not proxy.heads
        assert names.asked == ["evil.example"], "what was found is used for a while"
        with pytest.raises(EgressDenied):
            async with transport.stream(HttpRequest("GET", "https://evil.example/"), provider_id="other"):
                pass
        await transport.aclose()


async def test_name_that_only_the_proxy_knows_is_left_to_it(make: Make, authority: trustme.CA, ca_file: Path) -> None:
    async with http_proxy() as proxy, raw_server(context=tls(authority, "api.example")) as server:
        proxy.ports = {"api.example:443": server.port}
        transport = make(proxy=proxy.url, ca_file=ca_file, resolver=Unknown)
        assert await get(transport, "https://api.example/") == 200
        await transport.aclose()


async def test_plain_http_through_a_proxy_needs_an_allowance(make: Make) -> None:
    async with http_proxy() as proxy:
        transport = make(proxy=proxy.url, resolver=lambda: PUBLIC)
        with pytest.raises(EgressDenied, match="plain http"):
            await get(transport, "http://api.example/")
        assert not proxy.heads
        await transport.aclose()


async def test_tunnel_of_one_provider_is_not_another_ones_way(make: Make, authority: trustme.CA, ca_file: Path) -> None:
    async with http_proxy() as proxy, raw_server(context=tls(authority, "intra.example")) as server:
        proxy.ports = {"intra.example:443": server.port}
        names = Names(intra_example=[["10.0.0.9"]])
        transport = make(
            proxy=proxy.url, ca_file=ca_file, allow={"kit": ("intra.example:443",)}, resolver=lambda: names
        )
        assert await get(transport, "https://intra.example/", "kit") == 200
        with pytest.raises(EgressDenied):
            await get(transport, "https://intra.example/", "other")
        assert len(server.requests) == 1
        await transport.aclose()


async def test_environment_neither_adds_a_proxy_nor_leads_past_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """P37."""
    async with http_proxy() as proxy, http_proxy() as from_environment, raw_server() as server:
        proxy.ports = {f"127.0.0.1:{server.port}": server.port}
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, from_environment.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "127.0.0.1,*")
        transport = make(proxy=proxy.url)
        assert await get(transport, server.url(), "kit") == 200
        with pytest.raises(EgressDenied):
            await get(transport, "https://10.0.0.1/")
        assert len(proxy.heads) == 1
        assert not from_environment.heads
        await transport.aclose()


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy.corp:3128",
        "socks5://proxy.corp:1080",
        "http://",
        "http://proxy.corp:99999",
        "http://proxy.corp:0",
        "http://proxy.corp/path",
        "http://proxy.corp:3128?x=1",
        "http://proxy corp:3128",
        "http://user:hunter2@proxy.corp:3128",
    ],
)
@pytest.mark.parametrize("name", ["proxy", "proxies"])
def test_url_that_is_no_proxys_is_a_configuration_error_without_it(make: Make, url: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**{name: url if name == "proxy" else {"kit": url}})
    assert caught.value.field == ("proxy" if name == "proxy" else "proxies.kit")
    assert "hunter2" not in str(caught.value)


async def test_credentials_that_nobody_would_get_or_that_are_none_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"proxy\.corp:3128") as caught:
        make(proxy="http://proxy.corp:3128", proxy_credentials={"other.corp:3128": SecretStr(CREDENTIALS)})
    assert caught.value.field == "proxy_credentials"
    transport = make(
        proxy="http://proxy.corp:3128", proxy_credentials={"proxy.corp:3128": SecretStr("hunter2")}, allow=ALLOWED
    )
    with pytest.raises(ConfigError, match="user:password") as caught:
        await get(transport, "http://api.example/", "kit")
    assert "hunter2" not in str(caught.value)
    await transport.aclose()
