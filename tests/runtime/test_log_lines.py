"""The log without any plugin: one record for each piece of work that ended, with its fields, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from go_services_core import Scope
from go_services_core.errors import (
    BadInput,
    PermissionDenied,
    ProviderNotFoundAnswer,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    StateUnknown,
    StoreUnavailable,
    WebhookRejected,
)
from go_services_core.model import Observation
from go_services_core.runtime.log_lines import severity, write
from go_services_core.secret import MASK, SecretStr

from .conftest import App

AT = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "t0ken-0123456789-abcdef"


def work(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of work that ended."""
    return [record for record in caplog.records if hasattr(record, "event_type")]


async def test_every_kind_of_work_says_once_that_it_succeeded_and_with_what_fields(
    app: App, runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "go_services")

    async def note(event: Any, context: Any) -> None:
        return None

    await runtime.on("webhook.*", note, name="tests.note")
    connection = await app.connect(runtime)
    result = await runtime.execute(connection.id, "items.list", {"per_page": 1})
    await runtime.refresh(connection.id)
    await runtime.accept_webhook("sandbox", app.webhook(b'{"type": "ping"}'), connection_id=connection.id)
    await runtime.drain()
    await runtime.disconnect(connection.id, reason="done")
    told = {(record.name, record.getMessage(), record.event_type): vars(record) for record in work(caplog)}
    assert list(told) == [
        ("go_services.connect", "connect succeeded", "connect"),
        ("go_services.complete", "complete_callback succeeded", "complete_callback"),
        ("go_services.operation", "items.list succeeded", "provider_operation"),
        ("go_services.refresh", "refresh succeeded", "refresh"),
        ("go_services.webhook", "webhook.accept succeeded", "webhook.accept"),
        ("go_services.webhook", "webhook.handle succeeded", "webhook.handle"),
        ("go_services.outbox", "outbox succeeded", "outbox"),
        ("go_services.disconnect", "revoke succeeded", "revoke"),
    ]
    assert len(work(caplog)) == len(told)
    common = {
        "status": "success",
        "provider_id": "sandbox",
        "scope_type": "user",
        "scope_id": "u1",
        "connection_id": connection.id,
        "levelno": logging.INFO,
    }
    call = told["go_services.operation", "items.list succeeded", "provider_operation"]
    expected = {"operation": "items.list", "transport_kind": "rest", "attempts": 1, "method": "GET"}
    assert common.items() | expected.items() <= {k: v for k, v in call.items() if isinstance(v, (str, int))}.items()
    assert call["upstream_status"] == 200
    assert call["request_id"] == result.request_id is not None
    assert isinstance(call["duration_ms"], float)
    assert "error" not in call
    for name in ("complete", "refresh", "outbox", "disconnect"):
        (fields,) = [fields for (logger, _, _), fields in told.items() if logger == f"go_services.{name}"]
        assert common.items() <= {k: v for k, v in fields.items() if isinstance(v, (str, int))}.items()
    outbox = told["go_services.outbox", "outbox succeeded", "outbox"]
    assert (outbox["handler"], outbox["attempt"]) == ("tests.note", 1)


async def test_failed_call_is_one_error_with_the_fields_of_its_error(
    app: App, runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await app.connect(runtime)
    app.sandbox.faults.set("items.list", "500", times=None)
    with pytest.raises(ProviderUnavailable) as caught:
        await runtime.execute(connection.id, "items.list")
    (record,) = work(caplog)
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "items.list failed")
    fields = vars(record)
    assert fields["status"] == "failure"
    assert fields["error"] == caught.value.message
    assert fields["error_category"] == "external"
    assert fields["error_code"] == fields["upstream_status"] == 500
    assert fields["error_text_code"] == ProviderUnavailable.code
    assert fields["error_severity"] == "ERROR"
    assert fields["error_location"].startswith("go_services_core.runtime.")
    assert fields["connection_id"] == connection.id
    assert fields["attempts"] >= 1
    assert fields["request_id"] == caught.value.request_id is not None
    assert record.exc_info is None


async def test_nothing_is_logged_of_calls_that_succeed_where_the_level_is_higher(
    app: App, runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "go_services")
    connection = await app.connect(runtime)
    await runtime.execute(connection.id, "me")
    assert work(caplog) == []


async def test_handler_that_raises_a_foreign_error_is_logged_once_with_its_traceback(
    app: App, runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(event: Any, context: Any) -> None:
        raise ZeroDivisionError("by nothing")

    await runtime.on("connection.*", broken, name="tests.broken")
    await app.connect(runtime)
    caplog.clear()
    await runtime.drain()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.name, record.getMessage()) == ("go_services.outbox", "outbox failed")
    assert (vars(record)["error"], vars(record)["handler"]) == ("ZeroDivisionError", "tests.broken")
    assert "by nothing" in caplog.text


async def test_call_without_the_grants_is_logged_as_blocked_and_observed(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Observation] = []
    async with app.open() as runtime:
        runtime.observe(told.append, name="test", inline=True)
        connection = await app.connect(runtime, grants=["items.read"])
        with pytest.raises(PermissionDenied):
            await runtime.execute(connection.id, "items.create", {"name": "x"})
        fields = vars(work(caplog)[-1])
    assert (fields["operation"], fields["decision"], fields["attempts"]) == ("items.create", "blocked", 0)
    assert fields["levelno"] == logging.WARNING
    assert (told[-1].name, told[-1].ok, told[-1].detail["decision"]) == ("operation", False, "blocked")


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (None, "INFO"),
        (asyncio.CancelledError(), "INFO"),
        (BadInput("x"), "WARNING"),
        (PermissionDenied("x"), "WARNING"),
        (ProviderNotFoundAnswer("x"), "WARNING"),
        (RateLimited("x"), "WARNING"),
        (StateUnknown("x"), "WARNING"),
        (ReauthRequired("x"), "WARNING"),
        (WebhookRejected("x"), "WARNING"),
        (ProviderUnavailable("x"), "ERROR"),
        (StoreUnavailable("x"), "ERROR"),
        (KeyError("x"), "ERROR"),
    ],
)
def test_mistakes_of_callers_are_warnings_and_what_is_broken_is_an_error(
    error: BaseException | None, level: str
) -> None:
    assert logging.getLevelName(severity(error)) == level


def test_fields_say_no_secret_whether_by_name_or_by_value_and_clash_with_none_of_the_record_s_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """P40, P45: also before a runtime has wrapped ``logging``."""
    secret = SecretStr(TOKEN)
    error = BadInput(
        f"cannot use {TOKEN}", field="token", metadata={"password": "hunter2", "said": [f"x {TOKEN} y"], "id": "c1"}
    )
    observation = Observation(
        name="operation",
        at=AT,
        ok=False,
        duration_ms=1.0,
        scope=Scope("user", "u1"),
        error=error.message,
        detail={"operation": "a.b", "name": "clashes", "msg": "too"},
    )
    write(observation, error)
    (record,) = caplog.records
    assert TOKEN not in json.dumps(vars(record), default=str)
    fields = vars(record)
    assert fields["error_metadata"] == {"password": MASK, "said": [f"x {MASK} y"], "id": "c1"}
    assert fields["error_validation_errors"] == [{"field": "token", "message": f"cannot use {MASK}"}]
    assert (fields["detail_name"], fields["detail_msg"]) == ("clashes", "too")
    assert secret.reveal() == TOKEN


def test_what_only_happened_and_what_begins_has_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    write(Observation(name="connection.established", at=AT), None)
    write(Observation(name="operation", at=AT, phase="start"), None)
    write(Observation(name="operation", at=AT, phase="retry", ok=False), None)
    assert caplog.records == []
