"""What a store must do for connections, their credentials, grants, attempts and refreshes.

The largest of a store's facets; the others are in ``go_services_core.facets``. Each method's docstring is its contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

from .grants import GrantEvent
from .model import (
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
from .outlook import Outlook
from .refreshes import Lease, RefreshHistory, RefreshOpen


class ConnectionFacet(Protocol):
    """Connections with their credentials, grants, attempts and refreshes."""

    async def begin_attempt(self, attempt: Attempt, *, reconsent: GrantEvent | None = None) -> None:
        """Keep an open consent; with ``reconsent`` in the history of its connection's grants, and announced.

        Raises:
            ConnectionNotFound: the connection of ``reconsent`` does not exist; nothing was kept.
        """
        ...

    async def consume_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        """Take the attempt of that state, once: state, binding, expiry and use are checked and set in one statement.

        A wrong binding does not consume but counts; the fifth ends the attempt.

        Raises:
            StateUnknown, StateUsed, StateExpired, BindingMismatch: and the attempt is not consumed.
        """
        ...

    async def read_attempt(self, state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Attempt:
        """The open attempt of that state, which stays open. A wrong binding counts as in ``consume_attempt``.

        Raises:
            StateUnknown, StateUsed, StateExpired, BindingMismatch: as ``consume_attempt``.
        """
        ...

    async def revise_attempt(self, attempt: Attempt, sealed: Sealed) -> bool:
        """Let an open attempt remember ``sealed``, in one statement.

        False, and nothing changed, when it does not hold ``attempt.sealed`` any more or is not open: of several who
        read the same, one gets True.
        """
        ...

    async def establish(self, change: Establish) -> tuple[Connection, int]:
        """Connection, next credential version, grants and events in one commit.

        The account (provider, scope, external account) that is connected already keeps its row and gets a new
        version; its status becomes active and its old credential is superseded. Gives the connection and the
        credential's version, which is that of ``change.credential`` when it is new. A grant snapshot is written where
        grants differ from the newest one's, and what ``go_services_core.grants.recorded`` makes of the change.

        Raises:
            AccountMismatch: ``expected_connection_id`` is set and the account's connection is another; nothing changed.
            VersionConflict: ``change.credential.version`` is not the next one; nothing changed. Its ``metadata`` has
                ``connection_id`` and ``next_version`` to seal again for.
        """
        ...

    async def next_version(self, provider_id: str, scope: Scope, external_account_id: str) -> tuple[str | None, int]:
        """The id of the account's connection, if it has one, and the version its next credential will have."""
        ...

    async def get(self, connection_id: str) -> Connection:
        """The connection.

        Raises:
            ConnectionNotFound: there is none.
        """
        ...

    async def load(self, connection_id: str) -> tuple[Connection, SealedCredential | None]:
        """The connection and its active credential in one statement.

        Raises:
            ConnectionNotFound: there is none.
        """
        ...

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
        """Connections by id, a page at a time; ``since`` and ``until`` (exclusive) are about ``created_at``."""
        ...

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """How many connections each provider has in each status that one of its connections is in."""
        ...

    async def grants(self, connection_id: str) -> GrantSnapshot | None:
        """The newest grant snapshot."""
        ...

    async def grant_snapshots(
        self, connection_id: str, *, after: str | None = None, limit: int = 100
    ) -> Page[GrantSnapshot]:
        """The connection's grant snapshots by version, a page at a time.

        Raises:
            BadInput: ``after`` is not the ``next`` of a page.
        """
        ...

    async def grant_events(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantEvent]:
        """The history of the connection's grants by id, a page at a time."""
        ...

    async def open_refresh(self, connection_id: str, *, owner: str, lease: float, intent_id: str | None) -> RefreshOpen:
        """Take the connection's refresh lease for ``lease`` seconds, write the intent, read the credential: one unit.

        ``abandoned`` of the answer is the oldest unsettled intent of an earlier fence for the same version. Without
        ``intent_id`` there is no intent and no ``abandoned``: for who only keeps others from renewing and sends no
        token request, so that nobody has to wonder about one.

        Raises:
            RefreshLocked: another owner holds the lease; ``metadata["retry_in"]`` are the seconds it has left.
            ReauthRequired: the connection is not active, or has no active credential.
            ConnectionNotFound: there is none.
        """
        ...

    async def refresh_history(self, connection_id: str, version: int) -> RefreshHistory:
        """What was tried with that version of the connection's credential; empty where nothing failed."""
        ...

    async def outlooks(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Outlook]:
        """What decides when each connection is renewed, by its id, a page at a time; no ciphertext is read.

        Connections that are disconnected are left out. ``history`` is that of the active version where
        ``refresh_state`` is not ok, else empty; it has no late token.
        """
        ...

    async def due(
        self,
        provider_id: str,
        *,
        by: Literal["expires_at", "created_at"],
        before: datetime,
        after: tuple[datetime, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Outlook]:
        """As ``outlooks``, those whose active, refreshable credential has ``by`` before ``before``, the earliest first.

        They are the provider's active connections whose credential can be opened, and whose refresh lease nobody holds.
        Of those with the same time the lower connection id comes first; ``after`` is the time and the connection id of
        the last one seen.
        """
        ...

    async def renew_refresh(self, lease: Lease, *, seconds: float) -> None:
        """Extend the lease to ``seconds`` from now; its request has not left before now.

        Raises:
            LeaseLost: and nothing changed.
        """
        ...

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
        """Settle the unsettled intents before ``lease``: the given one as ``outcome``, others as never sent.

        ``unknown`` makes that the connection's ``refresh_state``. Writes ``event`` and extends the lease like
        ``renew_refresh``, in one commit.

        Raises:
            LeaseLost: and nothing changed.
        """
        ...

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
        """Save ``new`` if ``lease`` still holds, ``active_version`` is still active and the connection is active, or
        needs a re-consent since.

        Supersedes, inserts, settles the intent, writes grants as ``establish`` and the events and releases the lease in
        one commit. ``adopted`` is the id of the intent that kept ``new``; it keeps it no longer. The status changes
        only where an active connection lost every grant: it is ``needs_reconsent`` then, with an event of its own.

        Raises:
            LeaseLost, VersionConflict, InvalidTransition: and nothing changed.
        """
        ...

    async def keep_late(self, lease: Lease, new: SealedCredential) -> bool:
        """Keep a token that came after ``lease`` was taken over in the intent of ``lease``.

        False, and nothing is kept, where nobody can use it: the version that it follows is not the active one any
        more, or the connection is neither active nor ``needs_reconsent``.
        """
        ...

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
        """Settle the intent and release the lease. ``terminal`` moves the connection to ``pending_reauth`` with
        ``event``, from where ``states.CONNECTION_MOVES`` allows it; otherwise an active one stays so with
        ``refresh_state`` as ``state``, which is ``backing_off``, with ``retry_in`` seconds to wait, or ``unknown``.

        Raises:
            LeaseLost: and nothing changed.
        """
        ...

    async def drop_refresh(self, lease: Lease) -> None:
        """Settle the intent as one that sent no request, and release the lease. The connection does not change.

        Raises:
            LeaseLost: and nothing changed.
        """
        ...

    async def require_reconsent(self, connection_id: str, *, reason: str, event: Event) -> Connection:
        """Status ``needs_reconsent``, ``reason`` as its ``last_error`` and ``event`` in one commit. Where that is its
        status already, nothing changes.

        Raises:
            InvalidTransition: its status may not become that; nothing changed.
            ConnectionNotFound: there is none.
        """
        ...

    async def disconnect(
        self,
        connection_id: str,
        *,
        reason: str,
        event: Event,
        version: int | None = None,
        job: NewJob | None = None,
    ) -> Connection:
        """Status ``disconnected``, the active credential revoked, every ciphertext of the connection destroyed, late
        tokens included, its subscriptions cancelled, each with ``lifecycle.subscription_cancelled``, and their
        verification tokens destroyed, event written, any refresh lease broken: one commit. Disconnecting twice changes
        nothing and writes no event.

        ``version`` is what the provider was told about. With ``job``, of kind ``REVOKE_JOB`` and with the id of the
        active credential, that is kept as well, and the credential's ciphertext until :meth:`destroy_credential`. What
        an earlier job has still to revoke is kept, too.

        Raises:
            VersionConflict: another version than ``version`` is active, or a token came late for it; nothing changed.
            BadInput: the job is for something else; nothing changed.
            ConnectionNotFound: there is none.
        """
        ...

    async def keep_for_revocation(self, new: SealedCredential, job: NewJob) -> bool:
        """Keep a credential that came after its connection was disconnected, with the job that revokes it; not active.

        False, and nothing is kept, where the connection is not disconnected or has that version already.

        Raises:
            BadInput: the job is not that of ``new``; nothing changed.
            ConnectionNotFound: there is none.
        """
        ...

    async def credentials(self, connection_id: str) -> Sequence[SealedCredential]:
        """Every version of the connection's credential whose ciphertext is still there, the newest first."""
        ...

    async def pending_revocations(self, connection_id: str) -> Sequence[Job]:
        """The open jobs that revoke what disconnects of the connection kept, the oldest first."""
        ...

    async def destroy_credential(self, credential_id: str, *, event: Event) -> bool:
        """Destroy the ciphertext of a credential that is not active, with ``event``; False, and nothing changes, where
        it has none any more or is active."""
        ...
