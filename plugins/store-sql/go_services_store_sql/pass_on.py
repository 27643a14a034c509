"""Ending claims of the inbox with an event for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

from go_services_core.model import Claim, Event

from .dialect import Json
from .events import COLUMNS, row_of
from .statement import Call, Row, Statement, Steps

_PLACES = {column.column_name: place for place, column in enumerate(COLUMNS)}
_SQLITE = {name: f"json_extract(value, '$[{place}]')" for name, place in _PLACES.items()}
_POSTGRES = {
    **{name: f"event ->> {place}" for name, place in _PLACES.items()},
    "payload": f"event -> {_PLACES['payload']}",
    "occurred_at": f"(event ->> {_PLACES['occurred_at']})::timestamp AT TIME ZONE 'UTC'",
    "version": f"(event ->> {_PLACES['version']})::integer",
}


def _insert(read: Mapping[str, str]) -> str:
    """The insert of new events, whose values ``read`` gives by column."""
    at = read["occurred_at"]
    values = {"id": read["event_id"], **read, "status": "'committed'", "created_at": at, "updated_at": at}
    return f"INSERT INTO service_lifecycle_outbox ({', '.join(values)}) SELECT {', '.join(values.values())}"


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
        "postgres": f"""WITH held AS MATERIALIZED (
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
          {_insert(_POSTGRES)} FROM ended
          ON CONFLICT DO NOTHING RETURNING event_id, order_key),
        marked AS (INSERT INTO service_pending_events (event_id, order_key) SELECT event_id, order_key FROM made)
        SELECT id, fence FROM ended""",  # noqa: S608
    }
)
INSERT_NEW: Statement[Row] = Statement(
    {
        "sqlite": f"{_insert(_SQLITE)} FROM json_each(:events) WHERE true ON CONFLICT DO NOTHING",
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
