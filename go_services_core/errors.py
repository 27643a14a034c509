"""Every error of go_services, as one tree.

::

    ServicesError
    ├── BadInput
    │   ├── InvalidScope · UnknownParameter · DuplicateParameter · ReturnToRefused
    │   └── BundleInvalid    (BundleKeyWrong, BundleTruncated, BundleReordered, BundleChanged)
    ├── NotFound
    │   ├── ProviderNotFound · ConnectionNotFound (ConnectionAmbiguous) · OperationNotFound
    │   ├── PluginNotFound
    │   └── SyncJobNotFound · MetadataNotFound · ProfileNotFound
    ├── Conflict
    │   ├── VersionConflict · LeaseLost · InvalidTransition · ReplayDetected
    │   └── RefreshLocked · SyncCursorConflict · IdempotencyMismatch
    ├── CapabilityUnsupported
    ├── PermissionDenied
    ├── AuthError
    │   ├── StateInvalid      (StateUnknown, StateUsed, StateExpired, BindingMismatch, IssuerMismatch,
    │   │                     RedirectMismatch, ProviderChanged)
    │   ├── CallbackRefused · AuthorizationPending
    │   ├── TokenEndpointError (TokenResponseInvalid, InvalidGrant, PushedRequestRefused, RegistrationRefused)
    │   ├── MetadataInvalid · ReauthRequired (ReconsentRequired) · AccountMismatch · RefreshBackingOff
    │   ├── RefreshUnknown · JwtInvalid (JwtKeyUnknown)
    │   └── EmbeddedAuthUnsupported · EmbeddedSessionInvalid · EmbeddedExchangeFailed
    ├── ConfigError
    ├── PluginError           (PluginConflict, PluginBroken, PluginIncompatible)
    ├── SigningError
    ├── TransportError        (ConnectFailed, RequestTimeout, EgressDenied, BodyTooLarge, ResponseInvalid)
    ├── ProviderError         (ProviderUnauthorized, ProviderForbidden, ProviderNotFoundAnswer, RateLimited,
    │                         ProviderUnavailable)
    ├── SecretError           (BackendUnavailable, CannotOpen, KeyNotFound, KeyInvalid, KeyDisabled, KeyDenied)
    ├── StoreError            (StoreUnavailable, SchemaOutOfDate, SchemaTooNew, CommitUnknown, FacetMissing)
    └── WebhookRejected

A class carries its ``category``, its HTTP ``status`` and its stable text ``code``. The class docstring is the
message when none is given. ``hint`` is the remedy; ``plugin`` and ``field`` say whose it is. No error holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .live_secrets import masked


class ServicesError(Exception):
    """Something in go_services failed."""

    category: ClassVar[str] = "internal"
    status: int = 500
    code: ClassVar[str] = "SERVICE_INTERNAL_ERROR"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        plugin: str | None = None,
        field: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if message is None:
            message = (type(self).__doc__ or type(self).__name__).split("\n\n", 1)[0].strip()
        super().__init__(message := masked(message))
        self.message = message
        self.hint = masked(hint)
        self.plugin = plugin
        self.field = field
        self.metadata: dict[str, Any] = masked(dict(metadata or {}))

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def as_dict(self) -> dict[str, Any]:
        """The stable, secret-free form that commands print and faces answer with."""
        fields: dict[str, Any] = {
            "code": self.code,
            "category": self.category,
            "status": self.status,
            "message": self.message,
        }
        for name in ("hint", "plugin", "field"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        if self.metadata:
            fields["metadata"] = self.metadata
        return fields


# --- the caller's mistakes -----------------------------------------------------------------------------------------


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


class CapabilityUnsupported(ServicesError):
    """The provider does not offer this capability."""

    category = "operation"
    code = "SERVICE_CAPABILITY_UNSUPPORTED"


class PermissionDenied(ServicesError):
    """The connection does not hold the grants that this needs."""

    category = "authorization"
    status = 403
    code = "SERVICE_PERMISSION_DENIED"


# --- connecting and refreshing -------------------------------------------------------------------------------------


class AuthError(ServicesError):
    """Authentication at the provider failed."""

    category = "authentication"
    status = 401
    code = "SERVICE_UNAUTHORIZED"


class StateInvalid(AuthError):
    """The OAuth callback does not belong to an open attempt."""

    code = "SERVICE_OAUTH_STATE_INVALID"


class StateUnknown(StateInvalid):
    """The OAuth callback's state was never issued here, or was removed."""

    code = "SERVICE_OAUTH_STATE_UNKNOWN"


class StateUsed(StateInvalid):
    """The OAuth callback's state was used before; a state works once."""

    code = "SERVICE_OAUTH_STATE_USED"


class StateExpired(StateInvalid):
    """The OAuth attempt is over its time; start again."""

    code = "SERVICE_OAUTH_STATE_EXPIRED"


class BindingMismatch(StateInvalid):
    """The OAuth callback came from another browser than the one that started."""

    code = "SERVICE_OAUTH_BINDING_MISMATCH"


class IssuerMismatch(StateInvalid):
    """The OAuth callback is of another issuer than the attempt, or of none although its issuer says so (RFC 9207)."""

    code = "SERVICE_OAUTH_ISSUER_MISMATCH"


class RedirectMismatch(StateInvalid):
    """The OAuth callback arrived at another URL than the attempt's redirect URI; nothing was consumed."""

    code = "SERVICE_OAUTH_REDIRECT_MISMATCH"


class ProviderChanged(StateInvalid):
    """The provider was configured as another server or client after the OAuth attempt began; start again."""

    code = "SERVICE_OAUTH_PROVIDER_CHANGED"


class CallbackRefused(AuthError):
    """The provider, or the person at the consent page, refused."""

    code = "SERVICE_OAUTH_CALLBACK_REFUSED"


class JwtInvalid(AuthError):
    """A signed token is not acceptable.

    ``field`` names what is wrong with it: a header (``alg``, ``kid``), a claim (``iss``, ``nonce``), or ``signature``.
    The message holds nothing of the token.
    """

    code = "SERVICE_TOKEN_INVALID"


class JwtKeyUnknown(JwtInvalid):
    """The key set has no key that the token names.

    The issuer may have begun to sign with a new key: fetch its key set again, once, and try again.
    """


class AuthorizationPending(AuthError):
    """The person has not consented on the other device yet: ask again later (RFC 8628 §3.5)."""

    code = "SERVICE_AUTHORIZATION_PENDING"
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after: float = 5.0, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after
        """Seconds to wait before the next question, and between all further ones."""


class TokenEndpointError(AuthError):
    """The token endpoint, or another endpoint at which the client authenticates itself, answered with an error."""

    def __init__(self, message: str | None = None, *, error: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.error = masked(error)


class TokenResponseInvalid(TokenEndpointError):
    """The token endpoint's answer cannot be read as a token."""


class InvalidGrant(TokenEndpointError):
    """The provider says that this grant is no longer valid (RFC 6749 §5.2)."""

    code = "SERVICE_INVALID_GRANT"


class PushedRequestRefused(TokenEndpointError):
    """The provider did not take the pushed authorization request (RFC 9126); no other way is tried."""


class RegistrationRefused(TokenEndpointError):
    """The provider did not register the client (RFC 7591)."""


class MetadataInvalid(AuthError):
    """The server's metadata cannot be believed."""

    category = "external"
    status = 502
    code = "SERVICE_EXTERNAL_FAILURE"


class ReauthRequired(AuthError):
    """The connection must be consented to again before it can be used."""

    code = "SERVICE_REAUTH_REQUIRED"


class ReconsentRequired(ReauthRequired):
    """The person must consent again before the connection can be used; `Runtime.reconsent` begins that."""

    code = "SERVICE_RECONSENT_REQUIRED"


class RefreshBackingOff(AuthError):
    """The last renewal failed, and it is not time for the next; `metadata` has `retry_in`, in seconds."""

    category = "external"
    status = 503
    code = "SERVICE_REFRESH_BACKING_OFF"
    retryable = True


class RefreshUnknown(AuthError):
    """Nobody knows whether the refresh token was spent: the provider's answer was lost."""

    code = "SERVICE_REFRESH_UNKNOWN"


class AccountMismatch(AuthError):
    """The person consented with another account than the connection's."""

    code = "SERVICE_ACCOUNT_MISMATCH"


class EmbeddedAuthUnsupported(AuthError):
    """The provider has no embedded-app authentication."""

    category = "operation"
    status = 500
    code = "SERVICE_EMBEDDED_AUTH_UNSUPPORTED"


class EmbeddedSessionInvalid(AuthError):
    """The embedded app's session token is not valid."""

    code = "SERVICE_EMBEDDED_SESSION_INVALID"


class EmbeddedExchangeFailed(AuthError):
    """The provider refused to exchange the session token."""

    code = "SERVICE_EMBEDDED_EXCHANGE_FAILED"


# --- configuration and plugins -------------------------------------------------------------------------------------


class ConfigError(ServicesError):
    """The configuration is not valid."""

    category = "validation"
    status = 400
    code = "SERVICE_BAD_INPUT"

    def __init__(self, message: str | None = None, *, problems: Iterable[str] = (), **details: Any) -> None:
        self.problems = tuple(masked(problem) for problem in problems)
        if message is None and self.problems:
            count = len(self.problems)
            message = f"The configuration has {count} problem{'s' if count > 1 else ''}:\n" + "\n".join(
                f"  - {problem}" for problem in self.problems
            )
        super().__init__(message, **details)


class PluginError(ServicesError):
    """A plugin cannot be used."""


class PluginConflict(PluginError):
    """Two plugins offer the same id."""


class PluginBroken(PluginError):
    """A plugin failed while it was loaded."""


class PluginIncompatible(PluginError):
    """A plugin was written for another major version of the contract."""


# --- requests ------------------------------------------------------------------------------------------------------


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

    def __init__(self, message: str | None = None, *, sent: bool = True, **details: Any) -> None:
        super().__init__(message, **details)
        self.sent = sent
        """False only when it is certain that no server has read one byte of the request."""


class ConnectFailed(TransportError):
    """No connection to the host could be made."""

    def __init__(self, message: str | None = None, *, sent: bool = False, **details: Any) -> None:
        super().__init__(message, sent=sent, **details)


class RequestTimeout(TransportError):
    """The answer did not come in time."""

    status = 504


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
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.upstream_status = upstream_status
        self.upstream_code = masked(upstream_code)
        self.request_id = masked(request_id)
        self.excerpt = masked(excerpt)
        self.attempts = attempts
        if upstream_status is not None and upstream_status >= 400:
            self.status = upstream_status


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

    def __init__(self, message: str | None = None, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after
        """Seconds to wait, or None when the provider did not say."""


class ProviderUnavailable(ProviderError):
    """The provider is failing (5xx)."""

    retryable = True


# --- secrets, storage, webhooks ------------------------------------------------------------------------------------


class SecretError(ServicesError):
    """A secret cannot be handled."""


class BackendUnavailable(SecretError):
    """The secret backend does not answer."""

    category = "external"
    status = 503
    code = "SERVICE_EXTERNAL_FAILURE"
    retryable = True


class CannotOpen(SecretError):
    """The ciphertext does not open: wrong key, moved to another record, or changed."""


class KeyNotFound(SecretError):
    """The key that the ciphertext names is not here."""

    status = 503
    retryable = True
    """A key that was just made primary elsewhere may be on its way to this process."""


class KeyInvalid(SecretError):
    """The key material cannot be used."""


class KeyDisabled(SecretError):
    """The key is disabled, about to be deleted, retired, or outside its window."""


class KeyDenied(SecretError):
    """The secret backend does not allow this process to use the key."""

    category = "authorization"
    status = 403
    code = "SERVICE_FORBIDDEN"


class StoreError(ServicesError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The database cannot be opened or does not answer."""

    status = 503
    retryable = True


class SchemaOutOfDate(StoreError):
    """The database needs migrations: run `go-services store migrate`."""


class SchemaTooNew(StoreError):
    """The database was migrated by a newer release; this one refuses to touch it."""


class CommitUnknown(StoreError):
    """The connection was lost while committing; whether the change is there is not known."""


class FacetMissing(StoreError):
    """The configured store does not have the facet that this feature needs."""


class WebhookRejected(ServicesError):
    """The delivery's signature, time or shape is not acceptable."""

    category = "authentication"
    status = 401
    code = "SERVICE_UNAUTHORIZED"


def failure_code(error: BaseException | None) -> str | None:
    """What an observation calls a failure: the error's code, or the name of a foreign exception."""
    if error is None:
        return None
    return error.code if isinstance(error, ServicesError) else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to ``name``, or None when none is near."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
