"""What can go wrong with a request and its answer."""

from __future__ import annotations

from typing import Any

from ..live_secrets import masked
from .root import ServicesError


class SigningError(ServicesError):
    """The request cannot be signed."""

    category = "operation"
    code = "SERVICE_OPERATION_FAILED"


class TransportError(ServicesError):
    """The request did not bring an answer."""

    category = "external"
    status = 502
    code = "SERVICE_EXTERNAL_FAILURE"
    retryable = True

    def __init__(self, message: str | None = None, *, sent: bool = True, attempts: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.sent = sent
        """False only when it is certain that no server has read one byte of the request."""
        self.attempts = attempts
        """Requests that the call had made when it ended."""


class ConnectFailed(TransportError):
    """No connection to the host could be made."""

    def __init__(self, message: str | None = None, *, sent: bool = False, **details: Any) -> None:
        super().__init__(message, sent=sent, **details)


class RequestTimeout(TransportError):
    """The answer did not come in time."""

    status = 504


class OutcomeUnknown(TransportError):
    """The request may have been carried out, and repeating it could do it twice.

    Its cause is the error that left it open. ``metadata`` has ``provider`` and ``operation``, and ``idempotency_key``
    where the call had one: with that key it may be made again.
    """

    status = 504
    code = "SERVICE_OUTCOME_UNKNOWN"
    retryable = False


class CircuitOpen(TransportError):
    """The host failed too often lately; it is not asked for a while."""

    status = 503
    code = "SERVICE_CIRCUIT_OPEN"

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, sent: bool = False, **details: Any
    ) -> None:
        super().__init__(message, sent=sent, **details)
        self.retry_after = retry_after
        """Seconds until the host is tried again."""


class EgressDenied(TransportError):
    """The egress guard refuses this address."""

    category = "authorization"
    status = 403
    code = "SERVICE_FORBIDDEN"
    retryable = False

    def __init__(self, message: str | None = None, *, sent: bool = False, **details: Any) -> None:
        super().__init__(message, sent=sent, **details)


class BodyTooLarge(TransportError):
    """The answer is larger than the limit."""

    retryable = False


class ResponseInvalid(TransportError):
    """The answer is not what its content type says."""

    retryable = False


class ProviderError(ServicesError):
    """The provider answered with an error."""

    category = "external"
    status = 502
    code = "SERVICE_PROVIDER_OPERATION_FAILED"

    def __init__(
        self,
        message: str | None = None,
        *,
        upstream_status: int | None = None,
        upstream_code: str | None = None,
        request_id: str | None = None,
        excerpt: str | None = None,
        attempts: int = 1,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.upstream_status = upstream_status
        self.upstream_code = masked(upstream_code)
        self.request_id = masked(request_id)
        self.excerpt = masked(excerpt)
        self.attempts = attempts
        """Requests that the call had made when it ended."""
        self.retry_after = retry_after
        """Seconds to wait, or None when the provider did not say."""
        if upstream_status is not None and upstream_status >= 400:
            self.status = upstream_status


class NotificationFailed(ServicesError):
    """Some recipients of a notification could not be told; those are tried again, and the others are not."""

    category = "external"
    status = 502
    code = "SERVICE_NOTIFICATION_FAILED"
    retryable = True


class ProviderUnauthorized(ProviderError):
    """The provider does not accept the credential."""

    category = "authentication"


class ProviderForbidden(ProviderError):
    """The provider forbids this to the credential."""

    category = "authorization"


class ProviderNotFoundAnswer(ProviderError):
    """The provider has no such resource."""

    category = "not_found"


class RateLimited(ProviderError):
    """The provider asks to wait."""

    category = "rate_limit"
    status = 429
    code = "SERVICE_RATE_LIMITED"
    retryable = True


class BudgetExhausted(RateLimited):
    """The rate budget has no unit left for this call in the time that it has; nothing was sent."""

    code = "SERVICE_RATE_BUDGET_EXHAUSTED"


class ProviderUnavailable(ProviderError):
    """The provider is failing (5xx)."""

    retryable = True


class RedirectRefused(ProviderError):
    """The provider redirects to where the call is not repeated."""

    code = "SERVICE_REDIRECT_REFUSED"


class JobFailed(ProviderError):
    """The provider's job ended without a result. ``metadata`` has its ``job_id``, ``upstream_code`` its state."""

    code = "SERVICE_JOB_FAILED"
