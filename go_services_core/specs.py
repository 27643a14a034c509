"""The records that plugins return from their hooks: data only, frozen, comparable.

Those of how a provider authenticates are in ``go_services_core.auth_specs``, those of how its deliveries are verified
in ``go_services_core.webhook_specs``. URL fields, issuers, assertion audiences and regions may hold ``{name}``: the
setting or property of that name of the provider's settings class is put in when a provider instance is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from attrs import Attribute, field, frozen, validators

from .auth_specs import AuthSpec
from .call_specs import BreakerPolicy, CallSpec, RateBudget, RetryPolicy, Throttled
from .delivery_specs import InboxPolicy, Schedule
from .subscription_specs import SubscriptionSpec
from .tuples import as_tuple
from .webhook_specs import WebhookSpec

if TYPE_CHECKING:
    import click

    from . import handler_protocols as h
    from . import notifications as n
    from . import protocols as p
    from . import sealing as s
    from .exchange import CallTransport
    from .hook_protocols import ActivityEnricher, LifecycleHook
    from .jose import Jose
    from .refs import Ref
    from .secret import SecretStr

FACETS = ("connections", "leases", "once", "queues", "resources", "budgets", "log", "sealed", "workers", "endpoints")


# --- what a provider offers ----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ApiSpec:
    """Where operations go. A credential is sent only to the host of ``base_url`` and to ``hosts``."""

    base_url: str
    hosts: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Further hosts, ``name`` or ``*.domain``, each with ``:port`` when it is not the scheme's own."""
    headers: Mapping[str, str] = field(factory=dict)
    request_id_header: str = "X-Request-Id"
    idempotency_header: str | None = None
    """Header that carries idempotency keys, where the provider honours one for every operation."""
    idempotency_seconds: float = field(default=86_400.0, validator=validators.gt(0))
    """How long the provider remembers a key; after that it would do the same once more."""
    retry: RetryPolicy = field(factory=RetryPolicy)
    breaker: BreakerPolicy | None = field(factory=BreakerPolicy)
    """When a host that keeps failing is left alone; None never."""
    throttled: tuple[Throttled, ...] = field(default=(), converter=as_tuple)
    """Answers that are rate limits although their status does not say so."""
    budget: RateBudget = field(factory=RateBudget)


@frozen
class Capability:
    """Something a connection may be able to do, and the grants that it takes."""

    name: str
    grants: tuple[str, ...] = field(default=(), converter=as_tuple, kw_only=True)
    optional: tuple[str, ...] = field(default=(), converter=as_tuple, kw_only=True)
    """Grants without which it works, but less well. Decisions name those that are missing; only where ``denied`` is
    ``degrade`` do they change the mode."""
    denied: Literal["block", "degrade"] = field(default="block", kw_only=True)


@frozen
class Param:
    """One parameter of an operation.

    ``raw`` parameters are the whole body: an object or array as JSON, a string as UTF-8 text, bytes as they are. Dates
    are ``datetime.date`` and aware ``datetime`` objects, or ISO 8601 text (RFC 3339).
    """

    name: str
    where: Literal["path", "query", "body", "header", "raw"] = "query"
    type: Literal["string", "integer", "number", "boolean", "array", "object", "date", "datetime", "bytes"] = "string"
    required: bool = field(default=False, kw_only=True)
    choices: tuple[str | int, ...] = field(default=(), converter=as_tuple, kw_only=True)
    """All values that it takes; of an array, that its items take. None given means any."""
    minimum: float | None = field(default=None, kw_only=True)
    maximum: float | None = field(default=None, kw_only=True)
    """The smallest and the largest number that it takes."""
    default: Any = field(default=None, kw_only=True)
    """Sent where the caller gives none; None leaves it to the provider."""
    nullable: bool = field(default=False, kw_only=True)
    """None in the body is sent as ``null``; otherwise it is as if the parameter were not given."""
    wire: str | None = field(default=None, kw_only=True)
    """Its name in the request, where that is another; in the body a dotted path: ``commit.author.name``."""
    style: Literal["repeat", "comma", "brackets", "segments"] = field(default="repeat", kw_only=True)
    """In a query: ``a=1&a=2``, ``a=1,2`` or ``a[]=1&a[]=2``, where an object is ``a[key]=1``. ``segments`` is for a
    path parameter whose slashes separate segments of the path."""
    help: str = field(default="", kw_only=True)


@frozen
class Pagination:
    """How a list operation is continued. Paths are dotted; a number in them is a position in a list, -1 the last.

    ``link``: the Link header's ``rel=next`` (RFC 8288). ``next_url``: the answer has the next page's URL at ``next``.
    ``cursor``: the answer has a cursor or page token at ``next``, which goes into the parameter ``param``. ``offset``
    and ``page``: ``param`` is the number of the first item, counted from 0, or of the page, counted from ``first``; the
    list ends with an empty page, where ``more`` says so, or with a page shorter than ``size_param`` asked for.
    ``connection``: a GraphQL connection (``nodes`` or ``edges``, and ``pageInfo``) at ``items``, whose ``endCursor``
    goes into the variable ``param``.

    An empty page ends a list only where nothing else can tell the end.
    """

    style: Literal["link", "next_url", "cursor", "offset", "page", "connection"] = "link"
    items: str | None = field(default=None, kw_only=True)
    """Path of the list inside the answer; None means the operation's ``result``, or that the answer is the list."""
    next: str | None = field(default=None, kw_only=True)
    """Path of the next URL or cursor inside the answer."""
    more: str | None = field(default=None, kw_only=True)
    """Path of what says whether there is another page; None where the end shows otherwise."""
    param: str | None = field(default=None, kw_only=True)
    size_param: str | None = field(default=None, kw_only=True)
    """The parameter for the size of a page. Declare its ``maximum``: a provider that gives fewer items than it was
    asked for, because that is more than it allows, would seem to be at the end."""
    first: int = field(default=1, kw_only=True)


@frozen
class Operation:
    """One call of the provider's API, as data."""

    id: str
    method: str
    path: str
    """Template below the API's base URL: ``/repos/{owner}/{repo}/issues``."""
    capability: str | None = field(default=None, kw_only=True)
    params: tuple[Param, ...] = field(default=(), converter=as_tuple, kw_only=True)
    pagination: Pagination | None = field(default=None, kw_only=True)
    answer: Literal["json", "text", "bytes", "auto"] = field(default="json", kw_only=True)
    """What a successful answer holds; one that is not JSON where JSON is expected is an error. ``auto`` goes by its
    content type: JSON, text, or bytes."""
    result: str | None = field(default=None, kw_only=True)
    """Path of what the caller wants inside the answer, as in :class:`Pagination`; None for all of it."""
    idempotency_header: str | None = field(default=None, kw_only=True)
    """Header that carries the idempotency key, where the provider honours one; None means the API's."""
    keyed: bool = field(default=False, kw_only=True)
    """Every call has an idempotency key; where the caller gives none, one is made. It needs a header for it."""
    idempotent: bool | None = field(default=None, kw_only=True)
    """Whether repeating a call does nothing more; None goes by the method (RFC 9110 §9.2.2)."""
    cost: float = field(default=1.0, kw_only=True)
    """Units of the budget that a call takes."""
    budget: RateBudget | None = field(default=None, kw_only=True)
    """Instead of the API's."""
    retry: RetryPolicy | None = field(default=None, kw_only=True)
    """Instead of the API's."""
    redirects: Literal["own", "any", "none"] = field(default="own", kw_only=True)
    """Where redirects are followed to: ``own``, the provider's own hosts, each time signed anew; ``any``, for GET and
    HEAD other hosts too, without the credential, as downloads want it; ``none`` makes them an error."""
    call: CallSpec | None = field(default=None, kw_only=True)
    """The record of the transport kind that carries it; None is plain HTTP, the kind ``rest``."""
    summary: str = field(default="", kw_only=True)
    docs_url: str | None = field(default=None, kw_only=True)


_PROFILE = ("email", "email_verified", "name", "given_name", "family_name", "picture_url", "locale")


def _profile_fields(record: object, attribute: Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    unknown = sorted(set(value) - set(_PROFILE))
    if unknown:
        raise ValueError(f"fields cannot place {unknown[0]!r}; a profile has {', '.join(_PROFILE)}")


@frozen(kw_only=True)
class Identity:
    """Where the provider says whose account it is."""

    url: str
    """Absolute, or below the API's base URL."""
    account: str = "id"
    """Dotted path of the account's unchanging id; several alternatives are separated by ``|``."""
    grants_header: str | None = None
    """Response header that lists the token's grants, separated by commas."""
    issuer: str | None = None
    """Who keeps the accounts, ``https://github.com``; where it is set, the account of a new connection is
    ``issuer|id``, as in the Go system. One that is stored as the id alone stays the same account."""
    fields: Mapping[str, str] = field(factory=dict, validator=_profile_fields)
    """Where fields of a profile stand that are not under OpenID Connect's names: ``{"name": "name|login"}``. Paths and
    alternatives are as in ``account``."""


@frozen(kw_only=True)
class ProviderSpec:
    """A provider, complete. One that follows the standards needs nothing but this record."""

    id: str
    name: str
    auth: tuple[AuthSpec, ...] = field(converter=as_tuple)
    """The first is the default."""
    api: ApiSpec | None = None
    capabilities: tuple[Capability, ...] = field(default=(), converter=as_tuple)
    operations: tuple[Operation, ...] = field(default=(), converter=as_tuple)
    implies: Mapping[str, tuple[str, ...]] = field(factory=dict)
    """A grant and the narrower ones that it includes."""
    identity: Identity | None = None
    webhook: WebhookSpec | None = None
    inbox: InboxPolicy = field(factory=InboxPolicy)
    subscriptions: tuple[SubscriptionSpec, ...] = field(default=(), converter=as_tuple)
    """How it is subscribed to, one record for each type of resource."""
    scope_types: tuple[str, ...] = ("user", "org")
    settings: Ref[type] | type | None = None
    """Settings class of the provider's own fields in ``[providers.<id>]``."""
    adapter: Ref[type[p.ProviderAdapter]] | None = None
    """Overrides where the vendor deviates from the standards."""
    docs_url: str | None = None


@frozen(kw_only=True)
class OperationPack:
    """Capabilities and operations added to somebody else's provider."""

    id: str
    provider_id: str
    capabilities: tuple[Capability, ...] = field(default=(), converter=as_tuple)
    operations: tuple[Operation, ...] = field(default=(), converter=as_tuple)


# --- the machinery -------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class AuthStrategySpec:
    """The flow that serves auth records of one kind."""

    kind: str
    flow: Ref[type[p.AuthFlow]]
    settings: Ref[type] | type | None = None
    """Settings class whose fields a provider instance of this kind takes, e.g. ``client_id``."""
    record: Ref[type] | type | None = None
    """The record's class, for providers declared in the configuration file."""


@frozen(kw_only=True)
class JoseSpec:
    """What signs and verifies JSON Web Tokens for the core's flows; there is one."""

    jose: Ref[type[Jose]]
    id: str = "jose"


@frozen(kw_only=True)
class SignerSpec:
    """A way to put a credential on a request."""

    scheme: str
    signer: Ref[type[p.Signer]]


@frozen(kw_only=True)
class TransportSpec:
    """A way to make a call. The kind ``rest`` sends the requests of operations and auth flows; others shape calls, or
    send them in a way of their own: see :class:`go_services_core.exchange.CallTransport`."""

    kind: str
    factory: Ref[p.Factory[p.Transport | CallTransport]]
    settings: Ref[type] | type | None = None
    """Class of ``[transport]`` for ``rest``, of ``[transport.<kind>]`` for others."""
    record: Ref[type] | type | None = None
    """Class of ``Operation.call`` records of this kind, for providers declared in the configuration file."""


@frozen(kw_only=True)
class SecretBackendSpec:
    """A keeper of wrapping keys. ``sealer`` does the rest of the envelope."""

    id: str
    factory: Ref[p.Factory[s.SecretBackend]]
    sealer: Ref[s.SealerFactory]
    settings: Ref[type] | type | None = None
    generate_key: Ref[Callable[[], SecretStr]] | None = None
    """Makes key material in its text form, for a backend whose keys the application keeps itself."""
    bundles: Ref[Callable[[], s.BundleCipher]] | None = None
    """Encrypts export bundles, under keys of their own: whichever backend is configured."""


@frozen(kw_only=True)
class SecretSourceSpec:
    """Where a setting's secret may be kept: the part of a reference before the first colon."""

    scheme: str
    factory: Ref[p.Factory[p.SecretSource]]
    summary: str = ""
    backend: str | None = None
    """The secret backend of the same plugin whose settings (``[secrets.<id>]``) say how to reach it."""
    remote: bool = False
    """Asking it takes a network call: it is asked at the first use, in a thread, not when the runtime is built."""


@frozen(kw_only=True)
class StoreSpec:
    """A store for the runtime's records. A facet that is not listed fails the features that need it, by name."""

    id: str
    url_schemes: tuple[str, ...] = field(converter=as_tuple)
    factory: Ref[p.Factory[p.Store]]
    facets: tuple[str, ...] = field(converter=as_tuple)
    settings: Ref[type] | type | None = None


@frozen(kw_only=True)
class WebhookSchemeSpec:
    """The verifier for webhook records of one scheme."""

    id: str
    verifier: Ref[type[p.WebhookVerifier]]
    """Called with the record, gives the verifier."""
    record: Ref[type] | type | None = None


SurfaceName: TypeAlias = Literal["webhook", "command", "interaction", "event_callback"]


@frozen(kw_only=True)
class SurfaceSpec:
    """What answers requests whose sender waits for the handler's own answer."""

    id: str
    surface: SurfaceName = field(validator=validators.in_(get_args(SurfaceName)))
    provider_id: str | None = None
    """Whose requests; None answers for every provider that has no handler of its own on the surface."""
    handler: Ref[h.InboundHandler]


@frozen(kw_only=True)
class EventHandlerSpec:
    """A durable handler: it gets every matching event once in effect. ``name`` never changes."""

    name: str
    events: str
    """Event name or pattern: ``connection.*``."""
    handler: Ref[h.EventHandler]
    timeout: float | None = None
    """Seconds that it has for one event; None for what the provider's inbox says of webhooks, else for
    ``[worker] handler_timeout``."""
    schedule: Schedule | None = None
    """When it is called again after it failed; None for what the provider's inbox says, else for the standard one."""
    concurrency: int | None = None
    """How many of its events one process handles at once; None sets no limit of its own."""


@frozen(kw_only=True)
class NotificationSpec:
    """Who is told of an event, and how. ``name`` never changes: what was sent is remembered under it."""

    name: str
    events: str
    """Event name or pattern: ``connection.*``."""
    definition: Ref[n.NotificationDefinition]
    recipients: Ref[n.RecipientResolver]
    sender: Ref[n.NotificationSender]
    timeout: float = 30.0
    """Seconds that the sender has for one recipient."""


@frozen(kw_only=True)
class LifecycleHookSpec:
    """Something that is asked before a matching event is committed, or told after it in this process, or both."""

    name: str
    events: str
    """Event name or pattern: ``connection.*``."""
    before: Ref[LifecycleHook] | None = None
    """What it raises refuses the change. ``events`` then means at least one event that can be refused."""
    after: Ref[LifecycleHook] | None = None
    """What it raises is logged. It may be left out by the end of the process: what must follow is a handler's."""


@frozen(kw_only=True)
class ActivityEnricherSpec:
    """Something that adds to entries of the activity log before they are kept."""

    name: str
    enrich: Ref[ActivityEnricher]


@frozen(kw_only=True)
class ObserverSpec:
    """Something that watches this process."""

    id: str
    factory: Ref[p.Factory[p.Observer]]
    settings: Ref[type] | type | None = None
    inline: bool = False
    """Told at once, in the task that is observed, instead of soon, from a thread: for what needs the caller's context.
    It must not block; one that takes long is told from a thread from then on."""
    exposition: Ref[Callable[[str], tuple[str, bytes]]] | None = None
    """What it has counted, for those who ask ``/metrics``: gets an ``Accept`` header, gives content type and body."""


@frozen(kw_only=True)
class JobEngineSpec:
    """An engine that runs the runtime's jobs outside this process."""

    id: str
    factory: Ref[p.Factory[p.JobEngine]]
    settings: Ref[type] | type | None = None


@frozen(kw_only=True)
class MessageSpec:
    """A command or query that can be dispatched by name."""

    name: str
    handler: Ref[p.MessageHandler]
    query: bool = False


@frozen(kw_only=True)
class CommandSpec:
    """A subcommand of ``go-services``."""

    name: str
    summary: str
    command: Ref[click.Command]


@frozen(kw_only=True)
class HealthCheckSpec:
    """A check that ``go-services doctor`` runs."""

    id: str
    summary: str
    check: Ref[p.HealthCheck]
