"""The observer: each update of a metric goes to the collector of its name."""

from __future__ import annotations

import re
import threading
from typing import Final, TypeAlias, cast
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from go_services_core.errors import ConfigError, PluginError
from go_services_core.metrics import TAGS, Update, updates
from go_services_core.model import Observation
from go_services_core.protocols import PluginEnv
from go_services_core.refs import Ref

from .settings import PrometheusSettings

Collectors: TypeAlias = dict[str, Counter | Gauge | Histogram]
_NOT_IN_NAMES: Final = re.compile("[^a-zA-Z0-9_]")
_lock = threading.Lock()
_known: WeakKeyDictionary[CollectorRegistry, Collectors] = WeakKeyDictionary()
"""Those of every runtime of this process: a registry takes each name once."""


def registries() -> list[CollectorRegistry]:
    """Those that runtimes of this process count in."""
    with _lock:
        return list(_known)


class PrometheusObserver:
    """Counts and measures in ``registry``: ``services_<event type>_total`` and ``…_duration_ms``,
    and what waits in gauges: ``services_worker_backlog_…``."""

    def __init__(self, registry: CollectorRegistry, buckets: tuple[float, ...]) -> None:
        self._registry = registry
        self._buckets = buckets
        with _lock:
            self._collectors = _known.setdefault(registry, {})

    def __call__(self, event: Observation) -> None:
        for update in updates(event):
            collector = self._collectors.get(update.name) or self._made(update)
            child = collector.labels(*update.tags.values())
            if update.kind == "counter":
                cast("Counter", child).inc(update.value)
            elif update.kind == "gauge":
                cast("Gauge", child).set(update.value)
            else:
                cast("Histogram", child).observe(update.value)

    def _made(self, update: Update) -> Counter | Gauge | Histogram:
        name = _NOT_IN_NAMES.sub("_", update.name)
        with _lock:
            found = self._collectors.get(update.name)
            if found is None:
                if update.kind == "counter":
                    found = Counter(name, f"Count of {update.name}.", TAGS, registry=self._registry)
                elif update.kind == "gauge":
                    found = Gauge(name, f"Present value of {update.name}.", TAGS, registry=self._registry)
                else:
                    found = Histogram(
                        name,
                        f"Milliseconds of {update.name}.",
                        TAGS,
                        registry=self._registry,
                        buckets=self._buckets,
                    )
                self._collectors[update.name] = found
            return found


def open_observer(settings: PrometheusSettings, env: PluginEnv) -> PrometheusObserver:
    """The observer that ``[observers.prometheus]`` describes.

    Raises:
        ConfigError: ``registry`` cannot be imported, or is no ``CollectorRegistry``.
    """
    if settings.registry is None:
        return PrometheusObserver(REGISTRY, settings.buckets)
    try:
        registry = Ref[object](settings.registry).resolve()
    except (PluginError, ValueError) as error:
        raise ConfigError(
            f"observers.prometheus.registry cannot be imported: {error}", field="observers.prometheus.registry"
        ) from error
    if not isinstance(registry, CollectorRegistry):
        raise ConfigError(
            f"observers.prometheus.registry is of type {type(registry).__name__}, not a CollectorRegistry.",
            field="observers.prometheus.registry",
        )
    return PrometheusObserver(registry, settings.buckets)
