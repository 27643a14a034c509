"""The egress guard under the whole runtime: it is on for every URL that a provider's record or answer names. P32, P33."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from go_services_core import ApiSpec, Identity, Scope
from go_services_core.errors import EgressDenied, ServicesError
from go_services_core.testing.rawserver import http_answer, raw_server

WHO = Scope("user", "u1")


def denials(error):
    """The refusals in an error and what caused it."""
    found = []
    while error is not None:
        if isinstance(error, EgressDenied):
            found.append(error)
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("what", ["execute", "paginate", "complete", "refresh", "establish"])
async def test_without_an_allowance_nothing_of_a_provider_on_loopback_is_reached(app, counted, what):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        start, params = await app.begin(runtime, "u2")
    counted()
    async with app.open(settings={"egress.allow": {}}) as runtime:

        async def paginate():
            async for _ in runtime.paginate(connection.id, "items.list"):
                pass

        calls = {
            "execute": lambda: runtime.execute(connection.id, "me"),
            "paginate": paginate,
            "complete": lambda: runtime.complete(params, binding=start.binding),
            "refresh": lambda: runtime.refresh(connection.id),
            "establish": lambda: runtime.establish("keyed", scope=WHO, fields={"key": app.sandbox.api_key}),
        }
        with pytest.raises(ServicesError) as caught:
            await calls[what]()
        denied = denials(caught.value)[0]
        assert "127.0.0.1" in str(denied)
        assert counted() == {}


async def test_revocation_is_guarded_and_the_connection_ends_all_the_same(app, counted):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
    counted()
    async with app.open(settings={"egress.allow": {}}) as runtime:
        await runtime.disconnect(connection.id, reason="user asked")
        assert (await runtime.connection(connection.id)).status == "disconnected"
        assert counted() == {}


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "[::1]",
        "[fec0::1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "2130706433",
        "localhost",
    ],
)
async def test_api_on_a_private_address_is_refused_although_the_record_names_it(app, host):
    """P30: a record, or a tenant's base URL, is not an allowance."""
    app.set("personal", api=ApiSpec(base_url=f"https://{host}"), identity=Identity(url="/me"))
    async with app.open() as runtime:
        with pytest.raises(ServicesError) as caught:
            await runtime.establish("personal", scope=WHO, fields={"token": "hunter2"})
        assert denials(caught.value)
        assert not (await runtime.connections()).items


async def test_proxy_of_the_settings_is_used_with_its_credentials(app, runtime):
    connection = await app.connect(runtime)
    async with raw_server(http_answer(200, b'{"by": "proxy"}')) as proxy:
        host = f"127.0.0.1:{proxy.port}"
        settings = {
            "transport.proxies": {"sandbox": proxy.url("")},
            "transport.proxy_credentials": {host: "user:hunter2"},
        }
        async with app.open(settings=settings) as proxied:
            assert (await proxied.execute(connection.id, "me")).data == {"by": "proxy"}
        assert proxy.lines()[0] == f"GET {app.sandbox.url}/userinfo HTTP/1.1"
        assert any(line.startswith("Proxy-Authorization: Basic ") for line in proxy.lines())


async def test_end_of_the_runtime_lets_a_call_under_way_end_and_takes_no_more(app, runtime):
    connection = await app.connect(runtime)
    go_on = asyncio.Event()

    async def slow(request, writer):
        await go_on.wait()
        writer.write(http_answer(200, b'{"done": true}'))

    async with raw_server(slow) as server:
        api = evolve(app.providers.specs["sandbox"].api, base_url=server.url(""))
        app.set(api=api)
        allowed = [urlsplit(app.sandbox.url).netloc, f"127.0.0.1:{server.port}"]
        opening = app.open(settings={"egress.allow": {"sandbox": allowed}})
        ending = await opening.__aenter__()
        call = asyncio.ensure_future(ending.execute(connection.id, "me"))
        await asyncio.wait_for(server.arrived.wait(), 10)
        closed = asyncio.ensure_future(opening.__aexit__(None, None, None))
        for _ in range(100):
            await asyncio.sleep(0.002)
            assert not closed.done(), "it did not wait for the call"
        go_on.set()
        assert (await call).data == {"done": True}
        await asyncio.wait_for(closed, 10)
        assert len(server.requests) == 1
