"""The HTTP transport as a plugin."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import TransportSpec

GS_CONTRACT = 1


@hookimpl
def gs_transports() -> Iterable[TransportSpec]:
    return [
        TransportSpec(
            kind="rest",
            factory=Ref("go_services_transport_http.transport:open_transport"),
            settings=Ref("go_services_transport_http.settings:TransportSettings"),
        )
    ]
