"""Ending a connection: told to the provider where possible, ended here in any case."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import pytest
from attrs import evolve

from go_services_core import HttpRequest, ProviderAdapter, Ref, Scope
from go_services_core.errors import ConnectionNotFound, ReauthRequired, StoreUnavailable


def accepted(sandbox):
    """Whether the sandbox still accepts any of the tokens that it issued."""
    return [secret for secret in sandbox.issued_secrets() if sandbox.ledger.find_access(secret)]


class Instead:
    """The real facet, of which some calls are others."""

    def __init__(self, real, **calls):
        self.real = real
        self.__dict__.update(calls)

    def __getattr__(self, name):
        return getattr(self.real, name)


async def test_disconnect_revokes_at_the_provider_and_ends_the_connection(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        assert accepted(either.sandbox)
        counted()
        ended = await runtime.disconnect(connection.id, reason="user asked")
        assert (ended.revoked, ended.connection.status) == (True, "disconnected")
        assert counted() == {"revoke": 1}
        assert not accepted(either.sandbox)
        assert await either.events(runtime) == ["connection.disconnected", "connection.established"]
        for refused in (
            runtime.execute(connection.id, "me"),
            runtime.token(connection.id),
            runtime.can(connection.id, "items.read"),
            runtime.sign(connection.id, HttpRequest("GET", f"{either.sandbox.url}/userinfo")),
        ):
            with pytest.raises(ReauthRequired, match="disconnected"):
                await refused
        assert counted() == {}


async def test_event_of_a_disconnect_says_why_and_whether_it_was_revoked(app, runtime):
    connection = await app.connect(runtime)
    seen = []

    async def note(event, context):
        seen.append((event.name, event.connection_id, event.scope, dict(event.payload)))

    await runtime.on("connection.disconnected", note, name="note")
    await runtime.disconnect(connection.id, reason="user asked")
    await runtime.drain()
    payload = {
        "reason": "user asked",
        "revoked": True,
        "detail": "revoked at the provider",
        "pending": False,
        "overtaken": False,
        "cancelled": [],
    }
    assert seen == [("connection.disconnected", connection.id, Scope("user", "u1"), payload)]


@pytest.mark.parametrize("fault", ["500", "cut", "429"])
async def test_provider_that_cannot_be_told_does_not_keep_the_connection_alive(app, runtime, fault):
    connection = await app.connect(runtime)
    app.sandbox.faults.set("revoke", fault)
    ended = await runtime.disconnect(connection.id)
    assert (ended.revoked, ended.connection.status) == (False, "disconnected")
    assert "could not be told" in ended.detail
    with pytest.raises(ReauthRequired):
        await runtime.execute(connection.id, "me")
    assert "connection.disconnected" in await app.events(runtime)


async def test_provider_that_is_gone_does_not_keep_the_connection_alive(live):
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        await live.sandbox.__aexit__(None, None, None)
        ended = await runtime.disconnect(connection.id)
        assert (ended.revoked, ended.connection.status) == (False, "disconnected")


async def test_provider_without_revocation_is_not_asked(app, counted):
    app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], revocation_url=None))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        ended = await runtime.disconnect(connection.id)
        assert (ended.revoked, ended.detail) == (False, "the provider offers no revocation")
        assert counted() == {}


class BrokenRevocation(ProviderAdapter):
    def revoke(self, ctx, credential):
        raise ValueError("a mistake of the plugin")


async def test_mistake_in_an_adapter_does_not_keep_the_connection_alive(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "made_adapters", sys.modules[__name__])
    app.set(adapter=Ref("made_adapters:BrokenRevocation"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        ended = await runtime.disconnect(connection.id)
        assert (ended.revoked, ended.connection.status) == (False, "disconnected")
        assert "ValueError" in ended.detail
        assert "mistake" not in ended.detail


class OwnRevocation(ProviderAdapter):
    def revoke(self, ctx, credential):
        def flow():
            answer = yield HttpRequest("POST", f"{ctx.auth.issuer}/echo", body=b"own way")
            return answer.status == 200

        return flow()


async def test_adapter_may_revoke_in_its_own_way(app, counted, monkeypatch):
    monkeypatch.setitem(sys.modules, "made_adapters", sys.modules[__name__])
    app.set(adapter=Ref("made_adapters:OwnRevocation"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        assert (await runtime.disconnect(connection.id)).revoked
        assert counted() == {"echo": 1}


async def test_disconnecting_twice_changes_nothing_and_writes_no_second_event(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        first = await runtime.disconnect(connection.id)
        counted()
        second = await runtime.disconnect(connection.id)
        assert second.connection == first.connection
        assert (second.revoked, counted()) == (False, {})
        assert (await either.events(runtime)).count("connection.disconnected") == 1


async def test_two_disconnects_at_once_write_one_event(app, runtime):
    connection = await app.connect(runtime)
    await asyncio.gather(*(runtime.disconnect(connection.id) for _ in range(3)))
    assert (await app.events(runtime)).count("connection.disconnected") == 1


async def test_ciphertexts_of_every_version_are_destroyed(app, runtime):
    connection = await app.connect(runtime)
    await runtime.refresh(connection.id)
    kept = [row[0] for row in app.rows("SELECT encrypted_payload FROM service_credentials")]
    assert len(kept) == 2
    assert all(payload in app.content() for payload in kept[1:])
    await runtime.disconnect(connection.id)
    rows = app.rows("SELECT encrypted_payload, status, destroyed_at IS NOT NULL FROM service_credentials")
    assert rows == [(b"", "revoked", 1)] * 2
    content = app.content()
    assert not [payload for payload in kept if payload in content]


async def test_disconnect_waits_for_a_renewal_in_this_process_and_revokes_its_token(live):
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.faults.set("token", "slow", seconds=0.1)
        refreshing = asyncio.create_task(runtime.refresh(connection.id))
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.002)
        ended = await runtime.disconnect(connection.id)
        assert (ended.revoked, (await refreshing).status) == (True, "active")
        assert not accepted(live.sandbox)
        with pytest.raises(ReauthRequired):
            await runtime.execute(connection.id, "me")


async def test_disconnect_waits_for_a_renewal_by_another_runtime_and_revokes_its_token(live):
    """Behaviour §27, item 24: what the renewal brings is saved first, and then revoked."""
    async with live.open() as one, live.open() as two:
        connection = await live.connect(one)
        live.sandbox.faults.set("token", "slow", seconds=0.2)
        refreshing = asyncio.create_task(one.refresh(connection.id))
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.002)
        ended = await two.disconnect(connection.id)
        assert (ended.connection.status, ended.revoked, ended.overtaken) == ("disconnected", True, False)
        with suppress(ReauthRequired):  # when it reads what it saved, the disconnect may have come
            await refreshing
        assert (await one.connection(connection.id)).status == "disconnected"
        assert not accepted(live.sandbox)
        assert "credential.refreshed" in await live.events(one)
        assert live.rows("SELECT count(*) FROM service_credentials WHERE length(encrypted_payload) > 0") == [(0,)]


async def test_disconnect_that_died_leaves_a_good_connection_good(either, counted):
    """P24: no token request was sent, so that the successor has none to call unknown."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        for _ in range(2):
            async with either.open() as dying:
                revoking = asyncio.Event()

                class Silent:
                    async def send(self, request, *, provider_id, revoking=revoking):
                        revoking.set()
                        await asyncio.Event().wait()

                async def gone(lease):
                    raise StoreUnavailable

                dying._core.transport = Silent()
                dying._core.store.connections = Instead(dying._core.store.connections, drop_refresh=gone)
                ending = asyncio.create_task(dying.disconnect(connection.id))
                await asyncio.wait_for(revoking.wait(), 30)
                ending.cancel()
                with suppress(asyncio.CancelledError):
                    await ending
            if either.store is not None:
                either.store.connections = dying._core.store.connections.real
            either.age(65)
        counted()
        renewed = await runtime.refresh(connection.id)
        assert (renewed.status, renewed.refresh_state) == ("active", "ok")
        assert counted() == {"token": 1}
        assert "credential.refresh_unknown" not in await either.events(runtime)


async def test_connection_whose_grant_is_over_can_still_be_disconnected(app, runtime):
    connection = await app.connect(runtime)
    for secret in app.secrets("sbx_rt_"):
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)
    assert (await runtime.disconnect(connection.id)).connection.status == "disconnected"
    assert app.rows("SELECT count(*) FROM service_credentials WHERE length(encrypted_payload) > 0") == [(0,)]


async def test_unknown_connection_is_refused(runtime):
    with pytest.raises(ConnectionNotFound):
        await runtime.disconnect("nobody")


async def test_unreadable_credential_can_still_be_disconnected(app, runtime):
    connection = await app.connect(runtime)
    app.rows("UPDATE service_credentials SET encrypted_payload = x'00'")
    ended = await runtime.disconnect(connection.id)
    assert (ended.revoked, ended.connection.status) == (False, "disconnected")
