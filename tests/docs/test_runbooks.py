"""What the runbooks tell operators to look at and to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from go_services_core.cli.main import main
from go_services_core.clock import SystemClock
from go_services_core.lifecycle import EVENTS
from go_services_core.metrics import TAGS, updates
from go_services_core.model import Observation

from .test_reference import emitted

DOCS = Path(__file__).parents[2] / "docs"
RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))
COMMAND = re.compile(r"^\s*\$ go-services (.+)$", re.MULTILINE)
METRIC = re.compile(r"`services\.([a-z_.]+)`")
WORK = {"refresh", "provider_operation", "outbox", "job"}
"""What has a duration, by its event type."""
SAID = {"operation": "provider_operation"}
"""Observations whose metrics have another name."""


def test_there_is_a_runbook_for_each_failure() -> None:
    assert {path.stem for path in RUNBOOKS} == {
        "after-an-incident",
        "index",
        "notification-failures",
        "outbox-lag",
        "provider-outage",
        "token-revoked",
        "webhook-replay",
    }
    for path in RUNBOOKS:
        text = path.read_text(encoding="utf-8")
        assert COMMAND.search(text), path.name
        if path.stem not in ("index", "after-an-incident"):
            assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Signals", "Act", "Recover"], path.name


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_every_command_exists_with_its_options(path: Path) -> None:
    for line in COMMAND.findall(path.read_text(encoding="utf-8")):
        words = shlex.split(line)
        command: click.Command | None = main
        context = click.Context(main)
        while isinstance(command, click.Group):
            word = words.pop(0)
            command = command.get_command(context, word)
            assert command is not None, f"{line}: there is no {word}"
        # Parsed as it would be typed: an unknown option, or an argument too many or too few, is refused.
        command.make_context(line, words, resilient_parsing=False)


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_every_metric_is_one_that_is_made(path: Path) -> None:
    documented = (DOCS / "reference" / "events.md").read_text(encoding="utf-8")
    for metric in METRIC.findall(path.read_text(encoding="utf-8")):
        event_type, _, what = metric.rpartition(".")
        name = next((name for name, said in SAID.items() if said == event_type), event_type)
        assert f"| `{name}`" in documented or f", `{name}`" in documented, metric
        detail = {"queue": "inbox", "due": 1, "lag": 1.0, "dead": 0}
        seen = Observation(name=name, at=SystemClock().now(), duration_ms=1.0, detail=detail)
        assert f"services.{metric}" in {update.name for update in updates(seen)}, metric
        assert what != "duration_ms" or event_type in WORK, metric


@pytest.mark.parametrize(
    ("runbook", "signals"),
    [
        ("provider-outage", ["services.refresh.total", "services.provider_operation.total", "breaker"]),
        ("token-revoked", ["services.refresh.total", "connection.pending_reauth", "connection.needs_reconsent"]),
        ("webhook-replay", ["services.webhook.duplicate.total", "services.worker.backlog.dead"]),
        ("outbox-lag", ["services.worker.backlog.lag", "services.worker.backlog.due", "worker.failed"]),
        ("notification-failures", ["services.outbox.total", "services.job.total", "services.worker.backlog.dead"]),
    ],
)
def test_signals_of_each_failure_are_named_and_made(runbook: str, signals: list[str]) -> None:
    """What an operator of the former system was told to look at, and it never emitted (behaviour §25, W29)."""
    text = (DOCS / "runbooks" / f"{runbook}.md").read_text(encoding="utf-8")
    section = text.partition("## Signals\n")[2].partition("\n## ")[0]
    observed = set(emitted())
    for signal in signals:
        assert f"`{signal}`" in section, signal
        if not signal.startswith("services."):
            assert signal in observed or signal in EVENTS, signal
            continue
        name = signal.removeprefix("services.").rpartition(".")[0]
        name = next((one for one, said in SAID.items() if said == name), name)
        assert name in observed or f"{name}s" in observed, signal


def test_tags_that_runbooks_name_are_tags() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in RUNBOOKS)
    for tag in ("status", "provider_id", "error_category", "error_code", "operation"):
        assert f"`{tag}`" in text
        assert tag in TAGS
