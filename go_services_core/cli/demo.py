"""``go-services demo``"""

from __future__ import annotations

from pathlib import Path

import click

from .options import as_json


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Work in this folder and leave configuration, key and database there.",
)
@click.option("--store", metavar="URL", help="Use this database, which is best empty, instead of an SQLite file.")
@as_json
def demo(keep: Path | None, store: str | None, as_json: bool) -> int:
    """Connect, call and refresh against a sandbox provider on this machine, start to end.

    Needs no account and no network; without --keep everything happens in a temporary folder.
    """
    from .. import demo as demonstration

    return demonstration.run(json=as_json, keep=keep, store=store, echo=click.echo)
