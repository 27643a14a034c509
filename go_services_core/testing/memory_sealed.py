"""Every sealed value of the memory store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from attrs import evolve, frozen

from ..endpoints import Endpoint
from ..errors import BadInput
from ..model import Event, KeyRef, Page, Sealed, SealedCredential, SecretState
from ..resources import Subscription
from ..wrapping_keys import KeyUse, Resealed, SealedKind, SealedRow
from .memory_tables import Consent, Entry, Intent, Slot, Tables, page

KINDS: tuple[SealedKind, ...] = ("credential", "attempt", "inbox", "idempotency", "subscription", "intent", "endpoint")


@frozen
class Cell:
    """A value, and how another takes its place."""

    row: SealedRow
    put: Callable[[Resealed], None]


class SealedValues:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def keys(self) -> Sequence[KeyUse]:
        uses = Counter((kind, cell.row.sealed.key) for kind in KINDS for cell in self._cells(kind))
        return [KeyUse(kind=kind, key=key, rows=rows) for (kind, key), rows in uses.items()]

    async def page(
        self,
        kind: SealedKind,
        *,
        key: KeyRef | None = None,
        other_than: KeyRef | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[SealedRow]:
        if kind not in KINDS:
            raise BadInput(f"There are no sealed values of the kind {kind!r}.", field="kind")
        if key is not None and other_than is not None:
            raise BadInput("A page is of one key, or of all but one; not both.", field="other_than")
        rows = [
            (cell.row.id, cell.row)
            for cell in self._cells(kind)
            if key in (None, cell.row.sealed.key) and cell.row.sealed.key != other_than
        ]
        return page(rows, after, limit)

    async def replace(self, values: Sequence[Resealed]) -> Sequence[str]:
        if not values:
            return []
        kinds = {value.row.kind for value in values}
        if len(kinds) > 1 or not kinds <= set(KINDS):
            raise BadInput(f"Values of one kind are replaced together, not {', '.join(sorted(kinds))}.", field="values")
        if len({value.row.id for value in values}) < len(values):
            raise BadInput("Two values are given for one row.", field="values")
        if not all(value.sealed.ciphertext for value in values):
            raise BadInput("A sealed value needs a ciphertext; one is empty.", field="values")
        cells = {cell.row.id: cell for cell in self._cells(kinds.pop())}
        left = []
        for value in values:
            cell = cells.get(value.row.id)
            if cell is None or cell.row.sealed != value.row.sealed:
                left.append(value.row.id)
            else:
                cell.put(value)
        return left

    async def mark(
        self, connection_id: str, state: SecretState, *, error: str = "", event: Event | None = None
    ) -> bool:
        if state not in ("ok", "unreadable"):
            raise BadInput(f"A secret state is ok or unreadable, not {state!r}.", field="state")
        connection = self._tables.connection(connection_id)
        if connection.secret_state == state:
            return False
        self._tables.check_new(event)
        self._tables.change(connection, secret_state=state, last_error=error if state == "unreadable" else "")
        self._tables.enqueue(event)
        return True

    def _cells(self, kind: SealedKind) -> Iterator[Cell]:
        tables = self._tables
        if kind == "credential":
            for versions in tables.credentials.values():
                yield from (self._credential(found) for found in versions if found is not None)
        elif kind == "attempt":
            yield from map(self._attempt, tables.attempts.values())
        elif kind == "inbox":
            yield from (cell for slot in tables.inbox.values() if (cell := self._delivery(slot)) is not None)
        elif kind == "idempotency":
            yield from (_result(key, entry, found) for key, entry in tables.ledger.items() if (found := entry.result))
        elif kind == "endpoint":
            yield from map(self._endpoint, tables.endpoints.values())
        elif kind == "intent":
            yield from (self._late(one, kept) for one in tables.intents.values() if (kept := one.late))
        else:
            yield from (
                self._subscription(one, found) for one in tables.subscriptions.values() if (found := one.verification)
            )

    def _credential(self, found: SealedCredential) -> Cell:
        connection = self._tables.connection(found.connection_id)
        versions = self._tables.credentials[found.connection_id]

        def put(value: Resealed) -> None:
            new = evolve(found, sealed=value.sealed)
            if value.payload_format:
                new = evolve(new, payload_format=value.payload_format, payload_version=value.payload_version)
            versions[found.version - 1] = new

        row = SealedRow(
            kind="credential",
            id=found.id,
            provider_id=connection.provider_id,
            scope=connection.scope,
            record_id=found.connection_id,
            record_version=found.version,
            connection_id=found.connection_id,
            sealed=found.sealed,
            payload_format=found.payload_format,
            payload_version=found.payload_version,
        )
        return Cell(row, put)

    def _late(self, intent: Intent, found: SealedCredential) -> Cell:
        connection = self._tables.connection(intent.connection_id)

        def put(value: Resealed) -> None:
            intent.late = evolve(found, sealed=value.sealed)

        row = SealedRow(
            kind="intent",
            id=intent.id,
            provider_id=connection.provider_id,
            scope=connection.scope,
            record_id=intent.connection_id,
            record_version=found.version,
            connection_id=intent.connection_id,
            sealed=found.sealed,
        )
        return Cell(row, put)

    def _attempt(self, consent: Consent) -> Cell:
        found = consent.attempt

        def put(value: Resealed) -> None:
            consent.attempt = evolve(found, sealed=value.sealed)

        row = SealedRow(
            kind="attempt",
            id=found.id,
            provider_id=found.provider_id,
            scope=found.scope,
            record_id=found.id,
            connection_id=found.connection_id,
            sealed=found.sealed,
        )
        return Cell(row, put)

    def _delivery(self, slot: Slot) -> Cell | None:
        found = slot.delivery
        if found is None or not found.sealed.ciphertext or not found.sealed.key.backend:
            return None

        def put(value: Resealed) -> None:
            slot.delivery = evolve(found, sealed=value.sealed)

        row = SealedRow(
            kind="inbox",
            id=slot.id,
            provider_id=found.provider_id,
            scope=found.scope,
            record_id=slot.id,
            connection_id=found.connection_id,
            sealed=found.sealed,
        )
        return Cell(row, put)

    def _endpoint(self, found: Endpoint) -> Cell:
        def put(value: Resealed) -> None:
            self._tables.endpoints[found.id] = evolve(found, secrets=value.sealed)

        row = SealedRow(
            kind="endpoint", id=found.id, provider_id="", scope=found.scope, record_id=found.id, sealed=found.secrets
        )
        return Cell(row, put)

    def _subscription(self, found: Subscription, token: Sealed) -> Cell:
        def put(value: Resealed) -> None:
            self._tables.subscriptions[found.id] = evolve(found, verification=value.sealed)

        row = SealedRow(
            kind="subscription",
            id=found.id,
            provider_id=found.provider_id,
            scope=self._tables.connection(found.connection_id).scope,
            record_id=found.id,
            connection_id=found.connection_id,
            sealed=token,
        )
        return Cell(row, put)


def _result(key: str, entry: Entry, found: Sealed) -> Cell:
    def put(value: Resealed) -> None:
        entry.result = value.sealed

    return Cell(SealedRow(kind="idempotency", id=key, provider_id="", scope=None, record_id=key, sealed=found), put)
