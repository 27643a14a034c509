"""The guard in the transport: names that resolve to private addresses, pools, proxies."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from go_services_core.errors import BadInput, ConnectFailed, EgressDenied
from go_services_core.http import HttpRequest
from go_services_core.testing.rawserver import raw_server
from go_services_transport_http.pools import Connector, Exchange, NotPublic, exchange_under_way
from go_services_transport_http.settings import TransportSettings
from go_services_transport_http.transport import HttpTransport

from .names import Names

Make = Callable[..., HttpTransport]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that the process connects to; those outside loopback are refused at the socket."""
    addresses: list[str] = []
    real = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def connect(self: Any, sock: socket.socket, address: Any) -> None:
        addresses.append(address[0])
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(111, "refused by the test")
        await real(self, sock, address)

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", connect)
    return addresses


async def refused(make: Make, url: str, names: Names, provider_id: str = "other") -> EgressDenied:
    transport = make(resolver=lambda: names)
    try:
        with pytest.raises(EgressDenied) as caught:
            await transport.send(HttpRequest("POST", url, (), b"x"), provider_id=provider_id)
    finally:
        await transport.aclose()
    assert caught.value.sent is False
    return caught.value


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["93.184.216.34", "127.0.0.1"],
        ["2606:4700:4700::1111", "93.184.216.34", "10.0.0.1"],
        ["fe80::1%eth0"],
    ],
)
async def test_name_with_any_private_address_is_refused_before_dialling(
    make: Make, dialled: list[str], addresses: list[str]
) -> None:
    error = await refused(make, "https://evil.example/", Names(evil_example=[addresses]))
    assert not dialled
    assert "other may not reach evil.example:443" in str(error)
    assert not any(address in str(error) for address in addresses)


async def test_real_look_up_of_localhost_is_refused(make: Make, dialled: list[str]) -> None:
    transport = make()
    with pytest.raises(EgressDenied):
        await transport.send(HttpRequest("GET", "https://localhost/"), provider_id="other")
    assert not dialled
    await transport.aclose()


async def test_rebinding_name_is_dialled_only_at_the_checked_address(make: Make, dialled: list[str]) -> None:
    names = Names(rebind_example=[["93.184.216.34"], ["127.0.0.1"]])
    transport = make(resolver=lambda: names)
    async with raw_server() as server:
        url = server.url(scheme="https", host="rebind.example")
        with pytest.raises(ConnectFailed) as caught:
            await transport.send(HttpRequest("GET", url), provider_id="other")
        assert "93.184.216.34" not in str(caught.value)
        assert names.asked == ["rebind.example"]
        assert dialled
        assert set(dialled) == {"93.184.216.34"}
        assert server.connections == 0
    await transport.aclose()


async def test_name_that_turns_private_is_refused_on_the_next_look_up(make: Make, dialled: list[str]) -> None:
    names = Names(rebind_example=[["93.184.216.34"], ["127.0.0.1"]])
    for expected in (ConnectFailed, EgressDenied):
        transport = make(resolver=lambda: names)
        with pytest.raises(expected):
            await transport.send(HttpRequest("GET", "https://rebind.example/"), provider_id="other")
        await transport.aclose()
    assert set(dialled) == {"93.184.216.34"}


async def test_look_up_by_an_allowed_provider_does_not_open_the_way_for_another(make: Make) -> None:
    names = Names(intra_example=[["127.0.0.1"]])
    async with raw_server() as server:
        transport = make(
            allow={"kit": (f"intra.example:{server.port}",), "twin": ("intra.example:*",)}, resolver=lambda: names
        )
        url = server.url(host="intra.example")
        for provider_id in ("kit", "twin"):
            assert (await transport.send(HttpRequest("GET", url), provider_id=provider_id)).status == 200
        for refused_url in (url, url.replace("http:", "https:")):
            with pytest.raises(EgressDenied):
                await transport.send(HttpRequest("GET", refused_url), provider_id="other")
        assert len(server.requests) == 2
        assert server.connections == 1
        await transport.aclose()


async def test_peer_is_checked_even_when_the_resolver_let_it_through() -> None:
    """The public pool over a resolver whose answers nobody filtered."""
    async with raw_server() as server:
        connector = Connector("public", TransportSettings(), Names(evil_example=[["127.0.0.1"]]), True)
        connector._resolver = Names(evil_example=[["127.0.0.1"]])
        exchange = Exchange("GET", "evil.example", "other", 30.0)
        exchange_under_way.set(exchange)
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(NotPublic):
                await session.get(server.url(host="evil.example"))
        assert exchange.sent is False
        assert not server.requests


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.0.1.",
        "localhost.",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "%31%32%37.0.0.1",
        "public.example@127.0.0.1",
        "user:secret@public.example",
        "@public.example",
    ],
)
async def test_disguised_host_is_refused_without_a_look_up(make: Make, dialled: list[str], host: str) -> None:
    names = Names()
    error = await refused(make, f"https://{host}/", names)
    assert not names.asked
    assert not dialled
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "url", ["https://", "https:///path", "https://h:99999/", "https://h:x/", "https://[::1/", "https://[v1.a]/", "//h/"]
)
async def test_url_without_a_usable_host_is_refused(make: Make, dialled: list[str], url: str) -> None:
    transport = make()
    with pytest.raises((BadInput, EgressDenied)):
        await transport.send(HttpRequest("GET", url), provider_id="other")
    assert not dialled
    await transport.aclose()


async def test_proxy_environment_is_ignored(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server() as proxy, raw_server() as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.setenv("NO_PROXY", "10.0.0.1")
        monkeypatch.delenv("no_proxy", raising=False)
        transport = make()
        assert (await transport.send(HttpRequest("GET", server.url()), provider_id="kit")).status == 200
        with pytest.raises(EgressDenied):
            await transport.send(HttpRequest("GET", "https://10.0.0.1/"), provider_id="other")
        assert not proxy.requests
        assert len(server.requests) == 1
        await transport.aclose()


async def test_netrc_is_ignored(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with raw_server() as server:
        transport = make()
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert not any(line.lower().startswith("authorization") for line in server.lines())
        await transport.aclose()
