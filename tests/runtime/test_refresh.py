"""Renewing tokens: what is kept, how it is saved, and what it costs."""

from __future__ import annotations

import asyncio

import pytest

from go_services_core import Scope
from go_services_core.errors import (
    CannotOpen,
    CommitUnknown,
    ReauthRequired,
    RefreshLocked,
    RefreshUnknown,
    ServicesError,
    StoreUnavailable,
)
from go_services_core.runtime import refresh as flights

EXPIRED = 3600


async def test_expired_token_is_renewed_before_the_call(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        old = await runtime.token(connection.id)
        either.clock.advance(EXPIRED)
        counted()
        result = await runtime.execute(connection.id, "me")
        assert (result.status, result.attempts) == (200, 1)
        assert counted() == {"token": 1, "userinfo": 1}
        assert await runtime.token(connection.id) != old
        assert await either.events(runtime) == ["connection.established", "credential.refreshed"]


async def test_rotated_refresh_tokens_are_used_one_after_the_other(app, runtime):
    connection = await app.connect(runtime)
    for round in range(1, 5):
        app.clock.advance(EXPIRED)
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert len(app.secrets("sbx_rt_")) == round + 1
    _, credential = await app.stored(runtime, connection.id)
    assert credential.version == 5
    assert app.rows("SELECT count(*), sum(status = 'active') FROM service_credentials") == [(5, 1)]


async def test_manual_refresh_of_a_healthy_connection_leaves_it_healthy(either, counted):
    """P24."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        for _ in range(3):
            assert (await runtime.refresh(connection.id)).status == "active"
        assert (await runtime.execute(connection.id, "me")).attempts == 1
        assert counted()["token"] == 4
        assert (await either.events(runtime)).count("credential.refreshed") == 3


async def test_refresh_keeps_grants_and_old_refresh_token_when_the_answer_omits_them(app, runtime):
    """P15; RFC 6749 §6."""
    connection = await app.connect(runtime, grants=("items.read",))
    for answer in ("no-refresh", "no-scope", "expires-string", "form"):
        app.sandbox.token_answers.set(answer, times=1)
        app.clock.advance(EXPIRED)
        assert (await runtime.execute(connection.id, "items.list", {"per_page": 1})).status == 200
        _, credential = await app.stored(runtime, connection.id)
        assert (credential.granted, credential.refreshable) == (("items.read",), True)
    assert len(app.secrets("sbx_rt_")) == 4


class FailingStore:
    """The real facet, whose ``close_refresh`` fails a few times, before or after it has done its work."""

    def __init__(self, facet, *, error, times, committed):
        self._facet, self._error, self._left, self._committed = facet, error, times, committed

    def __getattr__(self, name):
        return getattr(self._facet, name)

    async def close_refresh(self, *args, **kwargs):
        if self._left:
            self._left -= 1
            if self._committed:
                await self._facet.close_refresh(*args, **kwargs)
            raise self._error
        await self._facet.close_refresh(*args, **kwargs)


@pytest.mark.parametrize(
    ("error", "times", "committed"),
    [(StoreUnavailable, 3, False), (CommitUnknown, 1, False), (CommitUnknown, 1, True)],
)
async def test_new_token_is_kept_until_the_store_takes_it(app, runtime, counted, error, times, committed):
    """Protocols, Refresh 6."""
    connection = await app.connect(runtime)
    store = runtime._core.store
    store.connections = FailingStore(store.connections, error=error, times=times, committed=committed)
    counted()
    assert (await runtime.refresh(connection.id)).refresh_state == "ok"
    assert counted() == {"token": 1}
    _, credential = await app.stored(runtime, connection.id)
    assert credential.version == 2
    assert (await runtime.execute(connection.id, "me")).attempts == 1
    assert (await app.events(runtime)).count("credential.refreshed") == 1


async def test_lease_of_a_dead_holder_is_waited_for_and_then_named(app):
    async with app.open(settings={"runtime.refresh_deadline": 1.0, "runtime.refresh_lease": 3.0}) as runtime:
        connection = await app.connect(runtime)
        await runtime._core.store.connections.open_refresh(connection.id, owner="dead", lease=60, intent_id="i1")
        with pytest.raises(RefreshLocked):
            await asyncio.wait_for(runtime.refresh(connection.id), 60)
        assert app.sandbox.requests["token"] == 1
        app.age(60)
        with pytest.raises(RefreshUnknown):
            await runtime.refresh(connection.id)
        assert app.sandbox.requests["token"] == 1
        app.clock.advance(EXPIRED)
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert app.sandbox.requests["token"] == 2


async def test_refresh_of_a_disconnected_connection_is_refused(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        await runtime.disconnect(connection.id)
        counted()
        with pytest.raises(ReauthRequired, match="disconnected"):
            await runtime.refresh(connection.id)
        assert counted() == {}


async def test_refresh_of_an_unknown_connection_is_refused(runtime):
    with pytest.raises(ServicesError) as missing:
        await runtime.refresh("nobody")
    assert missing.value.status == 404


async def test_unreadable_credential_is_typed_and_leaves_no_lease_behind(app, runtime):
    connection = await app.connect(runtime)
    other = await app.connect(runtime, "u2")
    app.rows(
        "UPDATE service_credentials SET encrypted_payload ="
        " (SELECT encrypted_payload FROM service_credentials WHERE connection_id = ?) WHERE connection_id = ?",
        other.id, connection.id,
    )  # fmt: skip
    runtime._core.forget(connection.id)
    for _ in range(2):
        with pytest.raises(ServicesError) as failed:
            await runtime.refresh(connection.id)  # P50
        assert type(failed.value).__name__ == "CannotOpen"
    with pytest.raises(CannotOpen):  # here only whoever has the lease finds it unreadable
        await flights.refresh(runtime._core, connection.id, used=None)
    assert app.rows("SELECT owner FROM service_leases") == [(None,)]
    assert app.rows("SELECT outcome FROM service_refresh_intents") == [("dropped",)]
    assert app.sandbox.requests["token"] == 2
    assert (await runtime.execute(other.id, "me")).status == 200


async def test_refresh_is_two_units_of_at_most_eight_statements_and_none_between(app, runtime):
    """P22: nothing runs, and no transaction is open, while the provider is asked."""
    connection = await app.connect(runtime)
    loaded = await runtime._core.store.connections.load(connection.id)
    assert loaded
    seen = []
    core = runtime._core
    transport = core.transport
    send = transport.send

    async def noted(request, *, provider_id):
        seen.append("SEND")
        answer = await send(request, provider_id=provider_id)
        seen.append("ANSWER")
        return answer

    core.transport = type("Noted", (), {"send": staticmethod(noted)})()
    core.store.trace(lambda text: seen.append(text.split(maxsplit=1)[0].upper()))
    await flights.refresh(core, connection.id, used=1)
    core.store.trace(None)

    at = seen.index("SEND")
    assert seen[at : at + 2] == ["SEND", "ANSWER"]
    opening = seen[seen.index("BEGIN") + 1 : seen.index("COMMIT")]
    closing = seen[at + 3 : seen.index("COMMIT", at)]
    assert seen.count("BEGIN") == seen.count("COMMIT") == 2
    assert seen[at - 1] == "COMMIT"
    assert seen[at + 2] == "BEGIN"
    assert len(opening) + len(closing) <= 8
    assert set(seen) - {"SEND", "ANSWER"} <= {"BEGIN", "COMMIT", "SELECT", "INSERT", "UPDATE"}
    outside = seen[: seen.index("BEGIN")] + seen[seen.index("COMMIT", at) + 1 :]
    assert outside == ["SELECT", "SELECT"]


async def test_token_is_no_statement_while_it_is_cached_and_one_when_it_is_not(app, runtime):
    connection = await app.connect(runtime)
    core = runtime._core
    seen = []
    core.store.trace(lambda text: seen.append(text.split(maxsplit=1)[0].upper()))
    core.forget(connection.id)
    cold = await runtime.token(connection.id)
    assert seen == ["SELECT"]
    for _ in range(10):
        assert await runtime.token(connection.id) == cold
    assert seen == ["SELECT"]
    core.store.trace(None)


async def test_scope_of_the_connection_does_not_change_by_a_refresh(app, runtime):
    connection = await app.connect(runtime)
    refreshed = await runtime.refresh(connection.id)
    assert (refreshed.scope, refreshed.created_at) == (Scope("user", "u1"), connection.created_at)
