"""Asking a token endpoint as an authenticated client, and the grant that renews (RFC 6749 §2.3.1, §3.2 and §6)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from urllib.parse import quote_plus

from attrs import frozen

from ..auth_specs import OAuth2Client
from ..errors import ReauthRequired
from ..http import HttpRequest, HttpResponse
from ..model import Credential, TokenSet
from ..protocols import AuthContext, Flow
from ..secret import SecretStr
from .client_assertion import SIGNING_METHODS, client_assertion, client_assertion_fields
from .client_tls import presenting, with_identity
from .dpop import proof_key, proven, with_proof_key
from .dpop_nonces import wanted_nonce
from .token_response import parse_token_response


def client_record(ctx: AuthContext) -> OAuth2Client:
    """The flow's record."""
    assert isinstance(ctx.auth, OAuth2Client)
    return ctx.auth


@frozen
class Answer:
    """What an endpoint said, and the client's own secrets in the request, which no error repeats."""

    response: HttpResponse
    sent: tuple[SecretStr | None, ...]


def ask(
    ctx: AuthContext,
    url: str,
    fields: Mapping[str, str | SecretStr],
    *,
    repeated: Iterable[tuple[str, str]] = (),
    key: SecretStr | None = None,
) -> Flow[Answer]:
    """Send a form to an endpoint of the record, as ``client_request`` makes it.

    With a ``key`` it carries a proof of it, and is sent once more where the server asks for a nonce in that: with a new
    proof and a new assertion, since each works once (RFC 9449 §8).

    Raises:
        BadInput, ConfigError: as ``client_request``; nothing was sent.
    """
    repeated = tuple(repeated)
    learns = client_record(ctx).dpop != "off"
    again = False
    while True:
        request, sent = client_request(ctx, url, fields, repeated=repeated)
        response: HttpResponse = yield request if key is None else proven(ctx, request, key)
        if learns:
            ctx.nonces.learn("authorization", request.url, response)
        if key is None or again or wanted_nonce(response) is None:
            return Answer(response, sent)
        again = True


def client_request(
    ctx: AuthContext, url: str, fields: Mapping[str, str | SecretStr], *, repeated: Iterable[tuple[str, str]] = ()
) -> tuple[HttpRequest, tuple[SecretStr | None, ...]]:
    """A form request on which the client has authenticated itself, and the client's own secrets in it.

    Its parameters have the provider's names. ``repeated`` are further ones, of which one may occur several times. An
    assertion in it works once.

    Raises:
        BadInput: a field cannot be encoded.
        ConfigError: the record wants a certificate, a key or a plugin that there is not, or that cannot be used.
    """
    record = client_record(ctx)
    client_id, secret = ctx.settings.client_id, ctx.settings.client_secret
    headers: tuple[tuple[str, str], ...] = ()
    own: dict[str, str | SecretStr] = {}
    sent: tuple[SecretStr | None, ...] = (secret,)
    if record.client_auth in SIGNING_METHODS:
        assertion = client_assertion(ctx)
        own = {"client_id": client_id, **client_assertion_fields(assertion)}
        sent = (secret, assertion)
    elif record.client_auth in ("none", "tls") or secret is None:
        own = {"client_id": client_id}
    elif record.client_auth == "post":
        own = {"client_id": client_id, "client_secret": secret}
    else:
        headers = (("Authorization", _basic(client_id, secret)),)
    pairs = [*{**fields, **own}.items(), *repeated]
    return presenting(ctx, HttpRequest.form(url, renamed(record, pairs), headers=headers)), sent


def _basic(client_id: str, secret: SecretStr) -> str:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def renamed(record: OAuth2Client, pairs: Iterable[tuple[str, str | SecretStr]]) -> list[tuple[str, str | SecretStr]]:
    """Parameters by the names that the provider has for them."""
    return [(record.parameters.get(name, name), value) for name, value in pairs]


def token_request(
    ctx: AuthContext,
    fields: Mapping[str, str | SecretStr],
    *,
    sent: Iterable[SecretStr | None] = (),
    audience: Iterable[str] = (),
    keep: Iterable[str] = (),
    held: Mapping[str, SecretStr] = MappingProxyType({}),
    refreshing: bool = False,
) -> Flow[TokenSet]:
    """Ask for tokens; no error repeats the secrets in ``fields``, nor those in ``sent``.

    ``keep`` are fields of the answer that shall be in ``extra`` besides those that the record maps there. ``held`` is
    where the connection has its DPoP key already: the attempt's memory, or ``extra`` of the tokens before.

    Raises:
        InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
        TokenResponseInvalid: the tokens are not bound to the key although the record requires it.
        ConfigError: as ``client_request``; nothing was sent.
    """
    record = client_record(ctx)
    places = [("resource", where) for where in record.resource] + [("audience", name) for name in audience]
    key = proof_key(ctx, held)
    answer = yield from ask(ctx, record.token_url, {**record.extra_token, **fields}, repeated=places, key=key)
    tokens = parse_token_response(
        answer.response,
        now=ctx.now,
        default_lifetime=record.default_lifetime,
        refresh_lifetime=record.refresh_lifetime,
        refreshing=refreshing,
        sent=(*_secrets_in(fields), *sent, *answer.sent),
        paths={**{name: name for name in keep}, **record.token_response},
        scope_separator=record.scope_separator,
    )
    return with_proof_key(ctx, with_identity(ctx, tokens), key)


def _secrets_in(fields: Mapping[str, str | SecretStr]) -> Iterable[SecretStr]:
    return (value for value in fields.values() if isinstance(value, SecretStr))


def refresh_request(ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
    """Exchange the refresh token, and never anything else (RFC 6749 §6); an answer without a new one keeps the old.

    Raises:
        ReauthRequired: there is no refresh token; nothing was sent.
        InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
    """
    held = credential.tokens.refresh_token
    if held is None:
        raise ReauthRequired("The connection has no refresh token.")
    fields: dict[str, str | SecretStr] = {"grant_type": "refresh_token", "refresh_token": held}
    sent = (credential.tokens.access_token,)
    return (yield from token_request(ctx, fields, sent=sent, held=credential.tokens.extra, refreshing=True))
