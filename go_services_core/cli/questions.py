"""Questions on the terminal; their answers may also be piped in, one line each."""

from __future__ import annotations

import sys

import click

from ..secret import SecretStr


def ask(question: str, *, default: str | None = None) -> str:
    """What is typed, or the default. Questions go to stderr, so that stdout stays the command's result."""
    shown = f"{question} [{default}]: " if default else f"{question}: "
    while True:
        click.echo(shown, err=True, nl=False)
        line = sys.stdin.readline()
        if not line:
            raise click.Abort from EOFError()
        answer = line.rstrip("\r\n").strip() or default or ""
        if answer or default is not None:
            return answer


def ask_secret(question: str) -> SecretStr:
    """What is typed without being shown."""
    while True:
        answer = _hidden(question)
        if answer is None:
            raise click.Abort from EOFError()
        if answer:
            return SecretStr(answer)


def ask_optional(question: str, *, hidden: bool) -> SecretStr | None:
    """What is typed, or None for an empty line and where the input has ended."""
    question = f"{question} (optional)"
    if hidden:
        answer = _hidden(question)
    else:
        click.echo(f"{question}: ", err=True, nl=False)
        answer = sys.stdin.readline().strip()
    return SecretStr(answer, name=not hidden) if answer else None


def _hidden(question: str) -> str | None:
    """A line that is not shown; None where the input has ended."""
    if sys.stdin.isatty():
        typed: str = click.prompt(question, default="", show_default=False, hide_input=True, err=True)
        return typed
    click.echo(f"{question}: ", err=True)
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None
