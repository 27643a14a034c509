"""The observer: one object for what spans and metrics are made of."""

from __future__ import annotations

from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer_provider

from go_services_core.model import Observation
from go_services_core.protocols import PluginEnv
from go_services_core.tracing import Trace

from .meters import Meters
from .settings import OpenTelemetrySettings
from .spans import Spans


class OpenTelemetryObserver:
    """Makes spans and metrics of observations; it has to be inline, so that the caller's span is the parent."""

    def __init__(
        self,
        *,
        tracers: TracerProvider | None,
        meters: MeterProvider | None,
        propagate: bool = False,
    ) -> None:
        """Without ``tracers`` there are no spans, without ``meters`` no metrics."""
        self._spans = Spans(tracers, propagate=propagate) if tracers is not None else None
        self._meters = Meters(meters) if meters is not None else None

    def __call__(self, event: Observation) -> None:
        if self._spans is not None:
            self._spans.tell(event)
        if self._meters is not None:
            self._meters.tell(event)

    def trace(self, span: int) -> Trace | None:
        """Ids of the trace that the work of that number is in, and the headers that its request gets."""
        return self._spans.trace(span) if self._spans is not None else None


def open_observer(settings: OpenTelemetrySettings, env: PluginEnv) -> OpenTelemetryObserver:
    """The observer that ``[observers.opentelemetry]`` describes, over the process's own providers."""
    return OpenTelemetryObserver(
        tracers=get_tracer_provider() if settings.spans else None,
        meters=get_meter_provider() if settings.metrics else None,
        propagate=settings.propagate,
    )
