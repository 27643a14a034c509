"""How often a worker beats and extends its leases, on a loop whose time is not real: an hour of it takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Runtime, Scope
from go_services_core.clock import SystemClock, uuid7
from go_services_core.config import Config
from go_services_core.model import Claim, Event, NewJob
from go_services_core.plugins import PluginManager
from go_services_core.runtime import jobs
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_secrets_appkey.key import generate_key

BEAT = 20.0
LEASE = 60.0
"""Seconds, as the defaults are to be."""


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing but what is ready: the loop's time jumps to when the next thing is due."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout is not None:
            self.now += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class _Clock(FrozenClock):
    """Goes by the running loop."""

    def now(self) -> Any:
        return self._now + timedelta(seconds=asyncio.get_running_loop().time())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def test_worker_beats_and_extends_its_leases_every_20_of_60_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """P67: a handler and a job of five minutes keep their leases of a minute, and run once."""
    beats: list[float] = []
    extended: dict[str, list[float]] = {"outbox": [], "jobs": []}
    leases: set[float] = set()
    ran: list[str] = []

    async def slow_job(core: Any, claim: Claim) -> None:
        ran.append("job")
        await asyncio.sleep(300)

    async def handler(event: Event, context: Any) -> None:
        ran.append("handler")
        await asyncio.sleep(300)

    async def main() -> None:
        loop, clock = asyncio.get_running_loop(), _Clock()
        store = MemoryStore(clock=clock)
        queues, workers = store.queues, store.workers
        extend, beat = queues.heartbeat, workers.beat

        async def extending(claims: Sequence[Claim], *, lease: float) -> list[str]:
            for claim in claims:
                extended[claim.queue].append(loop.time())
            leases.add(lease)
            return await extend(claims, lease=lease)

        async def beating(worker: Any, *, seconds: float, forget: float) -> None:
            beats.append(loop.time())
            leases.add(seconds)
            await beat(worker, seconds=seconds, forget=forget)

        queues.heartbeat, workers.beat = extending, beating  # type: ignore[method-assign]
        config = Config.load(None, environ={}, arguments={"secrets.appkey.key": generate_key()})
        plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http})
        async with Runtime.open(config, plugins=plugins, clock=clock, store=store) as runtime:
            await runtime.on("test.*", handler, name="h", timeout=3600)
            job = NewJob(id="slow", kind="connections.revoke", created_at=clock.now())
            await queues.enqueue(job)
            await queues.enqueue(NewJob(id="emit", kind="test.emit", created_at=clock.now()))
            (claim,) = await queues.claim("jobs", owner="t", lease=60, limit=1, kinds=["test.emit"])
            told = Event(
                id=uuid7(SystemClock()), name="test.told", provider_id="p", scope=Scope("org", "o"), connection_id=None,
                occurred_at=clock.now(), payload={},
            )  # fmt: skip
            await queues.settle(claim, "done", events=[told])
            stop = asyncio.Event()
            working = asyncio.create_task(runtime.work(stop=stop, kinds=["outbox", "connections.revoke"]))
            await asyncio.sleep(310)
            stop.set()
            await working

    monkeypatch.setattr(jobs, "JOBS", {**jobs.JOBS, "connections.revoke": slow_job})
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(main())
    assert sorted(ran) == ["handler", "job"]
    assert leases == {LEASE}
    assert steps(beats) == {BEAT}
    assert len(beats) == 1 + 310 // BEAT
    for queue, times in extended.items():
        assert steps(times) == {BEAT}, queue
        assert len(times) in (300 // BEAT - 1, 300 // BEAT), queue


def steps(times: Sequence[float]) -> set[float]:
    return {round(later - before, 6) for before, later in pairwise(times)}
