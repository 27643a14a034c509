"""A process of its own for the fault tests: ``fault_worker.py PATH TASK NAME``. The tasks are in ``TASKS``.

It prints a line for each thing that the store has acknowledged, one system call for each line.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from itertools import count
from pathlib import Path

from attrs import evolve

from go_services_core.testing.checks.store import change, credential, event
from go_services_core.testing.checks.store_queues import delivery
from go_services_store_sqlite.store import SqliteStore

ROUNDS = 12
TASKS_EACH = 20
LEASE = 0.5


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def accept_in_rounds(store: SqliteStore, prefix: str) -> None:
    """Deliveries one after the other, and then a round of many at once."""
    for number in range(ROUNDS):
        await store.queues.accept(delivery(f"{prefix}-{number}"))
        say(f"one {number}")
    await asyncio.gather(*(store.queues.accept(delivery(f"{prefix}-many-{number}")) for number in range(64)))
    say("many")


async def establish(store: SqliteStore, prefix: str) -> None:
    """Connect accounts and connect them again, for ever: units of several statements."""
    numbers = count()

    async def caller() -> None:
        for number in numbers:
            made, version = await store.connections.establish(change(f"{prefix}-{number}"))
            say(f"{made.id} {version}")
            again = credential(made.id, 2, granted=("read", "write"))
            wanted = evolve(
                change(f"{prefix}-{number}"), credential=again, event=event("connection.established", made.id)
            )
            made, version = await store.connections.establish(wanted)
            say(f"{made.id} {version}")

    await asyncio.gather(*(caller() for _ in range(8)))


async def claim_and_sometimes_forget(store: SqliteStore, owner: str) -> None:
    """Claim from twenty tasks; what is forgotten comes back to somebody after its lease."""
    chance = random.Random(owner)
    await asyncio.to_thread(sys.stdin.readline)

    async def task(number: int) -> None:
        while True:
            claims = await store.queues.claim("inbox", owner=f"{owner}-{number}", lease=LEASE, limit=3)
            for claim in claims:
                say(f"claimed {claim.id} {claim.fence}")
                if claim.attempt == 1 and chance.random() < 0.2:
                    continue
                await store.queues.settle(claim, "done")
                say(f"settled {claim.id} {claim.fence}")
            if not claims:
                left = await store.queues.list("inbox", status="processing", limit=1)
                if not left.items:
                    return
                await asyncio.sleep(LEASE / 5)

    await asyncio.gather(*(task(number) for number in range(TASKS_EACH)))


TASKS = {"rounds": accept_in_rounds, "establish": establish, "forget": claim_and_sometimes_forget}


async def main(path: str, task: str, name: str) -> None:
    store = SqliteStore(Path(path), busy_timeout=30)
    await store.migrate()
    await store.open()
    say("ready")
    await TASKS[task](store, name)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
