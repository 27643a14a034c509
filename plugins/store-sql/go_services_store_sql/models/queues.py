"""The queues: inbox, outbox with its handlers, jobs."""

from __future__ import annotations

import peewee as pw
from attrs import frozen
from peewee import SQL, Check

from .columns import Bytes, Table, Time, connection, count, json, text


class OutboxRow(Table):
    id = pw.TextField(primary_key=True)
    event_id = text(unique=True)
    event_name = text()
    source = text("runtime")
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection("SET NULL", null=True)
    payload = json()
    metadata = json()
    status = text()
    """committed. Events of before migration 0012, and the Go system's, may be delivered or processing. Those that are
    not handed out yet are in service_pending_events; how far the others are is in service_event_deliveries."""
    attempts = count()
    next_attempt_at = Time(null=True)
    last_error = text("")
    occurred_at = Time()
    created_at = Time()
    updated_at = Time()
    order_key = text(null=True)
    """Passed on to service_event_deliveries."""
    version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])

    class Meta:
        table_name = "service_lifecycle_outbox"


OutboxRow.add_index(
    OutboxRow.connection_id, where=SQL("connection_id IS NOT NULL"), name="ix_service_lifecycle_outbox_connection"
)


class PendingEventRow(Table):
    """An event that is not handed to its handlers yet: it is removed in the unit that writes their deliveries.

    In a table of its own, because the event's row is many times as wide and would be written a second time. It is
    written by the statement that writes the event, on SQLite by a trigger.
    """

    event_id = pw.TextField(primary_key=True)
    order_key = text(null=True)

    class Meta:
        table_name = "service_pending_events"


PendingEventRow.add_index(
    PendingEventRow.order_key,
    PendingEventRow.event_id,
    where=SQL("order_key IS NOT NULL"),
    name="ix_service_pending_events_order",
)


@frozen
class Trigger:
    """One that a table has; peewee has no words for it."""

    name: str
    table: str
    text: str


TRIGGERS = {
    "sqlite": (
        Trigger(
            "tr_service_lifecycle_outbox_pending",
            "service_lifecycle_outbox",
            'CREATE TRIGGER "tr_service_lifecycle_outbox_pending" AFTER INSERT ON "service_lifecycle_outbox" '
            'WHEN NEW."status" = \'committed\' BEGIN INSERT INTO "service_pending_events" '
            '("event_id", "order_key") VALUES (NEW."event_id", NEW."order_key"); END',
        ),
    ),
    "postgres": (),
}
"""By dialect."""


class InboxRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    connection_id = text(null=True)
    scope_type = text(null=True)
    scope_id = text(null=True)
    delivery_id = text()
    event = text()
    digest = Bytes()
    payload = Bytes(null=True)
    """The sealed request."""
    encryption_backend = text("")
    encryption_key_id = text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    status = text()
    """pending, processing, retry_ready, processed, superseded, dead, quarantined, dropped."""
    attempts = count()
    owner = text(null=True)
    fence = count()
    next_attempt_at = Time(null=True)
    """When it is due: at once, after its burst or a retry's delay, or, while processing, when the lease ends."""
    last_error = text("")
    received_at = Time()
    created_at = Time()
    updated_at = Time()
    order_key = text(null=True)
    """Of the open rows of one provider and key only that with the lowest id is claimed."""
    channel = text("")
    resource = text("")
    variant = text("")
    """Empty for the first body of a delivery id; the digest of each other one, in hex."""
    burst_key = text(null=True)
    """Of the rows of one provider and key that wait only that with the highest id is handled."""
    burst_until = Time(null=True)
    """Debounced: when it is due at the latest. Coalesced: until when it keeps the next one waiting."""

    class Meta:
        table_name = "service_webhook_deliveries"


InboxRow.add_index(
    InboxRow.provider_id,
    SQL("coalesce(connection_id, '')"),
    InboxRow.delivery_id,
    InboxRow.variant,
    unique=True,
    name="uq_service_webhook_deliveries_delivery",
)
InboxRow.add_index(
    InboxRow.provider_id,
    InboxRow.burst_key,
    InboxRow.id,
    where=SQL("burst_key IS NOT NULL AND status <> 'superseded'"),
    name="ix_service_webhook_deliveries_burst",
)
InboxRow.add_index(
    InboxRow.next_attempt_at,
    InboxRow.id,
    where=SQL("status IN ('pending', 'retry_ready', 'processing')"),
    name="ix_service_webhook_deliveries_due",
)
InboxRow.add_index(
    InboxRow.provider_id,
    InboxRow.order_key,
    InboxRow.id,
    where=SQL("status IN ('pending', 'retry_ready', 'processing') AND order_key IS NOT NULL"),
    name="ix_service_webhook_deliveries_order",
)
InboxRow.add_index(InboxRow.id, where=SQL("status = 'dead'"), name="ix_service_webhook_deliveries_dead")


class HandlerRow(Table):
    name = pw.TextField(primary_key=True)
    pattern = text()
    created_at = Time()
    seen_at = Time(null=True)
    """When a process last said that it has the handler."""

    class Meta:
        table_name = "service_event_handlers"


class EventDeliveryRow(Table):
    event_id = pw.TextField(constraints=[SQL("REFERENCES service_lifecycle_outbox (event_id) ON DELETE CASCADE")])
    handler = text()
    status = text()
    """pending, processing, retry_ready, delivered, dead."""
    attempts = count()
    owner = text(null=True)
    fence = count()
    next_attempt_at = Time(null=True)
    """As in service_webhook_deliveries."""
    last_error = text("")
    updated_at = Time()
    order_key = text(null=True)
    """As in service_webhook_deliveries, for one handler."""
    crashes = count()
    """How often its lease ended since it was last settled: it may be what ends the process that runs it."""

    class Meta:
        table_name = "service_event_deliveries"
        primary_key = pw.CompositeKey("event_id", "handler")


EventDeliveryRow.add_index(
    EventDeliveryRow.next_attempt_at,
    EventDeliveryRow.event_id,
    EventDeliveryRow.handler,
    where=SQL("status IN ('pending', 'retry_ready', 'processing')"),
    name="ix_service_event_deliveries_due",
)
EventDeliveryRow.add_index(
    EventDeliveryRow.handler,
    EventDeliveryRow.order_key,
    EventDeliveryRow.event_id,
    where=SQL("status IN ('pending', 'retry_ready', 'processing') AND order_key IS NOT NULL"),
    name="ix_service_event_deliveries_order",
)
EventDeliveryRow.add_index(
    EventDeliveryRow.event_id,
    EventDeliveryRow.handler,
    where=SQL("status = 'dead'"),
    name="ix_service_event_deliveries_dead",
)


class PositionRow(Table):
    id = pw.TextField(primary_key=True)
    """Handler and key as a JSON array."""
    handler = text()
    key = text()
    at = pw.BigIntegerField()
    """How new the newest state is that the handler committed under the key."""
    updated_at = Time()

    class Meta:
        table_name = "service_event_positions"


PositionRow.add_index(PositionRow.handler, name="ix_service_event_positions_handler")


class JobRow(Table):
    id = pw.TextField(primary_key=True)
    kind = text("")
    provider_id = text()
    scope_type = text(null=True)
    scope_id = text(null=True)
    connection_id = connection(null=True)
    """NULL for the runtime's own jobs."""
    mode = text()
    requested_by = text("")
    order_key = text(null=True)
    """As in service_webhook_deliveries, for one kind."""
    payload = json()
    checkpoint = text(null=True)
    status = text()
    """queued, running, succeeded, failed."""
    attempts = count()
    owner = text(null=True)
    fence = count()
    next_attempt_at = Time(null=True)
    """As in service_webhook_deliveries."""
    last_error = text("")
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_sync_jobs"


JobRow.add_index(
    JobRow.next_attempt_at,
    JobRow.id,
    JobRow.kind,
    where=SQL("status IN ('queued', 'running')"),
    name="ix_service_sync_jobs_due",
)
JobRow.add_index(
    JobRow.kind,
    JobRow.order_key,
    JobRow.id,
    where=SQL("status IN ('queued', 'running') AND order_key IS NOT NULL"),
    name="ix_service_sync_jobs_order",
)
JobRow.add_index(JobRow.connection_id, name="ix_service_sync_jobs_connection")
JobRow.add_index(JobRow.id, where=SQL("status = 'failed'"), name="ix_service_sync_jobs_dead")


class JobKeyRow(Table):
    id = pw.TextField(primary_key=True)
    scope_type = text()
    scope_id = text()
    provider_id = text()
    connection_id = connection(null=True)
    mode = text()
    idempotency_key = text(constraints=[Check("length(trim(idempotency_key)) > 0")])
    # Checked at the commit: the key is taken before the job is written.
    sync_job_id = text(
        constraints=[SQL("REFERENCES service_sync_jobs (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED")]
    )
    requested_by = text("")
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_sync_job_idempotency"


JobKeyRow.add_index(
    JobKeyRow.scope_type,
    JobKeyRow.scope_id,
    JobKeyRow.provider_id,
    JobKeyRow.mode,
    JobKeyRow.idempotency_key,
    unique=True,
    name="uq_service_sync_job_idempotency_tuple",
)
JobKeyRow.add_index(JobKeyRow.sync_job_id, name="ix_service_sync_job_idempotency_job")
JobKeyRow.add_index(JobKeyRow.connection_id, name="ix_service_sync_job_idempotency_connection")
