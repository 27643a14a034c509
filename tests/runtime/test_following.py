"""Hooks before and after the commit of events, and the bus of this process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing

import pytest

from go_services_core import Ref, hookimpl
from go_services_core.errors import BadInput, CannotOpen, EventsMissed, HookRefused, ReauthRequired, StoreUnavailable
from go_services_core.runtime.announce import let_pass, proposed, told
from go_services_core.specs import LifecycleHookSpec

from .conftest import REDIRECT
from .test_secret_state import damage


@pytest.fixture(autouse=True)
def long_lived(sandbox):
    sandbox.access_token_lifetime = 365 * 86400.0


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


# --- before --------------------------------------------------------------------------------------------------------


async def test_hook_before_the_commit_refuses_and_nothing_is_committed(either):
    async with either.open() as runtime:

        async def no(event):
            raise BadInput("not today", field="day")

        runtime.before("connection.established", no, name="app.no")
        with pytest.raises(
            HookRefused, match=r"The hook 'app.no' refused connection.established: not today"
        ) as refused:
            await either.connect(runtime)
        assert isinstance(refused.value.__cause__, BadInput)
        assert refused.value.metadata == {"hook": "app.no", "event": "connection.established"}
        assert (await runtime.connections()).items == ()
        assert await either.all_events(runtime) == []


@pytest.mark.parametrize("kind", ["require_reconsent", "reconsent", "disconnect"])
async def test_each_change_of_a_connection_can_be_refused(either, counted, kind):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        before = await either.all_events(runtime)

        def no(event):
            raise PermissionError("secret-0123456789")

        runtime.before("*", no, name="app.no")
        counted()
        doing = {
            "require_reconsent": lambda: runtime.require_reconsent(connection.id, reason="audit"),
            "reconsent": lambda: runtime.reconsent(connection.id, grants=["items.write"], redirect_uri=REDIRECT),
            "disconnect": lambda: runtime.disconnect(connection.id, reason="user asked"),
        }[kind]
        with pytest.raises(HookRefused) as refused:
            await doing()
        assert "PermissionError" in str(refused.value)
        assert "0123456789" not in str(refused.value)
        assert counted() == {}  # the provider was not told either
        assert (await runtime.connection(connection.id)).status == "active"
        assert await either.all_events(runtime) == before
        # The lease is free again: the connection is as it was.
        assert (await runtime.refresh(connection.id)).status == "active"


async def test_disconnect_is_asked_about_before_the_provider_is_told_and_committed_with_what_it_said(app, counted):
    asked, handled = [], []
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        runtime.before("connection.disconnected", lambda event: asked.append((event, dict(counted()))), name="h")

        async def handler(event, context):
            handled.append(event)

        await runtime.on("connection.disconnected", handler, name="h")
        await runtime.disconnect(connection.id, reason="user asked")
        await runtime.drain()
    ((event, calls),) = asked
    assert (dict(event.payload), calls) == ({"reason": "user asked"}, {})
    assert handled[0].id == event.id
    assert handled[0].payload["revoked"] is True


async def test_hooks_are_asked_in_the_order_of_their_registration_and_the_first_refusal_ends_it(app, runtime):
    asked = []

    def passes(event):
        asked.append("first")

    async def refuses(event):
        asked.append("second")
        raise ValueError

    runtime.before("connection.*", passes, name="b")
    runtime.before("connection.*", refuses, name="a")
    runtime.before("connection.*", lambda event: asked.append("third"), name="c")
    runtime.before("grant.*", lambda event: asked.append("never"), name="d")
    with pytest.raises(HookRefused):
        await app.connect(runtime)
    assert asked == ["first", "second"]
    runtime.before("connection.*", passes, name="a")  # takes the place of the one that refuses
    await app.connect(runtime)
    assert asked[2:] == ["first", "first", "third"]


async def test_hook_may_use_the_runtime(app, runtime):
    known = []

    async def look(event):
        known.append(len((await runtime.connections()).items))

    runtime.before("connection.*", look, name="look")
    connection = await app.connect(runtime)
    await runtime.disconnect(connection.id)
    assert known == [0, 1]


async def test_renewal_is_not_asked_about_since_its_token_is_there(app, runtime):
    """The grant may be ended by the provider at any time as well: nobody can refuse what has happened."""
    asked = []
    connection = await app.connect(runtime)
    runtime.before("*", lambda event: asked.append(event.name), name="all")
    await runtime.refresh(connection.id)
    for secret in app.secrets("sbx_rt_"):
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)
    assert asked == []


@pytest.mark.parametrize("pattern", ["credential.refreshed", "webhook.*", "job.*", "conection.*", " "])
def test_pattern_that_means_nothing_that_can_be_refused_is_bad_input(runtime, pattern):
    with pytest.raises(BadInput) as refused:
        runtime.before(pattern, print, name="h")
    assert refused.value.field == "events"


def test_hook_has_a_name(runtime):
    for register in (runtime.before, runtime.after):
        with pytest.raises(BadInput):
            register("connection.*", print, name=" ")


async def test_no_emitter_can_leave_the_hooks_out(app, runtime):
    connection = await app.connect(runtime)
    with pytest.raises(AssertionError, match="may be refused"):
        told(runtime._core, connection, "connection.disconnected", {"reason": "r"})
    with pytest.raises(AssertionError, match="cannot be refused"):
        await proposed(runtime._core, "credential.refreshed", {"version": 1}, provider_id="p", scope=connection.scope)
    with pytest.raises(AssertionError, match="cannot be refused"):
        await let_pass(runtime._core, told(runtime._core, connection, "credential.refreshed", {"version": 1}))


# --- after ---------------------------------------------------------------------------------------------------------


async def test_hook_after_the_commit_hears_of_everything_that_was_committed_in_order(either):
    heard = []
    async with either.open() as runtime:
        runtime.after("*", lambda event: heard.append(event.name), name="plain")
        seen = []

        async def look(event):
            seen.append((await runtime.connection(event.connection_id)).status)

        runtime.after("connection.*", look, name="look")
        connection = await either.connect(runtime)
        await runtime.refresh(connection.id)
        await runtime.disconnect(connection.id)
        await until(lambda: len(heard) == 4 and len(seen) == 2)
    assert sorted(heard[:2]) == ["connection.established", "grant.expanded"]  # the second is made by the store
    assert heard[2:] == ["credential.refreshed", "connection.disconnected"]
    assert set(seen) <= {"active", "disconnected"}


async def test_what_a_hook_after_the_commit_raises_is_logged_and_changes_nothing(app, runtime, caplog):
    heard = []

    async def fails(event):
        raise RuntimeError("boom")

    runtime.after("connection.*", fails, name="app.fails")
    runtime.after("connection.*", lambda event: heard.append(event.name), name="app.hears")
    connection = await app.connect(runtime)
    await runtime.disconnect(connection.id)
    await until(lambda: len(heard) == 2)
    await until(lambda: len([one for one in caplog.messages if "app.fails" in one]) == 2)
    assert "the hook app.fails failed after connection.established was committed" in caplog.messages


async def test_nobody_hears_of_what_was_not_committed(either):
    """Neither of a change that was refused nor of one that the store did not take."""
    heard = []
    async with either.open() as runtime:
        runtime.after("*", lambda event: heard.append(event.name), name="h")
        runtime.before("connection.established", lambda event: 1 / 0, name="no")
        with pytest.raises(HookRefused):
            await either.connect(runtime)
        runtime.before("connection.established", lambda event: None, name="no")
        connection = await either.connect(runtime)
        await until(lambda: len(heard) == 2)
        facet = runtime._core.store.connections
        kept = facet.require_reconsent

        async def fails(*args, **options):
            raise StoreUnavailable("gone")

        facet.require_reconsent = fails
        with pytest.raises(StoreUnavailable):
            await runtime.require_reconsent(connection.id, reason="audit")
        facet.require_reconsent = kept
        await runtime.disconnect(connection.id)
        await until(lambda: len(heard) == 3)
    assert heard[2:] == ["connection.disconnected"]


async def test_what_waits_for_a_hook_is_told_before_the_runtime_closes(app):
    heard = []
    async with app.open() as runtime:
        runtime.after("connection.*", lambda event: heard.append(event.name), name="h")
        await app.connect(runtime)
    assert heard == ["connection.established"]


async def test_hook_that_hangs_does_not_keep_the_runtime_from_closing(app, monkeypatch):
    monkeypatch.setattr("go_services_core.runtime.hooks.CLOSING", 0.05)
    cancelled = []

    async def hangs(event):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.name)
            raise

    async with app.open() as runtime:
        runtime.after("connection.*", hangs, name="h")
        await app.connect(runtime)
        await asyncio.sleep(0)
    assert cancelled == ["connection.established"]


# --- the bus -------------------------------------------------------------------------------------------------------


async def test_listener_gets_what_is_committed_from_its_call_on_and_ends_with_the_runtime(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        watching = runtime.events("connection.*")
        other = runtime.events("credential.*")
        await runtime.refresh(connection.id)
        await runtime.disconnect(connection.id)
        assert (await anext(watching)).name == "connection.disconnected"
        assert (await anext(other)).name == "credential.refreshed"
    assert [event async for event in watching] == []
    assert [event async for event in runtime.events()] == []  # of a runtime that is closed


async def test_slow_listener_is_told_how_much_it_missed_and_goes_on(app, runtime):
    watching = runtime.events("connection.*", buffer=2)
    made = [await app.connect(runtime, f"u{number}") for number in range(5)]
    assert [(await anext(watching)).connection_id for _ in range(2)] == [one.id for one in made[:2]]
    with pytest.raises(EventsMissed) as missed:
        await anext(watching)
    assert missed.value.metadata == {"missed": 3}
    await runtime.disconnect(made[0].id)
    assert (await anext(watching)).name == "connection.disconnected"


async def test_listener_that_is_closed_or_dropped_is_no_more(app, runtime):
    hooks = runtime._core.hooks
    async with aclosing(runtime.events("connection.*")) as watching:
        assert len(hooks._buffers) == 1
    assert [event async for event in watching] == []
    runtime.events("connection.*")
    assert len(hooks._buffers) == 0
    with pytest.raises(BadInput):
        runtime.events("connection.*", buffer=0)


async def test_without_a_listener_units_of_work_are_not_watched(app, runtime):
    await app.connect(runtime)
    assert runtime._core.store._announcing.listener is None


async def test_caller_that_is_cancelled_does_not_keep_others_from_hearing(app, runtime):
    connection = await app.connect(runtime)
    watching = runtime.events()
    ending = asyncio.create_task(runtime.require_reconsent(connection.id, reason="audit"))
    while runtime._core.store._announcing._units == set():
        await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert (await asyncio.wait_for(anext(watching), 10)).name == "connection.needs_reconsent"
    assert (await runtime.connection(connection.id)).status == "needs_reconsent"


# --- plugins -------------------------------------------------------------------------------------------------------

TOLD: list[str] = []


def refuse_u2(event):
    if event.scope.id == "u2":
        raise PermissionError


def tell(event):
    TOLD.append(event.name)


class Plugin:
    """A plugin whose hooks are this module's functions."""

    @hookimpl
    def gs_lifecycle_hooks(self):
        sys.modules["made_lifecycle_hooks"] = sys.modules[__name__]
        before, after = Ref("made_lifecycle_hooks:refuse_u2"), Ref("made_lifecycle_hooks:tell")
        return [LifecycleHookSpec(name="made", events="connection.*", before=before, after=after)]


async def test_plugins_bring_hooks(app):
    TOLD.clear()
    async with app.open(plugins={"made": app.providers, "hooks": Plugin()}) as runtime:
        with pytest.raises(HookRefused, match="'made'"):
            await app.connect(runtime, "u2")
        await app.connect(runtime, "u1")
    assert TOLD == ["connection.established"]


# --- states that are not the status ---------------------------------------------------------------------------------


async def test_credential_that_cannot_be_opened_is_announced_once_each_way(either):
    async with either.open(settings={"runtime.cache_seconds": 0}) as runtime:
        made = await either.connect(runtime)
        _, repair = await damage(runtime, made.id)
        for _ in range(3):
            with pytest.raises(CannotOpen):
                await runtime.execute(made.id, "me")
        assert await either.events(runtime) == ["connection.established", "credential.unreadable"]
        await repair()
        for _ in range(2):
            await runtime.execute(made.id, "me")
        assert (await either.events(runtime))[1:] == ["credential.readable", "credential.unreadable"]
