"""What the objects behind the records must do. Protocols only; each method's docstring is its contract.

A factory behind a ``Ref`` is called as ``factory(settings, env)``: ``settings`` is an instance of the record's settings
class (or None when it has none), ``env`` a :class:`PluginEnv`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from attrs import field, frozen

from .auth.dpop_nonces import DpopNonces
from .clock import Clock
from .http import HttpRequest, HttpResponse, InboundRequest, StreamedResponse
from .model import (
    Credential,
    Event,
    Health,
    MigrationStep,
    Observation,
    Scope,
    StoreStatus,
    TokenSet,
    UserProfile,
)
from .secret import SecretStr

if TYPE_CHECKING:
    from .auth_specs import AuthSpec
    from .connection_facet import ConnectionFacet
    from .endpoint_facet import EndpointFacet
    from .exchange import Reconciliation, Unsettled
    from .facets import BudgetFacet, LeaseFacet, LogFacet, OnceFacet, QueueFacet, ResourceFacet, SealedFacet
    from .jose import Jose
    from .runtime.runtime import Runtime
    from .sealing import SecretBackend
    from .subscription_specs import SubscriptionAnswer, SubscriptionRequest
    from .worker_facet import WorkerFacet

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@frozen(kw_only=True)
class PluginEnv:
    """What a plugin's object may use of the runtime that builds it."""

    clock: Clock
    logger: logging.Logger
    resolve_secret: Callable[[str], SecretStr]
    """Turns a reference such as ``env:NAME`` into its value."""
    transport: Transport | None = None
    """The guarded transport; None while the transport itself is built."""
    egress_allow: Mapping[str, tuple[str, ...]] = field(factory=dict)
    """Provider id → ``host:port`` entries that the egress guard lets through."""
    secret_backend: Callable[[str], SecretBackend] | None = None
    """Makes the configured secret backend of an id, for one that is made of others; None where there is no runtime."""
    observe: Callable[[Observation], None] = lambda _: None
    """Tells the observers, later and apart from the caller, whom they can neither delay nor break."""


class Factory(Protocol[T_co]):
    """Makes a plugin's object once, when the runtime is built."""

    def __call__(self, settings: Any, env: PluginEnv, /) -> T_co: ...


# --- auth flows: generators without I/O -----------------------------------------------------------------------------


@frozen
class ClaimOnce:
    """A step of a flow: claim ``key`` for ``ttl`` seconds; the answer is False when it was claimed before."""

    key: str
    ttl: float


@frozen
class Jwks:
    """A step of a flow: the JWK Set (RFC 7517 §5) at ``url`` as it was read from JSON, which the runtime caches.

    ``again`` says that the one it gave lacks a key: it is then fetched anew, unless that was just done.
    """

    url: str
    again: bool = False


FlowStep: TypeAlias = HttpRequest | ClaimOnce | Jwks
Flow: TypeAlias = Generator[FlowStep, Any, T]
"""Yields a step, receives its answer (``HttpResponse`` for a request, ``bool`` for a claim, the document for a JWK
Set), returns the result. What went wrong in a step is thrown into the generator at the ``yield``."""


@frozen(kw_only=True)
class AuthContext:
    """What a flow may know. It has no clock and no socket: ``now`` and ``random`` are all it gets."""

    provider_id: str
    auth: AuthSpec
    settings: Any
    """The strategy's settings instance: client id and secret for OAuth."""
    scope: Scope
    now: datetime
    random: Callable[[int], bytes]
    redirect_uri: str = ""
    state: SecretStr | None = None
    requested: tuple[str, ...] = ()
    memory: Mapping[str, SecretStr] = field(factory=dict)
    """What ``begin`` asked to be remembered for ``complete``."""
    jose: Jose | None = None
    """What the plugins offer for signed tokens; None where no plugin does."""
    nonces: DpopNonces = field(factory=DpopNonces)
    """What servers offered for DPoP proofs, as far as the process remembers; flows read it and add to it."""


@frozen(kw_only=True)
class AuthStart:
    """Where to send the person, and what to remember (sealed) until the callback."""

    url: str
    memory: Mapping[str, SecretStr] = field(factory=dict)
    user_code: str | None = None
    """What the person types at ``verification_uri``, for a consent on another device (RFC 8628 §3.3)."""
    verification_uri: str | None = None
    """The address to show with ``user_code``; ``url`` may have the code in it already."""
    interval: float | None = None
    """Seconds between two questions, of a flow that ``polls``."""
    expires_at: datetime | None = None
    """When there is no more use in asking, of a flow that ``polls``."""


class AuthFlow(Protocol):
    """One way to obtain, renew and give back a credential.

    A flow may also have ``renewable(auth: AuthSpec, tokens: TokenSet) -> bool``, which says whether it can renew these
    tokens. Without it, tokens can be renewed where the record is ``refreshable`` and there is a refresh token.

    A flow with ``polls = True`` has no callback: ``complete`` is called with ``begin``'s memory until it raises
    something else than ``AuthorizationPending``, whose ``retry_after`` is the memory's ``interval`` from then on. Names
    of the memory that begin with ``runtime.`` are the runtime's.

    A flow may have ``refused(response: HttpResponse) -> bool``: whether an answer to a call, other than 401, says that
    the credential is over, so that a new one helps.

    A flow without a consent page may also have ``fields_for(auth: AuthSpec) -> (needed, optional)``: names of the
    fields that a credential of this very record needs, and of those that it may have. Without it, it needs ``fields``.
    """

    interactive: bool
    """Whether ``begin`` leads to a consent page; if not, ``complete`` takes what the person typed."""
    fields: tuple[str, ...]
    """Names of what the person types, for a kind without a consent page."""

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """Prepare the consent."""
        ...

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Turn the callback's parameters, or the fields that were typed, into tokens.

        All of them come as secrets, so that a traceback with locals shows none: reveal a value where it is used.

        Raises:
            CallbackRefused: the provider sent error parameters.
            TokenEndpointError: the token endpoint refused or answered nonsense.
            BadInput: a field is missing.
        """
        ...

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Renew the tokens.

        Raises:
            InvalidGrant: the provider says that the grant is over.
            TokenEndpointError: any other refusal.
        """
        ...

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """Give the tokens back at the provider. False when this kind has nothing to give back."""
        ...


class ProviderAdapter:
    """Where one vendor deviates from the standards. Override what differs; None means the standard way."""

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool] | None:
        """Revocation at a vendor without RFC 7009."""
        return None

    def classify(self, response: HttpResponse) -> Exception | None:
        """The typed error for an answer whose status alone does not tell."""
        return None

    def identity(self, ctx: AuthContext, tokens: TokenSet) -> Flow[UserProfile] | None:
        """Whose account the tokens open, at a vendor where no single URL says it.

        What it goes by is the tokens and the vendor's answers. An account that cannot be told is ``ProfileNotFound``.
        """
        return None

    def reconcile(self, call: Unsettled) -> Reconciliation | None:
        """What became of a call whose outcome is unknown, asked before it is sent again under the same key.

        Only for operations for which the provider does not know the key, or does not know it any more. None where
        there is no way to tell: the call ends with ``OutcomeUnknown``.
        """
        return None

    def subscription_params(self, request: SubscriptionRequest) -> Mapping[str, Any] | None:
        """The parameters of the operation that creates, renews or cancels a subscription."""
        return None

    def subscription_answer(self, request: SubscriptionRequest, data: Any) -> SubscriptionAnswer | None:
        """What the answer to ``create`` or ``renew`` says of it."""
        return None


# --- signing and sending --------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class SigningKey:
    """The secret to sign with, and the auth record that says how."""

    secret: SecretStr
    auth: AuthSpec
    credential: Credential | None = None


@frozen
class SigningContext:
    """The moment of signing; skew is applied already."""

    now: datetime
    random: Callable[[int], bytes]
    nonce: str | None = None
    """The nonce that the server asked for, if any."""


class Signer(Protocol):
    """Puts a credential on a final request. Pure: no clock, no I/O, the input is not changed.

    A signer may have ``is_dated(auth)``, which says whether what it makes with that record carries the time. The time
    is then corrected by what the host's own clock was seen to say, and a request that was refused for it is signed and
    sent once more.
    """

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        """The signed copy of ``request``.

        Raises:
            SigningError: the key does not fit the scheme.
            BadInput: the credential would break out of its header.
        """
        ...


class Transport(Protocol):
    """Sends final requests. It follows no redirects and changes no byte of what was signed.

    A request's ``client_certificate`` is presented in TLS, or the request is refused; a request without one, or with
    another, goes over another connection. The codings ``gzip`` and ``deflate`` of an answer are undone.
    """

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        """The answer, whatever its status.

        Raises:
            EgressDenied: the guard refuses the address; nothing was sent.
            ConnectFailed: no connection; nothing was sent.
            RequestTimeout: over ``request.timeout``; ``sent`` says whether a byte may have left.
            BodyTooLarge: the answer is over ``request.max_body``, counted after decompression.
            ResponseInvalid: the answer has another content coding, or several.
            TransportError: anything else that ended the exchange.
        """
        ...

    async def aclose(self) -> None:
        """Take no more requests, let those under way end for a while, and close every connection; idempotent."""
        ...


@runtime_checkable
class StreamTransport(Transport, Protocol):
    """A transport that can also give an answer while it comes; one that cannot leaves ``stream`` out."""

    def stream(self, request: HttpRequest, *, provider_id: str) -> AbstractAsyncContextManager[StreamedResponse]:
        """The answer, whatever its status, as soon as its headers are there.

        ``request.timeout`` is the longest time until the headers and between two pieces, not that of the whole
        exchange; ``request.max_body`` None is no limit. Leaving the context before the end closes the connection, and
        so does cancellation. Entering raises as ``send``; taking a piece raises:

        Raises:
            RequestTimeout: nothing came for ``request.timeout``.
            BodyTooLarge: the pieces are over ``request.max_body``, counted after decompression.
            TransportError: anything else that ended the answer before it was complete.
        """
        ...


# --- secrets --------------------------------------------------------------------------------------------------------


class SecretSource(Protocol):
    """Reads secrets for settings from somewhere else."""

    def get(self, name: str) -> SecretStr:
        """The secret that ``name`` (the reference without its scheme) stands for.

        Raises:
            ConfigError: it does not exist or cannot be read; the message names it.
        """
        ...


# --- storage --------------------------------------------------------------------------------------------------------

Work: TypeAlias = Callable[[], Generator[Any, Any, T]]
"""A unit of work: a re-runnable factory of a generator of statements. Ids, times and ciphertexts
are arguments, never made inside."""


class Store(Protocol):
    """Durable records, in facets: those of :mod:`go_services_core.facets`, ``ConnectionFacet`` and
    ``EndpointFacet``.

    A store may leave a facet out: then it has no such attribute.
    """

    @property
    def id(self) -> str:
        """Random id made by the first migration; part of every ciphertext's binding."""
        ...

    @property
    def connections(self) -> ConnectionFacet: ...

    @property
    def queues(self) -> QueueFacet: ...

    @property
    def once(self) -> OnceFacet: ...

    @property
    def leases(self) -> LeaseFacet: ...

    @property
    def resources(self) -> ResourceFacet: ...

    @property
    def budgets(self) -> BudgetFacet: ...

    @property
    def log(self) -> LogFacet: ...

    @property
    def sealed(self) -> SealedFacet: ...

    @property
    def workers(self) -> WorkerFacet: ...

    @property
    def endpoints(self) -> EndpointFacet: ...

    async def remember(self, name: str, value: bytes) -> bytes:
        """Keep ``value`` under ``name`` unless a value is there; gives the one that is kept."""
        ...

    async def exchange(self, name: str, *, before: bytes, after: bytes) -> bool:
        """Keep ``after`` under ``name`` if ``before`` is what is kept; False, and no change, if it is not."""
        ...

    def listen(self, listener: Callable[[Sequence[Event]], None] | None) -> None:
        """Have ``listener`` called, in the loop of each caller, with the events that a unit of this object committed.

        After the commit, which it cannot change; not where nobody knows whether it came to pass (``CommitUnknown``).
        It must neither wait nor raise. None ends it.
        """
        ...

    async def open(self) -> None:
        """Connect and check the schema; changes nothing.

        Raises:
            StoreUnavailable: the database cannot be opened.
            SchemaOutOfDate, SchemaTooNew: the schema is not this release's.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was submitted and close; idempotent."""
        ...

    async def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        """Apply what is pending and give it; does not need ``open``."""
        ...

    async def status(self) -> StoreStatus:
        """Schema, sizes and problems; does not need ``open``."""
        ...

    async def prune(self, policy: Mapping[str, float], *, batch: int = 500, dry_run: bool = False) -> Mapping[str, int]:
        """Remove history that is older than ``policy`` says: table → seconds to keep by the database's clock.

        Only what :data:`~go_services_core.resources.HISTORY` names is removed, never a row that something still waits
        for, is running, or is dead. It goes through each table by key, ``batch`` rows a commit, so that writers
        never wait for long, and gives the rows removed per table; ``dry_run`` counts them only.

        Raises:
            BadInput: a table has no history or the time is below 0; nothing was removed.
        """
        ...


# --- inbound, everything else ----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Verified:
    """The delivery is authentic. All texts are as the provider sent them, and only from what was verified or, where
    the vendor signs the body alone, from headers that decide nothing about access."""

    delivery_id: str
    """What dedupes: unique among all deliveries of a provider and connection, made of channel and id where the
    vendor's ids restart per channel."""
    event: str
    timestamp: datetime | None = None
    channel: str = ""
    """The subscription's channel that it came on; empty where the vendor has none."""
    resource: str = ""
    """What it is about: an object's id; empty where the record does not say where it stands."""
    body: bytes | None = field(default=None, repr=False)
    """What handlers get in place of the body, where the vendor encrypts it."""


@frozen(kw_only=True)
class Rejected:
    """The delivery is not acceptable; ``reason`` has no secret and no signature in it."""

    reason: str


@frozen(kw_only=True)
class Challenge:
    """The request is a handshake, whose token was checked; answer it with status 200 and ``body``, at most 1 KiB."""

    body: bytes
    content_type: Literal["text/plain", "application/json"] = "text/plain"


Verdict: TypeAlias = Verified | Rejected | Challenge


class WebhookVerifier(Protocol):
    """Checks the raw bytes of a delivery before anything is parsed. Made from the provider's webhook record.

    A verifier may have a method ``channel(request) -> str | None`` besides, which reads from the headers or the target
    the channel that a delivery claims to come on. The subscription of that channel then brings connection and secret,
    before anything is verified; a channel that nobody has is rejected.
    """

    def __init__(self, record: Any, /) -> None: ...

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """The verdict. A missing header, an unreadable value or no secret at all is Rejected, never an exception."""
        ...


class Observer(Protocol):
    """Watches. What it raises is logged and dropped; it is told from a thread of its own unless it is inline."""

    def __call__(self, event: Observation, /) -> None: ...


class JobEngine(Protocol):
    """Runs the runtime's jobs somewhere else; a job names a ledger row, whose claim makes duplicates harmless."""

    async def enqueue(self, kind: str, row_id: str, *, delay: float = 0.0) -> None:
        """Have ``runtime.run_due(kind)`` run for that row."""
        ...


class MessageHandler(Protocol):
    """Handles a command or query."""

    def __call__(self, runtime: Runtime, message: Mapping[str, Any], /) -> Awaitable[Any]: ...


class HealthCheck(Protocol):
    """One line of ``go-services doctor``."""

    def __call__(self, runtime: Runtime, /) -> Awaitable[Health]: ...
