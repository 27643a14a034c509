"""The plugin: one store, for URLs of the schemes ``postgresql`` and ``postgres``."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import FACETS, StoreSpec

GS_CONTRACT = 1


@hookimpl
def gs_stores() -> Iterable[StoreSpec]:
    """PostgreSQL, for several processes and machines."""
    yield StoreSpec(
        id="store-postgres",
        url_schemes=("postgresql", "postgres"),
        factory=Ref("go_services_store_postgres.store:open_store"),
        facets=FACETS,
        settings=Ref("go_services_store_postgres.settings:PostgresSettings"),
    )
