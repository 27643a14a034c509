"""Errors of handlers: what one may raise, and how its run ends without it."""

from __future__ import annotations

import math
from typing import Any

from .callers import BadInput
from .root import ServicesError


class HandlerFailed(ServicesError):
    """A handler raised, or did not end; what it raised is the cause."""

    category = "operation"
    status = 502
    code = "SERVICE_OPERATION_FAILED"
    retryable = True


class Unrecoverable(HandlerFailed):
    """No further attempt can handle the event; a handler raises it to have it set aside as dead at once.

    The message is kept with it and holds no secret.
    """

    code = "SERVICE_UNRECOVERABLE"
    retryable = False


class RetryLater(HandlerFailed):
    """The event cannot be handled yet; a handler raises it to choose when it is called again.

    It counts as an attempt: after the last one of its schedule the event is dead.

    Args:
        after: seconds until then, instead of the schedule's.

    Raises:
        BadInput: ``after`` is no number of seconds.
    """

    code = "SERVICE_RETRY_LATER"

    def __init__(self, message: str | None = None, *, after: float = 60.0, **details: Any) -> None:
        if not 0 <= after < math.inf:
            raise BadInput(f"A handler is called again after 0 seconds or more, not {after!r}.", field="after")
        super().__init__(message, **details)
        self.after = after


class HandlerTimeout(HandlerFailed):
    """The handler did not end within its time."""

    status = 503
    code = "SERVICE_HANDLER_TIMEOUT"


class HandlerCrashed(HandlerFailed):
    """Each process that ran the handler for this event ended before the handler did."""

    code = "SERVICE_HANDLER_CRASHED"
    retryable = False


class RequestExhausted(HandlerFailed):
    """The handler failed for this request as often as it may; it is not run again."""

    status = 410
    code = "SERVICE_REQUEST_EXHAUSTED"
    retryable = False
