"""The conformance checks, one file per kind of object. Importing this package registers all of them."""

from . import plugin, provider, provider_oauth, secrets, signer, store, store_queues, store_refresh, transport  # noqa: F401
