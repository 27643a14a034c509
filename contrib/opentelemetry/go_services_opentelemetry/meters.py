"""Metrics by OpenTelemetry's meter."""

from __future__ import annotations

from opentelemetry.metrics import Counter, Histogram, MeterProvider, _Gauge

from go_services_core.metrics import updates
from go_services_core.model import Observation

from . import __version__


class Meters:
    """Counters, histograms and gauges of ``go_services_core.metrics``, made when they are first needed."""

    def __init__(self, provider: MeterProvider) -> None:
        self._meter = provider.get_meter("go_services", __version__)
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._gauges: dict[str, _Gauge] = {}

    def tell(self, event: Observation) -> None:
        """Count and measure ``event``."""
        for update in updates(event):
            tags = {name: value for name, value in update.tags.items() if value}
            if update.kind == "counter":
                counter = self._counters.get(update.name)
                if counter is None:
                    counter = self._counters[update.name] = self._meter.create_counter(update.name)
                counter.add(update.value, tags)
            elif update.kind == "gauge":
                gauge = self._gauges.get(update.name)
                if gauge is None:
                    gauge = self._gauges[update.name] = self._meter.create_gauge(update.name)
                gauge.set(update.value, tags)
            else:
                histogram = self._histograms.get(update.name)
                if histogram is None:
                    histogram = self._histograms[update.name] = self._meter.create_histogram(update.name, unit="ms")
                histogram.record(update.value, tags)
