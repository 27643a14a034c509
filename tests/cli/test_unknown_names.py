"""A filter by a name that exists nowhere is refused with the names that exist, not answered with an empty list."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from go_services_core import Runtime, Scope

from .conftest import Run

CONNECTION = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def handled(connected_config: Path) -> Path:
    """Two handlers are registered, one of them a notification's."""

    async def register() -> None:
        async with Runtime.open("go-services.toml") as runtime:

            async def handler(event: object, context: object) -> None: ...

            await runtime.on("installation.*", handler, name="app.mail")
            await runtime.on("installation.*", handler, name="notifications.told")

    asyncio.run(register())
    return connected_config


@pytest.mark.parametrize(
    "command",
    [
        ("connections", "list"),
        ("connections", "health"),
        ("webhooks", "list"),
        ("webhooks", "dead"),
        ("webhooks", "replay"),
        ("outbox", "list"),
        ("outbox", "dead"),
        ("outbox", "replay"),
        ("activity", "list"),
        ("activity", "export", "log.jsonl"),
        ("subscriptions", "list"),
        ("installations", "list"),
    ],
    ids=" ".join,
)
def test_provider_that_does_not_exist_is_refused(command: tuple[str, ...], handled: Path, run: Run) -> None:
    shown = run(*command, "--provider", "sandbx", code=1)
    assert shown.stdout == ""
    assert "There is no provider 'sandbx'." in shown.stderr
    assert "Did you mean 'sandbox'?" in shown.stderr
    assert "Known: " in run(*command, "--provider", "nothing-like-it", code=1).stderr
    assert not Path("log.jsonl").exists()
    run(*command, "--provider", "sandbox")


@pytest.mark.parametrize(
    "command",
    [
        ("webhooks", "list"),
        ("webhooks", "replay"),
        ("activity", "list"),
        ("subscriptions", "list"),
    ],
    ids=" ".join,
)
def test_connection_that_does_not_exist_is_refused(command: tuple[str, ...], handled: Path, run: Run) -> None:
    assert CONNECTION in run(*command, "--connection", CONNECTION, code=1).stderr


@pytest.mark.parametrize(
    "command",
    [
        ("outbox", "list"),
        ("outbox", "dead"),
        ("outbox", "replay"),
        ("outbox", "replay", "--dry-run"),
        ("webhooks", "replay", "--all"),
    ],
    ids=" ".join,
)
def test_handler_that_does_not_exist_is_refused(command: tuple[str, ...], handled: Path, run: Run) -> None:
    shown = run(*command, "--handler", "app.mial", code=1)
    assert "There is no handler 'app.mial'." in shown.stderr
    assert "Did you mean 'app.mail'?" in shown.stderr
    assert "Known: app.mail, " in run(*command, "--handler", "other", code=1).stderr
    run(*command, "--handler", "app.mail")


def test_notification_that_does_not_exist_is_refused(handled: Path, run: Run) -> None:
    for command in (("list", "--name", "other"), ("retry", "other", "e1"), ("retry", "other", "e1", "--dry-run")):
        shown = run("notifications", *command, code=1)
        assert "There is no notification 'other'." in shown.stderr
        assert "Known: told." in shown.stderr
    run("notifications", "list", "--name", "told")
    assert "nobody" in run("notifications", "retry", "told", "e1", "--dry-run").stdout
    assert "not dead" in run("notifications", "retry", "told", "e1", code=1).stdout
    assert json.loads(run("notifications", "retry", "told", "e1", "--json", code=1).stdout) == {"retried": False}


def test_endpoint_that_does_not_exist_is_refused(handled: Path, run: Run) -> None:
    for command in ("messages", "replay", "show", "pause"):
        assert "There is no endpoint 'other'." in run("endpoints", command, "other", code=1).stderr


def test_what_a_removed_provider_left_behind_is_listed(handled: Path, run: Run) -> None:
    async def install() -> None:
        async with Runtime.open("go-services.toml") as runtime:
            await runtime.install("keyed", scope=Scope("org", "1"))

    asyncio.run(install())
    config = Path("go-services.toml")
    config.write_text(config.read_text().partition("[providers.keyed]")[0].replace('keyed = ["', '#keyed = ["'))
    assert "keyed" in run("installations", "list", "--provider", "keyed").stdout
    assert "install" in run("outbox", "list", "--provider", "keyed").stdout
    assert "There is no provider" in run("activity", "list", "--provider", "keyed", code=1).stderr
