"""The conformance checks, one file per kind of object. Importing this package registers all of them."""

from . import (  # noqa: F401
    plugin,
    provider,
    provider_oauth,
    secrets,
    signer,
    store,
    store_budgets,
    store_disconnect,
    store_grants,
    store_jobs,
    store_leases,
    store_order,
    store_queues,
    store_refresh,
    store_resources,
    store_retention,
    store_sealed,
    transport,
    transport_answers,
    transport_stream,
)
