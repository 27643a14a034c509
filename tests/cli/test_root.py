"""The command itself: names, plugin commands, exit codes, errors."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from go_services_core import errors
from go_services_core.cli.exits import exit_code
from go_services_core.cli.main import COMMANDS

from .conftest import Install, Run, go_services

WITH_COMMANDS = """
    import click
    from go_services_core import CommandSpec, Ref, hookimpl

    GS_CONTRACT = 1

    @click.command()
    def greet():
        click.echo("hello")

    @hookimpl
    def gs_commands():
        return [CommandSpec(name={name!r}, summary="Greets.", command=Ref(__name__ + ":greet"))]
"""


def test_every_command_of_the_table_can_be_imported_and_says_the_same_summary(run: Run) -> None:
    listed = run("--help").stdout
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in listed
        assert run(name, "--help").stdout.startswith(f"Usage: go-services {name}")
        assert summary.endswith(".")


def test_summaries_of_a_group_are_whole_sentences(run: Run) -> None:
    listed = run("webhooks", "--help").stdout
    assert "..." not in listed.partition("Commands:")[2]
    for word, end in (("dead", "one of their handlers."), ("list", "a page at a time."), ("show", "each handler.")):
        assert end in " ".join(listed.partition(f"  {word} ")[2].split()), word


def test_unknown_command_suggests_the_nearest(run: Run) -> None:
    assert "Did you mean 'plugins'?" in run("plugin", code=2).stderr
    assert "Did you mean 'list'?" in run("plugins", "lst", code=2).stderr
    assert "`go-services --help` lists the commands." in run("xyzzy", code=2).stderr


def test_commands_of_plugins_are_listed_and_run(run: Run, install: Install) -> None:
    install("greeter", WITH_COMMANDS.format(name="greet"))
    listed = run("--help").stdout
    assert "greet          Greets." in listed
    assert listed.index("  init") < listed.index("  greet")
    assert run("greet").stdout == "hello\n"
    assert "Did you mean 'greet'?" in run("great", code=2).stderr


def test_plugin_is_not_loaded_for_a_built_in_command(run: Run, install: Install) -> None:
    module = install("greeter", WITH_COMMANDS.format(name="greet"))
    run("config", "--help")
    assert module not in sys.modules


def test_built_in_name_cannot_be_taken_by_a_plugin(run: Run, install: Install) -> None:
    install("thief", WITH_COMMANDS.format(name="init"))
    assert "hello" not in run("init", "--dry-run").stdout
    assert run("--help").stdout.count("  init  ") == 1


def test_broken_configuration_hides_only_the_commands_of_plugins(run: Run, folder: Path) -> None:
    (folder / "go-services.toml").write_text("[store\n")
    result = run("--help")
    assert "Commands:" in result.stdout
    assert "commands of plugins are not listed" in result.stderr
    assert run("xyzzy", code=3).stderr.startswith("error: The configuration file")


def test_named_configuration_file_must_exist(run: Run) -> None:
    result = run("--config", "nowhere.toml", "config", "show", code=3)
    assert "nowhere.toml does not exist" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadInput("x"), 2),
        (errors.ConfigError("x"), 3),
        (errors.PluginBroken("x"), 4),
        (errors.PluginConflict("x"), 4),
        (errors.PluginNotFound("x"), 4),
        (errors.ProviderNotFound("x"), 1),
        (errors.StoreUnavailable("x"), 1),
        (errors.ServicesError("x"), 1),
        (PermissionError("x"), 1),
    ],
)
def test_errors_have_one_exit_code_each(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_programming_error_is_not_turned_into_an_exit_code() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(ZeroDivisionError())


def test_error_is_printed_with_plugin_and_remedy_and_without_traceback(run: Run, install: Install) -> None:
    install(
        "failing",
        """
        import click
        from go_services_core import CommandSpec, Ref, hookimpl
        from go_services_core.errors import StoreUnavailable

        GS_CONTRACT = 1

        @click.command()
        def fail():
            raise StoreUnavailable("It is down.\\x1b[31m", hint="Start it.", plugin="store-x")

        @hookimpl
        def gs_commands():
            return [CommandSpec(name="fail", summary="Fails.", command=Ref(__name__ + ":fail"))]
        """,
    )
    result = run("fail", code=1)
    assert result.stdout == ""
    assert result.stderr == "error: plugin store-x: It is down.�[31m\n  Start it.\n"


def test_input_that_ends_too_early_is_a_failure_not_an_interrupt(run: Run) -> None:
    run("init")
    result = run("configure", "github", input="", code=1)
    assert result.stderr.endswith("error: the input ended before every question was answered\n")


def test_exit_codes_of_the_process(folder: Path) -> None:
    assert go_services("config", "show").returncode == 0
    assert go_services("config", "shw").returncode == 2
    assert go_services("--config", "nowhere.toml", "config", "show").returncode == 3
    unknown = go_services("plugins", "show", "githb")
    assert unknown.returncode == 4
    assert "Traceback" not in unknown.stderr


def test_ctrl_c_ends_the_sandbox_with_130(folder: Path) -> None:
    process = subprocess.Popen(
        [Path(sys.executable).with_name("go-services"), "sandbox", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith('{"url": "http://127.0.0.1:')
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_commands_that_write_have_a_dry_run_and_commands_that_read_have_json() -> None:
    from importlib import import_module

    def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            return [leaf for name, inner in command.commands.items() for leaf in leaves(inner, f"{path} {name}")]
        return [(path, command)]

    found = {}
    for name, (target, _) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        for path, command in leaves(getattr(import_module(module), attribute), name):
            found[path] = {option for param in command.params for option in param.opts}
            assert command.help, f"{path} has no help"
    writes = {path for path, options in found.items() if "--dry-run" in options}
    reads = {path for path, options in found.items() if "--json" in options}
    assert set(found) - writes - reads == set()
    assert {
        "init", "plugins enable", "plugins disable", "plugins new", "configure", "config set", "config unset",
        "store migrate", "store adopt", "store prune", "store vacuum", "store down",
        "secrets generate-key", "secrets rotate", "secrets rewrap", "secrets reencrypt", "secrets retire", "connect",
        "connections refresh", "connections reconsent", "connections disconnect", "connections import",
        "connections export", "call", "outbox replay", "outbox backfill", "outbox forget",
        "webhooks replay", "webhooks release", "activity export",
        "subscriptions create", "subscriptions renew", "subscriptions cancel", "installations uninstall",
        "endpoints add", "endpoints pause", "endpoints resume", "endpoints rotate", "endpoints remove", "endpoints test",
        "endpoints replay", "notifications retry",
    } == writes  # fmt: skip


def test_what_nobody_expected_is_shown_as_a_traceback_without_secrets(install: Install, run: Run) -> None:
    install(
        "crashing",
        """
        import click
        import logging
        from go_services_core import CommandSpec, Ref, SecretStr, hookimpl

        GS_CONTRACT = 1

        @click.command()
        def crash():
            token = SecretStr("tok-0123456789abcdef")
            logging.getLogger("a.library").error("sent %s", token.reveal())
            raise RuntimeError(f"GET https://host/?k={token.reveal()}&password=1")

        @hookimpl
        def gs_commands():
            return [CommandSpec(name="crash", summary="Crash.", command=Ref(f"{__name__}:crash"))]
        """,
    )
    done = go_services("crash")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback (most recent call last)" in done.stderr
    assert "RuntimeError: GET https://host/?k=••••&password=••••" in done.stderr
    assert "sent ••••" in done.stderr
    assert "tok-0123456789abcdef" not in done.stderr
