"""Clients that prove who they are with a signed assertion (RFC 7523 §2.2, OpenID Connect Core §9)."""

from __future__ import annotations

from typing import Final

from ..auth_specs import OAuth2Client
from ..errors import ConfigError, KeyInvalid
from ..protocols import AuthContext
from ..secret import SecretStr
from .jose import required_jose

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""``client_assertion_type`` (RFC 7523 §2.2)."""
SIGNING_METHODS: Final = ("private_key_jwt", "client_secret_jwt")
_SETTINGS: Final = {"private_key_jwt": "client_key", "client_secret_jwt": "client_secret"}
_EXAMPLES: Final = {"client_key": "file:client-key.pem", "client_secret": "env:CLIENT_SECRET"}


def client_assertion_fields(assertion: SecretStr) -> dict[str, str | SecretStr]:
    """What a request carries of the assertion (RFC 7523 §2.2)."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def client_assertion(ctx: AuthContext) -> SecretStr:
    """A new assertion, for one request: a server takes each of them once.

    Its audience is what the record says, else the issuer, the one value that no other server can be meant by
    (draft-ietf-oauth-rfc7523bis), else the token endpoint.

    Raises:
        ConfigError: no plugin signs, the settings have no key or secret to sign with, or it cannot be used.
    """
    record, settings = ctx.auth, ctx.settings
    assert isinstance(record, OAuth2Client)
    jose = required_jose(ctx, f'client_auth = "{record.client_auth}"')
    name = _SETTINGS[record.client_auth]
    field = f"providers.{ctx.provider_id}.{name}"
    key: SecretStr | None = getattr(settings, name)
    if key is None:
        raise ConfigError(
            f'{field} must be set: the client authenticates with client_auth = "{record.client_auth}".',
            hint=f'For example {name} = "{_EXAMPLES[name]}".',
            field=field,
        )
    shared = record.client_auth == "client_secret_jwt"
    try:
        made = jose.client_assertion(
            key,
            client_id=settings.client_id,
            audience=record.assertion_audience or getattr(record, "issuer", None) or record.token_url,
            now=ctx.now,
            random=ctx.random,
            key_id=None if shared else settings.client_key_id,
            algorithm="HS256" if shared else record.assertion_algorithm,
        )
    except KeyInvalid as why:
        raise ConfigError(f"{field} cannot sign the client's assertion: {why.message}", field=field) from None
    return SecretStr(made)
