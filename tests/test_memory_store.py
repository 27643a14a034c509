"""The memory store against the rules for every store, and what only it promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from go_services_core.errors import BadInput, RefreshLocked
from go_services_core.testing.checks.store import established, new_id
from go_services_core.testing.checks.store_queues import delivery, take
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.pytest_kit import StoreKit


class TestMemoryStore(StoreKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[MemoryStore]:
        store = MemoryStore()
        await store.migrate()
        await store.open()
        yield store
        await store.aclose()


async def test_leases_go_by_the_clock_that_it_was_given() -> None:
    clock = FrozenClock()
    store = MemoryStore(clock=clock)
    made = await established(store)
    first = await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    clock.advance(29)
    with pytest.raises(RefreshLocked) as locked:
        await store.connections.open_refresh(made.id, owner="b", lease=30, intent_id=new_id())
    assert locked.value.metadata["retry_in"] == 1
    clock.advance(1)
    second = await store.connections.open_refresh(made.id, owner="b", lease=30, intent_id=new_id())
    assert second.lease.fence > first.lease.fence


async def test_work_that_needs_a_database_is_refused_and_nothing_is_settled() -> None:
    def work() -> Generator[Any, Any, None]:
        yield "select 1"

    store = MemoryStore()
    await store.queues.accept(delivery())
    (claim,) = await take(store)
    with pytest.raises(BadInput):
        await store.queues.settle(claim, "done", work=work)
    await store.queues.settle(claim, "done")
