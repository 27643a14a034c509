"""Checks for stores: what a disconnect keeps until the provider was told, and what ends with a connection."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from ...errors import BadInput, VersionConflict
from ...model import REVOKE_JOB, NewJob, SealedCredential
from ...protocols import Store
from ..kit import check
from .store import KEY, change, credential, established, event, new_id, now, outbox_ids, refused
from .store_jobs import take_jobs
from .store_resources import subscription


def revocation(row: SealedCredential, **fields: Any) -> NewJob:
    """The job that revokes ``row``."""
    made = NewJob(id=row.id, kind=REVOKE_JOB, connection_id=row.connection_id, created_at=now())
    return evolve(made, **fields)


async def active(store: Store, connection_id: str) -> SealedCredential:
    """The active credential, which there is."""
    _, found = await store.connections.load(connection_id)
    assert found is not None
    return found


async def kept(store: Store, connection_id: str) -> list[str]:
    """Ids of the credentials that have a ciphertext."""
    return [row.id for row in await store.connections.credentials(connection_id)]


@check("STORE-300", "store", needs=("connections", "queues"))
async def disconnect_keeps_what_its_job_revokes(store: Store) -> None:
    """With a job, the active credential's ciphertext stays until it is destroyed, once, with an event; none else."""
    made = await established(store)
    facet = store.connections
    await facet.establish(evolve(change(), credential=credential(made.id, 2)))
    last = await active(store, made.id)
    job = revocation(last)
    await facet.disconnect(made.id, reason="kit", event=event(), version=2, job=job)
    assert await facet.load(made.id) == (await facet.get(made.id), None)
    assert list(await facet.credentials(made.id)) == [last]
    assert [one.id for one in await facet.pending_revocations(made.id)] == [job.id]
    told = event("credential.revoked", made.id)
    assert await facet.destroy_credential(last.id, event=told)
    events = await outbox_ids(store)
    assert told.id in events
    assert not await facet.destroy_credential(last.id, event=event())
    assert not await facet.destroy_credential("none", event=event())
    assert (await kept(store, made.id), await outbox_ids(store)) == ([], events)
    (claim,) = await take_jobs(store, REVOKE_JOB)
    assert [one.id for one in await facet.pending_revocations(made.id)] == [job.id]
    await store.queues.settle(claim, "done")
    assert list(await facet.pending_revocations(made.id)) == []


@check("STORE-301", "store", needs=("connections", "queues"))
async def disconnect_of_another_version_changes_nothing(store: Store) -> None:
    """A version that is not the active one, or for which a token came late, is refused, and so is a strange job."""
    made = await established(store)
    facet = store.connections
    row = await active(store, made.id)
    events = await outbox_ids(store)
    conflict = await refused(VersionConflict, facet.disconnect(made.id, reason="kit", event=event(), version=2))
    assert conflict.metadata["active_version"] == 1
    for strange in (revocation(row, id=new_id()), revocation(row, kind="kit"), revocation(row, connection_id=None)):
        await refused(BadInput, facet.disconnect(made.id, reason="kit", event=event(), job=strange))
    lease = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
    assert await facet.keep_late(lease, credential(made.id, 2))
    await facet.drop_refresh(lease)
    await refused(VersionConflict, facet.disconnect(made.id, reason="kit", event=event(), version=1))
    assert ((await facet.get(made.id)).status, await active(store, made.id)) == ("active", row)
    assert await outbox_ids(store) == events
    assert list(await facet.pending_revocations(made.id)) == []
    ended = await facet.disconnect(made.id, reason="kit", event=event())
    assert (ended.status, await kept(store, made.id)) == ("disconnected", [])


@check("STORE-302", "store", needs=("connections", "queues"))
async def second_disconnect_keeps_what_the_first_has_to_revoke(store: Store) -> None:
    """A connection that came back and ends again leaves both jobs their ciphertext; the active one is never lost."""
    made = await established(store)
    facet = store.connections
    first = await active(store, made.id)
    await facet.disconnect(made.id, reason="kit", event=event(), job=revocation(first))
    await facet.establish(evolve(change(), credential=credential(made.id, 2)))
    second = await active(store, made.id)
    assert await kept(store, made.id) == [second.id, first.id]
    assert not await facet.destroy_credential(second.id, event=event())
    assert await active(store, made.id) == second
    await facet.disconnect(made.id, reason="kit", event=event(), job=revocation(second))
    assert await kept(store, made.id) == [second.id, first.id]
    assert [one.id for one in await facet.pending_revocations(made.id)] == sorted([first.id, second.id])
    await store.prune({"service_credentials": 0.0})
    assert await kept(store, made.id) == [second.id, first.id]
    for claim in await take_jobs(store, REVOKE_JOB):
        await store.queues.settle(claim, "done")
    await store.prune({"service_credentials": 0.0})
    assert await kept(store, made.id) == []


@check("STORE-303", "store", needs=("connections", "queues", "resources"))
async def disconnect_cancels_subscriptions_and_their_tokens(store: Store) -> None:
    """Subscriptions of the connection are cancelled with it, their verification tokens destroyed; others stay."""
    made, other = await established(store), await established(store, "other")
    token = (await active(store, made.id)).sealed
    for connection_id, channel in ((made.id, "mine"), (made.id, "old"), (other.id, "other")):
        wanted = subscription(connection_id, channel, verification=token)
        await store.resources.save_subscription(wanted, expected_version=None)
    old = await store.resources.subscription_by_channel("kit", "old")
    assert old is not None
    await store.resources.set_subscription_status(old.id, expected=["active"], status="cancelled", reason="before")
    await store.connections.disconnect(made.id, reason="user asked", event=event())
    found = {one.channel_id: one for one in (await store.resources.subscriptions()).items}
    said = {channel: (one.status, one.status_reason, one.verification, one.version) for channel, one in found.items()}
    assert said == {
        "mine": ("cancelled", "user asked", None, 2),
        "old": ("cancelled", "before", None, 3),
        "other": ("active", "", token, 1),
    }


@check("STORE-304", "store", needs=("connections", "queues"))
async def credential_after_a_disconnect_is_kept_for_its_revocation(store: Store) -> None:
    """A token that came after the disconnect is kept with its job, never active; not where the connection is back."""
    made = await established(store)
    facet = store.connections
    came = credential(made.id, 2)
    assert not await facet.keep_for_revocation(came, revocation(came))
    await facet.disconnect(made.id, reason="kit", event=event())
    await refused(BadInput, facet.keep_for_revocation(came, revocation(came, id=new_id())))
    taken = credential(made.id, 1)
    assert not await facet.keep_for_revocation(taken, revocation(taken))
    assert await facet.keep_for_revocation(came, revocation(came))
    assert (await facet.load(made.id))[1] is None
    assert list(await facet.credentials(made.id)) == [came]
    assert [one.id for one in await facet.pending_revocations(made.id)] == [came.id]
    assert await facet.next_version("kit", made.scope, "account-1") == (made.id, 3)
    assert came.sealed.key == KEY
