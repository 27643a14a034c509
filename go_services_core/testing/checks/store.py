"""Checks for stores: connections, credentials, grants, attempts and the replay ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

from attrs import evolve

from ...clock import SystemClock, uuid7
from ...errors import (
    AccountMismatch,
    BadInput,
    BindingMismatch,
    ConnectionNotFound,
    LeaseLost,
    ReauthRequired,
    ServicesError,
    StateExpired,
    StateUnknown,
    StateUsed,
    VersionConflict,
)
from ...model import Attempt, Connection, Establish, Event, KeyRef, Scope, Sealed, SealedCredential
from ...protocols import Store
from ..kit import check

E = TypeVar("E", bound=BaseException)

SCOPE = Scope("user", "u1")
KEY = KeyRef("kit", "key-1", 3)


def now() -> datetime:
    """The time, as a store gives it back: aware and in microseconds."""
    return datetime.now(UTC)


def new_id() -> str:
    """An id such as the runtime makes."""
    return uuid7(SystemClock())


def event(name: str = "kit.happened", connection_id: str | None = None, **fields: Any) -> Event:
    """An event that is new."""
    made = Event(
        id=new_id(),
        name=name,
        provider_id="kit",
        scope=SCOPE,
        connection_id=connection_id,
        occurred_at=now(),
        source="kit",
        payload={"items": [1, {"text": "ü"}]},
    )
    return evolve(made, **fields)


def connection(account: str = "account-1", **fields: Any) -> Connection:
    """A connection that is new."""
    moment = now()
    made = Connection(
        id=new_id(),
        provider_id="kit",
        auth_kind="oauth2_auth_code",
        scope=SCOPE,
        external_account_id=account,
        status="active",
        created_at=moment,
        updated_at=moment,
    )
    return evolve(made, **fields)


def credential(connection_id: str, version: int = 1, **fields: Any) -> SealedCredential:
    """A credential version that is new."""
    made = SealedCredential(
        id=new_id(),
        connection_id=connection_id,
        version=version,
        sealed=Sealed(f"ciphertext {connection_id} {version}".encode(), KEY),
        payload_format="kit",
        payload_version=2,
        token_type="bearer",
        requested=("read", "write"),
        granted=("read",),
        expires_at=now() + timedelta(hours=1),
        refresh_expires_at=now() + timedelta(days=30),
        refreshable=True,
        created_at=now(),
    )
    return evolve(made, **fields)


def change(account: str = "account-1", **fields: Any) -> Establish:
    """What establishes a new connection."""
    wanted = connection(account, **fields)
    return Establish(
        connection=wanted, credential=credential(wanted.id), event=event("connection.established", wanted.id)
    )


async def established(store: Store, account: str = "account-1") -> Connection:
    """A connection that is in the store, at version 1."""
    made, _ = await store.connections.establish(change(account))
    return made


def attempt(state: bytes, binding: bytes, **fields: Any) -> Attempt:
    """An open consent."""
    made = Attempt(
        id=new_id(),
        state_hash=sha256(state).digest(),
        binding_hash=sha256(binding).digest(),
        provider_id="kit",
        auth_kind="oauth2_auth_code",
        scope=SCOPE,
        redirect_uri="https://app.example/callback",
        requested=("read", "write"),
        connection_id=None,
        return_to="/done",
        sealed=Sealed(b"verifier", KEY),
        created_at=now(),
        expires_at=now() + timedelta(minutes=10),
    )
    return evolve(made, **fields)


async def refused(kind: type[E], call: Awaitable[Any]) -> E:
    """The error of that kind that ``call`` ends with."""
    try:
        answer = await call
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {answer!r}")


async def outbox_ids(store: Store) -> list[str]:
    """The ids of all events in the outbox of a store without handlers, besides those of grants."""
    return [item.id for item in (await store.queues.list("outbox")).items if not item.name.startswith("grant.")]


@check("STORE-001", "store", needs=("connections", "queues"))
async def unknown_connection_is_not_found(store: Store) -> None:
    """What is asked of a connection that does not exist raises ConnectionNotFound."""
    facet = store.connections
    await refused(ConnectionNotFound, facet.get("none"))
    await refused(ConnectionNotFound, facet.load("none"))
    await refused(ConnectionNotFound, facet.open_refresh("none", owner="a", lease=5, intent_id=new_id()))
    await refused(ConnectionNotFound, facet.disconnect("none", reason="kit", event=event()))
    assert await facet.grants("none") is None
    assert await outbox_ids(store) == []


@check("STORE-002", "store", needs=("connections", "queues"))
async def establish_keeps_every_field(store: Store) -> None:
    """A new connection is version 1, and everything given is read back unchanged, in one commit with its event."""
    wanted = change()
    assert await store.connections.next_version("kit", SCOPE, "account-1") == (None, 1)
    assert await store.connections.establish(wanted) == (wanted.connection, 1)
    assert await store.connections.get(wanted.connection.id) == wanted.connection
    assert await store.connections.load(wanted.connection.id) == (wanted.connection, wanted.credential)
    assert await store.connections.next_version("kit", SCOPE, "account-1") == (wanted.connection.id, 2)
    assert await outbox_ids(store) == [wanted.event.id]


@check("STORE-003", "store", needs=("connections",))
async def establish_of_known_account_keeps_row_and_counts_up(store: Store) -> None:
    """The same account keeps its row and gets the next version; a proposal for another row is a VersionConflict."""
    first = await established(store)
    again = change()
    error = await refused(VersionConflict, store.connections.establish(again))
    assert error.metadata["connection_id"] == first.id
    assert error.metadata["next_version"] == 2
    renewed = evolve(again, credential=credential(first.id, 2))
    made, version = await store.connections.establish(renewed)
    assert (made.id, made.created_at, made.status, version) == (first.id, first.created_at, "active", 2)
    assert (await store.connections.load(first.id))[1] == renewed.credential
    assert len((await store.connections.list()).items) == 1


@check("STORE-004", "store", needs=("connections", "queues"))
async def establish_refuses_another_account(store: Store) -> None:
    """A re-consent with another account than the connection's raises AccountMismatch and changes nothing."""
    first = await established(store, "account-1")
    second = await established(store, "account-2")
    events = await outbox_ids(store)
    for account, version in (("account-2", 2), ("account-3", 1)):
        other = evolve(change(account, id=first.id), expected_connection_id=first.id)
        other = evolve(other, credential=credential(first.id, version))
        await refused(AccountMismatch, store.connections.establish(other))
    for known in (first, second):
        kept, active = await store.connections.load(known.id)
        assert kept == known
        assert active is not None
        assert active.version == 1
    assert await outbox_ids(store) == events
    right = evolve(change(), credential=credential(first.id, 2), expected_connection_id=first.id)
    assert (await store.connections.establish(right))[1] == 2


@check("STORE-005", "store", needs=("connections",))
async def concurrent_establishments_make_one_connection(store: Store) -> None:
    """Of concurrent establishments of one account one wins; the others get a VersionConflict and can follow it."""
    wanted = [change() for _ in range(8)]
    answers = await asyncio.gather(*map(store.connections.establish, wanted), return_exceptions=True)
    losers = [answer for answer in answers if isinstance(answer, VersionConflict)]
    assert len(losers) == 7
    assert len((await store.connections.list()).items) == 1
    again = evolve(
        change(), credential=credential(losers[0].metadata["connection_id"], losers[0].metadata["next_version"])
    )
    assert (await store.connections.establish(again))[1] == 2


@check("STORE-006", "store", needs=("connections",))
async def grants_are_versioned_when_they_change(store: Store) -> None:
    """A grant snapshot is written when grants change, and only then; unknown grants are not the same as none."""
    made = await established(store)
    for version, (granted, expected) in enumerate(
        [(("read",), 1), (("read", "write"), 2), (None, 3), (None, 3), ((), 4)], start=2
    ):
        new = credential(made.id, version, granted=granted)
        await store.connections.establish(evolve(change(), credential=new))
        snapshot = await store.connections.grants(made.id)
        assert snapshot is not None
        assert (snapshot.version, snapshot.granted, snapshot.requested) == (expected, granted, ("read", "write"))
        active = (await store.connections.load(made.id))[1]
        assert active is not None
        assert active.granted == granted


@check("STORE-007", "store", needs=("connections",))
async def connections_are_listed_by_key(store: Store) -> None:
    """Lists come in pages by id, filtered by provider, scope and status, and no entry is lost or doubled."""
    ids = [(await established(store, f"account-{number}")).id for number in range(5)]
    other, _ = await store.connections.establish(change("account-9", scope=Scope("org", "o1"), provider_id="kit2"))
    await store.connections.disconnect(ids[0], reason="kit", event=event())
    seen: list[str] = []
    after = None
    while True:
        page = await store.connections.list(after=after, limit=2, scope=SCOPE)
        seen += [item.id for item in page.items]
        if (after := page.next) is None:
            break
    assert seen == sorted(ids)
    assert [item.id for item in (await store.connections.list(provider_id="kit2")).items] == [other.id]
    assert [item.id for item in (await store.connections.list(status="disconnected")).items] == [ids[0]]
    assert (await store.connections.list(provider_id="kit2", status="disconnected")).items == ()
    first = await store.connections.get(ids[0])
    assert (await store.connections.list(until=first.created_at)).items == ()
    since = (await store.connections.list(since=first.created_at, until=first.created_at + timedelta(days=1))).items
    assert ids[0] in [item.id for item in since]
    assert (await store.connections.list(since=first.created_at + timedelta(days=1))).items == ()
    await refused(BadInput, store.connections.list(limit=0))


@check("STORE-008", "store", needs=("connections",))
async def connections_are_counted_by_provider_and_status(store: Store) -> None:
    """Connections are counted by provider and status; what nobody is in is not named."""
    assert await store.connections.counts() == {}
    ids = [(await established(store, f"account-{number}")).id for number in range(3)]
    await store.connections.establish(change("account-9", provider_id="kit2"))
    await store.connections.disconnect(ids[0], reason="kit", event=event())
    assert await store.connections.counts() == {"kit": {"active": 2, "disconnected": 1}, "kit2": {"active": 1}}


@check("STORE-010", "store", needs=("connections",))
async def attempt_is_consumed_once(store: Store) -> None:
    """An attempt is read back unchanged by its state and binding, and of concurrent callbacks one gets it."""
    wanted = attempt(b"state", b"binding")
    await store.connections.begin_attempt(wanted)
    calls = [store.connections.consume_attempt(wanted.state_hash, wanted.binding_hash, now=now()) for _ in range(4)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, StateUsed)] == [wanted]
    unknown = sha256(b"other").digest()
    await refused(StateUnknown, store.connections.consume_attempt(unknown, wanted.binding_hash, now=now()))


@check("STORE-011", "store", needs=("connections",))
async def attempt_expires(store: Store) -> None:
    """A callback after the attempt's time raises StateExpired."""
    wanted = attempt(b"state", b"binding")
    await store.connections.begin_attempt(wanted)
    call = store.connections.consume_attempt(wanted.state_hash, wanted.binding_hash, now=wanted.expires_at)
    await refused(StateExpired, call)


@check("STORE-012", "store", needs=("connections",))
async def wrong_browser_counts_and_the_fifth_ends_the_attempt(store: Store) -> None:
    """A wrong binding does not consume; after the fifth even the right one raises StateUsed."""
    consume = store.connections.consume_attempt
    wrong = sha256(b"wrong").digest()
    for state, strangers in ((b"four", 4), (b"five", 5)):
        wanted = attempt(state, b"binding")
        await store.connections.begin_attempt(wanted)
        for _ in range(strangers):
            await refused(BindingMismatch, consume(wanted.state_hash, wrong, now=now()))
        if strangers == 4:
            assert await consume(wanted.state_hash, wanted.binding_hash, now=now()) == wanted
        else:
            await refused(StateUsed, consume(wanted.state_hash, wrong, now=now()))
            await refused(StateUsed, consume(wanted.state_hash, wanted.binding_hash, now=now()))


@check("STORE-013", "store", needs=("connections",))
async def attempt_is_read_without_being_consumed(store: Store) -> None:
    """An open attempt can be read any number of times; what refuses a callback refuses reading, and counts alike."""
    facet, wrong = store.connections, sha256(b"wrong").digest()
    wanted = attempt(b"state", b"binding")
    await facet.begin_attempt(wanted)
    for _ in range(2):
        assert await facet.read_attempt(wanted.state_hash, wanted.binding_hash, now=now()) == wanted
    await refused(StateUnknown, facet.read_attempt(wrong, wanted.binding_hash, now=now()))
    await refused(StateExpired, facet.read_attempt(wanted.state_hash, wanted.binding_hash, now=wanted.expires_at))
    assert await facet.consume_attempt(wanted.state_hash, wanted.binding_hash, now=now()) == wanted
    await refused(StateUsed, facet.read_attempt(wanted.state_hash, wanted.binding_hash, now=now()))
    ended = attempt(b"other", b"binding")
    await facet.begin_attempt(ended)
    for look in (facet.read_attempt, facet.consume_attempt, facet.read_attempt, facet.read_attempt, facet.read_attempt):
        await refused(BindingMismatch, look(ended.state_hash, wrong, now=now()))
    await refused(StateUsed, facet.read_attempt(ended.state_hash, ended.binding_hash, now=now()))


@check("STORE-014", "store", needs=("connections",))
async def open_attempt_is_revised_by_one(store: Store) -> None:
    """Of several who revise what they read of an open attempt one succeeds; a consumed one is not revised."""
    facet = store.connections
    wanted = attempt(b"state", b"binding")
    await facet.begin_attempt(wanted)
    revised = [Sealed(f"revised {number}".encode(), KeyRef("kit", "key-2", number)) for number in range(4)]
    answers = await asyncio.gather(*(facet.revise_attempt(wanted, sealed) for sealed in revised))
    assert sorted(answers) == [False, False, False, True]
    expected = evolve(wanted, sealed=revised[answers.index(True)])
    assert await facet.read_attempt(wanted.state_hash, wanted.binding_hash, now=now()) == expected
    assert await facet.consume_attempt(wanted.state_hash, wanted.binding_hash, now=now()) == expected
    assert not await facet.revise_attempt(expected, wanted.sealed)
    assert not await facet.revise_attempt(attempt(b"none", b"binding"), wanted.sealed)


@check("STORE-030", "store", needs=("connections", "queues"))
async def disconnect_ends_everything_once(store: Store) -> None:
    """Disconnecting removes the credential, breaks a running refresh and announces it; a second time does nothing."""
    made = await established(store)
    facet = store.connections
    lease = (await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
    ended = await facet.disconnect(made.id, reason="asked", event=event("connection.disconnected", made.id))
    assert ended.status == "disconnected"
    assert await facet.load(made.id) == (ended, None)
    events = await outbox_ids(store)
    assert len(events) == 2
    assert await facet.disconnect(made.id, reason="again", event=event()) == ended
    new = credential(made.id, 2)
    await refused(LeaseLost, facet.close_refresh(new, lease=lease, active_version=1, event=event()))
    await refused(ReauthRequired, facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id()))
    assert await outbox_ids(store) == events
    assert await facet.next_version("kit", SCOPE, "account-1") == (made.id, 2)
    again, version = await facet.establish(evolve(change(), credential=new))
    assert (again.id, again.status, version) == (made.id, "active", 2)


@check("STORE-031", "store", needs=("connections",))
async def empty_ciphertext_is_refused(store: Store) -> None:
    """A credential without a ciphertext is refused with a typed error and changes nothing."""
    wanted = change()
    empty = evolve(wanted, credential=evolve(wanted.credential, sealed=Sealed(b"", KEY)))
    await refused(ServicesError, store.connections.establish(empty))
    assert (await store.connections.list()).items == ()


@check("STORE-040", "store", needs=("once",))
async def key_is_claimed_once_within_its_time(store: Store) -> None:
    """Of concurrent claims of a key one is True; after its time the key can be claimed again."""
    answers = await asyncio.gather(*(store.once.claim("key", ttl=30) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]
    assert await store.once.claim("short", ttl=0.05)
    await asyncio.sleep(0.1)
    assert await store.once.claim("short", ttl=30)
    assert not await store.once.claim("short", ttl=30)


@check("STORE-041", "store")
async def first_value_is_remembered(store: Store) -> None:
    """Of several values for one name the first is kept, and all callers get that one."""
    answers = await asyncio.gather(*(store.remember("name", b"%d" % number) for number in range(8)))
    assert len(set(answers)) == 1
    assert await store.remember("name", b"late") == answers[0]
    assert await store.remember("other", b"\x00") == b"\x00"
    assert store.id
