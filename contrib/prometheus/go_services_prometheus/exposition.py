"""What Prometheus scrapes: the registries that this process counts in, or what all processes wrote to their folder."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from .observer import registries


def exposition(accept: str) -> tuple[str, bytes]:
    """Content type and text, as ``accept`` asks for.

    With ``PROMETHEUS_MULTIPROC_DIR`` it has the metrics of every process of that folder
    (https://prometheus.github.io/client_python/multiprocess/).
    """
    encoder, content_type = choose_encoder(accept)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return content_type, encoder(together)
    return content_type, b"".join(encoder(registry) for registry in registries())
