"""A process of its own for the tests: ``worker.py PATH TASK NAME``. The tasks are in ``TASKS``.

It prints a line for each thing that the store has acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from go_services_core.testing.checks.store_queues import delivery
from go_services_core.testing.races import RACES, acknowledged, together
from go_services_store_sqlite.store import SqliteStore


async def accept(store: SqliteStore, prefix: str) -> None:
    numbers = count()

    async def caller() -> None:
        for number in numbers:
            name = f"{prefix}-{number}"
            await store.queues.accept(delivery(name))
            acknowledged(name)

    await asyncio.gather(*(caller() for _ in range(8)))


async def claim(store: SqliteStore, owner: str) -> None:
    await together()
    while claims := await store.queues.claim("inbox", owner=owner, lease=60, limit=3):
        for one in claims:
            acknowledged(one.id)
            await store.queues.settle(one, "done")


TASKS = {"accept": accept, "claim": claim, **RACES}


async def main(path: str, task: str, name: str) -> None:
    store = SqliteStore(Path(path), busy_timeout=30)
    await store.migrate()
    await store.open()
    acknowledged("ready")
    await TASKS[task](store, name)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
