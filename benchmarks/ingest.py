"""Webhook ingest over HTTP, and the worker that drains it, on SQLite with ``synchronous=FULL``.

Every side is the same aiohttp handler on a loop of its own in this process; 64 connections of another process post the
same deliveries of 1 KiB, each with an id of its own. Ours verifies, seals and stores each durably before it answers.
Peers: the handler that reads the body and answers; ours, which verifies and seals, with a store that keeps nothing; and
one that verifies alike and stores a row, as one would write it, with a commit for each request on a connection for each
thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

from go_services_core import ApiSpec, HmacWebhook, InboundRequest, PersonalToken, ProviderSpec, Runtime, hookimpl
from go_services_core.clock import SystemClock, uuid7
from go_services_core.config import Config
from go_services_core.delivery_specs import Burst
from go_services_core.model import Accepted, InboxDelivery
from go_services_core.plugins import PluginManager

from .harness import Result, alternate_async, plain, ratio

CONNECTIONS = 64
REQUESTS = 3000
PAIRS = 7
ITEMS = 10_000
BATCH = 500
SECRET = "bench-secret-of-the-webhooks"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]
_clock = SystemClock()


class Bench:
    """A provider with Standard Webhooks' form of deliveries."""

    GS_CONTRACT = 1

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        webhook = HmacWebhook(
            signature_header="webhook-signature",
            encoding="base64",
            prefix="v1,",
            signed=("id", "timestamp", "body"),
            id_header="webhook-id",
            timestamp_header="webhook-timestamp",
            event_field="type",
        )
        api = ApiSpec(base_url="https://bench.example")
        return [ProviderSpec(id="bench", name="Bench", auth=PersonalToken(), api=api, webhook=webhook)]


@asynccontextmanager
async def _runtime(folder: Path) -> AsyncIterator[Runtime]:
    import go_services_secrets_appkey.plugin as appkey
    import go_services_store_sqlite.plugin as sqlite
    import go_services_transport_http.plugin as http
    from go_services_secrets_appkey.key import generate_key

    settings = {
        "store.url": f"sqlite:///{folder / 'bench.db'}",
        "secrets.appkey.key": generate_key(),
        "runtime.allow_plaintext_secrets": True,
        "providers.bench.webhook_secrets": [SECRET],
        "worker.batch": BATCH,
    }
    plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http, "bench": Bench()})
    async with Runtime.open(Config.load(None, environ={}, arguments=settings), plugins=plugins, migrate=True) as opened:
        yield opened


def ours(runtime: Runtime) -> Handler:
    """As the how-to has it."""

    async def receive(request: web.Request) -> web.Response:
        inbound = InboundRequest(request.method, request.raw_path, tuple(request.headers.items()), await request.read())
        await runtime.accept_webhook("bench", inbound)
        return web.Response(status=204)

    return receive


async def bare(request: web.Request) -> web.Response:
    """The same handler without any of it."""
    await request.read()
    return web.Response(status=204)


@asynccontextmanager
async def without_storage(folder: Path) -> AsyncIterator[Handler]:
    """Ours without the insert: nothing is kept, and nobody waits for a commit."""

    async def accept(delivery: InboxDelivery, *, burst: Burst | None = None) -> Accepted:
        return Accepted(id=delivery.id)

    await asyncio.to_thread(folder.mkdir)
    async with _runtime(folder) as runtime:
        runtime._core.store.queues.accept = accept  # type: ignore[method-assign]
        yield ours(runtime)


@asynccontextmanager
async def committing(folder: Path) -> AsyncIterator[Handler]:
    """A commit for each request."""
    path = folder / "plain.db"
    with sqlite3.connect(path) as first:
        first.execute("PRAGMA journal_mode = WAL")
        first.execute("CREATE TABLE deliveries (id TEXT PRIMARY KEY, delivery_id TEXT UNIQUE, headers TEXT, body BLOB)")
    first.close()
    local = threading.local()
    opened: list[sqlite3.Connection] = []

    def insert(id: str, headers: str, body: bytes) -> None:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=30
            )
            connection.execute("PRAGMA synchronous = FULL")
            opened.append(connection)
        connection.execute(
            "INSERT INTO deliveries VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (uuid7(_clock), id, headers, body)
        )

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        id, stamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        if not hmac.compare_digest(_signature(id, stamp, body), request.headers["webhook-signature"]):
            return web.Response(status=401)
        await asyncio.to_thread(insert, id, json.dumps(list(request.headers.items())), body)
        return web.Response(status=204)

    try:
        yield receive
    finally:
        for connection in opened:
            connection.close()


def _signature(id: str, stamp: str, body: bytes) -> str:
    digest = hmac.digest(SECRET.encode(), b".".join((id.encode(), stamp.encode(), body)), hashlib.sha256)
    return f"v1,{b64encode(digest).decode()}"


@asynccontextmanager
async def _served(handler: Handler) -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_post("/hooks", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _load(port: int) -> list[float]:
    """Requests a second, and the median seconds of an answer, as another process saw them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.ingest", str(port), stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    rate, median = json.loads(out)
    return [rate, median]


async def _client(port: int) -> None:
    body = json.dumps({"type": "item.created", "data": "x" * 980}).encode()
    stamp = str(int(time.time()))
    run = os.urandom(6).hex()
    numbers = iter(range(REQUESTS))
    requests = []
    for number in numbers:
        id = f"{run}-{number}"
        lines = (
            "POST /hooks HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"webhook-id: {id}",
            f"webhook-timestamp: {stamp}",
            f"webhook-signature: {_signature(id, stamp, body)}",
        )
        head = "\r\n".join((*lines, "", ""))
        requests.append(head.encode() + body)
    left = iter(requests)
    times: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in left:
            began = time.perf_counter()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 204"), answer
            times.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    print(json.dumps([REQUESTS / (time.perf_counter() - began), statistics.median(times)]))


async def _working(runtime: Runtime) -> None:
    while True:
        await runtime.drain()
        await asyncio.sleep(0.05)


async def _nothing(event: Any, context: Any) -> None:
    """A handler with nothing to do."""


async def _measure() -> list[Result]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runtime = await stack.enter_async_context(_runtime(folder))
        await runtime.on("webhook.*", _nothing, name="bench")
        port = await stack.enter_async_context(_served(ours(runtime)))
        bare_port = await stack.enter_async_context(_served(bare))
        unstored = await stack.enter_async_context(without_storage(folder / "unstored"))
        unstored_port = await stack.enter_async_context(_served(unstored))
        plain_port = await stack.enter_async_context(_served(await stack.enter_async_context(committing(folder))))
        medians: dict[bool, list[float]] = {False: [], True: []}

        async def stored() -> float:
            rate, median = await _load(port)
            medians[False].append(median)
            return rate

        async def other(of: int) -> float:
            return (await _load(of))[0]

        async def with_worker() -> float:
            await runtime.drain()
            working = asyncio.create_task(_working(runtime))
            rate, median = await _load(port)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            medians[True].append(median)
            return rate

        for one in (port, bare_port, unstored_port, plain_port):
            await _load(one)
        mine, read_only, unkept, committed, _ = await alternate_async(
            stored,
            lambda: other(bare_port),
            lambda: other(unstored_port),
            lambda: other(plain_port),
            with_worker,
            pairs=PAIRS,
        )
    rates = [
        ratio(
            name,
            better="higher",
            unit="req/s",
            samples=mine,
            peer_samples=samples,
            peer_name=peer,
            target=target,
        )
        for name, samples, peer, target in (
            ("ingest-bare", read_only, "a handler that reads the body and answers", 0.5),
            ("ingest-unstored", unkept, "the handler without storage: verify and seal", 0.5),
            ("ingest-commits", committed, "verify and commit per request, WAL FULL", 2.0),
        )
    ]
    answer = ratio(
        "ingest-answer-worker",
        better="lower",
        unit="ms",
        samples=[seconds * 1000 for seconds in medians[True]],
        peer_samples=[seconds * 1000 for seconds in medians[False]],
        peer_name="median answer without a worker",
        target=1.5,
    )
    return [*rates, answer]


def ingest() -> list[Result]:
    """64 connections against each side."""
    return asyncio.run(_measure())


async def _drained() -> list[float]:
    """Deliveries a second from the inbox through the outbox and one handler that has nothing to do."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        async with _runtime(Path(folder)) as runtime:
            await runtime.on("webhook.*", _nothing, name="bench")
            for _ in range(PAIRS):
                await asyncio.gather(*(_fill(runtime, ITEMS // CONNECTIONS) for _ in range(CONNECTIONS)))
                began = time.perf_counter()
                done = await runtime.drain()
                samples.append(done.deliveries / (time.perf_counter() - began))
                assert done.deliveries == done.events == ITEMS // CONNECTIONS * CONNECTIONS
    return samples


async def _fill(runtime: Runtime, number: int) -> None:
    body = json.dumps({"type": "item.created", "data": "x" * 980}).encode()
    stamp = str(int(time.time()))
    for _ in range(number):
        id = uuid7(_clock)
        headers = (("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", _signature(id, stamp, body)))
        await runtime.accept_webhook("bench", InboundRequest("POST", "/hooks", headers, body))


def drain() -> list[Result]:
    """One worker, batches of 500."""
    samples = asyncio.run(_drained())
    return [plain("drain-sqlite", unit="items/s", samples=samples, target=5000, better="higher")]


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"ingest": ingest, "drain-sqlite": drain}

if __name__ == "__main__":
    asyncio.run(_client(int(sys.argv[1])))
