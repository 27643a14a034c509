"""Frozen records of outgoing webhooks: where the application's own customers get its events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

from attrs import field, frozen

from .model import JobStatus, Scope, Sealed
from .secret import SecretStr
from .tuples import as_tuple

EndpointStatus = Literal["active", "paused", "disabled"]

ENDPOINT_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "active": frozenset({"paused", "disabled"}),
    "paused": frozenset({"active", "disabled"}),
    "disabled": frozenset({"active"}),
}
"""Status → what it may become. Staying is always allowed."""

SEND_JOB: Final = "endpoints.send"
"""Kind of the job that brings one message to one endpoint."""


ENDPOINT_PROVIDER: Final = "endpoint"
"""Stands for endpoints where a provider is named: in ``[egress] allow``, and in their events and jobs."""


@frozen(kw_only=True)
class Endpoint:
    """A URL that gets events as signed webhooks."""

    id: str
    url: str
    scope: Scope | None = None
    """Whose events it gets; None for those of every scope."""
    events: tuple[str, ...] = field(default=("*",), converter=as_tuple)
    """Names or patterns of events, as a handler's: ``connection.*``."""
    description: str = ""
    ordered: bool = False
    """Whether it gets one message at a time, in the order of the events; a message that fails holds up the others."""
    status: EndpointStatus = "active"
    status_reason: str = ""
    version: int = 1
    """Counts its changes; what its health says is none."""
    failures: int = 0
    """Attempts that failed since the last one that did not."""
    failing_since: datetime | None = None
    """When the first of these failed."""
    open_until: datetime | None = None
    """Until when its circuit keeps attempts away."""
    secrets: Sealed = field(repr=False)
    """The secrets that its messages are signed with."""
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class NewEndpoint:
    """An endpoint and a secret that was made for it, which is not shown again."""

    endpoint: Endpoint
    secret: SecretStr


@frozen(kw_only=True)
class Admission:
    """Whether a message may be sent to an endpoint now."""

    endpoint: Endpoint | None
    """None where it was removed."""
    wait: float = 0.0
    """Seconds for which its circuit keeps the message away; 0 where it may be sent."""


@frozen(kw_only=True)
class EndpointMessage:
    """A message for an endpoint, as its job stands."""

    id: str
    """Of the job."""
    message_id: str
    """What the receiver gets as ``webhook-id``."""
    endpoint_id: str
    event: str
    status: JobStatus
    """``failed`` is dead: it is sent no more, unless it is replayed."""
    attempts: int
    error: str
    created_at: datetime


@frozen(kw_only=True)
class EndpointAnswer:
    """What became of one attempt to send."""

    ok: bool
    status: int | None = None
    """The HTTP status; None where there was no answer."""
    detail: str = ""
    """Why it failed; no secret."""
