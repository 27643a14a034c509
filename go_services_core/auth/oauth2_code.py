"""OAuth 2.0 authorization code with PKCE S256, refresh and revocation (RFC 6749 §4.1 and §6, RFC 7636, RFC 7009)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

from ..errors import CallbackRefused, ReauthRequired, StateInvalid, TokenEndpointError
from ..http import HttpRequest, HttpResponse
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..redaction import scrub
from ..secret import SecretStr
from ..specs import OAuth2Code
from .token_response import parse_token_response


class OAuth2CodeFlow:
    """The flow behind ``OAuth2Code`` records."""

    interactive = True
    fields: tuple[str, ...] = ()

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """The authorization URL (RFC 6749 §4.1.1) and the PKCE verifier to remember."""
        yield from ()  # a generator like every flow, though nothing has to be asked
        auth = _record(ctx)
        assert ctx.state is not None
        query = {
            "response_type": "code",
            "client_id": ctx.settings.client_id,
            "redirect_uri": ctx.redirect_uri,
            "state": ctx.state.reveal(),
        }
        if ctx.requested:
            query["scope"] = auth.scope_separator.join(ctx.requested)
        memory: dict[str, SecretStr] = {}
        if auth.pkce == "S256":
            verifier = urlsafe_b64encode(ctx.random(32)).rstrip(b"=")
            challenge = urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=")
            query |= {"code_challenge": challenge.decode(), "code_challenge_method": "S256"}
            memory["code_verifier"] = SecretStr(verifier.decode())
        query = {**auth.extra_authorize, **query}  # ours win: a record cannot fix the state or the redirect URI
        joiner = "&" if "?" in auth.authorize_url else "?"
        return AuthStart(url=f"{auth.authorize_url}{joiner}{urlencode(query)}", memory=memory)

    def complete(self, ctx: AuthContext, params: Mapping[str, str]) -> Flow[TokenSet]:
        """Exchange the code (RFC 6749 §4.1.3) after checking ``iss`` (RFC 9207 §2.4)."""
        auth = _record(ctx)
        if auth.issuer is not None and not hmac.compare_digest(params.get("iss", "").encode(), auth.issuer.encode()):
            raise StateInvalid("The callback does not come from the provider's issuer (parameter iss).", field="iss")
        if "error" in params:
            said = scrub(params["error"], (ctx.state,), limit=80)
            why = params.get("error_description")
            detail = f" ({scrub(why, (ctx.state,))})" if why else ""
            raise CallbackRefused(f"The provider ended the consent with {said}{detail}.", metadata={"error": said})
        code = params.get("code")
        if not code:
            raise CallbackRefused("The callback has neither a code nor an error.", field="code")
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": ctx.redirect_uri}
        verifier = ctx.memory.get("code_verifier")
        if verifier is not None:
            fields["code_verifier"] = verifier.reveal()
        response: HttpResponse = yield client_request(ctx, auth.token_url, fields)
        return parse_token_response(
            response,
            now=ctx.now,
            default_lifetime=auth.default_lifetime,
            sent=(SecretStr(code), verifier, ctx.settings.client_secret),
        )

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Exchange the refresh token (RFC 6749 §6); an answer without a new one keeps the old."""
        auth = _record(ctx)
        held = credential.tokens.refresh_token
        if held is None:
            raise ReauthRequired("The connection has no refresh token.")
        fields = {"grant_type": "refresh_token", "refresh_token": held.reveal()}
        response: HttpResponse = yield client_request(ctx, auth.token_url, fields)
        return parse_token_response(
            response,
            now=ctx.now,
            default_lifetime=auth.default_lifetime,
            refreshing=True,
            sent=(held, credential.tokens.access_token, ctx.settings.client_secret),
        )

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """Revoke the refresh token, then the access token (RFC 7009 §2.1).

        Where revoking a token ends the whole grant, the refresh token alone is enough.
        """
        auth = _record(ctx)
        if auth.revocation_url is None:
            return False
        tokens = credential.tokens
        held = [("refresh_token", tokens.refresh_token), ("access_token", tokens.access_token)]
        given = [(hint, token) for hint, token in held if token is not None]
        if auth.revocation_scope == "grant":
            given = given[:1]
        for hint, token in given:
            fields = {"token": token.reveal(), "token_type_hint": hint}
            response: HttpResponse = yield client_request(ctx, auth.revocation_url, fields)
            if response.status != 200:
                raise TokenEndpointError(f"The revocation endpoint answered with status {response.status}.")
        return True


def client_request(ctx: AuthContext, url: str, fields: Mapping[str, str]) -> HttpRequest:
    """A form request on which the client has authenticated itself (RFC 6749 §2.3.1)."""
    auth = _record(ctx)
    client_id, secret = ctx.settings.client_id, ctx.settings.client_secret
    if auth.client_auth == "none" or secret is None:
        return HttpRequest.form(url, {**fields, "client_id": client_id})
    if auth.client_auth == "post":
        return HttpRequest.form(url, {**fields, "client_id": client_id, "client_secret": secret.reveal()})
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}".encode()
    return HttpRequest.form(url, fields, headers=(("Authorization", f"Basic {b64encode(pair).decode()}"),))


def _record(ctx: AuthContext) -> OAuth2Code:
    assert isinstance(ctx.auth, OAuth2Code)
    return ctx.auth
