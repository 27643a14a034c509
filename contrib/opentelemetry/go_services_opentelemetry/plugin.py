"""The plugin ``opentelemetry``: an observer that makes spans and metrics."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import ObserverSpec

GS_CONTRACT = 1


@hookimpl
def gs_observers() -> Iterable[ObserverSpec]:
    return (
        ObserverSpec(
            id="opentelemetry",
            factory=Ref("go_services_opentelemetry.observer:open_observer"),
            settings=Ref("go_services_opentelemetry.settings:OpenTelemetrySettings"),
            inline=True,
        ),
    )
