"""How far a file has got, on the error stream."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..sources import TransferProgress


def told(verb: str) -> TransferProgress | None:
    """What shows the bytes so far on one line; None where nobody looks at a terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int | None) -> None:
        share = f" of {total} bytes ({done * 100 // total} %)" if total else " bytes"
        click.echo(f"\r{verb} {done}{share}", err=True, nl=done == total)

    return show
