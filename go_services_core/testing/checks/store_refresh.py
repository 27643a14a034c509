"""Checks for stores: the two commits of a refresh."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from attrs import evolve

from ...errors import BadInput, LeaseLost, ReauthRequired, RefreshLocked, VersionConflict
from ...model import Scope
from ...outlook import CredentialFacts
from ...protocols import Store
from ...refreshes import LateToken, Lease, RefreshHistory
from ..kit import check
from .store import SCOPE, change, connection, credential, established, event, new_id, now, outbox_ids, refused


@check("STORE-020", "store", needs=("connections", "queues"))
async def refresh_is_saved_under_its_lease(store: Store) -> None:
    """A refresh reads the credential with its lease, and its close supersedes, announces and releases together."""
    made = await established(store)
    facet = store.connections
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    assert opened.connection == made
    assert opened.credential.version == 1
    locked = await refused(RefreshLocked, facet.open_refresh(made.id, owner="b", lease=30, intent_id=new_id()))
    assert 0 < locked.metadata["retry_in"] <= 30
    await facet.fail_refresh(opened.lease, error="timeout", terminal=False, event=None)
    assert (await facet.get(made.id)).refresh_state == "backing_off"
    opened = await facet.open_refresh(made.id, owner="b", lease=30, intent_id=new_id())
    new, announced = credential(made.id, 2, granted=("read", "write")), event("credential.refreshed", made.id)
    await facet.close_refresh(new, lease=opened.lease, active_version=1, event=announced)
    after, active = await facet.load(made.id)
    assert active == new
    assert (after.status, after.refresh_state, after.last_error) == ("active", "ok", "")
    assert announced.id in await outbox_ids(store)
    snapshot = await facet.grants(made.id)
    assert snapshot is not None
    assert snapshot.granted == ("read", "write")
    await refused(LeaseLost, facet.close_refresh(new, lease=opened.lease, active_version=1, event=event()))
    third = await facet.open_refresh(made.id, owner="c", lease=30, intent_id=new_id())
    assert third.credential == new


@check("STORE-021", "store", needs=("connections",))
async def one_of_many_opens_a_refresh(store: Store) -> None:
    """Of concurrent openings exactly one gets the lease."""
    made = await established(store)
    calls = [
        store.connections.open_refresh(made.id, owner=f"o{number}", lease=30, intent_id=new_id())
        for number in range(20)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, RefreshLocked) for answer in answers) == 19


@check("STORE-022", "store", needs=("connections", "queues"))
async def late_holder_changes_nothing(store: Store) -> None:
    """A lease that ended is taken over under a higher fence, and its late holder can neither save nor settle."""
    made = await established(store)
    facet = store.connections
    late = (await facet.open_refresh(made.id, owner="late", lease=0.05, intent_id=new_id())).lease
    await asyncio.sleep(0.1)
    successor = (await facet.open_refresh(made.id, owner="next", lease=30, intent_id=new_id())).lease
    assert successor.fence > late.fence
    before = await facet.load(made.id), await outbox_ids(store)
    forged = Lease(resource=successor.resource, owner="late", fence=successor.fence)
    for lease in (late, forged):
        new = credential(made.id, 2)
        await refused(LeaseLost, facet.close_refresh(new, lease=lease, active_version=1, event=event()))
        await refused(LeaseLost, facet.fail_refresh(lease, error="late", terminal=True, event=event()))
    assert (await facet.load(made.id), await outbox_ids(store)) == before
    await facet.close_refresh(credential(made.id, 2), lease=successor, active_version=1, event=event())


@check("STORE-023", "store", needs=("connections",))
async def fence_survives_release(store: Store) -> None:
    """Fences of one resource only count up, whether a lease was released, failed or ran out."""
    made = await established(store)
    fences = []
    for _ in range(3):
        opened = await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
        fences.append(opened.lease.fence)
        await store.connections.fail_refresh(opened.lease, error="timeout", terminal=False, event=None)
    assert fences == sorted(set(fences))


@check("STORE-024", "store", needs=("connections", "queues"))
async def refresh_does_not_overwrite_a_newer_credential(store: Store) -> None:
    """A credential that came meanwhile stays: closing raises VersionConflict, and a terminal failure hits nothing."""
    made = await established(store)
    facet = store.connections
    lease = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
    newer = credential(made.id, 2)
    await facet.establish(evolve(change(), credential=newer))
    events = await outbox_ids(store)
    for version in (2, 3):
        late = credential(made.id, version)
        await refused(VersionConflict, facet.close_refresh(late, lease=lease, active_version=1, event=event()))
    await facet.fail_refresh(lease, error="invalid_grant", terminal=True, event=event("connection.reauth"))
    after, active = await facet.load(made.id)
    assert (after.status, active) == ("active", newer)
    assert await outbox_ids(store) == events


@check("STORE-025", "store", needs=("connections", "queues"))
async def terminal_failure_asks_for_consent_once(store: Store) -> None:
    """A terminal failure moves the connection to pending_reauth with exactly one event and ends refreshing."""
    made = await established(store)
    facet = store.connections
    lease = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
    told = event("connection.reauth", made.id)
    await facet.fail_refresh(lease, error="invalid_grant", terminal=True, event=told)
    again = facet.fail_refresh(lease, error="invalid_grant", terminal=True, event=event("connection.reauth"))
    await refused(LeaseLost, again)
    after = await facet.get(made.id)
    assert (after.status, after.last_error) == ("pending_reauth", "invalid_grant")
    assert (await outbox_ids(store)).count(told.id) == 1
    assert len(await outbox_ids(store)) == 2
    await refused(ReauthRequired, facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id()))
    revived, _ = await facet.establish(evolve(change(), credential=credential(made.id, 2)))
    assert (revived.status, revived.last_error) == ("active", "")


@check("STORE-026", "store", needs=("connections", "queues"))
async def other_failures_leave_the_connection_active(store: Store) -> None:
    """A failure that is not terminal keeps status and credential and records its state."""
    made = await established(store)
    facet = store.connections
    lease = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
    told = event("connection.refresh_unknown", made.id)
    await facet.fail_refresh(lease, error="timeout", terminal=False, event=told, state="unknown")
    after, active = await facet.load(made.id)
    assert (after.status, after.refresh_state, after.last_error) == ("active", "unknown", "timeout")
    assert active is not None
    assert active.version == 1
    assert told.id in await outbox_ids(store)


@check("STORE-027", "store", needs=("connections",))
async def failures_are_counted_for_their_version(store: Store) -> None:
    """The history of a version counts what failed and what is unknown, and is kept while the version is active."""
    made = await established(store)
    facet = store.connections
    assert await facet.refresh_history(made.id, 1) == RefreshHistory()
    for number, (state, wait) in enumerate((("backing_off", 5.0), ("backing_off", 40.0), ("unknown", 0.0))):
        opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
        assert opened.abandoned is None, f"attempt {number}"
        await facet.fail_refresh(opened.lease, error="kit", terminal=False, event=None, state=state, retry_in=wait)
    dropped = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    before = await facet.get(made.id)
    await facet.drop_refresh(dropped.lease)
    assert await facet.get(made.id) == before
    await refused(LeaseLost, facet.drop_refresh(dropped.lease))
    found = await facet.refresh_history(made.id, 1)
    assert (found.failed, found.unknown, found.late) == (2, 1, None)
    assert 35 < found.retry_in <= 40
    assert 0 <= found.unknown_age < 5
    await asyncio.sleep(0.02)
    assert await store.prune({"service_refresh_intents": 0.0}) == {"service_refresh_intents": 0}
    again = await facet.refresh_history(made.id, 1)
    assert (again.failed, again.unknown) == (2, 1)
    for state in ("ok", "lost"):
        lease = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
        await refused(BadInput, facet.fail_refresh(lease, error="", terminal=False, event=None, state=state))
        await facet.drop_refresh(lease)
    await facet.establish(evolve(change(), credential=credential(made.id, 2)))
    assert await facet.refresh_history(made.id, 2) == RefreshHistory()
    await asyncio.sleep(0.02)
    assert await store.prune({"service_refresh_intents": 0.0}) == {"service_refresh_intents": 6}
    assert await facet.refresh_history(made.id, 1) == RefreshHistory()


@check("STORE-028", "store", needs=("connections", "queues"))
async def abandoned_refresh_is_told_and_settled_once(store: Store) -> None:
    """Who opens after a holder that is gone is told of its intent and its age, and settles it; nobody is told again."""
    made = await established(store)
    facet = store.connections
    first, second = new_id(), new_id()
    late = (await facet.open_refresh(made.id, owner="gone", lease=0.05, intent_id=first)).lease
    await asyncio.sleep(0.1)
    waiting = await facet.open_refresh(made.id, owner="waits", lease=0.05, intent_id=second)
    assert waiting.abandoned is not None
    assert waiting.abandoned.intent_id == first
    assert 0.05 <= waiting.abandoned.age < 10
    await facet.renew_refresh(waiting.lease, seconds=30)
    await refused(LeaseLost, facet.renew_refresh(late, seconds=30))
    await refused(RefreshLocked, facet.open_refresh(made.id, owner="b", lease=30, intent_id=new_id()))
    await facet.renew_refresh(waiting.lease, seconds=0.05)
    await asyncio.sleep(0.1)
    opened = await facet.open_refresh(made.id, owner="next", lease=30, intent_id=new_id())
    assert opened.abandoned is not None
    assert opened.abandoned.intent_id == first  # the second was waiting for it, and has sent nothing
    told = event("credential.refresh_unknown", made.id)
    settle = partial(facet.settle_abandoned, intent_id=first, outcome="unknown", error="gone", event=told, seconds=30)
    await refused(LeaseLost, settle(waiting.lease))
    assert (await facet.get(made.id)).refresh_state == "ok"
    await settle(opened.lease)
    after = await facet.get(made.id)
    assert (after.status, after.refresh_state, after.last_error) == ("active", "unknown", "gone")
    assert told.id in await outbox_ids(store)
    found = await facet.refresh_history(made.id, 1)
    assert (found.failed, found.unknown) == (0, 1)
    await facet.drop_refresh(opened.lease)
    again = await facet.open_refresh(made.id, owner="a", lease=0.05, intent_id=new_id())
    assert again.abandoned is None
    await facet.establish(evolve(change(), credential=credential(made.id, 2)))
    await asyncio.sleep(0.1)
    newer = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    assert newer.abandoned is None  # it was about the old version
    await facet.drop_refresh(newer.lease)
    await facet.open_refresh(made.id, owner="a", lease=0.05, intent_id=None)
    await asyncio.sleep(0.1)
    next = await facet.open_refresh(made.id, owner="b", lease=30, intent_id=new_id())
    assert next.abandoned is None  # without an intent nothing was sent
    await facet.drop_refresh(next.lease)
    kept = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=None)
    await facet.renew_refresh(kept.lease, seconds=30)
    await facet.close_refresh(credential(made.id, 3), lease=kept.lease, active_version=2, event=event())
    await refused(LeaseLost, facet.drop_refresh(kept.lease))


@check("STORE-029", "store", needs=("connections", "queues"))
async def late_token_is_kept_until_it_is_adopted(store: Store) -> None:
    """A token that came after the lease is kept in the holder's intent, read by its successor, and saved by it."""
    made = await established(store)
    facet = store.connections
    first = new_id()
    lease = (await facet.open_refresh(made.id, owner="late", lease=0.05, intent_id=first)).lease
    await asyncio.sleep(0.1)
    opened = await facet.open_refresh(made.id, owner="next", lease=30, intent_id=new_id())
    came = credential(made.id, 2, granted=None, expires_at=now(), refresh_expires_at=now())
    before = await facet.load(made.id), await outbox_ids(store)
    assert await facet.keep_late(lease, came) is True
    assert (await facet.load(made.id), await outbox_ids(store)) == before
    kept = (await facet.refresh_history(made.id, 1)).late
    assert kept == LateToken(intent_id=first, credential=came)
    assert (await facet.refresh_history(made.id, 2)).late is None
    await facet.close_refresh(came, lease=opened.lease, active_version=1, event=event(), adopted=first)
    assert (await facet.load(made.id))[1] == came
    assert (await facet.refresh_history(made.id, 1)).late is None
    assert await facet.keep_late(lease, came) is False
    newest = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
    assert await facet.keep_late(newest, credential(made.id, 3)) is True
    assert (await facet.refresh_history(made.id, 2)).late is not None
    await facet.disconnect(made.id, reason="kit", event=event())
    assert (await facet.refresh_history(made.id, 2)).late is None
    assert await facet.keep_late(newest, credential(made.id, 3)) is False


@check("STORE-033", "store", needs=("connections",))
async def outlook_tells_when_each_connection_is_renewed(store: Store) -> None:
    """Outlooks have all connections but disconnected ones, by id and page by page, with the active version and its
    history."""
    facet = store.connections
    made = [await established(store, f"account-{number}") for number in range(3)]
    lease = (await facet.open_refresh(made[1].id, owner="a", lease=30, intent_id=new_id())).lease
    await facet.fail_refresh(lease, error="kit", terminal=False, event=None, retry_in=40)
    lease = (await facet.open_refresh(made[2].id, owner="a", lease=30, intent_id=new_id())).lease
    await facet.fail_refresh(lease, error="kit", terminal=False, event=None, state="unknown")
    gone = await established(store, "account-4")
    await facet.disconnect(gone.id, reason="kit", event=event())
    first = await facet.outlooks(limit=2)
    assert first.next == first.items[1].connection.id
    found = {one.connection.id: one for one in (*first.items, *(await facet.outlooks(after=first.next)).items)}
    assert list(found) == sorted(one.id for one in made)
    _, row = await facet.load(made[0].id)
    assert row is not None
    assert found[made[0].id].credential == CredentialFacts.of(row)
    assert found[made[0].id].history == RefreshHistory()
    assert found[made[1].id].connection.refresh_state == "backing_off"
    backing_off, unknown = found[made[1].id].history, found[made[2].id].history
    assert (backing_off.failed, backing_off.unknown, unknown.failed, unknown.unknown) == (1, 0, 0, 1)
    assert 35 < backing_off.retry_in <= 40
    assert (await facet.outlooks(provider_id="other")).items == ()
    assert (await facet.outlooks(scope=Scope("org", "u1"))).items == ()
    assert len((await facet.outlooks(provider_id="kit", scope=SCOPE)).items) == 3
    await refused(BadInput, facet.outlooks(limit=0))


@check("STORE-034", "store", needs=("connections",))
async def due_credentials_come_in_the_order_of_their_end(store: Store) -> None:
    """What is due comes by time and connection, page by page; not what nobody can renew, or somebody is renewing."""
    facet = store.connections
    at = now().replace(microsecond=0)
    ends = [at + timedelta(minutes=minutes) for minutes in (3, 1, 2, 2, 9)]
    made = []
    for number, end in enumerate(ends):
        wanted = change(f"account-{number}")
        dated = evolve(wanted.credential, expires_at=end, created_at=end - timedelta(days=1))
        made.append((await facet.establish(evolve(wanted, credential=dated)))[0].id)
    for number, refreshable in enumerate((False, True)):
        wanted = change(f"not-due-{number}")
        endless = evolve(wanted.credential, expires_at=None, refreshable=refreshable, created_at=at)
        await facet.establish(evolve(wanted, credential=endless))
    expected = [made[1], *sorted(made[2:4]), made[0]]
    orders: tuple[tuple[Literal["expires_at", "created_at"], datetime], ...] = (
        ("expires_at", ends[4]),
        ("created_at", ends[4] - timedelta(days=1)),
    )
    for by, before in orders:
        due = partial(facet.due, "kit", by=by, before=before)
        assert [one.connection.id for one in await due()] == expected
        place: tuple[datetime, str] | None = None
        paged = []
        while page := await due(after=place, limit=1):
            (one,) = page
            paged.append(one.connection.id)
            assert one.credential is not None
            last = one.credential.expires_at if by == "expires_at" else one.credential.created_at
            assert last is not None
            place = (last, one.connection.id)
        assert paged == expected
    due = partial(facet.due, "kit", by="expires_at", before=ends[0] + timedelta(seconds=1))
    assert await facet.due("other", by="expires_at", before=ends[4]) == []
    held = (await facet.open_refresh(expected[0], owner="a", lease=30, intent_id=new_id())).lease
    terminal = (await facet.open_refresh(expected[1], owner="a", lease=30, intent_id=new_id())).lease
    await facet.fail_refresh(terminal, error="invalid_grant", terminal=True, event=event())
    assert [one.connection.id for one in await due()] == expected[2:]
    await facet.fail_refresh(held, error="kit", terminal=False, event=None, retry_in=30)
    (first, *_) = await due()
    assert (first.connection.id, first.history.failed) == (expected[0], 1)
    await refused(BadInput, due(limit=0))


@check("STORE-032", "store", needs=("connections",))
async def connections_are_listed_by_account(store: Store) -> None:
    """A list by external account has that account's connections of every scope, and no others."""
    made = await established(store, "shared")
    await established(store, "other")
    scope = Scope("org", "elsewhere")
    wanted = connection("shared", scope=scope)
    second = evolve(change(), connection=wanted, credential=credential(wanted.id))
    await store.connections.establish(second)
    found = await store.connections.list(provider_id="kit", external_account_id="shared", status="active")
    assert {one.id for one in found.items} == {made.id, wanted.id}
