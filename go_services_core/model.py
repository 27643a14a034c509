"""Frozen records of what the runtime keeps and answers with. All times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

from attrs import Attribute, field, frozen

from .errors import BadInput, InvalidScope
from .http import Headers
from .secret import SecretStr

T = TypeVar("T")

ConnectionStatus = Literal["active", "disconnected", "errored", "pending_reauth", "needs_reconsent"]
RefreshState = Literal["ok", "backing_off", "unknown"]
SecretState = Literal["ok", "unreadable"]
QueueName = Literal["inbox", "outbox", "jobs"]
JobStatus = Literal["queued", "running", "succeeded", "failed"]
Outcome = Literal["done", "retry", "dead"]


def _order_key(record: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None and not value.strip():
        raise BadInput("An order key may not be blank; None asks for no order.", field=attribute.name)


def _event_id(record: object, attribute: Attribute[str], value: str) -> None:
    if not value.strip() or ":" in value:
        raise BadInput(f"An event's id is not blank and has no colon, not {value!r}.", field="event.id")


@frozen
class Scope:
    """Whose connection it is: a user or an organisation of the application."""

    type: str = field()
    id: str = field()

    def __attrs_post_init__(self) -> None:
        if self.type not in ("user", "org"):
            raise InvalidScope(f"A scope's type is 'user' or 'org', not {self.type!r}.", field="scope.type")
        if not self.id or self.id != self.id.strip():
            raise InvalidScope("A scope's id may not be blank or begin or end with a space.", field="scope.id")

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``user:ID`` or ``org:ID``."""
        kind, colon, name = text.partition(":")
        if not colon:
            raise InvalidScope(f"A scope reads 'user:ID' or 'org:ID', not {text!r}.", field="scope")
        return cls(kind, name)


@frozen
class KeyRef:
    """Which key of which backend wrapped a ciphertext."""

    backend: str
    key_id: str
    key_version: int


@frozen
class Sealed:
    """A ciphertext together with the reference of the key that it needs."""

    ciphertext: bytes = field(repr=False)
    key: KeyRef


@frozen(kw_only=True)
class Binding:
    """What a ciphertext belongs to; it opens only under the same binding."""

    purpose: str
    provider_id: str
    scope: Scope | None
    record_id: str
    record_version: int = 1


@frozen(kw_only=True)
class Connection:
    """A provider account connected for a scope."""

    id: str
    provider_id: str
    auth_kind: str
    scope: Scope
    external_account_id: str
    status: ConnectionStatus
    refresh_state: RefreshState = "ok"
    secret_state: SecretState = "ok"
    inherits_from: str | None = None
    last_error: str = ""
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class TokenSet:
    """What a flow brought home. ``granted=None`` and ``refresh_token=None`` mean unchanged (RFC 6749 §5.1, §6)."""

    access_token: SecretStr
    token_type: str = "bearer"
    refresh_token: SecretStr | None = None
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    granted: tuple[str, ...] | None = None
    id_token: SecretStr | None = None
    extra: Mapping[str, SecretStr] = field(factory=dict)
    """Other values of the answer that are kept; all are secrets until proven otherwise."""
    account: str | None = None
    """Whose account it is, where the flow itself proved it: by an ID token, a session token, a service account's key.
    It is not stored with the tokens."""
    id_token_refused: str = ""
    """Why the ID token of a renewal was left out, which does not keep the tokens from being stored; not stored."""


@frozen(kw_only=True)
class UserProfile:
    """Whose account it is, in the provider's words. None of it links accounts: people share and change addresses."""

    provider_id: str
    issuer: str | None = None
    """Who keeps the account; None where the record does not say."""
    subject: str
    """The account's unchanging id at the issuer."""
    email: str | None = None
    email_verified: bool | None = None
    """None where the provider does not say."""
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    picture_url: str | None = None
    locale: str | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False)
    """Everything that the provider said."""

    @property
    def account_id(self) -> str:
        """``issuer|subject``, or the subject alone where no issuer is known."""
        return self.subject if self.issuer is None else f"{self.issuer}|{self.subject}"


@frozen(kw_only=True)
class Credential:
    """The active credential of a connection, opened."""

    connection_id: str
    version: int
    auth_kind: str
    tokens: TokenSet
    requested: tuple[str, ...] = ()
    granted: tuple[str, ...] | None = ()
    """None where the provider does not tell grants."""
    refreshable: bool = False


@frozen(kw_only=True)
class SealedCredential:
    """A credential as its row holds it; only ``sealed`` is secret."""

    id: str
    connection_id: str
    version: int
    sealed: Sealed
    payload_format: str
    payload_version: int
    token_type: str
    requested: tuple[str, ...] = ()
    granted: tuple[str, ...] | None = ()
    expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    refreshable: bool = False
    created_at: datetime


@frozen(kw_only=True)
class Event:
    """A change that has been committed, for durable handlers. The payload holds no secret."""

    id: str = field(validator=_event_id)
    """Without a colon: the outbox shows what one handler has of an event as ``EVENT:HANDLER``."""
    name: str
    provider_id: str
    scope: Scope
    connection_id: str | None
    occurred_at: datetime
    source: str = "runtime"
    payload: Mapping[str, Any] = field(factory=dict)
    order_key: str | None = field(default=None, validator=_order_key)
    """Each handler gets the events of one key one after another, by id."""
    version: int = 1
    """Of the payload's shape, which ``docs/reference/events.md`` describes per event; it counts up where a field is
    removed or changes its meaning."""


@frozen(kw_only=True)
class Attempt:
    """One open OAuth consent. State and binding are stored as SHA-256 only."""

    id: str
    state_hash: bytes
    binding_hash: bytes
    provider_id: str
    auth_kind: str
    scope: Scope
    redirect_uri: str
    requested: tuple[str, ...]
    connection_id: str | None
    """Set for a re-consent: only this connection may be completed."""
    return_to: str | None = None
    sealed: Sealed
    """The PKCE verifier and whatever else the flow must remember."""
    created_at: datetime
    expires_at: datetime


@frozen(kw_only=True)
class GrantSnapshot:
    """What was asked and given at one moment; versions count up per connection."""

    connection_id: str
    version: int
    requested: tuple[str, ...]
    granted: tuple[str, ...] | None
    captured_at: datetime


@frozen(kw_only=True)
class Establish:
    """Everything that ``establish`` commits together."""

    connection: Connection
    """As it shall be when new; when the account is connected already, its row keeps id and ``created_at``."""
    credential: SealedCredential
    event: Event
    expected_connection_id: str | None = None
    """For a re-consent: the connection that must be the one found."""
    also: tuple[Event, ...] = ()
    """Further events that commit with it."""


@frozen(kw_only=True)
class InboxDelivery:
    """A verified webhook delivery; request line, headers and body are one sealed blob."""

    id: str
    provider_id: str
    connection_id: str | None
    scope: Scope | None = None
    delivery_id: str
    """What dedupes: made of channel, resource and id as the scheme says."""
    event: str
    digest: bytes
    """SHA-256 of the body: the same id with another body is not the same delivery."""
    sealed: Sealed
    received_at: datetime
    order_key: str | None = field(default=None, validator=_order_key)
    """Deliveries of one provider and key are handled one after another, by id."""
    channel: str = ""
    resource: str = ""
    burst_key: str | None = None
    """Of the deliveries of one provider and key that wait, only the newest is handled."""


@frozen(kw_only=True)
class Accepted:
    """The answer of the inbox to one delivery."""

    id: str
    duplicate: bool = False
    quarantined: bool = False
    """True when the id was seen before with another body: kept and visible, not handled."""
    supersedes: bool = False
    """True when an older delivery of its burst was still waiting, which is not handled any more."""
    challenge: bytes | None = None
    """Set when the request was a handshake: answer with it as ``content_type``. Nothing was stored, ``id`` is empty."""
    content_type: str = "text/plain"


REVOKE_JOB: Final = "connections.revoke"
"""Kind of the job that revokes a credential at its provider after a disconnect. It has the credential's id."""


@frozen(kw_only=True)
class NewJob:
    """Work to be done once, after ``delay`` seconds by the database's clock."""

    id: str
    kind: str
    """Names the function that does it."""
    provider_id: str = ""
    scope: Scope | None = None
    connection_id: str | None = None
    """None for the runtime's own jobs."""
    mode: str = ""
    """For data syncs: full, delta, bootstrap, incremental or backfill."""
    payload: Mapping[str, Any] = field(factory=dict)
    """What the function needs to know; no secrets."""
    metadata: Mapping[str, Any] = field(factory=dict)
    idempotency_key: str | None = None
    """The same scope, provider, mode and key is the same job."""
    requested_by: str = ""
    order_key: str | None = field(default=None, validator=_order_key)
    """Jobs of one kind and key are done one after another, by id."""
    delay: float = 0.0
    created_at: datetime


@frozen(kw_only=True)
class Job:
    """A job as it stands. ``checkpoint`` is what it saved of its progress."""

    id: str
    kind: str
    provider_id: str
    scope: Scope | None
    connection_id: str | None
    mode: str
    requested_by: str
    order_key: str | None = None
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]
    checkpoint: str | None
    status: JobStatus
    attempts: int
    last_error: str
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class Claim:
    """One item of a queue, held by ``owner`` under ``fence`` until its lease ends."""

    queue: QueueName
    id: str
    owner: str
    fence: int
    attempt: int
    """1 for the first time."""
    crashes: int = 0
    """For the outbox: how often its lease ended since it was last settled."""
    delivery: InboxDelivery | None = None
    """Set for the inbox."""
    event: Event | None = None
    """Set for the outbox."""
    handler: str | None = None
    """Set for the outbox: the one handler that this claim is for."""
    job: Job | None = None
    """Set for jobs."""


@frozen(kw_only=True)
class QueueItem:
    """One line of a queue's listing."""

    id: str
    queue: QueueName
    status: str
    attempts: int
    provider_id: str
    name: str
    handler: str | None = None
    error: str = ""
    fence: int = 0
    created_at: datetime


@frozen
class Page(Generic[T]):
    """Part of a list. Pass ``next`` to get the following part; None ends it."""

    items: tuple[T, ...]
    next: str | None = None


@frozen(kw_only=True)
class ConnectStart:
    """A consent that was begun: send the person to ``url`` and keep ``binding`` in their browser."""

    url: str
    attempt_id: str
    binding: SecretStr
    """What ``complete`` needs: random, for a cookie; or the ``session`` that ``connect`` got, which needs none."""
    expires_at: datetime
    cookie: str = ""
    """A name for that cookie, of this consent alone: ``callback.cookie_name`` gives it for the callback's state."""


@frozen(kw_only=True)
class CallbackResult:
    """A consent that was finished."""

    connection: Connection
    return_to: str | None
    """Where the person shall be sent, as ``connect`` was told; it was checked then."""


@frozen(kw_only=True)
class DevicePrompt:
    """What a person needs to consent on another device (RFC 8628 §3.3)."""

    url: str
    """The page; it may have the code in it already."""
    verification_uri: str
    """The page as a person types it."""
    user_code: str
    """What it asks for."""


@frozen(kw_only=True)
class DeviceStart(DevicePrompt):
    """A consent on another device that was begun: show the prompt, and poll with ``attempt_id`` and ``binding``."""

    attempt_id: str
    binding: SecretStr
    interval: float
    """Seconds until the first question, and between two, until the provider says otherwise."""
    expires_at: datetime


@frozen(kw_only=True)
class OperationResult:
    """The answer to an operation. ``data`` is parsed JSON, text, or None for an empty body."""

    status: int
    data: Any = field(repr=False)
    headers: Headers = field(repr=False)
    attempts: int = 1
    request_id: str | None = None
    idempotency_key: str | None = None
    """The key that it was made with, if any."""
    replayed: bool = False
    """Whether it is the recorded result of an earlier call with the same key; nothing was sent."""


@frozen(kw_only=True)
class Decision:
    """Whether a connection may use a capability."""

    allowed: bool
    capability: str
    mode: Literal["full", "degraded", "blocked"]
    missing: tuple[str, ...] = ()
    """What decided it: the required grants that are missing where it is blocked, the optional ones where degraded."""
    optional: tuple[str, ...] = ()
    """Grants of use that are missing, whatever was decided; nothing is refused for want of them."""
    reason: str = ""
    connection_id: str | None = None
    """Whose grants decided; None where no connection serves."""


@frozen(kw_only=True)
class Resolution:
    """Which active connection serves a scope."""

    outcome: Literal["direct", "inherited", "ambiguous", "not_found"]
    connection: Connection | None = None
    """Set for ``direct`` and ``inherited``."""
    parent: Scope | None = None
    """For ``inherited``: whose connection it is."""
    candidates: tuple[str, ...] = ()
    """For ``ambiguous``: the ids of the connections that one would have to be chosen of."""
    reason: str = ""


@frozen(kw_only=True)
class Disconnected:
    """How a disconnect ended. ``revoked`` is False when the provider was not told; ``detail`` says why."""

    connection: Connection
    revoked: bool
    detail: str
    pending: bool = False
    """The provider could not be told now; the job ``connections.revoke`` goes on trying."""
    overtaken: bool = False
    """A renewal elsewhere had not ended. A token that it still brings is revoked by the process that gets it."""
    cancelled: tuple[str, ...] = ()
    """Ids of subscriptions that ended with it."""


@frozen(kw_only=True)
class Drained:
    """What one ``drain`` did."""

    deliveries: int = 0
    events: int = 0
    jobs: int = 0
    renewals: int = 0
    """By ``refresh.ahead``, and by ``subscriptions.renew``."""
    failed: int = 0


@frozen(kw_only=True, slots=False)  # two are made for every call, and without slots in two thirds of the time
class Observation:
    """Something happened in this process; handed to observers, never stored. No field holds a secret."""

    name: str
    at: datetime
    phase: Literal["start", "retry", "end"] = "end"
    """Work that takes time starts and ends; what only happened is an end. A retry comes before the end of an attempt
    that another one follows; ``detail["delay"]`` has the seconds until then."""
    ok: bool = True
    duration_ms: float | None = None
    """Of work that ended; None for what only happened."""
    provider_id: str | None = None
    connection_id: str | None = None
    scope: Scope | None = None
    span: int | None = None
    """Number of a piece of work, the same from its start to its end; unique in this process."""
    parent: int | None = None
    """``span`` of the work that it is a part of."""
    trace_id: str | None = None
    """Of the distributed trace that it belongs to, where an observer takes part in one."""
    error: str | None = None
    """What a typed error says; the name of a foreign one."""
    error_code: str | None = None
    """``code`` of a typed error; the name of a foreign one."""
    error_category: str | None = None
    error_status: int | None = None
    """The HTTP status that a web face answers with."""
    detail: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Health:
    """The answer of a health check."""

    ok: bool
    detail: str
    remedy: str | None = None


@frozen(kw_only=True)
class MigrationStep:
    """One numbered migration."""

    number: int
    name: str
    applied_at: datetime | None = None


@frozen(kw_only=True)
class StoreStatus:
    """What a store says of itself."""

    url: str
    dialect: str
    server: str
    schema_version: int
    latest_version: int
    pending: tuple[MigrationStep, ...] = ()
    tables: Mapping[str, int] = field(factory=dict)
    """Rows per table."""
    problems: tuple[str, ...] = ()
    """Empty when the store is clean."""
