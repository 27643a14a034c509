"""How long connections go on working: ends, next renewal and verdict, from what is stored, without opening anything."""

from __future__ import annotations

from datetime import timedelta

import pytest
from attrs import evolve

from go_services_core import Scope
from go_services_core.errors import BadInput, ConnectionNotFound
from go_services_core.runtime.refresh_ahead import AHEAD

DAY = 86400.0
LIFE = 3600


def recorded(app, **fields):
    app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], **fields))


async def failed(runtime, id, *, times=1, **options):
    facet = runtime._core.store.connections
    for number in range(times):
        opened = await facet.open_refresh(id, owner="other", lease=60, intent_id=f"{id} {number} {options}")
        await facet.fail_refresh(opened.lease, error="kit", event=None, **{"terminal": False, **options})


async def test_healthy_connection_tells_its_ends_and_its_next_renewal(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        counted()
        found = await runtime.connection_health(connection.id)
        now = either.clock.now()
        assert (found.connection, found.verdict, found.advice) == (connection, "ok", "")
        assert found.token_ends == now + timedelta(seconds=LIFE)
        assert timedelta(seconds=LIFE - 360) <= found.next_renewal - now <= timedelta(seconds=LIFE - 300)
        assert (found.refresh_ends, found.retry_at) == (None, None)
        assert counted() == {}
        assert await runtime.run_due(AHEAD) == 0
        either.clock.advance((found.next_renewal - now).total_seconds())
        assert (await runtime.connection_health(connection.id)).verdict == "renew soon"
        assert await runtime.run_due(AHEAD) == 1  # at the very moment that was foretold
        assert (await runtime.connection_health(connection.id)).verdict == "ok"


async def test_end_of_the_refresh_token_is_told_in_time_and_then_needs_action(either):
    recorded(either, refresh_lifetime=30 * DAY)
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        ends = either.clock.now() + timedelta(days=30)
        assert (await runtime.connection_health(connection.id)).refresh_ends == ends
        for days, within, verdict in (
            (0, 7, "ok"),
            (0, 30, "reauth soon"),
            (24, 7, "reauth soon"),
            (24, 1, "renew soon"),
        ):
            either.clock.advance(days * DAY)
            found = await runtime.connection_health(connection.id, within=timedelta(days=within))
            assert found.verdict == verdict, (days, within)
            either.clock.advance(-days * DAY)
            if verdict == "reauth soon":
                assert f"{ends:%Y-%m-%d}" in found.advice
        either.clock.advance(30 * DAY)
        over = await runtime.connection_health(connection.id)
        assert (over.verdict, over.advice) == ("action needed", "Connect it again. Its refresh token has ended.")


async def test_refresh_token_that_dies_of_rest_is_renewed_and_not_told(either):
    """Refresh-ahead keeps it alive; when nobody ran it for too long, it is dead."""
    either.sandbox.access_token_lifetime = 365 * DAY
    recorded(either, refresh_inactivity=5 * DAY)
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        now = either.clock.now()
        found = await runtime.connection_health(connection.id)
        assert (found.verdict, found.refresh_ends) == ("ok", now + timedelta(days=5))
        assert timedelta(days=3.6) <= found.next_renewal - now <= timedelta(days=4)
        either.clock.advance(4 * DAY)
        assert (await runtime.connection_health(connection.id)).verdict == "renew soon"
        either.clock.advance(DAY)
        assert (await runtime.connection_health(connection.id)).verdict == "action needed"


async def test_token_that_cannot_be_renewed_is_told_before_it_ends(either):
    recorded(either, refreshable=False)
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        found = await runtime.connection_health(connection.id, within=timedelta(minutes=59))
        assert (found.verdict, found.next_renewal) == ("ok", None)
        assert (await runtime.connection_health(connection.id)).verdict == "reauth soon"
        either.clock.advance(LIFE)
        assert (await runtime.connection_health(connection.id)).verdict == "action needed"


async def test_key_without_an_end_is_healthy_for_ever(app, runtime):
    fields = {"key": app.sandbox.api_key}
    connection = await runtime.establish("keyed", scope=Scope("user", "u1"), fields=fields)
    app.clock.advance(1000 * DAY)
    found = await runtime.connection_health(connection.id)
    assert (found.verdict, found.token_ends, found.refresh_ends, found.next_renewal) == ("ok", None, None, None)


async def test_failed_and_unknown_renewals_are_tried_again_and_lost_ones_need_somebody(either):
    async with either.open() as runtime:
        backing_off, unknown, lost, ended, unreadable, gone = [
            (await either.connect(runtime, f"u{number}")).id for number in range(6)
        ]
        await failed(runtime, backing_off, retry_in=40)
        await failed(runtime, unknown, state="unknown")
        await failed(runtime, lost, state="unknown", times=2)
        await failed(runtime, ended, terminal=True)
        await runtime._core.store.sealed.mark(unreadable, "unreadable", error="kit")
        await runtime.disconnect(gone)
        page = await runtime.connections_health()
        found = {one.connection.id: one for one in page.items}
        assert {id: one.verdict for id, one in found.items()} == {
            backing_off: "renew soon",
            unknown: "renew soon",
            lost: "action needed",
            ended: "action needed",
            unreadable: "action needed",
        }
        assert page.next is None
        wait = found[backing_off].retry_at - either.clock.now()
        assert timedelta(seconds=35) < wait <= timedelta(seconds=40)
        assert "lost" in found[lost].advice
        assert found[lost].next_renewal is None
        assert "It was ended: kit" in found[ended].advice
        assert "secrets status" in found[unreadable].advice
        for id, one in found.items():
            alone = await runtime.connection_health(id)
            assert (alone.verdict, alone.advice) == (one.verdict, one.advice)
        assert (await runtime.connection_health(gone)).verdict == "action needed"


async def test_health_is_listed_by_page_provider_and_scope(either):
    async with either.open() as runtime:
        made = sorted([(await either.connect(runtime, f"u{number}")).id for number in range(5)])
        seen, after = [], None
        while True:
            page = await runtime.connections_health(after=after, limit=2)
            seen += [one.connection.id for one in page.items]
            after = page.next
            if after is None:
                break
        assert seen == made
        assert (await runtime.connections_health(provider_id="keyed")).items == ()
        assert len((await runtime.connections_health(provider_id="sandbox")).items) == 5
        (one,) = (await runtime.connections_health(scope=Scope("user", "u3"))).items
        assert one.connection.scope == Scope("user", "u3")


async def test_health_opens_nothing(app, runtime):
    """It answers also while no credential can be opened."""
    connection = await app.connect(runtime)

    class Shut:
        def __getattr__(self, name):
            raise AssertionError(f"{name} of the sealer was used")

    runtime._core.sealer = Shut()
    assert (await runtime.connection_health(connection.id)).verdict == "ok"
    assert (await runtime.connections_health()).items[0].verdict == "ok"


async def test_connection_of_a_provider_that_is_gone_needs_action(app):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.rows("UPDATE service_connections SET provider_id = 'vanished'")
        found = await runtime.connection_health(connection.id)
        assert found.verdict == "action needed"
        assert "vanished" in found.advice


async def test_wrong_questions_are_refused(either):
    async with either.open() as runtime:
        with pytest.raises(ConnectionNotFound):
            await runtime.connection_health("nobody")
        with pytest.raises(BadInput, match="not below 0"):
            await runtime.connections_health(within=timedelta(seconds=-1))
        with pytest.raises(BadInput):
            await runtime.connections_health(limit=0)
