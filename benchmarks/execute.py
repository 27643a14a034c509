"""``Runtime.execute`` against a loopback server in another process, beside raw aiohttp, Authlib and requests-oauthlib.

Every side signs with the same bearer token, reads the same answer and parses its JSON. Ours runs with everything on:
SQLite store, sealed credential, cached connection, permit, a declared rate budget, egress guard, retries, an observer.
Peers: aiohttp with one kept session; Authlib's ``AsyncOAuth2Client`` on httpx2, one kept client; requests-oauthlib's
``OAuth2Session``, one kept session, which has no other way than one call after the other.
"""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from go_services_core import (
    ApiSpec,
    Capability,
    ObserverSpec,
    Operation,
    Param,
    PersonalToken,
    ProviderSpec,
    Ref,
    Runtime,
    Scope,
    SecretStr,
    hookimpl,
)
from go_services_core.call_specs import RateBudget, Window
from go_services_core.config import Config
from go_services_core.model import Observation
from go_services_core.plugins import PluginManager

from . import server
from .harness import Result, alternate, alternate_async, over, plain, ratio

CALLS = {1: 1000, 64: 3000}
CALLS_SLOW = {1: 300, 64: 700}
FIRST, LAST = 10_000, 100_000
"""Calls between which the memory may not grow."""


def watcher(settings: None, env: object) -> Callable[[Observation], None]:
    """An observer that does as little as one can."""
    return _watch


def _watch(event: Observation) -> None: ...


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
                api=ApiSpec(
                    base_url=self._url, budget=RateBudget(windows=(Window(10_000_000, 60), Window(500_000_000, 3600)))
                ),
                capabilities=Capability("items.read"),
                operations=Operation(
                    "items.list", "GET", "/items", capability="items.read", params=Param("per_page", type="integer")
                ),
            )
        ]

    @hookimpl
    def gs_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(id="watcher", factory=Ref("benchmarks.execute:watcher"))]


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
            target=60.0,
        )
        if concurrency == 1
        else ratio(
            "execute-throughput-64",
            better="higher",
            unit="calls/s",
            samples=ours,
            peer_samples=raw,
            peer_name="raw aiohttp",
            target=0.5,
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
    """All comparisons, in the same run."""
    return [*asyncio.run(_measure()), *_blocking()]


def _blocking() -> list[Result]:
    """Beside requests-oauthlib, one call after the other on both sides."""
    from requests_oauthlib import OAuth2Session

    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # it refuses plain http, which the benchmark's server speaks
    calls = 200
    with server.running() as url, asyncio.Runner() as loop:
        ours_open = _ours(url)
        call = loop.run(ours_open.__aenter__())
        try:
            with OAuth2Session(token={"access_token": "a-token-for-the-benchmark", "token_type": "bearer"}) as session:
                session.trust_env = False

                def theirs() -> float:
                    began = time.perf_counter()
                    for _ in range(calls):
                        session.get(url + "/items?per_page=8").json()
                    return calls / (time.perf_counter() - began)

                rates = alternate(lambda: loop.run(_rate(call, calls, 1)), theirs)
        finally:
            loop.run(ours_open.__aexit__(None, None, None))
    return [
        ratio(
            "execute-requests-oauthlib-1",
            better="higher",
            unit="calls/s",
            samples=rates[0],
            peer_samples=rates[1],
            peer_name="requests-oauthlib",
            target=1.0,
        )
    ]


def execute_memory() -> list[Result]:
    """How much the process grows from the 10,000th call to the 100,000th, 64 at a time."""
    return asyncio.run(_memory())


async def _memory() -> list[Result]:
    with server.running() as url:
        async with _ours(url) as call:
            await _rate(call, FIRST, 64)
            before = _resident()
            await _rate(call, LAST - FIRST, 64)
            grown = (_resident() - before) / 2**20
    return [plain("execute-memory", unit="MiB", samples=[grown], target=5.0)]


def _resident() -> int:
    """Bytes of the process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"execute": execute, "execute-memory": execute_memory}
