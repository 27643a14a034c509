"""What a store must do, facet by facet. Protocols only; each method's docstring is its contract.

Those of connections and subscriptions are in ``go_services_core.connection_facet`` and ``subscription_facet``. The
conformance checks of :class:`go_services_core.testing.pytest_kit.StoreKit` state the same as tests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .inbox_facet import InboxFacet
from .model import (
    Claim,
    Event,
    InboxDelivery,
    Job,
    KeyRef,
    NewJob,
    Outcome,
    Page,
    QueueItem,
    QueueName,
    Scope,
    Sealed,
    SecretState,
)
from .outbox_facet import OutboxFacet
from .refreshes import Lease
from .resources import (
    Activity,
    ActivityStatus,
    Begun,
    Budget,
    BudgetAsk,
    BudgetBlock,
    BudgetGrant,
    BudgetKey,
    BudgetLease,
    Dispatch,
    DispatchEntry,
    DispatchStatus,
    Installation,
    InstallationStatus,
    LedgerKind,
    SyncCursor,
)
from .subscription_facet import SubscriptionFacet
from .wrapping_keys import KeyUse, Resealed, SealedKind, SealedRow

if TYPE_CHECKING:
    from .handled import Position
    from .protocols import Work


class QueueFacet(InboxFacet, OutboxFacet, Protocol):
    """Inbox, outbox and jobs: one shape of claim, heartbeat, settle, requeue and list."""

    async def enqueue(self, job: NewJob) -> tuple[str, bool]:
        """Keep a job, with its event where it has a mode; gives its id and True.

        Where one of the same scope, provider, mode and idempotency key is kept already, it gives that one's id and
        False, whatever became of it, and keeps nothing.

        Raises:
            IdempotencyMismatch: the key was used for another connection or another kind.
            Conflict: there is a job of that id.
            ConnectionNotFound: its connection does not exist.
            BadInput: the kind or the idempotency key is blank.
        """
        ...

    async def claim(
        self,
        queue: QueueName,
        *,
        owner: str,
        lease: float,
        limit: int,
        handlers: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> list[Claim]:
        """Take up to ``limit`` due items for ``lease`` seconds by the database's clock.

        An item whose lease ended is taken over under a higher fence. For the outbox only items of ``handlers``, of the
        jobs only those of ``kinds``. An event that cannot be read is set aside as dead instead of being given.

        Of the items with the same ``order_key`` (in the inbox of one provider, in the outbox of one handler, of the
        jobs of one kind) only the one with the lowest id is given, until it is done or dead; one that waits for its
        retry keeps the others waiting. A dead one leaves a gap: requeued, it comes first again, but does not wait for
        one that was claimed meanwhile.
        """
        ...

    async def heartbeat(self, claims: Sequence[Claim], *, lease: float) -> list[str]:
        """Extend the leases; gives the ids of claims that are lost."""
        ...

    async def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        error: str = "",
        delay: float = 0.0,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
        position: Position | None = None,
        work: Work[Any] | None = None,
    ) -> bool:
        """End a claim. ``done`` commits ``events``, ``jobs`` and ``work`` with it; ``retry`` makes it due again in
        ``delay`` seconds; ``dead`` sets it aside, with ``events``. A job is then succeeded, queued or failed; one with
        a mode is announced by ``lifecycle.job_event`` in the same commit where it succeeded or failed, also by
        :meth:`settle_many`.

        Where a ``position`` of the claim's handler is not newer than what was committed under its key, events, jobs
        and work are dropped and the claim is done all the same. Gives whether they were committed.

        Raises:
            LeaseLost: owner or fence do not hold it any more; nothing changed.
            BadInput: an effect without ``done``, or a position outside of the outbox; nothing changed.
        """
        ...

    async def settle_many(
        self, claims: Sequence[Claim], outcome: Outcome, *, error: str = "", delay: float = 0.0
    ) -> list[str]:
        """End claims alike, in one unit; gives the ids of claims that are lost, of which nothing is changed."""
        ...

    async def give_back(self, claims: Sequence[Claim], *, delay: float = 0.0) -> list[str]:
        """Make claims due again in ``delay`` seconds that were not begun: their attempt does not count. Gives what is
        lost."""
        ...

    async def requeue(self, queue: QueueName, item_id: str, *, handler: str | None = None) -> bool:
        """Make a dead item due again, a job with a mode with its event. False when it is not dead."""
        ...

    async def checkpoint(self, claim: Claim, text: str, *, lease: float) -> None:
        """Save how far a job is, for whoever claims it next, and extend its lease.

        Raises:
            LeaseLost: the claim does not hold the job any more; nothing changed.
        """
        ...

    async def delivery(self, delivery_row_id: str) -> InboxDelivery | None:
        """The stored delivery."""
        ...

    async def job(self, job_id: str) -> Job | None:
        """The job as it stands."""
        ...

    async def list(
        self,
        queue: QueueName,
        *,
        status: str | None = None,
        provider_id: str | None = None,
        name: str | None = None,
        handler: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[QueueItem]:
        """Items by id, a page at a time; ``name`` is the event or the job's kind, ``handler`` the outbox's.

        ``since`` and ``until`` are about ``created_at``; ``since`` is included, ``until`` is not.
        """
        ...


class OnceFacet(Protocol):
    """What may happen once: the replay ledger, the idempotency ledger and the ledger of notifications."""

    async def claim(self, key: str, *, ttl: float) -> bool:
        """True for the first caller within ``ttl`` seconds by the database's clock."""
        ...

    async def begin(self, kind: LedgerKind, key: str, *, digest: bytes, owner: str, seconds: float) -> Begun:
        """Begin an inbound command or an outgoing operation, for ``seconds`` by the database's clock.

        It is ``new`` for the first caller, and again under a higher fence once an attempt failed or its time ended
        without a finish; ``unsettled`` tells the second from the first, until an attempt fails. Else it is ``running``
        or ``done``. ``digest`` stands for what is asked.

        Raises:
            IdempotencyMismatch: the key was used with another digest.
        """
        ...

    async def finish(
        self,
        kind: LedgerKind,
        key: str,
        *,
        owner: str,
        fence: int,
        ok: bool,
        result: Sealed | None = None,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
        work: Work[Any] | None = None,
    ) -> None:
        """End what ``begin`` gave: ``ok`` keeps ``result`` for all that ask later, and commits ``events``, ``jobs``
        and ``work`` with it; else it may begin again at once.

        Raises:
            LeaseLost: owner and fence do not hold it any more; nothing changed.
        """
        ...

    async def extend(self, kind: LedgerKind, key: str, *, owner: str, fence: int, seconds: float) -> None:
        """Hold what ``begin`` gave for ``seconds`` from now; 0 leaves it without an end, for the next to go on with.

        Raises:
            LeaseLost: owner and fence do not hold it any more; nothing changed.
        """
        ...

    async def begin_dispatch(self, dispatch: Dispatch, *, owner: str, seconds: float) -> Begun:
        """Begin to send a notification, as :meth:`begin`. Only one that was sent is ``done``."""
        ...

    async def finish_dispatch(
        self, key: str, *, owner: str, fence: int, status: Literal["sent", "failed"], error: str = ""
    ) -> None:
        """End what ``begin_dispatch`` gave; a failed one may begin again at once.

        Raises:
            LeaseLost: owner and fence do not hold it any more; nothing changed.
        """
        ...

    async def dispatches(
        self,
        *,
        projector: str | None = None,
        event_id: str | None = None,
        status: DispatchStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[DispatchEntry]:
        """Notifications by id, a page at a time."""
        ...


class LeaseFacet(Protocol):
    """The right to act on a named resource, with a fence that only counts up."""

    async def acquire(self, resource: str, *, owner: str, seconds: float) -> Lease | None:
        """The lease for ``seconds`` by the database's clock; None while it is somebody's, also the same owner's."""
        ...

    async def renew(self, lease: Lease, *, seconds: float) -> None:
        """Extend the lease to ``seconds`` from now. One whose time ended is still its holder's until it is taken.

        Raises:
            LeaseLost: it was taken over or released; nothing changed.
        """
        ...

    async def release(self, lease: Lease) -> bool:
        """Give the lease back; False when it is not held. The fence stays."""
        ...


class ResourceFacet(SubscriptionFacet, Protocol):
    """Versioned rows: subscriptions, installations, sync cursors."""

    async def upsert_installation(
        self, installation: Installation, *, live: bool | None = None, event: Event | None = None
    ) -> Installation:
        """Keep the installation of provider, scope and install type, with ``event``.

        One that is not uninstalled keeps id and ``created_at``, takes the new metadata and the times that are given,
        and moves as ``INSTALLATION_MOVES`` says. Where there is none, also after one was uninstalled, a new row is
        made. Uninstalling sets ``revoked_at`` where none is given. ``live`` says whether one is expected that is not
        uninstalled; None takes either.

        Raises:
            VersionConflict: it is not as ``live`` says; nothing changed.
            InvalidTransition: a new one is not active, or the row's status may not become this one.
        """
        ...

    async def installation(self, installation_id: str) -> Installation | None:
        """The installation."""
        ...

    async def installations(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        install_type: str | None = None,
        status: InstallationStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Installation]:
        """Installations by id, a page at a time."""
        ...

    async def set_installation_status(
        self,
        installation_id: str,
        *,
        expected: Collection[InstallationStatus],
        status: InstallationStatus,
        reason: str = "",
        event: Event | None = None,
    ) -> Installation:
        """As :meth:`set_subscription_status`; uninstalling sets ``revoked_at``."""
        ...

    async def cursor(
        self, connection_id: str, provider_id: str, resource_type: str, resource_id: str
    ) -> SyncCursor | None:
        """How far the resource was read."""
        ...

    async def advance_cursor(
        self, cursor: SyncCursor, *, expected: str | None, event: Event | None = None
    ) -> SyncCursor:
        """Set the cursor of connection, provider, resource type and id, with ``event``.

        With ``expected`` only if that is the stored one to the letter; ``""`` expects that none is stored; None sets
        it in any case. A stored row keeps id and ``created_at``, and ``last_synced_at`` where the new one has none.

        Raises:
            SyncCursorConflict: another cursor is stored; nothing changed.
            ConnectionNotFound: the connection does not exist.
            BadInput: the new cursor is blank.
        """
        ...


class BudgetFacet(Protocol):
    """Shared rate budgets: so many units in a window, in fractions where need be."""

    async def take(self, key: BudgetKey, units: float, *, limit: float, window: float) -> BudgetGrant:
        """Take ``units`` if as many are left in the running window; together all takers never get more than its limit.

        A window begins with the first taking after the last one ended, has ``limit`` units and lasts ``window``
        seconds by the database's clock. A refusal changes nothing. Nothing is granted while the budget is paused.

        Raises:
            BadInput: units or window are not above 0, or ``units`` is above ``limit`` and could never be granted.
        """
        ...

    async def lease(self, asks: Sequence[BudgetAsk], *, sharer: Scope | None = None) -> BudgetLease:
        """Take a block of each window, or nothing of any; as :meth:`take`, with one commit for all of them.

        A ``reserve`` counts as far as a whole window leaves ``units`` beside it.

        Scopes that share the windows name themselves as ``sharer``. One that is refused waits from then on, until
        ``retry_in`` is over and the window after it, or its first minute.
        Where *n* others wait, each of them has a share of 1/(n+1) of every window, and nobody else gets what of it is
        left. Where a share is less than the units that are asked for, the one that waits longest is granted first;
        being granted sends it to the end of that line.

        Raises:
            BadInput: as of :meth:`take`; or nothing is asked for, or a window twice.
        """
        ...

    async def give_back(self, blocks: Sequence[BudgetBlock]) -> None:
        """Return units that were not used, as far as their windows have not ended."""
        ...

    async def pause(self, keys: Sequence[BudgetKey], *, seconds: float) -> None:
        """Grant nothing of these budgets for so long from now. An earlier pause that lasts longer stays.

        Raises:
            BadInput: ``seconds`` is not above 0.
        """
        ...

    async def correct(self, key: BudgetKey, *, remaining: float, limit: float, reset_in: float) -> None:
        """Learn what the provider said: ``remaining`` of ``limit`` units until ``reset_in`` seconds from now.

        Answers come late and out of order, so that within a window the units left only become fewer. A reset that is
        more than half a window later than the known one is that of a newer window, which replaces it.

        Raises:
            BadInput: ``reset_in`` is not above 0, or an amount is below 0.
        """
        ...

    async def peek(self, key: BudgetKey) -> Budget | None:
        """What the budget holds; None before its first use."""
        ...


class LogFacet(Protocol):
    """The activity log."""

    async def record(self, entries: Sequence[Activity]) -> int:
        """Keep the entries whose ids are new, with one statement; gives their number.

        Raises:
            Conflict: a connection does not exist; nothing was kept.
        """
        ...

    async def trim(self, *, rows: int, limit: int, after: str = "", dry_run: bool = False) -> tuple[int, str | None]:
        """Remove the oldest entries of scopes that have more than ``rows``, going on behind the scope ``after``.

        One call removes up to ``limit`` entries, and looks for them among about ``limit``, besides the ``rows`` that a
        scope keeps. Gives their number, which ``dry_run`` only counts, and the next ``after``; None at the end.
        """
        ...

    async def activity(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        connection_id: str | None = None,
        action: str | None = None,
        status: ActivityStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Activity]:
        """Entries, newest first, a page at a time; ``since`` is included, ``until`` is not.

        Raises:
            BadInput: ``after`` is not the ``next`` of a page.
        """
        ...


class SealedFacet(Protocol):
    """Every sealed value of the database, for changing keys and for telling what cannot be opened.

    A value that was destroyed, or never was, is none: it is neither counted nor given.
    """

    async def keys(self) -> Sequence[KeyUse]:
        """How many values need each wrapping key, by kind and key. It reads every table with sealed values."""
        ...

    async def page(
        self,
        kind: SealedKind,
        *,
        key: KeyRef | None = None,
        other_than: KeyRef | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[SealedRow]:
        """Values of one kind by row id, a page at a time: those under ``key``, or those under any key but another.

        A payload may have megabytes, so that a page may also end early: only ``next`` tells whether there is more.
        """
        ...

    async def replace(self, values: Sequence[Resealed]) -> Sequence[str]:
        """Put values in the place of others of the same kind, in one unit; gives the ids of rows that were left alone
        because they hold another ciphertext now, or none. No time stamp and no version changes.
        """
        ...

    async def mark(
        self, connection_id: str, state: SecretState, *, error: str = "", event: Event | None = None
    ) -> bool:
        """Set whether the connection's credential can be opened, with ``event``; False, and no event, when that is what
        is stored already.

        ``error`` goes into ``last_error`` with ``unreadable``; ``ok`` clears what an earlier mark put there.
        """
        ...
