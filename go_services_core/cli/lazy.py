"""Command groups whose commands are imported when they are called, not when the group is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from ..errors import nearest

_SUMMARY = 300  # characters: every first sentence


class Group(click.Group):
    """A group that suggests the nearest command for one that does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; a usage error where there is none."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = nearest(name, self.list_commands(ctx))
            remedy = f"Did you mean {near!r}?" if near else f"`{ctx.command_path} --help` lists the commands."
            ctx.fail(f"There is no command {name!r}. {remedy}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries in full, over several lines where one is too short for them."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_SUMMARY)) for name, one in commands if one is not None])


class LazyGroup(Group):
    """A group that knows of each command the summary and where it is: ``package.module:name``."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they were given."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command; None where there is none of that name."""
        if name not in self.lazy:
            return None
        module, _, attribute = self.lazy[name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Name and summary of each command."""
        return [(name, summary) for name, (_, summary) in self.lazy.items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries; this imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl(self.summaries(ctx))
