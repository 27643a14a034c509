"""The HTTP transport as a plugin."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import TransportSpec

GS_CONTRACT = 1


@hookimpl
def gs_transports() -> Iterable[TransportSpec]:
    package = "go_services_transport_http"
    records = "go_services_core.transport_specs"
    return [
        TransportSpec(
            kind="rest",
            factory=Ref(f"{package}.transport:open_transport"),
            settings=Ref(f"{package}.settings:TransportSettings"),
        ),
        TransportSpec(kind="graphql", factory=Ref(f"{package}.graphql:open_graphql"), record=Ref(f"{records}:GraphQL")),
        TransportSpec(
            kind="soap",
            factory=Ref(f"{package}.soap:open_soap"),
            settings=Ref(f"{package}.settings:SoapSettings"),
            record=Ref(f"{records}:Soap"),
        ),
        TransportSpec(
            kind="bulk",
            factory=Ref(f"{package}.bulk:open_bulk"),
            settings=Ref(f"{package}.settings:BulkSettings"),
            record=Ref(f"{records}:Bulk"),
        ),
        TransportSpec(
            kind="stream",
            factory=Ref(f"{package}.stream:open_stream"),
            settings=Ref(f"{package}.settings:StreamSettings"),
            record=Ref(f"{records}:Stream"),
        ),
        TransportSpec(
            kind="file",
            factory=Ref(f"{package}.file:open_file"),
            settings=Ref(f"{package}.settings:FileSettings"),
            record=Ref(f"{records}:File"),
        ),
        TransportSpec(
            kind="noop", factory=Ref(f"{package}.noop:open_noop"), record=Ref("go_services_core.call_specs:Noop")
        ),
    ]
