"""Asking again: a consent for more, one that is due, and what becomes of those that are not given."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from go_services_core import Scope
from go_services_core.errors import (
    AccountMismatch,
    BadInput,
    CallbackRefused,
    ConnectionNotFound,
    InvalidTransition,
    ReauthRequired,
    ReconsentRequired,
    StateUnknown,
)
from go_services_core.testing.sandbox import Account

from .conftest import REDIRECT

OTHER = Account(id="2002", login="bob", name="Bob", email="bob@sandbox.example")


async def consented(app, runtime, connection_id, **options):
    start = await runtime.reconsent(connection_id, redirect_uri=REDIRECT, **options)
    return await runtime.complete(await app.sandbox.consent(start.url), binding=start.binding)


def scopes(start):
    return parse_qs(urlsplit(start.url).query)["scope"][0].split(" ")


async def lines(runtime, connection_id):
    found = (await runtime.grant_events(connection_id)).items
    return sorted((one.type, one.added, one.removed) for one in found)


async def test_connection_works_with_what_it_has_while_more_is_asked_for_and_with_more_afterwards(either):
    """P09, and a pending consent does not break a working connection (behaviour of the Go system)."""
    async with either.open() as runtime:
        made = await either.connect(runtime, grants=("items.read",))
        assert not (await runtime.can(made.id, "items.write")).allowed
        start = await runtime.reconsent(made.id, grants=("items.write",), redirect_uri=REDIRECT)
        assert scopes(start) == ["items.read", "items.write"]
        assert await runtime.connection(made.id) == made
        assert (await runtime.execute(made.id, "items.list")).status == 200
        assert await lines(runtime, made.id) == [
            ("expanded", ("items.read",), ()),
            ("reconsent_requested", ("items.write",), ()),
        ]
        params = await either.sandbox.consent(start.url)
        again = await runtime.complete(params, binding=start.binding)
        assert (again.id, again.created_at, again.status) == (made.id, made.created_at, "active")
        assert (await runtime.can(made.id, "items.write")).allowed
        assert ("reconsent_completed", ("items.write",), ()) in await lines(runtime, made.id)
        assert await either.grant_events(runtime) == [
            "grant.expanded",
            "grant.expanded",
            "grant.reconsent_completed",
            "grant.reconsent_requested",
        ]


async def test_reconsent_asks_for_what_was_asked_for_before_also_where_it_was_not_granted(app, runtime):
    app.sandbox.approve_scopes = frozenset({"items.read"})
    made = await app.connect(runtime, grants=("items.read", "items.write"))
    assert (await runtime.grants(made.id)).missing == ("items.write",)
    start = await runtime.reconsent(made.id, redirect_uri=REDIRECT)
    assert scopes(start) == ["items.read", "items.write"]
    assert ("reconsent_requested", ("items.write",), ()) in await lines(runtime, made.id)


async def test_reconsent_with_another_account_is_refused_and_leaves_everything_as_it_was(either):
    """P09."""
    async with either.open() as runtime:
        made = await either.connect(runtime)
        before, history = await either.stored(runtime, made.id), await lines(runtime, made.id)
        either.sandbox.account = OTHER
        with pytest.raises(AccountMismatch):
            await consented(either, runtime, made.id)
        assert await either.stored(runtime, made.id) == before
        assert len((await runtime.connections()).items) == 1
        assert await lines(runtime, made.id) == sorted([*history, ("reconsent_requested", (), ())])


async def test_reconsent_that_is_refused_or_abandoned_changes_nothing(either):
    async with either.open() as runtime:
        made = await either.connect(runtime)
        before = await either.stored(runtime, made.id)
        start = await runtime.reconsent(made.id, redirect_uri=REDIRECT)
        state = parse_qs(urlsplit(start.url).query)["state"][0]
        denied = {"state": state, "error": "access_denied", "iss": either.sandbox.url}
        with pytest.raises(CallbackRefused):
            await runtime.complete(denied, binding=start.binding)
        await runtime.reconsent(made.id, redirect_uri=REDIRECT)
        either.clock.advance(timedelta(days=1).total_seconds())
        assert await either.stored(runtime, made.id) == before


@pytest.mark.parametrize("status", ["pending_reauth", "errored", "needs_reconsent"])
async def test_reconsent_brings_back_what_may_not_be_used(app, runtime, status):
    made = await app.connect(runtime)
    app.rows("UPDATE service_connections SET status = ?", status)
    runtime._core.forget(made.id)
    with pytest.raises(ReauthRequired):
        await runtime.token(made.id)
    assert (await consented(app, runtime, made.id)).status == "active"
    assert await runtime.token(made.id)


async def test_reconsent_of_what_was_disconnected_or_is_unknown_is_refused_and_tells_nobody(app, runtime):
    made = await app.connect(runtime)
    await runtime.disconnect(made.id)
    events = await app.all_events(runtime)
    with pytest.raises(InvalidTransition, match="disconnected") as refused:
        await runtime.reconsent(made.id, redirect_uri=REDIRECT)
    assert "connect" in (refused.value.hint or "")
    with pytest.raises(ConnectionNotFound):
        await runtime.reconsent("none", redirect_uri=REDIRECT)
    with pytest.raises(BadInput):
        await runtime.reconsent(made.id, grants="items.read", redirect_uri=REDIRECT)
    assert await app.all_events(runtime) == events


async def test_reconsent_without_a_consent_page_is_refused(app, runtime):
    made = await runtime.establish("keyed", scope=Scope("user", "u1"), fields={"key": app.sandbox.api_key})
    with pytest.raises(BadInput):
        await runtime.reconsent(made.id, redirect_uri=REDIRECT)
    assert await app.grant_events(runtime) == []


async def test_required_reconsent_stops_calls_until_it_is_given(either, counted):
    seen = []
    async with either.open() as runtime:
        runtime.observe(seen.append, name="watch", inline=True)
        made = await either.connect(runtime)
        await runtime.token(made.id)  # it is cached now
        counted()
        stopped = await runtime.require_reconsent(made.id, reason="new terms")
        assert (stopped.status, stopped.last_error) == ("needs_reconsent", "new terms")
        assert await runtime.require_reconsent(made.id, reason="again") == stopped
        for call in (
            runtime.execute(made.id, "items.list"),
            runtime.token(made.id),
            runtime.refresh(made.id),
            runtime.can(made.id, "items.read"),
        ):
            with pytest.raises(ReconsentRequired, match="new terms") as refused:
                await call
            assert refused.value.code == "SERVICE_RECONSENT_REQUIRED"
            assert "Runtime.reconsent" in (refused.value.hint or "")
        assert not counted()
        assert [one.name for one in seen if "needs" in one.name] == ["connection.needs_reconsent"]
        assert (await either.events(runtime)).count("connection.needs_reconsent") == 1
        assert (await consented(either, runtime, made.id)).status == "active"
        assert (await runtime.execute(made.id, "items.list")).status == 200


@pytest.mark.parametrize("reason", ["", "  "])
async def test_required_reconsent_says_why(app, runtime, reason):
    made = await app.connect(runtime)
    with pytest.raises(BadInput):
        await runtime.require_reconsent(made.id, reason=reason)
    with pytest.raises(ConnectionNotFound):
        await runtime.require_reconsent("none", reason="new terms")
    assert (await runtime.connection(made.id)).status == "active"


async def test_event_that_cannot_be_written_undoes_the_reconsent_that_it_announces(app, runtime):
    """Each step is one commit with its events; here the database refuses those of grants."""
    made = await app.connect(runtime, grants=("items.read",))
    start = await runtime.reconsent(made.id, grants=("items.write",), redirect_uri=REDIRECT)
    params = await app.sandbox.consent(start.url)
    before, history = await app.stored(runtime, made.id), await lines(runtime, made.id)
    app.rows(
        """CREATE TRIGGER refuse BEFORE INSERT ON service_lifecycle_outbox WHEN new.event_name LIKE 'grant.%'
        BEGIN SELECT RAISE(ABORT, 'refused'); END"""
    )
    with pytest.raises(Exception, match=r"refused|refuse"):
        await runtime.complete(params, binding=start.binding)
    assert await app.stored(runtime, made.id) == before
    attempts = app.rows("SELECT count(*) FROM service_oauth_attempts")
    with pytest.raises(Exception, match=r"refused|refuse"):
        await runtime.reconsent(made.id, redirect_uri=REDIRECT)
    assert app.rows("SELECT count(*) FROM service_oauth_attempts") == attempts
    assert await lines(runtime, made.id) == history
    app.rows("DROP TRIGGER refuse")
    start = await runtime.reconsent(made.id, grants=("items.write",), redirect_uri=REDIRECT)
    assert (await runtime.complete(await app.sandbox.consent(start.url), binding=start.binding)).id == made.id


async def test_consent_for_a_connection_by_its_id_asks_for_exactly_what_is_given(app, runtime):
    made = await app.connect(runtime, grants=("items.read", "items.write"))
    start, params = await app.begin(runtime, grants=("items.read",), connection_id=made.id)
    assert scopes(start) == ["items.read"]
    await runtime.complete(params, binding=start.binding)
    assert ("downgraded", (), ("items.write",)) in await lines(runtime, made.id)
    assert ("reconsent_completed", (), ("items.write",)) in await lines(runtime, made.id)
    with pytest.raises(StateUnknown):
        await runtime.complete({**params, "state": "x"}, binding=start.binding)


async def test_reconsent_of_a_connection_without_history_asks_for_the_defaults_and_more(app, runtime):
    """As an adopted one may be."""
    assert app.providers.specs["sandbox"].auth[0].default_grants == ("items.read", "items.write")
    made = await app.connect(runtime, grants=("items.read",))
    app.rows("UPDATE service_credentials SET requested_scopes = '[]'")
    start = await runtime.reconsent(made.id, redirect_uri=REDIRECT)
    assert scopes(start) == ["items.read"]  # the newest snapshot says it
    app.rows("DELETE FROM service_grant_snapshots")
    start = await runtime.reconsent(made.id, redirect_uri=REDIRECT)
    assert scopes(start) == ["items.read", "items.write"]
