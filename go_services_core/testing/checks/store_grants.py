"""Checks for stores: the history of grants, and consents that are asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import evolve

from ...errors import BadInput, ConnectionNotFound, InvalidTransition, ServicesError, StateUnknown
from ...grants import GrantEvent
from ...model import Connection
from ...protocols import Store
from ..kit import check
from .store import attempt, change, connection, credential, established, event, new_id, now, refused


async def tick() -> None:
    """Let ids that are made from now on sort behind those before: they go by the millisecond."""
    await asyncio.sleep(0.002)


async def granted(store: Store, made: Connection, version: int, grants: tuple[str, ...] | None, **fields: Any) -> None:
    """Another consent of the same account."""
    await tick()
    new = credential(made.id, version, granted=grants, **fields)
    await store.connections.establish(evolve(change(), credential=new))


async def renewed(store: Store, made: Connection, version: int, grants: tuple[str, ...] | None) -> None:
    """A renewal, whose answer says what is granted."""
    await tick()
    facet = store.connections
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    new = credential(made.id, version, granted=grants)
    told = event("credential.refreshed", made.id)
    await facet.close_refresh(new, lease=opened.lease, active_version=version - 1, event=told)


async def told(store: Store) -> list[str]:
    """The names of the events of the outbox about grants, in their order."""
    return [item.name for item in (await store.queues.list("outbox")).items if item.name.startswith("grant.")]


async def history(store: Store, made: Connection) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Type, added and removed of the connection's events."""
    return [(one.type, one.added, one.removed) for one in (await store.connections.grant_events(made.id)).items]


def asked_again(made: Connection, *added: str) -> GrantEvent:
    """A consent that is asked for again."""
    return GrantEvent(
        id=new_id(),
        connection_id=made.id,
        type="reconsent_requested",
        requested=("read", *added),
        granted=("read",),
        added=added,
        snapshot_version=1,
        occurred_at=now(),
    )


@check("STORE-240", "store", needs=("connections", "queues"))
async def change_of_grants_is_told_by_its_type(store: Store) -> None:
    """Each change of what is granted is a line of the history and an event, by consent and by renewal alike: expanded,
    downgraded where anything was lost, revoked where nothing remains. The first grants are expanded."""
    made = await established(store)
    await granted(store, made, 2, ("read", "write"))
    await renewed(store, made, 3, ("read", "other"))
    await granted(store, made, 4, ())
    await renewed(store, made, 5, ("read",))
    expected = [
        ("expanded", ("read",), ()),
        ("expanded", ("write",), ()),
        ("downgraded", ("other",), ("write",)),
        ("revoked", (), ("other", "read")),
        ("expanded", ("read",), ()),
    ]
    assert await history(store, made) == expected
    assert await told(store) == [f"grant.{type}" for type, _, _ in expected]
    lines = (await store.connections.grant_events(made.id)).items
    assert [line.snapshot_version for line in lines] == [1, 2, 3, 4, 5]
    assert (lines[2].requested, lines[2].granted) == (("read", "write"), ("read", "other"))
    await store.queues.register_handlers({"h": "grant.downgraded"}, now=made.created_at)
    (claim,) = await store.queues.claim("outbox", owner="a", lease=30, limit=10, handlers=["h"])
    assert claim.event is not None
    assert claim.event == lines[2].announced("kit", made.scope)


@check("STORE-241", "store", needs=("connections", "queues"))
async def grants_are_sets_that_keep_their_case(store: Store) -> None:
    """Another order, repetitions and spaces are the same grants, another case is not; what is not told is no change."""
    made = await established(store)
    await granted(store, made, 2, ("Read", "read"))
    for version, grants in ((3, ("read", "Read")), (4, ("read", " Read", "read", ""))):
        await granted(store, made, version, grants, requested=("write", "read", "write"))
    await renewed(store, made, 5, ("read", "Read"))
    assert await history(store, made) == [("expanded", ("read",), ()), ("expanded", ("Read",), ())]
    snapshots = (await store.connections.grant_snapshots(made.id)).items
    assert [(one.version, one.granted) for one in snapshots] == [(1, ("read",)), (2, ("Read", "read"))]
    await granted(store, made, 6, None)
    assert len(await history(store, made)) == 2
    newest = await store.connections.grants(made.id)
    assert newest is not None
    assert (newest.version, newest.granted) == (3, None)


@check("STORE-242", "store", needs=("connections",))
async def history_of_grants_comes_in_pages(store: Store) -> None:
    """Snapshots by version and events by id, a page at a time, of one connection only."""
    facet = store.connections
    made = await established(store)
    await established(store, "account-2")
    for version in range(2, 13):
        await granted(store, made, version, tuple(f"g{number}" for number in range(version)))
    seen: list[int] = []
    names: list[str] = []
    after = None
    while True:
        page = await facet.grant_snapshots(made.id, after=after, limit=5)
        seen += [one.version for one in page.items]
        if (after := page.next) is None:
            break
    while True:
        lines = await facet.grant_events(made.id, after=after, limit=5)
        names += [one.id for one in lines.items]
        if (after := lines.next) is None:
            break
    assert seen == list(range(1, 13))
    assert len(names) == 12
    assert names == sorted(set(names))
    assert (await facet.grant_events("none")).items == ()
    assert (await facet.grant_snapshots("none")).items == ()
    await refused(BadInput, facet.grant_snapshots(made.id, after="x"))
    await refused(BadInput, facet.grant_snapshots(made.id, limit=0))
    await refused(BadInput, facet.grant_events(made.id, limit=0))


@check("STORE-243", "store", needs=("connections", "queues"))
async def consent_that_is_asked_for_again_is_told_with_its_attempt(store: Store) -> None:
    """Asking again is told in the attempt's commit and changes nothing else; its completion is told with the change."""
    facet = store.connections
    made = await established(store)
    before = await facet.load(made.id)
    await tick()
    wanted = attempt(b"state", b"binding", connection_id=made.id)
    await facet.begin_attempt(wanted, reconsent=asked_again(made, "write"))
    assert await facet.load(made.id) == before
    assert await history(store, made) == [("expanded", ("read",), ()), ("reconsent_requested", ("write",), ())]
    assert await facet.consume_attempt(wanted.state_hash, wanted.binding_hash, now=now()) == wanted
    for version, grants, types in (
        (2, ("read", "write"), ["expanded", "reconsent_completed"]),
        (3, ("read", "write"), ["reconsent_completed"]),
        (4, ("write",), ["downgraded", "reconsent_completed"]),
    ):
        count = len(await history(store, made))
        await tick()
        new = credential(made.id, version, granted=grants)
        await facet.establish(evolve(change(), credential=new, expected_connection_id=made.id))
        lines = (await history(store, made))[count:]
        assert [type for type, _, _ in lines] == types
        assert len({(added, removed) for _, added, removed in lines}) == 1
    assert await told(store) == [f"grant.{type}" for type, _, _ in await history(store, made)]
    unknown = attempt(b"other", b"binding")
    ghost = asked_again(connection("account-9"), "write")
    await refused(ConnectionNotFound, facet.begin_attempt(unknown, reconsent=ghost))
    await refused(StateUnknown, facet.consume_attempt(unknown.state_hash, unknown.binding_hash, now=now()))


@check("STORE-244", "store", needs=("connections", "queues"))
async def reconsent_is_required_once(store: Store) -> None:
    """Requiring a re-consent stops an active connection, with its reason and one event; others are refused."""
    facet = store.connections
    made = await established(store)
    stopped = event("connection.needs_reconsent", made.id)
    changed = await facet.require_reconsent(made.id, reason="new terms", event=stopped)
    assert (changed.status, changed.last_error) == ("needs_reconsent", "new terms")
    assert await facet.require_reconsent(made.id, reason="again", event=event("connection.needs_reconsent")) == changed
    assert (await facet.load(made.id))[0] == changed
    ids = [item.id for item in (await store.queues.list("outbox", name="connection.needs_reconsent")).items]
    assert ids == [stopped.id]
    await granted(store, made, 2, ("read",))
    active = await facet.get(made.id)
    assert (active.status, active.last_error) == ("active", "")
    await facet.disconnect(made.id, reason="kit", event=event())
    error = await refused(InvalidTransition, facet.require_reconsent(made.id, reason="late", event=event()))
    assert error.metadata["status"] == "disconnected"
    await refused(ConnectionNotFound, facet.require_reconsent("none", reason="kit", event=event()))


@check("STORE-245", "store", needs=("connections", "queues"))
async def renewal_that_loses_every_grant_stops_the_connection(store: Store) -> None:
    """A renewal that leaves nothing granted is saved and stops the connection; one that had begun before a re-consent
    was required is saved and leaves it stopped."""
    facet = store.connections
    made = await established(store)
    await renewed(store, made, 2, ())
    stopped, active = await facet.load(made.id)
    assert (stopped.status, active is not None and active.version) == ("needs_reconsent", 2)
    assert stopped.last_error
    assert len((await store.queues.list("outbox", name="connection.needs_reconsent")).items) == 1
    await granted(store, made, 3, ("read",))
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    await facet.require_reconsent(made.id, reason="new terms", event=event())
    late = credential(made.id, 4)
    await facet.close_refresh(late, lease=opened.lease, active_version=3, event=event())
    kept, active = await facet.load(made.id)
    assert (kept.status, kept.last_error, active) == ("needs_reconsent", "new terms", late)


@check("STORE-246", "store", needs=("connections", "queues"))
async def change_whose_event_cannot_be_written_does_not_happen(store: Store) -> None:
    """An event and its change are one commit: where the event is refused, here for its id, nothing has changed."""
    facet = store.connections
    made = await established(store)
    taken = event("kit.taken", made.id)
    await facet.disconnect((await established(store, "account-2")).id, reason="kit", event=taken)
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    wanted = attempt(b"state", b"binding")
    again = evolve(change(), credential=credential(made.id, 2, granted=("read", "write")))
    new, lease = credential(made.id, 2, granted=()), opened.lease
    units: list[Callable[[], Awaitable[Any]]] = [
        lambda: facet.establish(evolve(again, event=taken)),
        lambda: facet.establish(evolve(again, also=(taken,))),
        lambda: facet.close_refresh(new, lease=lease, active_version=1, event=taken),
        lambda: facet.close_refresh(new, lease=lease, active_version=1, event=event(), also=[taken]),
        lambda: facet.fail_refresh(lease, error="invalid_grant", terminal=True, event=taken),
        lambda: facet.require_reconsent(made.id, reason="kit", event=taken),
        lambda: facet.begin_attempt(wanted, reconsent=evolve(asked_again(made), id=taken.id)),
        lambda: facet.disconnect(made.id, reason="kit", event=taken),
    ]

    async def everything() -> tuple[Any, ...]:
        items = (await store.queues.list("outbox")).items
        lines = (await facet.grant_events(made.id)).items
        return await facet.load(made.id), await facet.grants(made.id), lines, items

    before = await everything()
    for unit in units:
        await refused(ServicesError, unit())
        assert await everything() == before
    await refused(StateUnknown, facet.consume_attempt(wanted.state_hash, wanted.binding_hash, now=now()))
    await facet.close_refresh(credential(made.id, 2), lease=lease, active_version=1, event=event())
