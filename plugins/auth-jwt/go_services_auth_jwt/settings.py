"""What ``[providers.<id>]`` may hold for the kinds ``jwt_bearer`` and ``session_token_exchange``."""

from __future__ import annotations

from go_services_core.config import setting, settings
from go_services_core.secret import SecretStr


@settings
class JwtBearerSettings:
    """The client that signs assertions (RFC 7523 §3)."""

    client_id: str = setting(help="Client id of the application at the provider: the issuer of its assertions")
    private_key: SecretStr | None = setting(
        default=None,
        secret=True,
        help="The application's private key, PEM or JWK; without it each connection brings its own",
        example="file:client-key.pem",
    )
    key_id: str | None = setting(default=None, help="Id of that key at the provider (kid)")


@settings
class SessionTokenSettings:
    """The app that is embedded in the provider's pages."""

    client_id: str = setting(help="Client id of the app at the provider: the audience of its session tokens")
    client_secret: SecretStr = setting(
        secret=True,
        help="Client secret, with which the provider signs session tokens",
        example="env:SHOPIFY_CLIENT_SECRET",
    )
