"""What the memory store keeps once, leases and logs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from attrs import evolve

from ..errors import BadInput, Conflict, IdempotencyMismatch, LeaseLost
from ..model import Event, NewJob, Page, Scope, Sealed
from ..protocols import Work
from ..refreshes import Lease
from ..resources import (
    Activity,
    ActivityStatus,
    Begun,
    Dispatch,
    DispatchEntry,
    DispatchStatus,
    LedgerKind,
)
from .memory_queues import Queues
from .memory_tables import Entry, Hold, Tables, page


class Once:
    def __init__(self, tables: Tables, queues: Queues) -> None:
        self._tables = tables
        self._queues = queues

    async def claim(self, key: str, *, ttl: float) -> bool:
        until = self._tables.once.get(key)
        if until is not None and until > self._tables.clock.now():
            return False
        self._tables.once[key] = self._tables.later(ttl)
        return True

    async def begin(self, kind: LedgerKind, key: str, *, digest: bytes, owner: str, seconds: float) -> Begun:
        entry = self._tables.ledger.get(f"{kind}:{key}")
        if entry is not None and entry.digest != digest:
            raise IdempotencyMismatch(metadata={"kind": kind, "key": key})
        now = self._tables.clock.now()
        made = Entry(digest, owner, self._tables.later(seconds), now)
        begun = self._begin(self._tables.ledger, f"{kind}:{key}", made)
        if begun.state != "new" or entry is None or entry.status == "failed":
            return begun
        made.unsettled = entry.unsettled or entry.changed
        return evolve(begun, unsettled=(now - made.unsettled).total_seconds())

    async def finish(
        self,
        kind: LedgerKind,
        key: str,
        *,
        owner: str,
        fence: int,
        ok: bool,
        result: Sealed | None = None,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
        work: Work[Any] | None = None,
    ) -> None:
        if not ok and (events or jobs or work is not None):
            raise BadInput("Only what ended well commits events, jobs and work.", field="ok")
        self._running(self._tables.ledger.get(f"{kind}:{key}"), key, owner, fence)
        self._tables.check_new(*events)
        if work is not None:
            for step in work():
                raise BadInput(f"The memory store runs no statements, and the work asked for {step!r}.", field="work")
        with self._tables.unit():
            for job in jobs:
                await self._queues.enqueue(job)
            for event in events:
                self._tables.enqueue(event)
        entry = self._held(self._tables.ledger.get(f"{kind}:{key}"), key, owner, fence)
        entry.status, entry.result = ("done", result) if ok else ("failed", None)

    async def extend(self, kind: LedgerKind, key: str, *, owner: str, fence: int, seconds: float) -> None:
        entry = self._running(self._tables.ledger.get(f"{kind}:{key}"), key, owner, fence)
        entry.expires_at = self._tables.later(seconds)

    async def begin_dispatch(self, dispatch: Dispatch, *, owner: str, seconds: float) -> Begun:
        known = self._tables.dispatches.get(dispatch.key)
        now = self._tables.clock.now()
        made = Entry(b"", owner, self._tables.later(seconds), now, dispatch=dispatch, created=now)
        if known is not None:
            made.dispatch, made.created, made.error = known.dispatch, known.created, known.error
        return self._begin(self._tables.dispatches, dispatch.key, made)

    async def finish_dispatch(
        self, key: str, *, owner: str, fence: int, status: Literal["sent", "failed"], error: str = ""
    ) -> None:
        entry = self._held(self._tables.dispatches.get(key), key, owner, fence)
        entry.status, entry.error = status, error

    async def dispatches(
        self,
        *,
        projector: str | None = None,
        event_id: str | None = None,
        status: DispatchStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[DispatchEntry]:
        entries = [
            (one.dispatch.id, _listed(one, one.dispatch)) for one in self._tables.dispatches.values() if one.dispatch
        ]
        wanted = [
            (id, entry)
            for id, entry in entries
            if projector in (None, entry.dispatch.projector)
            and event_id in (None, entry.dispatch.event_id)
            and status in (None, entry.status)
        ]
        return page(wanted, after, limit)

    def _begin(self, ledger: dict[str, Entry], key: str, made: Entry) -> Begun:
        entry = ledger.get(key)
        now = self._tables.clock.now()
        if entry is not None:
            if entry.status in ("done", "sent"):
                return Begun(state="done", fence=entry.fence, result=entry.result)
            if entry.status == "running" and entry.expires_at > now:
                left = (entry.expires_at - now).total_seconds()
                return Begun(state="running", fence=entry.fence, retry_in=left)
            made.fence = entry.fence + 1
        ledger[key] = made
        return Begun(state="new", fence=made.fence)

    def _running(self, entry: Entry | None, key: str, owner: str, fence: int) -> Entry:
        if entry is None or entry.status != "running" or (entry.owner, entry.fence) != (owner, fence):
            raise LeaseLost(metadata={"key": key})
        return entry

    def _held(self, entry: Entry | None, key: str, owner: str, fence: int) -> Entry:
        entry = self._running(entry, key, owner, fence)
        entry.owner, entry.changed = None, self._tables.clock.now()
        return entry


def _listed(entry: Entry, dispatch: Dispatch) -> DispatchEntry:
    status: Any = entry.status
    return DispatchEntry(
        dispatch=dispatch,
        status=status,
        attempts=entry.fence,
        error=entry.error,
        created_at=entry.created or entry.changed,
        updated_at=entry.changed,
    )


class Leases:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def acquire(self, resource: str, *, owner: str, seconds: float) -> Lease | None:
        hold = self._tables.holds.setdefault(resource, Hold())
        if hold.owner is not None and hold.expires_at is not None and hold.expires_at > self._tables.clock.now():
            return None
        hold.owner, hold.fence, hold.expires_at = owner, hold.fence + 1, self._tables.later(seconds)
        return Lease(resource=resource, owner=owner, fence=hold.fence)

    async def renew(self, lease: Lease, *, seconds: float) -> None:
        self._tables.held(lease).expires_at = self._tables.later(seconds)

    async def release(self, lease: Lease) -> bool:
        hold = self._tables.holds.get(lease.resource)
        if hold is None or (hold.owner, hold.fence) != (lease.owner, lease.fence):
            return False
        hold.owner = hold.expires_at = None
        return True


class Log:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def record(self, entries: Sequence[Activity]) -> int:
        for entry in entries:
            if entry.connection_id is not None and entry.connection_id not in self._tables.connections:
                raise Conflict(f"There is no connection {entry.connection_id!r}.")
        new = {entry.id: entry for entry in reversed(entries) if entry.id not in self._tables.activity}
        self._tables.activity.update(new)
        return len(new)

    async def trim(self, *, rows: int, limit: int, after: str = "", dry_run: bool = False) -> tuple[int, str | None]:
        scope = min(
            (found for one in self._tables.activity.values() if (found := str(one.scope)) > after), default=None
        )
        if scope is None:
            return 0, None
        entries = [one for one in self._tables.activity.values() if str(one.scope) == scope]
        over = sorted(entries, key=lambda one: (one.created_at, one.id))[: max(len(entries) - rows, 0)]
        if dry_run:
            return len(over), scope
        for one in over[:limit]:
            del self._tables.activity[one.id]
        return min(len(over), limit), scope if len(over) <= limit else after

    async def activity(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        connection_id: str | None = None,
        action: str | None = None,
        status: ActivityStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Activity]:
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        wanted = {
            "provider_id": provider_id,
            "scope": scope,
            "connection_id": connection_id,
            "action": action,
            "status": status,
        }
        filters = [(name, value) for name, value in wanted.items() if value is not None]
        before = None if after is None else _place(after)
        found = [
            entry
            for entry in self._tables.activity.values()
            if all(getattr(entry, name) == value for name, value in filters)
            and (since is None or entry.created_at >= since)
            and (until is None or entry.created_at < until)
            and (before is None or (entry.created_at, entry.id) < before)
        ]
        found.sort(key=lambda entry: (entry.created_at, entry.id), reverse=True)
        shown = found[:limit]
        more = len(found) > limit
        return Page(tuple(shown), f"{shown[-1].created_at.isoformat()} {shown[-1].id}" if more else None)


def _place(after: str) -> tuple[datetime, str]:
    time, _, id = after.partition(" ")
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not id:
        raise BadInput(f"{after!r} is not the `next` of a page of activity.", field="after")
    return at, id
