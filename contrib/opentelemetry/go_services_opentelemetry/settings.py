"""What ``[observers.opentelemetry]`` may hold."""

from __future__ import annotations

from go_services_core.config import setting, settings


@settings
class OpenTelemetrySettings:
    """What is made, and what providers are told."""

    spans: bool = setting(default=True, help="Make spans.")
    metrics: bool = setting(default=True, help="Make metrics.")
    propagate: bool = setting(
        default=False, help="Send traceparent and tracestate with requests to providers, who then know the trace's ids."
    )
