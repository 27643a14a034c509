"""Records of how a provider is subscribed to: which operations, what goes into them, and what their answers hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen
from attrs.validators import optional

from .secret import SecretStr
from .tuples import as_tuple

SENT: Final = (
    "callback_url",
    "channel",
    "token",
    "expires",
    "events",
    "resource",
    "resource_type",
    "remote_id",
    "remote_resource",
)
"""What may go into a parameter of an operation; see :class:`SubscriptionSpec`."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PLAIN: Final = re.compile(r"[^\x00-\x20\x7f-\U0010ffff#\\]+")
"""Printable ASCII without blank, fragment and backslash."""


def _known(record: object, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
    unknown = sorted(set(value) - set(SENT))
    if unknown:
        raise ValueError(f"{attribute.name} cannot place {unknown[0]!r}; there are {', '.join(SENT)}")


def _seconds(record: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0 seconds, not {value:g}")


def check_callback_url(url: str) -> None:
    """Refuse what a provider cannot call, or would call over a network in clear.

    Raises:
        ValueError: with what is wrong; it does not repeat the URL, which may hold a secret.
    """
    try:
        parts = urlsplit(url if _PLAIN.fullmatch(url) else "")
        usable = parts.port != 0 and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise ValueError("must be an absolute URL without fragment, user or blanks")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("must be https, or http on this machine")


@frozen(kw_only=True)
class SubscriptionSpec:
    """How one type of resource is subscribed to, by operations of the provider's own record.

    ``send`` says in which parameter what is sent. Of these an operation gets those that it declares, so that one
    mapping serves all three: ``callback_url``, ``channel`` (its id, where we choose it), ``token`` (random, which the
    provider sends back), ``expires`` (when it shall end, in the form of ``time``), ``events``, ``resource`` and
    ``resource_type`` as ``subscribe`` got them, ``remote_id`` and ``remote_resource`` as the answer to ``create`` had
    them. Paths into answers are dotted, as in :class:`~go_services_core.specs.Pagination`.
    """

    resource_type: str
    create: str
    """Id of the operation that subscribes."""
    renew: str | None = None
    """Id of the operation that moves the end. None where there is none: a new subscription is then made first, and the
    old one is ended ``overlap`` seconds after it."""
    cancel: str | None = None
    """Id of the operation that ends it; None where it can only be left to end."""
    send: Mapping[str, str] = field(factory=dict, validator=_known)
    channel: Literal["own", "remote"] = "own"
    """Whose id notifications name: one that we choose, or ``remote_id``."""
    remote_id: str | None = None
    """Path of the provider's id of the subscription."""
    remote_resource: str | None = None
    """Path of the provider's own name for the resource."""
    expires: str | None = None
    """Path of when it ends."""
    time: Literal["iso", "seconds", "milliseconds"] = "iso"
    """How times are written, both ways: ISO 8601, or since 1970."""
    lifetime: float | None = field(default=None, validator=optional(_seconds))
    """Seconds that are asked for, and assumed where the answer does not say; None is without an end."""
    renew_early: float | None = field(default=None, validator=optional(_seconds))
    """Seconds before its end at which it is renewed; None is a fifth of its life, at least ten minutes, and at most
    half of it."""
    overlap: float = field(default=60.0, validator=_seconds)
    """Seconds that a replaced subscription goes on, so that what is under way on it still arrives."""
    gone: tuple[int, ...] = field(default=(404, 410), converter=as_tuple)
    """Statuses that say of ``renew`` and ``cancel`` that there is no such subscription any more."""
    missed: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Names of webhooks by which the provider says that it could not tell everything: a gap is reported."""
    removed: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Names of webhooks by which it says that it ended the subscription: another one is made in its place."""
    backfill: bool = False
    """Whether a job ``sync.backfill`` is kept for each gap, besides the event."""
    docs_url: str | None = None


@frozen(kw_only=True)
class SubscriptionRequest:
    """What is asked of the provider, for an adapter that shapes it itself."""

    action: Literal["create", "renew", "cancel"]
    resource_type: str
    resource_id: str
    channel_id: str
    callback_url: str
    token: SecretStr | None
    """What the provider shall send back; of ``create`` alone."""
    events: tuple[str, ...]
    expires_at: datetime | None
    """When it shall end."""
    remote_id: str | None
    remote_resource_id: str | None
    metadata: Mapping[str, Any] = field(factory=dict)
    """The application's own."""


@frozen(kw_only=True)
class SubscriptionAnswer:
    """What the provider said of a subscription; None leaves what is known."""

    remote_id: str | None = None
    remote_resource_id: str | None = None
    channel_id: str | None = None
    expires_at: datetime | None = None
