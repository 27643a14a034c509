"""Calling operations: what is sent, what is refused before, and what each bad answer becomes."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from attrs import evolve

from go_services_core import Capability, HttpRequest, Operation, Pagination, Param
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BadInput,
    CapabilityUnsupported,
    ConnectionNotFound,
    EgressDenied,
    OperationNotFound,
    PermissionDenied,
    ProviderError,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    RequestTimeout,
    ResponseInvalid,
    TransportError,
    UnknownParameter,
)

ONCE = RetryPolicy(attempts=1)


async def test_pages_are_followed_to_the_end(app, runtime, counted):
    connection = await app.connect(runtime)
    counted()
    items = [item async for item in runtime.paginate(connection.id, "items.list", {"per_page": 50})]
    assert [item["id"] for item in items] == list(range(1, 121))
    assert counted() == {"items.list": 3}


@pytest.mark.parametrize(("limit", "pages"), [(1, 1), (50, 1), (51, 2), (0, 1)])
async def test_limit_ends_the_list_without_asking_for_a_page_too_many(app, runtime, counted, limit, pages):
    connection = await app.connect(runtime)
    counted()
    items = [item async for item in runtime.paginate(connection.id, "items.list", {"per_page": 50}, limit=limit)]
    assert len(items) == limit
    assert counted()["items.list"] <= pages


async def test_paginating_what_is_not_a_list_is_refused(app, runtime):
    connection = await app.connect(runtime)
    with pytest.raises(BadInput, match="execute"):
        await anext(runtime.paginate(connection.id, "me"))
    app_items = Operation("me.list", "GET", "/userinfo", pagination=Pagination())
    app.set(operations=(app_items,))
    async with app.open() as other:
        with pytest.raises(ResponseInvalid, match="no list"):
            await anext(other.paginate(connection.id, "me.list"))


async def test_next_page_on_a_foreign_host_gets_no_credential(app, sandbox, monkeypatch):
    """P35: the sandbox names itself by another host in its links."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        pages = runtime.paginate(connection.id, "items.list", {"per_page": 50})
        own = sandbox.url
        monkeypatch.setattr(type(sandbox), "url", property(lambda self: own.replace("127.0.0.1", "localhost")))
        seen = 0
        with pytest.raises(EgressDenied, match=r"own hosts"):
            async for _ in pages:
                seen += 1
        assert seen == 50
        assert sandbox.requests["items.list"] == 1


async def test_unknown_operation_and_parameter_are_refused_with_the_nearest_name(app, runtime, counted):
    connection = await app.connect(runtime)
    counted()
    with pytest.raises(OperationNotFound, match=r"items\.list"):
        await runtime.execute(connection.id, "items.lst")
    with pytest.raises(UnknownParameter, match="Did you mean 'per_page'"):
        await runtime.execute(connection.id, "items.list", {"perpage": 1})
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, "items.list", {"per_page": "1"})
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, "items.get")
    with pytest.raises(ConnectionNotFound):
        await runtime.execute("nobody", "me")
    assert counted() == {}


async def test_missing_grant_is_refused_and_nothing_is_sent(app, runtime, counted):
    connection = await app.connect(runtime, grants=("items.read",))
    counted()
    with pytest.raises(PermissionDenied) as refused:
        await runtime.execute(connection.id, "items.create", {"name": "x"})
    assert refused.value.metadata["missing"] == ["items.write"]
    assert counted() == {}
    assert (await runtime.can(connection.id, "items.write")).mode == "blocked"
    assert (await runtime.can(connection.id, "items.read")).allowed
    with pytest.raises(CapabilityUnsupported, match=r"items\.read"):
        await runtime.can(connection.id, "items.raed")


async def test_grant_that_includes_another_one_is_enough(app):
    app.set(
        implies={"items.write": ("items.read",)},
        capabilities=(
            Capability("items.read", grants="items.read"),
            Capability("items.write", grants="items.write", optional="items.admin", denied="degrade"),
        ),
    )
    async with app.open() as runtime:
        connection = await app.connect(runtime, grants=("items.write",))
        assert (await runtime.can(connection.id, "items.read")).mode == "full"
        assert (await runtime.can(connection.id, "items.write")).mode == "degraded"


async def test_body_and_path_arrive(app, runtime):
    connection = await app.connect(runtime)
    made = await runtime.execute(connection.id, "items.create", {"name": "Ünïcode"})
    assert made.status == 201
    got = await runtime.execute(connection.id, "items.get", {"id": made.data["id"]})
    assert got.data["name"] == "Ünïcode"


async def test_text_bytes_and_empty_answers_are_given_as_such(app):
    here = Operation("as.text", "GET", "/echo", answer="text"), Operation("as.bytes", "GET", "/echo", answer="bytes")
    app.set(operations=(*app.providers.specs["sandbox"].operations, *here))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        assert isinstance((await runtime.execute(connection.id, "as.text")).data, str)
        assert isinstance((await runtime.execute(connection.id, "as.bytes")).data, bytes)
        app.sandbox.faults.set("items.list", "empty")
        assert (await runtime.execute(connection.id, "items.list")).data is None


async def test_header_parameter_is_sent_and_cannot_break_out(app):
    echo = Operation("echo", "GET", "/echo", params=(Param("X-Note", "header"), Param("tag", type="array")))
    app.set(operations=(echo,))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        said = (await runtime.execute(connection.id, "echo", {"X-Note": "hello", "tag": ["a b", "c&d"]})).data
        assert said["headers"]["X-Note"] == "hello"
        assert said["target"] == "/echo?tag=a%20b&tag=c%26d"
        with pytest.raises(BadInput):
            await runtime.execute(connection.id, "echo", {"X-Note": "a\r\nX-Evil: 1"})


# --- bad answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("429", RateLimited),
        ("500", ProviderUnavailable),
        ("503", ProviderUnavailable),
        ("cut", TransportError),
        ("html", ResponseInvalid),
        ("truncated_json", ResponseInvalid),
    ],
)
async def test_every_bad_answer_is_typed_and_harms_nothing(app, runtime, counted, fault, expected):
    connection = await app.connect(runtime)
    counted()
    app.sandbox.faults.set("items.list", fault, retry_after=17)
    with pytest.raises(expected) as failed:
        await runtime.execute(connection.id, "items.list", retry=ONCE)
    assert counted() == {"items.list": 1}
    if isinstance(failed.value, ProviderError):
        assert failed.value.upstream_status == int(fault)
        assert failed.value.request_id.startswith("req_")
        assert failed.value.retryable
    if isinstance(failed.value, RateLimited):
        assert failed.value.retry_after == 17
    assert (await runtime.execute(connection.id, "items.list")).status == 200
    assert (await runtime.connection(connection.id)).status == "active"


async def test_resource_that_is_not_there_is_typed(app, runtime):
    connection = await app.connect(runtime)
    with pytest.raises(ProviderNotFoundAnswer) as missing:
        await runtime.execute(connection.id, "items.get", {"id": 999})
    assert (missing.value.upstream_code, missing.value.status) == ("not_found", 404)


async def test_deadline_ends_a_slow_call(live):
    """In real time: where it stands still, there is always time for another attempt."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.faults.set("items.list", "slow", seconds=30)
        with pytest.raises(RequestTimeout):
            await runtime.execute(connection.id, "items.list", deadline=0.1)


async def test_deadline_includes_a_slow_renewal_which_goes_on_without_the_caller(app, runtime, counted):
    connection = await app.connect(runtime)
    app.clock.advance(3601)
    counted()
    app.sandbox.faults.set("token", "slow", seconds=0.4)
    with pytest.raises(RequestTimeout):
        await runtime.execute(connection.id, "me", deadline=0.1)
    assert (await runtime.execute(connection.id, "me")).attempts == 1
    assert counted() == {"token": 1, "userinfo": 1}


async def test_deadline_includes_a_slow_load(app, runtime):
    connection = await app.connect(runtime)
    core = runtime._core

    async def never(sealed, binding):
        await asyncio.Event().wait()

    core.sealer = type("Slow", (), {"open": staticmethod(never)})()
    with pytest.raises(RequestTimeout):
        await asyncio.wait_for(runtime.execute(connection.id, "me", deadline=0.05), 5)


async def test_error_excerpt_does_not_repeat_the_credential(app):
    """P42: a provider that echoes what it was sent."""
    echo = Operation("echo", "POST", "/echo")
    app.set(operations=(echo,))

    async with app.open() as runtime:
        connection = await app.connect(runtime)
        token = (await runtime.token(connection.id)).reveal()
        transport = runtime._core.transport
        send = transport.send

        async def as_error(request, *, provider_id):
            return evolve(await send(request, provider_id=provider_id), status=400)

        runtime._core.transport = type("Failing", (), {"send": staticmethod(as_error)})()
        with pytest.raises(ProviderError) as failed:
            await runtime.execute(connection.id, "echo")
        assert token not in failed.value.excerpt
        assert "Bearer" in failed.value.excerpt
        assert token not in repr(failed.value.as_dict())


# --- 401 -----------------------------------------------------------------------------------------------------------


async def test_401_is_answered_by_one_renewal_and_one_repetition(either):
    """P82."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.expire_access_tokens()
        before = dict(either.sandbox.requests)
        result = await runtime.execute(connection.id, "items.list", {"per_page": 2})
        assert (result.status, result.attempts, len(result.data)) == (200, 2, 2)
        assert either.sandbox.requests["items.list"] - before.get("items.list", 0) == 2
        assert either.sandbox.requests["token"] - before["token"] == 1
        assert await either.events(runtime) == ["connection.established", "credential.refreshed"]


async def test_401_that_stays_ends_after_exactly_one_renewal(app, runtime, counted):
    """P82: a token that lives for no time at all."""
    connection = await app.connect(runtime)
    app.sandbox.expire_access_tokens()
    app.sandbox.access_token_lifetime = 0
    counted()
    with pytest.raises(ProviderUnauthorized):
        await runtime.execute(connection.id, "items.list")
    assert counted() == {"items.list": 2, "token": 1}


async def test_401_without_anything_to_renew_is_typed_and_sent_once(app, runtime, counted):
    app.sandbox.token_answer = "no-refresh"
    connection = await app.connect(runtime)
    app.sandbox.expire_access_tokens()
    counted()
    with pytest.raises(ProviderUnauthorized):
        await runtime.execute(connection.id, "items.list")
    assert counted() == {"items.list": 1}


async def test_pages_survive_a_token_that_expires_between_them(app, runtime):
    """P25: the credential is looked up for each page."""
    connection = await app.connect(runtime)
    got = []
    async for item in runtime.paginate(connection.id, "items.list", {"per_page": 40}):
        got.append(item["id"])
        if len(got) in (40, 80):
            app.sandbox.expire_access_tokens()
    assert got == list(range(1, 121))


# --- signing oneself -----------------------------------------------------------------------------------------------


async def test_signed_request_works_and_the_original_is_untouched(app, runtime):
    connection = await app.connect(runtime)
    request = HttpRequest("GET", f"{app.sandbox.url}/userinfo")
    signed = await runtime.sign(connection.id, request)
    assert request.header("Authorization") is None
    assert signed.header("Authorization") == f"Bearer {(await runtime.token(connection.id)).reveal()}"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "http://127.0.0.1:1/",
        "http://127.0.0.1@evil.example/",
        "http://localhost/",
        "/userinfo",
    ],
)
async def test_request_to_a_foreign_host_is_not_signed(app, runtime, url):
    """P35."""
    connection = await app.connect(runtime)
    with pytest.raises(EgressDenied):
        await runtime.sign(connection.id, HttpRequest("GET", url))


async def test_nonce_for_a_token_that_is_bound_to_no_key_is_refused(app, runtime):
    connection = await app.connect(runtime)
    with pytest.raises(BadInput) as refused:
        await runtime.sign(connection.id, HttpRequest("GET", f"{app.sandbox.url}/userinfo"), nonce="n-1")
    assert refused.value.field == "nonce"


async def test_sign_and_token_renew_what_has_expired(app, runtime, counted):
    connection = await app.connect(runtime)
    old = await runtime.token(connection.id)
    app.clock.advance(3600)
    counted()
    new = await runtime.token(connection.id)
    assert new != old
    signed = await runtime.sign(connection.id, HttpRequest("GET", f"{app.sandbox.url}/userinfo"))
    assert signed.header("Authorization") == f"Bearer {new.reveal()}"
    assert counted() == {"token": 1}


# --- statements and the cache --------------------------------------------------------------------------------------


def statements(runtime):
    """The statements that SQLite runs from now on, without their values."""
    seen = []
    runtime._core.store.trace(lambda text: seen.append(text.split(maxsplit=1)[0].upper()))
    return seen


async def test_cold_execute_runs_one_statement_and_a_cached_one_none(app):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
    async with app.open() as runtime:
        seen = statements(runtime)
        await runtime.execute(connection.id, "me")
        assert seen == ["SELECT"]
        await runtime.execute(connection.id, "me")
        assert [item async for item in runtime.paginate(connection.id, "items.list")]
        assert (await runtime.can(connection.id, "items.read")).allowed
        assert seen == ["SELECT"]
        app.clock.advance(31)
        await runtime.execute(connection.id, "me")
        assert seen == ["SELECT"] * 2


async def test_cache_can_be_turned_off(app):
    async with app.open(settings={"runtime.cache_seconds": 0}) as runtime:
        connection = await app.connect(runtime)
        seen = statements(runtime)
        for _ in range(3):
            await runtime.execute(connection.id, "me")
        assert seen == ["SELECT"] * 3


async def test_change_by_another_runtime_is_seen_when_the_cache_ends(app):
    async with app.open(settings={"runtime.cache_seconds": 10}) as one, app.open() as two:
        connection = await app.connect(one)
        assert (await one.can(connection.id, "items.write")).allowed
        app.sandbox.approve_scopes = frozenset({"items.read"})
        await app.connect(two)
        app.clock.advance(9)
        assert (await one.can(connection.id, "items.write")).allowed
        app.clock.advance(1)
        assert not (await one.can(connection.id, "items.write")).allowed


async def test_401_drops_the_cache_at_once(app):
    """The other runtime's re-consent gave a new token; the old one is refused, and nobody has to renew."""
    async with app.open() as one, app.open() as two:
        connection = await app.connect(one)
        await one.execute(connection.id, "me")
        app.sandbox.expire_access_tokens()
        await app.connect(two)
        before = app.sandbox.requests["token"]
        assert (await one.execute(connection.id, "me")).attempts == 2
        assert app.sandbox.requests["token"] == before  # P13: adopted


async def test_local_change_is_seen_at_once(app, runtime):
    connection = await app.connect(runtime)
    await runtime.execute(connection.id, "me")
    app.sandbox.approve_scopes = frozenset({"items.read"})
    await app.connect(runtime)
    assert not (await runtime.can(connection.id, "items.write")).allowed


async def test_load_that_a_disconnect_overtakes_is_not_cached(app, monkeypatch):
    """What was read before the change may not be kept after it."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        core = runtime._core
        core.forget(connection.id)
        opening, go_on = asyncio.Event(), asyncio.Event()
        open_sealed = core.sealer.open

        async def slow_open(sealed, binding):
            opening.set()
            await go_on.wait()
            return await open_sealed(sealed, binding)

        core.sealer = type("Slow", (), {"open": staticmethod(slow_open), "seal": core.sealer.seal})()
        reading = asyncio.create_task(runtime.can(connection.id, "items.read"))
        await opening.wait()
        await core.store.connections.disconnect(
            connection.id, reason="", event=evolve(await last_event(app, runtime), id="e2")
        )
        core.forget(connection.id)
        go_on.set()
        await reading
        with pytest.raises(ReauthRequired):
            await runtime.execute(connection.id, "me")


async def test_cache_keeps_no_credential_longer_than_its_time(app):
    async with app.open(settings={"runtime.cache_seconds": 10}) as runtime:
        ids = [(await app.connect(runtime, f"u{number}")).id for number in range(4)]
        for id in ids:
            await runtime.can(id, "items.read")
            app.clock.advance(4)
        assert list(runtime._core.cache) == ids[1:]
        app.clock.advance(10)
        await runtime.can(ids[0], "items.read")
        assert list(runtime._core.cache) == ids[:1]


async def last_event(app, runtime):
    await runtime._core.store.queues.register_handlers({"peek": "*"}, now=app.clock.now().replace(year=2000))
    (claim,) = await runtime._core.store.queues.claim("outbox", owner="peek", lease=60, limit=1, handlers=["peek"])
    return claim.event


async def test_many_calls_at_once_use_one_connection_without_mixing_answers(app, runtime):
    connection = await app.connect(runtime)
    ids = list(itertools.islice(itertools.cycle(range(1, 41)), 80))
    results = await asyncio.gather(*(runtime.execute(connection.id, "items.get", {"id": id}) for id in ids))
    assert [result.data["id"] for result in results] == ids
