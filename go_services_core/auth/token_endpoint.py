"""Asking a token endpoint as an authenticated client, and the grant that renews (RFC 6749 §2.3.1, §3.2 and §6)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from urllib.parse import quote_plus

from ..errors import ReauthRequired
from ..http import HttpRequest, HttpResponse
from ..model import Credential, TokenSet
from ..protocols import AuthContext, Flow
from ..secret import SecretStr
from ..specs import OAuth2Client
from .client_tls import presenting, with_identity
from .token_response import parse_token_response


def client_record(ctx: AuthContext) -> OAuth2Client:
    """The flow's record."""
    assert isinstance(ctx.auth, OAuth2Client)
    return ctx.auth


def client_request(
    ctx: AuthContext, url: str, fields: Mapping[str, str], *, repeated: Iterable[tuple[str, str]] = ()
) -> HttpRequest:
    """A form request on which the client has authenticated itself, with the provider's names for its parameters.

    ``repeated`` are further parameters, of which one may occur several times.

    Raises:
        BadInput: a field cannot be encoded.
        ConfigError: the record wants a certificate and the settings have none, or only half of it.
    """
    record = client_record(ctx)
    client_id, secret = ctx.settings.client_id, ctx.settings.client_secret
    headers: tuple[tuple[str, str], ...] = ()
    own: dict[str, str] = {}
    if record.client_auth in ("none", "tls") or secret is None:
        own = {"client_id": client_id}
    elif record.client_auth == "post":
        own = {"client_id": client_id, "client_secret": secret.reveal()}
    else:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}".encode()
        headers = (("Authorization", f"Basic {b64encode(pair).decode()}"),)
    pairs = [*{**fields, **own}.items(), *repeated]
    return presenting(ctx, HttpRequest.form(url, renamed(record, pairs), headers=headers))


def renamed(record: OAuth2Client, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Parameters by the names that the provider has for them."""
    return [(record.parameters.get(name, name), value) for name, value in pairs]


def token_request(
    ctx: AuthContext,
    fields: Mapping[str, str],
    *,
    sent: Iterable[SecretStr | None] = (),
    audience: Iterable[str] = (),
    keep: Iterable[str] = (),
    refreshing: bool = False,
) -> Flow[TokenSet]:
    """Ask for tokens; ``sent`` are the secrets in ``fields``, which no error repeats.

    ``keep`` are fields of the answer that shall be in ``extra`` besides those that the record maps there.

    Raises:
        InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
    """
    record = client_record(ctx)
    places = [("resource", where) for where in record.resource] + [("audience", name) for name in audience]
    request = client_request(ctx, record.token_url, {**record.extra_token, **fields}, repeated=places)
    response: HttpResponse = yield request
    tokens = parse_token_response(
        response,
        now=ctx.now,
        default_lifetime=record.default_lifetime,
        refreshing=refreshing,
        sent=(*sent, ctx.settings.client_secret),
        paths={**{name: name for name in keep}, **record.token_response},
        scope_separator=record.scope_separator,
    )
    return with_identity(ctx, tokens)


def refresh_request(ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
    """Exchange the refresh token, and never anything else (RFC 6749 §6); an answer without a new one keeps the old.

    Raises:
        ReauthRequired: there is no refresh token; nothing was sent.
        InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
    """
    held = credential.tokens.refresh_token
    if held is None:
        raise ReauthRequired("The connection has no refresh token.")
    fields = {"grant_type": "refresh_token", "refresh_token": held.reveal()}
    sent = (held, credential.tokens.access_token)
    return (yield from token_request(ctx, fields, sent=sent, refreshing=True))
