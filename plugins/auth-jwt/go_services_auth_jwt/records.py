"""The auth records that this plugin's flows serve."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from go_services_core.auth_specs import Rotation, is_seconds

Algorithm = Literal["RS256", "PS256", "PS512", "ES256", "ES384", "EdDSA", "Ed25519", "HS256"]


@frozen(kw_only=True)
class JwtBearer:
    """A signed assertion is exchanged for a token (RFC 7523 §2.1), without a consent page.

    The issuer of the assertion is the provider's setting ``client_id``.
    """

    kind: ClassVar[str] = "jwt_bearer"
    token_url: str
    audience: str | None = None
    """``aud`` of the assertion; None is the token URL."""
    default_grants: tuple[str, ...] = ()
    """Scopes of the token request, when the caller asks for none."""
    scope_separator: str = " "
    algorithm: Algorithm | None = None
    """How to sign; None goes by the key: RS256, ES256, ES384 or EdDSA."""
    lifetime: float = 300.0
    """Seconds that an assertion lives."""
    backdate: float = 10.0
    """Seconds that the assertion's ``iat`` lies in the past, for a provider whose clock is behind."""
    default_lifetime: float | None = field(default=None, validator=is_seconds)
    """Seconds an access token lives when the answer has no ``expires_in``; None means that it does not expire."""
    refreshable: bool = True
    signer: str = "bearer"


@frozen(kw_only=True)
class ServiceAccountJwt:
    """A service account's key signs an assertion, which is exchanged for a token, or is the token.

    The exchange is Google's form of RFC 7523: the scopes stand in the assertion, ``sub`` only for a person whom the
    account acts for (https://developers.google.com/identity/protocols/oauth2/service-account).
    """

    kind: ClassVar[str] = "service_account_jwt"
    token_url: str | None = None
    """Where the assertion is exchanged; None: the signed JWT is itself the bearer token."""
    token_url_aliases: tuple[str, ...] = ()
    """Other token URLs that a key file may name; requests go to ``token_url`` all the same."""
    audience: str | None = None
    """``aud`` of the JWT; None is the token URL. Required without one."""
    default_grants: tuple[str, ...] = ()
    """Scopes, when the caller asks for none."""
    algorithm: Algorithm = "RS256"
    lifetime: float = 3590.0
    """Seconds from signing to ``exp``; with ``backdate`` at most 3600."""
    backdate: float = 10.0
    """Seconds that the JWT's ``iat`` lies in the past, for a provider whose clock is behind."""
    default_lifetime: float | None = field(default=3600.0, validator=is_seconds)
    """Seconds an exchanged token lives when the answer has no ``expires_in``."""
    refreshable: bool = True
    signer: str = "bearer"


@frozen(kw_only=True)
class SessionTokenExchange:
    """The session token of an app that is embedded in its provider's pages becomes an access token.

    A token exchange (RFC 8693) with the names that Shopify has for it:
    https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/token-exchange.
    """

    kind: ClassVar[str] = "session_token_exchange"
    shop_url: str = "https://*.myshopify.com"
    """Where shops are: one that is named in a session token has to be on this host, ``name`` or ``*.domain``."""
    issuer_path: str = "/admin"
    """Path of ``iss``, which is on the shop's host as ``dest`` is."""
    token_path: str = "/admin/oauth/access_token"
    """Below the shop's host."""
    subject_token_type: str = "urn:ietf:params:oauth:token-type:id_token"
    offline_token_type: str = "urn:shopify:params:oauth:token-type:offline-access-token"
    """A token of the app at the shop, whoever is signed in."""
    online_token_type: str = "urn:shopify:params:oauth:token-type:online-access-token"
    """A token of the person who is signed in."""
    expiring: bool = True
    """Whether an offline token ends and comes with a refresh token, as public apps need it."""
    leeway: float = 10.0
    """Seconds that the clocks may be apart."""
    default_lifetime: float | None = field(default=None, validator=is_seconds)
    """Seconds an access token lives when the answer has no ``expires_in``; None means that it does not expire."""
    refreshable: bool = True
    rotation: Rotation = "single-use"
    """Of the refresh token, as in ``OAuth2Code``."""
    rotation_grace: float | None = field(default=None, validator=is_seconds)
    """As in ``OAuth2Code``."""
    header: str = "X-Shopify-Access-Token"
    """Where calls carry the token."""
    signer: str = "shop_token"
