"""Races between processes, for the tests of stores.

A store's test starts a few processes that open the store on one database, print ``ready`` and run one of
:data:`RACES`. It lets them all begin by a line on their standard input, and adds up what they have printed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Sequence
from itertools import cycle

from ..call_specs import RateBudget, Window
from ..clock import SystemClock
from ..errors import BudgetExhausted, ReauthRequired, SyncCursorConflict
from ..model import Scope, Sealed
from ..protocols import Store
from ..runtime.budget_bucket import Bucket
from ..wrapping_keys import Resealed
from .checks.store import KEY, credential, event, new_id
from .checks.store_budgets import REST
from .checks.store_jobs import take_jobs
from .checks.store_leases import dispatch
from .checks.store_resources import cursor
from .checks.store_sealed import NEWER

UNITS = 200
STEPS = 100
TURNS = 5
DONE = "races.done"


def acknowledged(line: str) -> None:
    """Tell the test what the store has said."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def together() -> None:
    """Wait until all processes may begin."""
    await asyncio.to_thread(sys.stdin.readline)


async def jobs(store: Store, owner: str) -> None:
    """Do all jobs in 20 tasks; the id of each one that was claimed."""
    await together()

    async def caller(number: int) -> None:
        while claims := await take_jobs(store, owner=f"{owner}-{number}", lease=60, limit=2):
            for one in claims:
                acknowledged(one.id)
                await store.queues.settle(one, "done")

    await asyncio.gather(*(caller(number) for number in range(20)))


async def budget(store: Store, name: str) -> None:
    """Take from a budget of :data:`UNITS` in 20 tasks; a line for each unit that was granted."""
    await together()

    async def caller() -> None:
        while (await store.budgets.take(REST, 1, limit=UNITS, window=3600)).granted:
            acknowledged(name)

    await asyncio.gather(*(caller() for _ in range(20)))


def _bucket(store: Store, *, windows: Sequence[Window], is_shared: bool) -> Bucket:
    return Bucket(
        provider_id="kit",
        name="races",
        scope=REST.scope,
        is_shared=is_shared,
        budget=RateBudget(windows=windows),
        clock=SystemClock(),
        facet=store.budgets,
        learners=(),
    )


async def _spend(bucket: Bucket, scope: Scope, seconds: float) -> bool:
    """Take the unit of one call, waiting for so long at most."""
    if bucket.take(1.0):
        return True
    try:
        await bucket.wait(1.0, scope=scope, background=False, latest=bucket.clock.monotonic() + seconds)
    except BudgetExhausted:
        return False
    return True


async def spend(store: Store, name: str) -> None:
    """Make calls within two windows, of :data:`UNITS` an hour and more a day, in 10 tasks; a line for each call."""
    bucket = _bucket(store, windows=[Window(UNITS, 3600), Window(2 * UNITS, 86400)], is_shared=False)
    await together()

    async def caller() -> None:
        while await _spend(bucket, REST.scope, 0.0):
            acknowledged(name)

    await asyncio.gather(*(caller() for _ in range(10)))
    await bucket.aclose()


async def last_unit(store: Store, name: str) -> None:
    """One call in each of 10 tasks, of a window with one unit; a line for each that may be made."""
    bucket = _bucket(store, windows=[Window(1, 3600)], is_shared=False)
    await together()
    for granted in await asyncio.gather(*(_spend(bucket, REST.scope, 0.0) for _ in range(10))):
        if granted:
            acknowledged(name)
    await bucket.aclose()


async def share(store: Store, name: str) -> None:
    """Scopes that share a window of 10 units: ``busy`` has 20 tasks until the others are done, who make 15 calls one
    after the other. A line for each call."""
    bucket, scope = _bucket(store, windows=[Window(10, 1.0)], is_shared=True), Scope("org", name)
    await together()
    if name != "busy":
        for _ in range(15):
            assert await _spend(bucket, scope, 60.0)
            acknowledged(name)
        await bucket.aclose()
        await store.remember(DONE, b"done")
        return
    done = False

    async def caller() -> None:
        while await _spend(bucket, scope, 60.0):
            acknowledged(name)

    callers = [asyncio.create_task(caller()) for _ in range(20)]
    while not done:
        await asyncio.sleep(0.1)
        done = await store.exchange(DONE, before=b"done", after=b"done")
    for one in callers:
        one.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await bucket.aclose()


async def cursors(store: Store, connection_id: str) -> None:
    """Count a cursor up to :data:`STEPS` in 5 tasks; each step that was won."""
    await together()

    async def caller() -> None:
        value = 0
        while value < STEPS:
            held = await store.resources.cursor(connection_id, "kit", "mailbox", "inbox")
            value = 0 if held is None else int(held.cursor)
            wanted = cursor(connection_id, str(value + 1))
            try:
                await store.resources.advance_cursor(wanted, expected="" if held is None else held.cursor)
            except SyncCursorConflict:
                continue
            acknowledged(wanted.cursor)

    await asyncio.gather(*(caller() for _ in range(5)))


async def begin(store: Store, owner: str) -> None:
    """Begin a command, a notification and a lease for 1.5 seconds each, and never finish: to be killed."""
    begun = await store.once.begin("command", "key", digest=b"d", owner=owner, seconds=1.5)
    sent = await store.once.begin_dispatch(dispatch("key"), owner=owner, seconds=1.5)
    lease = await store.leases.acquire("key", owner=owner, seconds=1.5)
    acknowledged(f"{begun.state} {sent.state} {lease is not None}")
    await asyncio.Event().wait()


async def refresh(store: Store, owner: str) -> None:
    """Refresh all connections :data:`TURNS` times in 4 tasks, then disconnect every third; the id of each of these."""
    await together()
    ids = [one.id for one in (await store.connections.list(limit=500)).items]

    async def caller(mine: list[str]) -> None:
        for connection_id in mine * TURNS:
            opened = await store.connections.open_refresh(connection_id, owner=owner, lease=30, intent_id=new_id())
            version = opened.credential.version
            new = credential(connection_id, version + 1)
            await store.connections.close_refresh(new, lease=opened.lease, active_version=version, event=event())

    await asyncio.gather(*(caller(ids[number::4]) for number in range(4)))
    for connection_id in ids[::3]:
        await store.connections.disconnect(connection_id, reason="race", event=event())
        acknowledged(connection_id)
    await store.remember(DONE, b"done")


async def rewrap(store: Store, name: str) -> None:
    """Put all credentials under one key and back under another until refreshing is done; the id of each one put.

    What stands before the bar is the payload, which stays; what follows it is the wrapping.
    """
    await together()
    for key in cycle((NEWER, KEY)):
        after = None
        while True:
            page = await store.sealed.page("credential", other_than=key, after=after, limit=20)
            values = [
                Resealed(row=row, sealed=Sealed(row.sealed.ciphertext.split(b"|")[0] + f"|{name}".encode(), key))
                for row in page.items
            ]
            left = await store.sealed.replace(values)
            for value in values:
                if value.row.id not in left:
                    acknowledged(value.row.id)
            if (after := page.next) is None:
                break
        if await store.exchange(DONE, before=b"done", after=b"done"):
            return


async def reconsent(store: Store, name: str) -> None:
    """Require a re-consent of all connections, or renew them meanwhile: the id of each one that was renewed."""
    await together()
    facet = store.connections

    async def caller(connection_id: str) -> None:
        if name != "renew":
            told = event("connection.needs_reconsent", connection_id)
            await facet.require_reconsent(connection_id, reason=name, event=told)
            return
        try:
            while True:
                opened = await facet.open_refresh(connection_id, owner=name, lease=30, intent_id=new_id())
                version = opened.credential.version
                new = credential(connection_id, version + 1)
                await facet.close_refresh(new, lease=opened.lease, active_version=version, event=event())
                acknowledged(connection_id)
        except ReauthRequired:
            return

    ids = [one.id for one in (await facet.list(limit=500)).items]
    await asyncio.gather(*map(caller, ids))


async def all_stopped(store: Store, ids: Collection[str], renewed: Sequence[str]) -> None:
    """What has to be after :func:`reconsent`: each connection is stopped, by one event, and no renewal was lost."""
    assert set(renewed) <= set(ids)
    listed = (await store.queues.list("outbox", name="connection.needs_reconsent", limit=500)).items
    assert len(listed) == len(ids)
    for connection_id in ids:
        stopped, active = await store.connections.load(connection_id)
        assert stopped.status == "needs_reconsent"
        assert active is not None
        assert active.version == 1 + renewed.count(connection_id)


RACES = {
    "jobs": jobs,
    "budget": budget,
    "spend": spend,
    "last_unit": last_unit,
    "share": share,
    "cursors": cursors,
    "begin": begin,
    "refresh": refresh,
    "rewrap": rewrap,
    "reconsent": reconsent,
}
