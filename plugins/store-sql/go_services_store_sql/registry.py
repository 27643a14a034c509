"""The migrations, offered to an application that runs migrations with a tool of its own.

Nothing here runs one. What it offers also writes the ledger, so that the store opens afterwards as if
``go-services store migrate`` had run::

    for offered in filesystems():
        offered.write(Path("migrations") / offered.dialect)

or, for a tool that takes sources one by one, :func:`register`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from attrs import frozen

from go_services_core.errors import BadInput, NotFound, StoreError

from . import migrations
from .meta import STORE_ID
from .migrations import Migration
from .undo import read
from .verify import OAUTH_TABLES, dialect_of, verify_oauth_schema, verify_schema

__all__ = [
    "OAUTH_TABLES",
    "SOURCE",
    "Filesystem",
    "Registration",
    "Script",
    "SourceDescriptor",
    "filesystems",
    "register",
    "source_descriptor",
    "verify_oauth_schema",
    "verify_schema",
]

SOURCE: Final = "go-services"
"""Name, key and label of this source. Once deployed it does not change."""
DIALECTS: Final = ("postgres", "sqlite")
"""In the order in which they are offered."""

_NOW: Final = {
    "postgres": "statement_timestamp()",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'",
}
_NEW_ID: Final = {
    "postgres": "convert_to(gen_random_uuid()::text, 'UTF8')",
    "sqlite": "CAST(lower(hex(randomblob(16))) AS BLOB)",
}


@frozen
class Script:
    """One migration as a tool of the application runs it: in one transaction, once."""

    number: int
    name: str
    up: tuple[str, ...]
    """Statements; the last ones write the ledger."""
    down: tuple[str, ...]
    """Statements that take it back; they destroy the rows that have no place without it."""


@frozen
class Filesystem:
    """The migrations of one dialect.

    Args:
        dialect: postgres or sqlite.
        path: the folder with the files ``NNNN_name.DIALECT.sql``. They lack the line of the ledger, which
            :meth:`scripts` and :meth:`write` add.
    """

    dialect: str
    path: Traversable

    def scripts(self) -> tuple[Script, ...]:
        """The migrations in order."""
        back = {migration.number: migration.statements for migration in read(self.path, f"{self.dialect}.down.sql")}
        return tuple(
            _script(migration, back.get(migration.number, ()), self.dialect)
            for migration in read(self.path, f"{self.dialect}.sql")
        )

    def write(self, folder: Path) -> list[Path]:
        """Write ``NNNN_name.up.sql`` and ``NNNN_name.down.sql`` into ``folder``, which is made; gives the files."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for script in self.scripts():
            for kind, statements in (("up", script.up), ("down", script.down)):
                file = folder / f"{script.number:04d}_{script.name}.{kind}.sql"
                file.write_text(";\n\n".join(statements) + ";\n", encoding="utf-8")
                written.append(file)
        return written


@frozen(kw_only=True)
class SourceDescriptor:
    """What an application needs to compose this source with others. It owns the order of all sources."""

    name: str
    key: str
    label: str
    dialect: str
    root: Traversable
    validation_targets: tuple[str, ...]


@frozen(kw_only=True)
class Registration:
    """What was registered."""

    source_label: str
    targets: tuple[str, ...]
    filesystems: tuple[Filesystem, ...]


def filesystems(root: Traversable | None = None) -> tuple[Filesystem, ...]:
    """The migrations of each dialect, PostgreSQL before SQLite.

    Args:
        root: a folder with such files, or a package's folder that has them in ``migrations``; this release's own by
            default.

    Raises:
        NotFound: a dialect has no file; names dialect and path.
    """
    path = files(migrations.__name__) if root is None else root
    if root is not None and (inner := root / "migrations").is_dir():
        path = inner
    for dialect in DIALECTS:
        if not read(path, f"{dialect}.sql"):
            raise NotFound(f"There is no migration for {dialect} in {path}.", field="root")
    return tuple(Filesystem(dialect, path) for dialect in DIALECTS)


def register(
    callback: Callable[[str, str, Filesystem], None],
    *,
    source_label: str = SOURCE,
    targets: Collection[str] = DIALECTS,
    offered: Sequence[Filesystem] | None = None,
) -> Registration:
    """Offer the migrations: ``callback(dialect, source_label, filesystem)``, PostgreSQL before SQLite.

    Args:
        callback: hands them to the application's own tool.
        source_label: how that tool names this source.
        targets: the dialects that the application uses; aliases such as pg and sqlite3 are known.
        offered: instead of this release's own file systems.

    Raises:
        BadInput: no callback, a blank label, no target, an unsupported dialect, no file system, or none for a target.
        StoreError: the callback failed; names dialect and path, and has the failure as its cause.
    """
    if not callable(callback):
        raise BadInput("register needs a callback.", field="callback")
    label = source_label.strip()
    if not label:
        raise BadInput("The source label may not be blank.", hint=f"The default is {SOURCE!r}.", field="source_label")
    wanted = {dialect_of(target).name for target in targets}
    if not wanted:
        raise BadInput("register needs at least one target.", hint="Name postgres, sqlite or both.", field="targets")
    sources = filesystems() if offered is None else tuple(offered)
    if not sources:
        raise BadInput("register needs at least one file system.", field="offered")
    chosen = {source.dialect: source for source in sources}
    for target in DIALECTS:
        if target in wanted and target not in chosen:
            raise BadInput(f"No file system is registered for the target {target}.", field="targets")
    order = tuple(dialect for dialect in DIALECTS if dialect in wanted)
    for dialect in order:
        try:
            callback(dialect, label, chosen[dialect])
        except Exception as error:
            raise StoreError(
                f"Registering the {dialect} migrations in {chosen[dialect].path} failed: {error}"
            ) from error
    return Registration(source_label=label, targets=order, filesystems=tuple(chosen[dialect] for dialect in order))


def source_descriptor(dialect: str) -> SourceDescriptor:
    """The descriptor for a dialect or an alias of it.

    Raises:
        BadInput: the dialect is not supported.
    """
    name = dialect_of(dialect).name
    return SourceDescriptor(
        name=SOURCE,
        key=SOURCE,
        label=SOURCE,
        dialect=name,
        root=files(migrations.__name__),
        validation_targets=(name,),
    )


def _script(migration: Migration, back: Sequence[str], dialect: str) -> Script:
    now = _NOW[dialect]
    record = f"""INSERT INTO service_migrations (number, name, checksum, applied_at)
VALUES ({migration.number}, '{migration.name}', '{migration.checksum}', {now})"""  # noqa: S608
    identify = f"""INSERT INTO service_meta (name, value, created_at) VALUES ('{STORE_ID}', {_NEW_ID[dialect]}, {now})
ON CONFLICT (name) DO NOTHING"""  # noqa: S608
    forget = f"DELETE FROM service_migrations WHERE number = {migration.number}"  # noqa: S608
    return Script(migration.number, migration.name, (*migration.statements, record, identify), (forget, *back))
