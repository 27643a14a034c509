"""Work from its start to its end: numbers, parents, retries, and the headers of distributed traces."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
from go_services_core import BlockingRuntime, Scope
from go_services_core.config import Config
from go_services_core.errors import (
    ConnectionNotFound,
    ProviderUnavailable,
    RequestTimeout,
    StoreUnavailable,
    TokenEndpointError,
)
from go_services_core.model import NewJob, Observation
from go_services_core.plugins import PluginManager
from go_services_core.runtime import jobs, observed
from go_services_core.runtime.load import load
from go_services_core.runtime.operations import plan_of, started
from go_services_core.runtime.spans import Span, current_span
from go_services_core.runtime.stand_ins import REWRAP
from go_services_core.testing.transport import ScriptedTransport
from go_services_core.tracing import Trace
from go_services_secrets_appkey.key import generate_key

from .conftest import App


class Tracing:
    """Follows everything, and sends a header with each attempt."""

    def __init__(self) -> None:
        self.told: list[Observation] = []

    def __call__(self, event: Observation) -> None:
        self.told.append(event)

    def trace(self, span: int) -> Trace:
        return Trace(trace_id="the-trace", headers=(("traceparent", f"00-{span}"),))

    def of(self, name: str) -> list[Observation]:
        return [seen for seen in self.told if seen.name == name]


async def test_start_and_end_of_a_call_have_one_number_and_its_attempt_is_a_part_of_it(app: App, runtime: Any) -> None:
    connection = await app.connect(runtime)
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)
    await runtime.execute(connection.id, "items.list", {"per_page": 1})
    assert [(seen.name, seen.phase) for seen in tracing.told] == [
        ("operation", "start"),
        ("attempt", "start"),
        ("attempt", "end"),
        ("operation", "end"),
    ]
    begun, tried, answered, ended = tracing.told
    assert begun.span == ended.span == tried.parent == answered.parent
    assert tried.span == answered.span != begun.span
    assert begun.parent is None
    assert (begun.trace_id, ended.trace_id) == (None, "the-trace")
    assert begun.duration_ms is None
    assert begun.detail["operation"] == "items.list"
    assert ended.detail["attempts"] == 1
    assert answered.detail["upstream_status"] == 200
    assert (answered.detail["method"], answered.detail["template"]) == ("GET", "/items")
    assert answered.detail["server"] == "127.0.0.1"
    assert current_span() is None


async def test_observers_that_do_not_trace_hear_of_starts_and_ends_but_not_of_attempts(app: App, runtime: Any) -> None:
    connection = await app.connect(runtime)
    told: list[tuple[str, str]] = []
    runtime.observe(lambda seen: told.append((seen.name, seen.phase)), name="test")
    await runtime.execute(connection.id, "me")
    await runtime._core.observers.aclose()
    assert told == [("operation", "start"), ("operation", "end")]


async def test_renewal_within_a_call_is_a_part_of_it(app: App, runtime: Any) -> None:
    connection = await app.connect(runtime)
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)
    app.sandbox.expire_access_tokens()
    await runtime.execute(connection.id, "items.list")
    (begun, _), (refreshed, _) = tracing.of("operation"), tracing.of("refresh")
    assert refreshed.parent == begun.span


async def test_headers_of_traces_are_sent_with_the_request_and_signed_with_it(
    app: App, runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed: list[str | None] = []
    sent: list[str | None] = []
    core = runtime._core
    connection = await app.connect(runtime)
    signer, transport = core.signer("bearer"), core.transport
    sign, send = signer.sign, transport.send

    def signing(request: Any, key: Any, ctx: Any) -> Any:
        signed.append(request.header("traceparent"))
        return sign(request, key, ctx)

    async def sending(request: Any, *, provider_id: str) -> Any:
        sent.append(request.header("traceparent"))
        return await send(request, provider_id=provider_id)

    monkeypatch.setattr(type(signer), "sign", lambda self, *given: signing(*given))
    monkeypatch.setattr(transport, "send", sending)
    await runtime.execute(connection.id, "me")
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)
    await runtime.execute(connection.id, "me")
    attempt = tracing.of("attempt")[0]
    assert signed == sent == [None, f"00-{attempt.span}"]


async def test_failure_ends_the_span_with_the_error_s_facts_and_the_provider_s(app: App, runtime: Any) -> None:
    connection = await app.connect(runtime)
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)
    app.sandbox.faults.set("items.list", "500", times=None)
    with pytest.raises(ProviderUnavailable) as caught:
        await runtime.execute(connection.id, "items.list")
    ended = tracing.of("operation")[-1]
    assert (ended.phase, ended.ok) == ("end", False)
    assert (ended.error, ended.error_code) == (caught.value.message, ProviderUnavailable.code)
    assert (ended.error_category, ended.error_status) == ("external", 500)
    assert ended.detail["upstream_status"] == 500
    assert current_span() is None


async def test_cancelled_call_ends_its_span(app: App, runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await app.connect(runtime)
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)

    begun = asyncio.Event()

    async def send(request: Any, *, provider_id: str) -> Any:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(runtime._core.transport, "send", send)
    task = asyncio.create_task(runtime.execute(connection.id, "items.list"))
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ended = tracing.told[-1]
    assert (ended.name, ended.phase, ended.ok, ended.error_code) == ("operation", "end", False, "CancelledError")


async def test_retry_is_told_with_the_number_of_its_call(app: App, runtime: Any) -> None:
    connection = await app.connect(runtime)
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)
    core = runtime._core
    loaded = await load(core, connection.id)
    call = started(core, loaded, plan_of(core, loaded, "items.list").operation, idempotency_key="k-1")
    with Span(core, "operation") as span:
        observed.retrying(core, evolve(call, attempts=1), RequestTimeout("late"), 0.5)
    (retry,) = [seen for seen in tracing.told if seen.phase == "retry"]
    assert retry.span == span.number
    assert (retry.detail["operation"], retry.detail["attempt"], retry.detail["delay"]) == ("items.list", 1, 0.5)
    assert (retry.ok, retry.error_code) == (False, RequestTimeout.code)


async def test_start_retry_and_end_are_told_of_renewals_deliveries_handlers_and_jobs(
    app: App, runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is put back says when it comes again, within the work that failed."""

    async def broken(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("The store is away.")

    core = runtime._core
    await runtime.on("connection.established", broken, name="tests.broken")
    tracing = Tracing()
    runtime.observe(tracing, name="test", inline=True)
    connection = await app.connect(runtime)
    app.sandbox.faults.set("token", "500")
    with pytest.raises(TokenEndpointError):
        await runtime.refresh(connection.id)
    monkeypatch.setattr(jobs, "JOBS", {REWRAP: broken})
    await core.store.queues.enqueue(NewJob(id="job-1", kind=REWRAP, created_at=core.clock.now()))
    await runtime.run_due("outbox")
    await runtime.run_due(REWRAP)
    codes = {
        "refresh": TokenEndpointError.code,
        "outbox": StoreUnavailable.code,
        "job": StoreUnavailable.code,
    }
    for name, code in codes.items():
        begun, retry, ended = tracing.of(name)
        assert [seen.phase for seen in (begun, retry, ended)] == ["start", "retry", "end"]
        assert begun.span == retry.span == ended.span
        assert (retry.ok, retry.error_code, ended.error_code) == (False, code, code)
        assert retry.duration_ms is None
        assert retry.detail["delay"] > 0
        assert {key: value for key, value in retry.detail.items() if key != "delay"} == dict(ended.detail)
        if name != "job":
            assert (retry.provider_id, retry.connection_id, retry.scope) == (
                "sandbox",
                connection.id,
                Scope("user", "u1"),
            )


async def test_call_tells_how_it_was_made(app: App, runtime: Any) -> None:
    app.set(api=evolve(app.providers.specs["sandbox"].api, idempotency_header="Idempotency-Key"))
    async with app.open() as opened:
        connection = await app.connect(opened)
        tracing = Tracing()
        opened.observe(tracing, name="test", inline=True)
        await opened.execute(connection.id, "items.create", {"name": "x"}, idempotency_key="key-of-the-order")
    detail = tracing.of("operation")[-1].detail
    expected = {
        "operation": "items.create",
        "declared": True,
        "method": "POST",
        "transport_kind": "rest",
        "decision": "allowed",
        "attempts": 1,
        "idempotency": "key-of-the-order",
        "upstream_status": 201,
    }
    assert expected.items() <= detail.items()
    assert detail["capability"] is not None


def test_inline_observer_of_a_blocking_runtime_runs_in_the_context_of_the_caller(tmp_path: Path) -> None:
    where: ContextVar[str] = ContextVar("where", default="nowhere")
    seen: list[str] = []
    arguments = {"secrets.appkey.key": generate_key(), "store.url": f"sqlite:///{tmp_path / 'app.db'}"}
    config = Config.load(None, environ={}, arguments=arguments)
    plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite})
    with BlockingRuntime.open(config, plugins=plugins, transport=ScriptedTransport(), migrate=True) as runtime:
        runtime.observe(lambda _: seen.append(where.get()), name="test", inline=True)
        where.set("in a request")
        with pytest.raises(ConnectionNotFound):
            runtime.disconnect("019a0000-0000-7000-8000-000000000000", reason="none")
    assert seen == ["in a request"] * 2
