"""A runtime with one connection to a server of raw bytes, for calls that fail in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from attrs import define

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import (
    ApiSpec,
    Capability,
    Operation,
    Param,
    PersonalToken,
    ProviderSpec,
    Runtime,
    Scope,
    hookimpl,
)
from go_services_core.config import Config
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.rawserver import Answer, RawServer, http_answer, raw_server
from go_services_secrets_appkey.key import generate_key

OK = http_answer(200, b"{}", (("Content-Type", "application/json"),))
METHODS = {"safe": "GET", "idempotent": "PUT", "keyed": "POST", "neither": "POST"}


class LeapingClock(FrozenClock):
    """Whoever sleeps is awake at once, that much later; others get their turn meanwhile."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0)


@define
class Caller:
    """What a test calls with."""

    runtime: Runtime
    connection_id: str
    server: RawServer
    clock: Any
    told: list[Any]

    async def call(self, kind: str = "safe", **options: Any) -> Any:
        """Execute an operation whose repetition does what ``kind`` says."""
        if kind == "keyed":
            options.setdefault("idempotency_key", "key-1")
        return await self.runtime.execute(self.connection_id, f"call.{METHODS[kind].lower()}", {"name": "x"}, **options)

    @property
    def delays(self) -> list[float]:
        """Before each repetition: the seconds that its decision wants."""
        return [one.detail["delay"] for one in self.told if one.phase == "retry"]

    @property
    def sent(self) -> int:
        """Requests that the server has got."""
        return len(self.server.requests)


async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def hang_up(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Close the connection in place of an answer."""
    writer.close()


async def cut(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Half an answer."""
    writer.write(http_answer(200, b'{"id": 1}')[:-4])
    await writer.drain()
    writer.close()


@asynccontextmanager
async def calling(
    *answers: Answer,
    clock: Any = None,
    closed: bool = False,
    allowed: bool = True,
    settings: dict[str, Any] | None = None,
    plugins: dict[str, object] | None = None,
    transport: Callable[[Any], Any] | None = None,
    operations: tuple[Operation, ...] = (),
    capabilities: tuple[Capability, ...] = (),
    **api: Any,
) -> AsyncIterator[Caller]:
    """Open a runtime whose provider answers with ``answers``, the last one for ever; ``api`` are fields of its API.

    ``closed``: nobody listens. ``allowed``: whether the egress guard lets the provider through.
    """
    clock = clock or LeapingClock()
    async with raw_server(*answers) as server:
        name = Param("name", "body")
        made = [Operation(f"call.{method.lower()}", method, "/call", params=name) for method in ("PUT", "POST")]
        made.append(Operation("call.get", "GET", "/call", params=Param("name")))
        port = 1 if closed else server.port
        spec = ProviderSpec(
            id="raw",
            name="Raw",
            auth=PersonalToken(),
            api=ApiSpec(base_url=f"http://127.0.0.1:{port}", **{"idempotency_header": "Idempotency-Key", **api}),
            operations=(*made, *operations),
            capabilities=capabilities,
        )

        class Plugin:
            GS_CONTRACT = 1

            @hookimpl
            def gs_providers(self) -> list[ProviderSpec]:
                return [spec]

        config = Config.load(
            None,
            environ={},
            arguments={
                "secrets.appkey.key": generate_key(),
                "egress.allow": {"raw": [f"127.0.0.1:{port}"]} if allowed else {},
                **(settings or {}),
            },
        )
        manager = PluginManager.of(
            {"raw": Plugin(), "appkey": appkey, "sqlite": sqlite, "http": http, **(plugins or {})}
        )
        async with Runtime.open(config, plugins=manager, clock=clock, store=MemoryStore(clock=clock)) as runtime:
            connection = await runtime.establish(
                "raw", scope=Scope("user", "u1"), fields={"token": "a-token-of-the-test"}
            )
            told: list[Any] = []
            runtime.observe(told.append, name="test", inline=True)
            if transport is not None:
                runtime._core.transport = transport(runtime._core.transport)
            yield Caller(runtime, connection.id, server, clock, told)
