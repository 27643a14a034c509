"""Races between processes, for the tests of stores.

A store's test starts a few processes that open the store on one database, print ``ready`` and run one of
:data:`RACES`. It lets them all begin by a line on their standard input, and adds up what they have printed.
"""

from __future__ import annotations

import asyncio
import sys

from ..errors import SyncCursorConflict
from ..protocols import Store
from .checks.store_budgets import REST
from .checks.store_jobs import take_jobs
from .checks.store_leases import dispatch
from .checks.store_resources import cursor

UNITS = 200
STEPS = 100


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


RACES = {"jobs": jobs, "budget": budget, "cursors": cursors, "begin": begin}
