"""Spans by OpenTelemetry's tracer, with the attributes of its semantic conventions (HTTP and messaging)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import define
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from go_services_core.metrics import AD_HOC, event_type
from go_services_core.model import Observation
from go_services_core.tracing import Trace

from . import __version__

LIMIT: Final = 10_000
"""Spans that are open at most; beyond it the oldest is ended."""
_KINDS: Final = {
    "operation": SpanKind.CLIENT,
    "attempt": SpanKind.CLIENT,
    "webhook.handle": SpanKind.CONSUMER,
    "outbox": SpanKind.CONSUMER,
    "job": SpanKind.CONSUMER,
}
_QUEUES: Final = {"webhook.handle": "inbox", "outbox": "outbox", "job": "jobs"}
_OF_HTTP: Final = {
    "method": "http.request.method",
    "template": "url.template",
    "scheme": "url.scheme",
    "server": "server.address",
    "port": "server.port",
    "upstream_status": "http.response.status_code",
}
"""Details of calls and attempts, by their names in the conventions; the others are ``go_services.<name>``."""
_OF_MESSAGES: Final = {"item": "messaging.message.id", "handler": "messaging.consumer.group.name"}
_LEFT_OUT: Final = frozenset({"declared"})


@define
class _Open:
    span: Span
    name: str
    last_attempt: Span | None = None


class Spans:
    """The spans that began and have not ended, by their numbers."""

    def __init__(self, provider: TracerProvider, *, propagate: bool) -> None:
        self._tracer = provider.get_tracer("go_services", __version__)
        self._propagator = TraceContextTextMapPropagator() if propagate else None
        self._open: dict[int, _Open] = {}

    def tell(self, event: Observation) -> None:
        """Begin or end a span, or note a retry in it."""
        if event.span is None:
            return
        if event.phase == "start":
            self._start(event, event.span)
        elif event.phase == "end":
            self._end(event, event.span)
        elif (known := self._open.get(event.span)) is not None:
            known.span.add_event("retry", _attributes(event))

    def trace(self, span: int) -> Trace | None:
        """Ids of the trace that the span of that number is in; with headers where it is an attempt."""
        known = self._open.get(span)
        if known is None:
            return None
        context = known.span.get_span_context()
        if not context.is_valid:
            return None
        headers: dict[str, str] = {}
        if self._propagator is not None and known.name == "attempt":
            self._propagator.inject(headers, set_span_in_context(known.span, Context()))
        return Trace(trace_id=format_trace_id(context.trace_id), headers=tuple(headers.items()))

    def _start(self, event: Observation, number: int) -> None:
        outer = self._open.get(event.parent) if event.parent is not None else None
        links = []
        if event.name == "attempt" and outer is not None and outer.last_attempt is not None:
            links.append(Link(outer.last_attempt.get_span_context()))
        span = self._tracer.start_span(
            _name(event),
            context=set_span_in_context(outer.span) if outer is not None else None,
            kind=_KINDS.get(event.name, SpanKind.INTERNAL),
            attributes=_attributes(event),
            links=links,
        )
        if event.name == "attempt" and outer is not None:
            outer.last_attempt = span
        if len(self._open) >= LIMIT:
            self._open.pop(next(iter(self._open))).span.end()
        self._open[number] = _Open(span, event.name)

    def _end(self, event: Observation, number: int) -> None:
        known = self._open.pop(number, None)
        if known is None:
            return
        span, status = known.span, event.detail.get("upstream_status")
        span.set_attributes(_attributes(event))
        if not event.ok:
            span.set_status(Status(StatusCode.ERROR, event.error))
        elif event.name == "attempt" and isinstance(status, int) and status >= 400:
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def _name(event: Observation) -> str:
    detail = event.detail
    if event.name == "attempt":
        return f"{detail['method']} {detail['template']}" if detail.get("template") else str(detail["method"])
    if event.name == "operation":
        return str(detail["operation"]) if detail.get("declared") else f"{detail.get('method', '')} {AD_HOC}".lstrip()
    if event.name in _QUEUES:
        return f"process {_QUEUES[event.name]}"
    return event_type(event.name)


def _attributes(event: Observation) -> dict[str, str | bool | int | float]:
    found: dict[str, Any] = {
        "go_services.provider_id": event.provider_id,
        "go_services.connection_id": event.connection_id,
        "go_services.scope": str(event.scope) if event.scope is not None else None,
        "error.type": event.error_code,
    }
    names: Mapping[str, str] = _OF_HTTP
    if event.name in _QUEUES:
        names = _OF_MESSAGES
        found |= {
            "messaging.system": "go_services",
            "messaging.operation.type": "process",
            "messaging.destination.name": _QUEUES[event.name],
        }
    elif event.name == "attempt" and event.detail["attempt"] > 1:
        found["http.request.resend_count"] = event.detail["attempt"] - 1
    for name, value in event.detail.items():
        if name not in _LEFT_OUT:
            found[names.get(name, f"go_services.{name}")] = value
    return {name: value for name, value in found.items() if isinstance(value, (str, bool, int, float))}
