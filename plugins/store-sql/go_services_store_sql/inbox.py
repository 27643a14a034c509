"""The inbox: verified webhook deliveries, kept once and handled under a lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from go_services_core.delivery_specs import Burst
from go_services_core.errors import ServicesError
from go_services_core.model import Accepted, Claim, InboxDelivery, KeyRef, Page, QueueItem, Scope, Sealed

from . import inbox_bursts
from .dialect import Json, read_time
from .front import Front
from .inbox_bursts import STALE
from .listing import Listing
from .models import InboxRow
from .statement import NOW, Param, Row, Statement, Steps, insert

COLUMNS = (
    InboxRow.id,
    InboxRow.provider_id,
    InboxRow.connection_id,
    InboxRow.scope_type,
    InboxRow.scope_id,
    InboxRow.delivery_id,
    InboxRow.event,
    InboxRow.digest,
    InboxRow.payload,
    InboxRow.encryption_backend,
    InboxRow.encryption_key_id,
    InboxRow.encryption_version,
    InboxRow.received_at,
    InboxRow.order_key,
    InboxRow.channel,
    InboxRow.resource,
    InboxRow.burst_key,
)
SETTLED = {"done": "processed", "retry": "retry_ready", "dead": "dead"}


def delivery_of(row: Row) -> InboxDelivery:
    """The delivery in a row of ``COLUMNS``."""
    return InboxDelivery(
        id=row[0],
        provider_id=row[1],
        connection_id=row[2],
        scope=None if row[3] is None else Scope(row[3], row[4]),
        delivery_id=row[5],
        event=row[6],
        digest=bytes(row[7]),
        sealed=Sealed(bytes(row[8]), KeyRef(row[9], row[10], row[11])),
        received_at=read_time(row[12]),
        order_key=row[13],
        channel=row[14],
        resource=row[15],
        burst_key=row[16],
    )


def _item_of(row: Row) -> QueueItem:
    return QueueItem(
        id=row[0],
        queue="inbox",
        status=row[1],
        attempts=row[2],
        provider_id=row[3],
        name=row[4],
        error=row[5],
        created_at=read_time(row[6]),
    )


INSERT_DELIVERY: Statement[Row] = Statement(
    insert(InboxRow, next_attempt_at=NOW), tail="ON CONFLICT DO NOTHING RETURNING id, false"
)
SEEN: Statement[Row] = Statement(
    """SELECT id, digest FROM service_webhook_deliveries
    WHERE provider_id = :provider_id AND coalesce(connection_id, '') = :channel AND delivery_id = :delivery_id
      AND variant = ''"""
)
VARIANT: Statement[Row] = Statement(
    """SELECT id, status = 'quarantined' FROM service_webhook_deliveries
    WHERE provider_id = :provider_id AND coalesce(connection_id, '') = :channel AND delivery_id = :delivery_id
      AND variant = :variant"""
)
_TAKE = """UPDATE service_webhook_deliveries SET
          status = CASE WHEN @stale THEN 'superseded' ELSE 'processing' END,
          owner = CASE WHEN @stale THEN NULL ELSE :owner END, fence = fence + 1,
          attempts = attempts + CASE WHEN @stale THEN 0 ELSE 1 END,
          next_attempt_at = CASE WHEN @stale THEN NULL ELSE @later(seconds) END, updated_at = @now"""
CLAIM: Statement[Row] = Statement(
    {
        "sqlite": f"""{_TAKE.replace("@stale", STALE.replace("item.", "service_webhook_deliveries."))}
        WHERE id IN (
          SELECT id FROM service_webhook_deliveries AS item
          WHERE status IN ('pending', 'retry_ready', 'processing') AND next_attempt_at <= @now
            AND (order_key IS NULL OR NOT EXISTS (
              SELECT 1 FROM service_webhook_deliveries AS head
              WHERE head.provider_id = item.provider_id AND head.order_key = item.order_key AND head.id < item.id
                AND head.status IN ('pending', 'retry_ready', 'processing')))
          ORDER BY next_attempt_at, id LIMIT :rows)
        RETURNING status = 'processing', fence, attempts, NULL, @columns""",  # noqa: S608
        # MATERIALIZED: a plan that ran the inner query twice would lock more rows than it gives.
        "postgres": f"""WITH due AS MATERIALIZED (
          SELECT id AS due_id, next_attempt_at AS due_at, {STALE} AS is_stale FROM service_webhook_deliveries AS item
          WHERE status IN ('pending', 'retry_ready', 'processing') AND next_attempt_at <= @now
            AND next_attempt_at >= :due_from
            AND (order_key IS NULL OR NOT EXISTS (
              SELECT 1 FROM service_webhook_deliveries AS head
              WHERE head.provider_id = item.provider_id AND head.order_key = item.order_key AND head.id < item.id
                AND head.status IN ('pending', 'retry_ready', 'processing')))
          ORDER BY next_attempt_at, id LIMIT :rows FOR UPDATE SKIP LOCKED)
        {_TAKE.replace("@stale", "is_stale")}
        FROM due WHERE id = due_id
        RETURNING status = 'processing', fence, attempts, due_at, @columns""",  # noqa: S608
    },
    columns=COLUMNS,
)
# PostgreSQL: a bare status would let the planner scan the whole index of what is due, as in the outbox.
HEARTBEAT: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_webhook_deliveries SET next_attempt_at = @later(seconds)
        FROM json_each(:held) AS held
        WHERE service_webhook_deliveries.id = json_extract(held.value, '$[0]')
          AND owner = json_extract(held.value, '$[1]') AND fence = json_extract(held.value, '$[2]')
          AND status = 'processing'
        RETURNING service_webhook_deliveries.id, fence""",
        "postgres": """UPDATE service_webhook_deliveries SET next_attempt_at = @later(seconds)
        FROM jsonb_array_elements(:held) AS held (value)
        WHERE id = ANY (ARRAY(SELECT mine ->> 0 FROM jsonb_array_elements(:held) AS mine))
          AND id = value ->> 0 AND owner = value ->> 1 AND fence = (value ->> 2)::integer
          AND coalesce(status, '') = 'processing'
        RETURNING id, fence""",
    }
)
SETTLE: Statement[Row] = Statement(
    """UPDATE service_webhook_deliveries SET status = :status, owner = NULL,
      next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
      last_error = :error, updated_at = @now
    WHERE id = :id AND owner = :owner AND fence = :fence AND status = 'processing' RETURNING id"""
)
SETTLE_MANY: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_webhook_deliveries SET status = :status, owner = NULL,
          next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
          last_error = :error, updated_at = @now
        FROM json_each(:held) AS held
        WHERE service_webhook_deliveries.id = json_extract(held.value, '$[0]')
          AND owner = json_extract(held.value, '$[1]') AND fence = json_extract(held.value, '$[2]')
          AND status = 'processing'
        RETURNING service_webhook_deliveries.id, fence""",
        "postgres": """UPDATE service_webhook_deliveries SET status = :status, owner = NULL,
          next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
          last_error = :error, updated_at = @now
        FROM jsonb_array_elements(:held) AS held (value)
        WHERE id = ANY (ARRAY(SELECT mine ->> 0 FROM jsonb_array_elements(:held) AS mine))
          AND id = value ->> 0 AND owner = value ->> 1 AND fence = (value ->> 2)::integer
          AND coalesce(status, '') = 'processing'
        RETURNING id, fence""",
    }
)
REQUEUE: Statement[Row] = Statement(
    """UPDATE service_webhook_deliveries SET status = 'pending', attempts = 0, next_attempt_at = @now,
      updated_at = @now
    WHERE id = :id AND status = 'dead' RETURNING id"""
)
DELIVERY: Statement[InboxDelivery] = Statement(InboxRow.select(*COLUMNS).where(InboxRow.id == Param("id")), delivery_of)
LIST = Listing(
    InboxRow.select(
        InboxRow.id,
        InboxRow.status,
        InboxRow.attempts,
        InboxRow.provider_id,
        InboxRow.event,
        InboxRow.last_error,
        InboxRow.created_at,
    )
    .where(InboxRow.id > Param("after"))
    .order_by(InboxRow.id),
    status=InboxRow.status,
    provider_id=InboxRow.provider_id,
    name=InboxRow.event,
    created_at=InboxRow.created_at,
    row=_item_of,
)


def accept(delivery: InboxDelivery, burst: Burst | None) -> Steps[Accepted]:
    """Keep a delivery: one statement where it is new, up to four where its id was seen."""
    inserted = yield from _insert(delivery, burst)
    if inserted is not None:
        return Accepted(id=delivery.id, supersedes=burst is not None and bool(inserted[1]))
    channel = {
        "provider_id": delivery.provider_id,
        "channel": delivery.connection_id or "",
        "delivery_id": delivery.delivery_id,
    }
    seen = yield from SEEN.first(**channel)
    if seen is not None and bytes(seen[1]) == delivery.digest:
        return Accepted(id=seen[0], duplicate=True)
    variant = delivery.digest.hex()
    if (yield from _insert(delivery, None, status="quarantined", variant=variant)) is not None:
        return Accepted(id=delivery.id, quarantined=True)
    before = yield from VARIANT.first(**channel, variant=variant)
    if before is None:
        return Accepted(id=delivery.id, duplicate=True, quarantined=True)
    return Accepted(id=before[0], duplicate=True, quarantined=bool(before[1]))


def _insert(
    delivery: InboxDelivery, burst: Burst | None, *, status: str = "pending", variant: str = ""
) -> Steps[Row | None]:
    values: dict[str, Any] = {
        "id": delivery.id,
        "provider_id": delivery.provider_id,
        "connection_id": delivery.connection_id,
        "scope_type": None if delivery.scope is None else delivery.scope.type,
        "scope_id": None if delivery.scope is None else delivery.scope.id,
        "delivery_id": delivery.delivery_id,
        "event": delivery.event,
        "digest": delivery.digest,
        "payload": delivery.sealed.ciphertext,
        "encryption_backend": delivery.sealed.key.backend,
        "encryption_key_id": delivery.sealed.key.key_id,
        "encryption_version": delivery.sealed.key.key_version,
        "status": status,
        "attempts": 0,
        "owner": None,
        "fence": 0,
        "last_error": "",
        "order_key": delivery.order_key,
        "channel": delivery.channel,
        "resource": delivery.resource,
        "variant": variant,
        "burst_key": None,
        "received_at": delivery.received_at,
        "created_at": delivery.received_at,
        "updated_at": delivery.received_at,
    }
    if burst is None or delivery.burst_key is None:
        return (yield from INSERT_DELIVERY.first(**values, burst_until=None))
    values["burst_key"] = delivery.burst_key
    return (yield from inbox_bursts.INSERT[burst.mode].first(**values, **inbox_bursts.timing(burst)))


def claim(front: Front[datetime], *, owner: str, seconds: float, limit: int) -> Steps[list[Claim]]:
    """Take what is due, from the ``front`` on: one statement.

    Another one where newer deliveries superseded all that it took, and where nothing is due from there on. What cannot
    be read is set aside as dead: one more statement.
    """
    while True:
        due_from, whole = front.begin(), front.is_first
        taken = yield from CLAIM(owner=owner, seconds=seconds, rows=limit, due_from=due_from)
        front.took([row[3] for row in taken if row[3] is not None], wanted=limit)
        if whole and not taken:
            return []
        claims: list[Claim] = []
        broken: dict[str, list[Claim]] = {}
        for row in (row for row in taken if row[0]):
            known: dict[str, Any] = {"queue": "inbox", "id": row[4], "owner": owner, "fence": row[1], "attempt": row[2]}
            try:
                claims.append(Claim(**known, delivery=delivery_of(row[4:])))
            except (ValueError, TypeError, ServicesError) as error:  # a row that a person or a disk has changed
                broken.setdefault(type(error).__name__, []).append(Claim(**known))
        for kind, bad in sorted(broken.items()):
            yield from settle_many(bad, "dead", error=f"The delivery cannot be read: {kind}.", delay=0)
        if claims:
            return sorted(claims, key=lambda claim: claim.id)  # RETURNING has no order


def heartbeat(claims: Sequence[Claim], *, seconds: float) -> Steps[list[str]]:
    """Extend the leases: one statement. Gives the ids that are lost."""
    held = Json([[claim.id, claim.owner, claim.fence] for claim in claims])
    kept = {(row[0], row[1]) for row in (yield from HEARTBEAT(held=held, seconds=seconds))}
    return [claim.id for claim in claims if (claim.id, claim.fence) not in kept]


def settle(claim: Claim, outcome: str, *, error: str, delay: float) -> Steps[bool]:
    """End the claim; False when it is not held any more."""
    values: dict[str, Any] = {"status": SETTLED[outcome], "error": error, "delay": delay}
    return (yield from SETTLE.first(**values, id=claim.id, owner=claim.owner, fence=claim.fence)) is not None


def settle_many(claims: Sequence[Claim], outcome: str, *, error: str, delay: float) -> Steps[list[str]]:
    """End the claims: one statement. Gives the ids that are lost."""
    held = Json([[claim.id, claim.owner, claim.fence] for claim in claims])
    ended = yield from SETTLE_MANY(held=held, status=SETTLED[outcome], error=error, delay=delay)
    kept = {(row[0], row[1]) for row in ended}
    return [claim.id for claim in claims if (claim.id, claim.fence) not in kept]


def requeue(item_id: str) -> Steps[bool]:
    """Make a dead delivery due again."""
    return (yield from REQUEUE.first(id=item_id)) is not None


def delivery(row_id: str) -> Steps[InboxDelivery | None]:
    """The stored delivery."""
    return (yield from DELIVERY.first(id=row_id))


def page(filters: Mapping[str, Any], *, after: str | None, limit: int) -> Steps[Page[QueueItem]]:
    """Deliveries by id."""
    return (yield from LIST.page(filters, {"after": after or ""}, limit=limit))
