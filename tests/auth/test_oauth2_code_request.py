"""What an authorization request carries beyond RFC 6749: pushed requests, resources, nonce, renamed parameters."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl

import pytest
from attrs import evolve

from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import (
    CallbackRefused,
    ProviderUnavailable,
    PushedRequestRefused,
    RateLimited,
    ServicesError,
    StateInvalid,
)
from go_services_core.http import HttpResponse
from go_services_core.model import TokenSet
from go_services_core.protocols import AuthContext, AuthStart, Flow
from go_services_core.secret import SecretStr

from .driving import client_context, form_of, held, json_answer, run

FLOW = OAuth2CodeFlow()
RECORD = OAuth2Code(authorize_url="https://id.example/authorize", token_url="https://id.example/token")
PUSHED = evolve(RECORD, par_url="https://id.example/par")
REFERENCE = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c"
TAKEN = json_answer({"request_uri": REFERENCE, "expires_in": 60}, 201)


def begun(record: OAuth2Code, *, requested: tuple[str, ...] = ()) -> tuple[list[tuple[str, str]], AuthStart]:
    start, requests = run(FLOW.begin(client_context(record, requested=requested)))
    assert requests == []
    return parse_qsl(start.url.partition("?")[2], keep_blank_values=True), start


# --- PKCE ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pkce", ["plain", "hex"])
def test_other_challenges_are_made_only_where_the_record_says_so(pkce: Any) -> None:  # P06, RFC 7636 §4.2
    pairs, start = begun(evolve(RECORD, pkce=pkce))
    verifier = start.memory["code_verifier"].reveal()
    digest = hashlib.sha256(verifier.encode()).hexdigest()
    assert len(verifier) == 43
    assert dict(pairs)["code_challenge_method"] == ("plain" if pkce == "plain" else "S256")
    assert dict(pairs)["code_challenge"] == (verifier if pkce == "plain" else digest)


def test_unknown_challenge_is_no_record() -> None:
    with pytest.raises(ValueError, match="pkce"):
        evolve(RECORD, pkce="S512")  # type: ignore[arg-type]


# --- names, modes, resources, nonce --------------------------------------------------------------------------------


def test_parameters_have_the_names_that_the_provider_has_for_them() -> None:
    record = evolve(RECORD, parameters={"client_id": "client_key", "scope": "user_scope"}, scope_separator=",")
    pairs, _ = begun(record, requested=("Chat:Write", "users.read"))
    query = dict(pairs)
    assert (query["client_key"], query["user_scope"]) == ("client-1", "Chat:Write,users.read")
    assert not {"client_id", "scope"} & set(query)
    _, (request,) = run(
        FLOW.complete(client_context(evolve(record, client_auth="post")), {"code": "c"}),
        json_answer({"access_token": "a"}),
    )
    assert form_of(request)["client_key"] == "client-1"
    assert "client_id" not in form_of(request)


def test_callback_by_post_is_asked_for_where_the_record_says_so() -> None:
    assert ("response_mode", "form_post") in begun(evolve(RECORD, response_mode="form_post"))[0]
    assert "response_mode" not in dict(begun(RECORD)[0])


def test_resources_are_named_in_every_request() -> None:  # RFC 8707 §2.1, §2.2
    record = evolve(RECORD, resource=("https://a.example", "https://b.example"))
    expected = [("resource", "https://a.example"), ("resource", "https://b.example")]
    assert [pair for pair in begun(record)[0] if pair[0] == "resource"] == expected
    credential = held(record, TokenSet(access_token=SecretStr("at"), refresh_token=SecretStr("rt")))
    answer = json_answer({"access_token": "a"})
    for flow in (
        FLOW.complete(client_context(record), {"code": "c"}),
        FLOW.refresh(client_context(record), credential),
    ):
        _, (request,) = run(flow, answer)
        assert isinstance(request.body, bytes)
        assert [pair for pair in parse_qsl(request.body.decode()) if pair[0] == "resource"] == expected


def test_extra_token_parameters_are_in_the_exchange_and_replace_nothing() -> None:
    record = evolve(RECORD, extra_token={"app": "7", "code": "other", "redirect_uri": "https://evil.example"})
    _, (request,) = run(FLOW.complete(client_context(record), {"code": "c"}), json_answer({"access_token": "a"}))
    assert form_of(request) == {
        "app": "7",
        "grant_type": "authorization_code",
        "code": "c",
        "redirect_uri": "https://app.example/callback",
    }


def test_answer_is_read_as_the_record_says_at_consent_and_at_renewal() -> None:
    record = evolve(
        RECORD,
        scope_separator="|",
        token_response={"access_token": "user.token|access_token", "scope": "user.scope|scope", "host": "host"},
    )
    said = {"access_token": "bot", "user": {"token": "at-1", "scope": "Read|Write"}, "host": "https://eu.example"}
    credential = held(record, TokenSet(access_token=SecretStr("at"), refresh_token=SecretStr("rt")))
    for flow in (
        FLOW.complete(client_context(record), {"code": "c"}),
        FLOW.refresh(client_context(record), credential),
    ):
        tokens, _ = run(flow, json_answer(said))
        assert (tokens.access_token, tokens.granted) == (SecretStr("at-1"), ("Read", "Write"))
        assert tokens.extra == {"host": SecretStr("https://eu.example")}


def test_openid_request_carries_a_nonce_that_is_remembered() -> None:  # OpenID Connect Core §3.1.2.1
    pairs, start = begun(RECORD, requested=("openid", "email"))
    assert dict(pairs)["nonce"] == start.memory["nonce"].reveal()
    assert dict(pairs)["nonce"] not in (start.memory["code_verifier"].reveal(), "state-0123456789")
    assert len(dict(pairs)["nonce"]) == 43
    pairs, start = begun(RECORD, requested=("email",))
    assert "nonce" not in dict(pairs)
    assert "nonce" not in start.memory


def test_strategy_that_verifies_id_tokens_gets_nonce_and_code_before_anything_is_kept() -> None:
    class Verifying(OAuth2CodeFlow):
        def accept(self, ctx: AuthContext, tokens: TokenSet, code: SecretStr) -> Flow[TokenSet]:
            yield from ()
            assert tokens.id_token is not None
            raise StateInvalid(f"{tokens.id_token.reveal()} {ctx.memory['nonce'].reveal()} {code.reveal()}")

    ctx = client_context(RECORD, memory={"nonce": SecretStr("n-1")})
    with pytest.raises(StateInvalid, match=r"a\.b\.c n-1 c-1"):
        run(Verifying().complete(ctx, {"code": "c-1"}), json_answer({"access_token": "at", "id_token": "a.b.c"}))


# --- pushed requests (RFC 9126) ------------------------------------------------------------------------------------


def test_pushed_request_has_every_parameter_and_the_browser_only_a_reference() -> None:  # RFC 9126 §2.1, §4
    record = evolve(PUSHED, extra_authorize={"prompt": "consent"}, resource="https://api.example")
    start, (request,) = run(FLOW.begin(client_context(record, requested=("openid", "read"))), TAKEN)
    assert (request.method, request.url) == ("POST", "https://id.example/par")
    assert (request.header("Authorization") or "").startswith("Basic ")
    form = form_of(request)
    assert form["nonce"] == start.memory["nonce"].reveal()
    assert {name: form[name] for name in form if name not in ("nonce", "code_challenge")} == {
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": "https://app.example/callback",
        "state": "state-0123456789",
        "scope": "openid read",
        "code_challenge_method": "S256",
        "prompt": "consent",
        "resource": "https://api.example",
    }
    address, _, query = start.url.partition("?")
    assert address == "https://id.example/authorize"
    assert parse_qsl(query) == [("client_id", "client-1"), ("request_uri", REFERENCE)]
    assert set(start.memory) == {"code_verifier", "nonce"}


def test_client_pushes_with_the_authentication_of_the_token_endpoint() -> None:  # RFC 9126 §2
    for client_auth, secret in (("post", {"client_secret": "client-secret-0123"}), ("none", {})):
        _, (request,) = run(FLOW.begin(client_context(evolve(PUSHED, client_auth=client_auth))), TAKEN)
        form = form_of(request)
        assert {name: form[name] for name in form if name.startswith("client_")} == {"client_id": "client-1", **secret}
        assert request.header("Authorization") is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (json_answer({"error": "invalid_request", "error_description": "state-0123456789"}, 400), PushedRequestRefused),
        (json_answer({"error": "invalid_client"}, 401), PushedRequestRefused),
        (HttpResponse(404, (), b"not here"), PushedRequestRefused),
        (HttpResponse(405), PushedRequestRefused),
        (HttpResponse(307, (("Location", "https://evil.example"),)), PushedRequestRefused),
        (HttpResponse(201, (), b"<html>ok</html>"), PushedRequestRefused),
        (json_answer({}, 201), PushedRequestRefused),
        (json_answer({"request_uri": ""}, 201), PushedRequestRefused),
        (json_answer({"request_uri": ["x"]}, 201), PushedRequestRefused),
        (HttpResponse(429), RateLimited),
        (HttpResponse(503), ProviderUnavailable),
    ],
)
def test_request_that_was_not_taken_is_never_sent_another_way(
    answer: HttpResponse, kind: type[ServicesError]
) -> None:  # P06
    with pytest.raises(kind) as caught:
        run(FLOW.begin(client_context(PUSHED)), answer)
    assert "state-0123456789" not in str(caught.value)


def test_reference_cannot_add_a_parameter() -> None:
    answer = json_answer({"request_uri": "urn:x&redirect_uri=https://evil.example"}, 201)
    start, _ = run(FLOW.begin(client_context(PUSHED)), answer)
    assert parse_qsl(start.url.partition("?")[2])[1:] == [("request_uri", "urn:x&redirect_uri=https://evil.example")]


# --- issuer (RFC 9207) ---------------------------------------------------------------------------------------------

SILENT = evolve(RECORD, issuer="https://id.example", authorization_response_iss=False)


def test_issuer_that_sends_no_iss_is_not_asked_for_it() -> None:
    tokens, _ = run(FLOW.complete(client_context(SILENT), {"code": "c"}), json_answer({"access_token": "at-1"}))
    assert tokens.access_token == SecretStr("at-1")


@pytest.mark.parametrize("iss", ["", "https://evil.example", "https://id.example/", "\ud800"])
def test_wrong_iss_is_refused_even_of_an_issuer_that_sends_none(iss: str) -> None:  # P05: the mix-up of RFC 9700 §4.4
    for rest in ({"code": "c"}, {"error": "access_denied"}):
        with pytest.raises(StateInvalid) as caught:
            run(FLOW.complete(client_context(SILENT), {**rest, "iss": iss}))
        assert caught.value.field == "iss"


def test_code_beside_an_error_is_not_used() -> None:
    with pytest.raises(CallbackRefused):
        run(FLOW.complete(client_context(RECORD), {"code": "c", "error": "server_error"}))
