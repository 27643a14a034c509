"""The activity log: what events look like in it, once each, enriched, masked, and for how long."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from go_services_core import Ref, Scope, hookimpl
from go_services_core.clock import uuid7
from go_services_core.errors import BadInput, Conflict
from go_services_core.lifecycle import EVENTS, event
from go_services_core.model import Event
from go_services_core.resources import Activity
from go_services_core.runtime.activity import Writer, entry_of, status_of
from go_services_core.specs import ActivityEnricherSpec
from go_services_core.testing.clock import FrozenClock

CLOCK = FrozenClock()
WHO = Scope("user", "u1")
ON = {"activity.enabled": True}


@pytest.fixture(autouse=True)
def long_lived(sandbox):
    sandbox.access_token_lifetime = 365 * 86400.0


def own(name="app.did", payload=None, **fields) -> Event:
    made = Event(
        id=uuid7(CLOCK), name=name, provider_id="p", scope=WHO, connection_id=None, occurred_at=CLOCK.now(),
        payload=payload or {},
    )  # fmt: skip
    return evolve(made, **fields)


def an_entry(**fields) -> Activity:
    made = Activity(
        id=uuid7(CLOCK), provider_id="p", scope=WHO, action="app.did", object_id="1", created_at=CLOCK.now()
    )
    return evolve(made, **fields)


@asynccontextmanager
async def logged(either, **options):
    settings = {**ON, **options.pop("settings", {})}
    async with either.open(settings=settings, **options) as runtime:
        yield runtime


# --- what an event looks like ---------------------------------------------------------------------------------------


def test_entry_has_id_time_name_and_object_of_its_event() -> None:
    one = event(CLOCK, "credential.refreshed", {"version": 2}, provider_id="p", scope=WHO, connection_id="c")
    entry = entry_of(one)
    assert (entry.id, entry.created_at, entry.action) == (one.id, one.occurred_at, "credential.refreshed")
    assert (entry.object_type, entry.object_id, entry.connection_id) == ("connection", "c", "c")
    assert (entry.provider_id, entry.scope, entry.channel) == ("p", WHO, "services.lifecycle")
    assert entry.metadata == {
        "event_name": "credential.refreshed", "event_version": 1, "payload": {"version": 2},
    }  # fmt: skip
    alone = entry_of(own(connection_id=None))
    assert (alone.object_type, alone.object_id) == ("provider", "p")
    ids = entry_of(own(payload={"subscription_id": "s", "installation_id": "i", "job_id": "j"}))
    assert (ids.subscription_id, ids.installation_id, ids.sync_job_id) == ("s", "i", "j")


def test_object_is_what_the_event_is_about() -> None:
    def about(name: str, payload: dict, connection_id: str | None = None) -> tuple[str, str]:
        entry = entry_of(own(name, payload, connection_id=connection_id))
        return entry.object_type, entry.object_id

    assert about("installation.suspended", {"installation_id": "i"}) == ("installation", "i")
    assert about("endpoint.paused", {"endpoint_id": "e"}) == ("endpoint", "e")
    assert about("job.failed", {"job_id": "j"}) == ("job", "j")
    assert about("webhook.push", {"delivery": "d", "delivery_id": "theirs"}) == ("webhook", "d")
    assert about("subscription.renewed", {"subscription_id": "s"}, "c") == ("connection", "c")
    assert about("webhook.push", {"delivery": "d"}, "c") == about("grant.drift", {}, "c") == ("connection", "c")
    assert about("app.did", {"app_id": "a"}) == ("provider", "p")


def test_every_event_of_the_catalogue_has_an_object_that_it_is_about() -> None:
    """A new family of events says what it is about, or is about a connection."""
    families = {name.partition(".")[0]: spec for name, spec in EVENTS.items()}
    of_connections = {"connection", "credential", "grant"}
    for family, spec in families.items():
        field = "delivery" if family == "webhook" else f"{family}_id"
        assert (field in spec.fields) != (family in of_connections), family


@pytest.mark.parametrize(
    ("source", "payload", "actor"),
    [
        ("runtime", {}, ("system", "system")),
        ("webhook", {}, ("webhook", "system")),
        ("runtime", {"actor": "ann"}, ("ann", "user")),
        ("webhook", {"actor": "bot-7", "actor_type": "bot"}, ("bot-7", "bot")),
        ("jobs", {"actor": 7}, ("jobs", "system")),
    ],
)
def test_actor_is_the_payloads_else_the_source(source, payload, actor) -> None:
    """Go's rows lost the source, so that everything was done by the system (behaviour §27.4)."""
    entry = entry_of(own(source=source, payload=payload))
    assert (entry.actor, entry.actor_type) == actor


@pytest.mark.parametrize(
    ("name", "payload", "status"),
    [
        ("connection.established", {}, "ok"),
        ("credential.refresh_unknown", {}, "error"),
        ("connection.pending_reauth", {}, "warn"),
        ("subscription.renewal_failed", {}, "error"),
        ("app.did", {}, "ok"),
        ("app.import_Failed", {}, "error"),
        ("app.error_seen", {}, "error"),
        ("app.retry", {}, "warn"),
        ("app.degraded", {}, "warn"),
        ("app.did", {"status": "warn"}, "warn"),
        ("connection.established", {"status": "error"}, "error"),
        ("app.failed", {"status": "suspended"}, "error"),
    ],
)
def test_status_is_the_payloads_else_the_catalogues_else_the_names(name, payload, status) -> None:
    assert status_of(own(name, payload)) == status


# --- projecting -----------------------------------------------------------------------------------------------------


async def test_every_event_is_projected_once_and_found_by_filter(either):
    async with logged(either) as runtime:
        connection = await either.connect(runtime)
        either.clock.advance(10)
        await runtime.refresh(connection.id)
        either.clock.advance(10)
        middle = either.clock.now()
        await runtime.disconnect(connection.id)
        assert (await runtime.activity()).items == ()  # later, by drain
        await runtime.drain()
        await runtime.drain()

        async def actions(**filters):
            return [entry.action for entry in (await runtime.activity(**filters)).items]

        everything = await actions()
        assert sorted(everything) == await either.all_events(runtime)
        assert everything[:2] == ["connection.disconnected", "credential.refreshed"]
        assert await actions(scope=connection.scope) == everything
        assert await actions(scope=Scope("user", "u9")) == []
        assert await actions(connection_id=connection.id, since=middle) == ["connection.disconnected"]
        assert sorted(await actions(until=middle)) == sorted(everything[1:])
        assert await actions(action="credential.refreshed", status="ok") == ["credential.refreshed"]
        assert await actions(status="error") == []
        first = await runtime.activity(limit=3)
        rest = await runtime.activity(limit=3, after=first.next)
        assert [entry.action for entry in (*first.items, *rest.items)] == everything
        with pytest.raises(BadInput):
            await runtime.activity(after="1")


async def test_it_is_off_until_it_is_turned_on_and_nothing_waits_for_it_meanwhile(app):
    async with app.open() as runtime:
        await app.connect(runtime)
        await runtime.drain()
        assert (await runtime.activity()).items == ()
    async with logged(app) as runtime:
        await app.connect(runtime, "u2")
        await runtime.drain()
        entries = (await runtime.activity()).items
        assert {entry.scope.id for entry in entries} == {"u2"}
    async with app.open() as runtime:
        await app.connect(runtime, "u3")
        await runtime.drain()
        waiting = (await runtime._core.store.queues.list("outbox")).items
        assert {item.status for item in waiting} == {"delivered"}


async def test_event_that_is_projected_again_keeps_one_entry(app, runtime):
    """Where a settlement was lost the projector runs again (behaviour §27.4): the entry's id is the event's."""
    for _ in range(2):
        await runtime.record_activity([entry_of(own(id="e1"))])
    assert len((await runtime.activity()).items) == 1


async def test_secrets_in_a_payload_are_masked(app, runtime):
    secret = app.sandbox.api_key.reveal()
    await app.connect(runtime)  # from then on the process knows the values of its secrets
    note = {"note": "Authorization: Bearer abcdefghijklmnop", "password": secret, "count": 3}
    await runtime.record_activity([an_entry(metadata=note)])
    (entry,) = (await runtime.activity()).items
    assert secret not in str(entry.metadata)
    assert "abcdefghijklmnop" not in str(entry.metadata)
    assert entry.metadata["count"] == 3


async def test_entry_of_no_connection_or_of_no_status_is_refused(app, runtime):
    with pytest.raises(Conflict):
        await runtime.record_activity([an_entry(connection_id="none")])
    with pytest.raises(BadInput):
        await runtime.record_activity([an_entry(status="fine")])
    await runtime.record_activity([])
    assert (await runtime.activity()).items == ()


# --- enrichers ------------------------------------------------------------------------------------------------------


def add_the_plan(event, entry):
    return {"plan": "gold", "was": entry.action}


async def fail(event, entry):
    raise RuntimeError("boom")


class Plugin:
    """A plugin whose enrichers are this module's functions."""

    @hookimpl
    def gs_activity_enrichers(self):
        sys.modules["made_enrichers"] = sys.modules[__name__]
        return [
            ActivityEnricherSpec(name="a.fails", enrich=Ref("made_enrichers:fail")),
            ActivityEnricherSpec(name="plan", enrich=Ref("made_enrichers:add_the_plan")),
        ]


async def test_enricher_adds_to_the_metadata_and_one_that_fails_loses_nothing(app, caplog):
    async with logged(app, plugins={"made": app.providers, "enrichers": Plugin()}) as runtime:
        await app.connect(runtime)
        await runtime.drain()
        entries = (await runtime.activity()).items
    assert {entry.metadata["plan"] for entry in entries} == {"gold"}
    assert {entry.metadata["was"] for entry in entries} == {"connection.established", "grant.expanded"}
    assert "the activity enricher a.fails failed for connection.established" in caplog.messages


# --- together -------------------------------------------------------------------------------------------------------


class Counted:
    """A log that counts the statements, and refuses one entry."""

    def __init__(self, real):
        self.real, self.sizes = real, []

    async def record(self, entries):
        self.sizes.append(len(entries))
        return await self.real.record(entries)


async def test_what_several_record_at_the_same_time_is_one_statement(app, runtime):
    log = Counted(runtime._core.store.log)
    writer = Writer(log)
    await asyncio.gather(*(writer.record([an_entry()]) for _ in range(150)))
    assert log.sizes == [150]  # they were all there when it began to write
    assert len((await runtime.activity(limit=500)).items) == 150


async def test_entry_that_is_refused_keeps_no_other_out(app, runtime):
    """P96: a poison row goes aside and does not block its neighbours."""
    writer = Writer(runtime._core.store.log)
    wrong = writer.record([an_entry(connection_id="none")])
    answers = await asyncio.gather(*(writer.record([an_entry()]) for _ in range(5)), wrong, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["NoneType"] * 5 + ["Conflict"]
    assert len((await runtime.activity()).items) == 5


# --- retention ------------------------------------------------------------------------------------------------------


async def test_entries_are_kept_for_their_time_and_as_many_as_a_scope_may_have(either):
    settings = {"retention.activity_entries": 86_400.0, "activity.row_cap": 2}
    async with logged(either, settings=settings) as runtime:
        now = either.clock.now() if either.store is not None else datetime.now(UTC)  # by which each store prunes
        ages = [timedelta(days=2), timedelta(hours=3), timedelta(hours=2), timedelta(hours=1)]
        await runtime.record_activity(
            [an_entry(id=f"e{place}", created_at=now - age) for place, age in enumerate(ages)]
            + [an_entry(id="other", scope=Scope("org", "o1"), created_at=now)]
        )
        assert await runtime.prune_activity(dry_run=True) >= 2
        assert len((await runtime.activity()).items) == 5
        assert await runtime.run_due("retention") == 2
        assert [entry.id for entry in (await runtime.activity()).items] == ["other", "e3", "e2"]
        assert await runtime.prune_activity() == 0
