"""Discovery, request by request, and the record that is made of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_core.auth.discovery import ServerMetadata, code_record, discover
from go_services_core.auth.settings import OAuth2Settings
from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import (
    BadInput,
    MetadataInvalid,
    MetadataNotFound,
    ProviderUnavailable,
    RateLimited,
    ServicesError,
)
from go_services_core.http import HttpResponse
from go_services_core.secret import SecretStr

from .driving import json_answer, run

ISSUER = "https://id.example"
SAID: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "pushed_authorization_request_endpoint": "https://id.example/par",
    "device_authorization_endpoint": "https://id.example/device",
    "revocation_endpoint": "https://id.example/revoke",
    "introspection_endpoint": "https://id.example/introspect",
    "registration_endpoint": "https://id.example/register",
    "userinfo_endpoint": "https://id.example/me",
    "jwks_uri": "https://id.example/jwks",
    "scopes_supported": ["openid", "email"],
    "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post", "client_secret_basic"],
    "code_challenge_methods_supported": ["plain", "S256"],
    "authorization_response_iss_parameter_supported": True,
    "require_pushed_authorization_requests": True,
}
ENDPOINTS = [name for name, value in SAID.items() if isinstance(value, str) and name != "issuer"]
ABSENT = HttpResponse(404)


def read(said: Any, **options: Any) -> ServerMetadata:
    found, _ = run(discover(ISSUER, **options), json_answer(said))
    return found


def test_everything_that_is_known_is_read() -> None:
    found = read(SAID)
    assert found == ServerMetadata(
        issuer=ISSUER,
        authorize_url="https://id.example/authorize",
        token_url="https://id.example/token",
        par_url="https://id.example/par",
        device_authorization_url="https://id.example/device",
        revocation_url="https://id.example/revoke",
        introspection_url="https://id.example/introspect",
        registration_url="https://id.example/register",
        userinfo_url="https://id.example/me",
        jwks_url="https://id.example/jwks",
        grants=("openid", "email"),
        client_auth_methods=("private_key_jwt", "client_secret_post", "client_secret_basic"),
        pkce_methods=("plain", "S256"),
        authorization_response_iss=True,
        par_required=True,
        document=SAID,
    )


@pytest.mark.parametrize(
    ("issuer", "places"),
    [
        (
            "https://id.example",
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration",
            ],
        ),
        (
            "https://id.example:8443/tenant/1",
            [
                "https://id.example:8443/.well-known/oauth-authorization-server/tenant/1",
                "https://id.example:8443/tenant/1/.well-known/openid-configuration",
            ],
        ),
        (
            "https://id.example/t/",
            [
                "https://id.example/.well-known/oauth-authorization-server/t",
                "https://id.example/t/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_both_places_are_asked_in_their_order(issuer: str, places: list[str]) -> None:
    """RFC 8414 §3.1, OpenID Connect Discovery §4.1."""
    found, requests = run(discover(issuer), ABSENT, json_answer({"issuer": issuer}))
    assert [request.url for request in requests] == places
    assert {request.method for request in requests} == {"GET"}
    assert found.issuer == issuer
    found, (request,) = run(discover(issuer), json_answer({"issuer": issuer}))
    assert request.url == places[0]


@pytest.mark.parametrize("answer", [ABSENT, HttpResponse(403), HttpResponse(302, (("Location", "https://x.example"),))])
def test_server_without_metadata_is_typed(answer: HttpResponse) -> None:
    with pytest.raises(MetadataNotFound) as caught:
        run(discover(ISSUER), answer, answer)
    assert caught.value.metadata == {"issuer": ISSUER}


def test_failing_server_is_not_one_without_metadata() -> None:
    with pytest.raises(ProviderUnavailable):
        run(discover(ISSUER), HttpResponse(503))
    with pytest.raises(RateLimited):
        run(discover(ISSUER), HttpResponse(429))


@pytest.mark.parametrize(
    "issuer", [None, "", "https://id.example/", "https://ID.example", "https://evil.example", ["https://id.example"]]
)
def test_metadata_of_another_issuer_is_refused(issuer: Any) -> None:  # P05, RFC 8414 §3.3
    with pytest.raises(MetadataInvalid) as caught:
        read({**SAID, "issuer": issuer})
    assert caught.value.field == "issuer"


@pytest.mark.parametrize("member", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/x",
        "https://evil.example/x",
        "https://id.example.evil.example/x",
        "https://id.example@evil.example/x",
        "https://id.example\\@evil.example/x",
        "https://id.example:8443/x",
        "https://id.example/x#y",
        "//id.example/x",
        "",
        7,
        ["https://id.example/x"],
    ],
)
def test_endpoint_elsewhere_or_without_tls_is_refused(member: str, url: Any) -> None:
    """RFC 9700 §4.4: what a server says of itself sends neither codes nor secrets to somebody else."""
    with pytest.raises(MetadataInvalid) as caught:
        read({**SAID, member: url})
    assert caught.value.field == member
    assert "evil" not in str(caught.value)


def test_endpoint_on_a_host_that_the_caller_allows_is_taken() -> None:
    said = {**SAID, "token_endpoint": "https://oauth2.api.example/token"}
    assert read(said, hosts=("*.api.example",)).token_url == "https://oauth2.api.example/token"


@pytest.mark.parametrize(
    "issuer",
    ["", "id.example", "http://id.example", "https://", "https://id.example?x", "https://id.example#", "https://[x"],
)
def test_issuer_that_is_no_https_url_is_not_asked(issuer: str) -> None:
    with pytest.raises(BadInput) as caught:
        run(discover(issuer))
    assert caught.value.field == "issuer"


def test_plain_http_is_taken_only_where_it_is_allowed() -> None:
    issuer = "http://127.0.0.1:8080"
    found, _ = run(
        discover(issuer, plain_http=True), json_answer({"issuer": issuer, "token_endpoint": f"{issuer}/token"})
    )
    assert found.token_url == "http://127.0.0.1:8080/token"


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'"x"', b"null", b"[" * 200_000])
def test_what_is_no_metadata_is_typed(body: bytes) -> None:
    with pytest.raises(MetadataInvalid):
        run(discover(ISSUER), HttpResponse(200, (), body))


JSON = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text() | st.integers(), max_size=2)


@settings(deadline=None)
@given(said=st.dictionaries(st.sampled_from(list(SAID)), JSON))
def test_no_metadata_fails_untyped_and_none_leads_elsewhere(said: dict[str, Any]) -> None:
    with suppress(ServicesError):
        record = code_record(read({**SAID, **said}))
        assert record.token_url.startswith("https://id.example/")
        assert record.authorize_url.startswith("https://id.example/")


# --- the record ----------------------------------------------------------------------------------------------------


def test_record_is_made_of_the_metadata() -> None:
    record = code_record(read(SAID), default_grants=("email",), rotation="none")
    assert record == OAuth2Code(
        issuer=ISSUER,
        authorize_url="https://id.example/authorize",
        token_url="https://id.example/token",
        par_url="https://id.example/par",
        revocation_url="https://id.example/revoke",
        introspection_url="https://id.example/introspect",
        jwks_url="https://id.example/jwks",
        userinfo_url="https://id.example/me",
        authorization_response_iss=True,
        client_auth="basic",
        default_grants=("email",),
        rotation="none",
    )


def test_server_that_does_not_promise_iss_is_not_asked_for_it() -> None:  # RFC 9207 §3
    assert not code_record(
        read({**SAID, "authorization_response_iss_parameter_supported": "yes"})
    ).authorization_response_iss


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (["client_secret_post"], "post"),
        (["none", "private_key_jwt"], "none"),
        (["none", "client_secret_post"], "post"),
        (None, "basic"),
    ],
)
def test_client_authenticates_in_a_way_that_the_server_knows(methods: Any, expected: str) -> None:
    said = {**SAID, "token_endpoint_auth_methods_supported": methods}
    assert code_record(read(said)).client_auth == expected


def test_server_that_knows_only_other_ways_is_refused_unless_told() -> None:
    found = read({**SAID, "token_endpoint_auth_methods_supported": ["tls_client_auth"]})
    with pytest.raises(MetadataInvalid, match="tls_client_auth"):
        code_record(found)
    assert code_record(found, client_auth="none").client_auth == "none"


KEY = {"client_key": SecretStr("k")}
CERTIFICATE = {"client_certificate": SecretStr("c"), "client_private_key": SecretStr("k")}
SECRET = {"client_secret": SecretStr("s")}


@pytest.mark.parametrize(
    ("methods", "has", "expected"),
    [
        (["client_secret_basic", "private_key_jwt"], {**KEY, **SECRET}, "private_key_jwt"),
        (["client_secret_basic", "private_key_jwt"], SECRET, "basic"),
        (["client_secret_basic"], {**KEY, **SECRET}, "basic"),
        (["client_secret_jwt", "private_key_jwt"], SECRET, "client_secret_jwt"),
        (["tls_client_auth", "client_secret_post"], {**CERTIFICATE, **SECRET}, "tls"),
        (["self_signed_tls_client_auth", "none"], CERTIFICATE, "tls"),
        (["private_key_jwt", "none", "client_secret_post"], {}, "none"),
    ],
)
def test_client_takes_the_best_way_that_its_settings_make_possible(
    methods: list[str], has: dict[str, Any], expected: str
) -> None:
    found = read({**SAID, "token_endpoint_auth_methods_supported": methods})
    assert code_record(found, settings=OAuth2Settings(client_id="c", **has)).client_auth == expected


@pytest.mark.parametrize("has", [{}, {"client_certificate": SecretStr("c")}, SECRET])
def test_client_without_what_the_server_wants_is_told(has: dict[str, Any]) -> None:
    found = read({**SAID, "token_endpoint_auth_methods_supported": ["private_key_jwt", "tls_client_auth"]})
    with pytest.raises(MetadataInvalid, match="private_key_jwt, tls_client_auth") as caught:
        code_record(found, settings=OAuth2Settings(client_id="c", **has))
    assert caught.value.field == "client_auth"


def test_aliases_for_clients_with_a_certificate_are_taken_from_the_servers_own_hosts() -> None:  # RFC 8705 §5
    aliases = {
        "token_endpoint": "https://mtls.id.example/token",
        "revocation_endpoint": "https://evil.example/revoke",
        "introspection_endpoint": 7,
        "made_up": "https://mtls.id.example/other",
    }
    found = read({**SAID, "mtls_endpoint_aliases": aliases}, hosts=("mtls.id.example",))
    assert code_record(found).mtls_endpoints == {"token_endpoint": "https://mtls.id.example/token"}
    assert read({**SAID, "mtls_endpoint_aliases": aliases}).mtls_endpoints == {}
    assert read({**SAID, "mtls_endpoint_aliases": ["x"]}).mtls_endpoints == {}


def test_server_without_s256_gets_a_weaker_challenge_only_when_told() -> None:  # P06, RFC 9700 §4.8.2
    found = read({**SAID, "code_challenge_methods_supported": ["plain"]})
    with pytest.raises(MetadataInvalid) as caught:
        code_record(found)
    assert caught.value.field == "pkce"
    assert code_record(found, pkce="plain").pkce == "plain"
    assert code_record(evolve(found, pkce_methods=None)).pkce == "S256"


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
def test_server_without_the_code_flow_is_refused(name: str) -> None:
    with pytest.raises(MetadataInvalid):
        code_record(read({**SAID, name: None}))
