"""OAuth clients with a certificate: mutual TLS at the provider's endpoints, and tokens bound to it (RFC 8705)."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from ..auth_specs import OAuth2Client
from ..errors import ConfigError
from ..http import ClientCertificate, HttpRequest
from ..model import TokenSet
from ..protocols import AuthContext
from ..secret import SecretStr

_CERTIFICATE, _KEY, _PASSPHRASE = "client_certificate", "client_private_key", "client_key_passphrase"
"""The settings, and the extras of a token that is bound to them."""

_ENDPOINTS: Final = {
    "token_url": "token_endpoint",
    "revocation_url": "revocation_endpoint",
    "introspection_url": "introspection_endpoint",
    "par_url": "pushed_authorization_request_endpoint",
    "device_authorization_url": "device_authorization_endpoint",
}
"""Fields of records, and what authorization servers call them (RFC 8414 §2)."""


def presenting(ctx: AuthContext, request: HttpRequest) -> HttpRequest:
    """``request``, to an endpoint of the record, as the client with its certificate sends it.

    It goes to the endpoint's alias for such clients where the record has one (RFC 8705 §5). Without a certificate in
    the settings the request stays as it is.

    Raises:
        ConfigError: the record wants a certificate and the settings have none, or only half of it.
    """
    auth = ctx.auth
    assert isinstance(auth, OAuth2Client)
    identity = _identity(ctx)
    if identity is None:
        if auth.client_auth == "tls" or auth.certificate_bound_tokens:
            raise _unset(ctx, _CERTIFICATE)
        return request
    endpoints = {getattr(auth, name): metadata for name, metadata in _ENDPOINTS.items() if hasattr(auth, name)}
    alias = auth.mtls_endpoints.get(endpoints.get(request.url, ""), request.url)
    return evolve(request, url=alias, client_certificate=identity)


def with_identity(ctx: AuthContext, tokens: TokenSet) -> TokenSet:
    """``tokens`` with the certificate that they are bound to, where the record says that they are (RFC 8705 §3).

    The certificate stays with its token, so that calls go on while the settings have a new one already.
    """
    auth = ctx.auth
    assert isinstance(auth, OAuth2Client)
    if not auth.certificate_bound_tokens:
        return tokens
    held = {name: getattr(ctx.settings, name) for name in (_CERTIFICATE, _KEY, _PASSPHRASE)}
    return evolve(tokens, extra={**tokens.extra, **{name: value for name, value in held.items() if value}})


def identity_of(tokens: TokenSet) -> ClientCertificate | None:
    """The certificate that calls with these tokens present, or None for tokens from before they were bound."""
    extra = tokens.extra
    if _CERTIFICATE not in extra or _KEY not in extra:
        return None
    return _made(extra[_CERTIFICATE], extra[_KEY], extra.get(_PASSPHRASE))


def _identity(ctx: AuthContext) -> ClientCertificate | None:
    certificate, key = getattr(ctx.settings, _CERTIFICATE, None), getattr(ctx.settings, _KEY, None)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise _unset(ctx, _KEY if key is None else _CERTIFICATE)
    return _made(certificate, key, getattr(ctx.settings, _PASSPHRASE, None))


def _made(certificate: SecretStr, key: SecretStr, passphrase: SecretStr | None) -> ClientCertificate:
    return ClientCertificate(certificate=certificate.reveal(), private_key=key, passphrase=passphrase)


def _unset(ctx: AuthContext, name: str) -> ConfigError:
    field = f"providers.{ctx.provider_id}.{name}"
    return ConfigError(
        f"{field} must be set: the client of {ctx.provider_id} is known by its certificate.",
        hint=f'For example {name} = "file:client.pem".',
        field=field,
    )
