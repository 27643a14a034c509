"""The ``sealed`` facet."""

from __future__ import annotations

from collections.abc import Sequence

from go_services_core.errors import BadInput
from go_services_core.model import Event, KeyRef, Page, SecretState
from go_services_core.wrapping_keys import KeyUse, Resealed, SealedKind, SealedRow

from .. import sealed
from ..driver import Driver
from .limits import at_least_one


class SqlSealed:
    """The ``sealed`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def keys(self) -> Sequence[KeyUse]:
        return await self._driver.read(sealed.keys, scan=True)

    async def page(
        self,
        kind: SealedKind,
        *,
        key: KeyRef | None = None,
        other_than: KeyRef | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[SealedRow]:
        at_least_one(limit)
        if kind not in sealed.PLACES:
            raise BadInput(f"There are no sealed values of the kind {kind!r}.", field="kind")
        if key is not None and other_than is not None:
            raise BadInput("A page is of one key, or of all but one; not both.", field="other_than")
        return await self._driver.read(
            lambda: sealed.page(kind, key=key, other_than=other_than, after=after, limit=limit), scan=True
        )

    async def replace(self, values: Sequence[Resealed]) -> Sequence[str]:
        if not values:
            return []
        kinds = {value.row.kind for value in values}
        if len(kinds) > 1 or not kinds <= sealed.PLACES.keys():
            raise BadInput(f"Values of one kind are replaced together, not {', '.join(sorted(kinds))}.", field="values")
        if len({value.row.id for value in values}) < len(values):
            raise BadInput("Two values are given for one row.", field="values")
        if not all(value.sealed.ciphertext for value in values):
            raise BadInput("A sealed value needs a ciphertext; one is empty.", field="values")
        # The old ciphertexts need not be scrubbed from the database's files: whoever could open them there can open
        # the same value in any backup, and to end that is the provider's part.
        return await self._driver.run(lambda: sealed.replace(values))

    async def mark(
        self, connection_id: str, state: SecretState, *, error: str = "", event: Event | None = None
    ) -> bool:
        if state not in ("ok", "unreadable"):
            raise BadInput(f"A secret state is ok or unreadable, not {state!r}.", field="state")
        return await self._driver.run(
            lambda: sealed.mark(connection_id, state, error=error, event=event), alone=event is None
        )
