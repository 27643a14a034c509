"""``Runtime.execute`` against a loopback server in another process, beside raw aiohttp and Authlib on httpx2.

Every side signs with the same bearer token, reads the same answer and parses its JSON. Ours runs with everything on:
SQLite store, sealed credential, cached connection, permit, egress guard. Peers: aiohttp with one kept session;
Authlib's ``AsyncOAuth2Client`` on httpx2, one kept client.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from go_services_core import (
    ApiSpec,
    Capability,
    Operation,
    Param,
    PersonalToken,
    ProviderSpec,
    Runtime,
    Scope,
    SecretStr,
    hookimpl,
)
from go_services_core.config import Config
from go_services_core.plugins import PluginManager

from . import server
from .harness import Result, alternate_async, over, ratio

CALLS = {1: 1000, 64: 3000}
CALLS_SLOW = {1: 300, 64: 700}


class BenchPlugin:
    """A provider at the benchmark's server."""

    GS_CONTRACT = 1

    def __init__(self, url: str) -> None:
        self._url = url

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [
            ProviderSpec(
                id="bench",
                name="Bench",
                auth=PersonalToken(),
                api=ApiSpec(base_url=self._url),
                capabilities=Capability("items.read"),
                operations=Operation(
                    "items.list", "GET", "/items", capability="items.read", params=Param("per_page", type="integer")
                ),
            )
        ]


@asynccontextmanager
async def _ours(url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    import go_services_envelope  # noqa: F401  the sealer's import does not belong to the first call
    import go_services_secrets_appkey.plugin as appkey
    import go_services_store_sqlite.plugin as sqlite
    import go_services_transport_http.plugin as http
    from go_services_secrets_appkey.key import generate_key

    plugins = PluginManager.of({"bench": BenchPlugin(url), "appkey": appkey, "sqlite": sqlite, "http": http})
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load(
            None,
            environ={},
            arguments={
                "store.url": f"sqlite:///{Path(folder) / 'bench.db'}",
                "secrets.appkey.key": generate_key(),
                "egress.allow.bench": [url.removeprefix("http://")],
            },
        )
        async with Runtime.open(config, plugins=plugins, migrate=True) as runtime:
            connection = await runtime.establish(
                "bench", scope=Scope("user", "u1"), fields={"token": SecretStr("a-token-for-the-benchmark")}
            )

            async def call() -> Any:
                result = await runtime.execute(connection.id, "items.list", {"per_page": 8})
                return result.data

            yield call


@asynccontextmanager
async def _aiohttp(url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    import aiohttp

    headers = {"Authorization": "Bearer a-token-for-the-benchmark", "Accept": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:

        async def call() -> Any:
            async with session.get(url + "/items?per_page=8", headers=headers) as answer:
                return await answer.json()

        yield call


@asynccontextmanager
async def _authlib(url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    import httpx2
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    token = {"access_token": "a-token-for-the-benchmark", "token_type": "bearer"}
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
    async with AsyncOAuth2Client("client", "secret", token=token, limits=limits) as client:

        async def call() -> Any:
            answer = await client.get(url + "/items?per_page=8")
            return answer.json()

        yield call


async def _rate(call: Callable[[], Awaitable[Any]], calls: int, concurrency: int) -> float:
    """Calls a second."""
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return calls / (time.perf_counter() - began)


async def _measure() -> list[Result]:
    results: list[Result] = []
    with server.running() as url:
        async with _ours(url) as ours, _aiohttp(url) as raw, _authlib(url) as authlib:
            assert await ours() == await raw() == await authlib()
            for concurrency in (1, 64):
                calls, slow = CALLS[concurrency], CALLS_SLOW[concurrency]
                for side in (ours, raw, authlib):
                    await _rate(side, 200, concurrency)
                rates = await alternate_async(
                    lambda calls=calls, n=concurrency: _rate(ours, calls, n),  # type: ignore[misc]
                    lambda calls=calls, n=concurrency: _rate(raw, calls, n),  # type: ignore[misc]
                    lambda calls=slow, n=concurrency: _rate(authlib, calls, n),  # type: ignore[misc]
                )
                results += _compare(concurrency, *rates)
    return results


def _compare(concurrency: int, ours: list[float], raw: list[float], authlib: list[float]) -> list[Result]:
    first = (
        over(
            "execute-overhead-1",
            unit="µs/call",
            samples=[1e6 / rate for rate in ours],
            peer_samples=[1e6 / rate for rate in raw],
            peer_name="raw aiohttp",
            target=45.0,
        )
        if concurrency == 1
        else ratio(
            "execute-throughput-64",
            better="higher",
            unit="calls/s",
            samples=ours,
            peer_samples=raw,
            peer_name="raw aiohttp",
            target=0.65,
        )
    )
    second = ratio(
        f"execute-authlib-{concurrency}",
        better="higher",
        unit="calls/s",
        samples=ours,
        peer_samples=authlib,
        peer_name="Authlib on httpx2",
        target=2.3 if concurrency == 1 else 5.0,
    )
    return [first, second]


def execute() -> list[Result]:
    """All four comparisons, in the same run."""
    return asyncio.run(_measure())


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"execute": execute}
