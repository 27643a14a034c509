"""DPoP in the flows (RFC 9449), request by request."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from contextlib import suppress
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from attrs import evolve

from go_services_auth_jwt.jose import JwtJose
from go_services_core.auth.client_credentials import ClientCredentialsFlow
from go_services_core.auth.device import DeviceCodeFlow
from go_services_core.auth.dpop import KEY, is_bound, signer_of
from go_services_core.auth.dpop_nonces import DpopNonces
from go_services_core.auth.fields import concealed
from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth.token_exchange import TokenExchangeFlow
from go_services_core.auth_specs import AuthSpec, ClientCredentials, DeviceCode, OAuth2Code, TokenExchange
from go_services_core.errors import ConfigError, TokenEndpointError, TokenResponseInvalid
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import TokenSet
from go_services_core.protocols import AuthContext
from go_services_core.runtime.payload import carry_over
from go_services_core.secret import SecretStr

from .driving import client_context, form_of, held, json_answer, run

TOKEN_URL = "https://id.example/token"
CODE = OAuth2Code(
    authorize_url="https://id.example/authorize",
    token_url=TOKEN_URL,
    revocation_url="https://id.example/revoke",
    authorization_response_iss=False,
    dpop="required",
)
JOSE = JwtJose()
RANDOM = Random(1)
OLD_KEY = JOSE.new_proof_key(Random(9).randbytes)
TOKENS = TokenSet(
    access_token=SecretStr("at-0123456789"),
    token_type="dpop",
    refresh_token=SecretStr("rt-0123456789"),
    extra={KEY: OLD_KEY},
)
BOUND = json_answer({"access_token": "at-2", "token_type": "DPoP", "expires_in": 60})
BEARER = json_answer({"access_token": "at-2", "token_type": "Bearer", "expires_in": 60})
FLOW = OAuth2CodeFlow()


def asks(nonce: str) -> HttpResponse:
    return evolve(json_answer({"error": "use_dpop_nonce"}, 400), headers=(("DPoP-Nonce", nonce),))


def context(record: AuthSpec = CODE, **more: Any) -> AuthContext:
    return client_context(record, **{"jose": JOSE, "random": RANDOM.randbytes, **more})


def proof_of(request: HttpRequest) -> tuple[str, dict[str, Any]]:
    """The public key's coordinate and the claims; the plugin's own tests check the signature."""
    head, claims, _ = (request.header("DPoP") or "").split(".")
    read = [json.loads(urlsafe_b64decode(part + "==")) for part in (head, claims)]
    return read[0]["jwk"]["x"], read[1]


def consented(record: OAuth2Code, *answers: HttpResponse) -> tuple[TokenSet, list[HttpRequest], str]:
    """The tokens of a consent, the token requests, and the consent's URL."""
    ctx = context(record)
    start, _ = run(FLOW.begin(ctx), *([json_answer({"request_uri": "urn:x"})] if record.par_url else []))
    tokens, sent = run(FLOW.complete(evolve(ctx, memory=start.memory), {"code": "c"}), *answers)
    return tokens, sent, start.url


def test_consent_names_the_key_that_the_code_is_then_exchanged_with() -> None:
    tokens, (request,), url = consented(CODE, BOUND)
    key = tokens.extra[KEY]
    assert parse_qs(urlsplit(url).query)["dpop_jkt"] == [JOSE.thumbprint(key)]
    assert tokens.token_type == "dpop"
    _, claims = proof_of(request)
    assert (claims["htm"], claims["htu"]) == ("POST", TOKEN_URL)
    assert "nonce" not in claims
    assert "ath" not in claims
    assert key.reveal() not in repr(tokens)


def test_pushed_request_names_the_key() -> None:  # RFC 9449 §10.1
    ctx = context(evolve(CODE, par_url="https://id.example/par"))
    start, (pushed,) = run(FLOW.begin(ctx), json_answer({"request_uri": "urn:x"}))
    assert form_of(pushed)["dpop_jkt"] == JOSE.thumbprint(start.memory[KEY])
    assert "dpop_jkt" not in start.url


def test_each_consent_has_a_key_of_its_own() -> None:
    ctx = context()
    one, two = (run(FLOW.begin(ctx))[0].memory[KEY] for _ in range(2))
    assert JOSE.thumbprint(one) != JOSE.thumbprint(two)


def test_renewal_proves_the_key_that_the_refresh_token_is_bound_to_and_keeps_it() -> None:
    tokens, (request,) = run(FLOW.refresh(context(), held(CODE, TOKENS)), BOUND)
    assert JOSE.thumbprint(tokens.extra[KEY]) == JOSE.thumbprint(OLD_KEY)
    kept = carry_over(tokens, TOKENS)
    assert kept.extra[KEY] == OLD_KEY
    again, (second,) = run(FLOW.refresh(context(), held(CODE, kept)), BOUND)
    assert proof_of(request)[0] == proof_of(second)[0]
    assert is_bound(again)


def test_connection_from_before_is_bound_when_it_is_renewed() -> None:
    before = TokenSet(access_token=SecretStr("at-0123456789"), refresh_token=SecretStr("rt-0123456789"))
    assert signer_of(CODE, before) == "bearer"
    tokens, (request,) = run(FLOW.refresh(context(), held(CODE, before)), BOUND)
    assert request.header("DPoP") is not None
    assert signer_of(CODE, carry_over(tokens, before)) == "dpop"


def test_request_is_made_anew_and_sent_once_more_with_the_nonce_that_was_asked_for() -> None:
    """An assertion and a proof work once each."""
    key = JOSE.new_proof_key(Random(4).randbytes)
    settings = OAuth2Settings(client_id="client-1", client_key=key)
    ctx = context(evolve(CODE, client_auth="private_key_jwt"), settings=settings)
    _, (first, second) = run(FLOW.refresh(ctx, held(CODE, TOKENS)), asks("n-1"), BOUND)
    before, after = proof_of(first)[1], proof_of(second)[1]
    assert (before.get("nonce"), after["nonce"]) == (None, "n-1")
    assert before["jti"] != after["jti"]
    one, two = form_of(first), form_of(second)
    assert one.pop("client_assertion") != two.pop("client_assertion")
    assert one == two


def test_second_demand_for_a_nonce_is_an_error_and_no_loop() -> None:
    with pytest.raises(TokenEndpointError) as refused:
        run(FLOW.refresh(context(), held(CODE, TOKENS)), asks("n-1"), asks("n-2"))
    assert refused.value.error == "use_dpop_nonce"


def test_nonces_of_good_and_bad_answers_are_sent_with_the_next_request_to_the_server() -> None:  # RFC 9449 §8.2
    nonces = DpopNonces()

    def sent(answer: HttpResponse) -> Any:
        flow = FLOW.refresh(context(nonces=nonces), held(CODE, TOKENS))
        request = next(flow)
        assert isinstance(request, HttpRequest)
        with suppress(StopIteration, TokenEndpointError):
            flow.send(answer)
        return proof_of(request)[1].get("nonce")

    offering = [evolve(BOUND, headers=(("DPoP-Nonce", "n-1"),))]
    offering.append(evolve(json_answer({"error": "invalid_client"}, 401), headers=(("DPoP-Nonce", "n-2"),)))
    assert [sent(answer) for answer in (*offering, BOUND, BOUND)] == [None, "n-1", "n-2", "n-2"]


def test_nonce_of_a_pushed_request_serves_the_exchange() -> None:
    record = evolve(CODE, par_url="https://id.example/par")
    nonces = DpopNonces()
    pushed = HttpResponse(201, (("DPoP-Nonce", "from-par"),), b'{"request_uri":"urn:x"}')
    start, _ = run(FLOW.begin(context(record, nonces=nonces)), pushed)
    ctx = context(record, nonces=nonces, memory=start.memory)
    _, (request,) = run(FLOW.complete(ctx, {"code": "c"}), BOUND)
    assert proof_of(request)[1]["nonce"] == "from-par"


def test_token_that_is_not_bound_is_refused_where_the_record_requires_it() -> None:  # RFC 9449 §5
    for answers in ((BEARER,), (asks("n"), BEARER)):
        with pytest.raises(TokenResponseInvalid) as refused:
            run(FLOW.refresh(context(), held(CODE, TOKENS)), *answers)
        assert refused.value.field == "token_type"
        assert "at-2" not in str(refused.value)
    with pytest.raises(TokenResponseInvalid):
        consented(CODE, BEARER)


def test_token_that_is_not_bound_is_taken_as_it_is_where_the_record_only_prefers_it() -> None:
    preferring = evolve(CODE, dpop="preferred")
    tokens, (request,), url = consented(preferring, BEARER)
    assert "dpop_jkt" in url
    assert request.header("DPoP") is not None
    assert (tokens.token_type, tokens.extra) == ("bearer", {})
    assert signer_of(preferring, tokens) == "bearer"
    tokens, _, _ = consented(preferring, BOUND)
    assert signer_of(preferring, tokens) == "dpop"


def test_record_without_dpop_sends_no_proof_and_wants_no_key() -> None:
    tokens, (request,), url = consented(evolve(CODE, dpop="off"), BEARER)
    assert "dpop_jkt" not in url
    assert request.header("DPoP") is None
    assert not is_bound(tokens)


def test_bound_tokens_are_signed_by_dpop_and_a_signer_of_the_records_own_stays() -> None:
    assert signer_of(CODE, TOKENS) == "dpop"
    assert signer_of(evolve(CODE, dpop="off"), TOKENS) == "dpop", "tokens from before a change of the record"
    assert signer_of(CODE, evolve(TOKENS, token_type="bearer")) == "bearer"
    assert signer_of(CODE, evolve(TOKENS, extra={})) == "bearer"
    assert signer_of(evolve(CODE, signer="acme"), TOKENS) == "acme"


def test_revocation_carries_no_proof() -> None:
    ctx = context()
    _, sent = run(FLOW.revoke(ctx, held(CODE, TOKENS)), HttpResponse(200), HttpResponse(200))
    assert [request.header("DPoP") for request in sent] == [None, None]


def test_device_proves_one_key_at_every_question() -> None:
    record = DeviceCode(token_url=TOKEN_URL, device_authorization_url="https://id.example/device", dpop="required")
    prompt = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.example/d", "expires_in": 600}
    start, (asked,) = run(DeviceCodeFlow().begin(context(record)), json_answer(prompt))
    assert asked.header("DPoP") is None
    keys = set()
    for _ in range(2):
        tokens, (request,) = run(DeviceCodeFlow().complete(context(record, memory=start.memory), {}), BOUND)
        keys.add(proof_of(request)[0])
        assert tokens.extra[KEY] == start.memory[KEY]
    assert len(keys) == 1


def test_application_and_exchanged_token_keep_their_key_when_they_renew() -> None:
    credentials = ClientCredentials(token_url=TOKEN_URL, dpop="required")
    tokens, (first,) = run(ClientCredentialsFlow().complete(context(credentials), {}), BOUND)
    _, (second,) = run(ClientCredentialsFlow().refresh(context(credentials), held(credentials, tokens)), BOUND)
    assert proof_of(first)[0] == proof_of(second)[0]

    exchange = TokenExchange(token_url=TOKEN_URL, dpop="required")
    tokens, (first,) = run(TokenExchangeFlow().complete(context(exchange), concealed({"subject_token": "st"})), BOUND)
    _, (second,) = run(TokenExchangeFlow().refresh(context(exchange), held(exchange, tokens)), BOUND)
    assert proof_of(first)[0] == proof_of(second)[0]


def test_missing_plugin_is_told_before_the_person_consents() -> None:
    device = DeviceCode(token_url=TOKEN_URL, device_authorization_url="https://id.example/device", dpop="required")
    credentials = ClientCredentials(token_url=TOKEN_URL, dpop="preferred")
    for flow in (
        FLOW.begin(context(jose=None)),
        DeviceCodeFlow().begin(context(device, jose=None)),
        ClientCredentialsFlow().complete(context(credentials, jose=None), {}),
    ):
        with pytest.raises(ConfigError, match="dpop") as told:
            next(flow)
        assert "go-services-auth-jwt" in str(told.value)


def test_token_is_bound_in_one_way() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        evolve(CODE, certificate_bound_tokens=True)
    with pytest.raises(ValueError, match="dpop"):
        evolve(CODE, dpop="always")
