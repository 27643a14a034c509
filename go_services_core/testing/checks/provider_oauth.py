"""Checks of a provider's OAuth 2.0 round trip: the flow is driven by hand with scripted answers, nothing is sent."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import attrs

from ...auth.oauth2_code import OAuth2CodeFlow
from ...auth.settings import OAuth2Settings
from ...auth_specs import OAuth2Code
from ...errors import CallbackRefused, InvalidGrant, TokenEndpointError
from ...http import HttpRequest, HttpResponse
from ...model import Credential, Scope, TokenSet
from ...protocols import AuthContext, Flow
from ...secret import SecretStr
from ...specs import ProviderSpec
from ..clock import FrozenClock
from ..kit import Skipped, check
from .provider import filled, settings_of

T = TypeVar("T")

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_STATE = "kit-state-0123456789"
_REDIRECT = "https://app.example/callback"
_SECRET = "kit-client-secret"


def drive(flow: Flow[T], answer: Callable[[HttpRequest], HttpResponse]) -> T:
    """Run a flow to its end; each request gets ``answer(request)``, each claim is granted."""
    step = None
    try:
        step = next(flow)
        while True:
            step = flow.send(answer(step) if isinstance(step, HttpRequest) else True)
    except StopIteration as end:
        result: T = end.value
        return result


def _context(spec: ProviderSpec) -> AuthContext:
    """The record's flow, in the standard's own terms: without a pushed request, renamed parameters and fields that the
    answers have elsewhere, which only the vendor's documentation can confirm, and without ID tokens, which only the
    issuer can sign. A client that authenticates with a key is checked as one with a secret."""
    auth = next((auth for auth in spec.auth if isinstance(auth, OAuth2Code)), None)
    if auth is None:
        raise Skipped("the provider has no OAuth 2.0 authorization code record")
    settings = settings_of(spec)
    urls: dict[str, Any] = {
        name: filled(value, settings)
        for name in ("authorize_url", "token_url", "revocation_url", "issuer")
        if (value := getattr(auth, name)) is not None
    }
    keyless: dict[str, Any] = {} if auth.client_auth in ("basic", "post", "none") else {"client_auth": "basic"}
    return AuthContext(
        provider_id=spec.id,
        auth=attrs.evolve(
            auth,
            **urls,
            **keyless,
            par_url=None,
            jwks_url=None,
            parameters={},
            token_response={},
            certificate_bound_tokens=False,
            dpop="off",
        ),
        settings=OAuth2Settings(client_id="kit-client", client_secret=SecretStr(_SECRET)),
        scope=Scope("user", "kit"),
        now=_NOW,
        random=FrozenClock().random,
        redirect_uri=_REDIRECT,
        state=SecretStr(_STATE),
        requested=auth.default_grants,
    )


def _json(status: int = 200, **fields: Any) -> Callable[[HttpRequest], HttpResponse]:
    body = json.dumps(fields).encode()
    return lambda request: HttpResponse(status, (("Content-Type", "application/json"),), body, request.url)


def _record(ctx: AuthContext) -> OAuth2Code:
    assert isinstance(ctx.auth, OAuth2Code)
    return ctx.auth


def _complete(ctx: AuthContext, answer: Callable[[HttpRequest], HttpResponse]) -> TokenSet:
    flow = OAuth2CodeFlow()
    start = drive(flow.begin(ctx), _json())
    callback = {"code": "kit-code", "state": _STATE}
    issuer = _record(ctx).issuer
    if issuer is not None:
        callback["iss"] = issuer
    return drive(flow.complete(attrs.evolve(ctx, memory=start.memory), callback), answer)


def _refresh(ctx: AuthContext, answer: Callable[[HttpRequest], HttpResponse]) -> TokenSet:
    if not _record(ctx).refreshable:
        raise Skipped("the provider's tokens are not refreshable")
    held = TokenSet(access_token=SecretStr("kit-access-1"), refresh_token=SecretStr("kit-refresh-1"), expires_at=_NOW)
    credential = Credential(
        connection_id="kit", version=1, auth_kind=ctx.auth.kind, tokens=held, requested=ctx.requested, refreshable=True
    )
    return drive(OAuth2CodeFlow().refresh(ctx, credential), answer)


def _refusal(attempt: Callable[[], TokenSet]) -> TokenEndpointError:
    try:
        attempt()
    except TokenEndpointError as error:
        return error
    raise AssertionError("an OAuth error was taken as tokens")


@check("PRV-020", "provider")
async def consent_url_carries_state_and_challenge(spec: ProviderSpec) -> None:
    """The consent URL has response_type, client, redirect URI, state, scope and an S256 challenge of the verifier that
    is remembered. The record's extra parameters are there and replace none of them; no secret is (RFC 7636 §4.3)."""
    ctx = _context(spec)
    auth = _record(ctx)
    start = drive(OAuth2CodeFlow().begin(ctx), _json())
    query = parse_qs(urlsplit(start.url).query, keep_blank_values=True)
    repeated = sorted(name for name, values in query.items() if len(values) > 1)
    assert not repeated, f"the consent URL has {', '.join(repeated)} twice"
    expected = {
        "response_type": "code",
        "client_id": "kit-client",
        "redirect_uri": _REDIRECT,
        "state": _STATE,
    }
    if auth.default_grants:
        expected["scope"] = auth.scope_separator.join(auth.default_grants)
    own = {*expected, "scope", "code_challenge", "code_challenge_method", "nonce", "resource"}
    reserved = sorted(own & set(auth.extra_authorize))
    assert not reserved, f"extra_authorize names {', '.join(reserved)}, which the flow sets itself"
    for name, value in (expected | dict(auth.extra_authorize)).items():
        assert query.get(name) == [value], f"the consent URL's {name} is {query.get(name)}, not {value!r}"
    assert _SECRET not in start.url, "the client secret is in the consent URL"
    if auth.pkce == "S256":
        verifier = start.memory["code_verifier"].reveal()
        digest = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        assert query.get("code_challenge") == [digest], "code_challenge is not the digest of the remembered verifier"
        assert query.get("code_challenge_method") == ["S256"], "code_challenge_method is not S256"
        assert verifier not in start.url, "the verifier itself is in the consent URL"


@check("PRV-021", "provider")
async def code_is_exchanged_at_the_token_endpoint(spec: ProviderSpec) -> None:
    """The code goes to the token URL once, by POST as a form, with redirect URI, verifier and the client's
    authentication as the record says (RFC 6749 §4.1.3, §2.3.1)."""
    ctx = _context(spec)
    auth = _record(ctx)
    sent: list[HttpRequest] = []

    def answer(request: HttpRequest) -> HttpResponse:
        sent.append(request)
        return _json(access_token="kit-access-1", token_type="bearer")(request)

    _complete(ctx, answer)
    assert len(sent) == 1, f"{len(sent)} requests were made for one code"
    (request,) = sent
    assert (request.method, request.url) == ("POST", auth.token_url), "the code was not posted to the token URL"
    assert isinstance(request.body, bytes)
    form = dict(parse_qsl(request.body.decode()))
    assert form.get("grant_type") == "authorization_code", "grant_type is not authorization_code"
    assert form.get("code") == "kit-code", "the code was not sent"
    assert form.get("redirect_uri") == _REDIRECT, "the redirect URI is not the one of the consent (RFC 6749 §4.1.3)"
    assert ("code_verifier" in form) == (auth.pkce != "off"), "code_verifier does not fit the record's pkce"
    in_header = (request.header("Authorization") or "").startswith("Basic ")
    assert in_header == (auth.client_auth == "basic"), "the Authorization header does not fit client_auth"
    assert ("client_secret" in form) == (auth.client_auth == "post"), "the form's secret does not fit client_auth"


@check("PRV-022", "provider")
async def token_answer_is_read_as_json_and_as_form(spec: ProviderSpec) -> None:
    """A token answer is understood as JSON and as a form, with ``expires_in`` as number or text (RFC 6749 §5.1)."""
    ctx = _context(spec)
    fields: dict[str, Any] = {
        "access_token": "kit-access-1",
        "token_type": "bearer",
        "expires_in": "3600",
        "refresh_token": "kit-r",
    }
    form = HttpResponse(
        200,
        (("Content-Type", "application/x-www-form-urlencoded"),),
        urlencode(fields).encode(),
        _record(ctx).token_url,
    )
    for answer in (_json(**{**fields, "expires_in": 3600}), _json(**fields), lambda _: form):
        tokens = _complete(ctx, answer)
        assert tokens.access_token == SecretStr("kit-access-1"), "the access token was not read"
        assert tokens.refresh_token == SecretStr("kit-r"), "the refresh token was not read"
        assert tokens.expires_at == _NOW + timedelta(seconds=3600), f"it expires at {tokens.expires_at}, not in an hour"
        assert "kit-access-1" not in repr(tokens), "the tokens print their values"


@check("PRV-023", "provider")
async def missing_lifetime_takes_the_records_default(spec: ProviderSpec) -> None:
    """An answer without ``expires_in`` gives the record's default lifetime; without one the token does not expire."""
    ctx = _context(spec)
    tokens = _complete(ctx, _json(access_token="kit-access-1", token_type="bearer"))
    seconds = _record(ctx).default_lifetime
    expected = None if seconds is None else _NOW + timedelta(seconds=seconds)
    assert tokens.expires_at == expected, f"it expires at {tokens.expires_at}, not at {expected}"


@check("PRV-024", "provider")
async def error_inside_200_is_an_error(spec: ProviderSpec) -> None:
    """An OAuth error is typed, whether its status is 400 or 200, and says nothing that was secret (RFC 6749 §5.2)."""
    ctx = _context(spec)
    for status in (400, 200):
        answer = _json(status, error="bad_verification_code", error_description=f"wrong {_SECRET}")
        refused = _refusal(partial(_complete, ctx, answer))
        assert refused.error == "bad_verification_code", f"with status {status} the error was read as {refused.error!r}"
        assert _SECRET not in str(refused), "the error repeats the client secret"


@check("PRV-025", "provider")
async def refused_consent_is_typed(spec: ProviderSpec) -> None:
    """Error parameters in the callback end the attempt with CallbackRefused, before any request (RFC 6749 §4.1.2.1)."""
    ctx = _context(spec)

    def answer(request: HttpRequest) -> HttpResponse:
        raise AssertionError("a refused consent led to a request")

    params = {"error": "access_denied", "state": _STATE}
    issuer = _record(ctx).issuer
    if issuer is not None:
        params["iss"] = issuer
    try:
        drive(OAuth2CodeFlow().complete(ctx, params), answer)
    except CallbackRefused:
        return
    raise AssertionError("a refused consent was taken as tokens")


@check("PRV-026", "provider")
async def refresh_takes_a_rotated_token_and_keeps_an_old_one(spec: ProviderSpec) -> None:
    """A refresh takes the new refresh token when the answer has one and reports it unchanged when not (RFC 6749 §6)."""
    ctx = _context(spec)
    rotated = _refresh(ctx, _json(access_token="kit-access-2", token_type="bearer", refresh_token="kit-refresh-2"))
    assert rotated.refresh_token == SecretStr("kit-refresh-2"), "the rotated refresh token was dropped"
    kept = _refresh(ctx, _json(access_token="kit-access-2", token_type="bearer"))
    assert kept.refresh_token is None, "an answer without refresh token does not read as unchanged"
    assert kept.access_token == SecretStr("kit-access-2"), "the new access token was not read"


@check("PRV-027", "provider")
async def ended_grant_is_told_from_other_refusals(spec: ProviderSpec) -> None:
    """``invalid_grant`` is InvalidGrant, any other refusal of a refresh is not: only the first ends the connection."""
    ctx = _context(spec)
    for code, ended in (("invalid_grant", True), ("invalid_client", False)):
        refused = _refusal(partial(_refresh, ctx, _json(400, error=code)))
        assert isinstance(refused, InvalidGrant) == ended, f"{code} was raised as {type(refused).__name__}"
