"""What the memory store holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from attrs import Factory, define, evolve

from ..clock import Clock
from ..endpoints import Endpoint
from ..errors import (
    BadInput,
    Conflict,
    ConnectionNotFound,
    LeaseLost,
)
from ..grants import GrantEvent, recorded
from ..model import (
    Attempt,
    Connection,
    Event,
    GrantSnapshot,
    InboxDelivery,
    Job,
    Page,
    Scope,
    Sealed,
    SealedCredential,
    T,
)
from ..refreshes import Lease
from ..resources import Activity, BudgetKey, Dispatch, Installation, Subscription, SyncCursor
from ..worker_status import WorkerProcess

LIVE = ("pending", "retry_ready", "processing", "queued", "running")


@define
class Consent:
    attempt: Attempt
    mismatches: int = 0
    consumed: bool = False


@define
class Hold:
    """A lease; the fence outlives its holder."""

    owner: str | None = None
    fence: int = 0
    expires_at: datetime | None = None


@define(kw_only=True)
class Intent:
    """One attempt to refresh; what came too late is kept in it."""

    id: str
    connection_id: str
    version: int
    resource: str
    fence: int
    sent_at: datetime
    outcome: str = ""
    error: str = ""
    settled_at: datetime | None = None
    retry_at: datetime | None = None
    late: SealedCredential | None = None


@define
class Slot:
    """What is claimed: one delivery of the inbox, one event for one handler, or a job."""

    id: str
    due: datetime
    changed: datetime
    delivery: InboxDelivery | None = None
    event: Event | None = None
    handler: str | None = None
    job: Job | None = None
    """As it was when it was queued."""
    checkpoint: str | None = None
    status: str = "pending"
    attempts: int = 0
    owner: str | None = None
    fence: int = 0
    crashes: int = 0
    error: str = ""
    variant: bytes = b""
    """Of a delivery whose id came with another body before: the digest."""
    burst_until: datetime | None = None


@define
class Entry:
    """One line of a ledger of what is begun and finished."""

    digest: bytes
    owner: str | None
    expires_at: datetime
    changed: datetime
    fence: int = 1
    status: str = "running"
    result: Sealed | None = None
    dispatch: Dispatch | None = None
    created: datetime | None = None
    error: str = ""
    unsettled: datetime | None = None
    """When the first attempt began of which nobody told how it ended."""


@define
class Window:
    """The running window of a budget."""

    limit: float
    remaining: float
    seconds: float
    reset_at: datetime
    period: int = 1
    paused_until: datetime | None = None


@define
class Waiter:
    """A scope that waits for units of a budget that it shares."""

    until: datetime
    got: float = 0.0
    period: int = 0
    """The window that it ``got`` them in."""


@define
class Tables:
    clock: Clock
    connections: dict[str, Connection] = Factory(dict)
    credentials: dict[str, list[SealedCredential | None]] = Factory(dict)
    """By connection; the version is the position + 1, and a destroyed one is None."""
    active: dict[str, int] = Factory(dict)
    superseded: dict[str, datetime] = Factory(dict)
    """When a credential stopped being active, by its id."""
    snapshots: dict[str, list[GrantSnapshot]] = Factory(dict)
    grant_events: dict[str, list[GrantEvent]] = Factory(dict)
    attempts: dict[bytes, Consent] = Factory(dict)
    holds: dict[str, Hold] = Factory(dict)
    intents: dict[str, Intent] = Factory(dict)
    events: dict[str, Event] = Factory(dict)
    heard: dict[str, datetime] = Factory(dict)
    """Events that were handed to their handlers, and when."""
    handlers: dict[str, tuple[str, datetime]] = Factory(dict)
    seen: dict[str, datetime] = Factory(dict)
    """When a process last said that it has the handler."""
    positions: dict[tuple[str, str], tuple[int, datetime]] = Factory(dict)
    """Handler and key → how new the newest state is, and since when."""
    inbox: dict[str, Slot] = Factory(dict)
    outbox: dict[str, Slot] = Factory(dict)
    jobs: dict[str, Slot] = Factory(dict)
    job_keys: dict[tuple[str, ...], str] = Factory(dict)
    once: dict[str, datetime] = Factory(dict)
    ledger: dict[str, Entry] = Factory(dict)
    dispatches: dict[str, Entry] = Factory(dict)
    subscriptions: dict[str, Subscription] = Factory(dict)
    endpoints: dict[str, Endpoint] = Factory(dict)
    installations: dict[str, Installation] = Factory(dict)
    cursors: dict[tuple[str, ...], SyncCursor] = Factory(dict)
    budgets: dict[BudgetKey, Window] = Factory(dict)
    waiters: dict[BudgetKey, dict[Scope, Waiter]] = Factory(dict)
    """Scopes that wait, the longest first."""
    activity: dict[str, Activity] = Factory(dict)
    meta: dict[str, bytes] = Factory(dict)
    workers: dict[str, tuple[WorkerProcess, datetime, datetime]] = Factory(dict)
    """With its last beat, and until when it counts as alive."""
    listener: Callable[[Sequence[Event]], None] | None = None

    def later(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    def connection(self, connection_id: str) -> Connection:
        found = self.connections.get(connection_id)
        if found is None:
            raise ConnectionNotFound(
                f"There is no connection {connection_id!r}.", metadata={"connection_id": connection_id}
            )
        return found

    def credential(self, connection_id: str) -> SealedCredential | None:
        version = self.active.get(connection_id)
        return None if version is None else self.credentials[connection_id][version - 1]

    def check_new(self, *events: Event | None) -> None:
        for event in events:
            if event is not None and event.id in self.events:
                raise Conflict(f"There is an event {event.id!r} already.")

    def enqueue(self, event: Event | None) -> None:
        if event is not None:
            self.events[event.id] = event
            if self.listener is not None:
                self.listener([event])

    @contextmanager
    def unit(self) -> Iterator[None]:
        """Jobs and events all together, or none of them; the listener is told at the end."""
        tables: tuple[dict[Any, Any], ...] = (self.jobs, self.job_keys, self.events)
        kept = [dict(table) for table in tables]
        listener, told = self.listener, list[Event]()
        self.listener = None if listener is None else told.extend
        try:
            yield
        except BaseException:
            for table, rows in zip(tables, kept, strict=True):
                table.clear()
                table.update(rows)
            raise
        finally:
            self.listener = listener
        if listener is not None and told:
            listener(told)

    def save(self, new: SealedCredential, *, cause: Event, completes: bool = False) -> list[GrantEvent]:
        """Make ``new`` the active credential, with what that says of the grants."""
        old = self.credential(new.connection_id)
        if old is not None:
            self.superseded[old.id] = self.clock.now()
        self.credentials.setdefault(new.connection_id, []).append(new)
        self.active[new.connection_id] = new.version
        snapshots = self.snapshots.setdefault(new.connection_id, [])
        snapshot, events = recorded(snapshots[-1] if snapshots else None, new, cause=cause, completes=completes)
        if snapshot is not None:
            snapshots.append(snapshot)
        connection = self.connections[new.connection_id]
        for event in events:
            self.grant_events.setdefault(connection.id, []).append(event)
            self.enqueue(event.announced(connection.provider_id, connection.scope))
        return events

    def change(self, connection: Connection, **fields: Any) -> Connection:
        changed = evolve(connection, updated_at=self.clock.now(), **fields)
        self.connections[connection.id] = changed
        return changed

    def held(self, lease: Lease) -> Hold:
        hold = self.holds.get(lease.resource)
        if hold is None or (hold.owner, hold.fence) != (lease.owner, lease.fence):
            raise LeaseLost(metadata={"resource": lease.resource})
        return hold


def page(items: Sequence[tuple[str, T]], after: str | None, limit: int) -> Page[T]:
    if limit < 1:
        raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
    left = sorted((item for item in items if item[0] > (after or "")), key=lambda item: item[0])
    shown = left[:limit]
    return Page(tuple(item for _, item in shown), shown[-1][0] if len(left) > limit else None)
