"""Work on the whole database: a connection of its own, beside the pool and without its time limits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import sql

from go_services_core.admin import Progress, Vacuumed
from go_services_core.protocols import Work
from go_services_store_sql.dialect import POSTGRES, Dialect

from .failures import explain
from .session import Connection, connect, drive, execute, server_of
from .target import Target

T = TypeVar("T")

TABLES = """SELECT c.relname::text, pg_total_relation_size(c.oid), coalesce(n_dead_tup, 0), coalesce(n_live_tup, 0)
FROM pg_class AS c LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
WHERE relkind = 'r' AND starts_with(c.relname::text, 'service_') AND pg_table_is_visible(c.oid) ORDER BY 1"""


class PostgresWorkbench:
    """A :class:`go_services_store_sql.admin.Workbench` on one database."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def dialect(self) -> Dialect:
        """PostgreSQL."""
        return POSTGRES

    async def exists(self) -> bool:
        """A database is never made here; it may be empty."""
        return True

    async def transact(self, work: Work[T], *, keep: bool) -> T:
        """See the protocol."""
        connection = await connect(self._target)
        try:
            (await server_of(connection)).check()
            async with connection.transaction(force_rollback=not keep):
                await connection.execute("SET LOCAL statement_timeout = 0", prepare=False)
                return await drive(work, partial(execute, connection))
        except psycopg.Error as error:
            raise explain(error, self._target) from error
        finally:
            await connection.close()

    async def vacuum(self, *, dry_run: bool, progress: Progress | None) -> Sequence[Vacuumed]:
        """See the protocol. VACUUM makes the space usable again; it seldom gives it back to the disk."""
        connection = await connect(self._target)
        try:
            before = await _sizes(connection)
            if dry_run:
                return [
                    Vacuumed(name=name, before=size, after=size - size * dead // max(1, dead + live))
                    for name, (size, dead, live) in before.items()
                ]
            await connection.execute("SET statement_timeout = 0", prepare=False)
            for name in before:
                await connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(name)), prepare=False)
                if progress is not None:
                    progress(name)
            after = await _sizes(connection)
            return [Vacuumed(name=name, before=size, after=after[name][0]) for name, (size, _, _) in before.items()]
        except psycopg.Error as error:
            raise explain(error, self._target) from error
        finally:
            await connection.close()


async def _sizes(connection: Connection) -> dict[str, tuple[int, int, int]]:
    cursor = await connection.execute(TABLES)
    return {name: (size, dead, live) for name, size, dead, live in await cursor.fetchall()}
