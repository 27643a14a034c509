"""The plugin: one store, for URLs of the scheme ``sqlite``."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import FACETS, StoreSpec

GS_CONTRACT = 1


@hookimpl
def gs_stores() -> Iterable[StoreSpec]:
    """SQLite, the embedded default."""
    yield StoreSpec(
        id="store-sqlite",
        url_schemes=("sqlite",),
        factory=Ref("go_services_store_sqlite.store:open_store"),
        facets=FACETS,
        settings=Ref("go_services_store_sqlite.settings:SqliteSettings"),
    )
