"""The facets of a SQL store: each method hands one unit of work to the driver."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from go_services_core.errors import BadInput, LeaseLost, StateInvalid
from go_services_core.model import (
    Accepted,
    Attempt,
    Claim,
    Connection,
    Establish,
    Event,
    GrantSnapshot,
    InboxDelivery,
    Lease,
    Outcome,
    Page,
    QueueItem,
    QueueName,
    RefreshOpen,
    Scope,
    SealedCredential,
)
from go_services_core.protocols import Work

from . import attempts, connections, inbox, once, outbox, refresh
from .driver import Driver
from .events import enqueue
from .statement import Steps


def _at_least_one(limit: int) -> None:
    if limit < 1:
        raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")


def _not_empty(credential: SealedCredential) -> None:
    if not credential.sealed.ciphertext:
        raise BadInput("A credential needs a ciphertext; this one is empty.", field="credential.sealed")


class SqlConnections:
    """The ``connections`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def begin_attempt(self, attempt: Attempt) -> None:
        await self._driver.run(lambda: attempts.begin(attempt))

    async def consume_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        taken = await self._driver.run(lambda: attempts.consume(state_hash, binding_hash, now=now))
        if isinstance(taken, StateInvalid):
            raise taken
        return taken

    async def establish(self, change: Establish) -> tuple[Connection, int]:
        _not_empty(change.credential)
        return await self._driver.run(lambda: connections.establish(change))

    async def next_version(self, provider_id: str, scope: Scope, external_account_id: str) -> tuple[str | None, int]:
        return await self._driver.read(lambda: connections.next_version(provider_id, scope, external_account_id))

    async def get(self, connection_id: str) -> Connection:
        return await self._driver.read(lambda: connections.get(connection_id))

    async def load(self, connection_id: str) -> tuple[Connection, SealedCredential | None]:
        return await self._driver.read(lambda: connections.load(connection_id))

    async def list(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Connection]:
        _at_least_one(limit)
        return await self._driver.read(
            lambda: connections.page(provider_id=provider_id, scope=scope, status=status, after=after, limit=limit)
        )

    async def grants(self, connection_id: str) -> GrantSnapshot | None:
        return await self._driver.read(lambda: connections.grants(connection_id))

    async def open_refresh(self, connection_id: str, *, owner: str, lease: float, intent_id: str) -> RefreshOpen:
        return await self._driver.run(
            lambda: refresh.open_refresh(connection_id, owner=owner, seconds=lease, intent_id=intent_id)
        )

    async def close_refresh(self, new: SealedCredential, *, lease: Lease, active_version: int, event: Event) -> None:
        _not_empty(new)
        await self._driver.run(
            lambda: refresh.close_refresh(new, lease=lease, active_version=active_version, event=event)
        )

    async def fail_refresh(
        self, lease: Lease, *, error: str, terminal: bool, event: Event | None, state: str = "backing_off"
    ) -> None:
        if state not in ("ok", "backing_off", "unknown"):
            raise BadInput(f"A refresh state is ok, backing_off or unknown, not {state!r}.", field="state")
        await self._driver.run(
            lambda: refresh.fail_refresh(lease, error=error, terminal=terminal, event=event, state=state)
        )

    async def disconnect(self, connection_id: str, *, reason: str, event: Event) -> Connection:
        return await self._driver.run(
            lambda: connections.disconnect(connection_id, reason=reason, event=event), destroys=True
        )


class SqlQueues:
    """The ``queues`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def accept(self, delivery: InboxDelivery) -> Accepted:
        return await self._driver.run(lambda: inbox.accept(delivery))

    async def register_handlers(self, handlers: Mapping[str, str], *, now: datetime) -> None:
        await self._driver.run(lambda: outbox.register(handlers, now=now))

    async def claim(
        self, queue: QueueName, *, owner: str, lease: float, limit: int, handlers: Sequence[str] = ()
    ) -> builtins.list[Claim]:
        _at_least_one(limit)
        if queue == "inbox":
            return await self._driver.run(lambda: inbox.claim(owner=owner, seconds=lease, limit=limit))
        return await self._driver.run(lambda: outbox.claim(owner=owner, seconds=lease, limit=limit, handlers=handlers))

    async def heartbeat(self, claims: Sequence[Claim], *, lease: float) -> builtins.list[str]:
        def work() -> Steps[builtins.list[str]]:
            lost: builtins.list[str] = []
            for queue, unit in (("inbox", inbox.heartbeat), ("outbox", outbox.heartbeat)):
                held = [claim for claim in claims if claim.queue == queue]
                if held:
                    lost += yield from unit(held, seconds=lease)
            return lost

        return await self._driver.run(work)

    async def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        error: str = "",
        delay: float = 0.0,
        events: Sequence[Event] = (),
        work: Work[Any] | None = None,
    ) -> None:
        if outcome != "done" and (work is not None or events):
            raise BadInput("Only the outcome 'done' commits work and events.", field="outcome")

        def unit() -> Steps[None]:
            settle = inbox.settle if claim.queue == "inbox" else outbox.settle
            if not (yield from settle(claim, outcome, error=error, delay=delay)):
                raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})
            for event in events:
                yield from enqueue(event)
            if work is not None:
                yield from work()

        await self._driver.run(unit)

    async def requeue(self, queue: QueueName, item_id: str, *, handler: str | None = None) -> bool:
        if queue == "inbox":
            return await self._driver.run(lambda: inbox.requeue(item_id))
        return await self._driver.run(lambda: outbox.requeue(item_id, handler=handler))

    async def delivery(self, delivery_row_id: str) -> InboxDelivery | None:
        return await self._driver.read(lambda: inbox.delivery(delivery_row_id))

    async def list(
        self, queue: QueueName, *, status: str | None = None, after: str | None = None, limit: int = 100
    ) -> Page[QueueItem]:
        _at_least_one(limit)
        unit = inbox.page if queue == "inbox" else outbox.page
        return await self._driver.read(lambda: unit(status=status, after=after, limit=limit))


class SqlOnce:
    """The ``once`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def claim(self, key: str, *, ttl: float) -> bool:
        return await self._driver.run(lambda: once.claim(key, seconds=ttl))
