"""The token and revocation endpoints over real sockets."""

from __future__ import annotations

from urllib.parse import parse_qsl

import aiohttp
import pytest

from go_services_core.errors import BadInput
from go_services_core.testing.sandbox import Sandbox

REDIRECT = "http://127.0.0.1:8123/callback"
VERIFIER = "correct-horse-battery-staple-0123456789-abcdefg"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(user, password)}


async def test_code_becomes_tokens(client):
    answer = await client.exchange(await client.code())
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["access_token"].startswith("sbx_at_")
    assert answer.json["refresh_token"].startswith("sbx_rt_")
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 3600)
    assert answer.json["scope"] == "items.read items.write"
    assert await client.works(answer.json["access_token"])


# --- the client ----------------------------------------------------------------------------------------------------


async def test_client_may_authenticate_in_the_body(client, sandbox):
    secret = sandbox.client_secret.reveal()
    fields = {"client_id": sandbox.client_id, "client_secret": secret}
    answer = await client.exchange(await client.code(), headers={"Accept": "*/*"}, **fields)
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/token", "/revoke"])
async def test_wrong_client_is_refused_with_a_challenge(client, sandbox, path):
    secret = sandbox.client_secret.reveal()
    for headers in (
        basic(sandbox.client_id, "wrong"),
        basic("wrong", secret),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic bm9jb2xvbg=="},
        {"Authorization": f"Bearer {secret}"},
        {"Accept": "*/*"},
    ):
        answer = await client.form(path, {"grant_type": "refresh_token", "token": "x"}, headers)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.headers["Cache-Control"] == "no-store"
    wrong = {"client_id": sandbox.client_id, "client_secret": "wrong"}
    assert (await client.form(path, wrong, {"Accept": "*/*"})).status == 401


async def test_client_credentials_of_a_basic_header_are_form_decoded(client, sandbox):
    code = await client.code()
    encoded = "".join(f"%{byte:02X}" for byte in sandbox.client_secret.reveal().encode())
    assert (await client.exchange(code, basic(sandbox.client_id, encoded))).status == 200


async def test_client_that_authenticates_twice_is_refused(client, sandbox):
    code = await client.code()
    answer = await client.exchange(code, client_secret=sandbox.client_secret.reveal())
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert (await client.exchange(code, client_id="another")).json["error"] == "invalid_request"
    assert (await client.exchange(code, client_id=sandbox.client_id)).status == 200


# --- the shape of the request --------------------------------------------------------------------------------------


async def test_repeated_parameters_and_other_content_types_are_refused(client):
    code = await client.code()
    valid = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    repeated = await client.form("/token", [*valid.items(), ("code", code)])
    assert (repeated.status, repeated.json["error"]) == (400, "invalid_request")
    as_json = await client.send("POST", "/token", json={"code": code}, headers=client.basic())
    assert (as_json.status, as_json.json["error"]) == (400, "invalid_request")
    in_url = await client.form("/token?state=x", valid)
    assert (in_url.status, in_url.json["error"]) == (400, "invalid_request")
    not_ascii = await client.send(
        "POST",
        "/token",
        data=b"code=\xff",
        headers={**client.basic(), "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (not_ascii.status, not_ascii.json["error"]) == (400, "invalid_request")
    assert (await client.exchange(code)).status == 200


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "sbx_rt_unknown"}, "invalid_grant"),
    ],
)
async def test_incomplete_and_unknown_requests_are_refused(client, fields, error):
    answer = await client.form("/token", fields)
    assert (answer.status, answer.json["error"]) == (400, error)


async def test_token_endpoint_takes_post_only(client):
    assert (await client.get("/token")).status == 405


# --- codes ---------------------------------------------------------------------------------------------------------


async def test_code_used_twice_revokes_what_came_from_it(client):
    code = await client.code()
    tokens = (await client.exchange(code)).json
    again = await client.exchange(code)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert not await client.works(tokens["access_token"])
    assert (await client.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"redirect_uri": "http://127.0.0.1:8124/callback"}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_request"),
        ({"code_verifier": "wrong-horse-battery-staple-0123456789-abcdefghi"}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code": "sbx_code_unknown"}, "invalid_grant"),
        ({"code": ""}, "invalid_request"),
    ],
)
async def test_code_is_bound_to_redirect_uri_and_verifier(client, change, error):
    answer = await client.exchange(**{"code": await client.code(), **change})
    assert (answer.status, answer.json["error"]) == (400, error)


async def test_failed_attempt_spends_the_code(client):
    code = await client.code()
    await client.exchange(code, redirect_uri="http://127.0.0.1:8124/callback")
    assert (await client.exchange(code)).json["error"] == "invalid_grant"


async def test_code_expires_after_a_minute(client, clock):
    early, late = await client.code(), await client.code()
    clock.advance(59)
    assert (await client.exchange(early)).status == 200
    clock.advance(1)
    assert (await client.exchange(late)).json["error"] == "invalid_grant"


# --- refresh tokens ------------------------------------------------------------------------------------------------


async def test_refresh_rotates_and_the_new_token_works(client):
    tokens = await client.tokens()
    renewed = (await client.refresh(tokens["refresh_token"])).json
    assert renewed["refresh_token"] != tokens["refresh_token"]
    assert renewed["scope"] == "items.read items.write"
    assert await client.works(renewed["access_token"])
    assert (await client.refresh(renewed["refresh_token"])).status == 200


async def test_reuse_of_a_refresh_token_ends_the_whole_family_and_no_other(client):
    other, tokens = await client.tokens(), await client.tokens()
    renewed = (await client.refresh(tokens["refresh_token"])).json
    reused = await client.refresh(tokens["refresh_token"])
    assert (reused.status, reused.json["error"]) == (400, "invalid_grant")
    assert not await client.works(renewed["access_token"])
    assert (await client.refresh(renewed["refresh_token"])).json["error"] == "invalid_grant"
    assert await client.works(other["access_token"])
    assert (await client.refresh(other["refresh_token"])).status == 200


async def test_refresh_narrows_the_scope_of_the_access_token_only(client):
    tokens = await client.tokens()
    narrow = (await client.refresh(tokens["refresh_token"], scope="items.read")).json
    assert narrow["scope"] == "items.read"
    body = {"name": "x"}
    headers = {"Authorization": f"Bearer {narrow['access_token']}"}
    assert (await client.send("POST", "/items", json=body, headers=headers)).status == 403
    assert (await client.refresh(narrow["refresh_token"])).json["scope"] == "items.read items.write"


async def test_refresh_cannot_widen_the_scope_and_spends_nothing_when_it_tries(client):
    tokens = await client.tokens(scope="items.read")
    wider = await client.refresh(tokens["refresh_token"], scope="items.read items.write")
    assert (wider.status, wider.json["error"]) == (400, "invalid_scope")
    assert (await client.refresh(tokens["refresh_token"], scope="admin")).json["error"] == "invalid_scope"
    assert (await client.refresh(tokens["refresh_token"])).status == 200


async def test_refresh_token_expires_when_it_has_a_lifetime(client, sandbox, clock):
    sandbox.refresh_token_lifetime = 100
    tokens = await client.tokens()
    clock.advance(100)
    assert (await client.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"


async def test_without_rotation_the_refresh_token_stays(client, sandbox):
    sandbox.rotation = "none"
    tokens = await client.tokens()
    for _ in range(2):
        answer = await client.refresh(tokens["refresh_token"])
        assert (answer.status, "refresh_token" in answer.json) == (200, False)


async def test_grace_lets_a_used_token_work_for_a_while(client, sandbox, clock):
    sandbox.rotation, sandbox.rotation_grace = "single-use-grace", 10
    tokens = await client.tokens()
    first = (await client.refresh(tokens["refresh_token"])).json
    clock.advance(9)
    second = (await client.refresh(tokens["refresh_token"])).json
    assert await client.works(first["access_token"])
    assert await client.works(second["access_token"])
    clock.advance(1)
    assert (await client.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"
    assert not await client.works(second["access_token"])


def test_unknown_rotation_is_refused():
    with pytest.raises(BadInput, match="single-use"):
        Sandbox(rotation="sometimes")


# --- variations of the answer --------------------------------------------------------------------------------------


async def test_answer_can_be_form_encoded(client, sandbox):
    sandbox.token_answer = "form"
    answer = await client.exchange(await client.code())
    assert answer.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    fields = dict(parse_qsl(answer.text))
    assert fields["expires_in"] == "3600"
    assert await client.works(fields["access_token"])


async def test_error_in_a_200_exchanges_nothing(client, sandbox):
    code, tokens = await client.code(), await client.tokens()
    sandbox.token_answer = "error-200"
    for answer, error in (
        (await client.exchange(code), "bad_verification_code"),
        (await client.refresh(tokens["refresh_token"]), "bad_refresh_token"),
    ):
        assert (answer.status, answer.json["error"]) == (200, error)
        assert "access_token" not in answer.json
    sandbox.token_answer = "json"
    assert (await client.exchange(code)).status == 200
    assert (await client.refresh(tokens["refresh_token"])).status == 200


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("expires-string", {"expires_in": "3600"}),
        ("no-expires", {"expires_in": None}),
        ("no-scope", {"scope": None}),
        ("no-refresh", {"refresh_token": None}),
    ],
)
async def test_answer_can_vary_one_field(client, sandbox, kind, expected):
    sandbox.token_answers.set(kind, times=1)
    varied = await client.tokens()
    assert {name: varied.get(name) for name in expected} == expected
    normal = await client.tokens()
    assert all(normal[name] not in (None, value) for name, value in expected.items())


async def test_refresh_answer_without_a_refresh_token_keeps_the_old_one_alive(client, sandbox):
    tokens = await client.tokens()
    sandbox.token_answers.set("no-refresh", times=2)
    for _ in range(2):
        assert "refresh_token" not in (await client.refresh(tokens["refresh_token"])).json
    assert "refresh_token" in (await client.refresh(tokens["refresh_token"])).json


@pytest.mark.parametrize(("kind", "content_type"), [("html", "text/html"), ("empty", "application/json")])
async def test_unreadable_answer_hides_a_rotation_that_happened(client, sandbox, kind, content_type):
    tokens = await client.tokens()
    sandbox.token_answers.set(kind, times=1)
    answer = await client.refresh(tokens["refresh_token"])
    assert (answer.status, answer.json) == (200, None)
    assert answer.headers["Content-Type"].startswith(content_type)
    assert (await client.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"


def test_unknown_variation_is_refused():
    sandbox = Sandbox()
    with pytest.raises(BadInput, match="error-200"):
        sandbox.token_answer = "xml"
    with pytest.raises(BadInput, match="at least 1"):
        sandbox.token_answers.set("form", times=0)
    assert sandbox.token_answer == "json"


# --- lifetime and revocation ---------------------------------------------------------------------------------------


async def test_access_token_lives_as_long_as_the_answer_says(client, sandbox, clock):
    sandbox.access_token_lifetime = 5
    tokens = await client.tokens()
    assert tokens["expires_in"] == 5
    clock.advance(4)
    assert await client.works(tokens["access_token"])
    clock.advance(1)
    assert not await client.works(tokens["access_token"])


async def test_access_tokens_can_be_expired_at_once(client, sandbox):
    tokens = await client.tokens()
    sandbox.expire_access_tokens()
    assert not await client.works(tokens["access_token"])
    renewed = (await client.refresh(tokens["refresh_token"])).json
    assert await client.works(renewed["access_token"])


@pytest.mark.parametrize("name", ["refresh_token", "access_token"])
async def test_revocation_ends_the_family_and_no_other(client, name):
    other, tokens = await client.tokens(), await client.tokens()
    answer = await client.form("/revoke", {"token": tokens[name], "token_type_hint": "nonsense"})
    assert (answer.status, answer.text) == (200, "")
    assert not await client.works(tokens["access_token"])
    assert (await client.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"
    assert await client.works(other["access_token"])


async def test_revocation_of_an_unknown_token_succeeds_and_of_none_does_not(client):
    assert (await client.form("/revoke", {"token": "sbx_at_unknown"})).status == 200
    assert (await client.form("/revoke", {"token_type_hint": "access_token"})).json["error"] == "invalid_request"


async def test_issued_secrets_are_all_codes_and_tokens(client, sandbox):
    code = await client.code()
    tokens = (await client.exchange(code)).json
    renewed = (await client.refresh(tokens["refresh_token"])).json
    issued = {code, *(answer[name] for answer in (tokens, renewed) for name in ("access_token", "refresh_token"))}
    assert sandbox.issued_secrets() == issued
