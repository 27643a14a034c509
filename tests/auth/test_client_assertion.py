"""Clients that sign assertions (RFC 7523 §2.2, OpenID Connect Core §9), request by request."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from attrs import evolve

from go_services_auth_jwt.jose import JwtJose
from go_services_auth_jwt.jwk import Jwk
from go_services_auth_jwt.jws import verify
from go_services_core.auth.client_credentials import ClientCredentialsFlow
from go_services_core.auth.device import DeviceCodeFlow
from go_services_core.auth.fields import concealed
from go_services_core.auth.introspection import introspect
from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth.token_exchange import TokenExchangeFlow
from go_services_core.auth_specs import AuthSpec, ClientCredentials, DeviceCode, OAuth2Client, OAuth2Code, TokenExchange
from go_services_core.errors import ConfigError, PushedRequestRefused, TokenEndpointError
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import TokenSet
from go_services_core.protocols import AuthContext, Flow
from go_services_core.secret import SecretStr

from .driving import NOW, client_context, form_of, held, json_answer, run

TOKEN_URL = "https://id.example/token"
KEY = JwtJose().new_proof_key(Random(5).randbytes)
SECRET = SecretStr("a secret of 32 bytes or more, shared")
TOKENS = TokenSet(access_token=SecretStr("at-0123456789"), refresh_token=SecretStr("rt-0123456789"))
GOOD = json_answer({"access_token": "at-2", "token_type": "bearer", "active": False, "request_uri": "urn:x"})
PUBLIC = Jwk.from_text(KEY, kid="k-1")
CODE = OAuth2Code(
    authorize_url="https://id.example/authorize",
    token_url=TOKEN_URL,
    par_url="https://id.example/par",
    revocation_url="https://id.example/revoke",
    introspection_url="https://id.example/introspect",
    issuer="https://id.example",
    client_auth="private_key_jwt",
)


def context(record: AuthSpec = CODE, **more: Any) -> AuthContext:
    settings = more.pop("settings", {})
    own = OAuth2Settings(client_id="client-1", client_secret=SECRET, client_key=KEY, client_key_id="k-1")
    return client_context(
        record, **{"jose": JwtJose(), "random": Random(1).randbytes, "settings": evolve(own, **settings), **more}
    )


def claims_of(request: HttpRequest) -> dict[str, Any]:
    """What the assertion says, after its signature was checked."""
    form = form_of(request)
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    head = json.loads(urlsafe_b64decode(form["client_assertion"].split(".")[0] + "=="))
    key = Jwk.from_secret(SECRET) if head["alg"] == "HS256" else PUBLIC
    assert head.get("kid") == (None if head["alg"] == "HS256" else "k-1")
    return verify(form["client_assertion"], key, algorithms=(head["alg"],)).claims()


def code_requests(ctx: AuthContext) -> list[HttpRequest]:
    """All that an authorization code client sends in its life."""
    flow = OAuth2CodeFlow()
    start, sent = run(flow.begin(ctx), GOOD)
    callback = {"code": "c", "iss": "https://id.example"}
    sent += run(flow.complete(evolve(ctx, memory=start.memory), callback), GOOD)[1]
    sent += run(flow.refresh(ctx, held(CODE, TOKENS)), GOOD)[1]
    sent += run(flow.revoke(ctx, held(CODE, TOKENS)), HttpResponse(200), HttpResponse(200))[1]
    return sent + run(introspect(ctx, TOKENS.access_token), GOOD)[1]


@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_jwt"])
def test_every_endpoint_gets_a_new_assertion_and_nothing_else_that_authenticates(method: Any) -> None:
    sent = code_requests(context(evolve(CODE, client_auth=method)))
    assert [request.url.rpartition("/")[2] for request in sent] == [
        "par", "token", "token", "revoke", "revoke", "introspect",
    ]  # fmt: skip
    seen = [claims_of(request) for request in sent]
    assert len({claims["jti"] for claims in seen}) == len(sent)
    for request, claims in zip(sent, seen, strict=True):
        assert (claims["iss"], claims["sub"], claims["aud"]) == ("client-1", "client-1", "https://id.example")
        assert 0 < claims["exp"] - NOW.timestamp() <= 300
        assert form_of(request)["client_id"] == "client-1"
        assert "client_secret" not in form_of(request)
        assert request.header("Authorization") is None


OTHERS: list[tuple[OAuth2Client, Callable[[AuthContext], Flow[Any]]]] = [
    (
        DeviceCode(token_url=TOKEN_URL, device_authorization_url="https://id.example/device"),
        lambda ctx: DeviceCodeFlow().begin(ctx),
    ),
    (ClientCredentials(token_url=TOKEN_URL), lambda ctx: ClientCredentialsFlow().complete(ctx, {})),
    (
        TokenExchange(token_url=TOKEN_URL),
        lambda ctx: TokenExchangeFlow().complete(ctx, concealed({"subject_token": "st-1"})),
    ),
]


@pytest.mark.parametrize(("record", "flow"), OTHERS, ids=["device", "client credentials", "token exchange"])
def test_every_flow_authenticates_so(record: OAuth2Client, flow: Callable[[AuthContext], Flow[Any]]) -> None:
    answer = json_answer(
        {
            **json.loads(GOOD.body),
            "device_code": "dc-1",
            "user_code": "U-1",
            "verification_uri": "https://id.example/d",
            "expires_in": 600,
        }
    )
    _, (request,) = run(flow(context(evolve(record, client_auth="private_key_jwt"))), answer)
    assert claims_of(request)["aud"] == TOKEN_URL  # no issuer is known


@pytest.mark.parametrize(
    ("change", "audience"),
    [
        ({}, "https://id.example"),
        ({"issuer": None, "authorization_response_iss": False}, TOKEN_URL),
        ({"assertion_audience": "https://id.example/oauth2"}, "https://id.example/oauth2"),
    ],
)
def test_audience_is_the_records_else_the_issuer_else_the_token_endpoint(change: dict[str, Any], audience: str) -> None:
    _, (request,) = run(OAuth2CodeFlow().refresh(context(evolve(CODE, **change)), held(CODE, TOKENS)), GOOD)
    assert claims_of(request)["aud"] == audience


def test_algorithm_of_the_record_is_used() -> None:
    def algorithm(name: str | None) -> str:
        ctx = context(evolve(CODE, assertion_algorithm=name))
        _, (request,) = run(OAuth2CodeFlow().refresh(ctx, held(CODE, TOKENS)), GOOD)
        head: dict[str, str] = json.loads(urlsafe_b64decode(form_of(request)["client_assertion"].split(".")[0] + "=="))
        return head["alg"]

    assert algorithm(None) == algorithm("ES256") == "ES256"
    with pytest.raises(ConfigError, match="ES384"):  # the key cannot
        algorithm("ES384")


@pytest.mark.parametrize("name", ["none", "HS256", "ES256 ", ""])
def test_algorithm_that_would_make_a_key_a_secret_is_no_value_of_the_record(name: str) -> None:
    with pytest.raises(ValueError, match="assertion_algorithm"):
        evolve(CODE, assertion_algorithm=name)


@pytest.mark.parametrize(
    ("method", "change", "field", "said"),
    [
        ("private_key_jwt", {"settings": {"client_key": None}}, "providers.acme.client_key", "must be set"),
        ("client_secret_jwt", {"settings": {"client_secret": None}}, "providers.acme.client_secret", "must be set"),
        ("private_key_jwt", {"settings": {"client_key": SecretStr("s3cr3t-no-key")}}, "providers.acme.client_key", "cannot sign"),
        ("client_secret_jwt", {"settings": {"client_secret": SecretStr("short-s3cr3t")}}, "providers.acme.client_secret", "cannot sign"),
        ("private_key_jwt", {"jose": None}, "providers.acme", "private_key_jwt"),
        ("client_secret_jwt", {"jose": None}, "providers.acme", "client_secret_jwt"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_before_the_person_consents_and_nothing_is_sent(
    method: Any, change: dict[str, Any], field: str, said: str
) -> None:
    for record in (evolve(CODE, client_auth=method), evolve(CODE, client_auth=method, par_url=None)):
        with pytest.raises(ConfigError, match=said) as told:
            next(OAuth2CodeFlow().begin(context(record, **change)))
        assert told.value.field == field
        assert "s3cr3t" not in str(told.value)
        if "jose" in change:
            assert "go-services-auth-jwt" in str(told.value)
    with pytest.raises(ConfigError):
        next(OAuth2CodeFlow().refresh(context(evolve(CODE, client_auth=method), **change), held(CODE, TOKENS)))


def test_assertion_that_the_server_repeats_is_not_in_the_error() -> None:  # P42
    ctx = context()
    flows: list[tuple[Flow[Any], type[TokenEndpointError]]] = [
        (OAuth2CodeFlow().begin(ctx), PushedRequestRefused),
        (OAuth2CodeFlow().refresh(ctx, held(CODE, TOKENS)), TokenEndpointError),
        (introspect(ctx, TOKENS.access_token), TokenEndpointError),
        (OAuth2CodeFlow().revoke(ctx, held(CODE, TOKENS)), TokenEndpointError),
    ]
    for flow, kind in flows:
        request = next(flow)
        assert isinstance(request, HttpRequest)
        assertion = form_of(request)["client_assertion"]
        with pytest.raises(kind) as caught:
            flow.send(json_answer({"error": "invalid_client", "error_description": f"bad {assertion} there"}, 401))
        assert assertion[:20] not in str(caught.value)
        assert caught.value.error == "invalid_client"
