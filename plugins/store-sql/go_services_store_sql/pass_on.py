"""Ending claims of the inbox with an event for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

from go_services_core.model import Claim, Event

from .dialect import Json
from .events import row_of
from .models import OutboxRow
from .models.columns import Time
from .statement import Call, Row, Statement, Steps


def _read(field: Any) -> str:
    value = f"json_extract(value, '$.{field.column_name}')"
    return f"substr({value}, 1, 26)" if isinstance(field, Time) else value  # without the zone, as SQLite has it


_FIELDS = OutboxRow._meta.sorted_fields
# Of a held one: the claim's id, owner and fence, and the event's row, which PostgreSQL writes at once.
END: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_webhook_deliveries SET status = 'processed', owner = NULL,
          next_attempt_at = NULL, last_error = '', updated_at = @now
        FROM json_each(:held) AS held
        WHERE service_webhook_deliveries.id = json_extract(held.value, '$[0]')
          AND owner = json_extract(held.value, '$[1]') AND fence = json_extract(held.value, '$[2]')
          AND status = 'processing'
        RETURNING service_webhook_deliveries.id, fence""",
        "postgres": """WITH held AS MATERIALIZED (
          SELECT value ->> 0 AS held_id, value ->> 1 AS held_by, (value ->> 2)::integer AS held_at, value -> 3 AS event
          FROM jsonb_array_elements(:held)),
        ended AS (
          UPDATE service_webhook_deliveries SET status = 'processed', owner = NULL,
            next_attempt_at = NULL, last_error = '', updated_at = @now
          FROM held
          WHERE id = ANY (ARRAY(SELECT held_id FROM held))
            AND id = held_id AND owner = held_by AND fence = held_at AND coalesce(status, '') = 'processing'
          RETURNING id, fence, held.event),
        made AS (
          INSERT INTO service_lifecycle_outbox
          SELECT told.* FROM ended, LATERAL jsonb_populate_record(NULL::service_lifecycle_outbox, ended.event) AS told
          ON CONFLICT DO NOTHING RETURNING event_id, order_key),
        marked AS (INSERT INTO service_pending_events (event_id, order_key) SELECT event_id, order_key FROM made)
        SELECT id, fence FROM ended""",
    }
)
INSERT_NEW: Statement[Row] = Statement(
    {
        "sqlite": f"""INSERT INTO service_lifecycle_outbox ({", ".join(field.column_name for field in _FIELDS)})
        SELECT {", ".join(map(_read, _FIELDS))} FROM json_each(:events) WHERE true ON CONFLICT DO NOTHING""",  # noqa: S608
        "postgres": "",
    }
)


def pass_on(pairs: Sequence[tuple[Claim, Event]]) -> Steps[list[str]]:
    """End the claims and commit their events: one statement where a WITH may change rows, else two.

    Gives the ids that are lost. A listener is told also of an event that was there.
    """
    told = [event for _, event in pairs]
    rows = [row_of(event) for event in told]
    held = [[claim.id, claim.owner, claim.fence, row] for (claim, _), row in zip(pairs, rows, strict=True)]
    ended = {(id, fence) for id, fence in (yield Call(END, {"held": Json(held)}, told))}
    is_ended = [(claim.id, claim.fence) in ended for claim, _ in pairs]
    told[:] = compress(told, is_ended)
    if told:
        yield Call(INSERT_NEW, {"events": Json([*compress(rows, is_ended)])})
    return [claim.id for (claim, _), kept in zip(pairs, is_ended, strict=True) if not kept]
