"""Deliveries that arrive while a commit is under way are kept by the next one, with one statement for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Self

from attrs import frozen

from go_services_core.model import Accepted, InboxDelivery

from . import inbox
from .dialect import Json, time_text
from .driver import Joint
from .statement import NOW, Row, Statement, Steps

MOST: Final = 64 * 1024
"""Bytes of a sealed delivery that is kept together with others."""

_FIXED: Final = {
    "status": "'pending'",
    "attempts": "0",
    "fence": "0",
    "last_error": "''",
    "variant": "''",
    "next_attempt_at": NOW.sql,
}
_TEXTS: Final = (
    "id",
    "provider_id",
    "connection_id",
    "scope_type",
    "scope_id",
    "delivery_id",
    "event",
    "encryption_backend",
    "encryption_key_id",
    "encryption_version",
    "received_at",
    "order_key",
    "channel",
    "resource",
)
_READ: Final = {
    **{name: f"json_extract(value, '$[{place}]')" for place, name in enumerate(_TEXTS)},
    "created_at": f"json_extract(value, '$[{_TEXTS.index('received_at')}]')",
    "updated_at": f"json_extract(value, '$[{_TEXTS.index('received_at')}]')",
    # JSON has no bytes: they are given behind each other, and every row says where its own begin, and their sizes.
    "digest": "substr(:bytes, json_extract(value, '$[14]'), json_extract(value, '$[15]'))",
    "payload": "substr(:bytes, json_extract(value, '$[16]'), json_extract(value, '$[17]'))",
}
KNOWN: Statement[Row] = Statement(
    """SELECT json_group_array(key) FROM json_each(:ids) WHERE EXISTS (
      SELECT 1 FROM service_webhook_deliveries WHERE provider_id = json_extract(value, '$[0]')
        AND coalesce(connection_id, '') = json_extract(value, '$[1]') AND delivery_id = json_extract(value, '$[2]')
        AND variant = '')"""
)
"""One row: each row that is fetched lets another thread have the interpreter, which the writer then waits for."""
INSERT: Statement[Row] = Statement(
    f"""INSERT INTO service_webhook_deliveries ({", ".join((*_READ, *_FIXED))})
    SELECT {", ".join((*_READ.values(), *_FIXED.values()))} FROM json_each(:rows)"""  # noqa: S608
)


@frozen
class Arrival(Joint[Accepted]):
    """Keeps a delivery that is of no burst."""

    delivery: InboxDelivery

    def __call__(self) -> Steps[Accepted]:
        return inbox.accept(self.delivery, None)

    @classmethod
    def together(cls, units: Sequence[Self]) -> Steps[Sequence[Accepted | None]]:
        """Those whose ids are new: two statements. SQLite alone runs it, whose writer nobody comes between."""
        new: dict[tuple[str, str, str], int] = {}
        for number, unit in enumerate(units):
            one = unit.delivery
            new.setdefault((one.provider_id, one.connection_id or "", one.delivery_id), number)
        row = yield from KNOWN.first(ids=Json(list(new)))
        assert row is not None
        numbers = list(new.values())
        known = {numbers[place] for place in json.loads(row[0])}
        kept = [number for number in numbers if number not in known]
        if kept:
            yield from INSERT(**_values([units[number].delivery for number in kept]))
        answers: list[Accepted | None] = [None] * len(units)
        for number in kept:
            answers[number] = Accepted(id=units[number].delivery.id)
        return answers


def _values(deliveries: Sequence[InboxDelivery]) -> dict[str, Any]:
    rows: list[tuple[Any, ...]] = []
    pieces: list[bytes] = []
    begin = 1
    for one in deliveries:
        key, scope = one.sealed.key, one.scope
        digest, payload = one.digest, one.sealed.ciphertext
        middle = begin + len(digest)
        rows.append(
            (
                one.id,
                one.provider_id,
                one.connection_id,
                None if scope is None else scope.type,
                None if scope is None else scope.id,
                one.delivery_id,
                one.event,
                key.backend,
                key.key_id,
                key.key_version,
                time_text(one.received_at),
                one.order_key,
                one.channel,
                one.resource,
                begin,
                len(digest),
                middle,
                len(payload),
            )
        )
        pieces += (digest, payload)
        begin = middle + len(payload)
    return {"rows": Json(rows), "bytes": b"".join(pieces)}
