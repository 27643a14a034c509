"""Checks for stores: several subscriptions in one commit, what is due, and when channels brought something."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve

from ...errors import ConnectionNotFound, InvalidTransition, VersionConflict
from ...protocols import Store
from ...resources import HISTORY, Subscription
from ..kit import check
from .store import SCOPE, change, credential, established, event, new_id, now, outbox_ids, refused
from .store_jobs import job
from .store_resources import installation, subscribed, subscription


async def due(store: Store, before: datetime, **options: Any) -> list[str]:
    """The channels that are due."""
    found = await store.resources.due_subscriptions("kit", before=before, **options)
    return [one.channel_id for one in found]


@check("STORE-440", "store", needs=("connections", "queues", "resources"))
async def subscriptions_change_together(store: Store) -> None:
    """A new subscription, the one that it replaces, their events and a job are one commit; of none of them a part."""
    facet = store.resources
    old = await subscribed(store)
    moment = now()
    wanted = subscription(
        old.connection_id,
        "c2",
        events=("created", "updated"),
        remote_resource_id="resource-1",
        confirmed_at=moment,
        renew_at=moment + timedelta(minutes=5),
        attempts=3,
        replaces=old.id,
    )
    retired = evolve(old, replaced_by=wanted.id, renew_at=moment)
    told, more, work = event("subscription.renewed"), event("subscription.gap"), job(connection_id=old.connection_id)
    gone = await subscribed(store, "c9", "account-9")
    gone = await facet.set_subscription_status(gone.id, expected=["active"], status="cancelled")
    refusals: list[tuple[Any, Any, Any]] = [
        (VersionConflict, [(wanted, None), (retired, 7)], work),
        (InvalidTransition, [(wanted, None), (evolve(gone, status="active"), gone.version)], work),
        (ConnectionNotFound, [(wanted, None), (retired, 1)], evolve(work, connection_id="none")),
    ]
    for error, changes, with_job in refusals:
        await refused(error, facet.save_subscriptions(changes, events=[told, more], jobs=[with_job]))
        assert await facet.subscription(wanted.id) is None
        assert await facet.subscription(old.id) == old
        assert await store.queues.job(work.id) is None
        assert told.id not in await outbox_ids(store)
    saved = await facet.save_subscriptions([(wanted, None), (retired, 1)], events=[told, more], jobs=[work])
    assert list(saved) == [evolve(wanted, version=1), evolve(retired, version=2)]
    assert [await facet.subscription(one.id) for one in saved] == list(saved)
    assert {told.id, more.id} <= set(await outbox_ids(store))
    assert await store.queues.job(work.id) is not None
    for channel, live in (("c1", retired), ("c2", wanted)):
        found = await facet.subscription_by_channel("kit", channel)
        assert found is not None
        assert found.id == live.id


@check("STORE-441", "store", needs=("connections", "resources"))
async def due_subscriptions_come_by_time(store: Store) -> None:
    """Pages by renew_at and id lead through all that is due, also of those with the same time."""
    facet = store.resources
    made = await established(store)
    moment = now()
    for number in range(30):
        at = moment - timedelta(seconds=number // 3)
        await facet.save_subscription(subscription(made.id, f"c{number:02}", renew_at=at), expected_version=None)
    later = subscription(made.id, "later", renew_at=moment + timedelta(seconds=1))
    for one in (later, subscription(made.id, "never", renew_at=None), subscription(made.id, "x", provider_id="kit2")):
        await facet.save_subscription(one, expected_version=None)
    ended = await facet.save_subscription(subscription(made.id, "ended", renew_at=moment), expected_version=None)
    await facet.set_subscription_status(ended.id, expected=["active"], status="cancelled")
    found: list[Subscription] = []
    while page := await facet.due_subscriptions(
        "kit", before=moment, after=(found[-1].renew_at or moment, found[-1].id) if found else None, limit=4
    ):
        assert len(page) <= 4
        found += page
    assert {one.channel_id for one in found} == {f"c{number:02}" for number in range(30)}
    assert [(one.renew_at, one.id) for one in found] == sorted((one.renew_at or moment, one.id) for one in found)
    assert (await due(store, moment + timedelta(seconds=1)))[-1] == "later"


@check("STORE-442", "store", needs=("connections", "resources"))
async def subscriptions_of_a_connection_that_is_not_active_are_left_alone(store: Store) -> None:
    """Only that one has expired is told of; every status that is not cancelled is due once the connection is back."""
    facet = store.resources
    made = await established(store)
    moment = now()
    past, ahead = moment - timedelta(seconds=5), moment + timedelta(hours=1)
    for channel, status, expires_at in (
        ("alive", "active", ahead),
        ("over", "active", past),
        ("endless", "active", None),
        ("expired", "expired", past),
        ("errored", "errored", past),
    ):
        row = subscription(made.id, channel, renew_at=past, expires_at=expires_at)
        await facet.save_subscription(row, expected_version=None)
        if status != "active":
            await facet.set_subscription_status(row.id, expected=["active"], status=status)  # type: ignore[arg-type]
    everything = ["alive", "endless", "errored", "expired", "over"]
    assert sorted(await due(store, moment)) == everything
    await store.connections.require_reconsent(made.id, reason="kit", event=event())
    assert await due(store, moment) == ["over"]
    back = evolve(change(), credential=credential(made.id, version=2))
    assert (await store.connections.establish(back))[0].id == made.id
    assert sorted(await due(store, moment)) == everything


@check("STORE-443", "store", needs=("connections", "resources"))
async def notifications_are_told_without_a_version(store: Store) -> None:
    """The latest time stays, whichever is told last; a save of a row that was read before does not put it back."""
    facet = store.resources
    one, other = await subscribed(store), await subscribed(store, "c2", "account-2")
    first = one.last_notified_at
    assert first is not None
    told = first + timedelta(seconds=9, microseconds=123456)
    await facet.notified({})
    await facet.notified({("kit", "c1"): told, ("kit", "c2"): first - timedelta(days=1), ("kit", "none"): told})
    assert await facet.subscription(one.id) == evolve(one, last_notified_at=told)
    assert await facet.subscription(other.id) == other
    await facet.notified({("kit", "c1"): told - timedelta(microseconds=1)})
    saved = await facet.save_subscription(evolve(one, attempts=1), expected_version=1)
    assert saved.last_notified_at == told
    saved = await facet.save_subscription(evolve(saved, last_notified_at=None), expected_version=2)
    assert saved.last_notified_at == told


@check("STORE-444", "store", needs=("connections", "resources"))
async def subscriptions_are_found_by_resource(store: Store) -> None:
    """Type and id of a resource are filters of the list."""
    facet = store.resources
    made = await established(store)
    for channel, kind, id in (("c1", "mailbox", "a"), ("c2", "mailbox", "b"), ("c3", "folder", "a")):
        row = subscription(made.id, channel, resource_type=kind, resource_id=id)
        await facet.save_subscription(row, expected_version=None)
    for filters, channels in (
        ({"resource_type": "mailbox"}, ["c1", "c2"]),
        ({"resource_id": "a"}, ["c1", "c3"]),
        ({"resource_type": "mailbox", "resource_id": "b", "connection_id": made.id}, ["c2"]),
    ):
        page = await facet.subscriptions(**filters)  # type: ignore[arg-type]
        assert sorted(one.channel_id for one in page.items) == channels


@check("STORE-445", "store", needs=("connections", "resources"))
async def replaced_subscriptions_are_history(store: Store) -> None:
    """One that was replaced and cancelled goes in time; its channel is free then. One that is live stays."""
    facet = store.resources
    old = await subscribed(store)
    new = subscription(old.connection_id, "c2", replaces=old.id)
    retired = evolve(old, replaced_by=new.id)
    await facet.save_subscriptions([(new, None), (retired, 1)])
    policy = {"service_subscriptions": 0.0}
    assert "service_subscriptions" in HISTORY
    await asyncio.sleep(0.01)
    assert (await store.prune(policy))["service_subscriptions"] == 0
    await facet.save_subscription(evolve(retired, status="cancelled", verification=None), expected_version=2)
    await asyncio.sleep(0.01)
    assert (await store.prune(policy))["service_subscriptions"] == 1
    assert await facet.subscription(old.id) is None
    assert await facet.subscription_by_channel("kit", "c2") is not None


@check("STORE-446", "store", needs=("resources",))
async def installation_is_made_or_changed_as_expected(store: Store) -> None:
    """Of writers that expect none one installs; who expects one that is not there changes nothing."""
    facet = store.resources
    await refused(VersionConflict, facet.upsert_installation(installation(), live=True))
    assert (await facet.installations(scope=SCOPE)).items == ()
    calls = [facet.upsert_installation(installation(), live=False) for _ in range(8)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, VersionConflict) for answer in answers) == 7
    (made,) = (await facet.installations(scope=SCOPE)).items
    for status in ("suspended", "active", "needs_reconsent", "uninstalled"):
        wanted = installation(id=new_id(), status=status)
        await refused(VersionConflict, facet.upsert_installation(wanted, live=False))
        assert (await facet.upsert_installation(wanted, live=True)).id == made.id
    await refused(VersionConflict, facet.upsert_installation(installation(), live=True))
    assert (await facet.upsert_installation(installation(), live=False)).id != made.id
