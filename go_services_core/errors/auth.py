"""What can go wrong while a connection is made, renewed or used."""

from __future__ import annotations

from typing import Any

from ..live_secrets import masked
from .root import ServicesError


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
