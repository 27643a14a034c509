"""OAuth clients with a certificate (RFC 8705), request by request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth.token_endpoint import client_request
from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import ConfigError
from go_services_core.http import ClientCertificate, HttpRequest, HttpResponse
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext, SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.bearer import BearerSigner
from go_services_core.testing.clock import FrozenClock

from .driving import form_of, json_answer, run

RECORD = OAuth2Code(
    authorize_url="https://id.example/authorize",
    token_url="https://id.example/token",
    revocation_url="https://id.example/revoke",
    client_auth="tls",
)
SETTINGS = OAuth2Settings(
    client_id="cid",
    client_secret=SecretStr("s3cret-unused"),
    client_certificate=SecretStr("the certificate"),
    client_private_key=SecretStr("the key"),
    client_key_passphrase=SecretStr("the passphrase"),
)
IDENTITY = ClientCertificate(
    certificate="the certificate", private_key=SecretStr("the key"), passphrase=SecretStr("the passphrase")
)
FLOW = OAuth2CodeFlow()
TOKENS = TokenSet(access_token=SecretStr("at-0123456789"), refresh_token=SecretStr("rt-0123456789"))
HELD = Credential(connection_id="c", version=1, auth_kind="oauth2_auth_code", tokens=TOKENS)
ANSWER = json_answer({"access_token": "at-2", "token_type": "bearer"})


def context(record: OAuth2Code = RECORD, settings: Any = SETTINGS) -> AuthContext:
    return AuthContext(
        provider_id="acme",
        auth=record,
        settings=settings,
        scope=Scope("user", "u1"),
        now=datetime(2026, 1, 1, tzinfo=UTC),
        random=FrozenClock().random,
    )


def requests_of(ctx: AuthContext) -> list[HttpRequest]:
    """Those of code, refresh and revocation."""
    sent = run(FLOW.complete(ctx, {"code": "the-code"}), ANSWER)[1]
    sent += run(FLOW.refresh(ctx, HELD), ANSWER)[1]
    return sent + run(FLOW.revoke(ctx, HELD), HttpResponse(200), HttpResponse(200))[1]


def test_every_request_presents_the_certificate_and_names_the_client_without_a_secret() -> None:
    sent = requests_of(context())
    assert len(sent) == 4
    for request in sent:
        assert request.client_certificate == IDENTITY
        assert form_of(request)["client_id"] == "cid"
        assert "client_secret" not in form_of(request)
        assert request.header("Authorization") is None


def test_aliases_are_used_where_the_record_has_them_and_the_client_a_certificate() -> None:
    record = evolve(RECORD, mtls_endpoints={"token_endpoint": "https://mtls.id.example/token"})
    assert [request.url for request in requests_of(context(record))] == [
        "https://mtls.id.example/token",
        "https://mtls.id.example/token",
        "https://id.example/revoke",
        "https://id.example/revoke",
    ]
    plain = context(evolve(record, client_auth="post"), OAuth2Settings(client_id="cid", client_secret=SecretStr("s")))
    assert {request.url for request in requests_of(plain)} == {"https://id.example/token", "https://id.example/revoke"}
    assert {request.client_certificate for request in requests_of(plain)} == {None}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("par_url", "pushed_authorization_request_endpoint"),
        ("introspection_url", "introspection_endpoint"),
        ("revocation_url", "revocation_endpoint"),
    ],
)
def test_every_endpoint_of_the_client_has_its_alias(field: str, name: str) -> None:
    plain = f"https://id.example/{field}"
    record = evolve(RECORD, **{field: plain}, mtls_endpoints={name: "https://mtls.id.example/it"})
    request, _ = client_request(context(record), plain, {})
    assert (request.url, request.client_certificate) == ("https://mtls.id.example/it", IDENTITY)
    elsewhere, _ = client_request(context(record), "https://id.example/other", {})
    assert elsewhere.url == "https://id.example/other"


@pytest.mark.parametrize("client_auth", ["basic", "post", "none"])
def test_client_with_another_authentication_presents_its_certificate_as_well(client_auth: Any) -> None:
    (request, *_) = requests_of(context(evolve(RECORD, client_auth=client_auth)))
    assert request.client_certificate == IDENTITY
    assert (request.header("Authorization") is not None) == (client_auth == "basic")
    assert ("client_secret" in form_of(request)) == (client_auth == "post")


@pytest.mark.parametrize("missing", ["client_certificate", "client_private_key"])
@pytest.mark.parametrize("record", [RECORD, evolve(RECORD, client_auth="none", certificate_bound_tokens=True)])
def test_missing_half_is_named_before_anything_is_sent(record: OAuth2Code, missing: str) -> None:
    with pytest.raises(ConfigError) as caught:
        requests_of(context(record, evolve(SETTINGS, **{missing: None})))
    assert caught.value.field == f"providers.acme.{missing}"
    with pytest.raises(ConfigError):
        requests_of(context(record, OAuth2Settings(client_id="cid")))


def signed(record: OAuth2Code, tokens: TokenSet) -> HttpRequest:
    credential = evolve(HELD, tokens=tokens)
    key = SigningKey(secret=tokens.access_token, auth=record, credential=credential)
    request = HttpRequest("GET", "https://api.example/")
    return BearerSigner().sign(request, key, SigningContext(context().now, FrozenClock().random))


def test_bound_token_is_used_with_the_certificate_that_it_was_issued_to() -> None:
    record = evolve(RECORD, certificate_bound_tokens=True)
    for flow in (FLOW.complete(context(record), {"code": "c"}), FLOW.refresh(context(record), HELD)):
        tokens = run(flow, ANSWER)[0]
        call = signed(record, tokens)
        assert call.client_certificate == IDENTITY
        assert call.header("Authorization") == "Bearer at-2"
        assert "the key" not in repr(tokens)


def test_token_that_is_not_bound_is_used_without_a_certificate() -> None:
    tokens = run(FLOW.complete(context(), {"code": "c"}), ANSWER)[0]
    assert tokens.extra == {}
    assert signed(RECORD, tokens).client_certificate is None
    bound = evolve(RECORD, certificate_bound_tokens=True)
    assert signed(bound, TOKENS).client_certificate is None
