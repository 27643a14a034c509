"""Log records of a runtime as events of structlog."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from go_services_core import Scope, SecretStr
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import ProviderUnavailable
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_core.http import HttpResponse
from go_services_core.secret import MASK
from go_services_core.testing.pytest_kit import PluginKit
from go_services_structlog import plugin
from go_services_structlog.processors import pre_chain, redact

TOKEN = "t0ken-of-the-connection-0123"
OURS = logging.getLogger("go_services")


class TestConformance(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[str]:
        yield "structlog"


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What structlog is given, with everything at INFO."""
    capture = LogCapture()
    structlog.configure(processors=[capture], logger_factory=structlog.PrintLoggerFactory())
    level = OURS.level
    OURS.setLevel(logging.INFO)
    yield capture.entries
    OURS.setLevel(level)
    structlog.reset_defaults()


async def test_finished_work_is_an_event_with_the_record_s_fields_and_comes_once(
    opening: Any, transport: Any, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    transport.expect("GET", "/things", HttpResponse(200, (), b"[]"))
    async with opening({"structlog": plugin}) as runtime:
        connection = await runtime.establish("acme", scope=Scope("user", "u-1"), fields={"token": TOKEN})
        await runtime.execute(connection.id, "things.list")
    (event,) = [event for event in events if event.get("event_type") == "provider_operation"]
    expected = {
        "event": "things.list succeeded",
        "log_level": "info",
        "logger": "go_services.operation",
        "status": "success",
        "operation": "things.list",
        "provider_id": "acme",
        "scope_type": "user",
        "scope_id": "u-1",
        "connection_id": connection.id,
        "attempts": 1,
    }
    assert expected.items() <= event.items()
    assert caplog.records == []


async def test_failure_keeps_its_level_and_says_no_secret(opening: Any, transport: Any, events: list[Any]) -> None:
    """P42, P46"""
    transport.expect("GET", "/things", HttpResponse(500, (), f'{{"error": "bad {TOKEN}"}}'.encode()))
    async with opening({"structlog": plugin}) as runtime:
        connection = await runtime.establish("acme", scope=Scope("user", "u-1"), fields={"token": TOKEN})
        with pytest.raises(ProviderUnavailable):
            await runtime.execute(connection.id, "things.list", retry=RetryPolicy(attempts=1))
    event = events[-1]
    assert (event["event"], event["log_level"]) == ("things.list failed", "error")
    assert event["error_text_code"] == ProviderUnavailable.code
    assert TOKEN not in repr(events)


async def test_exception_of_a_record_reaches_structlog(opening: Any, events: list[Any]) -> None:
    async with opening({"structlog": plugin}):
        try:
            raise ZeroDivisionError("by nothing")
        except ZeroDivisionError:
            logging.getLogger("go_services.runtime").exception("it failed")
    assert events[-1]["exc_info"][0] is ZeroDivisionError


async def test_logging_is_as_before_when_the_last_runtime_is_closed(opening: Any, events: list[Any]) -> None:
    async with opening({"structlog": plugin}):
        async with opening({"structlog": plugin}):
            assert OURS.propagate is False
        assert OURS.propagate is False
    assert OURS.propagate is True
    assert OURS.handlers == []


async def test_nothing_is_forwarded_where_the_application_has_not_configured_structlog(opening: Any) -> None:
    structlog.reset_defaults()
    async with opening({"structlog": plugin}):
        assert OURS.handlers == []
        assert OURS.propagate is True


async def test_nothing_is_forwarded_where_structlog_writes_through_logging_which_has_the_fields_by_the_pre_chain(
    opening: Any, events: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs], logger_factory=structlog.stdlib.LoggerFactory()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=pre_chain(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    try:
        async with opening({"structlog": plugin}) as runtime:
            await runtime.establish("acme", scope=Scope("user", "u-1"), fields={"token": TOKEN})
            structlog.get_logger("go_services.of.the.app").warning("written once")
    finally:
        logging.getLogger().removeHandler(handler)
    written = capsys.readouterr().out
    assert '"event_type": "establish"' in written
    assert '"logger": "go_services.establish"' in written
    assert len([line for line in written.splitlines() if "written once" in line]) == 1


def test_redact_masks_the_application_s_own_events_by_name_and_by_value() -> None:
    """P40, P45"""
    secret = SecretStr(TOKEN)
    masked = redact(None, "info", {"event": f"sent {TOKEN}", "password": "hunter2", "user": {"api_key": "x1"}, "n": 1})
    assert masked == {"event": f"sent {MASK}", "password": MASK, "user": {"api_key": MASK}, "n": 1}
    assert secret.reveal() == TOKEN


def test_entry_point_is_the_plugin_which_does_not_import_the_library() -> None:
    (found,) = entry_points(group=GROUP, name="structlog")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    script = "import sys, go_services_structlog.plugin; print('structlog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
