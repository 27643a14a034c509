"""Checks for stores: subscriptions, installations, sync cursors."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from attrs import evolve

from ...errors import (
    BadInput,
    Conflict,
    ConnectionNotFound,
    InvalidTransition,
    NotFound,
    SyncCursorConflict,
    VersionConflict,
)
from ...model import Scope
from ...protocols import Store
from ...resources import INSTALLATION_MOVES, SUBSCRIPTION_MOVES, Installation, Subscription, SyncCursor
from ..kit import check
from .store import SCOPE, established, event, new_id, now, outbox_ids, refused

ALL: Any = tuple(SUBSCRIPTION_MOVES)
INSTALLED: Any = tuple(INSTALLATION_MOVES)


def subscription(connection_id: str, channel: str = "c1", **fields: Any) -> Subscription:
    """A subscription that is new."""
    moment = now()
    made = Subscription(
        id=new_id(),
        connection_id=connection_id,
        provider_id="kit",
        resource_type="mailbox",
        resource_id="inbox",
        channel_id=channel,
        remote_subscription_id="r1",
        callback_url="https://app.example/hooks",
        verification_token_ref="env:TOKEN",
        expires_at=moment + timedelta(hours=1),
        last_notified_at=moment,
        metadata={"items": [1, {"text": "ü"}]},
        created_at=moment,
        updated_at=moment,
    )
    return evolve(made, **fields)


async def subscribed(store: Store, channel: str = "c1", account: str = "account-1") -> Subscription:
    """A subscription that is in the store, on a connection of its own."""
    made = await established(store, account)
    return await store.resources.save_subscription(subscription(made.id, channel), expected_version=None)


@check("STORE-140", "store", needs=("connections", "queues", "resources"))
async def subscription_is_kept_with_its_event(store: Store) -> None:
    """A new subscription is version 1 and read back unchanged, by id and by channel, in one commit with its event."""
    facet = store.resources
    made = await established(store)
    wanted, told = subscription(made.id, version=7), event("subscription.created")
    saved = await facet.save_subscription(wanted, expected_version=None, event=told)
    assert saved == evolve(wanted, version=1)
    assert await facet.subscription(wanted.id) == saved
    assert await facet.subscription_by_channel("kit", "c1") == saved
    assert await facet.subscription("none") is None
    assert await facet.subscription_by_channel("kit", "C1") is None
    assert await facet.subscription_by_channel("kit2", "c1") is None
    assert told.id in await outbox_ids(store)
    bare = subscription(made.id, "c2", remote_subscription_id=None, expires_at=None, last_notified_at=None, metadata={})
    assert await facet.save_subscription(bare, expected_version=None) == bare
    await refused(ConnectionNotFound, facet.save_subscription(subscription("none", "c3"), expected_version=None))
    expired = subscription(made.id, "c3", status="expired")
    await refused(InvalidTransition, facet.save_subscription(expired, expected_version=None))
    assert await facet.subscription_by_channel("kit", "c3") is None


@check("STORE-141", "store", needs=("connections", "queues", "resources"))
async def subscription_is_replaced_in_its_version(store: Store) -> None:
    """Of concurrent writers of one version one wins; the others get a VersionConflict that says where the row is."""
    facet = store.resources
    saved = await subscribed(store)
    events = await outbox_ids(store)
    wanted = [evolve(saved, channel_id=f"n{number}", metadata={"by": number}) for number in range(8)]
    calls = [facet.save_subscription(one, expected_version=1, event=event()) for one in wanted]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    (winner,) = [answer for answer in answers if isinstance(answer, Subscription)]
    losers = [answer for answer in answers if isinstance(answer, VersionConflict)]
    assert len(losers) == 7
    assert all(error.metadata == {"subscription_id": saved.id, "version": 2} for error in losers)
    assert winner.version == 2
    assert winner.created_at == saved.created_at
    assert await facet.subscription(saved.id) == winner
    assert await facet.subscription_by_channel("kit", "c1") is None
    assert len(await outbox_ids(store)) == len(events) + 1
    unknown = evolve(saved, id="none", channel_id="free")
    await refused(NotFound, facet.save_subscription(unknown, expected_version=1))
    renewed = evolve(
        winner,
        resource_type="folder",
        resource_id="sent",
        channel_id="c1",
        remote_subscription_id=None,
        callback_url="https://app.example/other",
        verification_token_ref="",
        status="errored",
        status_reason="refused",
        expires_at=None,
        last_notified_at=None,
        metadata={},
        updated_at=now(),
    )
    kept = evolve(renewed, version=3, last_notified_at=saved.last_notified_at)
    assert await facet.save_subscription(renewed, expected_version=2) == kept
    assert await facet.subscription(saved.id) == kept


@check("STORE-142", "store", needs=("connections", "resources"))
async def channel_stays_with_its_connection(store: Store) -> None:
    """No other connection or subscription gets a channel; its own connection may take it again once it is cancelled."""
    facet = store.resources
    saved = await subscribed(store)
    other = await subscribed(store, "c2", "account-2")
    thief = subscription(other.connection_id)
    sibling = subscription(saved.connection_id)
    await refused(Conflict, facet.save_subscription(evolve(other, channel_id="c1"), expected_version=1))
    moved = evolve(saved, connection_id=other.connection_id)
    await refused(Conflict, facet.save_subscription(moved, expected_version=1))
    assert not isinstance(
        await refused(Conflict, facet.save_subscription(thief, expected_version=None)), VersionConflict
    )
    taken = await refused(VersionConflict, facet.save_subscription(sibling, expected_version=None))
    assert taken.metadata == {"subscription_id": saved.id, "version": 1}
    assert await facet.subscription_by_channel("kit", "c1") == saved
    await facet.set_subscription_status(saved.id, expected=["active"], status="cancelled")
    await refused(Conflict, facet.save_subscription(thief, expected_version=None))
    again = await facet.save_subscription(sibling, expected_version=None)
    assert await facet.subscription_by_channel("kit", "c1") == again
    assert await facet.subscription(saved.id) is None
    calls = [facet.save_subscription(subscription(saved.connection_id, "c9"), expected_version=None) for _ in range(8)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, VersionConflict) for answer in answers) == 7


@check("STORE-143", "store", needs=("connections", "queues", "resources"))
async def subscription_moves_as_its_table_says(store: Store) -> None:
    """Every step that is not in the table is refused and changes nothing, by a status as well as by a save."""
    facet = store.resources
    made = await established(store)
    for before, allowed in SUBSCRIPTION_MOVES.items():
        for after in ALL:
            one = subscription(made.id, f"{before} {after}")
            held = await facet.save_subscription(one, expected_version=None)
            if before != "active":
                begun: Any = before
                held = await facet.set_subscription_status(held.id, expected=["active"], status=begun, reason="kit")
            events = await outbox_ids(store)
            told = event()
            move = facet.set_subscription_status(one.id, expected=ALL, status=after, reason="why", event=told)
            if after in allowed or after == before:
                moved = await move
                assert (moved.status, moved.status_reason, moved.version) == (after, "why", held.version + 1)
                assert told.id in await outbox_ids(store)
            else:
                await refused(InvalidTransition, move)
                forced = evolve(held, status=after)
                await refused(InvalidTransition, facet.save_subscription(forced, expected_version=held.version))
                assert await facet.subscription(one.id) == held
                assert await outbox_ids(store) == events


@check("STORE-144", "store", needs=("connections", "queues", "resources"))
async def subscription_moves_from_what_was_expected(store: Store) -> None:
    """Of concurrent steps from one status one is taken, with one event; a status saved meanwhile is not overwritten."""
    facet = store.resources
    saved = await subscribed(store)
    events = await outbox_ids(store)
    calls = [
        facet.set_subscription_status(saved.id, expected=["active"], status="expired", event=event()) for _ in range(8)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, InvalidTransition) for answer in answers) == 7
    assert len(await outbox_ids(store)) == len(events) + 1
    await refused(VersionConflict, facet.save_subscription(saved, expected_version=1))
    assert (await facet.save_subscription(saved, expected_version=2)).status == "active"
    await refused(NotFound, facet.set_subscription_status("none", expected=["active"], status="expired"))
    wrong: Any = (([], "expired"), (["gone"], "expired"), (["active"], "gone"), ("active", "expired"))
    for expected, status in wrong:
        await refused(BadInput, facet.set_subscription_status(saved.id, expected=expected, status=status))


@check("STORE-145", "store", needs=("connections", "resources"))
async def subscriptions_are_listed_by_key(store: Store) -> None:
    """Lists come in pages by id, filtered by connection, provider, status and expiry."""
    facet = store.resources
    made, other = await established(store, "account-1"), await established(store, "account-2")
    moment = now()
    wanted = [subscription(made.id, f"c{number}", expires_at=moment + timedelta(minutes=number)) for number in range(5)]
    eternal = subscription(other.id, "eternal", expires_at=None)
    foreign = subscription(other.id, "c1", provider_id="kit2")
    for one in (*wanted, eternal, foreign):
        await facet.save_subscription(one, expected_version=None)
    await facet.set_subscription_status(wanted[0].id, expected=["active"], status="expired")
    seen: list[str] = []
    after = None
    while True:
        page = await facet.subscriptions(connection_id=made.id, after=after, limit=2)
        seen += [one.id for one in page.items]
        if (after := page.next) is None:
            break
    assert seen == sorted(one.id for one in wanted)

    async def ids(**filters: Any) -> list[str]:
        return [one.id for one in (await facet.subscriptions(**filters)).items]

    assert await ids(provider_id="kit2") == [foreign.id]
    assert await ids(status="expired") == [wanted[0].id]
    assert await ids(expiring_before=wanted[2].expires_at, status="active") == sorted(one.id for one in wanted[1:3])
    assert await ids(connection_id=other.id, expiring_before=moment) == []
    await refused(BadInput, facet.subscriptions(limit=0))


def installation(**fields: Any) -> Installation:
    """An installation that is new."""
    moment = now()
    made = Installation(
        id=new_id(),
        provider_id="kit",
        scope=SCOPE,
        install_type="app",
        granted_at=moment,
        metadata={"items": [1, {"text": "ü"}]},
        created_at=moment,
        updated_at=moment,
    )
    return evolve(made, **fields)


@check("STORE-150", "store", needs=("queues", "resources"))
async def installation_keeps_its_row(store: Store) -> None:
    """What is installed keeps id and creation, takes metadata and the times that are given, and is there once."""
    facet = store.resources
    wanted, told = installation(version=7), event("installation.created")
    assert await facet.upsert_installation(wanted, event=told) == evolve(wanted, version=1)
    assert await facet.installation(wanted.id) == evolve(wanted, version=1)
    assert await facet.installation("none") is None
    assert await outbox_ids(store) == [told.id]
    again = installation(granted_at=None, metadata={"new": True}, status_reason="asked")
    kept: dict[str, Any] = {"id": wanted.id, "granted_at": wanted.granted_at, "created_at": wanted.created_at}
    assert await facet.upsert_installation(again) == evolve(again, **kept, version=2)
    assert await facet.installation(again.id) is None
    paused = evolve(again, status="suspended", status_reason="", metadata={}, granted_at=now(), updated_at=now())
    stored = evolve(paused, id=wanted.id, created_at=wanted.created_at, version=3)
    assert await facet.upsert_installation(paused) == stored
    assert await facet.installation(wanted.id) == stored
    other = installation(scope=Scope("org", "o1"))
    answers = await asyncio.gather(*(facet.upsert_installation(evolve(other, id=new_id())) for _ in range(8)))
    assert sorted(answer.version for answer in answers) == list(range(1, 9))
    assert len({answer.id for answer in answers}) == 1


@check("STORE-151", "store", needs=("resources",))
async def uninstalled_app_can_be_installed_again(store: Store) -> None:
    """Uninstalling is final for its row and sets its time; installing again makes a new row beside it."""
    facet = store.resources
    first = await facet.upsert_installation(installation())
    gone = await facet.upsert_installation(installation(status="uninstalled"))
    assert (gone.id, gone.status) == (first.id, "uninstalled")
    assert gone.revoked_at is not None
    await refused(InvalidTransition, facet.upsert_installation(installation(status="uninstalled")))
    await refused(InvalidTransition, facet.set_installation_status(gone.id, expected=INSTALLED, status="active"))
    second = await facet.upsert_installation(installation())
    assert (second.id != first.id, second.status, second.version) == (True, "active", 1)
    assert await facet.installation(first.id) == gone
    revoked = now() - timedelta(days=1)
    ended = await facet.upsert_installation(installation(status="uninstalled", revoked_at=revoked))
    assert (ended.id, ended.revoked_at) == (second.id, revoked)
    third = await facet.upsert_installation(installation())
    last = await facet.set_installation_status(third.id, expected=["active"], status="uninstalled", reason="asked")
    assert last.revoked_at is not None
    assert (last.status_reason, last.metadata) == ("asked", third.metadata)


@check("STORE-152", "store", needs=("queues", "resources"))
async def installation_moves_as_its_table_says(store: Store) -> None:
    """A new one is active, and every step that is not in the table is refused and changes nothing."""
    facet = store.resources
    for after in INSTALLED:
        if after != "active":
            await refused(InvalidTransition, facet.upsert_installation(installation(status=after)))
    for before, allowed in INSTALLATION_MOVES.items():
        for after in INSTALLED:
            one = installation(install_type=f"{before} {after}")
            held = await facet.upsert_installation(one)
            if before != "active":
                begun: Any = before
                held = await facet.set_installation_status(held.id, expected=["active"], status=begun)
            events = await outbox_ids(store)
            told = event()
            move = facet.set_installation_status(held.id, expected=INSTALLED, status=after, event=told)
            if after in allowed or after == before:
                assert (await move).status == after
                assert told.id in await outbox_ids(store)
            else:
                await refused(InvalidTransition, move)
                if before != "uninstalled":
                    changed = evolve(one, status=after)
                    await refused(InvalidTransition, facet.upsert_installation(changed, event=event()))
                assert await facet.installation(held.id) == held
                assert await outbox_ids(store) == events
    unknown: Any = "gone"
    await refused(BadInput, facet.upsert_installation(installation(status=unknown)))
    await refused(NotFound, facet.set_installation_status("none", expected=["active"], status="suspended"))


@check("STORE-154", "store", needs=("resources",))
async def installations_are_listed_by_key(store: Store) -> None:
    """Lists come in pages by id, filtered by provider, scope, install type and status."""
    facet = store.resources
    wanted = [installation(install_type=f"t{number}") for number in range(5)]
    other = installation(provider_id="kit2", scope=Scope("org", "o1"))
    for one in (*wanted, other):
        await facet.upsert_installation(one)
    await facet.set_installation_status(wanted[0].id, expected=["active"], status="suspended")
    seen: list[str] = []
    after = None
    while True:
        page = await facet.installations(scope=SCOPE, after=after, limit=2)
        seen += [one.id for one in page.items]
        if (after := page.next) is None:
            break
    assert seen == sorted(one.id for one in wanted)
    assert [one.id for one in (await facet.installations(provider_id="kit2")).items] == [other.id]
    assert [one.id for one in (await facet.installations(status="suspended")).items] == [wanted[0].id]
    assert [one.id for one in (await facet.installations(install_type="t3")).items] == [wanted[3].id]
    assert (await facet.installations(install_type="t3", status="suspended")).items == ()
    await refused(BadInput, facet.installations(limit=0))


def cursor(connection_id: str, text: str, **fields: Any) -> SyncCursor:
    """A cursor to set."""
    moment = now()
    made = SyncCursor(
        id=new_id(),
        connection_id=connection_id,
        provider_id="kit",
        resource_type="mailbox",
        resource_id="inbox",
        cursor=text,
        last_synced_at=moment,
        metadata={"items": [1, {"text": "ü"}]},
        created_at=moment,
        updated_at=moment,
    )
    return evolve(made, **fields)


@check("STORE-160", "store", needs=("connections", "queues", "resources"))
async def cursor_is_set_and_advanced(store: Store) -> None:
    """A cursor is read back unchanged; advancing keeps its row and the time of its last sync unless there is a new."""
    facet = store.resources
    made = await established(store)
    key = (made.id, "kit", "mailbox", "inbox")
    assert await facet.cursor(*key) is None
    first, told = cursor(made.id, "Page=1"), event("cursor.advanced")
    assert await facet.advance_cursor(first, expected=None, event=told) == first
    assert await facet.cursor(*key) == first
    assert told.id in await outbox_ids(store)
    second = cursor(made.id, "Page=2", last_synced_at=None, metadata={}, status="paused")
    saved = await facet.advance_cursor(second, expected="Page=1")
    assert saved == evolve(second, id=first.id, created_at=first.created_at, last_synced_at=first.last_synced_at)
    forced = await facet.advance_cursor(cursor(made.id, "Page=9"), expected=None)
    assert (forced.id, forced.cursor) == (first.id, "Page=9")
    assert await facet.cursor(made.id, "kit2", "mailbox", "inbox") is None
    elsewhere = cursor(made.id, "Page=1", resource_id="sent")
    assert await facet.advance_cursor(elsewhere, expected="") == elsewhere
    await refused(BadInput, facet.advance_cursor(cursor(made.id, " "), expected=None))
    await refused(ConnectionNotFound, facet.advance_cursor(cursor("none", "Page=1"), expected=None))
    await refused(ConnectionNotFound, facet.advance_cursor(cursor("none", "Page=1"), expected=""))


@check("STORE-161", "store", needs=("connections", "queues", "resources"))
async def cursor_is_advanced_by_one(store: Store) -> None:
    """Of concurrent workers one sets the first cursor and one advances it; others change nothing. Case matters."""
    facet = store.resources
    made = await established(store)
    for expected in ("", "Next"):
        events = await outbox_ids(store)
        calls = [
            facet.advance_cursor(
                cursor(made.id, "Next" if not expected else f"w{number}"), expected=expected, event=event()
            )
            for number in range(20)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        (winner,) = [answer for answer in answers if isinstance(answer, SyncCursor)]
        assert sum(isinstance(answer, SyncCursorConflict) for answer in answers) == 19
        assert await facet.cursor(made.id, "kit", "mailbox", "inbox") == winner
        assert len(await outbox_ids(store)) == len(events) + 1
    await facet.advance_cursor(cursor(made.id, "Next"), expected=None)
    for wrong in ("next", "NEXT", "Next ", ""):
        await refused(SyncCursorConflict, facet.advance_cursor(cursor(made.id, "x"), expected=wrong))
    await refused(SyncCursorConflict, facet.advance_cursor(cursor(made.id, "x", resource_id="new"), expected="a"))
    assert await facet.cursor(made.id, "kit", "mailbox", "new") is None
