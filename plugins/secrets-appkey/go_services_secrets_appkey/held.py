"""The keys that a backend holds at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from attrs import frozen

from go_services_core.errors import KeyDisabled
from go_services_core.model import KeyRef
from go_services_core.wrapping_keys import KeyState

from .wrapping import WrappingKey

BACKEND: Final = "appkey"


@frozen(kw_only=True)
class HeldKey:
    """One key."""

    ref: KeyRef
    state: KeyState
    detail: str
    wrapping: WrappingKey | None = None
    """None once it is retired."""
    retired_at: datetime | None = None
    warnings: tuple[str, ...] = ()

    def opened(self) -> WrappingKey:
        """The key itself.

        Raises:
            KeyDisabled: it was retired.
        """
        if self.wrapping is None:
            since = f" on {self.retired_at:%Y-%m-%d}" if self.retired_at is not None else ""
            raise KeyDisabled(
                f"Key {self.ref.key_id} (version {self.ref.key_version}) was retired{since}: its material is gone.",
                hint="Only a copy of the key from before opens this; else connect the account again.",
                plugin="secrets-appkey",
                field="secrets.appkey.keyring",
            )
        return self.wrapping


class KeySet:
    """Keys that are never changed, so that a call sees one set from its begin to its end."""

    def __init__(self, keys: Iterable[HeldKey]) -> None:
        """One of ``keys`` is primary; of two with one reference the first counts."""
        self._keys: dict[KeyRef, HeldKey] = {}
        for key in sorted(keys, key=lambda key: key.state != "primary"):
            self._keys.setdefault(key.ref, key)
        self.primary = next(iter(self._keys.values()))

    def get(self, key: KeyRef) -> HeldKey | None:
        """The key of this reference."""
        return self._keys.get(key)

    def all(self) -> tuple[HeldKey, ...]:
        """The primary first, then the others as they were given."""
        return tuple(self._keys.values())
