"""What a caller did wrong, asked for in vain, or may not do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .root import ServicesError, nearest


class BadInput(ServicesError):
    """The call was made with an input that cannot be used."""

    category = "bad_input"
    status = 400
    code = "SERVICE_BAD_INPUT"


class InvalidScope(BadInput):
    """A scope needs the type `user` or `org` and an id that is not blank."""


class UnknownParameter(BadInput):
    """The operation does not take a parameter of that name."""


class DuplicateParameter(BadInput):
    """A parameter of the OAuth callback occurs twice (RFC 6749 §3.1); nothing was consumed."""

    code = "SERVICE_OAUTH_DUPLICATE_PARAMETER"


class ReturnToRefused(BadInput):
    """The place to return to after the callback is not one that the configuration allows."""

    code = "SERVICE_RETURN_TO_REFUSED"


class BundleInvalid(BadInput):
    """This is no export bundle that this release can read."""

    code = "SERVICE_BUNDLE_INVALID"


class BundleKeyWrong(BundleInvalid):
    """The export bundle was made with another key or passphrase, or its first line was changed."""


class BundleTruncated(BundleInvalid):
    """The end of the export bundle is missing, or records before it."""


class BundleReordered(BundleInvalid):
    """The records of the export bundle are not in their order."""


class BundleChanged(BundleInvalid):
    """A record of the export bundle was changed, or is another bundle's."""


class NotFound(ServicesError):
    """What was asked for does not exist."""

    category = "not_found"
    status = 404
    code = "SERVICE_NOT_FOUND"

    @classmethod
    def named(cls, kind: str, name: str, known: Iterable[str], *, hint: str | None = None) -> NotFound:
        """The error for an unknown name, with the nearest known one in it."""
        known = sorted(known)
        near = nearest(name, known)
        if near is not None:
            remedy = f"Did you mean {near!r}?"
        elif hint is not None:
            remedy = hint
        else:
            remedy = f"Known: {', '.join(known)}." if known else f"There is no {kind} at all."
        return cls(f"There is no {kind} {name!r}.", hint=remedy, metadata={"name": name})


class ProviderNotFound(NotFound):
    """There is no provider of that id."""

    code = "SERVICE_PROVIDER_NOT_FOUND"


class ConnectionNotFound(NotFound):
    """There is no connection of that id."""


class ConnectionAmbiguous(ConnectionNotFound):
    """Several active connections could serve the scope; `metadata["candidates"]` has their ids."""

    code = "SERVICE_CONNECTION_AMBIGUOUS"


class OperationNotFound(NotFound):
    """The provider has no operation of that id."""


class PluginNotFound(NotFound):
    """No installed plugin has that id."""


class SyncJobNotFound(NotFound):
    """There is no sync job of that id."""

    code = "SERVICE_SYNC_JOB_NOT_FOUND"


class MetadataNotFound(NotFound):
    """The server publishes no metadata (RFC 8414, OpenID Connect Discovery)."""


class ProfileNotFound(NotFound):
    """The provider's answer does not say whose account this is."""

    code = "SERVICE_PROFILE_NOT_FOUND"


class Conflict(ServicesError):
    """The state has changed, or does not allow this."""

    category = "conflict"
    status = 409
    code = "SERVICE_CONFLICT"


class VersionConflict(Conflict):
    """Another writer was first: the active credential has another version now."""


class LeaseLost(Conflict):
    """The lease ended and has another holder now; nothing was changed."""


class InvalidTransition(Conflict):
    """The state machine does not allow this step."""


class ReplayDetected(Conflict):
    """This was used before and may be used only once."""

    code = "SERVICE_REPLAY_DETECTED"


class RefreshLocked(Conflict):
    """Another process is refreshing this connection and did not finish in time."""

    code = "SERVICE_REFRESH_LOCKED"
    retryable = True


class SyncCursorConflict(Conflict):
    """Another writer has advanced the cursor."""

    code = "SERVICE_SYNC_CURSOR_CONFLICT"


class IdempotencyMismatch(Conflict):
    """This idempotency key was used before for something else."""


class OperationRunning(Conflict):
    """A call with this idempotency key is under way; ``metadata`` has ``retry_in`` in seconds."""

    code = "SERVICE_OPERATION_RUNNING"
    retryable = True


class RequestRunning(Conflict):
    """A request with this key is being answered; ``retry_after`` has the seconds after which to ask again."""

    code = "SERVICE_REQUEST_RUNNING"
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.retry_after = retry_after


class ResultNotKept(Conflict):
    """The call with this idempotency key was carried out, but its result is too large to be kept."""

    code = "SERVICE_RESULT_NOT_KEPT"


class HookRefused(Conflict):
    """A hook before the commit refused the change; nothing was committed."""

    code = "SERVICE_HOOK_REFUSED"


class EventsMissed(Conflict):
    """Events came faster than this listener took them: what they tell has to be read from the store."""

    code = "SERVICE_EVENTS_MISSED"


class CapabilityUnsupported(ServicesError):
    """The provider does not offer this capability."""

    category = "operation"
    code = "SERVICE_CAPABILITY_UNSUPPORTED"


class PermissionDenied(ServicesError):
    """The connection does not hold the grants that this needs."""

    category = "authorization"
    status = 403
    code = "SERVICE_PERMISSION_DENIED"


class RequestRefused(BadInput):
    """An HTTP request is not one that a web face answers: its method, size, coding, speed, origin or person.

    ``status`` is that of the case: 401, 403, 404, 405, 408, 413 or 415.
    """

    code = "SERVICE_REQUEST_REFUSED"

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int = 400,
        headers: tuple[tuple[str, str], ...] = (),
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.status = status
        self.headers = headers
