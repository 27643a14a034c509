"""``go-services store``: the database's schema, its rows and its size."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from ..counted import counted
from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run, seconds
from .output import clean, fields, show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..admin import Progress, StoreAdmin, TableSize
    from ..config import Config
    from ..model import StoreStatus
    from ..plugins import PluginManager
    from ..protocols import Store

T = TypeVar("T")


@click.group(cls=Group)
def store() -> None:
    """Migrate, check, adopt and clean the database, and show its state.

    \b
    go-services store migrate --plan
    go-services store status --json
    """


@store.command()
@click.option("--plan", is_flag=True, help="Print the SQL that would be run; change nothing.")
@dry_run
@as_json
@pass_session
def migrate(session: Session, plan: bool, dry_run: bool, as_json: bool) -> None:
    """Apply the pending migrations; without any, change nothing."""
    if plan:
        _show_plan(session, as_json)
        return

    async def apply(store: Store) -> list[tuple[int, str]]:
        admin = getattr(store, "admin", None)
        if admin is not None:
            await admin.plan()  # refuses a database that is not ours to migrate
        return [(step.number, step.name) for step in await store.migrate(dry_run=dry_run)]

    steps = _with_store(session, apply)
    if as_json:
        show_json({"dry_run": dry_run, "migrations": [{"number": number, "name": name} for number, name in steps]})
        return
    for number, name in steps:
        click.echo(f"{'Would apply' if dry_run else 'Applied'} {number} {name}")
    if not steps:
        click.echo("The database is up to date.")


def _show_plan(session: Session, as_json: bool) -> None:
    planned = _with_admin(session, lambda admin: admin.plan())
    if as_json:
        steps = [{"number": step.number, "name": step.name, "statements": list(step.statements)} for step in planned]
        show_json({"dry_run": True, "migrations": steps})
        return
    for step in planned:
        click.echo(f"-- {step.number:04d} {step.name}")
        for statement in step.statements:
            click.echo(f"{statement};")
    if not planned:
        click.echo("-- The database is up to date.")


@store.command()
@as_json
@pass_session
def status(session: Session, as_json: bool) -> int:
    """Show schema version, rows and bytes per table and problems; exit with 1 when something is pending or wrong."""

    async def look(store: Store) -> tuple[StoreStatus, Sequence[TableSize], str]:
        from ..errors import StoreError

        found = await store.status()
        admin: StoreAdmin | None = getattr(store, "admin", None)
        if admin is None or not found.tables:
            return found, (), ""
        try:
            await admin.plan()
        except StoreError as error:
            return found, await admin.sizes(), str(error)
        return found, await admin.sizes(), ""

    found, sizes, refusal = _with_store(session, look)
    problems = list(found.problems)
    if refusal and refusal not in problems:
        problems.append(refusal)
    known = {size.name: size.bytes for size in sizes if size.bytes is not None}
    if as_json:
        show_json(
            {
                "url": found.url,
                "dialect": found.dialect,
                "server": found.server,
                "schema_version": found.schema_version,
                "latest_version": found.latest_version,
                "pending": [{"number": step.number, "name": step.name} for step in found.pending],
                "tables": dict(found.tables),
                "bytes": known,
                "problems": problems,
            }
        )
        return FAILED if found.pending or problems else OK
    fields(
        [
            ("url", found.url),
            ("server", f"{found.dialect} {found.server}"),
            ("schema", f"{found.schema_version} of {found.latest_version}"),
            *((f"  {name}", _row_line(rows, known.get(name))) for name, rows in sorted(found.tables.items())),
        ]
    )
    for problem in problems:
        click.echo(f"problem: {clean(problem)}")
    if found.pending and not refusal:
        verb = "is" if len(found.pending) == 1 else "are"
        click.echo(f"{counted(len(found.pending), 'migration')} {verb} pending: run `go-services store migrate`.")
    return FAILED if found.pending or problems else OK


@store.command()
@as_json
@pass_session
def verify(session: Session, as_json: bool) -> int:
    """Compare schema and rows with what they must be; exit with 1 when something is wrong.

    Columns, indexes, keys and checks must be those that the migrations make, and the rows must make sense together. It
    reads every table.
    """
    problems = _with_admin(session, lambda admin: admin.verify())
    if as_json:
        show_json({"problems": list(problems)})
    else:
        for problem in problems:
            click.echo(f"problem: {clean(problem)}")
        if not problems:
            click.echo("The database is as it must be.")
    return FAILED if problems else OK


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise click.BadParameter(f"{value!r} does not read {param.make_metavar(ctx)}.", ctx, param)
        pairs[name] = rest
    return pairs


@store.command()
@dry_run
@click.option("--apply", "apply_it", is_flag=True, help="Adopt the database. Make a backup first.")
@click.option(
    "--auth",
    "auth_kinds",
    multiple=True,
    metavar="PROVIDER=KIND",
    callback=_pairs,
    help="Auth kind of a provider's connections whose tokens do not tell it; oauth2_auth_code by default.",
)
@click.option(
    "--handler",
    "handlers",
    multiple=True,
    metavar="NAME=PATTERN",
    callback=_pairs,
    help="Handler that gets the events which were not delivered yet.",
)
@click.option("--drop-bodies", is_flag=True, help="Remove the bodies of webhook deliveries, which are in clear.")
@as_json
@pass_session
def adopt(
    session: Session,
    dry_run: bool,
    apply_it: bool,
    auth_kinds: dict[str, str],
    handlers: dict[str, str],
    drop_bodies: bool,
    as_json: bool,
) -> None:
    """Turn the database of the Go system (go-services 0.7) into this release's, in one transaction.

    Stop the Go system first. A dry run does everything and undoes it, so that it takes as long.
    """
    from ..admin import AdoptOptions

    if dry_run == apply_it:
        raise click.UsageError("Say either --dry-run or --apply.")
    options = AdoptOptions(auth_kinds=auth_kinds, handlers=handlers, drop_bodies=drop_bodies)
    report = _with_admin(session, lambda admin: admin.adopt(options, dry_run=dry_run, progress=_progress(as_json)))
    if as_json:
        lines = [{"name": line.name, "rows": line.rows, "changed": line.changed, "note": line.note} for line in report]
        show_json({"dry_run": dry_run, "tables": lines})
        return
    table(
        ("table", "rows", "changed"),
        ((line.name, line.rows, line.changed) for line in report),
        empty="There is no table.",
    )
    for line in report:
        if line.note:
            click.echo(f"{line.name}: {clean(line.note)}")
    click.echo("It can be adopted; nothing was changed." if dry_run else "The database is adopted.")


@store.command()
@click.option(
    "--older-than",
    required=True,
    metavar="AGE",
    callback=seconds,
    help="Keep what is newer: 90d, 12h, 30m, 0s. Required.",
)
@click.option("--table", "tables", multiple=True, metavar="TABLE", help="Only this table. May be repeated.")
@click.option("--batch", default=500, metavar="N", help="Rows in one commit. Default: 500.")
@dry_run
@as_json
@pass_session
def prune(
    session: Session, older_than: float, tables: tuple[str, ...], batch: int, dry_run: bool, as_json: bool
) -> None:
    """Remove history: what has ended and is older than AGE. What waits, runs or is dead stays.

    Keyed calls are kept for a day in any case, as long as providers remember keys, and deliveries for a week, in which
    providers may repeat them.
    """
    from ..resources import HISTORY, KEPT_AT_LEAST, check_policy

    policy = {name: max(older_than, KEPT_AT_LEAST.get(name, 0.0)) for name in tables or HISTORY}
    check_policy(policy, batch)
    progress = _progress(as_json)

    async def remove(store: Store) -> dict[str, int]:
        await store.open()
        removed: dict[str, int] = {}
        for name, keep in policy.items():
            removed.update(await store.prune({name: keep}, batch=batch, dry_run=dry_run))
            if progress is not None:
                progress(f"{name}: {counted(removed[name], 'row')}")
        return removed

    removed = _with_store(session, remove)
    if as_json:
        show_json({"dry_run": dry_run, "removed": removed})
        return
    click.echo(f"{'Would remove' if dry_run else 'Removed'} {counted(sum(removed.values()), 'row')}.")


@store.command()
@dry_run
@as_json
@pass_session
def vacuum(session: Session, dry_run: bool, as_json: bool) -> None:
    """Give the space of removed rows back. On SQLite writers wait, and as much disk must be free as the file has."""
    done = _with_admin(session, lambda admin: admin.vacuum(dry_run=dry_run, progress=_progress(as_json)))
    if as_json:
        sizes = [{"name": line.name, "before": line.before, "after": line.after} for line in done]
        show_json({"dry_run": dry_run, "sizes": sizes})
        return
    table(
        ("name", "before", "after"),
        ((line.name, _bytes(line.before), _bytes(line.after)) for line in done),
        empty="There is nothing to vacuum.",
    )


@store.command()
@click.option("--force", is_flag=True, help="Also where rows are lost.")
@dry_run
@as_json
@pass_session
def down(session: Session, force: bool, dry_run: bool, as_json: bool) -> None:
    """Undo the last migration; refuse where rows would be lost."""
    undone = _with_admin(session, lambda admin: admin.down(force=force, dry_run=dry_run))
    if as_json:
        show_json({"dry_run": dry_run, "number": undone.number, "name": undone.name})
        return
    click.echo(f"{'Would undo' if dry_run else 'Undid'} {undone.number} {undone.name}")


def configured_store(config: Config, manager: PluginManager | None = None) -> Store:
    """The store that the configuration names, not opened: migrating and looking need no schema."""
    import logging

    from ..clock import SystemClock
    from ..config import resolver
    from ..plugins import PluginManager
    from ..protocols import PluginEnv
    from ..runtime.build import open_store

    catalog = (manager or PluginManager.from_config(config)).catalog()
    env = PluginEnv(
        clock=SystemClock(),
        logger=logging.getLogger("go_services.plugins"),
        resolve_secret=resolver(config, catalog),
    )
    return open_store(config, catalog, env)


async def read_status(store: Store) -> StoreStatus:
    """What the store says of itself."""
    try:
        return await store.status()
    finally:
        await store.aclose()


def _with_store(session: Session, use: Callable[[Store], Awaitable[T]]) -> T:
    import asyncio

    store = configured_store(session.config())

    async def run() -> T:
        try:
            return await use(store)
        finally:
            await store.aclose()

    return asyncio.run(run())


def _with_admin(session: Session, use: Callable[[StoreAdmin], Awaitable[T]]) -> T:
    from ..errors import FacetMissing

    async def run(store: Store) -> T:
        admin: StoreAdmin | None = getattr(store, "admin", None)
        if admin is None:
            raise FacetMissing(
                f"The store {type(store).__name__} offers no administration (`admin`).",
                hint="Use the tools of its database.",
            )
        return await use(admin)

    return _with_store(session, run)


def _progress(as_json: bool) -> Progress | None:
    """Lines on stderr, so that stdout stays the result."""
    return None if as_json else lambda line: click.echo(clean(line), err=True)


def _row_line(rows: int, size: int | None) -> str:
    return counted(rows, "row") if size is None else f"{counted(rows, 'row')}, {_bytes(size)}"


def _bytes(size: int) -> str:
    return f"{size / 1024:.0f} KiB" if size < 10 * 1024**2 else f"{size / 1024**2:.0f} MiB"
