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
        if sys.stdin.isatty():
            answer = click.prompt(question, hide_input=True, err=True)
        else:
            click.echo(f"{question}: ", err=True)
            line = sys.stdin.readline()
            if not line:
                raise click.Abort from EOFError()
            answer = line.rstrip("\r\n")
        if answer:
            return SecretStr(answer)
