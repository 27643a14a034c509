"""The ``connections`` facet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from go_services_core.errors import BadInput, StateInvalid
from go_services_core.grants import GrantEvent
from go_services_core.model import (
    Attempt,
    Connection,
    Establish,
    Event,
    GrantSnapshot,
    Job,
    NewJob,
    Page,
    Scope,
    Sealed,
    SealedCredential,
    SecretState,
)
from go_services_core.outlook import Outlook
from go_services_core.refreshes import Lease, RefreshHistory, RefreshOpen

from .. import attempts, connections, disconnects, grants, outlook, refresh
from ..driver import Driver
from .limits import at_least_one


def _not_empty(credential: SealedCredential) -> None:
    if not credential.sealed.ciphertext:
        raise BadInput("A credential needs a ciphertext; this one is empty.", field="credential.sealed")


class SqlConnections:
    """The ``connections`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def begin_attempt(self, attempt: Attempt, *, reconsent: GrantEvent | None = None) -> None:
        await self._driver.run(lambda: attempts.begin(attempt, reconsent=reconsent))

    async def consume_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        taken = await self._driver.run(lambda: attempts.consume(state_hash, binding_hash, now=now), alone=True)
        if isinstance(taken, StateInvalid):
            raise taken
        return taken

    async def read_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        found = await self._driver.run(lambda: attempts.read(state_hash, binding_hash, now=now), alone=True)
        if isinstance(found, StateInvalid):
            raise found
        return found

    async def revise_attempt(self, attempt: Attempt, sealed: Sealed) -> bool:
        return await self._driver.run(lambda: attempts.revise(attempt, sealed), alone=True)

    async def establish(self, change: Establish) -> tuple[Connection, int]:
        _not_empty(change.credential)
        return await self._driver.run(lambda: connections.establish(change))

    async def next_version(self, provider_id: str, scope: Scope, external_account_id: str) -> tuple[str | None, int]:
        return await self._driver.read(lambda: connections.next_version(provider_id, scope, external_account_id))

    async def get(self, connection_id: str) -> Connection:
        return await self._driver.read(lambda: connections.get(connection_id))

    async def load(self, connection_id: str) -> tuple[Connection, SealedCredential | None]:
        return await self._driver.read(lambda: connections.load(connection_id))

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
        at_least_one(limit)
        return await self._driver.read(
            lambda: connections.page(
                provider_id=provider_id,
                scope=scope,
                external_account_id=external_account_id,
                status=status,
                secret_state=secret_state,
                since=since,
                until=until,
                after=after,
                limit=limit,
            )
        )

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        return await self._driver.read(connections.counts)

    async def grants(self, connection_id: str) -> GrantSnapshot | None:
        return await self._driver.read(lambda: connections.grants(connection_id))

    async def grant_snapshots(
        self, connection_id: str, *, after: str | None = None, limit: int = 100
    ) -> Page[GrantSnapshot]:
        at_least_one(limit)
        return await self._driver.read(lambda: grants.snapshots(connection_id, after=after, limit=limit))

    async def grant_events(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantEvent]:
        at_least_one(limit)
        return await self._driver.read(lambda: grants.history(connection_id, after=after, limit=limit))

    async def open_refresh(self, connection_id: str, *, owner: str, lease: float, intent_id: str | None) -> RefreshOpen:
        return await self._driver.run(
            lambda: refresh.open_refresh(connection_id, owner=owner, seconds=lease, intent_id=intent_id)
        )

    async def refresh_history(self, connection_id: str, version: int) -> RefreshHistory:
        return await self._driver.read(lambda: refresh.history(connection_id, version))

    async def outlooks(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Outlook]:
        at_least_one(limit)
        return await self._driver.read(
            lambda: outlook.page(provider_id=provider_id, scope=scope, after=after, limit=limit)
        )

    async def due(
        self,
        provider_id: str,
        *,
        by: Literal["expires_at", "created_at"],
        before: datetime,
        after: tuple[datetime, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Outlook]:
        at_least_one(limit)
        return await self._driver.read(lambda: outlook.due(provider_id, by=by, before=before, after=after, limit=limit))

    async def renew_refresh(self, lease: Lease, *, seconds: float) -> None:
        await self._driver.run(lambda: refresh.renew(lease, seconds=seconds))

    async def settle_abandoned(
        self,
        lease: Lease,
        intent_id: str,
        *,
        outcome: Literal["failed", "unknown"],
        error: str,
        event: Event | None,
        seconds: float,
    ) -> None:
        if outcome not in ("failed", "unknown"):
            raise BadInput(f"An abandoned refresh is failed or unknown, not {outcome!r}.", field="outcome")
        await self._driver.run(
            lambda: refresh.settle_abandoned(
                lease, intent_id, outcome=outcome, error=error, event=event, seconds=seconds
            )
        )

    async def close_refresh(
        self,
        new: SealedCredential,
        *,
        lease: Lease,
        active_version: int,
        event: Event,
        adopted: str | None = None,
        also: Sequence[Event] = (),
    ) -> None:
        _not_empty(new)
        await self._driver.run(
            lambda: refresh.close_refresh(
                new, lease=lease, active_version=active_version, event=event, adopted=adopted, also=also
            )
        )

    async def keep_late(self, lease: Lease, new: SealedCredential) -> bool:
        _not_empty(new)
        return await self._driver.run(lambda: refresh.keep_late(lease, new))

    async def fail_refresh(
        self,
        lease: Lease,
        *,
        error: str,
        terminal: bool,
        event: Event | None,
        state: str = "backing_off",
        retry_in: float = 0.0,
    ) -> None:
        if state not in ("backing_off", "unknown"):
            raise BadInput(f"A refresh that failed is backing_off or unknown, not {state!r}.", field="state")
        await self._driver.run(
            lambda: refresh.fail_refresh(
                lease, error=error, terminal=terminal, event=event, state=state, retry_in=retry_in
            )
        )

    async def drop_refresh(self, lease: Lease) -> None:
        await self._driver.run(lambda: refresh.drop_refresh(lease))

    async def require_reconsent(self, connection_id: str, *, reason: str, event: Event) -> Connection:
        return await self._driver.run(lambda: connections.require_reconsent(connection_id, reason=reason, event=event))

    async def disconnect(
        self,
        connection_id: str,
        *,
        reason: str,
        event: Event,
        version: int | None = None,
        job: NewJob | None = None,
    ) -> Connection:
        return await self._driver.run(
            lambda: disconnects.disconnect(connection_id, reason=reason, event=event, version=version, job=job),
            destroys=True,
        )

    async def keep_for_revocation(self, new: SealedCredential, job: NewJob) -> bool:
        _not_empty(new)
        return await self._driver.run(lambda: disconnects.keep(new, job))

    async def credentials(self, connection_id: str) -> Sequence[SealedCredential]:
        return await self._driver.read(lambda: disconnects.with_ciphertext(connection_id))

    async def pending_revocations(self, connection_id: str) -> Sequence[Job]:
        return await self._driver.read(lambda: disconnects.pending(connection_id))

    async def destroy_credential(self, credential_id: str, *, event: Event) -> bool:
        return await self._driver.run(lambda: disconnects.destroy(credential_id, event=event), destroys=True)
