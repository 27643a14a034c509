"""A runtime with one connection to a server of a test's own, whose operations have transport kinds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from attrs import define, field

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import (
    ApiSpec,
    Basic,
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
from go_services_core.model import OperationResult
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.transport_specs import File
from go_services_secrets_appkey.key import generate_key

PASSWORD = "pa55-w0rd-of-integration"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LeapingClock(FrozenClock):
    """Whoever sleeps is awake at once, that much later."""


@define
class Site:
    """A server on loopback; a test gives it what answers each path."""

    url: str = ""
    handlers: dict[str, Handler] = field(factory=dict)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(factory=list)
    """Method, target, headers and body of each request that was read whole."""

    def on(self, path: str) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.handlers[path] = handler
            return handler

        return register

    async def serve(self, request: web.Request) -> web.StreamResponse:
        handler = self.handlers.get(request.path)
        if handler is None:
            return web.json_response({"error": "no such path"}, status=404)
        return await handler(request)

    async def note(self, request: web.Request) -> bytes:
        body = await request.read()
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        return body


@define
class Client:
    """What a test calls with."""

    runtime: Runtime
    connection_id: str
    clock: Any

    async def call(self, operation: str, params: dict[str, Any] | None = None, **options: Any) -> OperationResult:
        return await self.runtime.execute(self.connection_id, operation, params, **options)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@asynccontextmanager
async def open_client(
    url: str,
    *operations: Operation,
    basic: bool = False,
    settings: dict[str, Any] | None = None,
    plugins: dict[str, Any] | None = None,
    store: MemoryStore | None = None,
    clock: Any = None,
    connection_id: str | None = None,
    hosts: tuple[str, ...] = (),
    capabilities: tuple[Capability, ...] = (),
) -> AsyncIterator[Client]:
    """A runtime whose provider ``kinds`` has ``operations``."""

    class Provider:
        GS_CONTRACT = 1

        @hookimpl
        def gs_providers(self) -> list[ProviderSpec]:
            return [
                ProviderSpec(
                    id="kinds",
                    name="Kinds",
                    auth=Basic() if basic else PersonalToken(),
                    api=ApiSpec(base_url=f"{url}/api", hosts=hosts),
                    operations=operations,
                    capabilities=capabilities,
                )
            ]

    clock = clock or LeapingClock()
    config = Config.load(
        None,
        environ={},
        arguments={
            "secrets.appkey.key": KEY,
            "egress.allow": {"kinds": [url.removeprefix("http://"), *hosts]},
            "store.url": "sqlite:///:memory:",
            **(settings or {}),
        },
    )
    manager = PluginManager.of(
        {"appkey": appkey, "sqlite": sqlite, "http": http, "made": Provider(), **(plugins or {})}
    )
    async with Runtime.open(
        config, plugins=manager, clock=clock, store=store or MemoryStore(clock=clock), migrate=True
    ) as runtime:
        if connection_id is None:
            fields = (
                {"username": SecretStr("isu&co@acme"), "password": SecretStr(PASSWORD)}
                if basic
                else {"token": SecretStr("tok-of-the-connection")}
            )
            made = await runtime.establish("kinds", scope=Scope("user", "u1"), fields=fields)
            connection_id = made.id
        yield Client(runtime, connection_id, clock)


KEY = generate_key()


def body_params(*names: str, type: Any = "string") -> tuple[Param, ...]:
    return tuple(Param(name, "body", type) for name in names)


DATA = os.urandom(300_000)
"""A file's content."""


def upload(protocol: str, **record: object) -> Operation:
    return Operation(
        "put",
        "POST",
        "/upload",
        params=(Param("name", "body"), Param("size", "body", "integer")),
        call=File(direction="upload", protocol=protocol, **record),  # type: ignore[arg-type]
    )
