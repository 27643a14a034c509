"""The API over real sockets."""

from __future__ import annotations

import re

import aiohttp
import pytest

from go_services_core.testing.sandbox import Account, Sandbox


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def token(client) -> str:
    return (await client.tokens())["access_token"]


def links(answer) -> dict[str, str]:
    return {rel: url for url, rel in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"])}


# --- authorisation -------------------------------------------------------------------------------------------------


async def test_userinfo_tells_whose_token_it_is(client, token):
    answer = await client.get("/userinfo", token)
    assert answer.json == {"id": "1001", "login": "ada", "name": "Ada Example", "email": "ada@sandbox.example"}


@pytest.mark.parametrize("path", ["/userinfo", "/items", "/items/1"])
async def test_request_without_a_token_is_challenged_without_an_error_code(client, path):
    answer = await client.get(path)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="sandbox"')


async def test_unknown_expired_and_misused_tokens_are_invalid(client, sandbox, token):
    refresh_token = (await client.tokens())["refresh_token"]
    sandbox.expire_access_tokens()
    for wrong in (token, "sbx_at_unknown", refresh_token):
        answer = await client.get("/items", wrong)
        assert (answer.status, answer.json["error"]) == (401, "invalid_token")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_token_in_the_url_and_malformed_headers_are_refused(client, token):
    in_url = await client.get(f"/userinfo?access_token={token}", token)
    assert (in_url.status, in_url.json["error"]) == (400, "invalid_request")
    assert (await client.get("/userinfo", f"{token} x")).status == 400
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer other")]
    assert (await client.send("GET", "/userinfo", headers=twice)).status == 400


async def test_missing_scope_is_named(client):
    reader = (await client.tokens(scope="items.read"))["access_token"]
    answer = await client.send("POST", "/items", json={"name": "x"}, headers=bearer(reader))
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert 'scope="items.write"' in answer.headers["WWW-Authenticate"]
    writer = (await client.tokens(scope="items.write"))["access_token"]
    assert (await client.get("/items", writer)).status == 403
    assert (await client.get("/items/1", writer)).status == 403


async def test_every_answer_has_its_own_request_id(client, token):
    answers = [
        await client.get("/items", token),
        await client.get("/items"),
        await client.get("/nowhere"),
        await client.get("/token"),
        await client.authorize(),
        await client.exchange("x"),
    ]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(id.startswith("req_") for id in ids)
    assert len(set(ids)) == len(ids)


# --- items ---------------------------------------------------------------------------------------------------------


async def test_following_next_links_gives_every_item_once(client, sandbox, token):
    url, seen = "/items?per_page=50", []
    while url:
        answer = await client.get(url, token)
        seen += [item["id"] for item in answer.json]
        url = links(answer).get("next", "").removeprefix(sandbox.url)
    assert seen == list(range(1, 121))
    assert sandbox.requests["items.list"] == 3


async def test_link_header_has_the_neighbours_that_exist(client, sandbox, token):
    def page(number):
        return f"{sandbox.url}/items?per_page=50&page={number}"

    assert links(await client.get("/items?per_page=50", token)) == {"first": page(1), "last": page(3), "next": page(2)}
    middle = links(await client.get("/items?per_page=50&page=2", token))
    assert middle == {"first": page(1), "last": page(3), "prev": page(1), "next": page(3)}
    beyond = await client.get("/items?per_page=50&page=9", token)
    assert (beyond.json, links(beyond)) == ([], {"first": page(1), "last": page(3), "prev": page(3)})


async def test_page_has_thirty_items_unless_told(client, token):
    answer = await client.get("/items", token)
    assert [item["id"] for item in answer.json] == list(range(1, 31))
    assert answer.json[0].keys() == {"id", "name", "created_at"}


@pytest.mark.parametrize(
    "query", ["per_page=0", "per_page=101", "page=0", "page=-1", "page=x", "page=٣", "page=1&page=2"]
)
async def test_senseless_pages_are_refused(client, token, query):
    answer = await client.get(f"/items?{query}", token)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


async def test_one_item_by_id(client, token):
    assert (await client.get("/items/7", token)).json["name"] == "Item 7"
    for missing in ("0", "121", "999999999"):
        answer = await client.get(f"/items/{missing}", token)
        assert (answer.status, answer.json["error"]) == (404, "not_found")
    assert (await client.get("/items/x", token)).status == 404


async def create(client, token, key=None, **fields):
    headers = bearer(token) if key is None else {**bearer(token), "Idempotency-Key": key}
    return await client.send("POST", "/items", json=fields, headers=headers)


async def test_created_item_can_be_read_and_is_listed(client, sandbox, token):
    made = await create(client, token, name="Ärger")
    assert (made.status, made.json["id"]) == (201, 121)
    path = made.headers["Location"].removeprefix(sandbox.url)
    assert (await client.get(path, token)).json == made.json
    assert (await client.get("/items?page=5", token)).json == [made.json]


async def test_idempotency_key_makes_one_item_of_two_requests(client, sandbox, token):
    first, again = await create(client, token, "k1", name="a"), await create(client, token, "k1", name="a")
    assert "Idempotent-Replayed" not in first.headers
    assert (again.status, again.headers["Idempotent-Replayed"], again.json) == (201, "true", first.json)
    assert len(sandbox.items) == 121
    assert (await create(client, token, "k2", name="a")).json["id"] == 122
    assert (await create(client, token, name="a")).json["id"] == 123


async def test_idempotency_key_with_another_body_is_refused(client, sandbox, token):
    await create(client, token, "k1", name="a")
    answer = await create(client, token, "k1", name="b")
    assert (answer.status, answer.json["error"]) == (422, "idempotency_key_reused")
    assert len(sandbox.items) == 121


async def test_idempotency_keys_of_two_accounts_are_apart(client, sandbox, token):
    await create(client, token, "k1", name="a")
    sandbox.account = Account(id="2002")
    other = (await client.tokens())["access_token"]
    assert "Idempotent-Replayed" not in (await create(client, other, "k1", name="a")).headers


@pytest.mark.parametrize("fields", [{}, {"name": ""}, {"name": "  "}, {"name": 1}])
async def test_item_without_a_name_is_refused(client, sandbox, token, fields):
    assert (await create(client, token, **fields)).status == 422
    assert len(sandbox.items) == 120


async def test_item_that_is_not_json_is_refused(client, token):
    headers = {**bearer(token), "Content-Type": "application/json"}
    assert (await client.send("POST", "/items", data=b"{", headers=headers)).status == 400
    assert (await client.send("POST", "/items", data=b"[]", headers=headers)).status == 422
    assert (await client.send("POST", "/items", data=b"name=x", headers=bearer(token))).status == 415
    assert (await create(client, token, "k" * 256, name="x")).status == 400


# --- rate limit ----------------------------------------------------------------------------------------------------


async def test_rate_limit_counts_down_refuses_and_opens_again(client, sandbox, token, clock):
    sandbox.rate_limit, sandbox.rate_window = 2, 60
    reset = str(int(clock.now().timestamp()) + 60)
    for remaining in ("1", "0"):
        headers = (await client.get("/items", token)).headers
        assert [headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")] == ["2", remaining, reset]
    clock.advance(20)
    refused = await client.get("/items", token)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "40")
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    clock.advance(40)
    again = await client.get("/items", token)
    assert (again.status, again.headers["X-RateLimit-Remaining"]) == (200, "1")


async def test_rate_limit_is_told_on_errors_and_kept_per_account(client, sandbox, token):
    sandbox.rate_limit = 1
    assert (await client.get("/items/999", token)).headers["X-RateLimit-Remaining"] == "0"
    assert (await client.get("/items", token)).status == 429
    sandbox.account = Account(id="2002")
    other = (await client.tokens())["access_token"]
    assert (await client.get("/items", other)).status == 200


# --- endpoints for signers -----------------------------------------------------------------------------------------


async def test_echo_gives_back_what_arrived(client):
    headers = [("X-One", "1"), ("X-Two", "a"), ("X-Two", "b")]
    answer = await client.send("PUT", "/echo?a=1&b=2&a=3&c=%20", headers=headers, data=b"body")
    assert (answer.json["method"], answer.json["target"]) == ("PUT", "/echo?a=1&b=2&a=3&c=%20")
    assert answer.json["query"] == {"a": "1, 3", "b": "2", "c": " "}
    assert answer.json["headers"]["X-One"] == "1"
    assert answer.json["headers"]["X-Two"] == "a, b"
    assert answer.json["body"] == "body"


async def test_api_key_is_accepted_in_header_or_query_but_not_in_both(client, sandbox):
    key = sandbox.api_key.reveal()
    assert (await client.get("/private/key", **{"X-API-Key": key})).json["id"] == "1001"
    assert (await client.get(f"/private/key?api_key={key}")).status == 200
    assert (await client.get(f"/private/key?api_key={key}", **{"X-API-Key": key})).status == 401
    assert (await client.get("/private/key", **{"X-API-Key": "wrong"})).status == 401
    assert (await client.get("/private/key")).status == 401


async def test_basic_credentials_are_checked(client, sandbox):
    def header(user, password):
        return {"Authorization": aiohttp.encode_basic_auth(user, password)}

    right = header(sandbox.basic_user, sandbox.basic_password.reveal())
    assert (await client.get("/private/basic", **right)).json["login"] == "ada"
    for wrong in (header(sandbox.basic_user, "wrong"), header("wrong", sandbox.basic_password.reveal()), {}):
        answer = await client.get("/private/basic", **wrong)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_seed_can_be_smaller(client):
    async with Sandbox(item_count=1) as client.sandbox:
        token = (await client.tokens())["access_token"]
        answer = await client.get("/items", token)
        assert (len(answer.json), links(answer).keys()) == (1, {"first", "last"})
