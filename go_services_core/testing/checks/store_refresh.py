"""Checks for stores: the two commits of a refresh."""

from __future__ import annotations

import asyncio

from attrs import evolve

from ...errors import LeaseLost, ReauthRequired, RefreshLocked, VersionConflict
from ...model import Lease
from ...protocols import Store
from ..kit import check
from .store import change, credential, established, event, new_id, outbox_ids, refused


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
