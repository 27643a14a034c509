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
