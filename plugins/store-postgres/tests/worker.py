"""A process of its own for the tests: ``worker.py URL accept|establish|claim NAME``.

It prints a line for each thing that the store has acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from go_services_core.testing.checks.store import change
from go_services_core.testing.checks.store_queues import delivery
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


def acknowledged(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def accept(store: PostgresStore, prefix: str) -> None:
    """One statement without a transaction each."""
    numbers = count()

    async def caller() -> None:
        for number in numbers:
            name = f"{prefix}-{number}"
            await store.queues.accept(delivery(name))
            acknowledged(name)

    await asyncio.gather(*(caller() for _ in range(8)))


async def establish(store: PostgresStore, prefix: str) -> None:
    """A transaction of several statements each."""
    numbers = count()

    async def caller() -> None:
        for number in numbers:
            name = f"{prefix}-{number}"
            await store.connections.establish(change(name))
            acknowledged(name)

    await asyncio.gather(*(caller() for _ in range(8)))


async def claim(store: PostgresStore, owner: str) -> None:
    await asyncio.to_thread(sys.stdin.readline)  # all processes begin together

    async def task(number: int) -> None:
        while claims := await store.queues.claim("inbox", owner=f"{owner}-{number}", lease=60, limit=3):
            for one in claims:
                acknowledged(one.id)
                await store.queues.settle(one, "done")

    await asyncio.gather(*(task(number) for number in range(20)))


async def main(url: str, task: str, name: str) -> None:
    store = PostgresStore(PostgresSettings(url=url, pool_max=8))
    await store.migrate()
    await store.open()
    acknowledged("ready")
    await {"accept": accept, "establish": establish, "claim": claim}[task](store, name)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
