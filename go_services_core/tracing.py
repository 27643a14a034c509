"""How an observer takes part in distributed traces."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from .http import Headers
from .model import Observation


@frozen(kw_only=True)
class Trace:
    """What a distributed trace knows of one piece of work."""

    trace_id: str
    headers: Headers = ()
    """Sent with the request where the work is an ``attempt``, and signed with it."""


class Tracer(Protocol):
    """An inline observer that takes part in distributed traces: it has the method ``trace`` besides."""

    def __call__(self, event: Observation, /) -> None: ...

    def trace(self, span: int, /) -> Trace | None:
        """What is to be known of the work that it was just told the start of; None where it does not follow it."""
        ...
