"""Errors of durable handlers: what one may raise, and how its run ends without it."""

from __future__ import annotations

import math
from typing import Any

from .callers import BadInput
from .root import ServicesError


class HandlerFailed(ServicesError):
    """A durable handler did not handle its event."""

    category = "external"
    code = "SERVICE_HANDLER_FAILED"


class Unrecoverable(HandlerFailed):
    """No further attempt can handle the event; a handler raises it to have it set aside as dead at once.

    The message is kept with it and holds no secret.
    """

    code = "SERVICE_UNRECOVERABLE"


class RetryLater(HandlerFailed):
    """The event cannot be handled yet; a handler raises it to choose when it is called again.

    It counts as an attempt: after the last one of its schedule the event is dead.

    Args:
        after: seconds until then, instead of the schedule's.

    Raises:
        BadInput: ``after`` is no number of seconds.
    """

    code = "SERVICE_RETRY_LATER"
    retryable = True

    def __init__(self, message: str | None = None, *, after: float = 60.0, **details: Any) -> None:
        if not 0 <= after < math.inf:
            raise BadInput(f"A handler is called again after 0 seconds or more, not {after!r}.", field="after")
        super().__init__(message, **details)
        self.after = after


class HandlerTimeout(HandlerFailed):
    """The handler did not end within its time."""

    code = "SERVICE_HANDLER_TIMEOUT"
    retryable = True


class HandlerCrashed(HandlerFailed):
    """Each process that ran the handler for this event ended before the handler did."""

    code = "SERVICE_HANDLER_CRASHED"
