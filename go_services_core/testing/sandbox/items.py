"""The sandbox's one resource: items, with pages, and creation that can be repeated safely."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from ...clock import Clock
from .refused import Refused

Item = dict[str, Any]
"""``{"id": 1, "name": "Item 1", "created_at": "2026-01-01T00:00:00+00:00"}``"""


class Items:
    """Items by id, and the idempotency keys that were used to make some of them."""

    def __init__(self, count: int, clock: Clock) -> None:
        self._clock = clock
        first = datetime(2026, 1, 1, tzinfo=UTC)
        self._items = [
            _item(number, f"Item {number}", first + timedelta(hours=number)) for number in range(1, count + 1)
        ]
        self._keys: dict[tuple[str, str], tuple[bytes, Item]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def page(self, number: int, size: int) -> list[Item]:
        """The items of page ``number``, which counts from 1; empty beyond the last."""
        return self._items[(number - 1) * size : number * size]

    def get(self, id: int) -> Item | None:
        """The item of that id."""
        return self._items[id - 1] if 1 <= id <= len(self._items) else None

    def create(self, name: str, *, body: bytes, owner: str, key: str | None) -> tuple[Item, bool]:
        """A new item; or, for a ``key`` that ``owner`` used with the same ``body``, the item made then, and True.

        Raises:
            Refused: 422, the key was used with another body.
        """
        digest = hashlib.sha256(body).digest()
        if key is not None and (owner, key) in self._keys:
            known, item = self._keys[owner, key]
            if known != digest:
                raise Refused("idempotency_key_reused", "This key was used with another body.", status=422)
            return item, True
        item = _item(len(self._items) + 1, name, self._clock.now())
        self._items.append(item)
        if key is not None:
            self._keys[owner, key] = digest, item
        return item, False


def _item(id: int, name: str, created_at: datetime) -> Item:
    return {"id": id, "name": name, "created_at": created_at.isoformat()}
