"""What commands print: tables that fit the terminal, JSON for programs, errors with their remedy on stderr.

Whatever text comes here, a provider's too, is printed without the secrets that this process has handled.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from ..errors import ProviderError, ServicesError
from ..live_secrets import masked

_GAP = 2
_NARROWEST = 8
_LEGIBLE = 19
"""A time without its zone."""
_EXCERPT = 400
_COMMANDS = {
    "Runtime.connect and Runtime.complete": "`go-services connect`",
    "Runtime.connect_device": "`go-services connect --device`",
    "Runtime.connect": "`go-services connect`",
    "Runtime.establish": "`go-services connect`",
    "Runtime.reconsent": "`go-services connections reconsent`",
}
"""What hints call by the method of the runtime, and how it is done here."""
_METHODS = re.compile("|".join(map(re.escape, _COMMANDS)))


def show_json(value: Any) -> None:
    """Print a value as JSON. Times are ISO 8601, scopes ``user:1``; a secret prints as its mask."""
    click.echo(_dumps(masked(value), indent=2))


def show_json_line(value: Any, *, with_secrets: bool = False) -> None:
    """Print a value as one line of JSON, for lists that are too long to hold.

    ``with_secrets`` is for a command whose result is a secret.
    """
    click.echo(_dumps(value if with_secrets else masked(value)))


def _dumps(value: Any, indent: int | None = None) -> str:
    import json  # here and not above: `--version` prints no JSON

    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return masked(str(value))  # a SecretStr gives its mask


def clean(value: Any) -> str:
    """One line of text that cannot move the terminal's cursor; times without fractions, None as a dash."""
    if value is None or value == "":
        return "-"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds"))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return ", ".join(clean(item) for item in value) or "-"
    text = " ".join(masked(str(value)).split())
    return "".join(char if char.isprintable() else "�" for char in text)


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, whole: int = 0, text: bool = False
) -> None:
    """Print rows under headers, or ``empty`` when there is none. A pipe gets everything, a line for each row.

    On a terminal on which a row does not fit, the widest columns are cut, except the first ``whole`` ones; where too
    little would be left of the others, they stand on a second line. With ``text`` the last column holds sentences,
    which are never cut: where they do not fit, they stand below their rows.
    """
    lines = [[clean(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(empty)
        return
    lines.insert(0, [header.upper() for header in headers])
    limit = _line_length()
    sentences = [""] * len(lines)
    if limit and text and _longest(_laid_out(lines)) > limit:
        sentences = ["", *(line[-1] if line[-1] != "-" else "" for line in lines[1:])]
        lines = [line[:-1] for line in lines]
    shown = _laid_out(lines, limit, whole, _LEGIBLE if whole else _NARROWEST)
    if limit and whole and _longest(shown) > limit:
        heads = _laid_out([line[:whole] for line in lines])
        tails = _laid_out([line[whole:] for line in lines], limit - _GAP)
        shown = [f"{head}\n{' ' * _GAP}{tail}" for head, tail in zip(heads, tails, strict=True)]
    for line, sentence in zip(shown, sentences, strict=True):
        click.echo(line)
        if limit and sentence:
            from textwrap import fill

            indent = " " * (_GAP * 2)
            click.echo(fill(sentence, limit, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))


def _laid_out(
    lines: Sequence[Sequence[str]], limit: int | None = None, whole: int = 0, narrowest: int = _NARROWEST
) -> list[str]:
    """Each line with its cells below those of the line before; ``limit`` is kept to as far as ``narrowest`` lets it."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    while limit and sum(widths) + _GAP * (len(widths) - 1) > limit and max(widths[whole:], default=0) > narrowest:
        widths[widths.index(max(widths[whole:]), whole)] -= 1
    return [
        (" " * _GAP).join(_cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _longest(lines: Iterable[str]) -> int:
    return max(map(len, lines))


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print a record, one ``name  value`` line each."""
    known = [(name, clean(value)) for name, value in pairs]
    width = max(len(name) for name, _ in known)
    for name, value in known:
        click.echo(f"{name.ljust(width)}  {value}")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _line_length() -> int | None:
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        from shutil import get_terminal_size

        return get_terminal_size().columns
    return None


def show_error(error: Exception) -> None:
    """Print what went wrong, and the remedy, on stderr."""
    if not isinstance(error, ServicesError):
        from ..redaction import mask

        click.echo(f"error: {clean(mask(str(error)))}", err=True)
        return
    lines = [clean(line) if not line.startswith("  ") else f"  {clean(line)}" for line in error.message.splitlines()]
    if error.plugin and error.plugin not in error.message:
        lines[0] = f"plugin {error.plugin}: {lines[0]}"
    click.echo("error: " + "\n".join(lines), err=True)
    if isinstance(error, ProviderError):
        _show_answer(error)
    if error.hint:
        click.echo(f"  {clean(_METHODS.sub(lambda found: _COMMANDS[found[0]], error.hint))}", err=True)


def _show_answer(error: ProviderError) -> None:
    """What the provider said, and what it is asked about by."""
    said = " ".join((error.excerpt or "").split())
    if said and said not in error.message:
        click.echo(f"  It says: {clean(said[:_EXCERPT])}{'…' if len(said) > _EXCERPT else ''}", err=True)
    told = [f"Its request id: {error.request_id}."] if error.request_id else []
    told += [f"Requests made: {error.attempts}."] if error.attempts > 1 else []
    if error.upstream_status is not None and error.retry_after is not None and "asks to wait" not in error.message:
        told.append(f"It asks to wait {error.retry_after:.0f} s.")
    if told:
        click.echo(f"  {clean(' '.join(told))}", err=True)


def show_crash(error: Exception) -> None:
    """Print what Python prints of an exception that nobody expected, without secrets."""
    import traceback

    from ..log_redaction import mask_traceback

    click.echo(mask_traceback("".join(traceback.format_exception(error)).rstrip()), err=True)


def show_usage_error(error: click.ClickException) -> None:
    """Print what click says about a wrong call, in the style of every other error."""
    from io import StringIO

    said = StringIO()
    error.show(said)
    click.echo(said.getvalue().replace("Error: ", "error: ", 1), err=True, nl=False)
