"""Spans and metrics as the SDK's exporters in memory get them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from go_services_core import Scope
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import ProviderUnavailable
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_core.http import HttpResponse
from go_services_core.model import Observation
from go_services_core.testing.pytest_kit import PluginKit
from go_services_opentelemetry import plugin, spans
from go_services_opentelemetry.observer import OpenTelemetryObserver, open_observer
from go_services_opentelemetry.settings import OpenTelemetrySettings

ONCE = RetryPolicy(attempts=1)
TOKEN = "t0ken-of-the-connection-0123"


class TestConformance(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[str]:
        yield "opentelemetry"


class Exported:
    """The SDK with exporters in memory, apart from the process's own providers."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def observer(self, **options: Any) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(tracers=self.tracers, meters=self.meters, **options)

    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def exported() -> Any:
    made = Exported()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


@pytest.fixture
async def connected(opening: Any) -> Any:
    """A runtime and the id of a connection."""
    async with opening({}) as runtime:
        connection = await runtime.establish("acme", scope=Scope("user", "u-1"), fields={"token": TOKEN})
        yield runtime, connection.id


async def test_call_is_a_client_span_under_the_caller_s_with_one_for_its_attempt(
    connected: Any, transport: Any, exported: Exported
) -> None:
    runtime, id = connected
    runtime.observe(exported.observer(), name="otel", inline=True)
    transport.expect("GET", "/things", HttpResponse(200, (), b"[]"))
    with exported.tracers.get_tracer("app").start_as_current_span("request") as request:
        await runtime.execute(id, "things.list")
    made = exported.spans()
    call, attempt = made["things.list"], made["GET /things"]
    assert call.parent.span_id == request.get_span_context().span_id
    assert attempt.parent.span_id == call.context.span_id
    assert call.context.trace_id == attempt.context.trace_id == request.get_span_context().trace_id
    assert call.kind == attempt.kind == SpanKind.CLIENT
    assert dict(attempt.attributes) | {
        "http.request.method": "GET",
        "url.template": "/things",
        "url.scheme": "https",
        "server.address": "api.acme.example",
        "http.response.status_code": 200,
        "go_services.provider_id": "acme",
        "go_services.connection_id": id,
        "go_services.scope": "user:u-1",
    } == dict(attempt.attributes)
    assert call.attributes["go_services.operation"] == "things.list"
    assert call.attributes["go_services.attempts"] == 1
    assert call.status.status_code == StatusCode.UNSET
    assert "error.type" not in call.attributes


async def test_failed_call_and_its_attempt_have_the_status_of_an_error(
    connected: Any, transport: Any, exported: Exported
) -> None:
    runtime, id = connected
    runtime.observe(exported.observer(), name="otel", inline=True)
    transport.expect("GET", "/things", HttpResponse(503, (), b""))
    with pytest.raises(ProviderUnavailable) as caught:
        await runtime.execute(id, "things.list", retry=ONCE)
    made = exported.spans()
    call, attempt = made["things.list"], made["GET /things"]
    assert call.status.status_code == attempt.status.status_code == StatusCode.ERROR
    assert call.status.description == caught.value.message
    assert call.attributes["error.type"] == ProviderUnavailable.code
    assert call.attributes["http.response.status_code"] == 503
    assert attempt.attributes["error.type"] == "503"


def test_attempts_after_the_first_link_to_the_one_before_and_the_retry_is_an_event(exported: Exported) -> None:
    observer = exported.observer()
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def told(name: str, phase: Any, span: int, parent: int | None, **detail: Any) -> None:
        observer(Observation(name=name, at=at, phase=phase, span=span, parent=parent, detail=detail))

    call = {"operation": "things.list", "declared": True}
    told("operation", "start", 1, None, **call)
    for number in (1, 2):
        attempt = {"attempt": number, "method": "GET", "template": "/things"}
        told("attempt", "start", 10 + number, 1, **attempt)
        told("attempt", "end", 10 + number, 1, **attempt)
        if number == 1:
            told("operation", "retry", 1, None, attempt=1, delay=0.5)
    told("operation", "end", 1, None, **call)
    first, second, ended = exported.exporter.get_finished_spans()
    assert first.links == ()
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert second.attributes["http.request.resend_count"] == 1
    assert "http.request.resend_count" not in first.attributes
    (event,) = ended.events
    assert (event.name, event.attributes["go_services.delay"]) == ("retry", 0.5)


@pytest.mark.parametrize("propagate", [True, False])
async def test_request_carries_the_trace_only_where_it_is_asked_for(
    connected: Any, transport: Any, exported: Exported, propagate: bool
) -> None:
    runtime, id = connected
    runtime.observe(exported.observer(propagate=propagate), name="otel", inline=True)
    transport.expect("GET", "/things", HttpResponse(200, (), b"[]"))
    await runtime.execute(id, "things.list")
    attempt = exported.spans()["GET /things"].context
    sent = transport.requests[-1].header("traceparent")
    if propagate:
        assert sent.rpartition("-")[0] == f"00-{format_trace_id(attempt.trace_id)}-{format_span_id(attempt.span_id)}"
    else:
        assert sent is None


async def test_log_records_have_the_id_of_the_trace(
    connected: Any, transport: Any, exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, id = connected
    runtime.observe(exported.observer(), name="otel", inline=True)
    caplog.set_level("INFO", "go_services.operation")
    transport.expect("GET", "/things", HttpResponse(200, (), b"[]"))
    await runtime.execute(id, "things.list")
    told = [record.trace_id for record in caplog.records if record.name == "go_services.operation"]
    assert told == [format_trace_id(exported.spans()["things.list"].context.trace_id)]


async def test_handled_events_are_messages(connected: Any, exported: Exported) -> None:
    runtime, id = connected

    async def note(event: Any, context: Any) -> None:
        return None

    await runtime.on("connection.*", note, name="tests.note")
    runtime.observe(exported.observer(), name="otel", inline=True)
    await runtime.disconnect(id)
    await runtime.drain()
    span = exported.spans()["process outbox"]
    assert span.kind == SpanKind.CONSUMER
    assert span.attributes["messaging.system"] == "go_services"
    assert span.attributes["messaging.destination.name"] == "outbox"
    assert span.attributes["messaging.consumer.group.name"] == "tests.note"
    assert exported.spans()["revoke"].kind == SpanKind.INTERNAL


async def test_metrics_have_the_names_and_tags_of_the_core(connected: Any, transport: Any, exported: Exported) -> None:
    runtime, id = connected
    runtime.observe(exported.observer(), name="otel", inline=True)
    transport.expect("GET", "/things", HttpResponse(200, (), b"[]"))
    await runtime.execute(id, "things.list")
    points = exported.points()
    (total,) = points["services.provider_operation.total"].data.data_points
    (duration,) = points["services.provider_operation.duration_ms"].data.data_points
    assert (total.value, duration.count) == (1, 1)
    tags = {"operation": "things.list", "status": "success", "provider_id": "acme"}
    assert dict(total.attributes) == dict(duration.attributes) == tags
    assert points["services.provider_operation.duration_ms"].unit == "ms"


async def test_spans_hold_no_secret(connected: Any, transport: Any, exported: Exported) -> None:
    """P42, P46: an answer that repeats the token, and what the error says of it."""
    runtime, id = connected
    runtime.observe(exported.observer(), name="otel", inline=True)
    transport.expect("GET", "/things", HttpResponse(500, (), f'{{"error": "bad {TOKEN}"}}'.encode()))
    with pytest.raises(ProviderUnavailable):
        await runtime.execute(id, "things.list", retry=ONCE)
    assert TOKEN not in "".join(span.to_json() for span in exported.exporter.get_finished_spans())


def test_open_spans_are_bounded_and_the_oldest_is_ended(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "LIMIT", 2)
    observer = exported.observer()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(1, 4):
        observer(Observation(name="refresh", at=at, phase="start", span=number))
    assert len(exported.exporter.get_finished_spans()) == 1
    assert observer.trace(1) is None
    assert observer.trace(3) is not None


@pytest.mark.parametrize("what", ["spans", "metrics"])
def test_spans_and_metrics_can_be_turned_off(what: str) -> None:
    made = open_observer(OpenTelemetrySettings(**{what: False}), None)  # type: ignore[arg-type]
    assert (made._spans is None, made._meters is None) == (what == "spans", what == "metrics")
    assert made.trace(1) is None


async def test_plugin_is_inline_and_opens_with_its_settings(opening: Any) -> None:
    async with opening({"opentelemetry": plugin}, {"observers.opentelemetry.propagate": True}) as runtime:
        (tracer,) = runtime._core.observers.tracers
        assert isinstance(tracer.observer, OpenTelemetryObserver)
        assert tracer.observer._spans is not None
        assert tracer.observer._spans._propagator is not None


def test_entry_point_is_the_plugin_which_does_not_import_the_library() -> None:
    (found,) = entry_points(group=GROUP, name="opentelemetry")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    script = (
        "import sys, go_services_opentelemetry.plugin as p; p.gs_observers(); print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
