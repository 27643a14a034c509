"""``go-services store``: the database's schema and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run
from .output import clean, fields, show_json
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..config import Config
    from ..model import MigrationStep, StoreStatus
    from ..plugins import PluginManager
    from ..protocols import Store


@click.group(cls=Group)
def store() -> None:
    """Migrate the database and show its state.

    \b
    go-services store migrate --dry-run
    go-services store status --json
    """


@store.command()
@dry_run
@as_json
@pass_session
def migrate(session: Session, dry_run: bool, as_json: bool) -> None:
    """Apply the pending migrations; without any, change nothing."""
    import asyncio

    steps = asyncio.run(_migrate(configured_store(session.config()), dry_run))
    if as_json:
        show_json({"dry_run": dry_run, "migrations": [{"number": step.number, "name": step.name} for step in steps]})
        return
    for step in steps:
        click.echo(f"{'Would apply' if dry_run else 'Applied'} {step.number} {step.name}")
    if not steps:
        click.echo("The database is up to date.")


@store.command()
@as_json
@pass_session
def status(session: Session, as_json: bool) -> int:
    """Show schema version, rows per table and problems; exit with 1 when something is pending or wrong."""
    import asyncio

    found = asyncio.run(read_status(configured_store(session.config())))
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
                "problems": list(found.problems),
            }
        )
    else:
        fields(
            [
                ("url", found.url),
                ("server", f"{found.dialect} {found.server}"),
                ("schema", f"{found.schema_version} of {found.latest_version}"),
                *((f"  {name}", f"{rows} rows") for name, rows in sorted(found.tables.items())),
            ]
        )
        for problem in found.problems:
            click.echo(f"problem: {clean(problem)}")
        if found.pending:
            click.echo(f"{len(found.pending)} migrations are pending: run `go-services store migrate`.")
    return FAILED if found.pending or found.problems else OK


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


async def _migrate(store: Store, dry_run: bool) -> list[MigrationStep]:
    try:
        return await store.migrate(dry_run=dry_run)
    finally:
        await store.aclose()


async def read_status(store: Store) -> StoreStatus:
    """What the store says of itself."""
    try:
        return await store.status()
    finally:
        await store.aclose()
