"""A process of its own for the tests: ``worker.py PATH accept PREFIX`` or ``worker.py PATH claim OWNER``.

It prints a line for each thing that the store has acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from go_services_core.testing.checks.store_queues import delivery
from go_services_store_sqlite.store import SqliteStore


def acknowledged(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def accept(store: SqliteStore, prefix: str) -> None:
    numbers = count()

    async def caller() -> None:
        for number in numbers:
            name = f"{prefix}-{number}"
            await store.queues.accept(delivery(name))
            acknowledged(name)

    await asyncio.gather(*(caller() for _ in range(8)))


async def claim(store: SqliteStore, owner: str) -> None:
    await asyncio.to_thread(sys.stdin.readline)  # both processes begin together
    while claims := await store.queues.claim("inbox", owner=owner, lease=60, limit=3):
        for one in claims:
            acknowledged(one.id)
            await store.queues.settle(one, "done")


async def main(path: str, task: str, name: str) -> None:
    store = SqliteStore(Path(path), busy_timeout=30)
    await store.migrate()
    await store.open()
    acknowledged("ready")
    await (accept if task == "accept" else claim)(store, name)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
