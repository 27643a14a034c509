"""The entry point: the table of commands, global options, and the one place where errors become an exit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .._version import VERSION
from ..errors import ServicesError
from .exits import FAILED, INTERRUPTED, exit_code
from .lazy import LazyGroup
from .output import show_crash, show_error, show_usage_error
from .session import Session

if TYPE_CHECKING:
    from ..specs import CommandSpec

_COMMANDS: Final = f"{__name__}.plugin_commands"
_HERE: Final = "go_services_core.cli"
COMMANDS: Final = {
    "init": (f"{_HERE}.init:init", "Write a configuration file and a key file."),
    "demo": (f"{_HERE}.demo:demo", "Connect, call and refresh against a sandbox provider, start to end."),
    "doctor": (f"{_HERE}.doctor:doctor", "Check configuration, plugins, store and keys."),
    "plugins": (f"{_HERE}.plugins:plugins", "List, show, check, switch and make plugins."),
    "configure": (f"{_HERE}.configure:configure", "Ask for a plugin's settings and write them."),
    "config": (f"{_HERE}.config:config", "Show, change and validate the configuration."),
    "providers": (f"{_HERE}.providers:providers", "List and show providers."),
    "store": (f"{_HERE}.store:store", "Migrate the database and show its state."),
    "secrets": (f"{_HERE}.secrets:secrets", "Show, check, change and retire the keys of what is stored."),
    "connect": (f"{_HERE}.connect:connect", "Connect a provider account for a scope."),
    "connections": (
        f"{_HERE}.connections:connections",
        "List, show, end, import and export connections.",
    ),
    "subscriptions": (f"{_HERE}.subscriptions:subscriptions", "List, make, renew and cancel subscriptions."),
    "installations": (f"{_HERE}.installations:installations", "List, show and end installations of apps."),
    "activity": (f"{_HERE}.activity:activity", "List and export the activity log."),
    "call": (f"{_HERE}.call:call", "Call an operation of a provider."),
    "endpoints": (f"{_HERE}.endpoints:endpoints", "Send events to customers, and dead messages again."),
    "notifications": (f"{_HERE}.notifications:notifications", "Show who was told of events, and retry."),
    "outbox": (f"{_HERE}.outbox:outbox", "Show how far handlers are, and replay what they did not handle."),
    "webhooks": (f"{_HERE}.webhooks:webhooks", "Verify, list, show and replay deliveries."),
    "worker": (f"{_HERE}.worker:worker", "Do what is due, and show who does."),
    "serve": (f"{_HERE}.serve:serve", "Serve callbacks, webhooks and health; metrics and status apart."),
    "sandbox": (f"{_HERE}.sandbox:sandbox", "Serve a provider on this machine to try things on."),
}


class Root(LazyGroup):
    """The command itself. Plugins are asked for commands only for the listing and for a name that is not built in."""

    def _plugin_commands(self, ctx: click.Context) -> Mapping[str, CommandSpec]:
        """Commands of the plugins that work. A built-in name cannot be taken."""
        from .survey import survey

        known: Mapping[str, CommandSpec] | None = ctx.meta.get(_COMMANDS)
        if known is None:
            session = Session(ctx.params.get("config_path"))
            specs = survey(session.config()).catalog().commands
            known = ctx.meta[_COMMANDS] = {name: spec for name, spec in specs.items() if name not in self.lazy}
        return known

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands, then those of plugins."""
        return [name for name, _ in self.summaries(ctx)]

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """As of the group, with the plugins' commands; a configuration that cannot be read hides only those."""
        rows = super().summaries(ctx)
        try:
            found = self._plugin_commands(ctx)
        except ServicesError as error:
            click.echo(f"note: commands of plugins are not listed: {error}", err=True)
            return rows
        return rows + [(name, found[name].summary) for name in sorted(found)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A built-in command, else one of a plugin."""
        command = super().get_command(ctx, name)
        if command is not None or name.startswith("-"):
            return command
        spec = self._plugin_commands(ctx).get(name)
        return spec.command.resolve() if spec is not None else None

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run and exit: each error becomes lines on stderr and an exit code."""
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name or "go-services", *rest, **extra)
        except click.Abort as abort:
            if isinstance(abort.__cause__ or abort.__context__, EOFError):
                click.echo("error: the input ended before every question was answered", err=True)
                sys.exit(FAILED)
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            show_usage_error(error)
            sys.exit(error.exit_code)
        except (ServicesError, OSError) as error:
            show_error(error)
            sys.exit(exit_code(error))
        except Exception as error:
            show_crash(error)
            sys.exit(FAILED)
        sys.exit(code if isinstance(code, int) else 0)


@click.command(
    "go-services",
    cls=Root,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration, 4 plugin.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="GO_SERVICES_CONFIG",
    is_eager=True,
    help="Configuration file; without it, go-services.toml in the working directory.",
)
@click.version_option(VERSION, prog_name="go-services", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, config_path: Path | None) -> None:
    """Connect provider accounts, keep their credentials, call their APIs.

    \b
    go-services init                                  a configuration to start from
    go-services plugins list                          what is installed
    go-services connect github --scope user:1         connect an account
    go-services call CONNECTION repos.list            use it
    """
    from ..log_redaction import install

    ctx.call_on_close(install())
    ctx.obj = Session(config_path)
