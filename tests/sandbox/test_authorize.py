"""The authorization endpoint over real sockets."""

from __future__ import annotations

import re

import pytest
from yarl import URL

from go_services_core.errors import BadInput
from go_services_core.testing.sandbox import Account, Sandbox

REDIRECT = "http://127.0.0.1:8123/callback"


async def test_auto_approval_redirects_with_code_state_and_issuer(client, sandbox):
    answer = await client.authorize()
    assert answer.status == 303
    assert answer.redirected_to == REDIRECT
    assert answer.params.keys() == {"code", "state", "iss"}
    assert answer.params["state"] == "s t&="
    assert answer.params["iss"] == sandbox.url
    assert answer.params["code"].startswith("sbx_code_")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_state_that_was_not_sent_is_not_invented(client):
    assert (await client.authorize(state=None)).params.keys() == {"code", "iss"}


@pytest.mark.parametrize("client_id", ["somebody-else", "", None])
async def test_unknown_client_gets_a_page_and_no_redirect(client, client_id):
    answer = await client.authorize(client_id=client_id)
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "http://evil.example/callback",
        "http://127.0.0.1:8123/callback/",
        "http://127.0.0.1:8123/callback/../other",
        "http://127.0.0.1:8123/callback?x=1",
        "http://127.0.0.1:8123/CALLBACK",
        "https://127.0.0.1:8123/callback",
        "http://localhost:8123/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://user@127.0.0.1:8123/callback",
        "http://127.0.0.1:8123x/callback",
        "http://127.0.0.1:8123/callback#part",
        "http://127.0.0.1:8123/callback\n",
    ],
)
async def test_redirect_uri_that_is_not_registered_gets_a_page_and_no_redirect(client, uri):
    answer = await client.authorize(redirect_uri=uri)
    assert (answer.status, "Location" in answer.headers) == (400, False)


@pytest.mark.parametrize("port", [":1", "", ":65535"])
async def test_registered_loopback_address_may_have_any_port(client, port):
    assert (await client.authorize(redirect_uri=f"http://127.0.0.1{port}/callback")).status == 303


async def test_other_hosts_must_match_with_their_port(session, client):
    async with Sandbox(redirect_uris=["https://app.example:444/cb?a=1"]) as client.sandbox:
        kept = await client.authorize(redirect_uri="https://app.example:444/cb?a=1")
        assert (kept.status, kept.params["a"]) == (303, "1")
        assert (await client.authorize(redirect_uri="https://app.example:445/cb?a=1")).status == 400
        assert (await client.authorize()).status == 400


async def test_loopback_address_of_ipv6_may_have_any_port(client):
    async with Sandbox(redirect_uris=["http://[::1]/cb"]) as client.sandbox:
        assert (await client.authorize(redirect_uri="http://[::1]:8123/cb")).status == 303
        assert (await client.authorize(redirect_uri="http://127.0.0.1:8123/cb")).status == 400


@pytest.mark.parametrize("uri", ["/callback", "https://app.example/cb#x", "https:///cb"])
def test_redirect_uri_that_cannot_be_registered_is_refused(uri):
    with pytest.raises(BadInput, match="redirect URI"):
        Sandbox(redirect_uris=[uri])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "=" * 43}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "items.read admin"}, "invalid_scope"),
        ({"scope": "items.read  items.write"}, "invalid_scope"),
    ],
)
async def test_bad_request_of_a_known_client_is_redirected_as_an_error(client, sandbox, change, error):
    answer = await client.authorize(**change)
    assert (answer.status, answer.redirected_to) == (303, REDIRECT)
    assert answer.params["error"] == error
    assert (answer.params["state"], answer.params["iss"]) == ("s t&=", sandbox.url)
    assert "code" not in answer.params


async def test_repeated_parameters_are_refused(client):
    assert (await client.authorize(("scope", "items.read"))).params["error"] == "invalid_request"
    twice = await client.authorize(("state", "other"))
    assert twice.params["error"] == "invalid_request"
    assert "state" not in twice.params
    assert (await client.authorize(("client_id", "other"))).status == 400
    assert (await client.authorize(("redirect_uri", REDIRECT))).status == 400


async def test_query_that_is_not_utf8_gets_a_page(client):
    url = URL(f"{client.sandbox.url}/authorize?client_id=%FF", encoded=True)
    async with client.session.get(url, allow_redirects=False) as answer:
        assert answer.status == 400


async def test_denial_comes_back_as_access_denied_once(client, sandbox):
    sandbox.deny_next = True
    assert (await client.authorize()).params["error"] == "access_denied"
    assert "code" in (await client.authorize()).params
    assert (await client.authorize(deny="1")).params["error"] == "access_denied"


async def test_person_may_grant_less_than_was_asked(client, sandbox):
    sandbox.approve_scopes = {"items.read"}
    assert (await client.tokens())["scope"] == "items.read"
    sandbox.approve_scopes = set()
    assert (await client.authorize()).params["error"] == "access_denied"


async def test_missing_scope_means_reading_only(client):
    assert (await client.tokens(scope=None))["scope"] == "items.read"


async def test_account_at_the_consent_page_can_change(client, sandbox):
    first = (await client.tokens())["access_token"]
    sandbox.account = Account(id="2002", login="bob")
    second = (await client.tokens())["access_token"]
    assert (await client.get("/userinfo", first)).json["id"] == "1001"
    assert (await client.get("/userinfo", second)).json["id"] == "2002"


# --- the page ------------------------------------------------------------------------------------------------------


async def page(client) -> str:
    client.sandbox.auto_approve = False
    answer = await client.authorize()
    assert answer.status == 200
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    return re.search(r'name="consent" value="([^"]+)"', answer.text)[1]


async def test_approval_on_the_page_gives_a_code_that_works(client):
    consent = await page(client)
    answer = await client.form("/authorize/decision", {"consent": consent, "decision": "approve"})
    assert (answer.status, answer.params["state"]) == (303, "s t&=")
    assert (await client.exchange(answer.params["code"])).status == 200


async def test_denial_on_the_page_redirects_with_an_error(client, sandbox):
    consent = await page(client)
    answer = await client.form("/authorize/decision", {"consent": consent, "decision": "deny"})
    assert answer.redirected_to == REDIRECT
    assert answer.params["error"] == "access_denied"
    assert answer.params["iss"] == sandbox.url


async def test_page_can_be_decided_once_and_not_for_ever(client, clock):
    consent = await page(client)
    unclear = await client.form("/authorize/decision", {"consent": consent, "decision": "perhaps"})
    assert unclear.status == 400
    assert (await client.form("/authorize/decision", {"consent": consent, "decision": "deny"})).status == 303
    assert (await client.form("/authorize/decision", {"consent": consent, "decision": "approve"})).status == 400
    late = await page(client)
    clock.advance(600)
    assert (await client.form("/authorize/decision", {"consent": late, "decision": "approve"})).status == 400


async def test_page_escapes_what_it_shows(session, client):
    uri = 'https://app.example/"><script>alert(1)</script>'
    async with Sandbox(auto_approve=False, redirect_uris=[uri], account=Account(name="<b>")) as client.sandbox:
        text = (await client.authorize(redirect_uri=uri)).text
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "&lt;script&gt;" in text


async def test_metadata_names_what_the_server_does(client, sandbox):
    metadata = (await client.get("/.well-known/oauth-authorization-server")).json
    assert metadata["issuer"] == sandbox.url
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    auth = sandbox.spec().auth[0]
    assert metadata["authorization_endpoint"] == auth.authorize_url
    assert metadata["token_endpoint"] == auth.token_url
    assert metadata["revocation_endpoint"] == auth.revocation_url
