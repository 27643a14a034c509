"""An application against the sandbox: real server, real database file, real key; only the clock stands still."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ApiKey, Basic, Identity, Operation, PersonalToken, ProviderSpec, Runtime, Scope, hookimpl
from go_services_core.clock import SystemClock
from go_services_core.config import Config
from go_services_core.http import InboundRequest
from go_services_core.model import Connection, ConnectStart, SealedCredential
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.sandbox import Sandbox
from go_services_core.testing.sandbox.webhooks import sign
from go_services_secrets_appkey.key import generate_key

from .list_server import Lists, lists

REDIRECT = "http://127.0.0.1/callback"


class QuietClock(FrozenClock):
    """Stands still also while somebody sleeps, but lets the loop go on for a moment."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.002))


class Providers:
    """A plugin with the sandbox as every kind of provider."""

    GS_CONTRACT = 1

    def __init__(self, sandbox: Sandbox) -> None:
        oauth = sandbox.spec()
        me = Operation("me", "GET", "/userinfo")
        self.specs = {
            "sandbox": oauth,
            "keyed": evolve(oauth, id="keyed", auth=ApiKey(), identity=Identity(url="/private/key")),
            "basic": evolve(oauth, id="basic", auth=Basic(), identity=Identity(url="/private/basic")),
            "personal": ProviderSpec(
                id="personal",
                name="Personal",
                auth=PersonalToken(),
                api=oauth.api,
                identity=Identity(url="/userinfo"),
                operations=(me,),
            ),
        }

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return list(self.specs.values())


class App:
    """Opens any number of runtimes on one database, and does what a browser would do."""

    template: Path | None = None
    """A migrated database, to begin with a copy of it; None begins without a file."""

    def __init__(self, sandbox: Sandbox, clock: Any, folder: Path, store: MemoryStore | None) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.store = store
        self.database = folder / "app.db"
        self.key = generate_key()
        self.providers = Providers(sandbox)
        self.plugins: dict[str, object] = {"appkey": appkey, "sqlite": sqlite, "http": http, "made": self.providers}
        host = urlsplit(sandbox.url).netloc
        sections = sandbox.config()
        self.settings: dict[str, Any] = {
            "runtime": sections["runtime"],
            "providers.sandbox": sections["providers"]["sandbox"],
            "providers.keyed.webhook_secrets": [sandbox.webhook_secret.reveal()],
            "store.url": f"sqlite:///{self.database}",
            "secrets.appkey.key": self.key,
            "egress.allow": {id: [host] for id in self.providers.specs},
        }

    def set(self, provider_id: str = "sandbox", **changes: Any) -> None:
        """Change fields of a provider's record. Other operations than the sandbox's know no subscriptions."""
        if "operations" in changes:
            changes.setdefault("subscriptions", ())
        self.providers.specs[provider_id] = evolve(self.providers.specs[provider_id], **changes)

    def config(self, settings: Mapping[str, Any] | None = None) -> Config:
        return Config.load(None, environ={}, arguments={**self.settings, **(settings or {})})

    def manager(self, plugins: Mapping[str, object] | None = None) -> PluginManager:
        return PluginManager.of({**self.plugins, **(plugins or {})})

    def open(
        self, *, settings: Mapping[str, Any] | None = None, plugins: Mapping[str, object] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Runtime]:
        given = {"clock": self.clock, "store": self.store, "migrate": True, **options}
        is_sqlite = self.store is None and self.settings["store.url"] == f"sqlite:///{self.database}"
        if self.template and is_sqlite and given["migrate"] and not self.database.exists():
            shutil.copy(self.template, self.database)
        return Runtime.open(self.config(settings), plugins=self.manager(plugins), **given)

    # --- what people and providers do ------------------------------------------------------------------------------

    async def begin(self, runtime: Runtime, who: str = "u1", **options: Any) -> tuple[ConnectStart, dict[str, str]]:
        """A consent up to the callback's parameters."""
        given = {"scope": Scope("user", who), "redirect_uri": REDIRECT, **options}
        start = await runtime.connect("sandbox", **given)
        return start, await self.sandbox.consent(start.url)

    async def connect(self, runtime: Runtime, who: str = "u1", **options: Any) -> Connection:
        start, params = await self.begin(runtime, who, **options)
        return await runtime.complete(params, binding=start.binding)

    def webhook(self, body: bytes, *, id: str = "msg_1", **headers: str) -> InboundRequest:
        """A delivery with a right signature; ``headers`` (with _ for -) win, one that is empty is left out."""
        stamp = int(self.clock.now().timestamp())
        own = {
            "Content-Type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(self.sandbox.webhook_secret, id, stamp, body),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        pairs = tuple((name, value) for name, value in own.items() if value)
        return InboundRequest("POST", "/webhooks/sandbox?from=test", pairs, body)

    # --- what the database holds -----------------------------------------------------------------------------------

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read, or change, the database past the runtime."""
        with sqlite3.connect(self.database) as connection:
            found = connection.execute(sql, values).fetchall()
        connection.close()
        return found

    def age(self, seconds: float) -> None:
        """Let time pass for leases and for attempts to refresh, which go by the database's clock."""
        if self.store is not None:
            back = timedelta(seconds=seconds)
            for hold in self.store._tables.holds.values():
                hold.expires_at = hold.expires_at and hold.expires_at - back
            for intent in self.store._tables.intents.values():
                intent.sent_at -= back
                intent.settled_at = intent.settled_at and intent.settled_at - back
                intent.retry_at = intent.retry_at and intent.retry_at - back
            return
        for table, columns in (
            ("service_leases", ("expires_at",)),
            ("service_refresh_intents", ("sent_at", "settled_at", "retry_at")),
        ):
            for column in columns:
                past = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '-{seconds} seconds') || '000'"
                self.rows(f"UPDATE {table} SET {column} = {past} WHERE {column} IS NOT NULL")

    async def events(self, runtime: Runtime) -> list[str]:
        """The names of all committed events, in alphabetical order: ids made while time stands still have none.

        Those of grants, which accompany others, are left to :meth:`grant_events`.
        """
        return [name for name in await self.all_events(runtime) if not name.startswith("grant.")]

    async def grant_events(self, runtime: Runtime) -> list[str]:
        return [name for name in await self.all_events(runtime) if name.startswith("grant.")]

    async def all_events(self, runtime: Runtime) -> list[str]:
        listed = await runtime._core.store.queues.list("outbox")
        return sorted(item.name for item in listed.items)

    async def stored(self, runtime: Runtime, connection_id: str) -> tuple[Connection, SealedCredential | None]:
        return await runtime._core.store.connections.load(connection_id)

    def secrets(self, prefix: str) -> set[str]:
        """What the sandbox issued so far: ``sbx_at_`` are access tokens, ``sbx_rt_`` refresh tokens."""
        return {secret for secret in self.sandbox.issued_secrets() if secret.startswith(prefix)}

    def content(self) -> bytes:
        """Every byte of the database, its log included."""
        return b"".join(path.read_bytes() for path in sorted(self.database.parent.glob("app.db*")))


@pytest.fixture(autouse=True, scope="session")
def _migrated(sqlite_template: Path) -> None:
    App.template = sqlite_template


@pytest.fixture
def clock() -> QuietClock:
    return QuietClock()


@pytest.fixture
async def sandbox(clock: QuietClock) -> AsyncIterator[Sandbox]:
    async with Sandbox(clock=clock) as running:
        yield running


@pytest.fixture
async def app(sandbox: Sandbox, clock: QuietClock, tmp_path: Path) -> App:
    """An application on a SQLite file."""
    return App(sandbox, clock, tmp_path, None)


@pytest.fixture(params=["sqlite", "memory"])
async def either(request: pytest.FixtureRequest, sandbox: Sandbox, clock: QuietClock, tmp_path: Path) -> App:
    """An application on each store in turn."""
    return App(sandbox, clock, tmp_path, MemoryStore(clock=clock) if request.param == "memory" else None)


@pytest.fixture
async def runtime(app: App) -> AsyncIterator[Runtime]:
    async with app.open() as opened:
        yield opened


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[App]:
    """An application and a sandbox in real time, for races."""
    clock = SystemClock()
    async with Sandbox(clock=clock) as running:
        yield App(running, clock, tmp_path, None)


@pytest.fixture
def counted(sandbox: Sandbox) -> Callable[[], Counter[str]]:
    """The provider's requests since the last look."""
    seen: Counter[str] = Counter()

    def look() -> Counter[str]:
        nonlocal seen
        new = Counter(sandbox.requests)
        new.subtract(seen)
        seen = Counter(sandbox.requests)
        return +new

    return look


@pytest.fixture
async def server() -> AsyncIterator[Lists]:
    """A provider of lists."""
    async with lists() as running:
        yield running


@pytest.fixture
def lists_app(app: App, server: Lists) -> Callable[..., AbstractAsyncContextManager[Runtime]]:
    """Opens a runtime that knows the provider of lists."""

    def opened(**settings: Any) -> AbstractAsyncContextManager[Runtime]:
        given = {"egress.allow.lists": [server.url.removeprefix("http://")], **settings}
        return app.open(settings=given, plugins={"lists": server})

    return opened
