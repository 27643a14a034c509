"""Options that mean the same in every command."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import Scope

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = 36_500 * 86_400
"""A hundred years: what goes far beyond is no date any more."""
F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")


def scope(*, required: bool, help: str = "Whose connection it is.") -> Callable[[F], F]:
    """``--scope user:ID`` or ``--scope org:ID``, as a ``Scope``."""
    return click.option("--scope", required=required, metavar="user:ID|org:ID", callback=_scope, help=help)


def seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A callback: ``90d``, ``12h``, ``30m`` or ``0s`` as seconds."""
    found = re.fullmatch(r"(\d+)([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a time such as 90d, 12h, 30m or 0s.", ctx, param)
    length = int(found[1]) * _SECONDS[found[2]]
    if length > _LONGEST:
        raise click.BadParameter("36500d is the longest time.", ctx, param)
    return float(length)


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A callback: a time such as ``2026-07-01T12:00Z``, or ``2h`` for as long ago."""
    from datetime import UTC, datetime, timedelta

    if value is None:
        return None
    if re.fullmatch(r"\d+[smhd]", value):
        return datetime.now(UTC) - timedelta(seconds=seconds(ctx, param, value))
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a time such as 2026-07-01T12:00Z nor an age such as 2h."
        ) from None
    if found.tzinfo is None:
        raise click.BadParameter(f"{value!r} needs a time zone, such as Z for UTC.", ctx, param)
    return found


def _scope(ctx: click.Context, param: click.Parameter, value: str | None) -> Scope | None:
    from ..errors import InvalidScope
    from ..model import Scope

    if value is None:
        return None
    try:
        return Scope.parse(value)
    except InvalidScope as error:
        raise click.BadParameter(str(error), ctx, param) from None
