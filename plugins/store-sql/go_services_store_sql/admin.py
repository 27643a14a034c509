"""What operators do with a SQL store; see :class:`go_services_core.admin.StoreAdmin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from go_services_core.admin import AdoptedTable, AdoptOptions, MigrationText, Progress, TableSize, Vacuumed
from go_services_core.clock import Clock, uuid7
from go_services_core.errors import StoreError
from go_services_core.protocols import Work

from . import adopt, migrations, undo, verify
from .dialect import Dialect
from .statement import Row, Statement, Steps

T = TypeVar("T")


class Workbench(Protocol):
    """A connection beside the store's own, for work on the database as a whole."""

    @property
    def dialect(self) -> Dialect: ...

    async def exists(self) -> bool:
        """Whether there is a database."""
        ...

    async def transact(self, work: Work[T], *, keep: bool) -> T:
        """Run ``work`` in one transaction without a time limit; undo it where it fails or ``keep`` is false.

        While SQLite runs it, foreign keys are not enforced and renaming a table changes no other.

        Raises:
            StoreUnavailable: there is no database, or it does not answer.
        """
        ...

    async def vacuum(self, *, dry_run: bool, progress: Progress | None) -> Sequence[Vacuumed]:
        """See :meth:`go_services_core.admin.StoreAdmin.vacuum`."""
        ...


HAS_SIZES: Statement[Row] = Statement("SELECT count(*) FROM pragma_module_list WHERE name = 'dbstat'")
SIZES: Statement[Row] = Statement(
    {
        "sqlite": """SELECT m.tbl_name, sum(s.pgsize) FROM dbstat AS s JOIN sqlite_master AS m ON m.name = s.name
        WHERE m.tbl_name GLOB 'service_*' GROUP BY m.tbl_name""",
        "postgres": """SELECT relname::text, pg_total_relation_size(oid) FROM pg_class
        WHERE relkind IN ('r', 'p') AND starts_with(relname::text, 'service_') AND pg_table_is_visible(oid)""",
    }
)


class SqlAdmin:
    """A :class:`go_services_core.admin.StoreAdmin` for SQL stores.

    Args:
        bench: runs the work.
        clock: gives the times of migrations.
    """

    def __init__(self, bench: Workbench, *, clock: Clock) -> None:
        self._bench = bench
        self._clock = clock

    async def sizes(self) -> Sequence[TableSize]:
        """See :class:`go_services_core.admin.StoreAdmin`."""
        if not await self._bench.exists():
            return []
        return await self._look(partial(_sizes, self._bench.dialect))

    async def verify(self) -> Sequence[str]:
        """See :class:`go_services_core.admin.StoreAdmin`."""
        return await self._look(partial(verify.verify, self._bench.dialect))

    async def plan(self) -> Sequence[MigrationText]:
        """See :class:`go_services_core.admin.StoreAdmin`."""
        left: Sequence[migrations.Migration] = migrations.migrations(self._bench.dialect.name)
        if await self._bench.exists():
            left = await self._look(partial(_pending, self._bench.dialect))
        return [
            MigrationText(number=migration.number, name=migration.name, statements=tuple(migration.statements))
            for migration in left
        ]

    async def down(self, *, force: bool = False, dry_run: bool = False) -> MigrationText:
        """See :class:`go_services_core.admin.StoreAdmin`."""
        work = partial(undo.down, self._bench.dialect, force=force)
        return await self._bench.transact(work, keep=not dry_run)

    async def adopt(
        self, options: AdoptOptions, *, dry_run: bool = False, progress: Progress | None = None
    ) -> Sequence[AdoptedTable]:
        """See :class:`go_services_core.admin.StoreAdmin`."""
        work = partial(
            adopt.adopt,
            self._bench.dialect,
            options,
            store_id=uuid7(self._clock),
            now=self._clock.now(),
            progress=progress,
        )
        return await self._bench.transact(work, keep=not dry_run)

    async def vacuum(self, *, dry_run: bool = False, progress: Progress | None = None) -> Sequence[Vacuumed]:
        """See :class:`go_services_core.admin.StoreAdmin`."""
        return await self._bench.vacuum(dry_run=dry_run, progress=progress)

    async def _look(self, work: Work[T]) -> T:
        return await self._bench.transact(work, keep=False)


def _pending(dialect: Dialect) -> Steps[Sequence[migrations.Migration]]:
    if (yield from adopt.is_go_schema(dialect)):
        raise StoreError(
            "The database has tables of the Go system, which migrations do not touch.",
            hint="Run `go-services store adopt --dry-run`.",
        )
    return migrations.pending((yield from migrations.ledger()), dialect)


def _sizes(dialect: Dialect) -> Steps[list[TableSize]]:
    rows = yield from undo.sizes()
    known: Mapping[str, int] = {}
    told = dialect.name == "postgres" or bool((yield from HAS_SIZES.first())[0])  # type: ignore[index]
    if told:
        known = {table: int(size) for table, size in (yield from SIZES())}
    return [TableSize(name=table, rows=count, bytes=known.get(table)) for table, count in rows.items()]
