"""OAuth 2.0 authorization code with PKCE (RFC 6749 §4.1, RFC 7636).

The request may be pushed (RFC 9126), the callback's issuer is checked (RFC 9207), the token may be meant for certain
resources (RFC 8707), and an OpenID Connect request carries a nonce (OpenID Connect Core §3.1.2.1).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from ..auth_specs import OAuth2Code
from ..errors import CallbackRefused, IssuerMismatch, PushedRequestRefused
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..redaction import scrub
from ..secret import SecretStr
from .dpop import KEY, key_thumbprint, proof_key
from .id_token import prepare, refresh_verified, require_jose, verified
from .revocation import revoke_tokens
from .token_endpoint import ask, client_request, renamed, token_request
from .token_response import read_answer


class OAuth2CodeFlow:
    """The flow behind ``OAuth2Code`` records."""

    interactive = True
    fields: tuple[str, ...] = ()

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """The authorization URL (RFC 6749 §4.1.1); the PKCE verifier and the nonce are to remember.

        Raises:
            PushedRequestRefused: the provider did not take the pushed request; the browser gets no other.
            RateLimited, ProviderUnavailable: the endpoint that it is pushed to asks to wait, or is failing.
            ConfigError: the client could not authenticate itself afterwards, prove a key, or have an ID token verified;
                nothing was sent.
        """
        auth = _record(ctx)
        require_jose(ctx)
        assert ctx.state is not None
        client_request(ctx, auth.token_url, {})  # what is missing for it is told before a person consents
        query: dict[str, str | SecretStr] = {
            "response_type": "code",
            "client_id": ctx.settings.client_id,
            "redirect_uri": ctx.redirect_uri,
            "state": ctx.state,
        }
        if ctx.requested:
            query["scope"] = auth.scope_separator.join(ctx.requested)
        if auth.response_mode is not None:
            query["response_mode"] = auth.response_mode
        memory: dict[str, SecretStr] = {}
        if auth.pkce != "off":
            verifier = memory["code_verifier"] = SecretStr(_random_text(ctx))
            method, challenge = _CHALLENGES[auth.pkce]
            query |= {"code_challenge": SecretStr(challenge(verifier.reveal())), "code_challenge_method": method}
        if "openid" in ctx.requested:
            query["nonce"] = memory["nonce"] = SecretStr(_random_text(ctx))
        key = proof_key(ctx, {})
        if key is not None:
            query["dpop_jkt"] = key_thumbprint(ctx, key)
            memory[KEY] = key
        query = {**auth.extra_authorize, **query}  # ours win: a record cannot fix the state or the redirect URI
        resources = [("resource", where) for where in auth.resource]
        if auth.par_url is None:
            pairs = renamed(auth, [*query.items(), *resources])
        else:
            reference = yield from _push(ctx, auth.par_url, query, resources, memory)
            pairs = [*renamed(auth, [("client_id", ctx.settings.client_id)]), ("request_uri", reference)]
        joiner = "&" if "?" in auth.authorize_url else "?"
        shown = [(name, value if isinstance(value, str) else value.reveal()) for name, value in pairs]
        return AuthStart(url=f"{auth.authorize_url}{joiner}{urlencode(shown)}", memory=memory)

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr | str]) -> Flow[TokenSet]:
        """Exchange the code (RFC 6749 §4.1.3) after checking ``iss`` (RFC 9207 §2.4).

        Raises:
            IssuerMismatch: the callback is of another issuer, or of none although its issuer says so.
            CallbackRefused: the provider or the person ended the consent, or there is no code.
            InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
            JwtInvalid, MetadataInvalid: the ID token does not verify, or the issuer's keys cannot be read.
        """
        auth = _record(ctx)
        _check_issuer(auth, params)
        if "error" in params:
            said = scrub(_text(params, "error") or "", (ctx.state,), limit=80)
            why = _text(params, "error_description")
            detail = f" ({scrub(why, (ctx.state,))})" if why else ""
            raise CallbackRefused(f"The provider ended the consent with {said}{detail}.", metadata={"error": said})
        code = SecretStr(_text(params, "code") or "")
        if not code:
            raise CallbackRefused("The callback has neither a code nor an error.", field="code")
        fields: dict[str, str | SecretStr] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": ctx.redirect_uri,
        }
        verifier = ctx.memory.get("code_verifier")
        if verifier is not None:
            fields["code_verifier"] = verifier
        yield from prepare(ctx)
        tokens = yield from token_request(ctx, fields, held=ctx.memory)
        return (yield from self.accept(ctx, tokens, code))

    def accept(self, ctx: AuthContext, tokens: TokenSet, code: SecretStr) -> Flow[TokenSet]:
        """The tokens of a consent, before anything is believed of them or kept: as ``id_token.verified``.

        Where the record has no issuer or no ``jwks_url``, an ID token is kept and never read.
        """
        return (yield from verified(ctx, tokens, code=code))

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """As ``id_token.refresh_verified``."""
        return (yield from refresh_verified(ctx, credential))

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """As ``revoke_tokens``."""
        return (yield from revoke_tokens(ctx, credential))


def _push(
    ctx: AuthContext,
    url: str,
    query: Mapping[str, str | SecretStr],
    resources: list[tuple[str, str]],
    memory: Mapping[str, SecretStr],
) -> Flow[str]:
    """Push the request and give its reference (RFC 9126 §2)."""
    answer = yield from ask(ctx, url, query, repeated=resources)
    said = read_answer(
        answer.response,
        now=ctx.now,
        endpoint="endpoint for pushed authorization requests",
        sent=(ctx.state, *answer.sent, *memory.values()),
        refused=PushedRequestRefused,
        invalid=PushedRequestRefused,
    )
    reference = said.get("request_uri")
    if not isinstance(reference, str) or not reference:
        raise PushedRequestRefused("The answer to the pushed authorization request has no request_uri.")
    return reference


def _text(params: Mapping[str, SecretStr | str], name: str) -> str | None:
    value = params.get(name)
    return value.reveal() if isinstance(value, SecretStr) else value


def _check_issuer(auth: OAuth2Code, params: Mapping[str, SecretStr | str]) -> None:
    given = _text(params, "iss")
    if auth.issuer is None or (given is None and not auth.authorization_response_iss):
        return
    if not hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), auth.issuer.encode()):
        raise IssuerMismatch("The callback does not come from the provider's issuer (parameter iss).", field="iss")


def _s256(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _hex(verifier: str) -> str:
    return hashlib.sha256(verifier.encode()).hexdigest()


_CHALLENGES: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "S256": ("S256", _s256),
    "hex": ("S256", _hex),
    "plain": ("plain", str),
}
"""What a record's ``pkce`` stands for: method and challenge (RFC 7636 §4.2)."""


def _random_text(ctx: AuthContext) -> str:
    return urlsafe_b64encode(ctx.random(32)).rstrip(b"=").decode()


def _record(ctx: AuthContext) -> OAuth2Code:
    assert isinstance(ctx.auth, OAuth2Code)
    return ctx.auth
