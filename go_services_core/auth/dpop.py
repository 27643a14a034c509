"""DPoP in the flows (RFC 9449): tokens that are worth something only to the holder of a key of their connection.

The key is made with the consent, or with the first token, and kept sealed: in the attempt, then with the tokens. A
proof of it is signed for each request, by a plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import evolve

from ..auth_specs import AuthSpec, OAuth2Client
from ..errors import TokenResponseInvalid
from ..http import HttpRequest
from ..model import TokenSet
from ..protocols import AuthContext
from ..secret import SecretStr
from .jose import required_jose

KEY: Final = "dpop_key"
"""Where an attempt's memory and ``TokenSet.extra`` hold the private key, as PEM."""


def proof_key(ctx: AuthContext, held: Mapping[str, SecretStr]) -> SecretStr | None:
    """The key to bind tokens to: that of ``held``, else a new one; None where the record does not ask for it.

    A public client's refresh token works with the key of its first request only (RFC 9449 §5).

    Raises:
        ConfigError: no plugin signs.
    """
    record = _record(ctx)
    if record.dpop == "off":
        return None
    jose = required_jose(ctx, f'dpop = "{record.dpop}"')
    return held[KEY] if KEY in held else jose.new_proof_key(ctx.random)


def key_thumbprint(ctx: AuthContext, key: SecretStr) -> str:
    """The parameter ``dpop_jkt``: the code of this request is worth nothing without the key (RFC 9449 §10)."""
    return required_jose(ctx, "DPoP").thumbprint(key)


def proven(ctx: AuthContext, request: HttpRequest, key: SecretStr) -> HttpRequest:
    """``request`` to the authorization server with a new proof, and the nonce that the server offered last."""
    proof = required_jose(ctx, "DPoP").proof(
        key,
        request.method,
        request.url,
        now=ctx.now,
        random=ctx.random,
        nonce=ctx.nonces.get("authorization", request.url),
    )
    return request.with_header("DPoP", proof)


def with_proof_key(ctx: AuthContext, tokens: TokenSet, key: SecretStr | None) -> TokenSet:
    """``tokens`` with the key that they were asked for with.

    Raises:
        TokenResponseInvalid: they are not bound to it although the record requires that (RFC 9449 §5).
    """
    if key is None:
        return tokens
    if tokens.token_type == "dpop":
        return evolve(tokens, extra={**tokens.extra, KEY: key})
    if _record(ctx).dpop == "required":
        raise TokenResponseInvalid(
            "The token endpoint issued a token that is not bound to the DPoP key, and the record requires that.",
            hint='Have the server issue DPoP tokens to this client, or take others too with dpop = "preferred".',
            field="token_type",
        )
    return tokens


def is_bound(tokens: TokenSet) -> bool:
    """Whether calls with these tokens carry proofs of a key."""
    return tokens.token_type == "dpop" and KEY in tokens.extra


def signer_of(auth: AuthSpec, tokens: TokenSet) -> str:
    """The scheme that calls with these tokens are signed by: bound bearer tokens are signed by ``dpop``.

    It goes by the tokens, so that those from before a change of the record go on working.
    """
    return "dpop" if auth.signer == "bearer" and is_bound(tokens) else auth.signer


def _record(ctx: AuthContext) -> OAuth2Client:
    assert isinstance(ctx.auth, OAuth2Client)
    return ctx.auth
