"""A store in dictionaries, for tests of applications. It passes the same checks as the SQL stores.

It belongs to one event loop, and forgets everything with the process. Leases go by its clock, so that a
:class:`~go_services_core.testing.clock.FrozenClock` lets a test end them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from attrs import evolve

from ..clock import Clock, SystemClock, uuid7
from ..errors import (
    AccountMismatch,
    BadInput,
    BindingMismatch,
    Conflict,
    InvalidTransition,
    StateExpired,
    StateUnknown,
    StateUsed,
    VersionConflict,
)
from ..grants import GrantEvent
from ..model import (
    Attempt,
    Connection,
    Establish,
    Event,
    GrantSnapshot,
    MigrationStep,
    Page,
    Scope,
    Sealed,
    SealedCredential,
    SecretState,
    StoreStatus,
)
from ..states import may_become
from .memory_budgets import Budgets
from .memory_disconnect import Disconnects
from .memory_endpoints import Endpoints
from .memory_history import prune
from .memory_ledgers import Leases, Log, Once
from .memory_outlook import Outlooks
from .memory_queues import Queues
from .memory_refresh import not_empty
from .memory_resources import Resources
from .memory_sealed import SealedValues
from .memory_tables import Consent, Tables, page
from .memory_workers import Workers


class Connections(Outlooks, Disconnects):
    async def begin_attempt(self, attempt: Attempt, *, reconsent: GrantEvent | None = None) -> None:
        if attempt.state_hash in self._tables.attempts:
            raise Conflict("There is an attempt of that state already.")
        if reconsent is not None:
            connection = self._tables.connection(reconsent.connection_id)
            announced = reconsent.announced(connection.provider_id, connection.scope)
            self._tables.check_new(announced)
            self._tables.enqueue(announced)
            self._tables.grant_events.setdefault(connection.id, []).append(reconsent)
        self._tables.attempts[attempt.state_hash] = Consent(attempt)

    async def consume_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        consent = self._open_attempt(state_hash, binding_hash, now)
        consent.consumed = True
        return consent.attempt

    async def read_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        return self._open_attempt(state_hash, binding_hash, now).attempt

    async def revise_attempt(self, attempt: Attempt, sealed: Sealed) -> bool:
        consent = self._tables.attempts.get(attempt.state_hash)
        if consent is None or consent.consumed or consent.attempt.sealed != attempt.sealed:
            return False
        consent.attempt = evolve(consent.attempt, sealed=sealed)
        return True

    def _open_attempt(self, state_hash: bytes, binding_hash: bytes, now: datetime) -> Consent:
        consent = self._tables.attempts.get(state_hash)
        if consent is None:
            raise StateUnknown
        if consent.consumed:
            raise StateUsed
        if consent.attempt.expires_at <= now:
            raise StateExpired
        if consent.mismatches >= 5:
            raise StateUsed("The OAuth attempt was ended after callbacks from other browsers; start again.")
        if consent.attempt.binding_hash != binding_hash:
            consent.mismatches += 1
            raise BindingMismatch
        return consent

    async def establish(self, change: Establish) -> tuple[Connection, int]:
        tables, wanted, new = self._tables, change.connection, change.credential
        not_empty(new)
        known, version = await self.next_version(wanted.provider_id, wanted.scope, wanted.external_account_id)
        if change.expected_connection_id is not None and change.expected_connection_id != known:
            raise AccountMismatch(metadata={"connection_id": change.expected_connection_id})
        connection_id = known if known is not None else wanted.id
        if (new.connection_id, new.version) != (connection_id, version):
            raise VersionConflict(metadata={"connection_id": connection_id, "next_version": version})
        if known is None and wanted.id in tables.connections:
            raise Conflict(f"There is a connection {wanted.id!r} already, for another account.")
        tables.check_new(change.event, *change.also)
        connection = evolve(wanted, status="active", refresh_state="ok", secret_state="ok", last_error="")
        if known is not None:
            old = tables.connections[known]
            connection = evolve(connection, id=old.id, created_at=old.created_at, inherits_from=old.inherits_from)
        tables.connections[connection_id] = connection
        tables.save(new, cause=change.event, completes=change.expected_connection_id is not None)
        for event in (change.event, *change.also):
            tables.enqueue(evolve(event, connection_id=connection_id))
        return connection, version

    async def next_version(self, provider_id: str, scope: Scope, external_account_id: str) -> tuple[str | None, int]:
        account = (provider_id, scope, external_account_id)
        for found in self._tables.connections.values():
            if (found.provider_id, found.scope, found.external_account_id) == account:
                return found.id, len(self._tables.credentials[found.id]) + 1
        return None, 1

    async def get(self, connection_id: str) -> Connection:
        return self._tables.connection(connection_id)

    async def load(self, connection_id: str) -> tuple[Connection, SealedCredential | None]:
        return self._tables.connection(connection_id), self._tables.credential(connection_id)

    async def list(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        external_account_id: str | None = None,
        status: str | None = None,
        secret_state: SecretState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Connection]:
        wanted = {
            "provider_id": provider_id,
            "scope": scope,
            "external_account_id": external_account_id,
            "status": status,
            "secret_state": secret_state,
        }
        filters = [(name, value) for name, value in wanted.items() if value is not None]
        found = [
            (connection.id, connection)
            for connection in self._tables.connections.values()
            if all(getattr(connection, name) == value for name, value in filters)
            and (since is None or connection.created_at >= since)
            and (until is None or connection.created_at < until)
        ]
        return page(found, after, limit)

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, Counter[str]] = {}
        for connection in self._tables.connections.values():
            found.setdefault(connection.provider_id, Counter())[connection.status] += 1
        return found

    async def grants(self, connection_id: str) -> GrantSnapshot | None:
        snapshots = self._tables.snapshots.get(connection_id)
        return snapshots[-1] if snapshots else None

    async def grant_snapshots(
        self, connection_id: str, *, after: str | None = None, limit: int = 100
    ) -> Page[GrantSnapshot]:
        if after is not None and not after.isdecimal():
            raise BadInput(f"{after!r} is not the `next` of a page.", field="after")
        kept = self._tables.snapshots.get(connection_id, [])
        found = page([(f"{one.version:09}", one) for one in kept], f"{int(after or 0):09}", limit)
        return Page(found.items, None if found.next is None else str(int(found.next)))

    async def grant_events(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantEvent]:
        return page([(one.id, one) for one in self._tables.grant_events.get(connection_id, [])], after, limit)

    async def require_reconsent(self, connection_id: str, *, reason: str, event: Event) -> Connection:
        tables = self._tables
        connection = tables.connection(connection_id)
        if connection.status == "needs_reconsent":
            return connection
        if connection.status not in may_become("needs_reconsent"):
            raise InvalidTransition(
                f"This connection is {connection.status} and does not become needs_reconsent now.",
                metadata={"id": connection_id, "status": connection.status},
            )
        tables.check_new(event)
        tables.enqueue(event)
        return tables.change(connection, status="needs_reconsent", refresh_state="ok", last_error=reason)


class MemoryStore:
    """A :class:`~go_services_core.protocols.Store` without a database.

    A ``work`` that is given to ``settle`` runs, but may not use statements.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        tables = Tables(clock or SystemClock())
        self._tables = tables
        self._id = uuid7(tables.clock)
        self.connections = Connections(tables)
        self.queues = Queues(tables)
        self.once = Once(tables, self.queues)
        self.leases = Leases(tables)
        self.resources = Resources(tables)
        self.budgets = Budgets(tables)
        self.log = Log(tables)
        self.sealed = SealedValues(tables)
        self.workers = Workers(tables)
        self.endpoints = Endpoints(tables)

    async def remember(self, name: str, value: bytes) -> bytes:
        return self._tables.meta.setdefault(name, value)

    async def exchange(self, name: str, *, before: bytes, after: bytes) -> bool:
        if self._tables.meta.get(name) != before:
            return False
        self._tables.meta[name] = after
        return True

    @property
    def id(self) -> str:
        return self._id

    def listen(self, listener: Callable[[Sequence[Event]], None] | None) -> None:
        """See :class:`~go_services_core.protocols.Store`."""
        self._tables.listener = listener

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do; what it holds stays until it is dropped."""

    async def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        return []

    async def status(self) -> StoreStatus:
        tables = self._tables
        names = ("connections", "attempts", "inbox", "events", "jobs", "subscriptions", "installations", "activity")
        sizes = {name: len(getattr(tables, name)) for name in names}
        return StoreStatus(
            url="memory:", dialect="memory", server="memory", schema_version=1, latest_version=1, tables=sizes
        )

    async def prune(self, policy: Mapping[str, float], *, batch: int = 500, dry_run: bool = False) -> Mapping[str, int]:
        return prune(self._tables, policy, batch=batch, dry_run=dry_run)
