"""The activity log: what an event looks like in it, how entries are kept, and for how long."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from ..errors import BadInput, Conflict, FacetMissing
from ..lifecycle import SEVERITIES, spec_of
from ..redaction import mask_data
from ..resources import Activity, ActivityStatus
from .core import Core, logger

if TYPE_CHECKING:
    from ..facets import LogFacet
    from ..handler_protocols import HandlerContext
    from ..model import Event

NAME: Final = "activity"
"""The handler that projects events into the log; ``[activity] enabled`` turns it on."""
TOGETHER: Final = 200
"""Entries of one statement at most."""
TABLE: Final = "service_activity_entries"


def entry_of(event: Event) -> Activity:
    """The entry of an event. It has the event's id, so that projecting twice keeps one."""
    payload = event.payload
    actor = payload.get("actor")
    named = isinstance(actor, str) and bool(actor)
    source = event.source if event.source != "runtime" else "system"
    kind, id = _object_of(event)
    return Activity(
        id=event.id,
        provider_id=event.provider_id,
        scope=event.scope,
        connection_id=event.connection_id,
        installation_id=_text(payload, "installation_id"),
        subscription_id=_text(payload, "subscription_id"),
        sync_job_id=_text(payload, "job_id"),
        action=event.name,
        object_type=kind,
        object_id=id,
        actor=str(actor) if named else source,
        actor_type=_text(payload, "actor_type") or ("user" if named else "system"),
        status=status_of(event),
        metadata={"event_name": event.name, "event_version": event.version, "payload": dict(payload)},
        created_at=event.occurred_at,
    )


def _object_of(event: Event) -> tuple[str, str]:
    """The connection; of an event without one what its name begins with, where the payload has the id of that, as
    ``endpoint_id`` of ``endpoint.paused``, and of a webhook the delivery; else the provider.
    """
    if event.connection_id:
        return "connection", event.connection_id
    family = event.name.partition(".")[0]
    named = _text(event.payload, "delivery" if family == "webhook" else f"{family}_id")
    if named is not None and spec_of(event.name) is not None:
        return family, named
    return "provider", event.provider_id


def _text(payload: Any, name: str) -> str | None:
    value = payload.get(name)
    return value if isinstance(value, str) and value else None


def status_of(event: Event) -> ActivityStatus:
    """``error`` and ``warn`` where the payload's ``status`` or the catalogue of events says so; of an application's own
    events the name tells: "fail" and "error", "retry" and "degrad".
    """
    said = event.payload.get("status")
    if said in ("error", "warn"):
        return "error" if said == "error" else "warn"
    spec = spec_of(event.name)
    if spec is not None:
        return spec.severity
    name = event.name.lower()
    if "fail" in name or "error" in name:
        return "error"
    return "warn" if "retry" in name or "degrad" in name else "ok"


async def project(event: Event, context: HandlerContext) -> None:
    """The durable handler ``activity``."""
    entry = entry_of(event)
    for name, spec in sorted(context.runtime.catalog().activity_enrichers.items()):
        try:
            added = spec.enrich.resolve()(event, entry)
            if inspect.isawaitable(added):
                added = await added
            entry = evolve(entry, metadata={**entry.metadata, **added})
        except Exception:  # the entry counts for more than what would be added to it
            logger.exception("the activity enricher %s failed for %s", name, event.name)
    await context.runtime.record_activity([entry])


async def record(core: Core, entries: Sequence[Activity]) -> None:
    """Keep entries; see ``Runtime.record_activity``."""
    log_of(core)
    if entries:
        await core.activity_writer.record([_checked(entry) for entry in entries])


def _checked(entry: Activity) -> Activity:
    if entry.status not in SEVERITIES:
        raise BadInput(f"A status is {', '.join(SEVERITIES)}, not {entry.status!r}.", field="status")
    return evolve(entry, metadata=mask_data(dict(entry.metadata)))


def log_of(core: Core) -> LogFacet:
    """The store's activity log.

    Raises:
        FacetMissing: it has none.
    """
    log: LogFacet | None = getattr(core.store, "log", None)
    if log is None:
        raise FacetMissing("The store has no facet log, which the activity log needs.")
    return log


class Writer:
    """Keeps what several ask for at the same time in one statement: a projector runs for many events at once."""

    def __init__(self, log: LogFacet) -> None:
        self._log = log
        self._waiting: list[tuple[Sequence[Activity], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, entries: Sequence[Activity]) -> None:
        """Keep ``entries``; returns once they are durable."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await kept

    async def _write(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
                try:
                    await self._log.record([entry for entries, _ in taken for entry in entries])
                except Conflict:  # of one of them, which must not keep the others out
                    for entries, kept in taken:
                        await self._alone(entries, kept)
                except Exception as error:
                    for _, kept in taken:
                        _answer(kept, error)
                else:
                    for _, kept in taken:
                        _answer(kept, None)
        finally:
            self._writing = None

    async def _alone(self, entries: Sequence[Activity], kept: asyncio.Future[None]) -> None:
        try:
            await self._log.record(entries)
        except Exception as error:
            _answer(kept, error)
        else:
            _answer(kept, None)


def _answer(kept: asyncio.Future[None], error: Exception | None) -> None:
    if kept.done():
        return  # whoever asked was cancelled
    if error is None:
        kept.set_result(None)
    else:
        kept.set_exception(error)


async def retain(core: Core, *, dry_run: bool = False) -> int:
    """Remove what is not kept; see ``Runtime.prune_activity``."""
    log_of(core)
    removed = 0
    if seconds := core.retention.activity_entries:
        removed = (await core.store.prune({TABLE: seconds}, batch=core.retention.batch, dry_run=dry_run))[TABLE]
    return removed + await trim(core, dry_run=dry_run)


async def trim(core: Core, *, dry_run: bool = False) -> int:
    """Remove what is beyond ``[activity] row_cap``, until the runtime stops; gives the number of entries."""
    cap, removed = core.activity.row_cap, 0
    after: str | None = ""
    while cap is not None and after is not None and not core.stopping:
        gone, after = await log_of(core).trim(rows=cap, limit=core.retention.batch, after=after, dry_run=dry_run)
        removed += gone
    return removed
