"""Handing new events to their handlers: a row for each, most of them claimed in the same moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TypeAlias

from attrs import frozen

from go_services_core.errors import ServicesError
from go_services_core.model import Event

from . import events
from .dialect import Json, read_time
from .events import event_of
from .statement import Row, Statement, Steps

REGISTER: Statement[Row] = Statement(
    """INSERT INTO service_event_handlers (name, pattern, created_at, seen_at) VALUES (:name, :pattern, :now, @now)
    ON CONFLICT (name) DO UPDATE SET pattern = excluded.pattern, seen_at = excluded.seen_at"""
)
SILENCE: Statement[Row] = Statement("UPDATE service_event_handlers SET pattern = '' WHERE name = :name")
HANDLERS: Statement[Row] = Statement("SELECT name, pattern, created_at FROM service_event_handlers")
TAKE_PENDING: Statement[Row] = Statement(
    {
        "sqlite": """SELECT @columns FROM service_lifecycle_outbox
        WHERE event_id IN (SELECT event_id FROM service_pending_events ORDER BY event_id LIMIT :rows)""",
        # An array, so that one plan serves any number of rows.
        "postgres": """WITH taken AS (
          DELETE FROM service_pending_events WHERE event_id = ANY (ARRAY(
            SELECT event_id FROM service_pending_events ORDER BY event_id LIMIT :rows FOR UPDATE SKIP LOCKED))
          RETURNING event_id AS taken_id)
        SELECT @columns FROM taken JOIN service_lifecycle_outbox ON event_id = taken_id""",
    },
    columns=events.COLUMNS,
)
DROP_PENDING: Statement[Row] = Statement(
    {
        "sqlite": """DELETE FROM service_pending_events
        WHERE event_id IN (SELECT event_id FROM service_pending_events ORDER BY event_id LIMIT :rows)""",
        "postgres": "",
    }
)
# Event, handler, order key, and 1 for what is claimed at once. One that is there already came by a backfill.
DELIVER: Statement[Row] = Statement(
    {
        "sqlite": """INSERT INTO service_event_deliveries
          (event_id, handler, order_key, status, owner, fence, attempts, next_attempt_at, updated_at)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
          iif(json_extract(value, '$[3]'), 'processing', 'pending'), iif(json_extract(value, '$[3]'), :owner, NULL),
          json_extract(value, '$[3]'), json_extract(value, '$[3]'),
          iif(json_extract(value, '$[3]'), @later(seconds), @now), @now
        FROM json_each(:pairs) WHERE true
        ON CONFLICT (event_id, handler) DO NOTHING
        RETURNING event_id, handler, fence, attempts, crashes""",
        "postgres": """INSERT INTO service_event_deliveries
          (event_id, handler, order_key, status, owner, fence, attempts, next_attempt_at, updated_at)
        SELECT value ->> 0, value ->> 1, value ->> 2,
          CASE WHEN now = 1 THEN 'processing' ELSE 'pending' END, CASE WHEN now = 1 THEN :owner END, now, now,
          CASE WHEN now = 1 THEN @later(seconds) ELSE @now END, @now
        FROM jsonb_array_elements(:pairs) AS pairs (value), LATERAL (SELECT (value ->> 3)::integer) AS taken (now)
        ON CONFLICT (event_id, handler) DO NOTHING
        RETURNING event_id, handler, fence, attempts, crashes""",
    }
)


Handed: TypeAlias = tuple[list[Row], dict[str, Event], bool, int]


@frozen(kw_only=True)
class Wanted:
    """For whom new events are claimed as they are handed out."""

    owner: str
    seconds: float
    handlers: frozenset[str]


def register(handlers: Mapping[str, str], *, now: datetime) -> Steps[None]:
    """Make handlers known; a known one keeps its time and takes the new pattern. One without a pattern is not made."""
    for name, pattern in sorted(handlers.items()):
        yield from REGISTER(name=name, pattern=pattern, now=now) if pattern else SILENCE(name=name)


def fan_out(wanted: Wanted, limit: int, rows: int) -> Steps[Handed]:
    """Take up to ``rows`` new events and hand them out."""
    new = yield from TAKE_PENDING(rows=rows)
    if not new:
        return [], {}, False, 0
    yield from DROP_PENDING(rows=rows)
    return (yield from hand_out(wanted, limit, new, (yield from HANDLERS())))


def hand_out(wanted: Wanted, limit: int, new: Sequence[Row], handlers: Sequence[Row]) -> Steps[Handed]:
    """Hand new events to those of ``handlers`` that want them, and claim up to ``limit`` deliveries of them.

    Gives what was claimed, the events by id, whether there is more for these handlers, and how many events there were.
    What has to keep an order is claimed by a statement of its own, and so is what is beyond ``limit``.
    """
    known = [(name, pattern, read_time(since)) for name, pattern, since in handlers]
    read: dict[str, Event] = {}
    pairs: list[list[str | int | None]] = []
    more, left = False, limit
    for row in sorted(new):
        id, name, order_key = row[0], row[1], row[9]
        try:
            read[id] = event_of(row)
        except (ValueError, TypeError, ServicesError):
            read.pop(id, None)  # the claim sets it aside
        for handler, pattern, since in known:
            if not fnmatchcase(name, pattern) or (id in read and read[id].occurred_at < since):
                continue
            ours = handler in wanted.handlers
            at_once = ours and order_key is None and id in read and left > 0
            left -= at_once
            more |= ours and not at_once
            pairs.append([id, handler, order_key, int(at_once)])
    handed: list[Row] = []
    if pairs:
        given = yield from DELIVER(pairs=Json(pairs), owner=wanted.owner, seconds=wanted.seconds)
        handed = [row for row in given if row[2]]
    return handed, read, more, len(new)
