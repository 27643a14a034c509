"""Giving claims back that were not begun: due again, and the attempt does not count."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from go_services_core.model import Claim, QueueName

from .dialect import Json
from .statement import Row, Statement, Steps

CHANGE = """UPDATE @table SET status = CASE WHEN attempts > 1 THEN '@again' ELSE '@new' END, owner = NULL,
  attempts = attempts - 1, next_attempt_at = @later(delay), updated_at = @now """
# PostgreSQL: a bare status would let the planner scan the whole index of what is due, as in the outbox.
TEXT = {
    "sqlite": """FROM json_each(:held) AS held
    WHERE @table.@key = json_extract(held.value, '$[0]') AND @handler = json_extract(held.value, '$[1]')
      AND owner = json_extract(held.value, '$[2]') AND fence = json_extract(held.value, '$[3]')
      AND status = '@claimed'
    RETURNING @key, @handler, fence""",
    "postgres": """FROM jsonb_array_elements(:held) AS held (value)
    WHERE @key = ANY (ARRAY(SELECT one ->> 0 FROM jsonb_array_elements(:held) AS one))
      AND @key = value ->> 0 AND @handler = value ->> 1 AND owner = value ->> 2 AND fence = (value ->> 3)::integer
      AND coalesce(status, '') = '@claimed'
    RETURNING @key, @handler, fence""",
}


def _statement(**names: str) -> Statement[Row]:
    def named(text: str) -> str:
        return re.sub("@(table|key|handler|claimed|again|new)", lambda match: names[match[1]], text)

    return Statement({dialect: named(CHANGE + text) for dialect, text in TEXT.items()})


GIVE_BACK: Mapping[QueueName, Statement[Row]] = {
    "inbox": _statement(
        table="service_webhook_deliveries",
        key="id",
        handler="''",
        claimed="processing",
        again="retry_ready",
        new="pending",
    ),
    "outbox": _statement(
        table="service_event_deliveries",
        key="event_id",
        handler="handler",
        claimed="processing",
        again="retry_ready",
        new="pending",
    ),
    "jobs": _statement(
        table="service_sync_jobs", key="id", handler="''", claimed="running", again="queued", new="queued"
    ),
}


def give_back(queue: QueueName, claims: Sequence[Claim], *, delay: float) -> Steps[list[str]]:
    """Make them due again: one statement. Gives the ids that are lost."""
    held = [[claim.id.partition(":")[0], claim.handler or "", claim.owner, claim.fence] for claim in claims]
    ended = {(row[0], row[1], row[2]) for row in (yield from GIVE_BACK[queue](held=Json(held), delay=delay))}
    return [
        claim.id
        for claim, (key, handler, _, fence) in zip(claims, held, strict=True)
        if (key, handler, fence) not in ended
    ]
