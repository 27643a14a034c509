"""A process of its own for the races of ``go_services_core.testing.races``: ``race_worker.py URL RACE NAME``."""

from __future__ import annotations

import asyncio
import sys

from go_services_core.testing.races import RACES, acknowledged
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


async def main(url: str, race: str, name: str) -> None:
    store = PostgresStore(PostgresSettings(url=url, pool_max=8))
    await store.open()
    acknowledged("ready")
    await RACES[race](store, name)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
