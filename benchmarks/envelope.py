"""Sealing and opening a credential of 1 KiB under an application key, beside bare AES-256-GCM over the same bytes.

The peer does what the documentation of ``cryptography`` shows: one ``AESGCM`` object, a nonce of ``os.urandom(12)`` and
the associated data of the same size for each message. A batch runs inside one coroutine, so that starting the loop is
not measured. Nothing in it waits: it is the processor time of the thread that is measured. ``envelope`` seals all
records under one data key; ``envelope-fresh`` takes a new one for each record: generated, wrapped, derived from, sealed
with and opened. It has two peers: one that keeps its key, as above, and one that also makes a new key for each
message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core.clock import SystemClock
from go_services_core.model import Binding, Scope
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_envelope import Sealer
from go_services_envelope.format import located
from go_services_secrets_appkey.backend import open_backend
from go_services_secrets_appkey.key import generate_key
from go_services_secrets_appkey.settings import AppKeySettings

from .harness import Result, alternate_async, ratio

STORE = "01900000-0000-7000-8000-000000000000"
SIZE = 1024
BATCH = 2000
PAIRS = 41
BINDINGS = [
    Binding(
        purpose="credential",
        provider_id="github",
        scope=Scope("user", "u-1"),
        record_id=f"01900000-0000-7000-8000-{number:012x}",
        record_version=number + 1,
    )
    for number in range(BATCH)
]
PLAINTEXT = os.urandom(SIZE)


def _sealer(max_uses: int) -> Sealer:
    clock = SystemClock()
    env = PluginEnv(clock=clock, logger=logging.getLogger("bench"), resolve_secret=SecretStr)
    backend = open_backend(AppKeySettings(key=generate_key()), env)
    return Sealer(backend, store_id=STORE, clock=clock, max_uses=max_uses)


def _ours(sealer: Sealer) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        began = time.thread_time()
        for binding in BINDINGS:
            await sealer.open(await sealer.seal(PLAINTEXT, binding), binding)
        return (time.thread_time() - began) / BATCH * 1e6

    return run


def _kept_key() -> Callable[[], Awaitable[float]]:
    bound = _bound()
    gcm = AESGCM(AESGCM.generate_key(256))

    async def run() -> float:
        began = time.thread_time()
        for _ in BINDINGS:
            nonce = os.urandom(12)
            gcm.decrypt(nonce, gcm.encrypt(nonce, PLAINTEXT, bound), bound)
        return (time.thread_time() - began) / BATCH * 1e6

    return run


def _new_keys() -> Callable[[], Awaitable[float]]:
    bound = _bound()

    async def run() -> float:
        began = time.thread_time()
        for _ in BINDINGS:
            gcm = AESGCM(AESGCM.generate_key(256))
            nonce = os.urandom(12)
            gcm.decrypt(nonce, gcm.encrypt(nonce, PLAINTEXT, bound), bound)
        return (time.thread_time() - began) / BATCH * 1e6

    return run


def _bound() -> bytes:
    """Associated data as long as an envelope's."""
    return located(STORE, "credential", "github", BINDINGS[0].record_id, 1, "user", "u-1")[1]


async def _compare() -> list[Result]:
    reused, fresh, kept, new = await alternate_async(
        _ours(_sealer(1 << 20)), _ours(_sealer(1)), _kept_key(), _new_keys(), pairs=PAIRS
    )
    return [
        ratio(name, better="lower", unit="µs", samples=samples, peer_samples=peer, peer_name=peer_name, target=target)
        for name, samples, peer, peer_name, target in (
            ("envelope", reused, kept, "AESGCM, one key", 2.5),
            ("envelope-fresh", fresh, kept, "AESGCM, one key", 6.0),
            ("envelope-fresh-both", fresh, new, "AESGCM, a key for each", 6.0),
        )
    ]


def envelope() -> list[Result]:
    """Seal and open, per record."""
    return asyncio.run(_compare())


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"envelope": envelope}
