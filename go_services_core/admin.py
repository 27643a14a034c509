"""What a store may offer to operators: verification, sizes, adoption, vacuum, the last step back.

A store has it as its attribute ``admin``. One without it works all the same; the commands that need it say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from attrs import field, frozen

Progress: TypeAlias = Callable[[str], None]
"""Called with one line of text after each step of long work. It may be called from another thread."""


@frozen(kw_only=True)
class TableSize:
    """One table. ``bytes`` includes its indexes; None where the database cannot tell."""

    name: str
    rows: int
    bytes: int | None


@frozen(kw_only=True)
class MigrationText:
    """A migration, and the SQL that it runs."""

    number: int
    name: str
    statements: tuple[str, ...]


@frozen(kw_only=True)
class AdoptedTable:
    """What adoption made of one table: rows kept, and how many of them say something else than before."""

    name: str
    rows: int
    changed: int = 0
    note: str = ""


@frozen(kw_only=True)
class AdoptOptions:
    """What the Go system's tables do not say."""

    auth_kinds: Mapping[str, str] = field(factory=dict)
    """Provider → kind of auth, for connections whose token type does not tell it."""
    handlers: Mapping[str, str] = field(factory=dict)
    """Handler name → event pattern: who gets the events that were not delivered yet."""
    drop_bodies: bool = False
    """Remove the bodies of webhook deliveries, which the Go system kept in clear."""


@frozen(kw_only=True)
class Vacuumed:
    """Bytes of a table, or of the whole file, before and after."""

    name: str
    before: int
    after: int


class StoreAdmin(Protocol):
    """Work on the database as a whole. None of it needs ``Store.open``."""

    async def sizes(self) -> Sequence[TableSize]:
        """The tables by name; empty where there is no database yet."""
        ...

    async def verify(self) -> Sequence[str]:
        """Compare schema and rows with what they must be: a line for each problem, none when all is well.

        Columns, indexes, keys and checks are those that the migrations make. It reads every table.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        ...

    async def plan(self) -> Sequence[MigrationText]:
        """The migrations that ``Store.migrate`` would apply, in order.

        Raises:
            StoreError: the database is the Go system's, or of a newer release.
        """
        ...

    async def down(self, *, force: bool = False, dry_run: bool = False) -> MigrationText:
        """Undo the last migration, in one transaction.

        Raises:
            NotFound: none is applied.
            Conflict: rows would be lost, and ``force`` is not set; nothing changed.
        """
        ...

    async def adopt(
        self, options: AdoptOptions, *, dry_run: bool = False, progress: Progress | None = None
    ) -> Sequence[AdoptedTable]:
        """Turn the Go system's tables into this release's, in one transaction; a dry run does it and undoes it.

        Raises:
            StoreError: it is not a schema of the Go system, or was adopted before; nothing changed.
            Conflict: rows that cannot be kept; the message says which. Nothing changed.
        """
        ...

    async def vacuum(self, *, dry_run: bool = False, progress: Progress | None = None) -> Sequence[Vacuumed]:
        """Give the space of removed rows back; a dry run estimates."""
        ...
