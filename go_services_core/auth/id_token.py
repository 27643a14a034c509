"""ID tokens in the flows of persons: none that does not verify is believed (OpenID Connect Core §3.1.3.7, §12.2)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from attrs import evolve

from ..auth_specs import OpenIdClient
from ..errors import ConfigError, JwtInvalid, JwtKeyUnknown, ServicesError, TokenResponseInvalid
from ..jose import Jose
from ..model import Credential, TokenSet
from ..protocols import AuthContext, Flow, Jwks
from ..secret import SecretStr
from .token_endpoint import refresh_request


def is_verified(ctx: AuthContext) -> bool:
    """Whether an ID token is wanted and can be checked: the grant ``openid``, the issuer and its keys."""
    record = _record(ctx)
    return "openid" in ctx.requested and record.issuer is not None and record.jwks_url is not None


def require_jose(ctx: AuthContext) -> None:
    """Refuse to begin what could not be completed.

    Raises:
        ConfigError: an ID token will have to be verified, and no plugin can.
    """
    if is_verified(ctx):
        _jose(ctx)


def prepare(ctx: AuthContext) -> Flow[None]:
    """Have the issuer's keys at hand before anything is spent that works once.

    Raises:
        ConfigError: as :func:`require_jose`.
        MetadataInvalid, RateLimited, ProviderUnavailable, TransportError: the keys cannot be had.
    """
    if is_verified(ctx):
        _jose(ctx)
        yield Jwks(_jwks_url(ctx))


def verified(ctx: AuthContext, tokens: TokenSet, *, code: SecretStr | None = None) -> Flow[TokenSet]:
    """``tokens`` with the account that their ID token proves; as they are where none is wanted.

    ``ctx.memory["nonce"]`` is what the request carried, ``code`` what ``c_hash`` is of.

    Raises:
        TokenResponseInvalid: there is no ID token.
        JwtInvalid: it breaks a rule; ``field`` names the header or claim.
        MetadataInvalid, RateLimited, ProviderUnavailable, TransportError: the issuer's keys cannot be had.
    """
    if not is_verified(ctx):
        return tokens
    if tokens.id_token is None:
        raise TokenResponseInvalid(
            f"The provider {ctx.provider_id} was asked for openid, and its answer has no id_token.",
            hint="Is the grant openid allowed for this client? Without jwks_url in the record none is needed.",
            field="id_token",
        )
    url = _jwks_url(ctx)
    jwks: Mapping[str, Any] = yield Jwks(url)
    try:
        claims = _claims(ctx, tokens, jwks, nonce=ctx.memory.get("nonce"), code=code)
    except JwtKeyUnknown as unknown:
        try:
            jwks = yield Jwks(url, again=True)
        except ServicesError:
            raise unknown from None
        claims = _claims(ctx, tokens, jwks, nonce=ctx.memory.get("nonce"), code=code)
    return evolve(tokens, account=f"{_record(ctx).issuer}|{claims['sub']}")


def refresh_verified(ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
    """Renew as ``refresh_request``; a new ID token that is not of the same account is left out, with the reason.

    The tokens are given whatever is wrong with it, since the old refresh token may be spent. For the same reason the
    keys are asked for before, and nothing is between the answer and the result.

    Raises:
        ReauthRequired, InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``refresh_request``.
    """
    if not is_verified(ctx):
        return (yield from refresh_request(ctx, credential))
    try:
        jwks: Mapping[str, Any] | None = yield Jwks(_jwks_url(ctx))
    except ServicesError:
        jwks = None
    tokens = yield from refresh_request(ctx, credential)
    if tokens.id_token is None:
        return tokens
    refused = _why_refused(ctx, credential, tokens, jwks)
    return evolve(tokens, id_token=None, id_token_refused=refused) if refused else tokens


def subject(token: SecretStr) -> str | None:
    """``sub`` of an ID token that was stored, and so believed, before; None where it cannot be read."""
    try:
        payload = token.reveal().split(".")[1]
        said = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        found = said["sub"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _why_refused(ctx: AuthContext, credential: Credential, tokens: TokenSet, jwks: Mapping[str, Any] | None) -> str:
    """What is wrong with a renewal's ID token (OpenID Connect Core §12.2); empty if nothing is."""
    if jwks is None:
        return "the issuer's keys could not be had"
    try:
        claims = _claims(ctx, tokens, jwks, nonce=None, code=None)
    except ServicesError as error:
        return error.message
    except Exception as error:  # another plugin's mistake may not cost the tokens either
        return f"it could not be checked: {type(error).__name__}"
    held = credential.tokens.id_token
    before = subject(held) if held is not None else None
    return "it is of another account" if before not in (None, claims["sub"]) else ""


def _claims(
    ctx: AuthContext, tokens: TokenSet, jwks: Mapping[str, Any], *, nonce: SecretStr | None, code: SecretStr | None
) -> Mapping[str, Any]:
    record = _record(ctx)
    assert tokens.id_token is not None
    assert record.issuer is not None
    claims = _jose(ctx).id_token(
        tokens.id_token,
        jwks,
        issuer=record.issuer,
        client_id=ctx.settings.client_id,
        now=ctx.now,
        nonce=nonce.reveal() if nonce is not None else None,
        access_token=tokens.access_token,
        code=code,
        algorithms=record.id_token_algorithms,
    )
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise JwtInvalid("The ID token does not say whose it is.", field="sub")
    return claims


def _jose(ctx: AuthContext) -> Jose:
    if ctx.jose is None:
        raise ConfigError(
            f"The provider {ctx.provider_id} signs people in with ID tokens, and no plugin can verify them.",
            hint="Install go-services-auth-jwt, or leave openid out of the grants.",
            field=f"providers.{ctx.provider_id}",
        )
    return ctx.jose


def _jwks_url(ctx: AuthContext) -> str:
    url = _record(ctx).jwks_url
    assert url is not None
    return url


def _record(ctx: AuthContext) -> OpenIdClient:
    assert isinstance(ctx.auth, OpenIdClient)
    return ctx.auth
