"""The events that announce changes of state: their names, versions and payloads, and the one way to make them.

``docs/reference/events.md`` has the same as a table. Which cause writes which event is in ``docs/reference/states.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import evolve, frozen

from .clock import Clock, uuid7, uuid_after, uuid_of
from .errors import BadInput
from .model import Event, Scope

if TYPE_CHECKING:
    from .model import Connection, Job

NOBODY: Final = Scope("org", "-")
"""The scope of an event that is about nobody in particular: of a webhook without a connection, of a job without a
scope."""
SEVERITIES: Final = ("ok", "warn", "error")


@frozen(kw_only=True)
class EventSpec:
    """One event, or a family of them: ``webhook.*``."""

    name: str
    announces: str
    """What it is committed with."""
    fields: Mapping[str, type | UnionType]
    """Field of the payload → its type in JSON."""
    optional: tuple[str, ...] = ()
    """Fields that may be left out."""
    version: int = 1
    """Counts up where a field is removed or changes its meaning."""
    refusable: bool = False
    """Whether a hook before the commit may refuse the change: not where it happened at a provider already."""
    severity: Literal["ok", "warn", "error"] = "ok"
    """As what the activity log shows it."""


_SUBSCRIPTION: Final[Mapping[str, type | UnionType]] = {
    "subscription_id": str,
    "resource_type": str,
    "resource_id": str,
    "channel_id": str,
    "status": str,
}
_INSTALLATION: Final[Mapping[str, type | UnionType]] = {
    "installation_id": str,
    "install_type": str,
    "status": str,
    "previous": str | None,
    "reason": str,
}
_GRANTS: Final[Mapping[str, type | UnionType]] = {
    "requested": list,
    "granted": list | None,
    "added": list,
    "removed": list,
    "snapshot_version": int | None,
}
_JOB: Final[Mapping[str, type | UnionType]] = {
    "job_id": str,
    "kind": str,
    "mode": str,
    "requested_by": str,
    "attempts": int,
}
_REVOCATION: Final[Mapping[str, type | UnionType]] = {"version": int, "attempts": int, "detail": str}


def _subscription(name: str, announces: str, fields: Mapping[str, type | UnionType], **options: Any) -> EventSpec:
    return EventSpec(name=f"subscription.{name}", announces=announces, fields={**_SUBSCRIPTION, **fields}, **options)


def _installation(name: str, announces: str, **options: Any) -> EventSpec:
    optional = ("reason",)
    return EventSpec(
        name=f"installation.{name}", announces=announces, fields=_INSTALLATION, optional=optional, **options
    )


def _endpoint(name: str, announces: str, **options: Any) -> EventSpec:
    fields = {"endpoint_id": str, **options.pop("fields", {})}
    return EventSpec(name=f"endpoint.{name}", announces=announces, fields=fields, **options)


def _grant(name: str, announces: str, **options: Any) -> EventSpec:
    return EventSpec(name=f"grant.{name}", announces=announces, fields=_GRANTS, **options)


_ALL: Final = (
    EventSpec(
        name="connection.established",
        announces="a new or renewed connection with its credential and grants; `source` is `imported` where it was "
        "imported",
        fields={"external_account_id": str, "auth_kind": str, "version": int, "source": str},
        optional=("source",),
        refusable=True,
    ),
    EventSpec(
        name="connection.pending_reauth",
        announces="the end of the grant, by the provider; once for each such end. `reason` is the OAuth error code",
        fields={"reason": str},
        severity="warn",
    ),
    EventSpec(
        name="connection.needs_reconsent",
        announces="the demand for another consent, by the application or because a renewal left no grant",
        fields={"reason": str},
        refusable=True,
        severity="warn",
    ),
    EventSpec(
        name="connection.disconnected",
        announces="the end of a connection, the destruction of its secrets and the cancelling of its subscriptions: "
        "whether it was `revoked` at the provider and why not (`detail`), whether a job goes on trying (`pending`), "
        "whether a renewal had not ended (`overtaken`), and the ids of the subscriptions (`cancelled`). A hook before "
        "the commit is asked before the provider is told, and sees `reason` alone",
        fields={
            "reason": str,
            "revoked": bool,
            "detail": str,
            "pending": bool,
            "overtaken": bool,
            "cancelled": list,
        },
        optional=("revoked", "detail", "pending", "overtaken", "cancelled"),
        refusable=True,
    ),
    EventSpec(
        name="credential.refreshed",
        announces="a new credential version after a renewal",
        fields={"version": int},
    ),
    EventSpec(
        name="credential.refresh_unknown",
        announces="the second renewal whose outcome nobody knows; nothing more is tried with this credential",
        fields={"version": int},
        severity="error",
    ),
    EventSpec(
        name="credential.unreadable",
        announces="`secret_state` becoming `unreadable`: the credential cannot be opened. `code` is that of the error",
        fields={"code": str},
        severity="error",
    ),
    EventSpec(
        name="credential.readable",
        announces="`secret_state` becoming `ok` again",
        fields={},
    ),
    EventSpec(
        name="credential.revoked",
        announces="the destruction of what a disconnect had to keep, after the provider was told",
        fields=_REVOCATION,
    ),
    EventSpec(
        name="credential.revocation_failed",
        announces="the same destruction, where the provider was never told: given up, or its account is connected "
        "again on the same grant",
        fields=_REVOCATION,
        severity="error",
    ),
    _grant("expanded", "a credential that was granted more than the one before, or anything at first"),
    _grant("downgraded", "a credential that lost something, whatever else it was granted", severity="warn"),
    _grant("revoked", "a credential that lost everything", severity="warn"),
    _grant(
        "reconsent_requested",
        "a consent that was begun for a connection; `added` is what is asked for and not held",
        refusable=True,
    ),
    _grant("reconsent_completed", "the credential of that consent, with what it changed"),
    EventSpec(
        name="grant.drift",
        announces="a credential that was granted less than requested; after a renewal only where something new is "
        "missing. See [asking for more grants](../how-to/ask-for-more-grants.md#hear-of-what-is-missing)",
        fields={"requested": list, "granted": list | None, "missing": list, "required": dict, "optional": dict},
        severity="warn",
    ),
    _subscription(
        "created",
        "the provider's confirmation of a new subscription; `replaces` the id of one whose first answer was lost, for "
        "that `reason`",
        {"expires_at": str | None, "replaces": str, "reason": str},
        optional=("replaces", "reason"),
    ),
    _subscription(
        "renewed",
        "the provider's confirmation of a later end, or of the subscription that takes the place of another, which it "
        "`replaces`",
        {"expires_at": str | None, "replaces": str | None},
    ),
    _subscription(
        "renewal_failed",
        "a renewal that failed: why, after how many `attempts`, and when it is tried again",
        {"reason": str, "attempts": int, "retry_at": str | None},
        severity="error",
    ),
    _subscription(
        "recreated",
        "the confirmation of a subscription in the place of one that had ended: `gone`, `expired` or `unanswered`",
        {"expires_at": str | None, "replaces": str, "reason": str},
    ),
    _subscription("expired", "the end of its time before it was renewed", {"expires_at": str | None}, severity="warn"),
    _subscription(
        "cancelled",
        "its end here; a disconnect writes one for each of the connection's. Whether the provider was `told`, whether "
        "a job goes on telling it (`pending`), or the id of what it was `replaced_by`",
        {"reason": str, "told": bool, "pending": bool, "replaced_by": str},
        optional=("told", "pending", "replaced_by"),
    ),
    _subscription(
        "gap",
        "a time of which notifications may be missing; `job_id` is that of the backfill, where there is one",
        {"since": str, "until": str, "reason": str, "job_id": str | None},
        severity="warn",
    ),
    _installation("created", "a new installation", refusable=True),
    _installation("updated", "another change of an installation, also to `active` and `needs_reconsent`"),
    _installation("suspended", "the status `suspended`", severity="warn"),
    _installation("uninstalled", "the status `uninstalled`"),
    _installation("reinstalled", "a new installation after one that was uninstalled", refusable=True),
    _endpoint("created", "a new endpoint of outgoing webhooks"),
    _endpoint("updated", "another change of an endpoint"),
    _endpoint("removed", "the end of an endpoint"),
    _endpoint("paused", "the pause of an endpoint, by the application", fields={"reason": str}),
    _endpoint(
        "disabled",
        "the end of sending, also where a receiver answered 410 or failed for days",
        fields={"reason": str},
        severity="error",
    ),
    _endpoint("resumed", "the end of a pause, or of being disabled"),
    _endpoint(
        "secret_rotated",
        "a new secret; for `overlap` seconds the former one signs as well",
        fields={"overlap": int | float},
    ),
    _endpoint(
        "message_dead",
        "the end of a message that was never delivered; `job` is the id of the job that tried it",
        fields={"job": str, "message_id": str, "event": str, "attempts": int, "detail": str},
        severity="error",
    ),
    EventSpec(name="job.queued", announces="a data sync that was queued", fields=_JOB),
    EventSpec(name="job.succeeded", announces="the end of a data sync", fields=_JOB),
    EventSpec(
        name="job.failed",
        announces="a data sync that is not tried again; `error` says why",
        fields={**_JOB, "error": str},
        severity="error",
    ),
    EventSpec(name="job.requeued", announces="a failed data sync that was made due again", fields=_JOB),
    EventSpec(
        name="webhook.*",
        announces="a delivery that was accepted and is handed to handlers; `*` is the provider's name for the event",
        fields={
            "delivery": str,
            "delivery_id": str,
            "event": str,
            "channel": str | None,
            "resource": str | None,
        },
        optional=("channel", "resource"),
    ),
)
EVENTS: Final[Mapping[str, EventSpec]] = {spec.name: spec for spec in _ALL}
"""Name → what is known of the event."""


def spec_of(name: str) -> EventSpec | None:
    """What is known of the event of that name; None for one of an application's own."""
    found = EVENTS.get(name)
    return EVENTS["webhook.*"] if found is None and name.startswith("webhook.") else found


def event(
    clock: Clock,
    name: str,
    payload: Mapping[str, Any],
    *,
    provider_id: str,
    scope: Scope,
    connection_id: str | None = None,
    source: str = "runtime",
    order_key: str | None = None,
) -> Event:
    """A new event of a change that is about to be committed.

    Raises:
        BadInput: there is no such event, or the payload is not that of :data:`EVENTS`.
    """
    now = clock.now()
    return made(
        name,
        payload,
        id=uuid7(clock),
        at=now,
        provider_id=provider_id,
        scope=scope,
        connection_id=connection_id,
        source=source,
        order_key=order_key,
    )


def made(
    name: str,
    payload: Mapping[str, Any],
    *,
    id: str,
    at: datetime,
    provider_id: str,
    scope: Scope,
    connection_id: str | None = None,
    source: str = "runtime",
    order_key: str | None = None,
) -> Event:
    """As :func:`event`, for a store that makes it in a unit of work: what runs again makes the same one."""
    spec = spec_of(name)
    if spec is None:
        raise BadInput(
            f"There is no event {name!r}.", hint="go_services_core.lifecycle.EVENTS lists them.", field="name"
        )
    _check(spec, name, payload)
    return Event(
        id=id,
        name=name,
        provider_id=provider_id,
        scope=scope,
        connection_id=connection_id,
        occurred_at=at,
        source=source,
        payload=dict(payload),
        order_key=order_key,
        version=spec.version,
    )


def with_payload(of: Event, payload: Mapping[str, Any]) -> Event:
    """The event with what is known by now.

    Raises:
        BadInput: the payload is not that of the event.
    """
    spec = spec_of(of.name)
    assert spec is not None
    _check(spec, of.name, payload)
    return evolve(of, payload=dict(payload))


def _check(spec: EventSpec, name: str, payload: Mapping[str, Any]) -> None:
    unknown = sorted(payload.keys() - spec.fields.keys())
    if unknown:
        known = ", ".join(spec.fields) or "none"
        raise BadInput(f"The event {name} has no field {unknown[0]!r}.", hint=f"Fields: {known}.", field="payload")
    lacking = sorted(spec.fields.keys() - payload.keys() - set(spec.optional))
    if lacking:
        raise BadInput(f"The event {name} lacks the field {lacking[0]!r}.", field="payload")
    for key, value in payload.items():
        kind = spec.fields[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BadInput(
                f"The field {key!r} of the event {name} is {written(kind)}, not a {type(value).__name__}.",
                field=f"payload.{key}",
            )


_WORDS: Final = {
    str: "text",
    int: "a number",
    float: "a number",
    NoneType: "null",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def written(kind: type | UnionType) -> str:
    """The type of a field in words."""
    if isinstance(kind, UnionType):
        words = dict.fromkeys(_WORDS[one] for one in kind.__args__)  # of int and float once
        return " or ".join(words)
    return _WORDS[kind]


def matches(pattern: str, name: str) -> bool:
    """Whether an event's name is meant by a pattern of ``*``, ``?`` and ``[…]``; case matters."""
    return fnmatchcase(name, pattern)


# --- what stores make in the unit of the change --------------------------------------------------------------------


def subscription_cancelled(
    cause: Event, place: int, *, id: str, resource_type: str, resource_id: str, channel_id: str, reason: str
) -> Event:
    """The event of the ``place``-th subscription, counted from 1, that ends with its connection."""
    return made(
        "subscription.cancelled",
        {
            "subscription_id": id,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "channel_id": channel_id,
            "status": "cancelled",
            "reason": reason,
        },
        id=uuid_after(cause.id, place),
        at=cause.occurred_at,
        provider_id=cause.provider_id,
        scope=cause.scope,
        connection_id=cause.connection_id,
        source=cause.source,
    )


JobEvent = Literal["job.queued", "job.succeeded", "job.failed", "job.requeued"]


def job_event(name: JobEvent, job: Job, *, fence: int, at: datetime) -> Event | None:
    """The event of a job that is a data sync; None for the runtime's own, which report what they did themselves.

    Its id follows from the job, ``name``, ``fence`` and ``at``.
    """
    if not job.mode:
        return None
    payload: dict[str, Any] = {
        "job_id": job.id,
        "kind": job.kind,
        "mode": job.mode,
        "requested_by": job.requested_by,
        "attempts": job.attempts,
    }
    if name == "job.failed":
        payload["error"] = job.last_error
    return made(
        name,
        payload,
        id=uuid_of(at, f"{job.id} {name} {fence}"),
        at=at,
        provider_id=job.provider_id,
        scope=job.scope or NOBODY,
        connection_id=job.connection_id,
        source="jobs",
    )


def of_connection(clock: Clock, connection: Connection, name: str, payload: Mapping[str, Any]) -> Event:
    """As :func:`event`, about a connection."""
    return event(
        clock,
        name,
        payload,
        provider_id=connection.provider_id,
        scope=connection.scope,
        connection_id=connection.id,
    )
