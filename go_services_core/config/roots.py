"""The core's own tables of the configuration file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import field, frozen

from ..call_specs import BreakerPolicy, RetryPolicy, Window
from ..delivery_specs import STANDARD_DELAYS, Burst, Schedule
from ..return_to import allowed_places
from ..secret import SecretStr
from ..specs import ApiSpec, Capability, Identity, Operation
from ..subscription_specs import SubscriptionSpec, check_callback_url
from .retention import RetentionRoot
from .schema import setting, settings

COMMIT_TIME: Final = 2.0
"""Seconds by which the lease of a renewal outlasts its requests: half before them, half to store what they brought."""


def _deadline(record: object, attribute: Any, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0 seconds, not {value:g}")


def _lease(record: RuntimeRoot, attribute: Any, value: float) -> None:
    shortest = record.refresh_deadline + COMMIT_TIME
    if not shortest <= value < math.inf:
        raise ValueError(
            f"{attribute.name} must be at least {shortest:g} seconds, {COMMIT_TIME:g} more than refresh_deadline, "
            f"not {value:g}"
        )


def _concurrency(record: object, attribute: Any, value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value}")


def _at_least_one(record: object, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value}; leave it out for no limit of its own")


def _seconds(record: object, attribute: Any, value: float | None) -> None:
    if value is not None:
        _deadline(record, attribute, value)


def _seconds_each(record: object, attribute: Any, value: tuple[float, ...]) -> None:
    if not all(0 <= seconds < math.inf for seconds in value):
        raise ValueError(f"{attribute.name} must be seconds of 0 or more")


def _rate(record: object, attribute: Any, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError(
            f"{attribute.name} must be above 0 renewals a second, not {value:g}; leave it out for no limit"
        )


@settings
class RuntimeRoot:
    """``[runtime]``"""

    callback_url: str | None = setting(
        default=None, help="URL that providers send the browser back to", example="https://app.example/callback"
    )
    allow_plaintext_secrets: bool = setting(default=False, help="Accept secrets in plain text, for experiments only")
    redact_logs: bool = setting(
        default=True, help="Mask secrets in the records of every logger of the process while a runtime is open"
    )
    cache_seconds: float = setting(
        default=30.0, help="Seconds that a connection is cached in the process; 0 turns it off"
    )
    attempt_lifetime: float = setting(default=600.0, help="Seconds that a person has to consent")
    require_redirect_uri: bool = setting(
        default=False, help="Refuse a callback whose arrival is not told, so that it is always compared"
    )
    return_to: tuple[str, ...] = setting(
        default=(),
        help="Origins, URLs and paths where a person may be sent after a callback",
        example="/settings",
        validator=allowed_places,
    )
    default_timeout: float = setting(
        default=30.0, help="Seconds that one request to a provider may take", validator=_deadline
    )
    call_deadline: float = setting(
        default=120.0,
        help="Seconds that a call of a provider may take, with its repetitions and waits, where it has no deadline",
        validator=_deadline,
    )
    refresh_deadline: float = setting(
        default=45.0,
        help="Seconds for all requests of one renewal; a single one has two thirds of them",
        rare=True,
        validator=_deadline,
    )
    refresh_lease: float = setting(
        default=60.0,
        help="Seconds that a renewal is kept from other processes, at least 2 more than refresh_deadline",
        rare=True,
        validator=_lease,
    )


@settings
class PluginsRoot:
    """``[plugins]``"""

    enabled: tuple[str, ...] | None = setting(
        default=None, help="Load these plugins only, and fail when one of them fails"
    )
    disabled: tuple[str, ...] = setting(default=(), help="Do not import these plugins")
    prefer: Mapping[str, str] = setting(default={}, help="Id that several plugins offer, and the plugin that gets it")
    strict: bool = setting(default=False, help="Treat every broken plugin as an error")


@settings
class StoreRoot:
    """``[store]``; the store's own settings stand in the same table."""

    url: str = setting(default="sqlite:///go-services.db", help="Where records are kept; the scheme chooses the store")


@settings
class SecretsRoot:
    """``[secrets]``; the backends' own settings are in ``[secrets.<id>]``."""

    backend: str = setting(default="appkey", help="Secret backend that wraps the keys of what is stored")
    at_start: Literal["require", "lazy"] = setting(
        default="require", help="Whether the backend must answer for the runtime to start, or only once it is needed"
    )
    source_ttl: float = setting(
        default=300.0, help="Seconds that a setting's secret from elsewhere is used before it is read again"
    )


@settings
class EgressRoot:
    """``[egress]``"""

    allow: Mapping[str, tuple[str, ...]] = setting(
        default={}, help="Provider id, and the host:port entries that the egress guard lets through for it"
    )


def _optional_concurrency(record: object, attribute: Any, value: int | None) -> None:
    if value is not None:
        _concurrency(record, attribute, value)


def _optional_deadline(record: object, attribute: Any, value: float | None) -> None:
    if value is not None:
        _deadline(record, attribute, value)


@frozen(kw_only=True)
class WorkSettings:
    """``[worker.kinds.<kind>]``: what differs for one kind of work."""

    batch: int | None = field(default=None, validator=_optional_concurrency)
    """Instead of ``[worker] batch``."""
    poll: float | None = field(default=None, validator=_optional_deadline)
    """Instead of ``[worker] poll``, or of the kind's own."""
    concurrency: int = field(default=1, validator=_concurrency)
    """How many batches of the kind one process works on at once."""


def _webhook_url(record: object, attribute: Any, value: str | None) -> None:
    if value is not None:
        check_callback_url(value)


@settings
class WebhooksRoot:
    """``[webhooks]``"""

    url: str | None = setting(
        default=None,
        help="URL below which providers reach the webhooks: /PROVIDER/CONNECTION is added for a subscription",
        example="https://app.example/webhooks",
        validator=_webhook_url,
    )


@settings
class WorkerRoot:
    """``[worker]``"""

    lease: float = setting(
        default=60.0,
        help="Seconds that claimed work is kept from other workers without a sign of life",
        validator=_deadline,
    )
    batch: int = setting(default=50, help="How many items are claimed at once", validator=_concurrency)
    poll: float = setting(
        default=1.0, help="Seconds until a worker that found nothing looks again, or a little less", validator=_deadline
    )
    grace: float = setting(
        default=30.0, help="Seconds that what runs has to end when a worker stops", validator=_deadline
    )
    answer_seconds: float = setting(
        default=10.0, help="Seconds that the handler of a surface has for its answer", validator=_deadline
    )
    max_lag: float = setting(
        default=300.0, help="Seconds that due work may wait before `doctor` finds fault with it", validator=_deadline
    )
    kinds: Mapping[str, WorkSettings] = setting(
        default={}, help="Kind of work, and what differs for it: batch, poll, concurrency", rare=True
    )
    concurrency: int = setting(default=16, help="Handlers that one process runs at once", validator=_concurrency)
    handler_timeout: float = setting(
        default=300.0,
        help="Seconds that a handler has for one event, where neither it nor the provider's inbox says",
        validator=_deadline,
    )


def _cap(record: object, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"must be at least 1, not {value!r}")


@settings
class ActivityRoot:
    """``[activity]``"""

    enabled: bool = setting(default=False, help="Keep every event in the activity log, when it is handled")
    row_cap: int | None = setting(
        default=None, help="How many entries of one scope are kept; no limit by default", validator=_cap
    )


@settings
class ServeRoot:
    """``[serve]``"""

    host: str = setting(default="127.0.0.1", help="Address that `go-services serve` listens on")
    port: int = setting(default=8080, help="Its port; 0 takes a free one")
    internal_host: str = setting(default="127.0.0.1", help="Address of metrics and status, apart from the public one")
    internal_port: int | None = setting(
        default=8081, help="Their port; 0 takes a free one. `--no-internal` leaves them out"
    )
    public_url: str | None = setting(
        default=None, help="URL of the server as browsers and providers see it", example="https://services.example"
    )
    scope_of: str | None = setting(
        default=None,
        help="Function that says whose connection a consent will be, as module:name; without it none can be begun",
        example="app.integrations:scope_of",
    )
    trusted_origins: tuple[str, ...] = setting(
        default=(), help="Other origins whose pages may begin a consent", example="https://app.example"
    )
    body_limit: int = setting(
        default=25 * 1024 * 1024, help="Bytes of a request's body", validator=_concurrency, rare=True
    )
    body_seconds: float = setting(
        default=30.0, help="Seconds in which a body must have come", validator=_deadline, rare=True
    )
    head_seconds: float = setting(
        default=75.0,
        help="Seconds in which the whole head of a request must have come, from the connection or the answer before it",
        validator=_deadline,
        rare=True,
    )
    grace: float = setting(default=30.0, help="Seconds that requests have to end when it stops", validator=_deadline)


@settings
class EndpointsRoot:
    """``[endpoints]``: outgoing webhooks."""

    events: tuple[str, ...] = setting(
        default=("connection.*", "grant.*", "subscription.*", "installation.*"),
        help="Events and patterns that leave the application at all; each endpoint chooses among them",
        example="webhook.*",
    )
    timeout: float = setting(
        default=20.0, help="Seconds that an endpoint has to answer one attempt", validator=_deadline
    )
    delays: tuple[float, ...] = setting(
        default=STANDARD_DELAYS,
        help="Seconds between the attempts of a message; after the last one it is dead",
        rare=True,
        validator=_seconds_each,
    )
    concurrency: int = setting(
        default=4, help="Messages that one process sends to one endpoint at once", validator=_concurrency
    )
    open_after: int = setting(
        default=5, help="Failures in a row after which an endpoint is left alone for a while", validator=_concurrency
    )
    pause: float = setting(
        default=60.0,
        help="Seconds for which it is left alone at first; they double with each failure, up to an hour",
        rare=True,
        validator=_deadline,
    )
    disable_after: float = setting(
        default=432_000.0,
        help="Seconds of nothing but failures after which an endpoint is disabled",
        validator=_deadline,
    )


@settings
class ProviderCommon:
    """What every ``[providers.<id>]`` takes, besides the provider's own settings and its auth strategies'."""

    use: str | None = setting(default=None, help="Provider that this is another instance of")
    auth: str | None = setting(default=None, help="Kind of authentication that is used when none is asked for")
    base_url: str | None = setting(default=None, help="Base URL of the API, instead of the provider's own")
    redirect_uri: str | None = setting(
        default=None, help="Redirect URI registered at the provider, sent exactly as it is written"
    )
    grants: tuple[str, ...] | None = setting(default=None, help="Grants to ask for, instead of the provider's defaults")
    inheritance: Literal["strict", "org"] = setting(
        default="strict",
        help="Whether a user without a connection is served by that of an organisation",
    )
    retry: RetryPolicy | None = setting(
        default=None, help="How often and when failed calls are made again, instead of the API's own policy", rare=True
    )
    breaker: BreakerPolicy | None = setting(
        default=None, help="When a host that keeps failing is left alone, instead of the API's own policy", rare=True
    )
    refresh_concurrency: int = setting(
        default=8,
        help="Renewals ahead of time that one process has in flight at once",
        rare=True,
        validator=_concurrency,
    )
    refresh_rate: float | None = setting(
        default=None,
        help="Renewals ahead of time a second, of all processes together; no limit by default",
        rare=True,
        validator=_rate,
    )
    rate_limit: tuple[Window, ...] | None = setting(
        default=None,
        help="Windows of units and seconds that calls of the API stay within, instead of the provider's own",
        rare=True,
    )
    rate_limit_per: Literal["connection", "scope", "provider"] | None = setting(
        default=None,
        help="Whose the units of the API's rate limit are, instead of the provider's own",
        rare=True,
    )
    webhook_url: str | None = setting(
        default=None,
        help="Scheme and host (and the path that a proxy takes away) that the provider posts to, where the URL counts",
        rare=True,
    )
    webhook_secrets: tuple[SecretStr, ...] = setting(
        default=(), help="Secrets that inbound webhooks are signed with; the first is the newest", secret=True
    )
    webhook_schedule: Schedule | None = setting(
        default=None, help="When a delivery that failed is tried again, instead of the provider's own", rare=True
    )
    webhook_concurrency: int | None = setting(
        default=None,
        help="Handlers of its deliveries that one process runs at once, instead of the provider's own",
        rare=True,
        validator=_at_least_one,
    )
    webhook_timeout: float | None = setting(
        default=None,
        help="Seconds that a handler has for one of its deliveries, instead of the provider's own",
        rare=True,
        validator=_seconds,
    )
    webhook_order: Literal["none", "channel", "resource"] | None = setting(
        default=None,
        help="What of the deliveries are handled one after another, instead of the provider's own",
        rare=True,
    )
    webhook_burst: Burst | None = setting(
        default=None, help="What becomes of deliveries in quick succession, instead of the provider's own", rare=True
    )


@settings
class DeclaredProvider:
    """What ``[providers.<id>]`` takes besides when it declares a provider that no plugin brings.

    ``auth`` and ``webhook`` are tables with a ``kind`` and a ``scheme``, which choose their fields.
    """

    name: str | None = setting(default=None, help="Name that people see")
    api: ApiSpec | None = setting(default=None, help="Where operations go")
    capabilities: tuple[Capability, ...] = setting(default=(), help="What a connection may be able to do")
    operations: tuple[Operation, ...] = setting(default=(), help="Calls of the API")
    subscriptions: tuple[SubscriptionSpec, ...] = setting(default=(), help="How its resources are subscribed to")
    implies: Mapping[str, tuple[str, ...]] = setting(default={}, help="Grant, and the narrower ones that it includes")
    identity: Identity | None = setting(default=None, help="Where the provider says whose account it is")
    scope_types: tuple[str, ...] = setting(default=("user", "org"), help="Kinds of scope that may connect")
    docs_url: str | None = setting(default=None, help="The vendor's documentation")


ROOTS: Final[Mapping[str, Any]] = {
    "runtime": RuntimeRoot,
    "plugins": PluginsRoot,
    "store": StoreRoot,
    "secrets": SecretsRoot,
    "providers": None,
    "egress": EgressRoot,
    "webhooks": WebhooksRoot,
    "worker": WorkerRoot,
    "serve": ServeRoot,
    "retention": RetentionRoot,
    "endpoints": EndpointsRoot,
    "activity": ActivityRoot,
    "transport": None,
    "observers": None,
}
"""Name of each table → its settings class, or None where the core has no settings of its own in it."""

BY_ID: Final = frozenset({"secrets", "providers", "observers", "transport"})
"""Roots with a table for each id below them, in ``[transport]`` for each kind but ``rest``."""
