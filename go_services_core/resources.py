"""Frozen records of what a store keeps beside connections and queues, and the moves that their states allow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from math import inf
from typing import Any, Final, Literal

from attrs import field, frozen

from .errors import BadInput
from .model import Scope, Sealed

SubscriptionStatus = Literal["active", "expired", "cancelled", "errored"]
InstallationStatus = Literal["active", "suspended", "uninstalled", "needs_reconsent"]
ActivityStatus = Literal["ok", "warn", "error"]
DispatchStatus = Literal["running", "sent", "failed"]
LedgerKind = Literal["command", "operation"]

SUBSCRIPTION_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "active": frozenset({"expired", "cancelled", "errored"}),
    "expired": frozenset({"active", "cancelled"}),
    "errored": frozenset({"active", "cancelled"}),
    "cancelled": frozenset(),
}
"""Status → what it may become. Staying is always allowed."""

INSTALLATION_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "active": frozenset({"suspended", "uninstalled", "needs_reconsent"}),
    "suspended": frozenset({"active", "uninstalled"}),
    "needs_reconsent": frozenset({"active", "uninstalled"}),
    "uninstalled": frozenset(),
}
"""As :data:`SUBSCRIPTION_MOVES`."""

HISTORY: Final[Mapping[str, str]] = {
    "service_lifecycle_outbox": "events that every handler has, with their deliveries",
    "service_webhook_deliveries": "deliveries that were superseded, quarantined, dropped, or handled by every handler",
    "service_sync_jobs": "jobs that succeeded",
    "service_oauth_attempts": "consents whose time is over",
    "service_refresh_intents": "refreshes that ended",
    "service_replay_ledger": "keys whose time is over",
    "service_idempotency": "commands and operations that ended, or that nobody has held since",
    "service_notification_dispatches": "notifications that were sent or failed",
    "service_activity_entries": "all entries",
    "service_grant_events": "all but the newest of each connection",
    "service_grant_snapshots": "all but the newest of each connection",
    "service_credentials": "ciphertexts of credentials that are not active: overwritten, the row stays",
    "service_subscriptions": "cancelled subscriptions that were replaced, or whose channel was subscribed again",
    "service_installations": "installations that were uninstalled",
    "service_rate_limit_state": "budgets whose window is over",
    "service_event_positions": "positions of handlers that nothing newer came to since",
}
"""What ``Store.prune`` may remove, by table; the rest of each table is never touched."""


KEPT_AT_LEAST: Final[Mapping[str, float]] = {
    "service_idempotency": 86_400.0,
    "service_webhook_deliveries": 7 * 86_400.0,
}
"""Seconds for which ``go-services store prune`` keeps history in any case. A key that is forgotten here while the
provider knows it still would be another call here and the same one there. A delivery that is forgotten while the
provider repeats it would be handled twice: providers repeat for three days (Standard Webhooks, Stripe) and people who
press "redeliver" for a few more."""


def check_policy(policy: Mapping[str, float], batch: int) -> None:
    """Refuse what ``Store.prune`` cannot follow.

    Raises:
        BadInput: a table is not in :data:`HISTORY`, or a number is out of range.
    """
    for table, keep in policy.items():
        if table not in HISTORY:
            raise BadInput(
                f"{table!r} has no history that may be removed.",
                hint=f"Tables with history are {', '.join(sorted(HISTORY))}.",
                field="policy",
            )
        if not 0 <= keep < inf:
            raise BadInput(f"{table} keeps its history for 0 seconds or more, not {keep!r}.", field="policy")
    if batch < 1:
        raise BadInput(f"A batch is at least 1, not {batch}.", field="batch")


def predecessors(moves: Mapping[str, frozenset[str]], status: str) -> frozenset[str]:
    """The statuses that may become ``status``, and ``status`` itself.

    Raises:
        BadInput: there is no such status.
    """
    if status not in moves:
        raise BadInput(f"A status is {', '.join(moves)}, not {status!r}.", field="status")
    return frozenset({status} | {before for before, after in moves.items() if status in after})


def allowed_from(moves: Mapping[str, frozenset[str]], status: str, expected: Collection[str]) -> frozenset[str]:
    """Those of ``expected`` from which the step to ``status`` is allowed.

    Raises:
        BadInput: one of the statuses does not exist, or none is expected.
    """
    unknown = sorted(set(expected) - set(moves))
    if unknown or not expected or isinstance(expected, str):
        raise BadInput(f"The expected statuses are some of {', '.join(moves)}, not {expected!r}.", field="expected")
    return predecessors(moves, status) & frozenset(expected)


@frozen(kw_only=True)
class Subscription:
    """A channel on which a provider tells of changes to one resource. ``version`` counts the changes of the row."""

    id: str
    connection_id: str
    provider_id: str
    resource_type: str
    resource_id: str
    channel_id: str
    """What the provider names in its notifications; it belongs to one connection for good."""
    remote_subscription_id: str | None = None
    callback_url: str
    verification_token_ref: str = ""
    """Where the application keeps the token that the provider sends back; never the token itself."""
    verification: Sealed | None = None
    """The token itself where the runtime keeps it, sealed; None removes it."""
    status: SubscriptionStatus = "active"
    status_reason: str = ""
    version: int = 1
    expires_at: datetime | None = None
    last_notified_at: datetime | None = None
    metadata: Mapping[str, Any] = field(factory=dict)
    events: tuple[str, ...] = ()
    """What the provider was asked to tell of; empty means everything that it tells by itself."""
    remote_resource_id: str | None = None
    """The provider's own name for the resource, where ending the subscription needs it."""
    confirmed_at: datetime | None = None
    """When the provider last said that it is alive; None until it answered for the first time."""
    renew_at: datetime | None = None
    """When ``subscriptions.renew`` looks at it again: to renew it, to try again, or to end what was replaced."""
    attempts: int = 0
    """Failures since the provider last said that it is alive."""
    replaces: str | None = None
    """Id of the subscription in whose place it was made."""
    replaced_by: str | None = None
    """Id of the subscription that took its place; both are live until the provider was told to end this one."""
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class Installation:
    """An app installed at a provider for a scope. ``version`` counts the changes of the row."""

    id: str
    provider_id: str
    scope: Scope
    install_type: str
    status: InstallationStatus = "active"
    status_reason: str = ""
    version: int = 1
    granted_at: datetime | None = None
    revoked_at: datetime | None = None
    metadata: Mapping[str, Any] = field(factory=dict)
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class SyncCursor:
    """How far a resource was read. ``cursor`` is the provider's text, in which case matters."""

    id: str
    connection_id: str
    provider_id: str
    resource_type: str
    resource_id: str
    cursor: str
    status: str = "active"
    last_synced_at: datetime | None = None
    metadata: Mapping[str, Any] = field(factory=dict)
    created_at: datetime
    updated_at: datetime


@frozen
class BudgetKey:
    """One limit of a provider for a scope. Of a bucket with several windows, each has a name of its own."""

    provider_id: str
    scope: Scope
    bucket: str


@frozen(kw_only=True)
class BudgetGrant:
    """The answer of a budget. ``retry_in`` are the seconds until the window ends; 0 when the units were granted."""

    granted: bool
    remaining: float
    retry_in: float = 0.0


@frozen(kw_only=True)
class BudgetAsk:
    """What is wanted of one window: ``units``, or a ``block`` of more where the window is ample."""

    key: BudgetKey
    units: float
    limit: float
    """Units of a whole window."""
    window: float
    """Seconds that a window lasts."""
    block: float = 0.0
    """Granted instead of ``units`` where it is more and at least a fifth of the window is left after it."""
    reserve: float = 0.0
    """Units that are left to others."""


@frozen(kw_only=True)
class BudgetBlock:
    """Units of one window that are the taker's; they end with the window, in ``ends_in`` seconds."""

    key: BudgetKey
    units: float
    period: int
    """Names the window among those of its budget."""
    remaining: float
    """What is left for others."""
    ends_in: float


@frozen(kw_only=True)
class BudgetLease:
    """A block of every window that was asked of, or none of any and the seconds until it is worth asking again."""

    blocks: tuple[BudgetBlock, ...] = ()
    retry_in: float = 0.0
    kept: bool = False
    """Whether there are units, but kept for others: they may become free before ``retry_in``."""


@frozen(kw_only=True)
class Budget:
    """What a budget holds. After its window ``remaining`` is ``limit`` and ``reset_in`` is 0."""

    limit: float
    remaining: float
    reset_in: float
    paused_in: float = 0.0
    """Seconds for which nothing is granted, whatever is left."""


@frozen(kw_only=True)
class Begun:
    """Where an entry of a ledger stands.

    ``new``: the caller has it under ``fence`` and must finish it; a fence above 1 says that earlier attempts failed or
    never told how they ended. ``running``: somebody has it for ``retry_in`` seconds more. ``done``: it ended well, with
    ``result``.
    """

    state: Literal["new", "running", "done"]
    fence: int
    retry_in: float = 0.0
    result: Sealed | None = None
    unsettled: float | None = None
    """Of a ``new`` entry of a command or operation: seconds since the first attempt began of which nobody told how it
    ended. None where every attempt before failed, or there was none."""


@frozen(kw_only=True)
class Dispatch:
    """One notification to one recipient; ``key`` is the same whenever the same event is notified again."""

    id: str
    key: str
    event_id: str
    projector: str
    definition_code: str
    recipient_key: str
    metadata: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class DispatchEntry:
    """A notification as its ledger has it."""

    dispatch: Dispatch
    status: DispatchStatus
    attempts: int
    error: str = ""
    """Of the last attempt."""
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class Activity:
    """One line of the activity log. The metadata holds no secret."""

    id: str
    provider_id: str
    scope: Scope
    connection_id: str | None = None
    installation_id: str | None = None
    subscription_id: str | None = None
    sync_job_id: str | None = None
    channel: str = "services.lifecycle"
    action: str
    object_type: str = "event"
    object_id: str
    actor: str = "system"
    actor_type: str = "system"
    status: ActivityStatus = "ok"
    metadata: Mapping[str, Any] = field(factory=dict)
    created_at: datetime
