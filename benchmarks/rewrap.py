"""Rewrapping with application keys on a SQLite file: as many data keys as rows, which is the most that can be.

``rewrap`` is the rate of ``Runtime.rewrap`` over 20,000 credentials; ``rewrap-100k`` are the seconds for 100,000 while
another task goes on executing calls. The rows are written past the runtime, sealed by a real sealer.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from go_services_core import Runtime, Scope, SecretStr
from go_services_core.clock import SystemClock, uuid7
from go_services_core.config import Config
from go_services_core.plugins import PluginManager
from go_services_core.protocols import PluginEnv
from go_services_core.runtime.bindings import credential
from go_services_core.runtime.payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION
from go_services_envelope import Sealer
from go_services_secrets_appkey.backend import open_backend
from go_services_secrets_appkey.key import generate_key
from go_services_secrets_appkey.settings import AppKeySettings

from . import server
from .execute import BenchPlugin
from .harness import Result, plain

ROWS: Final = 20_000
MANY: Final = 100_000
TURNS: Final = 5
PAYLOAD: Final = b'{"access_token":"' + b"t" * 900 + b'"}'
_clock = SystemClock()


def _opening(folder: Path, url: str, **arguments: Any) -> AbstractAsyncContextManager[Runtime]:
    import go_services_secrets_appkey.plugin as appkey
    import go_services_store_sqlite.plugin as sqlite
    import go_services_transport_http.plugin as http

    plugins = {"bench": BenchPlugin(url), "appkey": appkey, "sqlite": sqlite, "http": http}
    given = {
        "store.url": f"sqlite:///{folder / 'bench.db'}",
        "egress.allow.bench": [url.removeprefix("http://")],
        **{name.replace("__", "."): value for name, value in arguments.items()},
    }
    return Runtime.open(Config.load(None, environ={}, arguments=given), plugins=PluginManager.of(plugins), migrate=True)


async def _fill(database: Path, key: SecretStr, store_id: str, count: int) -> None:
    """Connections of as many users, each with a credential of 1 KiB under a data key of its own."""
    env = PluginEnv(clock=_clock, logger=logging.getLogger("bench"), resolve_secret=SecretStr)
    sealer = Sealer(open_backend(AppKeySettings(key=key), env), store_id=store_id, clock=_clock)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    connections, credentials = [], []
    for number in range(count):
        id, scope = uuid7(_clock), Scope("user", f"user-{number}")
        sealed = await sealer.seal(PAYLOAD, credential(id, 1, "bench", scope))
        connections.append((id, "bench", scope.type, scope.id, f"account-{number}", "active", "pat", now, now))
        name = (sealed.key.backend, sealed.key.key_id, sealed.key.key_version)
        form = (CREDENTIAL_FORMAT, CREDENTIAL_VERSION, "bearer", False, "active")
        credentials.append((uuid7(_clock), id, 1, sealed.ciphertext, *form, *name, now, now))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            """INSERT INTO service_connections (id, provider_id, scope_type, scope_id, external_account_id, status,
              auth_kind, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            connections,
        )
        connection.executemany(
            """INSERT INTO service_credentials (id, connection_id, version, encrypted_payload, payload_format,
              payload_version, token_type, refreshable, status, encryption_backend, encryption_key_id,
              encryption_version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            credentials,
        )


async def _rewrap(folder: Path, url: str, rows: int, *, calling: bool) -> tuple[float, int]:
    """Seconds for ``rows`` rows, and the calls that went on meanwhile."""
    old, new = generate_key(), generate_key()
    async with _opening(folder, url, secrets__appkey__key=old) as runtime:
        await _fill(folder / "bench.db", old, runtime._core.store.id, rows)
    both = {"secrets__appkey__key": new, "secrets__appkey__decrypt_only": [old]}
    async with _opening(folder, url, **both) as runtime:
        (first,) = (await runtime.connections(limit=1)).items
        done, calls = asyncio.Event(), 0

        async def call_on() -> None:
            nonlocal calls
            while not done.is_set():
                await runtime.execute(first.id, "items.list", {"per_page": 8})
                calls += 1

        task = asyncio.create_task(call_on()) if calling else None
        began = time.perf_counter()
        report = await runtime.rewrap(batch=500)
        took = time.perf_counter() - began
        done.set()
        if task is not None:
            await task
        assert report.complete
        assert sum(kind.done for kind in report.kinds) == rows
        return took, calls


def rewrap() -> list[Result]:
    """Rows a second, nothing else going on."""
    rates = []
    with server.running() as url:
        for _ in range(TURNS):
            with tempfile.TemporaryDirectory() as folder:
                took, _calls = asyncio.run(_rewrap(Path(folder), url, ROWS, calling=False))
            rates.append(ROWS / took)
    return [plain("rewrap", unit="rows/s", samples=rates, target=5000.0, better="higher")]


def rewrap_many() -> list[Result]:
    """Seconds for 100,000 rows while calls go on, and how many calls did."""
    with server.running() as url, tempfile.TemporaryDirectory() as folder:
        took, calls = asyncio.run(_rewrap(Path(folder), url, MANY, calling=True))
    return [
        plain("rewrap-100k", unit="s", samples=[took], target=600.0),
        plain("rewrap-100k-calls", unit="calls/s", samples=[calls / took], target=1.0, better="higher"),
    ]


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"rewrap": rewrap, "rewrap-100k": rewrap_many}
