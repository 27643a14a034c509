"""The authorization code flow, request by request."""

from __future__ import annotations

import hashlib
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import (
    CallbackRefused,
    ConnectFailed,
    InvalidGrant,
    ReauthRequired,
    ServicesError,
    StateInvalid,
    TokenEndpointError,
    TokenResponseInvalid,
)
from go_services_core.http import HttpResponse
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext
from go_services_core.runtime.payload import carry_over
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock

from .driving import form_of, json_answer, run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REDIRECT = "https://app.example/callback?a=1"
STATE = "state-0123456789"
RECORD = OAuth2Code(
    authorize_url="https://id.example/authorize",
    token_url="https://id.example/token",
    revocation_url="https://id.example/revoke",
)
FLOW = OAuth2CodeFlow()
TOKENS = TokenSet(access_token=SecretStr("at-0123456789"), refresh_token=SecretStr("rt-0123456789"))


def context(record: OAuth2Code = RECORD, **more: Any) -> AuthContext:
    settings = OAuth2Settings(
        client_id=more.pop("client_id", "client-1"), client_secret=more.pop("secret", SecretStr("hush"))
    )
    fields: dict[str, Any] = {
        "provider_id": "acme",
        "auth": record,
        "settings": settings,
        "scope": Scope("user", "u1"),
        "now": NOW,
        "random": FrozenClock().random,
        "redirect_uri": REDIRECT,
        "state": SecretStr(STATE),
        "requested": ("read", "write"),
    }
    return AuthContext(**{**fields, **more})


def credential(tokens: TokenSet = TOKENS) -> Credential:
    return Credential(connection_id="c1", version=1, auth_kind="oauth2_auth_code", tokens=tokens, refreshable=True)


def begun(ctx: AuthContext) -> tuple[str, dict[str, str], dict[str, str]]:
    start, requests = run(FLOW.begin(ctx))
    assert requests == []
    address, _, query = start.url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return address, dict(pairs), {name: value.reveal() for name, value in start.memory.items()}


def s256(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


# --- begin ---------------------------------------------------------------------------------------------------------


def test_consent_url_has_the_parameters_of_the_rfc_and_no_other() -> None:  # RFC 6749 §4.1.1, RFC 7636 §4.3
    address, query, memory = begun(context())
    assert address == "https://id.example/authorize"
    assert query == {
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": REDIRECT,
        "state": STATE,
        "scope": "read write",
        "code_challenge": s256(memory["code_verifier"]),
        "code_challenge_method": "S256",
    }
    assert list(memory) == ["code_verifier"]


def test_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    octets = urlsafe_b64decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk=")
    _, query, memory = begun(context(random=lambda size: octets[:size]))
    assert memory == {"code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}
    assert query["code_challenge"] == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert "dBjftJeZ4CVP" not in str(query)


def test_verifier_is_new_for_every_flow() -> None:  # P06
    random = FrozenClock().random
    verifiers = {begun(context(random=random))[2]["code_verifier"] for _ in range(50)}
    assert len(verifiers) == 50
    assert all(len(verifier) == 43 for verifier in verifiers)


def test_without_pkce_nothing_is_remembered_and_no_challenge_is_sent() -> None:  # P06
    record = evolve(RECORD, pkce="off")
    _, query, memory = begun(context(record))
    assert set(query) == {"response_type", "client_id", "redirect_uri", "state", "scope"}
    assert memory == {}
    _, (request,) = run(FLOW.complete(context(record), {"code": "c"}), json_answer({"access_token": "a"}))
    assert "code_verifier" not in form_of(request)


@pytest.mark.parametrize(
    ("requested", "separator", "scope"),
    [
        ((), " ", None),
        (("a",), " ", "a"),
        (("a", "b"), ",", "a,b"),
        (("https://x.example/a b",), " ", "https://x.example/a b"),
    ],
)
def test_scope_is_joined_as_the_vendor_wants(requested: tuple[str, ...], separator: str, scope: str | None) -> None:
    _, query, _ = begun(context(evolve(RECORD, scope_separator=separator), requested=requested))
    assert query.get("scope") == scope


def test_extra_parameters_are_added_and_replace_none_of_the_flows_own() -> None:
    extra = {
        "prompt": "consent",
        "access_type": "offline",
        "state": "fixed",
        "redirect_uri": "https://evil.example",
        "code_challenge": "fixed",
        "client_id": "other",
    }
    _, query, memory = begun(context(evolve(RECORD, extra_authorize=extra)))
    assert query["prompt"] == "consent"
    assert query["access_type"] == "offline"
    assert query["state"] == STATE
    assert query["redirect_uri"] == REDIRECT
    assert query["client_id"] == "client-1"
    assert query["code_challenge"] == s256(memory["code_verifier"])


def test_query_of_the_authorization_endpoint_is_kept() -> None:  # RFC 6749 §3.1
    _, query, _ = begun(context(evolve(RECORD, authorize_url="https://id.example/authorize?tenant=t%201&x=")))
    assert query["tenant"] == "t 1"
    assert query["x"] == ""
    assert query["state"] == STATE


@given(redirect=st.text(min_size=1), scopes=st.lists(st.text(min_size=1), max_size=3), state=st.text(min_size=1))
def test_consent_url_is_read_back_whatever_is_in_it(redirect: str, scopes: list[str], state: str) -> None:
    address, query, _ = begun(context(redirect_uri=redirect, requested=tuple(scopes), state=SecretStr(state)))
    assert address == "https://id.example/authorize"
    assert (query["redirect_uri"], query["state"]) == (redirect, state)
    assert query.get("scope") == (" ".join(scopes) if scopes else None)


# --- complete ------------------------------------------------------------------------------------------------------


def completed(params: dict[str, str], record: OAuth2Code = RECORD, **more: Any) -> TokenSet:
    tokens, _ = run(FLOW.complete(context(record, **more), params), json_answer({"access_token": "at-1"}))
    return tokens


def refused(kind: type[ServicesError], params: dict[str, str], record: OAuth2Code = RECORD) -> ServicesError:
    """The refusal, which comes before any request."""
    with pytest.raises(kind) as caught:
        run(FLOW.complete(context(record), params))
    return caught.value


WITH_ISSUER = evolve(RECORD, issuer="https://id.example")


@pytest.mark.parametrize("iss", [None, "", "https://id.example/", "https://evil.example", "HTTPS://id.example", "ä"])
@pytest.mark.parametrize("rest", [{"code": "c"}, {"error": "access_denied"}])
def test_callback_of_another_issuer_is_refused_before_its_code_is_used(iss: str | None, rest: dict[str, str]) -> None:
    """P05, RFC 9207 §2.4: an error answer is checked too."""
    params = rest if iss is None else {**rest, "iss": iss}
    error = refused(StateInvalid, params, WITH_ISSUER)
    assert error.field == "iss"
    assert "evil" not in str(error)


def test_callback_of_the_issuer_is_taken() -> None:  # P05
    params = {"code": "c", "iss": "https://id.example", "state": STATE}
    assert completed(params, WITH_ISSUER).access_token == SecretStr("at-1")


def test_issuer_is_not_asked_of_a_provider_without_one() -> None:
    assert completed({"code": "c", "iss": "https://anything.example"}).access_token == SecretStr("at-1")


def test_error_parameters_end_the_attempt_with_clean_text() -> None:  # P07
    said = {
        "error": "access_denied\r\nX: 1",
        "error_description": f"no\x1b[31m {STATE} " + "x" * 1000,
        "code": "never-used",
    }
    error = refused(CallbackRefused, said)
    shown = f"{error} {error.as_dict()}"
    assert "access_denied" in shown
    for piece in (STATE, "\r", "\n", "\x1b", "x" * 400, "never-used"):
        assert piece not in shown


@pytest.mark.parametrize("params", [{}, {"code": ""}, {"state": STATE}])
def test_callback_without_code_and_error_is_refused(params: dict[str, str]) -> None:
    assert refused(CallbackRefused, params).field == "code"


def test_code_is_exchanged_with_the_same_redirect_uri_and_the_remembered_verifier() -> None:  # RFC 6749 §4.1.3
    ctx = context(memory={"code_verifier": SecretStr("v" * 43)})
    answer = json_answer({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 60, "scope": "read"})
    tokens, (request,) = run(FLOW.complete(ctx, {"code": "c/1+ä", "state": STATE}), answer)
    assert (request.method, request.url) == ("POST", "https://id.example/token")
    assert request.header("Accept") == "application/json"
    assert form_of(request) == {
        "grant_type": "authorization_code",
        "code": "c/1+ä",
        "redirect_uri": REDIRECT,
        "code_verifier": "v" * 43,
    }
    assert tokens.expires_at == NOW + timedelta(seconds=60)
    assert tokens.granted == ("read",)


def test_code_that_cannot_be_encoded_is_typed() -> None:
    refused(ServicesError, {"code": "\ud800"})


def test_default_lifetime_of_the_record_is_used() -> None:
    assert completed({"code": "c"}, evolve(RECORD, default_lifetime=60.0)).expires_at == NOW + timedelta(seconds=60)


def test_secrets_of_the_exchange_are_removed_from_the_refusal() -> None:  # P42
    ctx = context(memory={"code_verifier": SecretStr("verifier-0123")}, secret=SecretStr("client/secret+1"))
    said = "code-0123456 verifier-0123 client/secret+1 client%2Fsecret%2B1"
    with pytest.raises(InvalidGrant) as caught:
        run(
            FLOW.complete(ctx, {"code": "code-0123456"}),
            json_answer({"error": "invalid_grant", "error_description": said}, 400),
        )
    for piece in ("code-0123456", "verifier-0123", "secret"):
        assert piece not in str(caught.value)


# --- how the client authenticates ----------------------------------------------------------------------------------

PLAIN = {"grant_type": "authorization_code", "code": "c", "redirect_uri": REDIRECT}


@pytest.mark.parametrize(
    ("client_id", "secret", "header"),
    [
        ("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"),
        ("a:b", "c d&e=f/g+h%", "a%3Ab:c+d%26e%3Df%2Fg%2Bh%25"),
        ("ä", "€", "%C3%A4:%E2%82%AC"),
    ],
)
def test_client_authenticates_in_the_header(client_id: str, secret: str, header: str) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded before they are joined."""
    ctx = context(client_id=client_id, secret=SecretStr(secret))
    _, (request,) = run(FLOW.complete(ctx, {"code": "c"}), json_answer({"access_token": "a"}))
    authorization = request.header("Authorization") or ""
    if not header.startswith("Basic "):
        authorization = b64decode(authorization.removeprefix("Basic ")).decode("ascii")
    assert authorization == header
    assert form_of(request) == PLAIN


def test_client_authenticates_in_the_form() -> None:
    ctx = context(evolve(RECORD, client_auth="post"), secret=SecretStr("c d&e=f"))
    _, (request,) = run(FLOW.complete(ctx, {"code": "c"}), json_answer({"access_token": "a"}))
    assert form_of(request) == {**PLAIN, "client_id": "client-1", "client_secret": "c d&e=f"}
    assert request.header("Authorization") is None


@pytest.mark.parametrize(("client_auth", "secret"), [("none", SecretStr("hush")), ("basic", None), ("post", None)])
def test_public_client_names_itself_and_sends_no_secret(client_auth: Any, secret: SecretStr | None) -> None:
    ctx = context(evolve(RECORD, client_auth=client_auth), secret=secret)
    _, (request,) = run(FLOW.complete(ctx, {"code": "c"}), json_answer({"access_token": "a"}))
    assert form_of(request) == {**PLAIN, "client_id": "client-1"}
    assert request.header("Authorization") is None


# --- refresh -------------------------------------------------------------------------------------------------------


def test_refresh_sends_the_refresh_token_and_never_the_access_token() -> None:  # P16
    tokens, (request,) = run(FLOW.refresh(context(), credential()), json_answer({"access_token": "at-2"}))
    assert request.url == "https://id.example/token"
    assert form_of(request) == {"grant_type": "refresh_token", "refresh_token": "rt-0123456789"}
    assert "at-0123456789" not in f"{request.headers}{request.body!r}"
    assert tokens.access_token == SecretStr("at-2")


def test_refresh_without_a_refresh_token_makes_no_request() -> None:  # P16
    with pytest.raises(ReauthRequired):
        run(FLOW.refresh(context(), credential(TokenSet(access_token=SecretStr("at-1")))))


def test_refresh_keeps_old_refresh_token_when_response_omits_it() -> None:  # P15
    new, _ = run(FLOW.refresh(context(), credential()), json_answer({"access_token": "at-2", "scope": ""}))
    kept = carry_over(new, evolve(TOKENS, granted=("read",)))
    assert kept.access_token == SecretStr("at-2")
    assert kept.refresh_token == SecretStr("rt-0123456789")
    assert kept.granted == ("read",)


def test_refresh_takes_the_rotated_refresh_token() -> None:
    answer = json_answer({"access_token": "at-2", "refresh_token": "rt-2"})
    new, _ = run(FLOW.refresh(context(), credential()), answer)
    assert carry_over(new, TOKENS).refresh_token == SecretStr("rt-2")


def test_refresh_refusal_names_neither_token() -> None:  # P42
    said = {"error": "invalid_grant", "error_description": "rt-0123456789 at-0123456789 is over"}
    with pytest.raises(InvalidGrant) as caught:
        run(FLOW.refresh(context(), credential()), json_answer(said, 400))
    assert "0123456789" not in str(caught.value)


def test_transport_error_in_a_flow_reaches_the_caller() -> None:
    flow = FLOW.refresh(context(), credential())
    next(flow)
    with pytest.raises(ConnectFailed):
        flow.throw(ConnectFailed())


# --- revoke --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "tokens", "expected"),
    [
        ("token", TOKENS, [("rt-0123456789", "refresh_token"), ("at-0123456789", "access_token")]),
        ("grant", TOKENS, [("rt-0123456789", "refresh_token")]),
        ("token", evolve(TOKENS, refresh_token=None), [("at-0123456789", "access_token")]),
        ("grant", evolve(TOKENS, refresh_token=None), [("at-0123456789", "access_token")]),
    ],
)
def test_revocation_gives_back_what_is_held(scope: Any, tokens: TokenSet, expected: list[tuple[str, str]]) -> None:
    """RFC 7009 §2.1."""
    ctx = context(evolve(RECORD, revocation_scope=scope))
    told, requests = run(FLOW.revoke(ctx, credential(tokens)), *[HttpResponse(200)] * len(expected))
    assert told is True
    assert {request.url for request in requests} == {"https://id.example/revoke"}
    forms = [form_of(request) for request in requests]
    assert forms == [{"token": token, "token_type_hint": hint} for token, hint in expected]
    assert all(request.header("Authorization") for request in requests)


def test_without_a_revocation_endpoint_nothing_is_sent() -> None:
    assert run(FLOW.revoke(context(evolve(RECORD, revocation_url=None)), credential())) == (False, [])


@pytest.mark.parametrize("status", [204, 302, 400, 401, 503])
def test_refused_revocation_is_typed(status: int) -> None:
    answer = HttpResponse(status, (), b"rt-0123456789 is unknown")
    with pytest.raises(TokenEndpointError) as caught:
        run(FLOW.revoke(context(), credential()), answer)
    assert str(status) in str(caught.value)
    assert "0123456789" not in str(caught.value)


@given(params=st.dictionaries(st.sampled_from(["code", "error", "error_description", "iss", "x"]), st.text()))
def test_no_callback_fails_untyped(params: dict[str, str]) -> None:
    for record in (RECORD, WITH_ISSUER):
        flow = FLOW.complete(context(record), params)
        try:
            next(flow)
            flow.send(HttpResponse(200, (), b"nonsense"))
        except TokenResponseInvalid:
            assert params.get("code")
        except ServicesError:
            assert not params.get("code") or "error" in params or record.issuer
