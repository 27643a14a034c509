"""How new the state is that a handler committed under a key."""

from __future__ import annotations

import json

from go_services_core.handled import Position

from .statement import Row, Statement, Steps

ADVANCE: Statement[Row] = Statement(
    """INSERT INTO service_event_positions (id, handler, key, at, updated_at)
    VALUES (:id, :handler, :key, :at, @now)
    ON CONFLICT (id) DO UPDATE SET at = excluded.at, updated_at = excluded.updated_at
      WHERE service_event_positions.at < excluded.at
    RETURNING at"""
)


def advance(handler: str, position: Position) -> Steps[bool]:
    """Move the position of ``handler`` on: one statement. False, and nothing is changed, where it is not newer."""
    id = json.dumps([handler, position.key], ensure_ascii=False)
    return (yield from ADVANCE.first(id=id, handler=handler, key=position.key, at=position.at)) is not None
