"""Giving tokens back at the provider (RFC 7009)."""

from __future__ import annotations

from ..errors import ProviderUnavailable, RateLimited, TokenEndpointError
from ..model import Credential
from ..protocols import AuthContext, Flow
from ..secret import SecretStr
from .token_endpoint import Answer, ask, client_record
from .token_response import read_answer

INVALID = ("invalid_token", "invalid_grant")
"""What servers say of a token that is invalid already, instead of the 200 that RFC 7009 §2.2 asks for; Google is one
(https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke)."""


def revoke_tokens(ctx: AuthContext, credential: Credential) -> Flow[bool]:
    """Revoke the refresh token, then the access token (RFC 7009 §2.1). False where the record has no endpoint for it.

    A bound token needs no proof here: RFC 9449 asks for none, and the client authenticates itself. Where revoking a
    token ends the whole grant, the refresh token alone is enough. An invalid token is a success for the server (§2.2),
    and so it is here, also where a server says it is invalid. A type of token that the server does not revoke
    (``unsupported_token_type``, §2.2.1) is left; False where that is every one.

    Raises:
        TokenEndpointError: the endpoint refused; it may have taken the first token.
    """
    record = client_record(ctx)
    if record.revocation_url is None:
        return False
    tokens = credential.tokens
    held = [("refresh_token", tokens.refresh_token), ("access_token", tokens.access_token)]
    given = [(hint, token) for hint, token in held if token is not None]
    if record.revocation_scope == "grant":
        given = given[:1]
    revoked = False
    for hint, token in given:
        fields: dict[str, str | SecretStr] = {"token": token, "token_type_hint": hint}
        answer = yield from ask(ctx, record.revocation_url, fields)
        if answer.response.status == 200:
            revoked = True
            continue
        refused = _refusal(ctx, answer, credential)
        if answer.response.status != 400 or refused.error not in (*INVALID, "unsupported_token_type"):
            raise refused
        revoked = revoked or refused.error in INVALID
    return revoked


def _refusal(ctx: AuthContext, answer: Answer, credential: Credential) -> TokenEndpointError:
    """The error with the endpoint's own code in it, so that a client secret that was changed is read again."""
    tokens = credential.tokens
    said = None
    try:
        read_answer(
            answer.response,
            now=ctx.now,
            endpoint="revocation endpoint",
            sent=(tokens.refresh_token, tokens.access_token, *answer.sent),
        )
    except TokenEndpointError as refused:
        said = refused.error
    except (ProviderUnavailable, RateLimited):
        pass
    detail = f" ({said})" if said else ""
    return TokenEndpointError(
        f"The revocation endpoint answered with status {answer.response.status}{detail}.", error=said
    )
