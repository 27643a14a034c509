"""Settings of the auth strategies that the core brings."""

from __future__ import annotations

from ..config.schema import setting, settings
from ..secret import SecretStr


@settings
class OAuth2Settings:
    """The client that is registered at the provider (RFC 6749 §2.2, §2.3.1)."""

    client_id: str = setting(help="Client id of the OAuth application registered at the provider")
    client_secret: SecretStr | None = setting(
        default=None, help="Client secret; a public client has none", secret=True, example="env:GITHUB_CLIENT_SECRET"
    )
    client_key: SecretStr | None = setting(
        default=None,
        help="Private key that signs the client's assertions (private_key_jwt): PEM or JWK",
        secret=True,
        example="file:client-key.pem",
        rare=True,
    )
    client_key_id: str | None = setting(default=None, help="The key's id at the provider (kid)", rare=True)
    client_certificate: SecretStr | None = setting(
        default=None,
        help="PEM of the certificate that the client presents to the provider (RFC 8705), with its chain",
        secret=True,
        example="file:client.pem",
        rare=True,
    )
    client_private_key: SecretStr | None = setting(
        default=None, help="PEM of the certificate's private key", secret=True, example="file:client.key", rare=True
    )
    client_key_passphrase: SecretStr | None = setting(
        default=None,
        help="Passphrase of the private key, where it is encrypted",
        secret=True,
        example="env:CLIENT_KEY_PASSPHRASE",
        rare=True,
    )
