"""The refresh protocol end to end: predecessors, late tokens, stores that fail, outages, siblings."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from go_services_core import ApiKey
from go_services_core.auth.typed import ApiKeyFlow
from go_services_core.errors import (
    BackendUnavailable,
    CommitUnknown,
    KeyDenied,
    ReauthRequired,
    RefreshBackingOff,
    RefreshLocked,
    RefreshUnknown,
    StoreUnavailable,
    TokenEndpointError,
    TransportError,
)
from go_services_core.model import TokenSet
from go_services_core.runtime import refresh as flights
from go_services_core.runtime import renewal
from go_services_core.secret import SecretStr

EXPIRED = 3600


class Gate:
    """Between runtime and provider: the provider answers, but the answer waits here."""

    def __init__(self, core):
        self.send_on = core.transport.send
        self.answered = asyncio.Event()
        self.open = asyncio.Event()
        core.transport = self

    async def send(self, request, *, provider_id):
        answer = await self.send_on(request, provider_id=provider_id)
        if request.url.endswith("/token"):
            self.answered.set()
            await self.open.wait()
        return answer


async def test_token_that_came_after_the_lease_is_adopted_by_the_successor(either, counted):
    """P12: the only valid token of the family is in the hands of a process whose lease is over."""
    async with either.open() as slow, either.open() as next:
        connection = await either.connect(slow)
        await next.token(connection.id)
        gate = Gate(slow._core)
        counted()
        late = asyncio.create_task(slow.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        either.age(65)  # the lease is over, and the successor waits for nobody any more
        opened = await next._core.store.connections.open_refresh(
            connection.id, owner="between", lease=60, intent_id="between"
        )
        slept = len(either.clock.slept)
        gate.open.set()
        async with asyncio.timeout(30):
            while len(either.clock.slept) < slept + 3:  # it has kept its token, and waits for the successor
                await asyncio.sleep(0.001)
        _, row = await either.stored(next, connection.id)
        assert row.version == 1
        assert (await next._core.store.connections.refresh_history(connection.id, 1)).late is not None
        await next._core.store.connections.drop_refresh(opened.lease)
        assert (await late).refresh_state == "ok"
        assert (await next.refresh(connection.id)).refresh_state == "ok"
        assert counted() == {"token": 1}
        for runtime in (slow, next):
            assert (await runtime.execute(connection.id, "me")).attempts == 1
        assert (await either.events(slow)).count("credential.refreshed") == 1


async def test_successor_gives_its_predecessor_time_and_keeps_its_own_lease(either, counted):
    """Protocols, Refresh 5: until the deadline and the margin are over the predecessor may still come."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        facet = runtime._core.store.connections
        await facet.open_refresh(connection.id, owner="gone", lease=0, intent_id="gone")
        either.age(30)
        renewed = []
        renew = facet.renew_refresh

        async def noted(lease, *, seconds):
            renewed.append(seconds)
            await renew(lease, seconds=seconds)

        facet.renew_refresh = noted
        counted()
        with pytest.raises(RefreshUnknown):
            await runtime.refresh(connection.id)
        assert counted() == {}
        naps = [seconds for seconds in either.clock.slept if seconds > 1]
        assert sum(naps) == pytest.approx(45 + renewal.PATIENCE - 30, abs=2)
        assert renewed == [60.0] * len(naps)
        assert max(naps) < 60
        either.clock.advance(EXPIRED)
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert counted()["token"] == 1


async def test_token_that_comes_while_the_successor_waits_is_adopted_at_once(app, runtime, counted):
    connection = await app.connect(runtime)
    async with app.open() as other:
        gate = Gate(other._core)
        late = asyncio.create_task(other.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        app.rows("UPDATE service_leases SET expires_at = '2000-01-01 00:00:00.000000'")
        counted()
        sleep = app.clock.sleep

        async def waits(seconds):
            gate.open.set()
            await sleep(seconds)
            await asyncio.sleep(0.05)

        app.clock.sleep = waits
        assert (await runtime.refresh(connection.id)).refresh_state == "ok"
        assert (await late).refresh_state == "ok"
    assert counted() == {}
    _, row = await app.stored(runtime, connection.id)
    assert row.version == 2
    assert app.rows("SELECT count(*) FROM service_refresh_intents WHERE settled_at IS NULL") == [(0,)]
    assert app.rows("SELECT count(*) FROM service_refresh_intents WHERE payload IS NOT NULL") == [(0,)]
    assert (await runtime.execute(connection.id, "me")).attempts == 1


async def test_lost_credential_is_one_event_and_nothing_more_is_sent(either, counted):
    """P11, P19."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.faults.set("token", "cut", times=None)
        counted()
        with pytest.raises(TransportError):
            await runtime.refresh(connection.id)
        for _ in range(3):
            with pytest.raises(RefreshUnknown):
                await runtime.refresh(connection.id)
            assert (await runtime.execute(connection.id, "me")).status == 200  # by the token that still works
        assert counted()["token"] == 1
        either.clock.advance(EXPIRED)
        outcomes = await asyncio.gather(
            *(runtime.execute(connection.id, "me") for _ in range(5)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {RefreshUnknown}
        for _ in range(3):
            with pytest.raises(RefreshUnknown, match="Connect it again"):
                await runtime.execute(connection.id, "me")
        assert counted()["token"] == 1
        found = await runtime.connection(connection.id)
        assert (found.status, found.refresh_state) == ("active", "unknown")
        assert await either.events(runtime) == ["connection.established", "credential.refresh_unknown"]
        either.sandbox.faults.clear()
        again = await either.connect(runtime)
        assert (again.id, again.refresh_state) == (connection.id, "ok")
        assert (await runtime.execute(connection.id, "me")).status == 200


async def test_refused_access_token_permits_the_one_recovery(app, runtime, counted):
    """Here the sandbox had answered nothing yet: its refresh token is as good as before."""
    connection = await app.connect(runtime)
    facet = runtime._core.store.connections
    opened = await facet.open_refresh(connection.id, owner="other", lease=60, intent_id="i")
    await facet.fail_refresh(opened.lease, error="cut", terminal=False, event=None, state="unknown")
    app.sandbox.expire_access_tokens()
    counted()
    assert (await runtime.execute(connection.id, "me")).attempts == 2
    assert counted()["token"] == 1


async def test_grace_recovers_a_lost_answer_while_the_provider_takes_the_old_token(app, counted):
    """The provider did rotate; only the answer was lost."""
    app.sandbox.rotation = "single-use-grace"
    auth = app.providers.specs["sandbox"].auth[0]
    app.set(auth=evolve(auth, rotation="single-use-grace", rotation_grace=30.0))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        core = runtime._core
        send = core.transport.send

        async def lost(request, *, provider_id):
            await send(request, provider_id=provider_id)
            raise TransportError("The answer was cut.")

        core.transport.send, kept = lost, core.transport.send
        with pytest.raises(TransportError):
            await runtime.refresh(connection.id)
        core.transport.send = kept
        assert (await runtime.connection(connection.id)).refresh_state == "unknown"
        assert (await runtime.refresh(connection.id)).refresh_state == "ok"
        assert (await runtime.execute(connection.id, "me")).attempts == 1


async def test_outage_of_any_length_disconnects_nobody(either, counted):
    """P17: callers get a typed error at once, the provider few requests, and the connection stays."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.clock.advance(EXPIRED)
        either.sandbox.faults.set("token", "503", times=None)
        waits = []
        for _ in range(12):
            counted()
            with pytest.raises(TokenEndpointError):
                await runtime.execute(connection.id, "me")
            for _ in range(5):
                with pytest.raises(RefreshBackingOff) as refused:
                    await runtime.execute(connection.id, "me")
            with pytest.raises(RefreshBackingOff):
                await runtime.refresh(connection.id)
            assert counted() == {"token": 1}
            waits.append(refused.value.metadata["retry_in"])
            either.age(301)
            assert (await runtime.connection(connection.id)).status == "active"
        assert all(wait <= 300 for wait in waits)
        assert waits[-1] > 140 > 2.1 > waits[0]
        either.sandbox.faults.clear()
        assert (await runtime.execute(connection.id, "me")).status == 200
        found = await runtime.connection(connection.id)
        assert (found.status, found.refresh_state, found.last_error) == ("active", "ok", "")
        assert await either.events(runtime) == ["connection.established", "credential.refreshed"]


async def test_builtin_timeout_is_an_unknown_outcome(app):
    """P17: all requests of an attempt together have ``refresh_deadline``."""
    async with app.open(settings={"runtime.refresh_deadline": 0.05}) as runtime:
        connection = await app.connect(runtime)
        Gate(runtime._core)  # which knows of no timeout of a request
        with pytest.raises(TransportError, match="in time"):
            await runtime.refresh(connection.id)
        found = await runtime.connection(connection.id)
        assert (found.status, found.refresh_state) == ("active", "unknown")


class Down:
    """The real facet, of which some calls fail while ``left`` says so."""

    def __init__(self, facet, *names, left):
        self._facet, self._names, self.left, self.calls = facet, names, left, []

    def __getattr__(self, name):
        call = getattr(self._facet, name)

        async def counted(*args, **kwargs):
            self.calls.append(name)
            if name in self._names and self.left > 0:
                self.left -= 1
                raise StoreUnavailable
            return await call(*args, **kwargs)

        return counted


async def test_store_that_is_down_for_minutes_loses_no_token_and_holds_up_shutdown(app, counted):
    """Protocols, Refresh 6."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        store = runtime._core.store
        down = store.connections = Down(store.connections, "close_refresh", left=60)
        caller = asyncio.create_task(runtime.refresh(connection.id))
        async with asyncio.timeout(30):
            while down.left > 55:
                await asyncio.sleep(0.001)
        caller.cancel()
    assert counted() == {"token": 1}
    assert down.left == 0
    assert down.calls.count("renew_refresh") == 60
    assert app.rows("SELECT max(version) FROM service_credentials") == [(2,)]
    assert sum(app.clock.slept) > 200
    async with app.open() as runtime:
        assert (await runtime.execute(connection.id, "me")).attempts == 1
        assert counted() == {"userinfo": 1}


async def test_token_is_kept_late_when_the_lease_is_lost_while_the_store_is_down(app, runtime, counted):
    """P12: neither the commit nor the lease could be had; a successor has it now."""
    connection = await app.connect(runtime)
    store = runtime._core.store
    facet = store.connections
    store.connections = Down(facet, "close_refresh", "keep_late", "renew_refresh", left=12)
    successor = None
    sleep = app.clock.sleep

    async def sleeps(seconds):
        nonlocal successor
        if successor is None:
            app.age(65)
            successor = await facet.open_refresh(connection.id, owner="successor", lease=60, intent_id="s")
        elif store.connections.left == 0 and (await facet.refresh_history(connection.id, 1)).late is not None:
            await facet.drop_refresh(successor.lease)
            store.connections = facet
        await sleep(seconds)

    app.clock.sleep = sleeps
    counted()
    assert (await asyncio.wait_for(runtime.refresh(connection.id), 30)).refresh_state == "ok"
    assert counted() == {"token": 1}
    _, row = await app.stored(runtime, connection.id)
    assert row.version == 2
    assert (await runtime.execute(connection.id, "me")).attempts == 1


@pytest.mark.parametrize("error", [BackendUnavailable, KeyDenied])
async def test_secret_backend_that_is_gone_when_the_token_comes_loses_none(app, counted, error):
    """Protocols, Refresh 2 and 6: the data key that was at hand has ended while the provider was asked."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        gate, backend = Gate(runtime._core), runtime._core.backend
        generate, failed = backend.generate, []

        async def away(context):
            if len(failed) < 3:
                failed.append(context)
                raise error
            return await generate(context)

        refreshing = asyncio.create_task(runtime.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        counted()
        object.__setattr__(backend, "generate", away)
        app.clock.advance(301)  # which is longer than any data key seals
        gate.open.set()
        assert (await refreshing).refresh_state == "ok"
        assert len(failed) == 3
        assert counted() == {}
        _, row = await app.stored(runtime, connection.id)
        assert row.version == 2


async def test_commit_whose_answer_was_lost_is_found_by_reading_again(app, runtime, counted):
    """Protocols, Refresh 6, for a caller that has not said which version it used."""
    connection = await app.connect(runtime)
    store = runtime._core.store
    facet = store.connections
    close_refresh = facet.close_refresh

    async def lost(*args, **kwargs):
        await close_refresh(*args, **kwargs)
        raise CommitUnknown

    facet.close_refresh = lost
    counted()
    await flights.refresh(runtime._core, connection.id, used=None)
    assert counted() == {"token": 1}
    _, row = await app.stored(runtime, connection.id)
    assert row.version == 2


async def test_store_that_cannot_be_told_of_a_failure_does_not_hide_it(app, runtime):
    connection = await app.connect(runtime)
    store = runtime._core.store
    store.connections = Down(store.connections, "fail_refresh", left=1)
    app.sandbox.faults.set("token", "cut")
    with pytest.raises(TransportError):
        await runtime.refresh(connection.id)
    assert app.rows("SELECT outcome FROM service_refresh_intents") == [("",)]


async def test_caller_does_not_wait_for_ever_and_the_renewal_goes_on(app, runtime, monkeypatch):
    connection = await app.connect(runtime)
    monkeypatch.setattr(flights, "LEASES", 0.001)
    gate = Gate(runtime._core)
    with pytest.raises(RefreshLocked, match="goes on"):
        await runtime.refresh(connection.id)
    assert app.sandbox.requests["token"] == 2
    gate.open.set()
    await asyncio.gather(*runtime._core.tasks)
    _, row = await app.stored(runtime, connection.id)
    assert row.version == 2


async def test_preparation_that_took_long_renews_the_lease_before_the_request(app, runtime):
    """Protocols, Refresh 2: the deadline of the request is before the end of the lease."""
    connection = await app.connect(runtime)
    core = runtime._core
    facet = core.store.connections
    down = core.store.connections = Down(facet, left=0)
    open_refresh = facet.open_refresh

    async def slow(*args, **kwargs):
        opened = await open_refresh(*args, **kwargs)
        app.clock.advance(20)
        return opened

    facet.open_refresh = slow
    assert (await runtime.refresh(connection.id)).refresh_state == "ok"
    assert down.calls.index("renew_refresh") < down.calls.index("close_refresh")


async def test_token_that_has_all_but_ended_when_it_comes_causes_no_storm(app, runtime, counted):
    """P20: also one that the provider says has no life at all."""
    app.sandbox.access_token_lifetime = 1
    connection = await app.connect(runtime)
    app.clock.advance(10)
    counted()
    for _ in range(50):
        await runtime.execute(connection.id, "me")
    assert counted()["token"] == 1


class Signed(ApiKeyFlow):
    """A kind that makes its tokens itself and needs no refresh token."""

    made = 0

    def complete(self, ctx, params):
        yield from ()
        return self._token(ctx)

    def refresh(self, ctx, credential):
        yield from ()
        return self._token(ctx)

    def renewable(self, auth, tokens):
        return True

    def _token(self, ctx):
        from datetime import timedelta

        self.made += 1
        return TokenSet(access_token=SecretStr(f"made-{self.made}"), expires_at=ctx.now + timedelta(seconds=600))


async def test_token_without_a_refresh_token_is_renewed_where_its_flow_can(either):
    """Behaviour §27, item 8: judged by the strategy's ability."""
    either.set("keyed", identity=None)
    async with either.open() as runtime:
        runtime._core.flows[ApiKey.kind] = flow = Signed()
        from go_services_core import Scope

        connection = await runtime.establish("keyed", scope=Scope("user", "u1"), fields={"key": "x"})
        _, row = await either.stored(runtime, connection.id)
        assert row.refreshable
        for number in (1, 2, 3):
            assert (await runtime.token(connection.id)).reveal() == f"made-{number}"
            either.clock.advance(600)
        _, row = await either.stored(runtime, connection.id)
        assert (row.version, row.refreshable) == (3, True)
        assert flow.made == 3


async def test_grant_that_others_live_on_is_not_revoked(either, counted):
    """Protocols, Refresh 9: the last one of the account revokes it."""
    auth = either.providers.specs["sandbox"].auth[0]
    either.set(auth=evolve(auth, revocation_scope="grant"))
    async with either.open() as runtime:
        first, second = await either.connect(runtime, "u1"), await either.connect(runtime, "u2")
        assert first.external_account_id == second.external_account_id
        counted()
        ended = await runtime.disconnect(first.id)
        assert (ended.connection.status, ended.revoked) == ("disconnected", False)
        assert f"connection {second.id}" in ended.detail
        assert counted() == {}
        assert (await runtime.execute(second.id, "me")).status == 200
        with pytest.raises(ReauthRequired):
            await runtime.token(first.id)
        last = await runtime.disconnect(second.id)
        assert (last.revoked, counted()["revoke"]) == (True, 1)


async def test_siblings_do_not_matter_where_tokens_are_revoked_one_by_one(app, counted):
    auth = app.providers.specs["sandbox"].auth[0]
    app.set(auth=evolve(auth, revocation_scope="token"))
    async with app.open() as runtime:
        first = await app.connect(runtime, "u1")
        await app.connect(runtime, "u2")
        counted()
        assert (await runtime.disconnect(first.id)).revoked
        assert counted()["revoke"] == 2


async def test_token_that_comes_after_the_disconnect_is_given_back(either, counted):
    """Behaviour §27, item 24: another process ended the connection while this one was asking."""
    async with either.open() as slow, either.open() as other:
        connection = await either.connect(slow)
        gate = Gate(slow._core)
        late = asyncio.create_task(slow.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        assert (await other.disconnect(connection.id)).revoked
        assert counted()["revoke"] > 0
        gate.open.set()
        with pytest.raises(ReauthRequired, match="disconnected"):
            await late
        assert counted()["revoke"] > 0
        assert not [secret for secret in either.sandbox.issued_secrets() if either.sandbox.ledger.find_access(secret)]
        assert await either.events(slow) == ["connection.disconnected", "connection.established"]


async def test_token_that_comes_after_the_disconnect_and_cannot_be_given_back_is_only_logged(app, runtime, caplog):
    async with app.open() as other:
        connection = await app.connect(runtime)
        gate = Gate(runtime._core)
        late = asyncio.create_task(runtime.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        await other.disconnect(connection.id)
        app.sandbox.faults.set("revoke", "500", times=None)
        gate.open.set()
        with pytest.raises(ReauthRequired, match="disconnected"):
            await late
    assert "could not be revoked" in caplog.text
    assert not [secret for secret in app.sandbox.issued_secrets() if secret in caplog.text]


async def test_superseded_tokens_are_not_revoked(app, counted):
    auth = app.providers.specs["sandbox"].auth[0]
    app.set(auth=evolve(auth, revocation_scope="grant"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        await runtime.refresh(connection.id)
        await app.connect(runtime)
        assert counted()["revoke"] == 0
