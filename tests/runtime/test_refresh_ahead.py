"""``refresh.ahead``: what is due is renewed before somebody needs it, within limits, and nothing else is touched."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from go_services_core.errors import BadInput, FacetMissing, RefreshUnknown, TransportError
from go_services_core.model import Drained
from go_services_core.runtime import refresh_ahead
from go_services_core.runtime.refresh_ahead import AHEAD, IN_A_ROW

LIFE = 3600
INSIDE_MARGIN = LIFE - 299
OUTSIDE_MARGIN = LIFE - 361
"""No token of an hour is renewed this early, whatever its jitter."""


async def connected(app, runtime, count):
    return [(await app.connect(runtime, f"u{number}")).id for number in range(count)]


async def versions(app, runtime):
    """Connection → active version."""
    page = await runtime._core.store.connections.outlooks(limit=1000)
    return {one.connection.id: one.credential.version for one in page.items}


def ended(app):
    """Every token of a database of real time has ended."""
    app.rows(
        """UPDATE service_credentials SET created_at = '2026-01-01 00:00:00.000000',
        expires_at = '2026-01-01 01:00:00.000000'"""
    )


def watched(runtime, name=AHEAD):
    seen = []
    runtime.observe(
        lambda observation: seen.append(observation) if observation.name == name else None, name="watch", inline=True
    )
    return seen


async def test_what_is_due_is_renewed_and_the_rest_is_not(either, counted):
    async with either.open() as runtime:
        early = await connected(either, runtime, 3)
        either.clock.advance(INSIDE_MARGIN)
        late = (await either.connect(runtime, "late")).id
        seen = watched(runtime)
        counted()
        assert await runtime.run_due(AHEAD) == 3
        assert counted() == {"token": 3}
        assert await versions(either, runtime) == {**dict.fromkeys(early, 2), late: 1}
        assert [(one.provider_id, one.ok, dict(one.detail)) for one in seen] == [
            ("sandbox", True, {"done": 3, "failed": 0})
        ]
        assert await runtime.run_due(AHEAD) == 0
        assert counted() == {}
        assert len(seen) == 1  # nothing was due, nothing is told
        assert (await runtime.execute(early[0], "me")).attempts == 1


async def test_nothing_is_renewed_before_its_margin(either, counted):
    async with either.open() as runtime:
        await connected(either, runtime, 3)
        either.clock.advance(OUTSIDE_MARGIN)
        counted()
        assert await runtime.run_due(AHEAD) == 0
        assert counted() == {}


async def test_drain_renews_what_is_due_once(either, counted):
    async with either.open() as runtime:
        await connected(either, runtime, 2)
        either.clock.advance(INSIDE_MARGIN)
        counted()
        assert await runtime.drain() == Drained(renewals=2)
        assert await runtime.drain() == Drained()
        assert counted() == {"token": 2}


async def test_limit_is_how_many_are_renewed_and_bad_kinds_are_named(either, counted):
    async with either.open() as runtime:
        await connected(either, runtime, 5)
        either.clock.advance(LIFE)
        assert [await runtime.run_due(AHEAD, limit=2) for _ in range(4)] == [2, 2, 1, 0]
        with pytest.raises(BadInput) as refused:
            await runtime.run_due("refresh.behind")
        assert AHEAD in refused.value.hint


async def test_more_than_a_page_is_renewed_and_each_once(either, counted, monkeypatch):
    monkeypatch.setattr(refresh_ahead, "PAGE", 3)
    async with either.open() as runtime:
        made = await connected(either, runtime, 10)
        either.clock.advance(LIFE)
        counted()
        assert await runtime.run_due(AHEAD) == 10
        assert counted() == {"token": 10}
        assert await versions(either, runtime) == dict.fromkeys(made, 2)


async def test_ended_lost_unreadable_and_endless_ones_are_left_alone(either, counted):
    """P19: zero further token calls for a grant that is over."""
    async with either.open() as runtime:
        ended, lost, unreadable, gone = await connected(either, runtime, 4)
        facet = runtime._core.store.connections
        for id, terminal, times in ((ended, True, 1), (lost, False, 2)):
            for number in range(times):
                opened = await facet.open_refresh(id, owner="other", lease=60, intent_id=f"{id} {number}")
                await facet.fail_refresh(opened.lease, error="kit", terminal=terminal, event=None, state="unknown")
        await runtime._core.store.sealed.mark(unreadable, "unreadable", error="kit")
        await runtime.disconnect(gone)
        either.clock.advance(LIFE)
        counted()
        assert await runtime.drain() == Drained()
        assert counted() == {}


async def test_what_backs_off_waits_for_its_time(either, counted):
    """P17: an outage is asked again at the time that is stored, not by each run; nobody is disconnected."""
    async with either.open() as runtime:
        (id,) = await connected(either, runtime, 1)
        either.clock.advance(INSIDE_MARGIN)
        either.sandbox.faults.set("token", "503", times=None)
        seen = watched(runtime)
        counted()
        assert await runtime.drain() == Drained(failed=1)
        assert [await runtime.drain() for _ in range(5)] == [Drained()] * 5
        assert counted() == {"token": 1}
        assert [dict(one.detail) for one in seen] == [{"done": 0, "failed": 1}]
        assert (await runtime.connection(id)).status == "active"
        either.age(10)
        either.sandbox.faults.clear()
        assert await runtime.drain() == Drained(renewals=1)
        assert (await runtime.connection(id)).refresh_state == "ok"


async def test_lost_answer_is_recovered_when_the_token_has_ended_not_before(either, counted):
    """P11; protocols, Refresh 4."""
    async with either.open() as runtime:
        (id,) = await connected(either, runtime, 1)
        facet = runtime._core.store.connections
        opened = await facet.open_refresh(id, owner="other", lease=60, intent_id="i")
        await facet.fail_refresh(opened.lease, error="cut", terminal=False, event=None, state="unknown")
        either.clock.advance(INSIDE_MARGIN)
        counted()
        assert await runtime.drain() == Drained()
        assert counted() == {}
        either.clock.advance(300)
        assert await runtime.drain() == Drained(renewals=1)
        assert counted() == {"token": 1}


async def test_what_another_process_renews_is_not_waited_for(either, counted):
    async with either.open() as runtime:
        held, free = await connected(either, runtime, 2)
        either.clock.advance(LIFE)
        await runtime._core.store.connections.open_refresh(held, owner="other", lease=60, intent_id="i")
        slept = len(either.clock.slept)
        counted()
        assert await runtime.run_due(AHEAD) == 1
        assert counted() == {"token": 1}
        assert (await versions(either, runtime)) == {held: 1, free: 2}
        assert len(either.clock.slept) == slept


class Endpoint:
    """Between runtime and provider: counts token requests in flight, and fails those of some providers."""

    def __init__(self, core, failing=()):
        self._send, self.failing = core.transport.send, failing
        self.now = self.most = 0
        self.asked = []
        core.transport = self

    async def send(self, request, *, provider_id):
        self.now += 1
        self.most = max(self.most, self.now)
        self.asked.append(provider_id)
        try:
            await asyncio.sleep(0.002)
            if provider_id in self.failing:
                raise TransportError("cut")
            return await self._send(request, provider_id=provider_id)
        finally:
            self.now -= 1


async def test_no_more_than_refresh_concurrency_are_in_flight(either):
    async with either.open(settings={"providers.sandbox.refresh_concurrency": 3}) as runtime:
        await connected(either, runtime, 12)
        either.clock.advance(LIFE)
        endpoint = Endpoint(runtime._core)
        assert await runtime.run_due(AHEAD) == 12
        assert endpoint.most == 3


async def test_refresh_rate_is_kept_by_all_processes_together(live):
    """Two runtimes on one database share one budget."""
    settings = {"providers.sandbox.refresh_rate": 10.0}
    async with live.open(settings=settings) as one, live.open(settings=settings) as two:
        await connected(live, one, 25)
        ended(live)
        loop = asyncio.get_running_loop()
        endpoints = [Endpoint(runtime._core) for runtime in (one, two)]
        began = loop.time()
        done = await asyncio.gather(one.run_due(AHEAD), two.run_due(AHEAD))
        took = loop.time() - began
    assert sum(len(endpoint.asked) for endpoint in endpoints) == 25
    assert sum(done) >= 25
    assert took >= 2  # three windows of ten: the third begins two seconds after the first
    ((limit, window),) = live.rows('SELECT "limit", window_seconds FROM service_rate_limit_state')
    assert (limit, window) == (10.0, 1.0)


async def test_rate_below_one_is_one_in_a_longer_window(app):
    async with app.open(settings={"providers.sandbox.refresh_rate": 0.25}) as runtime:
        await connected(app, runtime, 1)
        app.clock.advance(LIFE)
        assert await runtime.run_due(AHEAD) == 1
        assert app.rows('SELECT "limit", window_seconds FROM service_rate_limit_state') == [(1.0, 4.0)]


async def test_rate_needs_a_store_with_budgets(either, monkeypatch):
    async with either.open(settings={"providers.sandbox.refresh_rate": 5.0}) as runtime:
        await connected(either, runtime, 1)
        either.clock.advance(LIFE)
        monkeypatch.setattr(runtime._core.store, "budgets", None)
        with pytest.raises(FacetMissing, match="refresh_rate of sandbox"):
            await runtime.run_due(AHEAD)


async def test_run_begins_nothing_after_its_minute_and_the_next_goes_on(either, monkeypatch):
    monkeypatch.setattr(refresh_ahead, "LONGEST_RUN", 0.0)
    async with either.open() as runtime:
        await connected(either, runtime, 2)
        either.clock.advance(LIFE)
        assert await runtime.run_due(AHEAD) == 0
        monkeypatch.setattr(refresh_ahead, "LONGEST_RUN", 60.0)
        assert await runtime.run_due(AHEAD) == 2


async def test_failing_provider_is_left_alone_and_does_not_hold_up_others(either):
    """The one that fails gets a few requests, the other all that it needs."""
    auth = either.providers.specs["sandbox"].auth[0]
    either.providers.specs["other"] = evolve(either.providers.specs["sandbox"], id="other", auth=evolve(auth))
    either.settings["providers.other"] = either.settings["providers.sandbox"]
    either.settings["egress.allow"]["other"] = either.settings["egress.allow"]["sandbox"]
    async with either.open(settings={"providers.sandbox.refresh_concurrency": 2}) as runtime:
        bad = await connected(either, runtime, 20)
        good = []
        for number in range(10):
            start = await runtime.connect(
                "other", scope=(await runtime.connection(bad[number])).scope, redirect_uri="http://127.0.0.1/callback"
            )
            made = await runtime.complete(await either.sandbox.consent(start.url), binding=start.binding)
            good.append(made.id)
        either.clock.advance(LIFE)
        endpoint = Endpoint(runtime._core, failing={"sandbox"})
        seen = watched(runtime)
        drained = await runtime.drain()
        assert drained.renewals == 10
        assert IN_A_ROW <= drained.failed <= IN_A_ROW + 1  # one more was in flight
        assert endpoint.asked.count("sandbox") == drained.failed
        found = await versions(either, runtime)
        assert {found[id] for id in good} == {2}
        assert {found[id] for id in bad} == {1}
        assert {one.provider_id: one.ok for one in seen} == {"sandbox": False, "other": True}
        assert {one.status for one in (await runtime.connections(limit=100)).items} == {"active"}


async def test_unused_refresh_token_is_used_before_it_dies(either, counted):
    """Nobody calls, and the access token lives for a year: it is renewed for the refresh token's sake."""
    either.sandbox.access_token_lifetime = 365 * 86400.0
    auth = either.providers.specs["sandbox"].auth[0]
    either.set(auth=evolve(auth, refresh_inactivity=10 * 86400.0))
    async with either.open() as runtime:
        made = await connected(either, runtime, 3)
        either.clock.advance(7 * 86400)
        counted()
        assert await runtime.run_due(AHEAD) == 0
        either.clock.advance(86400)
        assert await runtime.run_due(AHEAD) == 3
        assert counted() == {"token": 3}
        assert await versions(either, runtime) == dict.fromkeys(made, 2)
        assert await runtime.run_due(AHEAD) == 0


async def test_unused_refresh_token_is_left_alone_where_the_record_does_not_ask(either, counted):
    either.sandbox.access_token_lifetime = 365 * 86400.0
    async with either.open() as runtime:
        await connected(either, runtime, 1)
        either.clock.advance(300 * 86400)
        assert await runtime.run_due(AHEAD) == 0


async def test_what_nobody_uses_does_not_fill_the_cache(either):
    async with either.open() as runtime:
        used, unused = await connected(either, runtime, 2)
        await runtime.token(used)
        assert set(runtime._core.cache) == {used}
        either.clock.advance(INSIDE_MARGIN)
        runtime._core.cache[used].until += LIFE
        assert await runtime.run_due(AHEAD) == 2
        assert unused not in runtime._core.cache
        new = await runtime.token(used)
        assert new.reveal() in either.secrets("sbx_at_")
        assert (await versions(either, runtime)) == {used: 2, unused: 2}


async def test_closing_ends_a_run(live):
    """What is in flight is finished, and nothing more is begun."""
    async with live.open(settings={"providers.sandbox.refresh_concurrency": 1}) as runtime:
        await connected(live, runtime, 3)
        ended(live)
        live.sandbox.faults.set("token", "slow", seconds=0.2)
        before = live.sandbox.requests["token"]
        seen = watched(runtime)
        run = asyncio.create_task(runtime.run_due(AHEAD))
        while live.sandbox.requests["token"] == before:
            await asyncio.sleep(0.005)
    assert await run == 1
    assert [dict(one.detail) for one in seen] == [{"done": 1, "failed": 0}]
    assert live.sandbox.requests["token"] == before + 1
    saved = live.rows("SELECT count(*) FROM service_credentials WHERE status = 'active' AND version = 2")
    assert saved == [(1,)]


async def test_recovery_that_is_lost_as_well_counts_as_failed(either):
    async with either.open() as runtime:
        (id,) = await connected(either, runtime, 1)
        either.sandbox.faults.set("token", "cut", times=None)
        with pytest.raises(TransportError):
            await runtime.refresh(id)
        either.clock.advance(LIFE)
        assert await runtime.drain() == Drained(failed=1)
        assert await runtime.drain() == Drained(events=0)
        with pytest.raises(RefreshUnknown):
            await runtime.token(id)
