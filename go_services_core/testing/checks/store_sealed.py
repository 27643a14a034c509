"""Checks for stores: every sealed value by its key, values that take each other's place, what cannot be opened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, get_args

from attrs import evolve

from ...errors import BadInput, ConnectionNotFound
from ...model import Connection, KeyRef, Sealed, SealedCredential
from ...protocols import Store
from ...wrapping_keys import Resealed, SealedKind, SealedRow
from ..kit import check
from .store import KEY, SCOPE, attempt, change, connection, credential, established, event, new_id, now, refused
from .store_endpoints import endpoint
from .store_queues import delivery
from .store_resources import subscription

KINDS: tuple[SealedKind, ...] = get_args(SealedKind)
NEWER = KeyRef("kit", "key-2", 1)
FACETS = ("connections", "queues", "once", "resources", "endpoints", "sealed")


async def one_of_each(store: Store, key: KeyRef = KEY) -> dict[SealedKind, SealedRow]:
    """One sealed value of each kind, in the store."""
    name = new_id()
    made = connection(name)
    active = credential(made.id)
    active = evolve(active, sealed=Sealed(active.sealed.ciphertext, key))
    await store.connections.establish(
        evolve(change(), connection=made, credential=active, event=event("kit", made.id)),
    )
    open_ = attempt(name.encode(), b"binding", sealed=Sealed(b"verifier", key), connection_id=made.id)
    await store.connections.begin_attempt(open_)
    request = delivery(name, connection_id=made.id, sealed=Sealed(b"request \x00\xff", key))
    await store.queues.accept(request)
    results = {row.id for row in await listed(store, "idempotency")}
    begun = await store.once.begin("operation", name, digest=b"d", owner="a", seconds=30)
    answer = Sealed(b"answer", key)
    await store.once.finish("operation", name, owner="a", fence=begun.fence, ok=True, result=answer)
    watched = subscription(made.id, name, verification=Sealed(b"token", key))
    await store.resources.save_subscription(watched, expected_version=None)
    intent = new_id()
    lease = (await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=intent)).lease
    late = evolve(credential(made.id, 2), sealed=Sealed(b"late", key))
    assert await store.connections.keep_late(lease, late)
    await store.connections.drop_refresh(lease)
    told = await store.endpoints.save(endpoint(secrets=Sealed(b"signing", key)), expected_version=None)
    own: dict[str, Any] = {"provider_id": "kit", "scope": SCOPE, "connection_id": made.id}
    (result,) = {row.id for row in await listed(store, "idempotency")} - results
    rows = (
        SealedRow(
            **own,
            kind="credential",
            id=active.id,
            record_id=made.id,
            record_version=1,
            sealed=active.sealed,
            payload_format="kit",
            payload_version=2,
        ),
        SealedRow(**own, kind="attempt", id=open_.id, record_id=open_.id, sealed=Sealed(b"verifier", key)),
        SealedRow(**own, kind="inbox", id=request.id, record_id=request.id, sealed=request.sealed),
        SealedRow(
            kind="idempotency",
            id=result,
            provider_id="",
            scope=None,
            record_id=result,
            sealed=Sealed(b"answer", key),
        ),
        SealedRow(**own, kind="subscription", id=watched.id, record_id=watched.id, sealed=Sealed(b"token", key)),
        SealedRow(**own, kind="intent", id=intent, record_id=made.id, record_version=2, sealed=Sealed(b"late", key)),
        SealedRow(
            kind="endpoint", id=told.id, provider_id="", scope=SCOPE, record_id=told.id, sealed=Sealed(b"signing", key)
        ),
    )
    return {row.kind: row for row in rows}


async def counted(store: Store) -> dict[tuple[SealedKind, KeyRef], int]:
    """How many values need each key."""
    uses = await store.sealed.keys()
    found = {(use.kind, use.key): use.rows for use in uses}
    assert len(found) == len(uses)
    return found


async def listed(store: Store, kind: SealedKind, *, limit: int = 100, **choice: KeyRef) -> list[SealedRow]:
    """All values of a kind, page by page."""
    found: list[SealedRow] = []
    after = None
    while True:
        page = await store.sealed.page(kind, after=after, limit=limit, **choice)
        assert len(page.items) <= limit
        found += page.items
        if (after := page.next) is None:
            return found


def other(row: SealedRow, text: bytes = b"new", key: KeyRef = NEWER, **fields: Any) -> Resealed:
    """Another value for ``row``."""
    return Resealed(row=row, sealed=Sealed(text + b" of " + row.id.encode(), key), **fields)


async def active_of(store: Store, connection_id: str) -> SealedCredential:
    """The active credential."""
    found = (await store.connections.load(connection_id))[1]
    assert found is not None
    return found


@check("STORE-200", "store", needs=FACETS)
async def sealed_values_are_counted_by_kind_and_key(store: Store) -> None:
    """Every sealed value counts under its kind and its key: backend, id and version; superseded credentials as well."""
    assert await counted(store) == {}
    made = await one_of_each(store)
    await one_of_each(store)
    await one_of_each(store, NEWER)
    await one_of_each(store, evolve(KEY, key_version=4))
    await one_of_each(store, evolve(KEY, backend="kit2"))
    expected = {
        (kind, key): 1 for kind in KINDS for key in (NEWER, KeyRef("kit", "key-1", 4), KeyRef("kit2", "key-1", 3))
    }
    expected |= {(kind, KEY): 2 for kind in KINDS}
    assert await counted(store) == expected
    row = made["credential"]
    found = await store.connections.get(row.record_id)
    renewed = evolve(change(found.external_account_id), credential=credential(found.id, 2))
    await store.connections.establish(renewed)
    assert await counted(store) == {**expected, ("credential", KEY): 3}


@check("STORE-201", "store", needs=FACETS)
async def what_was_destroyed_or_never_was_is_no_sealed_value(store: Store) -> None:
    """Destroyed credentials, results that are none, requests in clear or dropped, and tokens kept elsewhere count as
    nothing and are not given."""
    made = await established(store)
    await store.connections.establish(evolve(change(), credential=credential(made.id, 2)))
    await store.connections.disconnect(made.id, reason="kit", event=event())
    clear = KeyRef("", "", 1)
    await store.queues.accept(delivery("clear", sealed=Sealed(b"in clear", clear)))
    await store.queues.accept(delivery("dropped", sealed=Sealed(b"", clear)))
    for key, ok in (("none", True), ("failed", False), ("running", None)):
        begun = await store.once.begin("command", key, digest=b"d", owner="a", seconds=30)
        if ok is not None:
            result = None if ok else Sealed(b"of a failure", KEY)
            await store.once.finish("command", key, owner="a", fence=begun.fence, ok=ok, result=result)
    await store.resources.save_subscription(subscription(made.id), expected_version=None)
    assert await counted(store) == {}
    for kind in KINDS:
        assert await listed(store, kind) == []
        assert await listed(store, kind, other_than=NEWER) == []


@check("STORE-202", "store", needs=FACETS)
async def sealed_values_say_what_they_are_bound_to(store: Store) -> None:
    """A value is given with its key, provider, scope, connection and record; a credential with version and format."""
    made = await one_of_each(store)
    for kind, row in made.items():
        assert await listed(store, kind) == [row]
    found = await store.connections.get(made["credential"].record_id)
    second = credential(found.id, 2, payload_format="kit-2", payload_version=5)
    await store.connections.establish(evolve(change(found.external_account_id), credential=second))
    (row,) = [row for row in await listed(store, "credential") if row.id == second.id]
    assert (row.record_id, row.record_version, row.sealed) == (found.id, 2, second.sealed)
    assert (row.payload_format, row.payload_version) == ("kit-2", 5)
    key = KeyRef("", "go-key", 7)
    adopted = evolve(made["credential"].sealed, key=key)
    await store.sealed.replace([Resealed(row=made["credential"], sealed=adopted)])
    (row,) = await listed(store, "credential", key=key)
    assert row == evolve(made["credential"], sealed=adopted)
    assert (await counted(store))["credential", key] == 1


@check("STORE-203", "store", needs=FACETS)
async def sealed_values_come_in_pages_by_key(store: Store) -> None:
    """Values come by id in pages of at most the limit, under a key or under any other; none is lost or doubled."""
    old = [await one_of_each(store) for _ in range(4)]
    new = [await one_of_each(store, NEWER) for _ in range(3)]
    for kind in KINDS:
        rows = sorted((made[kind] for made in (*old, *new)), key=lambda row: row.id)
        older = [row for row in rows if row.sealed.key == KEY]
        for limit in (1, 2, 3, 4, 7, 100):
            assert await listed(store, kind, limit=limit) == rows
            assert await listed(store, kind, limit=limit, key=KEY) == older
            assert await listed(store, kind, limit=limit, other_than=NEWER) == older
            assert await listed(store, kind, limit=limit, other_than=evolve(KEY, key_version=9)) == rows
        assert len(older) == 4
        assert await listed(store, kind, key=evolve(KEY, key_version=9)) == []
        assert (await store.sealed.page(kind, after=rows[-1].id)).items == ()
    await refused(BadInput, store.sealed.page("credential", key=KEY, other_than=NEWER))
    await refused(BadInput, store.sealed.page("credential", limit=0))
    unknown: Any = "token"
    await refused(BadInput, store.sealed.page(unknown))


@check("STORE-204", "store", needs=FACETS)
async def value_takes_the_place_of_another(store: Store) -> None:
    """A value that takes the place of another is read where that was; no time, version or anything else changes."""
    made = await one_of_each(store)
    held, active = await store.connections.load(made["credential"].record_id)
    request = await store.queues.delivery(made["inbox"].id)
    watched = await store.resources.subscription(made["subscription"].id)
    assert active is not None
    assert request is not None
    assert watched is not None
    new = {kind: other(row) for kind, row in made.items()}
    for kind in KINDS:
        assert list(await store.sealed.replace([new[kind]])) == []
        assert await listed(store, kind) == [evolve(made[kind], sealed=new[kind].sealed)]
    assert await counted(store) == {(kind, NEWER): 1 for kind in KINDS}
    assert await store.connections.load(held.id) == (held, evolve(active, sealed=new["credential"].sealed))
    assert await store.queues.delivery(request.id) == evolve(request, sealed=new["inbox"].sealed)
    assert await store.resources.subscription(watched.id) == evolve(watched, verification=new["subscription"].sealed)
    begun = await store.once.begin("operation", watched.channel_id, digest=b"d", owner="b", seconds=30)
    assert (begun.state, begun.fence, begun.result) == ("done", 1, new["idempotency"].sealed)
    open_ = attempt(watched.channel_id.encode(), b"binding")
    taken = await store.connections.consume_attempt(open_.state_hash, open_.binding_hash, now=now())
    assert (taken.id, taken.sealed) == (made["attempt"].id, new["attempt"].sealed)
    kept = (await store.connections.refresh_history(held.id, 1)).late
    assert kept is not None
    assert (kept.intent_id, kept.credential.sealed) == (made["intent"].id, new["intent"].sealed)
    (row,) = await listed(store, "credential")
    assert list(await store.sealed.replace([other(row, b"again", payload_format="kit-3", payload_version=4)])) == []
    again = await active_of(store, held.id)
    assert (again.payload_format, again.payload_version) == ("kit-3", 4)


@check("STORE-205", "store", needs=FACETS)
async def value_that_is_another_now_is_left_alone(store: Store) -> None:
    """Values whose rows hold another ciphertext or key, or are gone, are left alone and named; the others are put."""
    made = [await one_of_each(store) for _ in range(4)]
    for kind in KINDS:
        rows = [one[kind] for one in made]
        changed = evolve(rows[1], sealed=Sealed(b"other", KEY))
        moved = evolve(rows[2], sealed=Sealed(rows[2].sealed.ciphertext, evolve(KEY, key_version=9)))
        gone = evolve(rows[0], id=new_id())
        longer = evolve(rows[3], sealed=Sealed(rows[3].sealed.ciphertext + b"+", KEY))
        values = [other(row, b"n" * place) for place, row in enumerate((rows[0], changed, gone, moved, longer))]
        left = await store.sealed.replace(values)
        assert list(left) == [changed.id, gone.id, moved.id, longer.id]
        kept = {row.id: row for row in await listed(store, kind)}
        assert kept == {rows[0].id: evolve(rows[0], sealed=values[0].sealed), **{row.id: row for row in rows[1:]}}


@check("STORE-206", "store", needs=FACETS)
async def of_concurrent_replacements_one_wins_each_row(store: Store) -> None:
    """Of concurrent replacements of one value exactly one is put; every other is named as left alone."""
    made = [await one_of_each(store) for _ in range(6)]
    for kind in KINDS:
        rows = [one[kind] for one in made]
        tries = [[other(row, f"writer {writer}".encode()) for row in rows] for writer in range(6)]
        for writer, values in enumerate(tries):
            tries[writer] = values[writer:] + values[:writer]
        answers = await asyncio.gather(*map(store.sealed.replace, tries))
        put: dict[str, Sealed] = {}
        for values, left in zip(tries, answers, strict=True):
            for value in values:
                if value.row.id not in left:
                    assert value.row.id not in put
                    put[value.row.id] = value.sealed
        assert put == {row.id: row.sealed for row in await listed(store, kind)}


@check("STORE-207", "store", needs=FACETS)
async def change_between_page_and_replacement_wins(store: Store) -> None:
    """What was destroyed, refreshed or taken after it was read stays as it is: no value comes back."""
    for end in ("disconnect", "refresh"):
        made = await established(store, end)
        (row,) = [found for found in await listed(store, "credential") if found.record_id == made.id]
        if end == "disconnect":
            await store.connections.disconnect(made.id, reason="kit", event=event())
            assert list(await store.sealed.replace([other(row)])) == [row.id]
            assert await store.connections.load(made.id) == (await store.connections.get(made.id), None)
        else:
            lease = (await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
            new = credential(made.id, 2)
            await store.connections.close_refresh(new, lease=lease, active_version=1, event=event())
            assert list(await store.sealed.replace([other(row)])) == []  # superseded, not gone
            assert await active_of(store, made.id) == new
    assert await counted(store) == {("credential", KEY): 1, ("credential", NEWER): 1}


@check("STORE-208", "store", needs=FACETS)
async def replacements_that_make_no_sense_are_refused(store: Store) -> None:
    """Values of several kinds, two for one row, and an empty ciphertext are BadInput; nothing is changed by them."""
    made = await one_of_each(store)
    one = made["credential"]
    unknown: Any = "token"
    for values in (
        [other(made["credential"]), other(made["inbox"])],
        [other(one), other(one, b"another")],
        [Resealed(row=one, sealed=Sealed(b"", NEWER))],
        [other(evolve(one, kind=unknown))],
    ):
        await refused(BadInput, store.sealed.replace(values))
    assert list(await store.sealed.replace([])) == []
    assert await counted(store) == {(kind, KEY): 1 for kind in KINDS}


@check("STORE-209", "store", needs=("connections", "sealed"))
async def connection_is_marked_once(store: Store) -> None:
    """Marking is True where it changes the state, with its error, and False where that is the state already; ``ok``
    takes the error away. Nothing else of the connection changes."""
    made = await established(store)
    mark = store.sealed.mark
    assert await mark(made.id, "ok") is False
    assert await store.connections.get(made.id) == made
    answers = await asyncio.gather(*(mark(made.id, "unreadable", error="key-1 is not here") for _ in range(5)))
    assert sorted(answers) == [False] * 4 + [True]
    marked = await store.connections.get(made.id)
    assert (marked.secret_state, marked.last_error) == ("unreadable", "key-1 is not here")
    assert await mark(made.id, "unreadable", error="said again") is False
    assert (await store.connections.get(made.id)).last_error == "key-1 is not here"
    assert await mark(made.id, "ok", error="not for ok") is True
    cleared = await store.connections.get(made.id)
    assert cleared == evolve(made, updated_at=cleared.updated_at)
    await refused(ConnectionNotFound, mark("none", "ok"))
    await refused(ConnectionNotFound, mark("none", "unreadable"))
    unknown: Any = "lost"
    await refused(BadInput, mark(made.id, unknown))


@check("STORE-210", "store", needs=("connections", "sealed"))
async def connections_are_listed_by_secret_state(store: Store) -> None:
    """A list by secret state has the connections of that state, alone, in pages, and with other filters."""
    made: list[Connection] = [await established(store, f"account-{number}") for number in range(6)]
    bad = sorted(one.id for one in made[::2])
    for id_ in bad:
        await store.sealed.mark(id_, "unreadable", error="kit")
    good = sorted(one.id for one in made[1::2])
    for state, wanted in (("unreadable", bad), ("ok", good)):
        filters: Mapping[str, Any] = {"secret_state": state}
        first = await store.connections.list(**filters, limit=2)
        rest = await store.connections.list(**filters, limit=2, after=first.next)
        assert [one.id for one in (*first.items, *rest.items)] == wanted
        assert len((await store.connections.list(**filters, provider_id="kit", scope=SCOPE)).items) == 3
        assert (await store.connections.list(**filters, provider_id="kit2")).items == ()
        assert (await store.connections.list(**filters, status="disconnected")).items == ()
    assert len((await store.connections.list()).items) == 6


@check("STORE-211", "store")
async def small_value_is_exchanged_by_one(store: Store) -> None:
    """A value under a name is exchanged for another only where it is the expected one; of concurrent ones one wins."""
    assert await store.exchange("kit.one", before=b"", after=b"a") is False
    assert await store.remember("kit.one", b"a") == b"a"
    await store.remember("kit.two", b"a")
    assert await store.exchange("kit.one", before=b"b", after=b"c") is False
    assert await store.remember("kit.one", b"?") == b"a"
    tries = [f"n{number}".encode() for number in range(8)]
    answers = await asyncio.gather(*(store.exchange("kit.one", before=b"a", after=text) for text in tries))
    assert sorted(answers) == [False] * 7 + [True]
    assert await store.remember("kit.one", b"?") == tries[answers.index(True)]
    assert await store.exchange("kit.one", before=tries[answers.index(True)], after=b"\x00\xff") is True
    assert await store.remember("kit.one", b"?") == b"\x00\xff"
    assert await store.remember("kit.two", b"?") == b"a"


@check("STORE-212", "store", needs=("connections", "resources"))
async def verification_token_stays_with_its_subscription(store: Store) -> None:
    """A sealed token is read back with its subscription, replaced and removed with it, and kept by a new status."""
    facet = store.resources
    made = await established(store)
    token = Sealed(b"token \x00\xff", KEY)
    saved = await facet.save_subscription(subscription(made.id, verification=token), expected_version=None)
    assert saved.verification == token
    assert await facet.subscription(saved.id) == saved
    assert await facet.subscription_by_channel("kit", "c1") == saved
    assert (await facet.subscriptions()).items == (saved,)
    moved = await facet.set_subscription_status(saved.id, expected=["active"], status="expired")
    assert moved.verification == token
    newer = evolve(moved, verification=Sealed(b"newer", NEWER))
    assert (await facet.save_subscription(newer, expected_version=2)).verification == newer.verification
    bare = await facet.save_subscription(evolve(newer, verification=None), expected_version=3)
    assert bare.verification is None
    assert await facet.subscription(saved.id) == bare
