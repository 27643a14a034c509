"""The outbox: committed events, each with a delivery of its own per durable handler.

An item's id is ``EVENT:HANDLER``, or the event's id alone while no handler has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import peewee as pw
from peewee import SQL

from go_services_core.errors import ServicesError
from go_services_core.model import Claim, Event, Page, QueueItem

from . import events
from .dialect import Json, read_time
from .events import event_of
from .fan_out import Wanted, fan_out, hand_out
from .front import Front
from .listing import Listing
from .models import EventDeliveryRow, OutboxRow, PendingEventRow
from .statement import Param, Row, Statement, Steps

ROUNDS = 20
"""How often a claim takes new events at most, where nobody wants what it took."""
MANY = 500
"""New events that it takes at once then."""
SETTLED = {"done": "delivered", "retry": "retry_ready", "dead": "dead"}


def item_id(event_id: str, handler: str | None) -> str:
    """The id under which the outbox shows one handler's delivery of an event."""
    return event_id if handler is None else f"{event_id}:{handler}"


def _item_of(row: Row) -> QueueItem:
    return QueueItem(
        id=item_id(row[0], row[1]),
        queue="outbox",
        handler=row[1],
        status=row[2],
        attempts=row[3],
        provider_id=row[4],
        name=row[5],
        error=row[6],
        created_at=read_time(row[7]),
        fence=row[8],
    )


# An earlier event that no handler has yet counts as well: another worker may be handing it out at this moment.
_DUE = """SELECT @ids FROM service_event_deliveries AS item
          WHERE status IN ('pending', 'retry_ready', 'processing') AND next_attempt_at <= @now
            AND handler @among
            AND (order_key IS NULL OR NOT EXISTS (
                SELECT 1 FROM service_event_deliveries AS head
                WHERE head.handler = item.handler AND head.order_key = item.order_key AND head.event_id < item.event_id
                  AND head.status IN ('pending', 'retry_ready', 'processing'))
              AND NOT EXISTS (
                SELECT 1 FROM service_pending_events AS early
                WHERE early.order_key = item.order_key AND early.event_id < item.event_id))
          ORDER BY next_attempt_at, event_id LIMIT :rows"""
_TAKE = """UPDATE service_event_deliveries SET status = 'processing', owner = :owner, fence = fence + 1,
          attempts = attempts + 1, next_attempt_at = @later(seconds), updated_at = @now,
          crashes = crashes + CASE WHEN status = 'processing' THEN 1 ELSE 0 END"""
_SQLITE = f"""{_TAKE}
        WHERE (event_id, handler) IN ({
    _DUE.replace("@ids", "event_id, handler").replace("@among", "IN (SELECT value FROM json_each(:handlers))")
})
        RETURNING event_id, handler, fence, attempts, crashes"""  # noqa: S608
_POSTGRES_DUE = f"""WITH due AS MATERIALIZED ({
    _DUE.replace("@ids", "event_id AS due_id, handler AS due_handler").replace(
        "@among", "= ANY (ARRAY(SELECT jsonb_array_elements_text(:handlers)))"
    )
} FOR UPDATE SKIP LOCKED)"""
_POSTGRES_TAKE = f"""{_TAKE}
        FROM due WHERE event_id = due_id AND handler = due_handler"""
CLAIM: Statement[Row] = Statement(
    {
        "sqlite": _SQLITE,
        "postgres": f"""{_POSTGRES_DUE}
        {_POSTGRES_TAKE}
        RETURNING event_id, handler, fence, attempts, crashes""",
    }
)
# What CLAIM gives, and on PostgreSQL, where each answer is a round trip, in the same rows the events of the claims;
# with a fence of NULL the new events that were taken, without an event the handlers that may want those.
LOOK: Statement[Row] = Statement(
    {
        "sqlite": _SQLITE,
        "postgres": f"""{_POSTGRES_DUE},
        held AS (
          {_POSTGRES_TAKE}
          RETURNING event_id AS held_id, handler AS held_by, fence, attempts AS tries, crashes),
        new AS (
          DELETE FROM service_pending_events WHERE event_id = ANY (ARRAY(
            SELECT event_id FROM service_pending_events WHERE event_id > :after ORDER BY event_id
            LIMIT :rows - (SELECT count(*) FROM due) FOR UPDATE SKIP LOCKED))
          RETURNING event_id AS new_id)
        SELECT held_id, held_by, fence, tries, crashes, @columns
        FROM held JOIN service_lifecycle_outbox ON event_id = held_id
        UNION ALL
        SELECT new_id, NULL, NULL, NULL, NULL, @columns FROM new JOIN service_lifecycle_outbox ON event_id = new_id
        UNION ALL
        SELECT name, pattern, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, created_at, NULL, NULL
        FROM service_event_handlers WHERE EXISTS (SELECT 1 FROM new)""",  # noqa: S608
    },
    columns=events.COLUMNS,
)
EVENTS: Statement[Row] = Statement(
    {
        "sqlite": """SELECT @columns FROM service_lifecycle_outbox
        WHERE event_id IN (SELECT value FROM json_each(:ids))""",
        "postgres": """SELECT @columns FROM service_lifecycle_outbox
        WHERE event_id IN (SELECT jsonb_array_elements_text(:ids))""",
    },
    columns=events.COLUMNS,
)
# PostgreSQL: an index of what is due, which a bare status would let the planner take here, is scanned as a whole,
# with the entries of all that was settled since the last VACUUM.
HEARTBEAT: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_event_deliveries SET next_attempt_at = @later(seconds)
        FROM json_each(:held) AS held
        WHERE event_id = json_extract(held.value, '$[0]') AND handler = json_extract(held.value, '$[1]')
          AND owner = json_extract(held.value, '$[2]') AND fence = json_extract(held.value, '$[3]')
          AND status = 'processing'
        RETURNING event_id, handler, fence""",
        "postgres": """UPDATE service_event_deliveries SET next_attempt_at = @later(seconds)
        FROM jsonb_array_elements(:held) AS held (value)
        WHERE event_id = ANY (ARRAY(SELECT mine ->> 0 FROM jsonb_array_elements(:held) AS mine))
          AND event_id = value ->> 0 AND handler = value ->> 1 AND owner = value ->> 2
          AND fence = (value ->> 3)::integer AND coalesce(status, '') = 'processing'
        RETURNING event_id, handler, fence""",
    }
)
SETTLE: Statement[Row] = Statement(
    """UPDATE service_event_deliveries SET status = :status, owner = NULL,
      next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
      last_error = :error, updated_at = @now, crashes = 0
    WHERE event_id = :event_id AND handler = :handler AND owner = :owner AND fence = :fence
      AND status = 'processing'
    RETURNING event_id"""
)
SETTLE_MANY: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_event_deliveries SET status = :status, owner = NULL,
          next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
          last_error = :error, updated_at = @now, crashes = 0
        FROM json_each(:held) AS held
        WHERE event_id = json_extract(held.value, '$[0]') AND handler = json_extract(held.value, '$[1]')
          AND owner = json_extract(held.value, '$[2]') AND fence = json_extract(held.value, '$[3]')
          AND status = 'processing'
        RETURNING event_id, handler, fence""",
        "postgres": """WITH held AS MATERIALIZED (
          SELECT value ->> 0 AS held_id, value ->> 1 AS held_for, value ->> 2 AS held_by,
            (value ->> 3)::integer AS held_at
          FROM jsonb_array_elements(:held))
        UPDATE service_event_deliveries SET status = :status, owner = NULL,
          next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
          last_error = :error, updated_at = @now, crashes = 0
        FROM held
        WHERE event_id = ANY (ARRAY(SELECT held_id FROM held))
          AND event_id = held_id AND handler = held_for AND owner = held_by AND fence = held_at
          AND coalesce(status, '') = 'processing'
        RETURNING event_id, handler, fence""",
    }
)
REQUEUE: Statement[Row] = Statement(
    """UPDATE service_event_deliveries SET status = 'pending', attempts = 0, crashes = 0, next_attempt_at = @now,
      updated_at = @now
    WHERE event_id = :event_id AND (:handler = '' OR handler = :handler) AND status = 'dead' RETURNING event_id"""
)
REARM: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_event_deliveries SET status = 'pending', attempts = 0, crashes = 0,
          next_attempt_at = @now, updated_at = @now
        FROM json_each(:seen) AS seen
        WHERE event_id = json_extract(seen.value, '$[0]') AND handler = json_extract(seen.value, '$[1]')
          AND status = json_extract(seen.value, '$[2]') AND fence = json_extract(seen.value, '$[3]')
          AND status IN ('dead', 'delivered')
        RETURNING event_id, handler""",
        "postgres": """UPDATE service_event_deliveries SET status = 'pending', attempts = 0, crashes = 0,
          next_attempt_at = @now, updated_at = @now
        FROM jsonb_array_elements(:seen) AS seen (value)
        WHERE event_id = ANY (ARRAY(SELECT one ->> 0 FROM jsonb_array_elements(:seen) AS one))
          AND event_id = value ->> 0 AND handler = value ->> 1 AND status = value ->> 2
          AND fence = (value ->> 3)::integer AND status IN ('dead', 'delivered')
        RETURNING event_id, handler""",
    }
)
EVENT: Statement[Event] = Statement(
    OutboxRow.select(*events.COLUMNS).where(OutboxRow.event_id == Param("id")), event_of
)
_HANDLER = pw.fn.coalesce(EventDeliveryRow.handler, SQL("''"))
_PENDING = PendingEventRow.select(SQL("'pending'")).where(PendingEventRow.event_id == OutboxRow.event_id)
_STATUS = pw.fn.coalesce(EventDeliveryRow.status, _PENDING, SQL("'delivered'"))
_ITEMS = (
    OutboxRow.select(
        OutboxRow.event_id,
        EventDeliveryRow.handler,
        _STATUS,
        pw.fn.coalesce(EventDeliveryRow.attempts, SQL("0")),
        OutboxRow.provider_id,
        OutboxRow.event_name,
        pw.fn.coalesce(EventDeliveryRow.last_error, SQL("''")),
        OutboxRow.created_at,
        pw.fn.coalesce(EventDeliveryRow.fence, SQL("0")),
    )
    .join(EventDeliveryRow, pw.JOIN.LEFT_OUTER, on=EventDeliveryRow.event_id == OutboxRow.event_id)
    .where(OutboxRow.event_id >= Param("event_id"))
    .where(pw.Tuple(OutboxRow.event_id, _HANDLER) > pw.Tuple(Param("event_id"), Param("after")))
    .order_by(OutboxRow.event_id, _HANDLER)
)
_FILTERS: Mapping[str, Any] = {
    "provider_id": OutboxRow.provider_id,
    "name": OutboxRow.event_name,
    "created_at": OutboxRow.created_at,
    "handler": EventDeliveryRow.handler,
    "row": _item_of,
}
LIST = Listing(_ITEMS, status=_STATUS, **_FILTERS)
# As text, so that the planner finds the index of the few that are dead among all that are done.
DEAD = Listing(_ITEMS.where(EventDeliveryRow.status == SQL("'dead'")), status=EventDeliveryRow.status, **_FILTERS)
DELIVERIES: Statement[QueueItem] = Statement(
    _ITEMS.where(OutboxRow.event_id == Param("event_id"), EventDeliveryRow.handler.is_null(False)), _item_of
)


def claim(front: Front[str], *, owner: str, seconds: float, limit: int, handlers: Sequence[str]) -> Steps[list[Claim]]:
    """Take what is due for ``handlers``, then new events from the ``front`` on, which are handed to their handlers.

    Two statements where nothing is new, and on PostgreSQL also with new events; on SQLite five with those, and one more
    for the events of what was due. One more where new ones have to keep an order or are more than ``limit``.
    """
    wanted = Wanted(owner=owner, seconds=seconds, handlers=frozenset(handlers))
    names = Json(list(handlers))
    found = yield from LOOK(owner=owner, seconds=seconds, rows=limit, handlers=names, after=front.begin())
    taken = [row[:5] for row in found if row[2] is not None]
    new = [row[5:] for row in found if row[2] is None and row[5] is not None]
    front.took([row[0] for row in new], wanted=limit - len(taken))
    known: dict[str, Event] = {}
    broken: dict[str, str] = {}
    _read((row[5:] for row in found if row[2] is not None and row[5:]), known, broken)
    rows, more = limit - len(taken), False
    everyone = [(row[0], row[1], row[13]) for row in found if row[5:] and row[5] is None]
    for _ in range(ROUNDS):
        left = limit - len(taken)
        if left <= 0:
            break
        handed, read, more, count = yield from (
            hand_out(wanted, left, new, everyone) if new else fan_out(wanted, left, rows)
        )
        taken += handed
        known |= read
        if more or count < rows:
            break
        new, rows = [], MANY  # nobody wants some of those: behind them may be one that somebody waits for
    if more and len(taken) < limit:
        taken += yield from CLAIM(owner=owner, seconds=seconds, rows=limit - len(taken), handlers=names)
    if not taken:
        return []
    missing = sorted({row[0] for row in taken} - known.keys() - broken.keys())
    if missing:
        _read((yield from EVENTS(ids=Json(missing))), known, broken)
    claims = [
        Claim(
            queue="outbox",
            id=item_id(event_id, handler),
            owner=owner,
            fence=fence,
            attempt=attempts,
            crashes=crashes,
            event=known.get(event_id),
            handler=handler,
        )
        for event_id, handler, fence, attempts, crashes in taken
    ]
    for kind in sorted(set(broken.values())):  # a row that a person or a disk has changed
        bad = [claim for claim in claims if broken.get(claim.id.partition(":")[0]) == kind]
        yield from settle_many(bad, "dead", error=f"The event cannot be read: {kind}.", delay=0)
    # RETURNING has no order
    return sorted((claim for claim in claims if claim.event is not None), key=lambda claim: claim.id)


def _read(rows: Iterable[Row], known: dict[str, Event], broken: dict[str, str]) -> None:
    for row in rows:
        try:
            known[row[0]] = event_of(row)
        except (ValueError, TypeError, ServicesError) as error:
            broken[row[0]] = type(error).__name__


def _key(claim: Claim) -> dict[str, Any]:
    event_id, _, handler = claim.id.partition(":")
    return {"event_id": event_id, "handler": handler, "owner": claim.owner, "fence": claim.fence}


def heartbeat(claims: Sequence[Claim], *, seconds: float) -> Steps[list[str]]:
    """Extend the leases: one statement. Gives the ids that are lost."""
    held = Json([list(_key(claim).values()) for claim in claims])
    kept = {(item_id(row[0], row[1]), row[2]) for row in (yield from HEARTBEAT(held=held, seconds=seconds))}
    return [claim.id for claim in claims if (claim.id, claim.fence) not in kept]


def settle(claim: Claim, outcome: str, *, error: str, delay: float) -> Steps[bool]:
    """End the claim: one statement. False when it is not held any more."""
    values: dict[str, Any] = {"status": SETTLED[outcome], "error": error, "delay": delay}
    return (yield from SETTLE.first(**_key(claim), **values)) is not None


def settle_many(claims: Sequence[Claim], outcome: str, *, error: str, delay: float) -> Steps[list[str]]:
    """End the claims: one statement. Gives the ids that are lost."""
    held = Json([list(_key(claim).values()) for claim in claims])
    ended = yield from SETTLE_MANY(held=held, status=SETTLED[outcome], error=error, delay=delay)
    kept = {(item_id(row[0], row[1]), row[2]) for row in ended}
    return [claim.id for claim in claims if (claim.id, claim.fence) not in kept]


def requeue(id: str, *, handler: str | None) -> Steps[bool]:
    """Make dead deliveries due again: of one handler, or of all for an event's id alone."""
    event_id, _, named = id.partition(":")
    return (yield from REQUEUE.first(event_id=event_id, handler=handler or named)) is not None


def rearm(items: Sequence[QueueItem]) -> Steps[list[str]]:
    """Make deliveries due again that are still as ``items`` shows them: one statement. Gives their ids."""
    seen = [[item.id.partition(":")[0], item.handler, item.status, item.fence] for item in items]
    return [item_id(event_id, handler) for event_id, handler in (yield from REARM(seen=Json(seen)))]


def event(event_id: str) -> Steps[Event | None]:
    """The event."""
    return (yield from EVENT.first(id=event_id))


def deliveries(event_id: str) -> Steps[list[QueueItem]]:
    """The event's deliveries by handler."""
    return (yield from DELIVERIES(event_id=event_id, after=""))


def page(filters: Mapping[str, Any], *, after: str | None, limit: int) -> Steps[Page[QueueItem]]:
    """Deliveries by event and handler; an event that no handler has is one item."""
    event_id, _, handler = (after or "").partition(":")
    place = {"event_id": event_id, "after": handler}
    if filters.get("status") == "dead":
        return (yield from DEAD.page({**filters, "status": None}, place, limit=limit))
    return (yield from LIST.page(filters, place, limit=limit))
