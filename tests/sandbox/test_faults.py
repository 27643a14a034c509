"""Faults as a client meets them."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from go_services_core.errors import BadInput, NotFound
from go_services_core.testing.sandbox import Sandbox


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def token(client) -> str:
    return (await client.tokens())["access_token"]


async def create(client, token):
    return await client.send("POST", "/items", json={"name": "x"}, headers=bearer(token))


@pytest.mark.parametrize("kind", ["429", "500", "503"])
async def test_error_status_comes_instead_of_the_work_as_often_as_asked(client, sandbox, token, kind):
    sandbox.faults.set("items.create", kind, times=2, retry_after=2)
    for _ in range(2):
        answer = await create(client, token)
        assert (answer.status, answer.headers["Retry-After"]) == (int(kind), "2")
        assert "X-Request-Id" in answer.headers
    assert len(sandbox.items) == 120
    assert (await create(client, token)).status == 201
    assert sandbox.requests["items.create"] == 3


async def test_retry_after_is_absent_or_a_date_on_request(client, sandbox, token):
    sandbox.faults.set("items.list", "503")
    assert "Retry-After" not in (await client.get("/items", token)).headers
    sandbox.faults.set("items.list", "503", retry_after="Wed, 21 Oct 2026 07:28:00 GMT")
    assert (await client.get("/items", token)).headers["Retry-After"].startswith("Wed")


async def test_html_comes_with_status_200_instead_of_the_work(client, sandbox, token):
    sandbox.faults.set("items.create", "html")
    answer = await create(client, token)
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert len(sandbox.items) == 120


async def test_empty_answer_hides_work_that_was_done(client, sandbox, token):
    sandbox.faults.set("items.create", "empty")
    answer = await create(client, token)
    assert (answer.status, answer.text) == (201, "")
    assert len(sandbox.items) == 121


async def test_truncated_json_is_a_complete_answer_that_does_not_parse(client, sandbox, token):
    sandbox.faults.set("items.create", "truncated_json")
    async with client.session.post(sandbox.url + "/items", json={"name": "x"}, headers=bearer(token)) as answer:
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            await answer.json()
    assert len(sandbox.items) == 121


async def test_cut_ends_the_connection_in_the_middle_of_the_body(client, sandbox, token):
    sandbox.faults.set("items.create", "cut")
    post = client.session.post(sandbox.url + "/items", json={"name": "x"}, headers=bearer(token))
    async with post as answer:
        assert answer.status == 201
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert len(sandbox.items) == 121
    assert (await create(client, token)).status == 201


async def test_cut_without_a_body_ends_the_connection_before_the_answer(client, sandbox, token):
    sandbox.faults.set("revoke", "cut")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.form("/revoke", {"token": token})
    assert not await client.works(token)


async def test_cut_token_answer_loses_a_refresh_that_happened(client, sandbox):
    tokens = await client.tokens()
    sandbox.faults.set("token", "cut")
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.refresh(tokens["refresh_token"])
    assert (await client.refresh(tokens["refresh_token"])).json["error"] == "invalid_grant"


async def eventually(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_slow_answer_outlasts_a_client_that_will_not_wait(client, sandbox, token):
    sandbox.faults.set("items.create", "slow", seconds=3600)
    impatient = asyncio.create_task(create(client, token))
    await eventually(lambda: len(sandbox.items) == 121)
    await asyncio.sleep(0)
    assert not impatient.done()
    impatient.cancel()
    sandbox.faults.set("items.create", "slow", seconds=0)
    assert (await create(client, token)).status == 201


async def test_slow_answer_does_not_hold_up_the_end_of_the_sandbox(client):
    async with Sandbox() as client.sandbox:
        client.sandbox.faults.set("echo", "slow", seconds=3600)
        waiting = asyncio.create_task(client.get("/echo"))
        await eventually(lambda: client.sandbox.requests["echo"] == 1)
    assert (await waiting).status == 200


async def test_fault_without_a_count_stays_until_it_is_cleared(client, sandbox, token):
    sandbox.faults.set("items.list", "500", times=None)
    sandbox.faults.set("userinfo", "500", times=None)
    assert [(await client.get("/items", token)).status for _ in range(3)] == [500, 500, 500]
    sandbox.faults.clear("items.list")
    assert (await client.get("/items", token)).status == 200
    assert (await client.get("/userinfo", token)).status == 500
    sandbox.faults.clear()
    assert (await client.get("/userinfo", token)).status == 200


async def test_fault_spoils_refusals_as_well(client, sandbox):
    sandbox.faults.set("items.list", "empty")
    answer = await client.get("/items")
    assert (answer.status, answer.text) == (401, "")


def test_senseless_faults_are_refused_and_change_nothing():
    faults = Sandbox().faults
    with pytest.raises(NotFound, match=r"items\.list"):
        faults.set("item.list", "500")
    with pytest.raises(BadInput, match="truncated_json"):
        faults.set("items.list", "502")
    with pytest.raises(BadInput, match="at least 1"):
        faults.set("items.list", "500", times=0)
    with pytest.raises(BadInput, match="negative"):
        faults.set("items.list", "slow", seconds=-1)
    assert faults.take("items.list") is None
