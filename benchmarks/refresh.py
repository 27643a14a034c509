"""Tokens: taken while they are valid, renewed by one of many processes, and renewed ahead of time by thousands.

``token`` is ``Runtime.token`` on a cached credential. In ``refresh-storm`` 4 processes with 200 tasks each need one
token that has ended. ``refresh-10k`` renews 10,000 connections that end together with ``refresh.ahead``, at the limits
of the provider. The token endpoint is a process of its own and counts its requests; the stores are SQLite files, the
keys real, and every refresh token works once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from go_services_core import Runtime, Scope
from go_services_core.clock import SystemClock, uuid7
from go_services_core.config import Config
from go_services_core.model import TokenSet
from go_services_core.runtime import bindings
from go_services_core.runtime.payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION, encode_tokens
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.key import generate_key

from . import token_server
from .harness import Result, alternate_async, over, plain

CALLS: Final = 20_000
PROCESSES: Final = 4
TASKS: Final = 200
ROUNDS: Final = 9
CONNECTIONS: Final = 10_000
CONCURRENCY: Final = 16
RATE: Final = 150.0
"""Renewals a second that the provider allows."""
NEAR: Final = 0.95
"""The part of that rate which counts as reaching it: nobody may go above."""


def _arguments(folder: Path, url: str, key: str, **limits: Any) -> dict[str, Any]:
    """Settings of an application with one provider at ``url``, where every refresh token works once."""
    return {
        "runtime.allow_plaintext_secrets": True,
        "store.url": f"sqlite:///{folder / 'bench.db'}",
        "secrets.appkey.key": key,
        "egress.allow.bench": [url.removeprefix("http://")],
        "providers.bench": {
            "client_id": "client",
            "client_secret": "secret",
            "auth": {
                "kind": "oauth2_auth_code",
                "authorize_url": f"{url}/authorize",
                "token_url": f"{url}/token",
                "rotation": "single-use",
            },
            "api": {"base_url": url},
            **limits,
        },
    }


def _config(arguments: dict[str, Any]) -> Config:
    return Config.load(None, environ={}, arguments=arguments)


async def _fill(runtime: Runtime, database: Path, count: int, *, ended: bool) -> list[str]:
    """Connections with a credential each, sealed by the runtime's own sealer; made an hour ago if ``ended``."""
    core, clock = runtime._core, SystemClock()
    now = datetime.now(UTC)
    made = (now - timedelta(hours=1) if ended else now).strftime("%Y-%m-%d %H:%M:%S.%f")
    ends = (now if ended else now + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
    connections, credentials = [], []
    for number in range(count):
        id, scope = uuid7(clock), Scope("user", f"user-{number}")
        tokens = TokenSet(access_token=SecretStr(f"at-{number}-0"), refresh_token=SecretStr(f"rt-{number}-0"))
        sealed = await core.sealer.seal(encode_tokens(tokens), bindings.credential(id, 1, "bench", scope))
        account = (id, "bench", scope.type, scope.id, f"account-{number}", "active", "oauth2_auth_code", made, made)
        key = (sealed.key.backend, sealed.key.key_id, sealed.key.key_version)
        form = (CREDENTIAL_FORMAT, CREDENTIAL_VERSION, "bearer", ends, True, "active")
        connections.append(account)
        credentials.append((uuid7(clock), id, 1, sealed.ciphertext, *form, *key, made, made))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            """INSERT INTO service_connections (id, provider_id, scope_type, scope_id, external_account_id, status,
              auth_kind, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            connections,
        )
        connection.executemany(
            """INSERT INTO service_credentials (id, connection_id, version, encrypted_payload, payload_format,
              payload_version, token_type, expires_at, refreshable, status, encryption_backend, encryption_key_id,
              encryption_version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            credentials,
        )
    return [row[0] for row in connections]


# --- a token that is valid -----------------------------------------------------------------------------------------


async def _per_call(call: Callable[[], Any]) -> float:
    """Microseconds for one of many awaited calls."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - began) / CALLS * 1e6


async def _token(folder: Path) -> list[Result]:
    arguments = _arguments(folder, "http://127.0.0.1:9", generate_key().reveal())
    async with Runtime.open(_config({**arguments, "runtime.cache_seconds": 3600.0}), migrate=True) as runtime:
        (id,) = await _fill(runtime, folder / "bench.db", 1, ended=False)
        held = await runtime.token(id)

        async def bare() -> SecretStr:
            return held

        ours, peer = await alternate_async(lambda: _per_call(lambda: runtime.token(id)), lambda: _per_call(bare))
    return [over("token", unit="µs", samples=ours, peer_samples=peer, peer_name="a bare coroutine", target=5.0)]


def token() -> list[Result]:
    """Microseconds of a call on a cached credential."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_token(Path(folder)))


# --- one token, many who need it -----------------------------------------------------------------------------------


async def _stormed(arguments: dict[str, Any], connection_id: str) -> None:
    """A process: at each line of its input all tasks ask for the token; it prints when the last one had it."""
    async with Runtime.open(_config(arguments)) as runtime:
        await runtime.connection(connection_id)
        loop = asyncio.get_running_loop()
        print("ready", flush=True)
        while await loop.run_in_executor(None, sys.stdin.readline):
            runtime._core.forget(connection_id)
            done = await asyncio.gather(*(runtime.token(connection_id) for _ in range(TASKS)), return_exceptions=True)
            ended = time.time()
            tokens = {one.reveal() if isinstance(one, SecretStr) else repr(one) for one in done}
            print(json.dumps([ended, sorted(tokens)]), flush=True)


@contextmanager
def _processes(arguments: dict[str, Any], connection_id: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.refresh", json.dumps(arguments), connection_id]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)]
    try:
        assert [_line(process) for process in started] == ["ready"] * PROCESSES
        yield started
    finally:
        for process in started:
            process.communicate("")


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _committed(database: Path, version: int) -> float:
    """When that version was there, by the store's clock."""
    with closing(sqlite3.connect(database)) as connection:
        ((at,),) = connection.execute(
            """SELECT (julianday(settled_at) - 2440587.5) * 86400.0 FROM service_refresh_intents
            WHERE version = ? AND outcome = 'saved'""",
            (version - 1,),
        ).fetchall()
    return float(at)


def refresh_storm() -> list[Result]:
    """Milliseconds from the commit of the new token until every task of every process has it."""
    waits: list[float] = []
    requests = []
    with tempfile.TemporaryDirectory() as name, token_server.running() as server:
        folder = Path(name)
        arguments = _arguments(folder, server.url, generate_key().reveal())

        async def begin() -> str:
            async with Runtime.open(_config(arguments), migrate=True) as runtime:
                return (await _fill(runtime, folder / "bench.db", 1, ended=True))[0]

        id = asyncio.run(begin())
        with _processes(arguments, id) as processes:
            for round in range(ROUNDS):
                before = server.requests()
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write("go\n")
                    process.stdin.flush()
                said = [json.loads(_line(process)) for process in processes]
                requests.append(server.requests() - before)
                tokens = {token for _, seen in said for token in seen}
                assert tokens == {f"at-0-{round + 1}"}, tokens  # everybody has the new one
                waits.append((max(ended for ended, _ in said) - _committed(folder / "bench.db", round + 2)) * 1000)
                _end_all(folder / "bench.db")
    return [
        plain("refresh-storm-requests", unit="requests", samples=requests, target=1.0),
        plain("refresh-storm-after-commit", unit="ms", samples=waits, target=100.0),
    ]


def _end_all(database: Path) -> None:
    past = datetime.now(UTC) - timedelta(seconds=10)
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(
            "UPDATE service_credentials SET created_at = ?, expires_at = ? WHERE status = 'active'",
            ((past - timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S.%f"), past.strftime("%Y-%m-%d %H:%M:%S.%f")),
        )


# --- thousands that end together -----------------------------------------------------------------------------------


def _resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2


async def _renew_all(arguments: dict[str, Any], folder: Path, server: token_server.TokenServer) -> list[Result]:
    filling = [sys.executable, "-m", "benchmarks.refresh", "fill", json.dumps(arguments), str(folder / "bench.db")]
    await asyncio.to_thread(subprocess.run, filling, check=True)  # what it needs is not this process's memory
    async with Runtime.open(_config(arguments)) as runtime:
        before, began = server.requests(), time.perf_counter()
        half, done = 0.0, 0
        while done < CONNECTIONS:
            renewed = await runtime.run_due("refresh.ahead", CONNECTIONS // 20)
            assert renewed
            done += renewed
            if not half and done >= CONNECTIONS // 2:
                half = _resident()
        took = time.perf_counter() - began
        grown = _resident() - half
    requests = server.requests() - before
    return [
        plain("refresh-10k-rate", unit="1/s", samples=[done / took], target=NEAR * RATE, better="higher"),
        plain("refresh-10k-duplicates", unit="requests", samples=[requests - CONNECTIONS], target=0.0),
        plain("refresh-10k-growth", unit="MiB", samples=[grown], target=5.0),
    ]


def refresh_10k() -> list[Result]:
    """Renewals a second, requests too many, and what the memory of the last half has grown by."""
    with tempfile.TemporaryDirectory() as name, token_server.running() as server:
        limits = {"refresh_concurrency": CONCURRENCY, "refresh_rate": RATE}
        arguments = _arguments(Path(name), server.url, generate_key().reveal(), **limits)
        return asyncio.run(_renew_all(arguments, Path(name), server))


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "token": token,
    "refresh-storm": refresh_storm,
    "refresh-10k": refresh_10k,
}


async def _filled(arguments: dict[str, Any], database: Path) -> None:
    async with Runtime.open(_config(arguments), migrate=True) as runtime:
        await _fill(runtime, database, CONNECTIONS, ended=True)


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        asyncio.run(_filled(json.loads(sys.argv[2]), Path(sys.argv[3])))
    else:
        asyncio.run(_stormed(json.loads(sys.argv[1]), sys.argv[2]))
