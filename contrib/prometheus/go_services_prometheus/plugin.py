"""The plugin ``prometheus``: an observer that counts and measures."""

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
            id="prometheus",
            factory=Ref("go_services_prometheus.observer:open_observer"),
            settings=Ref("go_services_prometheus.settings:PrometheusSettings"),
            inline=True,
            exposition=Ref("go_services_prometheus.exposition:exposition"),
        ),
    )
