"""The flows that sign by themselves: what they ask, what they keep, and how they renew."""

from __future__ import annotations

import json
import traceback
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest
from joserfc import jwk as jose_jwk
from joserfc import jwt as jose_jwt

from go_services_auth_jwt.assertion import GRANT_TYPE
from go_services_auth_jwt.jwt_bearer import JwtBearerFlow
from go_services_auth_jwt.records import JwtBearer, ServiceAccountJwt
from go_services_auth_jwt.service_account import ServiceAccountFlow
from go_services_auth_jwt.settings import JwtBearerSettings
from go_services_core.auth.fields import concealed
from go_services_core.auth_specs import AuthSpec
from go_services_core.errors import (
    BadInput,
    ConfigError,
    InvalidGrant,
    KeyInvalid,
    ProviderUnavailable,
    ReauthRequired,
    ServicesError,
    TokenResponseInvalid,
)
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext, AuthFlow, Flow
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock

from .keys import NOW, SECRET, encrypted_pem, pem

T = TypeVar("T")

TOKEN_URL = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/drive"
GOOGLE = ServiceAccountJwt(
    token_url=TOKEN_URL, token_url_aliases=("https://accounts.google.com/o/oauth2/token",), default_grants=(SCOPE,)
)
WORKDAY = ServiceAccountJwt(audience="https://api.workday.example")
BEARER = JwtBearer(token_url="https://login.example/token", audience="https://login.example", default_grants=("api",))
KEY_FILE = {
    "type": "service_account",
    "project_id": "acme",
    "private_key_id": "key-id-1",
    "private_key": pem("RS256"),
    "client_email": "robot@acme.iam.example",
    "client_id": "1234567890",
    "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    "token_uri": TOKEN_URL,
}
SETTINGS = JwtBearerSettings(client_id="my-app", private_key=SecretStr(pem("RS256", 1)), key_id="app-key")
KEYLESS = JwtBearerSettings(client_id="my-app")
ANSWER = {"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"}


def context(auth: AuthSpec, settings: Any = None, **more: Any) -> AuthContext:
    given: dict[str, Any] = {"scope": Scope("org", "o1"), "now": NOW, "random": FrozenClock().random}
    return AuthContext(provider_id="acme", auth=auth, settings=settings, **{**given, **more})


def run(flow: Flow[T], *answers: HttpResponse) -> tuple[T, list[HttpRequest]]:
    """The flow's result and its requests; every answer must be taken."""
    waiting, sent = list(answers), []
    try:
        step: Any = next(flow)
        while True:
            sent.append(step)
            step = flow.send(waiting.pop(0))
    except StopIteration as done:
        assert not waiting
        return done.value, sent


def answer(fields: Any = ANSWER, status: int = 200) -> HttpResponse:
    return HttpResponse(status, (("Content-Type", "application/json"),), json.dumps(fields).encode())


def form(request: HttpRequest) -> dict[str, str]:
    assert isinstance(request.body, bytes)
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))


def assertion(request: HttpRequest, which: int = 0) -> Any:
    """The request's assertion, read with another implementation."""
    return jose_jwt.decode(form(request)["assertion"], jose_jwk.RSAKey.import_key(pem("RS256", which)))


def credential(tokens: TokenSet) -> Credential:
    return Credential(connection_id="c", version=1, auth_kind="x", tokens=tokens)


def key_file(**changes: Any) -> str:
    return json.dumps({name: value for name, value in {**KEY_FILE, **changes}.items() if value is not None})


def refused(flow: AuthFlow, ctx: AuthContext, fields: Any) -> ServicesError:
    with pytest.raises(ServicesError) as caught:
        run(flow.complete(ctx, concealed(fields)))
    return caught.value


# --- service accounts ----------------------------------------------------------------------------------------------


def test_key_file_is_exchanged_for_a_token() -> None:
    tokens, (request,) = run(
        ServiceAccountFlow().complete(context(GOOGLE), concealed({"service_account_json": key_file()})), answer()
    )
    assert (request.method, request.url) == ("POST", TOKEN_URL)
    assert form(request)["grant_type"] == GRANT_TYPE
    read = assertion(request)
    now = int(NOW.timestamp())
    assert read.header == {"alg": "RS256", "typ": "JWT", "kid": "key-id-1"}
    assert {**read.claims, "jti": ""} == {
        "iss": "robot@acme.iam.example",
        "scope": SCOPE,
        "aud": TOKEN_URL,
        "iat": now - 10,
        "exp": now + 3590,
        "jti": "",
    }
    assert tokens.access_token == SecretStr("ya29.token")
    assert (tokens.token_type, tokens.granted) == ("bearer", (SCOPE,))
    assert tokens.expires_at == NOW + timedelta(seconds=3599)
    assert tokens.refresh_token is None


def test_account_is_the_service_account_whatever_its_key_and_the_person_it_acts_for() -> None:
    def account(**fields: str) -> str | None:
        return run(ServiceAccountFlow().complete(context(GOOGLE), concealed(fields)), answer())[0].account

    robot = "robot@acme.iam.example"
    assert account(service_account_json=key_file()) == robot
    assert account(service_account_json=key_file(private_key=pem("RS256", 1), private_key_id="k2")) == robot
    assert account(service_account_json=key_file(client_email="other@acme.iam.example")) == "other@acme.iam.example"
    assert account(service_account_json=key_file(), subject="ada@acme.example") == f"{robot}|ada@acme.example"
    signed, _ = run(
        ServiceAccountFlow().complete(context(WORKDAY), concealed({"issuer": robot, "private_key": pem("RS256")}))
    )
    assert signed.account == robot


def test_account_of_a_bearer_grant_is_its_subject() -> None:
    for subject in ("ada", "bob"):
        tokens, _ = run(JwtBearerFlow().complete(context(BEARER, SETTINGS), concealed({"subject": subject})), answer())
        assert tokens.account == subject


def test_delegated_subject_is_sent_only_when_it_was_given() -> None:
    """behaviour.md §27 item 9: the scope's id is no subject."""
    fields = {"service_account_json": key_file(), "subject": "alice@acme.example"}
    tokens, (request,) = run(ServiceAccountFlow().complete(context(GOOGLE), concealed(fields)), answer())
    assert assertion(request).claims["sub"] == "alice@acme.example"
    assert tokens.extra["subject"] == SecretStr("alice@acme.example")
    _, (request,) = run(
        ServiceAccountFlow().complete(context(GOOGLE), concealed({"service_account_json": key_file(), "subject": ""})),
        answer(),
    )
    assert "sub" not in assertion(request).claims


def test_renewal_signs_anew_with_the_kept_key_and_needs_no_refresh_token() -> None:
    flow = ServiceAccountFlow()
    fields = {"service_account_json": key_file(), "subject": "alice@acme.example"}
    first, (before,) = run(flow.complete(context(GOOGLE), concealed(fields)), answer())
    assert set(first.extra) == {"issuer", "private_key", "key_id", "subject"}
    later = NOW + timedelta(hours=1)
    ctx = context(GOOGLE, now=later, random=FrozenClock(seed=1).random)
    second, (after,) = run(flow.refresh(ctx, credential(first)), answer({**ANSWER, "access_token": "ya29.second"}))
    old, new = assertion(before), assertion(after)
    assert new.claims["iat"] == old.claims["iat"] + 3600
    assert new.claims["jti"] != old.claims["jti"]
    assert {**new.claims, "iat": 0, "exp": 0, "jti": 0} == {**old.claims, "iat": 0, "exp": 0, "jti": 0}
    assert second.access_token == SecretStr("ya29.second")
    assert second.expires_at == later + timedelta(seconds=3599)
    assert second.extra == first.extra


def test_scopes_that_were_asked_for_win_and_the_answers_scope_is_what_was_granted() -> None:
    ctx = context(GOOGLE, requested=("a", "b"))
    fields = {"service_account_json": key_file()}
    tokens, (request,) = run(ServiceAccountFlow().complete(ctx, concealed(fields)), answer({**ANSWER, "scope": "a"}))
    assert assertion(request).claims["scope"] == "a b"
    assert tokens.granted == ("a",)


def test_issuer_and_key_may_be_given_without_a_file() -> None:
    fields = {"issuer": "robot@acme.iam.example", "private_key": pem("RS256").replace("\n", "\\n"), "key_id": "k"}
    _, (request,) = run(ServiceAccountFlow().complete(context(GOOGLE), concealed(fields)), answer())
    assert assertion(request).claims["iss"] == "robot@acme.iam.example"
    assert assertion(request).header["kid"] == "k"


def test_request_goes_to_the_records_token_url_whatever_the_file_says() -> None:
    named = key_file(token_uri="https://accounts.google.com/o/oauth2/token")
    _, (request,) = run(
        ServiceAccountFlow().complete(context(GOOGLE), concealed({"service_account_json": named})), answer()
    )
    assert request.url == assertion(request).claims["aud"] == TOKEN_URL
    evil = refused(
        ServiceAccountFlow(), context(GOOGLE), {"service_account_json": key_file(token_uri="https://evil.example/t")}
    )
    assert isinstance(evil, BadInput)
    assert evil.field == "service_account_json"


def test_self_signed_token_is_the_access_token_and_nothing_is_sent() -> None:
    fields = {"issuer": "client-1", "private_key": pem("RS256"), "subject": "isu_user"}
    tokens, sent = run(ServiceAccountFlow().complete(context(WORKDAY), concealed(fields)))
    assert sent == []
    claims = jose_jwt.decode(tokens.access_token.reveal(), jose_jwk.RSAKey.import_key(pem("RS256"))).claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("client-1", "isu_user", "https://api.workday.example")
    assert tokens.expires_at is not None
    assert int(tokens.expires_at.timestamp()) == claims["exp"]
    assert (tokens.token_type, tokens.granted) == ("bearer", None)
    renewed, sent = run(
        ServiceAccountFlow().refresh(context(WORKDAY, random=FrozenClock(seed=1).random), credential(tokens))
    )
    assert sent == []
    assert renewed.access_token != tokens.access_token


def test_self_signed_token_without_a_subject_is_about_its_issuer() -> None:
    fields = {"issuer": "client-1", "private_key": pem("RS256")}
    tokens, _ = run(ServiceAccountFlow().complete(context(WORKDAY), concealed(fields)))
    claims = jose_jwt.decode(tokens.access_token.reveal(), jose_jwk.RSAKey.import_key(pem("RS256"))).claims
    assert claims["sub"] == "client-1"


def test_shared_secret_signs_where_the_record_says_hs256() -> None:
    record = ServiceAccountJwt(audience="https://api.example", algorithm="HS256")
    fields = {"issuer": "client-1", "private_key": SECRET}
    tokens, _ = run(ServiceAccountFlow().complete(context(record), concealed(fields)))
    key = jose_jwk.OctKey.import_key(SECRET)
    assert jose_jwt.decode(tokens.access_token.reveal(), key).header["alg"] == "HS256"
    assert isinstance(refused(ServiceAccountFlow(), context(record), {**fields, "private_key": "short"}), BadInput)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "not JSON"),
        ("[]", "not an object"),
        (key_file()[:-1] + ',"client_email":"mallory@evil.example"}', "occurs twice"),
        (key_file(type="authorized_user"), "authorized_user"),
        (key_file(type="external_account"), "external_account"),
        (key_file(type="something-s3cret"), "another type"),
        (key_file(type=None), "another type"),
        (key_file(client_email=None), "no client_email"),
        (key_file(private_key=None), "no private_key"),
        (key_file(client_email=""), "client_email"),
        (key_file(private_key=["x"]), "private_key"),
        (key_file(private_key_id=5), "private_key_id"),
        (key_file(private_key="not a key"), "not a private key"),
        (key_file(private_key=encrypted_pem()), "encrypted"),
        (key_file(private_key=pem("ES256")), "cannot be used with RS256"),
        (" " * 40_000, "longer"),
    ],
)
def test_key_file_that_is_none_is_refused_with_the_reason(text: str, reason: str) -> None:
    error = refused(ServiceAccountFlow(), context(GOOGLE), {"service_account_json": text})
    assert isinstance(error, BadInput)
    assert (error.field, error.plugin) == ("service_account_json", "auth-jwt")
    assert reason in error.message
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "read_key_file" in str(frame)]
    assert not [line for frame in frames for line in pem("RS256").split("\n")[1:-2] if line in str(frame.f_locals)]
    assert error.__context__ is None or isinstance(error.__context__, KeyInvalid)
    assert "s3cret" not in f"{error} {error.as_dict()}"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "issuer"),
        ({"issuer": "a"}, "private_key"),
        ({"private_key": "a"}, "issuer"),
        ({"service_account_json": key_file(), "issuer": "a"}, "issuer"),
        ({"service_account_json": key_file(), "private_key": "a"}, "private_key"),
        ({"service_account_json": key_file(), "key_id": "a"}, "key_id"),
        ({"service_account_json": key_file(), "password": "a"}, "password"),
        ({"service_account_json": 5}, "service_account_json"),
        ({"service_account_json": key_file(), "subject": "alice \n"}, "subject"),
        ({"issuer": "a\tb", "private_key": "x"}, "issuer"),
    ],
)
def test_fields_that_do_not_fit_together_are_named(fields: Any, field: str) -> None:
    error = refused(ServiceAccountFlow(), context(GOOGLE), fields)
    assert isinstance(error, BadInput)
    assert error.field == field


@pytest.mark.parametrize("record", [ServiceAccountJwt(), ServiceAccountJwt(token_url=TOKEN_URL)])
def test_record_without_audience_or_scopes_is_an_error_of_the_configuration(record: ServiceAccountJwt) -> None:
    error = refused(ServiceAccountFlow(), context(record), {"service_account_json": key_file()})
    assert isinstance(error, ConfigError)
    assert error.field == "providers.acme"


# --- JWT bearer ----------------------------------------------------------------------------------------------------


def test_assertion_of_the_applications_key_is_exchanged_and_the_key_is_not_copied() -> None:
    tokens, (request,) = run(
        JwtBearerFlow().complete(context(BEARER, SETTINGS), concealed({"subject": "alice@acme.example"})), answer()
    )
    read = assertion(request, 1)
    assert request.url == "https://login.example/token"
    assert {name: form(request)[name] for name in ("grant_type", "scope")} == {"grant_type": GRANT_TYPE, "scope": "api"}
    assert (read.claims["iss"], read.claims["sub"], read.claims["aud"]) == (
        "my-app",
        "alice@acme.example",
        "https://login.example",
    )
    assert "scope" not in read.claims
    assert read.header["kid"] == "app-key"
    assert tokens.extra == {"subject": SecretStr("alice@acme.example")}
    assert tokens.granted == ("api",)


def test_renewal_takes_the_key_that_the_settings_have_now() -> None:
    tokens, _ = run(JwtBearerFlow().complete(context(BEARER, SETTINGS), concealed({"subject": "alice"})), answer())
    rotated = JwtBearerSettings(client_id="my-app", private_key=SecretStr(pem("RS256", 2)), key_id="new")
    _, (request,) = run(JwtBearerFlow().refresh(context(BEARER, rotated), credential(tokens)), answer())
    assert assertion(request, 2).header["kid"] == "new"


def test_typed_key_is_kept_for_renewal_and_wins_over_the_settings() -> None:
    fields = {"subject": "alice", "private_key": pem("RS256"), "key_id": "own"}
    for settings in (SETTINGS, KEYLESS):
        tokens, (request,) = run(JwtBearerFlow().complete(context(BEARER, settings), concealed(fields)), answer())
        assert assertion(request).header["kid"] == "own"
        _, (again,) = run(JwtBearerFlow().refresh(context(BEARER, settings), credential(tokens)), answer())
        assert assertion(again).claims["sub"] == "alice"


def test_token_url_is_the_audience_when_the_record_names_none() -> None:
    record = JwtBearer(token_url="https://login.example/token", scope_separator=",", default_grants=("a", "b"))
    _, (request,) = run(JwtBearerFlow().complete(context(record, SETTINGS), concealed({"subject": "alice"})), answer())
    assert assertion(request, 1).claims["aud"] == "https://login.example/token"
    assert form(request)["scope"] == "a,b"


@pytest.mark.parametrize(
    ("settings", "fields", "field"),
    [
        (SETTINGS, {}, "subject"),
        (KEYLESS, {"subject": "alice"}, "private_key"),
        (SETTINGS, {"subject": "alice", "key_id": "k"}, "key_id"),
        (SETTINGS, {"subject": "alice", "private_key": "nonsense"}, "private_key"),
        (SETTINGS, {"subject": " alice"}, "subject"),
        (SETTINGS, {"subject": "alice", "issuer": "x"}, "issuer"),
    ],
)
def test_missing_and_wrong_fields_are_named(settings: Any, fields: dict[str, str], field: str) -> None:
    error = refused(JwtBearerFlow(), context(BEARER, settings), fields)
    assert isinstance(error, BadInput)
    assert error.field == field


def test_unusable_key_of_the_settings_is_named_by_its_setting() -> None:
    broken = JwtBearerSettings(client_id="my-app", private_key=SecretStr("nonsense"))
    error = refused(JwtBearerFlow(), context(BEARER, broken), {"subject": "alice"})
    assert isinstance(error, KeyInvalid)
    assert error.field == "providers.acme.private_key"


# --- both ----------------------------------------------------------------------------------------------------------

BOTH: list[tuple[AuthFlow, AuthContext, dict[str, str]]] = [
    (ServiceAccountFlow(), context(GOOGLE), {"service_account_json": key_file()}),
    (JwtBearerFlow(), context(BEARER, KEYLESS), {"subject": "alice", "private_key": pem("RS256")}),
]
each_flow = pytest.mark.parametrize(("flow", "ctx", "fields"), BOTH, ids=["service_account_jwt", "jwt_bearer"])


@each_flow
@pytest.mark.parametrize(
    ("response", "error"),
    [
        (answer({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400), InvalidGrant),
        (answer({"error": "invalid_grant"}), InvalidGrant),
        (answer({}, 503), ProviderUnavailable),
        (answer({"token_type": "Bearer"}), TokenResponseInvalid),
        (HttpResponse(200, (("Content-Type", "text/html"),), b"<html>"), TokenResponseInvalid),
    ],
)
def test_refusal_of_the_endpoint_is_typed_when_connecting_and_renewing(
    flow: AuthFlow, ctx: AuthContext, fields: dict[str, str], response: HttpResponse, error: type[ServicesError]
) -> None:
    with pytest.raises(error):
        run(flow.complete(ctx, concealed(fields)), response)
    tokens, _ = run(flow.complete(ctx, concealed(fields)), answer())
    with pytest.raises(error):
        run(flow.refresh(ctx, credential(tokens)), response)


@each_flow
def test_endpoint_that_repeats_the_assertion_or_the_key_does_not_leak_it(
    flow: AuthFlow, ctx: AuthContext, fields: dict[str, str]
) -> None:
    """P42."""
    for secret in ("assertion", "key"):
        step = flow.complete(ctx, concealed(fields))
        request = next(step)
        assert isinstance(request, HttpRequest)
        repeated = form(request)["assertion"] if secret == "assertion" else pem("RS256")
        with pytest.raises(InvalidGrant) as caught:
            step.send(answer({"error": "invalid_grant", "error_description": f"bad: {repeated}"}, 400))
        shown = f"{caught.value} {caught.value.as_dict()}"
        assert repeated[30:60] not in shown


@each_flow
def test_refresh_token_of_the_answer_is_not_kept(flow: AuthFlow, ctx: AuthContext, fields: dict[str, str]) -> None:
    """RFC 7521 §4.1: the assertion renews."""
    tokens, _ = run(
        flow.complete(ctx, concealed(fields)), answer({**ANSWER, "refresh_token": "r", "refresh_token_expires_in": 9})
    )
    assert (tokens.refresh_token, tokens.refresh_expires_at) == (None, None)


@each_flow
def test_credential_that_lost_its_key_must_be_entered_again(
    flow: AuthFlow, ctx: AuthContext, fields: dict[str, str]
) -> None:
    with pytest.raises(ReauthRequired):
        run(flow.refresh(ctx, credential(TokenSet(access_token=SecretStr("t")))))


@each_flow
def test_there_is_no_consent_page_and_nothing_to_revoke(
    flow: AuthFlow, ctx: AuthContext, fields: dict[str, str]
) -> None:
    assert flow.interactive is False
    with pytest.raises(BadInput, match="no consent page"):
        run(flow.begin(ctx))
    assert run(flow.revoke(ctx, credential(TokenSet(access_token=SecretStr("t"))))) == (False, [])


@each_flow
def test_tokens_and_their_key_do_not_print(flow: AuthFlow, ctx: AuthContext, fields: dict[str, str]) -> None:
    tokens, requests = run(flow.complete(ctx, concealed(fields)), answer())
    shown = repr((tokens, requests, ctx))
    assert not [line for line in pem("RS256").split("\n") if line and line in shown]
    assert "ya29" not in shown
